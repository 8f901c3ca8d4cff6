//! Certificates.

use der::{
    Tag, TagNumber,
    asn1::{GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime},
};

use super::{
    algorithm::{PublicKey, octets},
    name::Name,
    walk::{Element, Malformed, Walk},
};
use crate::Timestamp;

/// From when until when, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// First second.
    pub not_before: Timestamp,
    /// Last second.
    pub not_after: Timestamp,
}

/// `Extension`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    /// `extnID`.
    pub oid: ObjectIdentifier,
    /// Whether whoever does not know it must refuse.
    pub critical: bool,
    /// What is in `extnValue`.
    pub value: &'a [u8],
}

/// `Certificate`, RFC 5280 section 4.1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate<'a> {
    /// All of it, DER.
    pub encoding: &'a [u8],
    /// `tbsCertificate`, DER: what the signature covers.
    pub signed: &'a [u8],
    /// 1, 2 or 3: one more than the number in the field.
    pub version: u8,
    /// Content octets of the serial number: big-endian, two's complement.
    pub serial_number: &'a [u8],
    /// The algorithm identifier inside the signed part, DER.
    pub inner_algorithm: &'a [u8],
    /// `issuer`.
    pub issuer: Name<'a>,
    /// `validity`.
    pub validity: Validity,
    /// `subject`.
    pub subject: Name<'a>,
    /// `subjectPublicKeyInfo`.
    pub public_key: PublicKey<'a>,
    /// `extensions`.
    pub extensions: Vec<Extension<'a>>,
    /// The algorithm identifier outside the signed part, DER.
    pub outer_algorithm: &'a [u8],
    /// `signatureValue`.
    pub signature: &'a [u8],
}

pub(super) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

impl<'a> Certificate<'a> {
    /// Reads DER; every byte must belong to a known field in its canonical encoding.
    ///
    /// # Errors
    /// Which part is malformed.
    pub fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Walk::only(der, Tag::Sequence, "certificate")?.walk()?;
        let signed = outer.expect(Tag::Sequence, "tbsCertificate")?;
        let outer_algorithm = outer.expect(Tag::Sequence, "signatureAlgorithm")?.encoding;
        let signature = octets(outer.expect(Tag::BitString, "signatureValue")?)?;
        outer.end()?;

        let mut fields = signed.walk()?;
        let version = read_version(fields.optional(&[context(0)], "tbsCertificate.version")?)?;
        let serial_number = serial_number(fields.expect(Tag::Integer, "tbsCertificate.serialNumber")?)?;
        let inner_algorithm = fields.expect(Tag::Sequence, "tbsCertificate.signature")?.encoding;
        let issuer = Name::read(fields.expect(Tag::Sequence, "tbsCertificate.issuer")?)?;
        let validity = read_validity(fields.expect(Tag::Sequence, "tbsCertificate.validity")?)?;
        let subject = Name::read(fields.expect(Tag::Sequence, "tbsCertificate.subject")?)?;
        let public_key =
            PublicKey::read(fields.expect(Tag::Sequence, "tbsCertificate.subjectPublicKeyInfo")?)?;
        let extensions = match fields.optional(&[context(3)], "tbsCertificate.extensions")? {
            Some(explicit) => read_extensions(explicit)?,
            None => Vec::new(),
        };
        fields.end()?;
        Ok(Self {
            encoding: der,
            signed: signed.encoding,
            version,
            serial_number,
            inner_algorithm,
            issuer,
            validity,
            subject,
            public_key,
            extensions,
            outer_algorithm,
            signature,
        })
    }

    /// The extension with this OID, if there is one; the first of several.
    #[must_use]
    pub fn extension(&self, oid: ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }
}

fn read_version(explicit: Option<Element<'_>>) -> Result<u8, Malformed> {
    let Some(explicit) = explicit else { return Ok(1) };
    let mut inner = explicit.walk()?;
    let number: u8 = inner.expect(Tag::Integer, explicit.part)?.decode()?;
    inner.end()?;
    match number {
        1 | 2 => Ok(number + 1),
        _ => Err(explicit.malformed(format!("{number} is not a version"))),
    }
}

/// The octets of an INTEGER in its shortest form.
pub(super) fn serial_number(element: Element<'_>) -> Result<&[u8], Malformed> {
    match element.value {
        [] => Err(element.malformed("empty")),
        [0x00, second, ..] if second & 0x80 == 0 => Err(element.malformed("not in its shortest form")),
        [0xff, second, ..] if second & 0x80 != 0 => Err(element.malformed("not in its shortest form")),
        value => Ok(value),
    }
}

fn read_validity(element: Element<'_>) -> Result<Validity, Malformed> {
    let mut fields = element.walk()?;
    let not_before = read_time(fields.next("tbsCertificate.validity.notBefore")?)?;
    let not_after = read_time(fields.next("tbsCertificate.validity.notAfter")?)?;
    fields.end()?;
    Ok(Validity { not_before, not_after })
}

/// `Time`: a `UTCTime` through 2049, then a `GeneralizedTime` (RFC 5280 section 4.1.2.5).
pub(super) fn read_time(element: Element<'_>) -> Result<Timestamp, Malformed> {
    if element.tag == Tag::UtcTime {
        return Ok(element.decode::<UtcTime>()?.to_date_time().into());
    }
    let date = element.decode::<GeneralizedTime>()?.to_date_time();
    if date.year() <= UtcTime::MAX_YEAR {
        return Err(element.malformed("a GeneralizedTime before 2050"));
    }
    Ok(date.into())
}

/// Extensions inside their explicit tag; at least one, none twice.
pub(super) fn read_extensions(explicit: Element<'_>) -> Result<Vec<Extension<'_>>, Malformed> {
    let part = explicit.part;
    let mut wrapper = explicit.walk()?;
    let mut list = wrapper.expect(Tag::Sequence, part)?.walk()?;
    wrapper.end()?;
    let mut extensions: Vec<Extension<'_>> = Vec::new();
    while !list.is_finished() || extensions.is_empty() {
        let mut fields = list.expect(Tag::Sequence, part)?.walk()?;
        let oid: ObjectIdentifier = fields.expect(Tag::ObjectIdentifier, part)?.decode()?;
        let critical = match fields.optional(&[Tag::Boolean], part)? {
            Some(critical) if critical.decode::<bool>()? => true,
            Some(_) => return Err(explicit.malformed(format!("{oid}: the default FALSE is written out"))),
            None => false,
        };
        let value = fields.expect(Tag::OctetString, part)?.decode::<&OctetStringRef>()?.as_bytes();
        fields.end()?;
        if extensions.iter().any(|present| present.oid == oid) {
            return Err(explicit.malformed(format!("{oid} stands twice")));
        }
        extensions.push(Extension { oid, critical, value });
    }
    Ok(extensions)
}
