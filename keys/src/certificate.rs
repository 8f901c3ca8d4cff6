//! X.509 certificates with every field in the open.
//!
//! [`CertificateDraft`] is a certificate before it is signed: its fields can be given any value, right or wrong, which the
//! builder of `x509-cert` would refuse. RFC 5280 section 4.1 names the fields.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::asn1::{Any, BitString, ObjectIdentifier, OctetString};
use der::pem::LineEnding;
use der::{Decode, Encode, Sequence, Tag};
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::time::Time;

use crate::KeysError;

/// Whatever can sign a certificate or a revocation list.
pub trait CertificateSigner: Send + Sync {
    /// The algorithm identifier that goes with the signatures.
    fn algorithm(&self) -> &AlgorithmIdentifierOwned;

    /// A signature over a message (the DER of `tbsCertificate` or `tbsCertList`), as the BIT STRING holds it.
    ///
    /// # Errors
    /// [`KeysError`] when signing fails.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError>;
}

/// SHA-256 of something public, printed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A signed certificate: its DER, and what issuing below it needs. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    der: Arc<[u8]>,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
}

impl Certificate {
    /// Reads a certificate of this crate's making.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeysError> {
        let TbsCertificate { subject, subject_public_key_info, .. } =
            SignedCertificate::from_der(der)?.tbs_certificate;
        Ok(Self { der: der.into(), subject, subject_public_key_info })
    }

    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM: label `CERTIFICATE`, lines of 64 characters ended by a line feed.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The certificate, parsed.
    ///
    /// # Errors
    /// [`KeysError::Der`] when a draft was edited into something that RFC 5280 forbids.
    pub fn parse(&self) -> Result<x509_cert::Certificate, KeysError> {
        Ok(x509_cert::Certificate::from_der(&self.der)?)
    }

    /// The subject's name.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// The subject's public key.
    #[must_use]
    pub const fn public_key(&self) -> &SubjectPublicKeyInfoOwned {
        &self.subject_public_key_info
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// SHA-256 of the DER of the `SubjectPublicKeyInfo`: the same for every certificate of one key.
    ///
    /// # Errors
    /// [`KeysError::Der`] when the key does not encode.
    pub fn public_key_fingerprint(&self) -> Result<Fingerprint, KeysError> {
        Ok(Fingerprint::of(&self.subject_public_key_info.to_der()?))
    }
}

/// PEM with lines of 64 characters, each ended by a line feed.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = der::pem::encode_string(label, LineEnding::LF, der);
    // Fails only where the length overflows, far beyond any certificate.
    encoded.unwrap_or_default()
}

/// SHA-1 of the bits of the public key (RFC 5280 section 4.2.1.2, method 1): AMD's subject key identifiers.
pub(crate) fn key_identifier(key: &SubjectPublicKeyInfoOwned) -> Result<OctetString, KeysError> {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, key.subject_public_key.raw_bytes());
    Ok(OctetString::new(digest.as_ref())?)
}

/// An extension from an encodable value.
pub(crate) fn extension(
    oid: ObjectIdentifier,
    critical: bool,
    value: &impl Encode,
) -> Result<Extension, KeysError> {
    raw_extension(oid, critical, &value.to_der()?)
}

/// An extension from the bytes of its `extnValue`.
pub(crate) fn raw_extension(
    oid: ObjectIdentifier,
    critical: bool,
    value: &[u8],
) -> Result<Extension, KeysError> {
    Ok(Extension { extn_id: oid, critical, extn_value: OctetString::new(value)? })
}

/// A certificate before it is signed.
#[derive(Clone)]
pub struct CertificateDraft {
    /// The number in the `version` field: 2 stands for X.509 version 3. 0, version 1, is left out as the default.
    pub version: u8,
    /// Content octets of the serial number's INTEGER: big-endian, two's complement.
    pub serial_number: Vec<u8>,
    /// The algorithm identifier within the signed part.
    pub signature_algorithm: AlgorithmIdentifierOwned,
    /// The algorithm identifier outside the signed part, where it is to differ.
    pub outer_signature_algorithm: Option<AlgorithmIdentifierOwned>,
    /// The issuer's name.
    pub issuer: Name,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// The subject's name.
    pub subject: Name,
    /// The subject's public key. The subject key identifier among the extensions does not follow a change of it.
    pub public_key: SubjectPublicKeyInfoOwned,
    /// The extensions in order. Without any, the field is left out.
    pub extensions: Vec<Extension>,
    /// Who signs. The algorithm identifiers do not follow a change of it.
    pub signer: Arc<dyn CertificateSigner>,
    /// Bits of the signature to flip after signing, counted from the first byte's most significant bit.
    pub flip_signature_bits: Vec<usize>,
}

impl CertificateDraft {
    /// Takes another signer and its algorithm identifier.
    pub fn sign_with(&mut self, signer: Arc<dyn CertificateSigner>) {
        self.signature_algorithm = signer.algorithm().clone();
        self.signer = signer;
    }

    /// Puts an extension in the place of the one with its OID, or at the end.
    pub fn put_extension(&mut self, extension: Extension) {
        match self.extensions.iter_mut().find(|present| present.extn_id == extension.extn_id) {
            Some(present) => *present = extension,
            None => self.extensions.push(extension),
        }
    }

    /// Removes every extension with this OID.
    pub fn remove_extension(&mut self, oid: ObjectIdentifier) {
        self.extensions.retain(|present| present.extn_id != oid);
    }

    /// Encodes and signs.
    ///
    /// # Errors
    /// [`KeysError`] when a field does not encode or the signer fails.
    pub fn sign(self) -> Result<Certificate, KeysError> {
        let outer = self.outer_signature_algorithm.unwrap_or_else(|| self.signature_algorithm.clone());
        let tbs = TbsCertificate {
            version: self.version,
            serial_number: Any::new(Tag::Integer, self.serial_number)?,
            signature: self.signature_algorithm,
            issuer: self.issuer,
            validity: Validity { not_before: self.not_before, not_after: self.not_after },
            subject: self.subject.clone(),
            subject_public_key_info: self.public_key.clone(),
            extensions: (!self.extensions.is_empty()).then_some(self.extensions),
        };
        let signature = signature_bits(&*self.signer, &tbs.to_der()?, &self.flip_signature_bits)?;
        let signed = SignedCertificate { tbs_certificate: tbs, signature_algorithm: outer, signature };
        Ok(Certificate {
            der: signed.to_der()?.into(),
            subject: self.subject,
            subject_public_key_info: self.public_key,
        })
    }
}

/// Signs, then flips the bits asked for; bits beyond the signature are ignored.
pub(crate) fn signature_bits(
    signer: &dyn CertificateSigner,
    message: &[u8],
    flips: &[usize],
) -> Result<BitString, KeysError> {
    let mut signature = signer.sign(message)?;
    for bit in flips {
        if let Some(byte) = signature.get_mut(bit / 8) {
            *byte ^= 0x80 >> (bit % 8);
        }
    }
    Ok(BitString::from_bytes(&signature)?)
}

/// `Certificate`, RFC 5280 section 4.1.
#[derive(Sequence)]
struct SignedCertificate {
    tbs_certificate: TbsCertificate,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// `TBSCertificate`, RFC 5280 section 4.1, with the serial number as raw as it comes.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: u8,
    serial_number: Any,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// `Validity`, RFC 5280 section 4.1.2.5, each time in the form it was given.
#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}
