//! Collateral: what a verifier needs beside the quote, as Intel's provisioning service gives it (PCS API version 4) and
//! the dcap-qvl crate writes it down: one JSON object, byte strings hexadecimal, certificate chains PEM.

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{hex::unhex, show::ShowError};

/// Collateral of a quote.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Collateral {
    /// The PCK CA's certificate, then the root's.
    pub pck_crl_issuer_chain: String,
    /// The root's revocation list, DER.
    #[serde(deserialize_with = "bytes")]
    pub root_ca_crl: Vec<u8>,
    /// The PCK CA's revocation list, DER.
    #[serde(deserialize_with = "bytes")]
    pub pck_crl: Vec<u8>,
    /// The TCB signing certificate, then the root's.
    pub tcb_info_issuer_chain: String,
    /// TCB info: the signed text.
    pub tcb_info: String,
    /// R and S, 32 bytes each, big-endian.
    #[serde(deserialize_with = "bytes")]
    pub tcb_info_signature: Vec<u8>,
    /// The TCB signing certificate, then the root's.
    pub qe_identity_issuer_chain: String,
    /// QE identity: the signed text.
    pub qe_identity: String,
    /// R and S, 32 bytes each, big-endian.
    #[serde(deserialize_with = "bytes")]
    pub qe_identity_signature: Vec<u8>,
    /// The PCK certificate and those above it, for quotes that do not carry them.
    #[serde(default)]
    pub pck_certificate_chain: Option<String>,
}

impl Collateral {
    /// Reads the JSON object; members of other names are passed over.
    ///
    /// # Errors
    /// Where it is not the JSON that is expected.
    pub fn read(json: &[u8]) -> Result<Self, CollateralError> {
        serde_json::from_slice(json).map_err(|error| CollateralError(error.to_string()))
    }
}

/// Why bytes are not collateral.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CollateralError(pub(super) String);

impl From<CollateralError> for ShowError {
    fn from(error: CollateralError) -> Self {
        Self::Collateral(error.0)
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    unhex(&text).ok_or_else(|| D::Error::custom("not hexadecimal digits, two a byte"))
}

/// Exactly `N` bytes in hexadecimal.
pub(super) fn array<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    let read = bytes(deserializer)?;
    let found = read.len();
    read.try_into().map_err(|_| D::Error::custom(format!("{found} bytes, where {N} are expected")))
}
