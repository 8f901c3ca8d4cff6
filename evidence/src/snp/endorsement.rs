//! VCEK and VLEK: AMD's own extensions (57230, table 8).

use der::{
    Decode,
    asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef},
};
use tsmsim_abi::snp::tcb::{ProductLine, TcbParts};

use super::CertificateKind;
use crate::{
    Verdict,
    hex::short,
    profile::{AUTHORITY_KEY_IDENTIFIER, authority_of, judge_no_others},
    tree::printable,
    x509::{Certificate, Extension},
};

/// AMD's extensions: name and OID.
pub(crate) const EXTENSIONS: [(&str, ObjectIdentifier); 13] = [
    ("structVersion", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1")),
    ("productName", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2")),
    ("blSPL", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1")),
    ("teeSPL", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2")),
    ("snpSPL", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3")),
    ("spl4", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4")),
    ("spl5", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5")),
    ("spl6", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6")),
    ("spl7", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7")),
    ("ucodeSPL", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8")),
    ("fmcSPL", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9")),
    ("hwID", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4")),
    ("cspID", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5")),
];

/// What a VCEK or VLEK says. A part that it says wrongly, or not at all, is `None` and has been refused.
pub(super) struct Endorsement<'a> {
    pub(super) kind: CertificateKind,
    /// The uncompressed point.
    pub(super) point: Option<&'a [u8; 97]>,
    pub(super) line: Option<ProductLine>,
    pub(super) tcb: Option<TcbParts>,
    /// 64 or, on Turin, 8 bytes.
    pub(super) hwid: Option<&'a [u8]>,
}

/// Judges key and extensions.
pub(super) fn judge<'a>(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'a>,
    issuer: Option<&Certificate<'_>>,
    line: Option<ProductLine>,
) -> Endorsement<'a> {
    let point = certificate.public_key.p384();
    verdict.judge(kind.name(), "subjectPublicKeyInfo", point.clone().map(|_| "on P-384"));
    let mut known: Vec<ObjectIdentifier> = vec![AUTHORITY_KEY_IDENTIFIER];
    known.extend(expected_fields(kind, line).filter_map(oid));
    judge_no_others(verdict, (kind.name(), certificate), |oid| known.contains(&oid));
    judge_authority_key(verdict, kind, certificate, issuer);

    let mut fields = Fields { verdict, kind, certificate };
    fields.judge("structVersion", |value| small_number(value).map(|number| (number, number.to_string())));
    let named = fields.judge("productName", |value| product_name(kind, value, line));
    let tcb = fields.tcb(line);
    let hwid = (kind == CertificateKind::Vcek)
        .then(|| fields.judge("hwID", |value| hwid(value, line).map(|id| (id, short(id)))))
        .flatten();
    if kind == CertificateKind::Vlek {
        fields.judge("cspID", |value| csp_id(value).map(|id| ((), id)));
    }
    Endorsement { kind, point: point.ok(), line: named, tcb, hwid }
}

/// The fields that a certificate must have.
fn expected_fields(kind: CertificateKind, line: Option<ProductLine>) -> impl Iterator<Item = &'static str> {
    let turin = line == Some(ProductLine::Turin);
    let names = EXTENSIONS.iter().map(|(name, _)| *name);
    names.filter(move |name| match *name {
        "hwID" => kind == CertificateKind::Vcek,
        "cspID" => kind == CertificateKind::Vlek,
        // Turin's layout has no fourth level and puts the FMC first.
        "spl4" => !turin,
        "fmcSPL" => turin,
        _ => true,
    })
}

fn oid(field: &str) -> Option<ObjectIdentifier> {
    EXTENSIONS.iter().find(|(name, _)| *name == field).map(|(_, oid)| *oid)
}

/// Not in AMD's own certificates as of now, but allowed; then it must name the issuer's key.
fn judge_authority_key(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) {
    let Some(extension) = certificate.extension(AUTHORITY_KEY_IDENTIFIER) else { return };
    let expected = issuer.and_then(authority_of);
    let result = match expected {
        Some(expected) if expected == extension.value && !extension.critical => Ok("the issuer's key"),
        _ => Err("does not name the issuer's key"),
    };
    verdict.judge(kind.name(), "authorityKeyIdentifier", result);
}

struct Fields<'v, 'c, 'a> {
    verdict: &'v mut Verdict,
    kind: CertificateKind,
    certificate: &'c Certificate<'a>,
}

impl<'a> Fields<'_, '_, 'a> {
    /// Reads a field and enters it into the verdict with the text that the reader gives.
    fn judge<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&'a [u8]) -> Result<(T, String), String>,
    ) -> Option<T> {
        let extension = oid(field).and_then(|oid| self.certificate.extension(oid));
        let result = match extension {
            None => Err("missing".to_owned()),
            Some(Extension { critical: true, .. }) => Err("marked as critical".to_owned()),
            Some(extension) => read(extension.value),
        };
        let (value, result) = match result {
            Ok((value, text)) => (Some(value), Ok(text)),
            Err(why) => (None, Err(why)),
        };
        self.verdict.judge(self.kind.name(), field, result);
        value
    }

    fn level(&mut self, field: &'static str) -> Option<u8> {
        self.judge(field, |value| small_number(value).map(|level| (level, level.to_string())))
    }

    fn tcb(&mut self, line: Option<ProductLine>) -> Option<TcbParts> {
        let turin = line == Some(ProductLine::Turin);
        let fmc = if turin { self.level("fmcSPL") } else { None };
        let [boot_loader, tee, snp] = ["blSPL", "teeSPL", "snpSPL"].map(|field| self.level(field));
        let reserved: &[&'static str] =
            if turin { &["spl5", "spl6", "spl7"] } else { &["spl4", "spl5", "spl6", "spl7"] };
        for field in reserved {
            self.judge(field, |value| match small_number(value)? {
                0 => Ok(((), "0".to_owned())),
                level => Err(format!("{level}, but the level is reserved and must be 0")),
            });
        }
        let microcode = self.level("ucodeSPL");
        if turin && fmc.is_none() {
            return None;
        }
        Some(TcbParts { fmc, boot_loader: boot_loader?, tee: tee?, snp: snp?, microcode: microcode? })
    }
}

/// INTEGER, 0 to 255.
fn small_number(value: &[u8]) -> Result<u8, String> {
    u8::from_der(value).map_err(|error| format!("not an INTEGER from 0 to 255: {error}"))
}

/// `Milan-B0`: the line, and in a VCEK the stepping. Bergamo and Siena stand under Genoa.
fn product_name(
    kind: CertificateKind,
    value: &[u8],
    line: Option<ProductLine>,
) -> Result<(ProductLine, String), String> {
    let text = Ia5StringRef::from_der(value).map_err(|error| format!("not an IA5String: {error}"))?;
    let (name, stepping) = match text.as_str().split_once('-') {
        Some((name, stepping)) => (name, Some(stepping)),
        None => (text.as_str(), None),
    };
    let named = match name {
        "Bergamo" | "Siena" => Some(ProductLine::Genoa),
        name => ProductLine::ALL.into_iter().find(|line| line.name() == name),
    };
    let text = printable(text.as_str());
    match named {
        None => Err(format!("`{text}` is no known product")),
        Some(_) if stepping.is_some_and(|stepping| !is_stepping(stepping)) => {
            Err(format!("`{text}` has no known stepping"))
        }
        Some(_) if stepping.is_some() && kind == CertificateKind::Vlek => {
            Err(format!("`{text}` has a stepping, which a VLEK has not"))
        }
        Some(named) if line.is_some_and(|line| line != named) => {
            Err(format!("`{text}`, but the chain is of another line"))
        }
        Some(named) => Ok((named, text)),
    }
}

/// `B0`: a letter and a digit.
fn is_stepping(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, digit] if letter.is_ascii_uppercase() && digit.is_ascii_digit())
}

/// The bare bytes, as AMD writes them, or an OCTET STRING of them, as 57230 describes it.
fn hwid(value: &[u8], line: Option<ProductLine>) -> Result<&[u8], String> {
    let expected = line.map_or(64, ProductLine::hwid_len);
    if value.len() == expected {
        return Ok(value);
    }
    match <&OctetStringRef>::from_der(value).map(OctetStringRef::as_bytes) {
        Ok(inner) if inner.len() == expected => Ok(inner),
        _ => Err(format!("{} bytes, where {expected} are expected", value.len())),
    }
}

fn csp_id(value: &[u8]) -> Result<String, String> {
    let text = Ia5StringRef::from_der(value).map_err(|error| format!("not an IA5String: {error}"))?;
    match text.as_str() {
        "" => Err("empty".to_owned()),
        text => Ok(printable(text)),
    }
}
