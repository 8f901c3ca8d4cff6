//! The certificates as AMD makes them, before anything is changed about them.

use const_oid::db::{rfc4519, rfc5280};
use der::asn1::{BitString, Ia5String};
use tsmsim_abi::snp::tcb::{ProductLine, TcbParts, TcbVersion};
use x509_cert::ext::Extension;
use x509_cert::name::Name;

use super::{CertificateKind, ChipIdentity, oid};
use crate::certificate::{extension, key_identifier, raw_extension};
use crate::profile::{
    CRL_SIGN, KEY_CERT_SIGN, SYNTHETIC_SERIAL_PREFIX, authority_constraints, authority_key,
    crl_distribution_point, not_after, not_before, subject_key,
};
use crate::{Certificate, CertificateDraft, KeysError, RsaKey, RsaScheme, TrailerField};

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
    crate::profile::name(&attributes)
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
    let subject_key = subject_key(key_identifier(&public_key)?)?;
    let points = distribution_points(kind, line)?;
    let extensions = match issuer {
        None => vec![key_usage(KEY_CERT_SIGN | CRL_SIGN)?, subject_key, authority_constraints(None)?, points],
        Some((issuer, _)) => vec![
            subject_key,
            authority_key(key_identifier(issuer.public_key())?)?,
            authority_constraints(Some(0))?,
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

/// Where AMD publishes the list: one place for ARK and ASK, another for the ASVK.
fn distribution_points(kind: CertificateKind, line: ProductLine) -> Result<Extension, KeysError> {
    let path = if kind == CertificateKind::Asvk { "vlek" } else { "vcek" };
    crl_distribution_point(&format!("https://kdsintf.amd.com/{path}/v1/{}/crl", line.name()))
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
