//! The certificates as AMD makes them, before anything is changed about them.

use const_oid::db::{rfc4519, rfc5280};
use der::asn1::{Any, BitString, Ia5String, OctetString, PrintableString, SetOfVec};
use der::{DateTime, Decode, Encode, Tag};
use tsmsim_abi::snp::tcb::{ProductLine, TcbParts, TcbVersion};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::time::Time;

use super::{CertificateKind, ChipIdentity, oid};
use crate::certificate::{extension, key_identifier, raw_extension};
use crate::{Certificate, CertificateDraft, KeysError, RsaKey, RsaScheme, TrailerField};

/// `keyCertSign (5)` of `KeyUsage`, RFC 5280 section 4.2.1.3, in the BIT STRING's only octet.
const KEY_CERT_SIGN: u8 = 0x80 >> 5;
/// `cRLSign (6)`.
const CRL_SIGN: u8 = 0x80 >> 6;

/// The marker: the first six octets of every serial number of an ARK, ASK or ASVK.
pub const SYNTHETIC_SERIAL_PREFIX: &[u8; 6] = b"tsmsim";

/// The whole name of a subject or issuer: every attribute but the common name is the same in all certificates.
/// Country is a PrintableString, the rest are UTF8Strings.
///
/// # Errors
/// [`KeysError::Der`] when the common name does not encode.
pub fn amd_name(common_name: &str) -> Result<Name, KeysError> {
    let attributes = [
        (rfc4519::OU, "Engineering"),
        (rfc4519::C, "US"),
        (rfc4519::L, "Santa Clara"),
        (rfc4519::ST, "CA"),
        (rfc4519::O, "Advanced Micro Devices"),
        (rfc4519::CN, common_name),
    ];
    let mut name = RdnSequence::default();
    for (oid, text) in attributes {
        let value = if oid == rfc4519::C {
            Any::encode_from(&PrintableString::new(text)?)?
        } else {
            Any::new(Tag::Utf8String, text.as_bytes())?
        };
        let attribute = SetOfVec::try_from(vec![AttributeTypeAndValue { oid, value }])?;
        name.push(RelativeDistinguishedName::from(attribute));
    }
    Ok(Name::from_der(&name.to_der()?)?)
}

/// 2023-01-01 00:00:00 UTC: from when everything is valid.
pub(super) fn not_before() -> Result<Time, KeysError> {
    utc_time(DateTime::new(2023, 1, 1, 0, 0, 0)?)
}

/// 2047-12-31 23:59:59 UTC: until when everything is valid; in the last years that UTCTime can say.
pub(super) fn not_after() -> Result<Time, KeysError> {
    utc_time(DateTime::new(2047, 12, 31, 23, 59, 59)?)
}

fn utc_time(date_time: DateTime) -> Result<Time, KeysError> {
    Ok(Time::UtcTime(der::asn1::UtcTime::from_date_time(date_time)?))
}

/// The common name in a certificate's subject.
pub(super) fn common_name(kind: CertificateKind, line: ProductLine) -> String {
    match kind {
        CertificateKind::Ark => format!("ARK-{}", line.name()),
        CertificateKind::Ask => format!("SEV-{}", line.name()),
        CertificateKind::Asvk => format!("SEV-VLEK-{}", line.name()),
        CertificateKind::Vcek => "SEV-VCEK".to_owned(),
        CertificateKind::Vlek => "SEV-VLEK".to_owned(),
    }
}

/// The serial number: the marker, then AMD's numbering: line (1, 2, 3), signer of VLEKs or not, key in the chain. VCEK and
/// VLEK have AMD's 0.
fn serial_number(kind: CertificateKind, line: ProductLine) -> Vec<u8> {
    let line = match line {
        ProductLine::Milan => 1,
        ProductLine::Genoa => 2,
        ProductLine::Turin => 3,
    };
    let number = match kind {
        CertificateKind::Ark => [line, 0, 0],
        CertificateKind::Ask => [line, 0, 1],
        CertificateKind::Asvk => [line, 1, 1],
        CertificateKind::Vcek | CertificateKind::Vlek => return vec![0],
    };
    [SYNTHETIC_SERIAL_PREFIX.as_slice(), &number].concat()
}

/// An ARK (without `issuer`: signed by itself), ASK or ASVK.
pub(super) fn authority(
    kind: CertificateKind,
    line: ProductLine,
    key: &RsaKey,
    issuer: Option<(&Certificate, &RsaKey)>,
) -> Result<CertificateDraft, KeysError> {
    let subject = amd_name(&common_name(kind, line))?;
    let public_key = key.public_key()?;
    let subject_key = extension(
        rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER,
        false,
        &SubjectKeyIdentifier(key_identifier(&public_key)?),
    )?;
    let points = distribution_points(kind, line)?;
    let extensions = match issuer {
        None => vec![key_usage(KEY_CERT_SIGN | CRL_SIGN)?, subject_key, constraints(None)?, points],
        Some((issuer, _)) => vec![
            subject_key,
            authority_key(issuer)?,
            constraints(Some(0))?,
            key_usage(KEY_CERT_SIGN)?,
            points,
        ],
    };
    let signer = issuer.map_or(key, |(_, key)| key);
    Ok(CertificateDraft {
        version: 2,
        serial_number: serial_number(kind, line),
        signature_algorithm: RsaScheme::PssSha384.algorithm(TrailerField::Written)?,
        outer_signature_algorithm: None,
        issuer: issuer.map_or(&subject, |(certificate, _)| certificate.subject()).clone(),
        not_before: not_before()?,
        not_after: not_after()?,
        subject,
        public_key,
        extensions,
        signer: signer.signer(RsaScheme::PssSha384)?,
        flip_signature_bits: Vec::new(),
    })
}

/// `KeyUsage` with AMD's seven bits. DER would drop the last where it is zero, as in the ASK; AMD keeps it.
fn key_usage(bits: u8) -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_KEY_USAGE, true, &BitString::new(1, [bits])?)
}

fn constraints(path_len_constraint: Option<u8>) -> Result<Extension, KeysError> {
    extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, true, &BasicConstraints { ca: true, path_len_constraint })
}

fn authority_key(issuer: &Certificate) -> Result<Extension, KeysError> {
    let key_identifier: Option<OctetString> = Some(key_identifier(issuer.public_key())?);
    let value = AuthorityKeyIdentifier { key_identifier, ..Default::default() };
    extension(rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER, false, &value)
}

/// Where AMD publishes the list: one place for ARK and ASK, another for the ASVK.
fn distribution_points(kind: CertificateKind, line: ProductLine) -> Result<Extension, KeysError> {
    let path = if kind == CertificateKind::Asvk { "vlek" } else { "vcek" };
    let uri = Ia5String::new(&format!("https://kdsintf.amd.com/{path}/v1/{}/crl", line.name()))?;
    let name = DistributionPointName::FullName(vec![GeneralName::UniformResourceIdentifier(uri)]);
    let point = DistributionPoint { distribution_point: Some(name), reasons: None, crl_issuer: None };
    extension(rfc5280::ID_CE_CRL_DISTRIBUTION_POINTS, false, &CrlDistributionPoints(vec![point]))
}

/// Whom a VCEK or VLEK names.
pub(super) enum Holder<'a> {
    Chip(&'a ChipIdentity),
    Csp(&'a str),
}

/// A VCEK or VLEK.
pub(super) fn endorsement(
    line: ProductLine,
    holder: &Holder<'_>,
    tcb: TcbVersion,
    public_key: spki::SubjectPublicKeyInfoOwned,
    (issuer, issuer_key): (&Certificate, &RsaKey),
) -> Result<CertificateDraft, KeysError> {
    let kind = match holder {
        Holder::Chip(_) => CertificateKind::Vcek,
        Holder::Csp(_) => CertificateKind::Vlek,
    };
    let trailer = if line == ProductLine::Turin { TrailerField::Omitted } else { TrailerField::Written };
    Ok(CertificateDraft {
        version: 2,
        serial_number: serial_number(kind, line),
        signature_algorithm: RsaScheme::PssSha384.algorithm(trailer)?,
        outer_signature_algorithm: None,
        issuer: issuer.subject().clone(),
        not_before: not_before()?,
        not_after: not_after()?,
        subject: amd_name(&common_name(kind, line))?,
        public_key,
        extensions: endorsement_extensions(line, holder, tcb)?,
        signer: issuer_key.signer(RsaScheme::PssSha384)?,
        flip_signature_bits: Vec::new(),
    })
}

/// AMD's extensions in the order of its own certificates, none critical; no other extensions.
fn endorsement_extensions(
    line: ProductLine,
    holder: &Holder<'_>,
    tcb: TcbVersion,
) -> Result<Vec<Extension>, KeysError> {
    let product_name = match holder {
        Holder::Chip(chip) => chip.product_name(line),
        Holder::Csp(_) => line.name(),
    };
    let product_name = Ia5String::new(product_name).map_err(|_| KeysError::ProductName)?;
    let struct_version = u8::from(line == ProductLine::Turin);
    let mut extensions = vec![
        extension(oid::STRUCT_VERSION, false, &struct_version)?,
        extension(oid::PRODUCT_NAME, false, &product_name)?,
    ];
    for (oid, level) in patch_levels(line, tcb.parts(line.tcb_layout())) {
        extensions.push(extension(oid, false, &level)?);
    }
    extensions.push(match holder {
        Holder::Chip(chip) => raw_extension(oid::HWID, false, chip.hwid(line))?,
        Holder::Csp(csp_id) => extension(oid::CSP_ID, false, &Ia5String::new(csp_id)?)?,
    });
    Ok(extensions)
}

fn patch_levels(line: ProductLine, tcb: TcbParts) -> Vec<(der::asn1::ObjectIdentifier, u8)> {
    let reserved = [(oid::SPL_5, 0), (oid::SPL_6, 0), (oid::SPL_7, 0)];
    let [bl, tee, snp] = [(oid::BL_SPL, tcb.boot_loader), (oid::TEE_SPL, tcb.tee), (oid::SNP_SPL, tcb.snp)];
    let mut levels = Vec::with_capacity(9);
    match line {
        ProductLine::Milan | ProductLine::Genoa => {
            levels.extend([bl, tee, (oid::SPL_4, 0)]);
            levels.extend(reserved);
            levels.push(snp);
        }
        ProductLine::Turin => {
            levels.extend([(oid::FMC_SPL, tcb.fmc.unwrap_or(0)), bl, tee, snp]);
            levels.extend(reserved);
        }
    }
    levels.push((oid::UCODE_SPL, tcb.microcode));
    levels
}
