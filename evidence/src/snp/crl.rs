//! The revocation list of the ARK.

use super::{CertificateKind, Policy};
use crate::{
    Verdict,
    profile::{
        AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER, authority_of, judge_list_fields, judge_list_signature,
        judge_revocation, open_list,
    },
    x509::{Certificate, RevocationList, SignatureAlgorithmFault, verify_pss_sha384},
};

const OBJECT: &str = "CRL";

/// Judges the list, and every certificate of the chain by it.
///
/// Strictly, a list of the ARK's speaks of certificates that the ARK issued. A list that names the serial number of a VCEK or
/// VLEK can have no other sense here than to revoke that too, so it does.
pub(super) fn judge(
    verdict: &mut Verdict,
    der: Option<&[u8]>,
    certificates: &[(CertificateKind, &Option<Certificate<'_>>)],
    policy: &Policy,
) {
    let Some(der) = der else {
        let why = "no revocation list given";
        if policy.require_crl {
            verdict.judge(OBJECT, "certificateList", Err::<&str, _>(why));
        } else {
            verdict.skip(OBJECT, "certificateList", why);
        }
        return;
    };
    let Some(list) = open_list(verdict, OBJECT, der) else { return };
    let ark = certificates.iter().find(|(kind, _)| *kind == CertificateKind::Ark);
    let ark = ark.and_then(|(_, certificate)| certificate.as_ref());
    judge_list(verdict, &list, ark);
    for (kind, certificate) in certificates {
        if let Some(certificate) = certificate {
            judge_revocation(verdict, (kind.name(), certificate), &list, "revocation list");
        }
    }
}

fn judge_list(verdict: &mut Verdict, list: &RevocationList<'_>, ark: Option<&Certificate<'_>>) {
    let algorithms = SignatureAlgorithmFault::check(list.inner_algorithm, list.outer_algorithm);
    let algorithm = algorithms.map(|()| "RSASSA-PSS, SHA-384, salt 48").map_err(|fault| fault.to_string());
    judge_list_fields(verdict, OBJECT, list, algorithm, ("ARK", ark));
    verdict.judge(OBJECT, "crlExtensions", extensions(list, ark));
    let signature = ark.map(|ark| verify_pss_sha384(&ark.public_key, list.signed, list.signature));
    judge_list_signature(verdict, OBJECT, list, "ARK", signature);
}

/// Key identifier of the ARK, and a number; of others only what is not critical.
fn extensions(list: &RevocationList<'_>, ark: Option<&Certificate<'_>>) -> Result<String, String> {
    if let Some(identifier) = list.extension(AUTHORITY_KEY_IDENTIFIER)
        && ark.and_then(authority_of).as_deref() != Some(identifier.value)
    {
        return Err("authorityKeyIdentifier does not name the ARK's key".to_owned());
    }
    let known = [AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER];
    match list.extensions.iter().find(|extension| extension.critical && !known.contains(&extension.oid)) {
        Some(unknown) => Err(format!("{} is critical and not known", unknown.oid)),
        None => Ok(format!("{} known", list.extensions.len())),
    }
}
