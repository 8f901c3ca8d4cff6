//! Everything a verifier needs beside the quote, in one structure.

use serde::{Serialize, Serializer};

use super::SignedJson;
use super::json::lower_hex;
use crate::KeysError;

/// Collateral of a quote. Names and JSON form are those of `QuoteCollateralV3` of the dcap-qvl crate (0.7.1), which follow
/// Intel's `sgx_ql_qve_collateral_t`: byte strings are hexadecimal digits, chains PEM, leaf first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QuoteCollateral {
    /// The PCK CA's certificate, then the root's.
    pub pck_crl_issuer_chain: String,
    /// The root's revocation list, DER.
    #[serde(serialize_with = "hex")]
    pub root_ca_crl: Vec<u8>,
    /// The PCK CA's revocation list, DER.
    #[serde(serialize_with = "hex")]
    pub pck_crl: Vec<u8>,
    /// The TCB signing certificate, then the root's.
    pub tcb_info_issuer_chain: String,
    /// TCB info: the signed text.
    pub tcb_info: String,
    /// Its signature: `r` and `s`, each 32 bytes, big-endian.
    #[serde(serialize_with = "hex")]
    pub tcb_info_signature: Vec<u8>,
    /// The TCB signing certificate, then the root's.
    pub qe_identity_issuer_chain: String,
    /// QE identity: the signed text.
    pub qe_identity: String,
    /// Its signature: `r` and `s`, each 32 bytes, big-endian.
    #[serde(serialize_with = "hex")]
    pub qe_identity_signature: Vec<u8>,
    /// The PCK certificate and those above it, for quotes that do not carry them. Left out of the JSON form otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
}

impl QuoteCollateral {
    /// The JSON form, indented by two blanks as dcap-qvl's own files are.
    ///
    /// # Errors
    /// [`KeysError::Json`] when the library fails.
    pub fn to_json(&self) -> Result<String, KeysError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Puts other TCB info in.
    pub fn set_tcb_info(&mut self, signed: &SignedJson) {
        signed.json().clone_into(&mut self.tcb_info);
        self.tcb_info_signature = signed.signature().to_vec();
        signed.issuer_chain().clone_into(&mut self.tcb_info_issuer_chain);
    }

    /// Puts another QE identity in.
    pub fn set_qe_identity(&mut self, signed: &SignedJson) {
        signed.json().clone_into(&mut self.qe_identity);
        self.qe_identity_signature = signed.signature().to_vec();
        signed.issuer_chain().clone_into(&mut self.qe_identity_issuer_chain);
    }
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&lower_hex(bytes))
}
