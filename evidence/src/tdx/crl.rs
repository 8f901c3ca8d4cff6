//! The revocation lists of the root and of the PCK CA.

use super::{
    CertificateKind,
    certificates::{AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER, authority_key_identifier},
};
use crate::{
    Timestamp, Verdict,
    hex::short,
    x509::{Certificate, RevocationList, check_ecdsa_sha256, verify_ecdsa_p256},
};

/// Judges a list of an issuer's, and by it the certificates that this issuer has issued.
pub(super) fn judge(
    verdict: &mut Verdict,
    object: &'static str,
    der: &[u8],
    issuer: (CertificateKind, Option<&Certificate<'_>>),
    certificates: &[(CertificateKind, Option<&Certificate<'_>>)],
) {
    let list = match RevocationList::read(der) {
        Ok(list) => list,
        Err(malformed) => {
            verdict.judge(object, malformed.part, Err::<&str, _>(malformed.why));
            return;
        }
    };
    judge_list(verdict, object, &list, issuer);
    for (kind, certificate) in certificates {
        let Some(certificate) = certificate else { continue };
        let entry = list.revoked.iter().find(|entry| entry.serial_number == certificate.serial_number);
        let result = match entry {
            Some(entry) => {
                Err(format!("serial number {} was revoked at {}", short(entry.serial_number), entry.date))
            }
            None => Ok(format!("not in the {object}")),
        };
        verdict.judge(kind.name(), "revocation", result);
    }
}

fn judge_list(
    verdict: &mut Verdict,
    object: &'static str,
    list: &RevocationList<'_>,
    (kind, issuer): (CertificateKind, Option<&Certificate<'_>>),
) {
    let by = kind.name();
    let version = if list.version == 2 { Ok("2") } else { Err("1, where 2 is expected") };
    verdict.judge(object, "version", version);
    let algorithms = check_ecdsa_sha256(list.inner_algorithm, list.outer_algorithm);
    verdict.judge(object, "signatureAlgorithm", algorithms.map(|()| "ecdsa-with-SHA256"));
    let name = match issuer {
        Some(issuer) if issuer.subject.encoding == list.issuer.encoding => Ok(format!("the {by}'s name")),
        _ => Err(format!("not the subject of the {by}: {}", list.issuer)),
    };
    verdict.judge(object, "issuer", name);
    verdict.judge(object, "thisUpdate", this_update(list.this_update, verdict.at));
    let next = match list.next_update {
        None => Err("missing: it cannot be told whether the list is out of date".to_owned()),
        Some(next) => next_update(next, verdict.at),
    };
    verdict.judge(object, "nextUpdate", next);
    let authority = issuer.and_then(authority_key_identifier);
    let known = [AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER];
    let identifier = list.extension(AUTHORITY_KEY_IDENTIFIER).map(|present| present.value);
    let other = list.extensions.iter().find(|extension| !known.contains(&extension.oid));
    let extensions = match (other, identifier) {
        (Some(other), _) => Err(format!("{} does not belong into the list", other.oid)),
        (None, None) => Err("authorityKeyIdentifier is missing".to_owned()),
        (None, found) if found != authority.as_deref() => {
            Err(format!("authorityKeyIdentifier does not name the {by}'s key"))
        }
        _ if list.extension(CRL_NUMBER).is_none() => Err("cRLNumber is missing".to_owned()),
        _ => Ok("as in Intel's lists"),
    };
    verdict.judge(object, "crlExtensions", extensions);
    // Whatever an entry's extensions say, the entry is taken as revoked.
    verdict.judge(object, "revokedCertificates", Ok::<_, &str>(format!("{} entries", list.revoked.len())));
    let signature = match issuer {
        Some(issuer) => verify_ecdsa_p256(&issuer.public_key, list.signed, list.signature),
        None => Err(format!("there is no {by} to check it with")),
    };
    verdict.judge(object, "signature", signature.map(|()| format!("by the {by}")));
}

/// Not made after the time of judging.
pub(super) fn this_update(made: Timestamp, at: Timestamp) -> Result<String, String> {
    if made > at { Err(format!("{made}, after the time of judging, {at}")) } else { Ok(made.to_string()) }
}

/// Not out of date.
pub(super) fn next_update(next: Timestamp, at: Timestamp) -> Result<String, String> {
    if next < at { Err(format!("out of date since {next}; judged as of {at}")) } else { Ok(next.to_string()) }
}
