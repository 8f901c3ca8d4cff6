//! The revocation lists of the root and of the PCK CA.

use super::CertificateKind;
use crate::{
    Verdict,
    profile::{check_list_extensions, judge_list_fields, judge_list_signature, judge_revocation, open_list},
    x509::{Certificate, check_ecdsa_sha256, verify_ecdsa_p256},
};

/// Judges a list of an issuer's, and by it the certificates that this issuer has issued.
pub(super) fn judge(
    verdict: &mut Verdict,
    object: &'static str,
    der: &[u8],
    (kind, issuer): (CertificateKind, Option<&Certificate<'_>>),
    certificates: &[(CertificateKind, Option<&Certificate<'_>>)],
) {
    let Some(list) = open_list(verdict, object, der) else { return };
    let by = kind.name();
    let algorithms = check_ecdsa_sha256(list.inner_algorithm, list.outer_algorithm);
    let algorithm = algorithms.map(|()| "ecdsa-with-SHA256");
    judge_list_fields(verdict, object, &list, algorithm, (by, issuer));
    verdict.judge(object, "crlExtensions", check_list_extensions(&list, (by, issuer)));
    let signature = issuer.map(|it| verify_ecdsa_p256(&it.public_key, list.signed, list.signature));
    judge_list_signature(verdict, object, &list, by, signature);
    for (kind, certificate) in certificates {
        if let Some(certificate) = certificate {
            judge_revocation(verdict, (kind.name(), certificate), &list, object);
        }
    }
}
