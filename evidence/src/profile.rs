//! What the X.509 profiles of all technologies have in common. What a vendor adds to it stands with the technology.

use der::asn1::ObjectIdentifier;

use crate::{
    Timestamp, Verdict,
    hex::short,
    x509::{Certificate, Malformed, RevocationList, Validity},
};

pub(crate) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(crate) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
pub(crate) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
pub(crate) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Reads a certificate, or says which part is malformed or that there is none.
pub(crate) fn open_certificate<'a>(
    verdict: &mut Verdict,
    object: &'static str,
    der: Option<&'a [u8]>,
) -> Option<Certificate<'a>> {
    let Some(der) = der else {
        verdict.judge(object, "certificate", Err::<&str, _>("none given"));
        return None;
    };
    well_formed(verdict, object, Certificate::read(der))
}

/// Reads a revocation list, or says which part is malformed.
pub(crate) fn open_list<'a>(
    verdict: &mut Verdict,
    object: &'static str,
    der: &'a [u8],
) -> Option<RevocationList<'a>> {
    well_formed(verdict, object, RevocationList::read(der))
}

fn well_formed<T>(verdict: &mut Verdict, object: &'static str, read: Result<T, Malformed>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(malformed) => {
            verdict.judge(object, malformed.part, Err::<&str, _>(malformed.why));
            None
        }
    }
}

/// Version 3: the only one with extensions.
pub(crate) fn check_version(certificate: &Certificate<'_>) -> Result<&'static str, String> {
    match certificate.version {
        3 => Ok("3"),
        other => Err(format!("{other}, where 3 is expected")),
    }
}

/// Not negative, at most 20 octets (RFC 5280 section 4.1.2.2), not counting the zero before a first bit that is set. Zero
/// itself is what AMD gives to every VCEK and VLEK.
pub(crate) fn check_serial_number(serial_number: &[u8]) -> Result<String, &'static str> {
    let value = serial_number.strip_prefix(&[0]).unwrap_or(serial_number);
    if serial_number.first().is_some_and(|first| first & 0x80 != 0) {
        Err("negative")
    } else if value.len() > 20 {
        Err("longer than 20 octets")
    } else {
        Ok(short(serial_number))
    }
}

pub(crate) fn check_validity(validity: Validity, at: Timestamp) -> Result<String, String> {
    let Validity { not_before, not_after } = validity;
    if at < not_before {
        Err(format!("not valid before {not_before}; judged as of {at}"))
    } else if at > not_after {
        Err(format!("expired at {not_after}; judged as of {at}"))
    } else {
        Ok(format!("{not_before} to {not_after}"))
    }
}

/// An extension that a certificate must have.
pub(crate) struct Expected {
    /// Its name.
    pub(crate) field: &'static str,
    pub(crate) oid: ObjectIdentifier,
    pub(crate) critical: bool,
    /// Its value; `None` if that can be any.
    pub(crate) value: Option<Vec<u8>>,
}

impl Expected {
    pub(crate) const fn new(
        field: &'static str,
        oid: ObjectIdentifier,
        critical: bool,
        value: Option<Vec<u8>>,
    ) -> Self {
        Self { field, oid, critical, value }
    }

    fn check(&self, certificate: &Certificate<'_>, whose: &str) -> Result<String, String> {
        let present = certificate.extension(self.oid).ok_or("missing")?;
        match (present.critical, self.critical) {
            (false, true) => return Err("not marked as critical".to_owned()),
            (true, false) => return Err("marked as critical".to_owned()),
            _ => {}
        }
        if self.value.as_ref().is_some_and(|value| value != present.value) {
            return Err(format!("not what {whose} certificates have"));
        }
        if self.oid == SUBJECT_KEY_IDENTIFIER && subject_key_identifier(certificate).is_none() {
            return Err("not an octet string of 20 bytes".to_owned());
        }
        Ok(format!("as {whose}"))
    }
}

/// Judges the extensions that must be there, and refuses others but those that are judged elsewhere. `whose` they are:
/// `AMD's`.
pub(crate) fn judge_extensions(
    verdict: &mut Verdict,
    (object, certificate): (&'static str, &Certificate<'_>),
    whose: &str,
    expected: &[Expected],
    elsewhere: impl Fn(ObjectIdentifier) -> bool,
) {
    for extension in expected {
        verdict.judge(object, extension.field, extension.check(certificate, whose));
    }
    let known = |oid| expected.iter().any(|extension| extension.oid == oid) || elsewhere(oid);
    judge_no_others(verdict, (object, certificate), known);
}

/// Refuses extensions that are not known.
pub(crate) fn judge_no_others(
    verdict: &mut Verdict,
    (object, certificate): (&'static str, &Certificate<'_>),
    known: impl Fn(ObjectIdentifier) -> bool,
) {
    let result = match certificate.extensions.iter().find(|extension| !known(extension.oid)) {
        Some(other) => Err(format!("{} does not belong into a {object}", other.oid)),
        None => Ok(format!("{}, no others", certificate.extensions.len())),
    };
    verdict.judge(object, "extensions", result);
}

/// The 20 bytes in a certificate's `subjectKeyIdentifier`.
pub(crate) fn subject_key_identifier<'a>(certificate: &Certificate<'a>) -> Option<&'a [u8]> {
    let value = certificate.extension(SUBJECT_KEY_IDENTIFIER)?.value;
    value.strip_prefix(&[0x04, 20]).filter(|identifier| identifier.len() == 20)
}

/// The `authorityKeyIdentifier` of whatever the key with this identifier signs: the identifier and nothing else.
pub(crate) fn authority_key_identifier(identifier: &[u8]) -> Option<Vec<u8>> {
    (identifier.len() == 20).then(|| [&[0x30, 0x16, 0x80, 20], identifier].concat())
}

/// The same of whatever this certificate's key signs.
pub(crate) fn authority_of(issuer: &Certificate<'_>) -> Option<Vec<u8>> {
    subject_key_identifier(issuer).and_then(authority_key_identifier)
}

/// A revocation list's version, and that its algorithm, which `algorithm` tells of, is the issuer's; its issuer, whose
/// certificate and name are given; and its times.
pub(crate) fn judge_list_fields(
    verdict: &mut Verdict,
    object: &'static str,
    list: &RevocationList<'_>,
    algorithm: Result<&'static str, String>,
    (by, issuer): (&str, Option<&Certificate<'_>>),
) {
    let version = if list.version == 2 { Ok("2") } else { Err("1, where 2 is expected") };
    verdict.judge(object, "version", version);
    verdict.judge(object, "signatureAlgorithm", algorithm);
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
}

/// Key identifier of the issuer and a number; nothing else.
pub(crate) fn check_list_extensions(
    list: &RevocationList<'_>,
    (by, issuer): (&str, Option<&Certificate<'_>>),
) -> Result<&'static str, String> {
    let known = [AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER];
    if let Some(other) = list.extensions.iter().find(|extension| !known.contains(&extension.oid)) {
        return Err(format!("{} does not belong into the list", other.oid));
    }
    let identifier =
        list.extension(AUTHORITY_KEY_IDENTIFIER).ok_or("authorityKeyIdentifier is missing")?.value;
    if issuer.and_then(authority_of).as_deref() != Some(identifier) {
        return Err(format!("authorityKeyIdentifier does not name the {by}'s key"));
    }
    list.extension(CRL_NUMBER).map(|_| "as they must be").ok_or_else(|| "cRLNumber is missing".to_owned())
}

/// How many entries a list has, and its signature. Whatever an entry's extensions say, the entry is taken as revoked.
pub(crate) fn judge_list_signature(
    verdict: &mut Verdict,
    object: &'static str,
    list: &RevocationList<'_>,
    by: &str,
    signature: Option<Result<(), String>>,
) {
    verdict.judge(object, "revokedCertificates", Ok::<_, &str>(format!("{} entries", list.revoked.len())));
    let signature = signature.unwrap_or_else(|| Err(format!("there is no {by} to check it with")));
    verdict.judge(object, "signature", signature.map(|()| format!("by the {by}")));
}

/// Judges a certificate by a list.
pub(crate) fn judge_revocation(
    verdict: &mut Verdict,
    (object, certificate): (&'static str, &Certificate<'_>),
    list: &RevocationList<'_>,
    name: &str,
) {
    let entry = list.revoked.iter().find(|entry| entry.serial_number == certificate.serial_number);
    let result = match entry {
        Some(entry) => {
            Err(format!("serial number {} was revoked at {}", short(entry.serial_number), entry.date))
        }
        None => Ok(format!("not in the {name}")),
    };
    verdict.judge(object, "revocation", result);
}

/// Not made after the time of judging.
pub(crate) fn this_update(made: Timestamp, at: Timestamp) -> Result<String, String> {
    if made > at { Err(format!("{made}, after the time of judging, {at}")) } else { Ok(made.to_string()) }
}

/// Not out of date.
pub(crate) fn next_update(next: Timestamp, at: Timestamp) -> Result<String, String> {
    if next < at { Err(format!("out of date since {next}; judged as of {at}")) } else { Ok(next.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_have_twenty_octets_at_most() {
        let check = |octets: &[u8]| check_serial_number(octets).map(drop);
        assert_eq!(check(&[1; 20]), Ok(()));
        assert_eq!(check(&[1; 21]), Err("longer than 20 octets"));
        assert_eq!(check(&[&[0][..], &[0x80; 20]].concat()), Ok(()));
        assert_eq!(check(&[&[0][..], &[0x80; 21]].concat()), Err("longer than 20 octets"));
        assert_eq!((check(&[0]), check(&[0x80])), (Ok(()), Err("negative")));
    }
}
