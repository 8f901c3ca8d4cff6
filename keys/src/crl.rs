//! Certificate revocation lists with every field in the open (RFC 5280 section 5.1).

use std::sync::Arc;

use const_oid::db::rfc5280::{ID_CE_CRL_NUMBER, ID_CE_CRL_REASONS};
use der::asn1::{Any, BitString, Uint};
use der::{Encode, Sequence, Tag};
use spki::AlgorithmIdentifierOwned;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::time::Time;

use crate::certificate::{CertificateSigner, extension, pem, signature_bits};
use crate::profile::{not_after, not_before};
use crate::{Fingerprint, KeysError};

/// `keyCompromise` of `CRLReason`, RFC 5280 section 5.3.1.
const KEY_COMPROMISE: u8 = 1;

/// A signed revocation list. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crl {
    der: Arc<[u8]>,
}

impl Crl {
    pub(crate) fn from_der(der: &[u8]) -> Self {
        Self { der: der.into() }
    }

    /// The list, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list as PEM, label `X509 CRL`.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("X509 CRL", &self.der)
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

/// One revoked certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokedCertificate {
    /// Content octets of the serial number's INTEGER: big-endian, two's complement.
    pub serial_number: Vec<u8>,
    /// When.
    pub revocation_date: Time,
    /// `crlEntryExtensions`, a reason for example. Without any, the field is left out.
    pub extensions: Vec<Extension>,
}

/// `CRLNumber`, RFC 5280 section 5.2.3.
pub(crate) fn crl_number(number: u32) -> Result<Extension, KeysError> {
    extension(ID_CE_CRL_NUMBER, false, &Uint::new(&number.to_be_bytes())?)
}

/// A revocation list before it is signed.
#[derive(Clone)]
pub struct CrlDraft {
    /// The number in the `version` field: 1 stands for version 2. 0, version 1, is left out.
    pub version: u8,
    /// The algorithm identifier within the signed part.
    pub signature_algorithm: AlgorithmIdentifierOwned,
    /// The algorithm identifier outside the signed part, where it is to differ.
    pub outer_signature_algorithm: Option<AlgorithmIdentifierOwned>,
    /// The issuer's name.
    pub issuer: Name,
    /// When the list was made.
    pub this_update: Time,
    /// When the next is due, if ever.
    pub next_update: Option<Time>,
    /// What is revoked. Without any, the field is left out.
    pub revoked: Vec<RevokedCertificate>,
    /// The extensions in order. Without any, the field is left out.
    pub extensions: Vec<Extension>,
    /// Who signs. The algorithm identifiers do not follow a change of it.
    pub signer: Arc<dyn CertificateSigner>,
    /// Bits of the signature to flip after signing, counted from the first byte's most significant bit.
    pub flip_signature_bits: Vec<usize>,
}

impl CrlDraft {
    /// An empty list of version 2 without extensions, valid as long as everything is.
    pub(crate) fn new(issuer: &Name, signer: Arc<dyn CertificateSigner>) -> Result<Self, KeysError> {
        Ok(Self {
            version: 1,
            signature_algorithm: signer.algorithm().clone(),
            outer_signature_algorithm: None,
            issuer: issuer.clone(),
            this_update: not_before()?,
            next_update: Some(not_after()?),
            revoked: Vec::new(),
            extensions: Vec::new(),
            signer,
            flip_signature_bits: Vec::new(),
        })
    }

    /// Adds a serial number, revoked when the list was made.
    pub fn revoke(&mut self, serial_number: &[u8]) {
        self.revoked.push(RevokedCertificate {
            serial_number: serial_number.to_vec(),
            revocation_date: self.this_update,
            extensions: Vec::new(),
        });
    }

    /// Adds a serial number, revoked when the list was made, with the reason `keyCompromise`.
    pub(crate) fn revoke_compromised(&mut self, serial_number: &[u8]) -> Result<(), KeysError> {
        let reason = Any::new(Tag::Enumerated, [KEY_COMPROMISE])?;
        self.revoked.push(RevokedCertificate {
            serial_number: serial_number.to_vec(),
            revocation_date: self.this_update,
            extensions: vec![extension(ID_CE_CRL_REASONS, false, &reason)?],
        });
        Ok(())
    }

    /// Encodes and signs.
    ///
    /// # Errors
    /// [`KeysError`] when a field does not encode or the signer fails.
    pub fn sign(self) -> Result<Crl, KeysError> {
        let entries: Result<Vec<_>, der::Error> = self.revoked.into_iter().map(TryInto::try_into).collect();
        let entries: Vec<RevokedEntry> = entries?;
        let outer = self.outer_signature_algorithm.unwrap_or_else(|| self.signature_algorithm.clone());
        let tbs = TbsCertList {
            version: (self.version != 0).then_some(self.version),
            signature: self.signature_algorithm,
            issuer: self.issuer,
            this_update: self.this_update,
            next_update: self.next_update,
            revoked_certificates: (!entries.is_empty()).then_some(entries),
            crl_extensions: (!self.extensions.is_empty()).then_some(self.extensions),
        };
        let signature = signature_bits(&*self.signer, &tbs.to_der()?, &self.flip_signature_bits)?;
        let list = CertificateList { tbs_cert_list: tbs, signature_algorithm: outer, signature };
        Ok(Crl { der: list.to_der()?.into() })
    }
}

/// `CertificateList`, RFC 5280 section 5.1.
#[derive(Sequence)]
struct CertificateList {
    tbs_cert_list: TbsCertList,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// `TBSCertList`, RFC 5280 section 5.1.
#[derive(Sequence)]
struct TbsCertList {
    #[asn1(optional = "true")]
    version: Option<u8>,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    #[asn1(optional = "true")]
    next_update: Option<Time>,
    #[asn1(optional = "true")]
    revoked_certificates: Option<Vec<RevokedEntry>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    crl_extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct RevokedEntry {
    user_certificate: Any,
    revocation_date: Time,
    #[asn1(optional = "true")]
    crl_entry_extensions: Option<Vec<Extension>>,
}

impl TryFrom<RevokedCertificate> for RevokedEntry {
    type Error = der::Error;

    fn try_from(revoked: RevokedCertificate) -> Result<Self, der::Error> {
        let user_certificate = Any::new(Tag::Integer, revoked.serial_number.as_slice())?;
        let RevokedCertificate { revocation_date, extensions, .. } = revoked;
        let crl_entry_extensions = (!extensions.is_empty()).then_some(extensions);
        Ok(Self { user_certificate, revocation_date, crl_entry_extensions })
    }
}
