//! Signed JSON: compact, and signed over exactly the bytes that are handed out.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::{EcdsaP256Key, KeysError, SignatureMode};

/// A JSON document of the provisioning certification service before it is signed.
#[derive(Clone)]
pub struct JsonDraft<T> {
    /// What it says. Members are written in the order of the fields.
    pub body: T,
    /// The text to sign and hand out in place of what `body` would give: for what the fields cannot say, as other order,
    /// blanks, unknown members, or no JSON at all.
    pub text: Option<String>,
    /// Who signs. The issuer chain does not follow a change of it.
    pub signer: Arc<EcdsaP256Key>,
    /// The signer's certificate and those above it, PEM.
    pub issuer_chain: String,
    /// Bits of the signature to flip after signing, counted from the first byte's most significant bit.
    pub flip_signature_bits: Vec<usize>,
}

impl<T: Serialize> JsonDraft<T> {
    /// The text that [`body`](Self::body) gives.
    ///
    /// # Errors
    /// [`KeysError::Json`] when the library fails.
    pub fn body_text(&self) -> Result<String, KeysError> {
        Ok(serde_json::to_string(&self.body)?)
    }

    /// Writes and signs.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails.
    pub(super) fn sign(mut self, member: &'static str) -> Result<SignedJson, KeysError> {
        let json = match self.text.take() {
            Some(text) => text,
            None => self.body_text()?,
        };
        let mut signature = self.signer.sign(SignatureMode::Deterministic, json.as_bytes())?.to_fixed();
        for bit in self.flip_signature_bits {
            if let Some(byte) = signature.get_mut(bit / 8) {
                *byte ^= 0x80 >> (bit % 8);
            }
        }
        Ok(SignedJson { member, json, signature, issuer_chain: self.issuer_chain })
    }
}

/// A signed JSON document: TCB info or QE identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedJson {
    member: &'static str,
    json: String,
    signature: [u8; 64],
    issuer_chain: String,
}

impl SignedJson {
    /// The signed text, to the byte.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The signature over the text: ECDSA on P-256 with SHA-256, `r` and `s`, each 32 bytes, big-endian.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The signature in lower-case hexadecimal digits.
    #[must_use]
    pub fn signature_hex(&self) -> String {
        lower_hex(&self.signature)
    }

    /// The TCB signing certificate, then the root's, PEM.
    #[must_use]
    pub fn issuer_chain(&self) -> &str {
        &self.issuer_chain
    }

    /// The body of the service's answer: `{"tcbInfo":…,"signature":"…"}` or `{"enclaveIdentity":…,"signature":"…"}`.
    #[must_use]
    pub fn response(&self) -> String {
        format!(r#"{{"{}":{},"signature":"{}"}}"#, self.member, self.json, self.signature_hex())
    }
}

pub(super) fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hexadecimal digits as the service writes identifiers and masks.
pub(super) fn upper_hex(bytes: &[u8]) -> String {
    lower_hex(bytes).to_ascii_uppercase()
}
