//! X.509 certificates and revocation lists (RFC 5280), read strictly: DER only, every byte accounted for, borrowed from
//! the input. What the certificates of a technology must say is not known here.

mod algorithm;
mod certificate;
mod crl;
mod ecdsa;
pub(crate) mod name;
mod pem;
mod scheme;
mod show;
mod walk;

pub use algorithm::{PublicKey, SignatureAlgorithmFault, verify_pss_sha384};
pub use certificate::{Certificate, Extension, Validity};
pub use crl::{RevocationList, Revoked};
pub use ecdsa::{check_ecdsa_sha256, p256_point, verify_ecdsa_p256, verify_ecdsa_p256_fixed};
pub use name::{Attribute, Name};
pub use pem::{PemBlock, PemError, is_pem, pem_blocks};
pub use scheme::{KnownKey, SignatureScheme};
pub(crate) use show::{show_certificate, show_crl};
pub use walk::Malformed;
pub(crate) use walk::{Element, Walk};
