//! AMD's hierarchy for SEV-SNP: ARK, ASK and ASVK (RSA-4096), VCEK and VLEK (P-384), revocation lists.
//!
//! ```text
//!                 ARK   AMD root key, signs itself and the revocation list
//!                /   \
//!             ASK     ASVK   signing keys
//!              |       |
//!            VCEK    VLEK    versioned keys: one per chip or cloud provider, and TCB_VERSION
//! ```
//!
//! Names, order and encoding of fields and extensions are those of AMD's own certificates (AMD 57230, *Versioned Chip
//! Endorsement Key (VCEK) Certificate and KDS Interface Specification*; where it is silent, certificates that AMD issued).
//! Signatures are RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, derived, not drawn.
//!
//! # What tells these certificates from AMD's
//!
//! Besides the keys, of course: the serial number of every ARK, ASK and ASVK begins with the ASCII bytes `tsmsim`
//! ([`SYNTHETIC_SERIAL_PREFIX`]), which any certificate viewer shows as `74:73:6d:73:69:6d:…`; and everything is valid from
//! 2023-01-01 to 2047-12-31. VCEK and VLEK carry AMD's serial number 0 and nothing else that is ours, because strict verifiers
//! refuse any extension there that they do not know; the chain above them is marked. An extension as a marker on the
//! authorities was weighed and left out: it would add nothing to the serial number but a way to be refused.
//!
//! # What could be compared with AMD's own, and what not
//!
//! Compared byte for byte by tests: ARK and ASK of all lines, the ASVK and a VCEK of Milan, a VCEK of Turin. By AMD's
//! document and by analogy only, for want of genuine ones: VLEKs, the ASVKs of Genoa and Turin, and revocation lists, which
//! here are lists of version 2 with authority key identifier and CRL number.
//!
//! AMD's certificates of Turin carry `fmcSPL` and an identifier of 8 bytes. Verifiers that know only the older extensions, as
//! go-sev-guest at the time of writing, refuse them, and so ours: an edit can give the older shape.
//!
//! # Malformed chains
//!
//! [`HierarchyBuilder::edit`] changes any field of any certificate before it is signed; what is below follows: a certificate is
//! issued in the name and under the key of the certificate above it, as that was changed.
//!
//! ```
//! # use tsmsim_keys::{KeysError, Seed, amd::{CertificateKind, Hierarchy, oid}};
//! # use tsmsim_abi::snp::tcb::ProductLine;
//! # fn main() -> Result<(), KeysError> {
//! let hierarchy = Hierarchy::builder(&Seed::DEFAULT, ProductLine::Milan)
//!     .edit(CertificateKind::Vcek, |vcek| vcek.remove_extension(oid::SNP_SPL))
//!     .build();
//! # let _ = hierarchy.ark()?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod default;
mod draft;
mod endorsement;
mod hierarchy;
pub mod oid;
mod scenario;

pub use crate::profile::SYNTHETIC_SERIAL_PREFIX;
pub use builder::HierarchyBuilder;
pub(crate) use default::certificate_line;
pub use default::{DEFAULT_FINGERPRINTS, DefaultFile, regenerate_default, regenerated_files};
pub use draft::amd_name;
pub use endorsement::{ChipIdentity, EndorsementKey};
pub use hierarchy::Hierarchy;
pub use scenario::Scenario;

/// The certificates of a hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CertificateKind {
    /// AMD root key.
    Ark,
    /// AMD SEV key, which signs VCEKs.
    Ask,
    /// AMD SEV VLEK key, which signs VLEKs.
    Asvk,
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
}

impl CertificateKind {
    /// The certificates that stand on their own, in the order of issue.
    pub const AUTHORITIES: [Self; 3] = [Self::Ark, Self::Ask, Self::Asvk];

    /// The usual abbreviation in lower case: `ark`, `ask`, `asvk`, `vcek`, `vlek`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ark => "ark",
            Self::Ask => "ask",
            Self::Asvk => "asvk",
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }

    /// What signs it. The ARK signs itself.
    #[must_use]
    pub const fn issuer(self) -> Self {
        match self {
            Self::Ark | Self::Ask | Self::Asvk => Self::Ark,
            Self::Vcek => Self::Ask,
            Self::Vlek => Self::Asvk,
        }
    }
}
