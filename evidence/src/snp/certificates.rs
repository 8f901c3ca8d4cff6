//! What all certificates of the chain must fulfil, and what ARK, ASK and ASVK must.

use tsmsim_abi::snp::tcb::ProductLine;

use super::{CertificateKind, names::check_name};
use crate::{
    Verdict,
    profile::{
        AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, CRL_DISTRIBUTION_POINTS, Expected, KEY_USAGE,
        SUBJECT_KEY_IDENTIFIER, authority_of, check_serial_number, check_validity, check_version,
        judge_extensions,
    },
    x509::{Certificate, SignatureAlgorithmFault, verify_pss_sha384},
};

/// The checks of every kind but for its key, extensions and signature. `line` as the chain has it.
pub(super) fn judge_fields(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
    line: Option<ProductLine>,
) {
    let object = kind.name();
    verdict.judge(object, "version", check_version(certificate));
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
        Expected::new("keyUsage", KEY_USAGE, true, Some(key_usage(kind, certificate))),
        Expected::new("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER, false, None),
        Expected::new("basicConstraints", BASIC_CONSTRAINTS, true, Some(basic_constraints(kind))),
        Expected::new(
            "cRLDistributionPoints",
            CRL_DISTRIBUTION_POINTS,
            false,
            line.map(|line| distribution_points(kind, line)),
        ),
    ];
    if kind != CertificateKind::Ark {
        let value = issuer.and_then(authority_of);
        expected.push(Expected::new("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER, false, value));
    }
    judge_extensions(verdict, (object, certificate), "AMD's", &expected, |_| false);
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
