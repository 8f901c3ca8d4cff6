//! What the hierarchies have in common: the marker, the time of validity, and extensions of RFC 5280.

use std::sync::OnceLock;

use const_oid::db::{rfc4519, rfc5280};
use der::asn1::{Any, Ia5String, ObjectIdentifier, OctetString, PrintableString, SetOfVec, UtcTime};
use der::{DateTime, Decode, Encode, Tag};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::time::Time;

use crate::KeysError;
use crate::certificate::extension;

/// The marker: the first six octets of the serial numbers of certificates that stand for a vendor's authority.
pub const SYNTHETIC_SERIAL_PREFIX: &[u8; 6] = b"tsmsim";

/// `digitalSignature (0)` of `KeyUsage`, RFC 5280 section 4.2.1.3, in the BIT STRING's only octet.
pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
/// `nonRepudiation (1)`.
pub(crate) const NON_REPUDIATION: u8 = 0x80 >> 1;
/// `keyCertSign (5)`.
pub(crate) const KEY_CERT_SIGN: u8 = 0x80 >> 5;
/// `cRLSign (6)`.
pub(crate) const CRL_SIGN: u8 = 0x80 >> 6;

/// 2023-01-01 00:00:00 UTC: from when everything is valid.
pub(crate) fn not_before() -> Result<Time, KeysError> {
    utc_time(DateTime::new(2023, 1, 1, 0, 0, 0)?)
}

/// 2047-12-31 23:59:59 UTC: until when everything is valid; in the last years that UTCTime can say.
pub(crate) fn not_after() -> Result<Time, KeysError> {
    utc_time(DateTime::new(2047, 12, 31, 23, 59, 59)?)
}

fn utc_time(date_time: DateTime) -> Result<Time, KeysError> {
    Ok(Time::UtcTime(UtcTime::from_date_time(date_time)?))
}

/// A name of one attribute after another. Country is a PrintableString, the rest are UTF8Strings.
pub(crate) fn name(attributes: &[(ObjectIdentifier, &str)]) -> Result<Name, KeysError> {
    let mut name = RdnSequence::default();
    for (oid, text) in attributes {
        let value = if *oid == rfc4519::C {
            Any::encode_from(&PrintableString::new(text)?)?
        } else {
            Any::new(Tag::Utf8String, text.as_bytes())?
        };
        let attribute = SetOfVec::try_from(vec![AttributeTypeAndValue { oid: *oid, value }])?;
        name.push(RelativeDistinguishedName::from(attribute));
    }
    Ok(Name::from_der(&name.to_der()?)?)
}

/// `BasicConstraints` of an authority.
pub(crate) fn authority_constraints(path_len_constraint: Option<u8>) -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, true, &BasicConstraints { ca: true, path_len_constraint })
}

/// `AuthorityKeyIdentifier` with nothing but the identifier.
pub(crate) fn authority_key(identifier: OctetString) -> Result<Extension, KeysError> {
    let value = AuthorityKeyIdentifier { key_identifier: Some(identifier), ..Default::default() };
    extension(rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER, false, &value)
}

/// `SubjectKeyIdentifier`.
pub(crate) fn subject_key(identifier: OctetString) -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER, false, &SubjectKeyIdentifier(identifier))
}

/// `CRLDistributionPoints` with one place.
pub(crate) fn crl_distribution_point(uri: &str) -> Result<Extension, KeysError> {
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?);
    let distribution_point = Some(DistributionPointName::FullName(vec![name]));
    let point = DistributionPoint { distribution_point, reasons: None, crl_issuer: None };
    extension(rfc5280::ID_CE_CRL_DISTRIBUTION_POINTS, false, &CrlDistributionPoints(vec![point]))
}

/// The cell's value, made now if need be. Two threads may make it at once; being deterministic, they make the same.
pub(crate) fn get_or_try_init<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, KeysError>,
) -> Result<&T, KeysError> {
    match cell.get() {
        Some(value) => Ok(value),
        None => make().map(|value| cell.get_or_init(|| value)),
    }
}
