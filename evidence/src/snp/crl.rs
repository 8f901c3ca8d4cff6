//! The revocation list of the ARK.

use super::{
    CertificateKind, Policy,
    certificates::{AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER, authority_key_identifier},
};
use crate::{
    Timestamp, Verdict,
    hex::short,
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
    let list = match RevocationList::read(der) {
        Ok(list) => list,
        Err(malformed) => {
            verdict.judge(OBJECT, malformed.part, Err::<&str, _>(malformed.why));
            return;
        }
    };
    let ark = certificates.iter().find(|(kind, _)| *kind == CertificateKind::Ark);
    let ark = ark.and_then(|(_, certificate)| certificate.as_ref());
    judge_list(verdict, &list, ark);
    for (kind, certificate) in certificates {
        let Some(certificate) = certificate else { continue };
        let entry = list.revoked.iter().find(|entry| entry.serial_number == certificate.serial_number);
        let result = match entry {
            Some(entry) => {
                Err(format!("serial number {} was revoked at {}", short(entry.serial_number), entry.date))
            }
            None => Ok("not in the revocation list"),
        };
        verdict.judge(kind.name(), "revocation", result);
    }
}

fn judge_list(verdict: &mut Verdict, list: &RevocationList<'_>, ark: Option<&Certificate<'_>>) {
    let version = if list.version == 2 { Ok("2") } else { Err("1, where 2 is expected") };
    verdict.judge(OBJECT, "version", version);
    let algorithms = SignatureAlgorithmFault::check(list.inner_algorithm, list.outer_algorithm);
    let named = algorithms.map(|()| "RSASSA-PSS, SHA-384, salt 48");
    verdict.judge(OBJECT, "signatureAlgorithm", named.map_err(|fault| fault.to_string()));
    let issuer = match ark {
        Some(ark) if ark.subject.encoding == list.issuer.encoding => Ok("the ARK's name"),
        _ => Err("not the subject of the ARK"),
    };
    verdict.judge(OBJECT, "issuer", issuer);
    verdict.judge(OBJECT, "thisUpdate", this_update(list, verdict.at));
    verdict.judge(OBJECT, "nextUpdate", next_update(list, verdict.at));
    verdict.judge(OBJECT, "crlExtensions", extensions(list, ark));
    // Whatever an entry's extensions say, the entry is taken as revoked.
    verdict.judge(OBJECT, "revokedCertificates", Ok::<_, &str>(format!("{} entries", list.revoked.len())));
    let signature = match ark {
        Some(ark) => verify_pss_sha384(&ark.public_key, list.signed, list.signature),
        None => Err("there is no ARK to check it with".to_owned()),
    };
    verdict.judge(OBJECT, "signature", signature.map(|()| "by the ARK"));
}

fn this_update(list: &RevocationList<'_>, at: Timestamp) -> Result<String, String> {
    if list.this_update > at {
        return Err(format!("{}, after the time of judging, {at}", list.this_update));
    }
    Ok(list.this_update.to_string())
}

fn next_update(list: &RevocationList<'_>, at: Timestamp) -> Result<String, String> {
    match list.next_update {
        None => Err("missing: it cannot be told whether the list is out of date".to_owned()),
        Some(next) if next < at => Err(format!("out of date since {next}; judged as of {at}")),
        Some(next) => Ok(next.to_string()),
    }
}

/// Key identifier of the ARK, and a number; of others only what is not critical.
fn extensions(list: &RevocationList<'_>, ark: Option<&Certificate<'_>>) -> Result<String, String> {
    if let Some(identifier) = list.extension(AUTHORITY_KEY_IDENTIFIER)
        && ark.and_then(authority_key_identifier).as_deref() != Some(identifier.value)
    {
        return Err("authorityKeyIdentifier does not name the ARK's key".to_owned());
    }
    let known = [AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER];
    match list.extensions.iter().find(|extension| extension.critical && !known.contains(&extension.oid)) {
        Some(unknown) => Err(format!("{} is critical and not known", unknown.oid)),
        None => Ok(format!("{} known", list.extensions.len())),
    }
}
