//! What all certificates of the chain must fulfil, and what ARK, ASK and ASVK must.

use der::asn1::ObjectIdentifier;
use tsmsim_abi::snp::tcb::ProductLine;

use super::{CertificateKind, names::check_name};
use crate::{
    Timestamp, Verdict,
    hex::short,
    x509::{Certificate, SignatureAlgorithmFault, Validity, verify_pss_sha384},
};

pub(super) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
pub(super) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(super) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(super) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
pub(super) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
pub(super) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Reads a certificate, or says which part is malformed or that there is none.
pub(super) fn open<'a>(
    verdict: &mut Verdict,
    kind: CertificateKind,
    der: Option<&'a [u8]>,
) -> Option<Certificate<'a>> {
    let Some(der) = der else {
        verdict.judge(kind.name(), "certificate", Err::<&str, _>("none given"));
        return None;
    };
    match Certificate::read(der) {
        Ok(certificate) => Some(certificate),
        Err(malformed) => {
            verdict.judge(kind.name(), malformed.part, Err::<&str, _>(malformed.why));
            None
        }
    }
}

/// The checks of every kind but for its key, extensions and signature. `line` as the chain has it.
pub(super) fn judge_fields(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
    line: Option<ProductLine>,
) {
    let object = kind.name();
    let version = match certificate.version {
        3 => Ok("3"),
        other => Err(format!("{other}, where 3 is expected")),
    };
    verdict.judge(object, "version", version);
    verdict.judge(object, "serialNumber", check_serial_number(certificate.serial_number));
    let algorithms = SignatureAlgorithmFault::check(certificate.inner_algorithm, certificate.outer_algorithm);
    let named = algorithms.map(|()| "RSASSA-PSS, SHA-384, salt 48");
    verdict.judge(object, "signatureAlgorithm", named.map_err(|fault| fault.to_string()));

    let expected = |kind: CertificateKind, name| match line {
        Some(line) => check_name(name, &kind.common_name(line)),
        None => Err(format!("names no product line that is known: {name}")),
    };
    let issuer_name = match issuer {
        Some(issuer) if issuer.subject.encoding != certificate.issuer.encoding => {
            Err(format!("not the subject of the {}: {}", kind.issuer().name(), certificate.issuer))
        }
        _ => expected(kind.issuer(), &certificate.issuer),
    };
    verdict.judge(object, "issuer", issuer_name);
    verdict.judge(object, "subject", expected(kind, &certificate.subject));
    verdict.judge(object, "validity", check_validity(certificate.validity, verdict.at));
}

/// Not negative, at most 20 octets (RFC 5280 section 4.1.2.2). Zero is what AMD gives to every VCEK and VLEK.
fn check_serial_number(serial_number: &[u8]) -> Result<String, &'static str> {
    match serial_number {
        [first, ..] if first & 0x80 != 0 => Err("negative"),
        long if long.len() > 20 => Err("longer than 20 octets"),
        number => Ok(short(number)),
    }
}

fn check_validity(Validity { not_before, not_after }: Validity, at: Timestamp) -> Result<String, String> {
    if at < not_before {
        Err(format!("not valid before {not_before}; judged as of {at}"))
    } else if at > not_after {
        Err(format!("expired at {not_after}; judged as of {at}"))
    } else {
        Ok(format!("{not_before} to {not_after}"))
    }
}

/// Checks a certificate's signature by its issuer. True if it verifies.
pub(super) fn judge_signature(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) -> bool {
    let by = kind.issuer().name();
    let result = match issuer {
        Some(issuer) => verify_pss_sha384(&issuer.public_key, certificate.signed, certificate.signature),
        None => Err(format!("there is no {by} to check it with")),
    };
    verdict.judge(kind.name(), "signature", result.map(|()| format!("by the {by}")))
}

/// Key and extensions of an ARK, ASK or ASVK.
pub(super) fn judge_authority(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
    line: Option<ProductLine>,
) {
    let object = kind.name();
    let key = certificate.public_key.check_rsa_4096();
    verdict.judge(object, "subjectPublicKeyInfo", key.map(|()| "RSA-4096, exponent 65537"));
    let mut expected = vec![
        ("keyUsage", KEY_USAGE, true, Some(key_usage(kind, certificate))),
        ("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER, false, None),
        ("basicConstraints", BASIC_CONSTRAINTS, true, Some(basic_constraints(kind))),
        (
            "cRLDistributionPoints",
            CRL_DISTRIBUTION_POINTS,
            false,
            line.map(|line| distribution_points(kind, line)),
        ),
    ];
    if kind != CertificateKind::Ark {
        let value = issuer.and_then(authority_key_identifier);
        expected.push(("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER, false, value));
    }
    for (field, oid, critical, value) in &expected {
        let result = match certificate.extension(*oid) {
            None => Err("missing"),
            Some(present) if present.critical != *critical && *critical => Err("not marked as critical"),
            Some(present) if present.critical != *critical => Err("marked as critical"),
            Some(present) if value.as_ref().is_some_and(|value| value != present.value) => {
                Err("not what AMD's certificates have")
            }
            Some(_) => Ok("as AMD's"),
        };
        verdict.judge(object, *field, result);
    }
    if subject_key_identifier(certificate).is_none()
        && certificate.extension(SUBJECT_KEY_IDENTIFIER).is_some()
    {
        verdict.judge(object, "subjectKeyIdentifier", Err::<&str, _>("not an octet string of 20 bytes"));
    }
    let known: Vec<ObjectIdentifier> = expected.iter().map(|(_, oid, ..)| *oid).collect();
    judge_no_others(verdict, kind, certificate, &known);
}

/// Refuses extensions that are not in the list.
pub(super) fn judge_no_others(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    known: &[ObjectIdentifier],
) {
    let mut others = certificate.extensions.iter().filter(|extension| !known.contains(&extension.oid));
    let result = match others.next() {
        Some(other) => Err(format!("{} does not belong into a {}", other.oid, kind.name())),
        None => Ok(format!("{}, no others", certificate.extensions.len())),
    };
    verdict.judge(kind.name(), "extensions", result);
}

/// `keyCertSign`, and for the ARK `cRLSign`. AMD writes the former alone with one unused bit, where DER wants two: both are taken.
fn key_usage(kind: CertificateKind, certificate: &Certificate<'_>) -> Vec<u8> {
    const CANONICAL: [u8; 4] = [0x03, 0x02, 0x02, 0x04];
    let canonical = certificate.extension(KEY_USAGE).is_some_and(|present| present.value == CANONICAL);
    match kind {
        CertificateKind::Ark => vec![0x03, 0x02, 0x01, 0x06],
        _ if canonical => CANONICAL.to_vec(),
        _ => vec![0x03, 0x02, 0x01, 0x04],
    }
}

/// An authority; below the ARK with a path length of zero.
fn basic_constraints(kind: CertificateKind) -> Vec<u8> {
    match kind {
        CertificateKind::Ark => vec![0x30, 0x03, 0x01, 0x01, 0xff],
        _ => vec![0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
    }
}

/// One point with one URL: where the key distribution service has the list.
fn distribution_points(kind: CertificateKind, line: ProductLine) -> Vec<u8> {
    let service = if kind == CertificateKind::Asvk { "vlek" } else { "vcek" };
    let url = format!("https://kdsintf.amd.com/{service}/v1/{}/crl", line.name());
    // uniformResourceIdentifier, fullName, distributionPoint, DistributionPoint, CRLDistributionPoints.
    [0x86, 0xa0, 0xa0, 0x30, 0x30].into_iter().fold(url.into_bytes(), tagged)
}

/// Tag, length (all of these are below 128), value.
fn tagged(value: Vec<u8>, tag: u8) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [vec![tag, length], value].concat()
}

/// The 20 bytes in a certificate's `subjectKeyIdentifier`.
pub(super) fn subject_key_identifier<'a>(certificate: &Certificate<'a>) -> Option<&'a [u8]> {
    let value = certificate.extension(SUBJECT_KEY_IDENTIFIER)?.value;
    value.strip_prefix(&[0x04, 20]).filter(|identifier| identifier.len() == 20)
}

/// The `authorityKeyIdentifier` of whatever this certificate's key signs: the key's identifier and nothing else.
pub(super) fn authority_key_identifier(issuer: &Certificate<'_>) -> Option<Vec<u8>> {
    subject_key_identifier(issuer).map(|identifier| tagged(tagged(identifier.to_vec(), 0x80), 0x30))
}
