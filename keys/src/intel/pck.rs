//! Provisioning certification keys: what certifies quoting enclaves.

use std::sync::Arc;

use super::PlatformIdentity;
use crate::{Certificate, EcdsaP256Key, KeysError, RawSignature, SignatureMode};

/// A platform's provisioning certification key for its security version numbers, and its certificate. Wiped when dropped;
/// never printed. Clones share the private key.
#[derive(Clone)]
pub struct PckKey {
    pub(super) platform: PlatformIdentity,
    pub(super) key: Arc<EcdsaP256Key>,
    pub(super) certificate: Certificate,
    pub(super) chain: String,
}

impl PckKey {
    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> &PlatformIdentity {
        &self.platform
    }

    /// The certificate, signed by the platform CA or the processor CA.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate, that of the CA, and the root's, PEM: certification data of type 5 in quotes, but for the zero byte
    /// that some end it with.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Signs the SHA-256 digest of a message: the 384 bytes of a quoting enclave's report.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when the library fails, for want of randomness for example.
    pub fn sign(&self, mode: SignatureMode, message: &[u8]) -> Result<RawSignature<32>, KeysError> {
        self.key.sign(mode, message)
    }

    /// The private key.
    #[must_use]
    pub const fn key(&self) -> &Arc<EcdsaP256Key> {
        &self.key
    }
}
