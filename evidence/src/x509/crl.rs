//! Certificate revocation lists.

use der::{Tag, asn1::ObjectIdentifier};

use super::{
    algorithm::octets,
    certificate::{Extension, context, read_extensions, read_time, serial_number},
    name::Name,
    walk::{Element, Malformed, Walk},
};
use crate::Timestamp;

/// An entry of `revokedCertificates`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked<'a> {
    /// Content octets of the serial number.
    pub serial_number: &'a [u8],
    /// Since when.
    pub date: Timestamp,
    /// `crlEntryExtensions`, DER; empty if there are none.
    pub extensions: &'a [u8],
}

/// `CertificateList`, RFC 5280 section 5.1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationList<'a> {
    /// All of it, DER.
    pub encoding: &'a [u8],
    /// `tbsCertList`, DER: what the signature covers.
    pub signed: &'a [u8],
    /// 1 or 2: one more than the number in the field.
    pub version: u8,
    /// The algorithm identifier inside the signed part, DER.
    pub inner_algorithm: &'a [u8],
    /// `issuer`.
    pub issuer: Name<'a>,
    /// When it was made.
    pub this_update: Timestamp,
    /// Until when the next is made.
    pub next_update: Option<Timestamp>,
    /// What is revoked.
    pub revoked: Vec<Revoked<'a>>,
    /// `crlExtensions`.
    pub extensions: Vec<Extension<'a>>,
    /// The algorithm identifier outside the signed part, DER.
    pub outer_algorithm: &'a [u8],
    /// `signatureValue`.
    pub signature: &'a [u8],
}

impl<'a> RevocationList<'a> {
    /// Reads DER; every byte must belong to a known field in its canonical encoding.
    ///
    /// # Errors
    /// Which part is malformed.
    pub fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Walk::only(der, Tag::Sequence, "certificateList")?.walk()?;
        let signed = outer.expect(Tag::Sequence, "tbsCertList")?;
        let outer_algorithm = outer.expect(Tag::Sequence, "signatureAlgorithm")?.encoding;
        let signature = octets(outer.expect(Tag::BitString, "signatureValue")?)?;
        outer.end()?;

        let mut fields = signed.walk()?;
        let version = match fields.optional(&[Tag::Integer], "tbsCertList.version")? {
            None => 1,
            Some(number) if number.decode::<u8>()? == 1 => 2,
            Some(number) => return Err(number.malformed("not version 2")),
        };
        let inner_algorithm = fields.expect(Tag::Sequence, "tbsCertList.signature")?.encoding;
        let issuer = Name::read(fields.expect(Tag::Sequence, "tbsCertList.issuer")?)?;
        let this_update = read_time(fields.next("tbsCertList.thisUpdate")?)?;
        let times = [Tag::UtcTime, Tag::GeneralizedTime];
        let next_update = fields.optional(&times, "tbsCertList.nextUpdate")?.map(read_time).transpose()?;
        let revoked = match fields.optional(&[Tag::Sequence], "tbsCertList.revokedCertificates")? {
            Some(list) => read_revoked(list)?,
            None => Vec::new(),
        };
        let extensions = match fields.optional(&[context(0)], "tbsCertList.crlExtensions")? {
            Some(explicit) => read_extensions(explicit)?,
            None => Vec::new(),
        };
        fields.end()?;
        Ok(Self {
            encoding: der,
            signed: signed.encoding,
            version,
            inner_algorithm,
            issuer,
            this_update,
            next_update,
            revoked,
            extensions,
            outer_algorithm,
            signature,
        })
    }

    /// The extension with this OID, if there is one.
    #[must_use]
    pub fn extension(&self, oid: ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }
}

/// At least one entry: an empty list must be left out (RFC 5280 section 5.1.2.6).
fn read_revoked(element: Element<'_>) -> Result<Vec<Revoked<'_>>, Malformed> {
    let mut list = element.walk()?;
    let mut revoked = Vec::new();
    while !list.is_finished() || revoked.is_empty() {
        let mut fields = list.expect(Tag::Sequence, element.part)?.walk()?;
        let serial_number = serial_number(fields.expect(Tag::Integer, element.part)?)?;
        let date = read_time(fields.next(element.part)?)?;
        let extensions =
            fields.optional(&[Tag::Sequence], element.part)?.map_or(&[][..], |list| list.encoding);
        fields.end()?;
        revoked.push(Revoked { serial_number, date, extensions });
    }
    Ok(revoked)
}
