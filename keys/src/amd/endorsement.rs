//! Versioned endorsement keys: what signs attestation reports.

use std::sync::Arc;

use tsmsim_abi::snp::tcb::{ProductLine, TcbVersion};

use super::CertificateKind;
use crate::{Certificate, EcdsaP384Key, KeysError, RawSignature, SignatureMode};

/// A chip, as its VCEK names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChipIdentity {
    hwid: [u8; 64],
    product_name: Option<String>,
}

impl ChipIdentity {
    /// A chip by its identifier: `CHIP_ID` of the attestation report. On Turin only the first 8 bytes may be set.
    #[must_use]
    pub const fn new(hwid: [u8; 64]) -> Self {
        Self { hwid, product_name: None }
    }

    /// With another product name in the VCEK's certificate than the line's usual one (`Milan-B0`, `Genoa-B1`, `Turin`).
    /// The key does not depend on it.
    #[must_use]
    pub fn with_product_name(self, product_name: &str) -> Self {
        Self { product_name: Some(product_name.to_owned()), ..self }
    }

    /// The bytes of the identifier that a line uses.
    pub(super) fn hwid(&self, line: ProductLine) -> &[u8] {
        &self.hwid[..line.hwid_len()]
    }

    pub(super) fn product_name(&self, line: ProductLine) -> &str {
        self.product_name.as_deref().unwrap_or(match line {
            ProductLine::Milan => "Milan-B0",
            ProductLine::Genoa => "Genoa-B1",
            ProductLine::Turin => "Turin",
        })
    }

    pub(super) fn check(&self, line: ProductLine) -> Result<(), KeysError> {
        let used = line.hwid_len();
        if self.hwid[used..].iter().any(|byte| *byte != 0) {
            return Err(KeysError::ChipId(used));
        }
        Ok(())
    }
}

pub(super) fn check_csp_id(csp_id: &str) -> Result<(), KeysError> {
    let printable = csp_id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if csp_id.is_empty() || csp_id.len() > 64 || !printable {
        return Err(KeysError::CspId);
    }
    Ok(())
}

pub(super) fn check_tcb(line: ProductLine, tcb: TcbVersion) -> Result<(), KeysError> {
    if !tcb.reserved_is_zero(line.tcb_layout()) {
        return Err(KeysError::Tcb(tcb.get()));
    }
    Ok(())
}

/// A VCEK or VLEK: the private key for one `TCB_VERSION`, and its certificate. Wiped when dropped; never printed. Clones share
/// the private key.
#[derive(Clone)]
pub struct EndorsementKey {
    pub(super) kind: CertificateKind,
    pub(super) tcb: TcbVersion,
    pub(super) key: Arc<EcdsaP384Key>,
    pub(super) certificate: Certificate,
}

impl EndorsementKey {
    /// [`CertificateKind::Vcek`] or [`CertificateKind::Vlek`].
    #[must_use]
    pub const fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// The `TCB_VERSION` it was derived for: a report signed by it has this as `REPORTED_TCB`.
    #[must_use]
    pub const fn tcb(&self) -> TcbVersion {
        self.tcb
    }

    /// The certificate, signed by the ASK or the ASVK.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs the SHA-384 digest of a message, for a report its first 0x2A0 bytes.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when the library fails, for want of randomness for example.
    pub fn sign(&self, mode: SignatureMode, message: &[u8]) -> Result<RawSignature, KeysError> {
        self.key.sign(mode, message)
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &EcdsaP384Key {
        &self.key
    }
}
