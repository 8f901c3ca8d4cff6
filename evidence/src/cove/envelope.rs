//! What is around the three tokens: a CBOR certificate, or an X.509 one.

use ciborium::Value;
use der::asn1::ObjectIdentifier;
use tsmsim_abi::cove::{
    claims,
    cose::{OID_UCCS_EVIDENCE, TAG_COSE_SIGN1, TAG_UCCS},
};

use super::{
    cbor::{self, Claims},
    token::Sign1,
};
use crate::x509::{Certificate, Malformed};

/// The extension with the tokens.
pub(super) const UCCS_EVIDENCE: ObjectIdentifier = ObjectIdentifier::new_unwrap(OID_UCCS_EVIDENCE);
/// First byte of DER's SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// The three tokens.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) platform: Sign1,
    pub(super) tsm: Sign1,
    pub(super) tvm: Sign1,
}

impl Tokens {
    /// Reads `{266: {"platform", "tsm", "tvm"}}`.
    fn read(value: Value) -> Result<Self, Malformed> {
        const PART: &str = "submodules";
        let mut outer = Claims::read(value, PART)?;
        let submodules = cbor::entries(outer.need(claims::SUBMODULES, PART)?, PART)?;
        outer.end()?;
        let (mut platform, mut tsm, mut tvm) = (None, None, None);
        for (name, token) in submodules {
            let name = cbor::text(name, PART)?;
            let (place, part) = match name.as_str() {
                claims::SUBMODULE_PLATFORM => (&mut platform, "platform token"),
                claims::SUBMODULE_TSM => (&mut tsm, "tsm token"),
                claims::SUBMODULE_TVM => (&mut tvm, "tvm token"),
                _ => return Err(Malformed::new(PART, "one that is neither platform, nor tsm, nor tvm")),
            };
            if place.replace(Sign1::read(token, part)?).is_some() {
                return Err(Malformed::new(part, "stands twice"));
            }
        }
        let missing = |name| move || Malformed::new(PART, format!("{name} is missing"));
        Ok(Self {
            platform: platform.ok_or_else(missing(claims::SUBMODULE_PLATFORM))?,
            tsm: tsm.ok_or_else(missing(claims::SUBMODULE_TSM))?,
            tvm: tvm.ok_or_else(missing(claims::SUBMODULE_TVM))?,
        })
    }
}

/// The certificate in either format.
#[derive(Clone, Debug)]
pub(super) enum Envelope<'a> {
    /// Format 1.
    Cbor { token: Sign1, issuer: String, subject: String },
    /// Format 2.
    X509(Box<Certificate<'a>>),
}

/// Reads evidence of either format.
pub(super) fn read(bytes: &[u8]) -> Result<(Envelope<'_>, Tokens), Malformed> {
    match bytes.first() {
        None => Err(Malformed::new("format", "there are no bytes")),
        Some(&SEQUENCE) => read_x509(bytes),
        Some(_) => read_cbor(bytes),
    }
}

fn read_cbor(bytes: &[u8]) -> Result<(Envelope<'_>, Tokens), Malformed> {
    let token = Sign1::read(cbor::read(bytes, "COSE_Sign1")?, "COSE_Sign1")?;
    let mut claims = token.claims()?;
    let issuer = cbor::text(claims.need(claims::ISSUER, "issuer")?, "issuer")?;
    let subject = cbor::text(claims.need(claims::SUBJECT, "subject")?, "subject")?;
    let tokens = Tokens::read(claims.need(claims::EVIDENCE, "evidence")?)?;
    claims.end()?;
    if token.kid.is_some() {
        return Err(Malformed::new("kid", "does not belong into a certificate"));
    }
    Ok((Envelope::Cbor { token, issuer, subject }, tokens))
}

fn read_x509(bytes: &[u8]) -> Result<(Envelope<'_>, Tokens), Malformed> {
    let certificate = Certificate::read(bytes)?;
    let Some(extension) = certificate.extension(UCCS_EVIDENCE) else {
        return Err(Malformed::new("UccsEvidence", "missing: a certificate without evidence"));
    };
    let tokens = read_extension(extension.value)?;
    Ok((Envelope::X509(Box::new(certificate)), tokens))
}

fn read_extension(value: &[u8]) -> Result<Tokens, Malformed> {
    const PART: &str = "UccsEvidence";
    Tokens::read(cbor::tagged(cbor::read(value, PART)?, TAG_UCCS, PART)?)
}

/// Whether bytes are to be taken for evidence: a certificate with the extension, or a COSE_Sign1.
pub(super) fn is_evidence(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&SEQUENCE) => {
            Certificate::read(bytes).is_ok_and(|certificate| certificate.extension(UCCS_EVIDENCE).is_some())
        }
        // The head of tag 18 is one byte. SNP reports, quotes and the rest do not begin with it.
        Some(first) if u64::from(*first) == 0xc0 | TAG_COSE_SIGN1 => read_cbor(bytes).is_ok(),
        _ => false,
    }
}
