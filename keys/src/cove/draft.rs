//! The certificates before anything is changed about them.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use const_oid::db::{rfc4519, rfc5280};
use der::Encode;
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use spki::SubjectPublicKeyInfoOwned;
use tsmsim_abi::cove::cose::OID_UCCS_EVIDENCE;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::{CdiId, CertificateKind, SYNTHETIC_SERIAL_PREFIX};
use crate::certificate::{extension, raw_extension};
use crate::crl::crl_number;
use crate::profile::{
    CRL_SIGN, KEY_CERT_SIGN, authority_constraints, authority_key, name, not_after, not_before, subject_key,
};
use crate::{Certificate, CertificateDraft, CertificateSigner, KeysError};

const UCCS_EVIDENCE: ObjectIdentifier = ObjectIdentifier::new_unwrap(OID_UCCS_EVIDENCE);

/// What differs between certificates of TVMs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TvmCertificate {
    /// `CDI_ID` of the TVM.
    pub subject: CdiId,
    /// The key that the TVM gave.
    pub public_key: SubjectPublicKeyInfoOwned,
    /// Value of the extension: evidence as tagged UCCS, CBOR.
    pub evidence: Vec<u8>,
}

/// Who issues.
pub(super) struct Issuer<'a> {
    pub(super) name: &'a Name,
    pub(super) key_identifier: OctetString,
    pub(super) signer: Arc<dyn CertificateSigner>,
}

/// The name of a layer: its identifier as `serialNumber`.
fn layer_name(id: &CdiId) -> Result<Name, KeysError> {
    name(&[(rfc4519::SERIAL_NUMBER, &id.to_string())])
}

/// SHA-1 of the `SubjectPublicKeyInfo`, for the root.
pub(super) fn root_key_identifier(key: &SubjectPublicKeyInfoOwned) -> Result<OctetString, KeysError> {
    Ok(OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, &key.to_der()?).as_ref())?)
}

/// The root CA, signed by itself.
pub(super) fn root(
    public_key: SubjectPublicKeyInfoOwned,
    signer: Arc<dyn CertificateSigner>,
) -> Result<CertificateDraft, KeysError> {
    let subject =
        name(&[(rfc4519::CN, "tsmsim CoVE Root CA"), (rfc4519::O, "tsmsim synthetic manufacturer")])?;
    let identifier = root_key_identifier(&public_key)?;
    let rest = identifier.as_bytes().get(SYNTHETIC_SERIAL_PREFIX.len()..).unwrap_or_default();
    Ok(CertificateDraft {
        version: 2,
        serial_number: [SYNTHETIC_SERIAL_PREFIX, rest].concat(),
        signature_algorithm: signer.algorithm().clone(),
        outer_signature_algorithm: None,
        issuer: subject.clone(),
        not_before: not_before()?,
        not_after: not_after()?,
        subject,
        public_key,
        extensions: vec![
            authority_key(identifier.clone())?,
            subject_key(identifier)?,
            key_usage(1, KEY_CERT_SIGN | CRL_SIGN)?,
            authority_constraints(None)?,
        ],
        signer,
        flip_signature_bits: Vec::new(),
    })
}

/// A layer's certificate ("CoVE X.509 Attestation Certificate Fields", which tell of the TVM's; the others are like it but for
/// the serial number, which is their own identifier).
pub(super) fn layer(
    kind: CertificateKind,
    id: &CdiId,
    public_key: SubjectPublicKeyInfoOwned,
    issuer: Issuer<'_>,
) -> Result<CertificateDraft, KeysError> {
    let path_len = match kind {
        CertificateKind::Root | CertificateKind::Rot => 3,
        CertificateKind::Platform => 2,
        CertificateKind::Tsm => 1,
        CertificateKind::Tvm => 0,
    };
    Ok(CertificateDraft {
        version: 2,
        serial_number: id.0.to_vec(),
        signature_algorithm: issuer.signer.algorithm().clone(),
        outer_signature_algorithm: None,
        issuer: issuer.name.clone(),
        not_before: not_before()?,
        not_after: Time::INFINITY,
        subject: layer_name(id)?,
        public_key,
        extensions: vec![
            authority_key(issuer.key_identifier)?,
            subject_key(OctetString::new(id.0)?)?,
            key_usage(2, KEY_CERT_SIGN)?,
            authority_constraints(Some(path_len))?,
        ],
        signer: issuer.signer,
        flip_signature_bits: Vec::new(),
    })
}

/// A TVM's certificate: evidence in the X.509 format. Its serial number is the TSM's identifier.
pub(super) fn tvm(
    spec: TvmCertificate,
    tsm: &CdiId,
    issuer: Issuer<'_>,
) -> Result<CertificateDraft, KeysError> {
    let TvmCertificate { subject, public_key, evidence } = spec;
    let mut draft = layer(CertificateKind::Tvm, &subject, public_key, issuer)?;
    draft.serial_number = tsm.0.to_vec();
    draft.extensions.push(raw_extension(UCCS_EVIDENCE, true, &evidence)?);
    Ok(draft)
}

fn key_usage(unused_bits: u8, bits: u8) -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_KEY_USAGE, true, &BitString::new(unused_bits, [bits])?)
}

/// The extensions of the root's list: number, then authority key identifier.
pub(super) fn crl_extensions(root: &Certificate, number: u32) -> Result<Vec<Extension>, KeysError> {
    Ok(vec![crl_number(number)?, authority_key(root_key_identifier(root.public_key())?)?])
}
