//! CoVE's hierarchy: a manufacturer's root that endorses roots of trust (RoT), and below each the layers of DICE
//! (riscv-non-isa/riscv-ap-tee, `attestation.adoc`, "Layered Evidence").
//!
//! ```text
//! Root CA (P-256, SHA-256)            signs itself, RoT certificates and a revocation list
//!    |
//! RoT          key from the UDS       signs the platform token
//!    |
//! platform     key from CDI 0         signs the TSM token
//!    |
//! TSM          key from CDI 1         signs TVM tokens and the certificates of TVMs
//!    |
//! TVM          CDI 2                  the leaf: its certificate is the evidence
//! ```
//!
//! `CDI_N = KDF(CDI_{N-1} || H(Meas(TCB_N)))`. The specification fixes neither KDF nor algorithms; the choices are in
//! [`tsmsim_abi::cove::claims::CHOICES`]. Each layer has two keys from its CDI, one for each format of evidence: Ed25519 for
//! CBOR, P-256 for X.509; so there are two chains of certificates below the root ([`KeyAlgorithm`]).
//!
//! # What tells these certificates from real ones
//!
//! Nobody issues real ones yet. The root's serial number begins with the ASCII bytes `tsmsim`
//! ([`SYNTHETIC_SERIAL_PREFIX`]), and its name says what it is; those of the layers are the CDI identifiers. All are valid
//! from 2023-01-01; the root to 2047-12-31, the layers without end.
//!
//! # Malformed chains
//!
//! [`HierarchyBuilder`] changes any field of any certificate or list before it is signed.
//!
//! ```
//! # use tsmsim_keys::{KeysError, Seed, cove::{CertificateKind, DeviceIdentity, Hierarchy, KeyAlgorithm}};
//! # fn main() -> Result<(), KeysError> {
//! let hierarchy = Hierarchy::builder(&Seed::DEFAULT)
//!     .edit(CertificateKind::Tsm, |tsm| tsm.extensions.clear())
//!     .build();
//! let device = hierarchy.device(&DeviceIdentity { number: 0, platform: vec![1; 48], tsm: vec![2; 48] });
//! let chain = hierarchy.chain(&device, KeyAlgorithm::Ed25519)?;
//! assert!(chain.tsm().parse()?.tbs_certificate().extensions().is_none());
//! # Ok(())
//! # }
//! ```

mod builder;
mod dice;
mod draft;
mod hierarchy;
mod key;

use crate::amd::certificate_line;
pub use crate::profile::SYNTHETIC_SERIAL_PREFIX;
use crate::{KeysError, Seed};
pub use builder::HierarchyBuilder;
pub use dice::{Cdi, Device, DeviceIdentity};
pub use draft::TvmCertificate;
pub use hierarchy::{Chain, Hierarchy};
pub use key::{AttestationKey, CdiId, KeyAlgorithm};

/// The fingerprints of the default seed's root, one line: a name, SHA-256 of the certificate, SHA-256 of its
/// `SubjectPublicKeyInfo`. Whoever meets it has met worthless evidence. The certificate itself is not committed: a P-256 key
/// takes no time to derive.
pub const DEFAULT_FINGERPRINTS: &str = include_str!("../../default/cove/FINGERPRINTS");

/// What is to stand in [`DEFAULT_FINGERPRINTS`].
pub(crate) fn fingerprints() -> Result<String, KeysError> {
    let path = format!("cove/{}", CertificateKind::Root.name());
    certificate_line(&path, Hierarchy::new(&Seed::DEFAULT).root()?)
}

/// The certificates of a hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CertificateKind {
    /// The manufacturer's root CA.
    Root,
    /// A root of trust.
    Rot,
    /// A platform: the TSM-driver's layer.
    Platform,
    /// A TSM.
    Tsm,
    /// A TVM: evidence in the X.509 format.
    Tvm,
}

impl CertificateKind {
    /// A short name: `root`, `rot`, `platform`, `tsm`, `tvm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Rot => "rot",
            Self::Platform => "platform",
            Self::Tsm => "tsm",
            Self::Tvm => "tvm",
        }
    }
}

/// What is wrong with a chain, if anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scenario {
    /// Nothing.
    #[default]
    Sound,
    /// The root's list revokes the RoT certificate of either algorithm.
    RevokedRot,
}

impl Scenario {
    /// The root's revocation list for a device.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails.
    pub fn crl(self, hierarchy: &Hierarchy, device: &Device) -> Result<crate::Crl, KeysError> {
        match self {
            Self::Sound => hierarchy.crl(1, &[]),
            Self::RevokedRot => {
                let ids = [KeyAlgorithm::Ed25519, KeyAlgorithm::P256]
                    .map(|algorithm| device.rot().key(algorithm).map(|key| *key.id()));
                let [ed25519, p256] = ids;
                hierarchy.crl(2, &[&ed25519?.0, &p256?.0])
            }
        }
    }
}
