//! The certificates as Intel makes them, before anything is changed about them.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use const_oid::db::{rfc4519, rfc5280};
use der::Encode;
use der::asn1::{BitString, OctetString};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;

use super::{CertificateKind, PckCa, PlatformIdentity, oid};
use crate::certificate::{extension, raw_extension};
use crate::crl::crl_number;
use crate::profile::{
    CRL_SIGN, DIGITAL_SIGNATURE, KEY_CERT_SIGN, NON_REPUDIATION, SYNTHETIC_SERIAL_PREFIX,
    authority_constraints, authority_key, crl_distribution_point, not_after, not_before, subject_key,
};
use crate::{Certificate, CertificateDraft, CertificateSigner, KeysError};

/// Where Intel publishes the root's revocation list.
const ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// The whole name of a subject or issuer: every attribute but the common name is the same in all certificates.
/// Country is a PrintableString, the rest are UTF8Strings.
///
/// # Errors
/// [`KeysError::Der`] when the common name does not encode.
pub fn intel_name(common_name: &str) -> Result<Name, KeysError> {
    crate::profile::name(&[
        (rfc4519::CN, common_name),
        (rfc4519::O, "Intel Corporation"),
        (rfc4519::L, "Santa Clara"),
        (rfc4519::ST, "CA"),
        (rfc4519::C, "US"),
    ])
}

/// SHA-1 of the whole `SubjectPublicKeyInfo`: Intel's subject key identifiers.
pub(super) fn key_identifier(key: &SubjectPublicKeyInfoOwned) -> Result<OctetString, KeysError> {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &key.to_der()?);
    Ok(OctetString::new(digest.as_ref())?)
}

/// Twenty octets. Intel's authorities have their key identifier for it; here its first octets give way to the marker.
fn serial_number(key_identifier: &OctetString) -> Vec<u8> {
    let marker = SYNTHETIC_SERIAL_PREFIX.as_slice();
    let rest = key_identifier.as_bytes().get(marker.len()..).unwrap_or_default();
    [marker, rest].concat()
}

/// A certificate of any kind but PCK; without `issuer`, signed by itself.
pub(super) fn certificate(
    kind: CertificateKind,
    public_key: SubjectPublicKeyInfoOwned,
    issuer: Option<&Certificate>,
    signer: Arc<dyn CertificateSigner>,
) -> Result<CertificateDraft, KeysError> {
    let subject = intel_name(kind.common_name())?;
    let identifier = key_identifier(&public_key)?;
    let authority = match issuer {
        None => identifier.clone(),
        Some(issuer) => key_identifier(issuer.public_key())?,
    };
    let [usage, constraints] = match kind {
        CertificateKind::Root => [authority_usage()?, authority_constraints(Some(1))?],
        CertificateKind::PlatformCa | CertificateKind::ProcessorCa => {
            [authority_usage()?, authority_constraints(Some(0))?]
        }
        CertificateKind::TcbSigning | CertificateKind::Pck => end_entity()?,
    };
    Ok(CertificateDraft {
        version: 2,
        serial_number: serial_number(&identifier),
        signature_algorithm: signer.algorithm().clone(),
        outer_signature_algorithm: None,
        issuer: issuer.map_or(&subject, Certificate::subject).clone(),
        not_before: not_before()?,
        not_after: not_after()?,
        subject,
        public_key,
        extensions: vec![
            authority_key(authority)?,
            crl_distribution_point(ROOT_CRL)?,
            subject_key(identifier)?,
            usage,
            constraints,
        ],
        signer,
        flip_signature_bits: Vec::new(),
    })
}

/// A PCK certificate.
pub(super) fn pck(
    platform: &PlatformIdentity,
    public_key: SubjectPublicKeyInfoOwned,
    issuer: &Certificate,
    signer: Arc<dyn CertificateSigner>,
) -> Result<CertificateDraft, KeysError> {
    let mut draft = certificate(CertificateKind::Pck, public_key, Some(issuer), signer)?;
    draft.put_extension(crl_distribution_point(&pck_crl_url(platform.ca()))?);
    draft.extensions.push(raw_extension(oid::SGX_EXTENSION, false, &platform.sgx_extension()?)?);
    Ok(draft)
}

/// Where Intel publishes a PCK CA's revocation list.
fn pck_crl_url(ca: PckCa) -> String {
    let ca = ca.name();
    format!("https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")
}

fn authority_usage() -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_KEY_USAGE, true, &BitString::new(1, [KEY_CERT_SIGN | CRL_SIGN])?)
}

/// Key usage and basic constraints of what issues nothing.
fn end_entity() -> Result<[Extension; 2], KeysError> {
    let usage = BitString::new(6, [DIGITAL_SIGNATURE | NON_REPUDIATION])?;
    let constraints = BasicConstraints { ca: false, path_len_constraint: None };
    Ok([
        extension(rfc5280::ID_CE_KEY_USAGE, true, &usage)?,
        extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, true, &constraints)?,
    ])
}

/// The extensions of a revocation list: number, then authority key identifier.
pub(super) fn crl_extensions(issuer: &Certificate, number: u32) -> Result<Vec<Extension>, KeysError> {
    Ok(vec![crl_number(number)?, authority_key(key_identifier(issuer.public_key())?)?])
}
