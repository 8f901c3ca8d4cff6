//! Intel's hierarchy for SGX and TDX, P-256 with SHA-256 throughout: root CA, PCK CAs, PCK certificates, TCB signing,
//! attestation keys, revocation lists, TCB info and QE identity.
//!
//! ```text
//!                       Root CA                    signs itself and a revocation list
//!              /           |          \
//!     Platform CA    Processor CA    TCB Signing   the CAs sign a revocation list each,
//!          |               |              |        TCB Signing signs JSON
//!         PCK             PCK    TCB info, QE identity
//!          |
//!  quoting enclave's report, which names the attestation key, which signs quotes
//! ```
//!
//! Names, order and encoding of fields and extensions are those of Intel's own certificates (Intel, *SGX PCK Certificate and
//! Certificate Revocation List Profile Specification*; where it is silent, certificates that Intel issued). JSON documents
//! have the members of Intel's PCS API version 4 in Intel's order, without blanks, and are signed over exactly these bytes.
//! All signatures in certificates, lists and JSON are those of RFC 6979: the same seed gives the same bytes.
//!
//! # What tells these certificates from Intel's
//!
//! Besides the keys, of course: every serial number begins with the ASCII bytes `tsmsim` ([`SYNTHETIC_SERIAL_PREFIX`]);
//! everything is valid from 2023-01-01 to 2047-12-31; and made-up platforms have the FMSPC `tsmsim` ([`SYNTHETIC_FMSPC`]).
//! Nothing else is ours, because strict verifiers count extensions and compare names.
//!
//! # What could be compared with Intel's own, and what not
//!
//! Compared byte for byte by tests: root, platform CA, TCB signing and a PCK certificate, the lists of root and platform CA,
//! TDX TCB info and QE identity. By Intel's documents and by analogy only: the processor CA, what it issues, and the documents
//! for SGX.
//!
//! # How a platform gets its status
//!
//! [`TcbInfoSpec`] takes the version numbers of a platform and the status wanted, and TCB levels are made so that the platform
//! as it is falls into a level with that status: what is out of date or revoked is so because there is a newer level above it.
//!
//! # Malformed chains and documents
//!
//! [`HierarchyBuilder`] changes any field of any certificate, list or document before it is signed; what is below follows: a
//! certificate is issued in the name and under the key of the certificate above it, as that was changed.
//!
//! ```
//! # use tsmsim_keys::{KeysError, Seed, intel::{CertificateKind, Hierarchy, PlatformIdentity, TcbInfoSpec, oid}};
//! # fn main() -> Result<(), KeysError> {
//! let hierarchy = Hierarchy::builder(&Seed::DEFAULT)
//!     .edit(CertificateKind::Pck, |pck| pck.remove_extension(oid::SGX_EXTENSION))
//!     .edit_tcb_info(|draft| draft.body.tcb_levels.clear())
//!     .build();
//! let platform = PlatformIdentity::synthetic(&Seed::DEFAULT, 0);
//! let tcb_info = hierarchy.tcb_info(&TcbInfoSpec::tdx(&platform, [0; 16]))?;
//! assert!(tcb_info.json().contains(r#""tcbLevels":[]"#));
//! # Ok(())
//! # }
//! ```

mod builder;
mod collateral;
mod draft;
mod hierarchy;
mod json;
pub mod oid;
mod pck;
mod platform;
mod qe_identity;
mod scenario;
mod status;
mod tcb_info;

use crate::amd::certificate_line;
pub use crate::profile::SYNTHETIC_SERIAL_PREFIX;
use crate::{KeysError, Seed};
pub use builder::HierarchyBuilder;
pub use collateral::QuoteCollateral;
pub use draft::intel_name;
pub use hierarchy::Hierarchy;
pub use json::{JsonDraft, SignedJson};
pub use pck::PckKey;
pub use platform::{Configuration, MultiPackage, PckTcb, PlatformIdentity, SYNTHETIC_FMSPC, SgxType};
pub use qe_identity::{QE_MRSIGNER, QeIdentity, QeIdentitySpec, TD_QE_MRSIGNER};
pub use scenario::Scenario;
pub use status::{TcbLevel, TcbStatus, Update};
pub use tcb_info::{IsvSvn, Tcb, TcbComponent, TcbInfo, TcbInfoSpec, TdxModule, TdxModuleIdentity};

/// `issueDate` of JSON documents unless changed: from when everything is valid.
pub const ISSUE_DATE: &str = "2023-01-01T00:00:00Z";
/// `nextUpdate` of JSON documents unless changed: until when everything is valid.
pub const NEXT_UPDATE: &str = "2047-12-31T23:59:59Z";

/// Fingerprints of the default seed's authorities, one line each: a name, SHA-256 of the certificate, SHA-256 of its
/// `SubjectPublicKeyInfo`. Whoever meets one of these has met worthless evidence. The certificates themselves are not
/// committed: P-256 keys take no time to derive.
pub const DEFAULT_FINGERPRINTS: &str = include_str!("../../default/intel/FINGERPRINTS");

/// What is to stand in [`DEFAULT_FINGERPRINTS`].
pub(crate) fn fingerprints() -> Result<String, KeysError> {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    CertificateKind::AUTHORITIES.into_iter().try_fold(String::new(), |lines, kind| {
        Ok(lines + &certificate_line(&format!("intel/{}", kind.name()), hierarchy.authority(kind)?)?)
    })
}

/// The certificates of a hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CertificateKind {
    /// The root CA.
    Root,
    /// The PCK platform CA, for registered platforms of one or more packages.
    PlatformCa,
    /// The PCK processor CA, for single packages.
    ProcessorCa,
    /// The signer of TCB info and enclave identities.
    TcbSigning,
    /// A platform's provisioning certification key.
    Pck,
}

impl CertificateKind {
    /// The certificates that stand on their own, in the order of issue.
    pub const AUTHORITIES: [Self; 4] = [Self::Root, Self::PlatformCa, Self::ProcessorCa, Self::TcbSigning];

    /// A short name: `root`, `platform-ca`, `processor-ca`, `tcb-signing`, `pck`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::PlatformCa => "platform-ca",
            Self::ProcessorCa => "processor-ca",
            Self::TcbSigning => "tcb-signing",
            Self::Pck => "pck",
        }
    }

    /// The common name in the subject.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Root => "Intel SGX Root CA",
            Self::PlatformCa => "Intel SGX PCK Platform CA",
            Self::ProcessorCa => "Intel SGX PCK Processor CA",
            Self::TcbSigning => "Intel SGX TCB Signing",
            Self::Pck => "Intel SGX PCK Certificate",
        }
    }
}

/// The CAs for PCK certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PckCa {
    /// For registered platforms of one or more packages.
    Platform,
    /// For single packages.
    Processor,
}

impl PckCa {
    /// As the service's requests name it: `platform` or `processor`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }

    /// Its certificate's kind.
    #[must_use]
    pub const fn kind(self) -> CertificateKind {
        match self {
            Self::Platform => CertificateKind::PlatformCa,
            Self::Processor => CertificateKind::ProcessorCa,
        }
    }
}

/// The revocation lists of a hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CrlKind {
    /// The root's.
    Root,
    /// A PCK CA's.
    Pck(PckCa),
}

impl CrlKind {
    /// Who signs it.
    #[must_use]
    pub const fn issuer(self) -> CertificateKind {
        match self {
            Self::Root => CertificateKind::Root,
            Self::Pck(ca) => ca.kind(),
        }
    }
}

/// What collateral is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tee {
    /// Enclaves.
    Sgx,
    /// Trust domains.
    Tdx,
}

impl Tee {
    /// `SGX` or `TDX`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sgx => "SGX",
            Self::Tdx => "TDX",
        }
    }
}
