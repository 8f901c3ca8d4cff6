//! Distinguished names.

use der::{
    Tag,
    asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef},
};

use super::walk::{Element, Malformed};
use crate::{hex::hex, tree::printable};

/// `AttributeTypeAndValue`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// What it is.
    pub oid: ObjectIdentifier,
    /// The text, of a UTF8String, PrintableString or IA5String; `None` for other types.
    pub text: Option<String>,
    /// The encoded value.
    pub encoding: Vec<u8>,
    /// Whether it stands in one set with the attribute before it.
    pub joined: bool,
}

/// `Name`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    /// DER.
    pub encoding: &'a [u8],
    /// The attributes in order.
    pub attributes: Vec<Attribute>,
}

impl<'a> Name<'a> {
    pub(super) fn read(element: Element<'a>) -> Result<Self, Malformed> {
        let part = element.part;
        let mut attributes = Vec::new();
        let mut sets = element.walk()?;
        while !sets.is_finished() {
            let mut set = sets.expect(Tag::Set, part)?.walk()?;
            let mut joined = false;
            while !set.is_finished() || !joined {
                let mut pair = set.expect(Tag::Sequence, part)?.walk()?;
                let oid = pair.expect(Tag::ObjectIdentifier, part)?.decode()?;
                let value = pair.next(part)?;
                pair.end()?;
                attributes.push(Attribute {
                    oid,
                    text: text(value)?,
                    encoding: value.encoding.to_vec(),
                    joined,
                });
                joined = true;
            }
        }
        Ok(Self { encoding: element.encoding, attributes })
    }

    /// The common name, if there is exactly one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        let mut names = self.attributes.iter().filter(|attribute| attribute.oid == COMMON_NAME);
        match (names.next(), names.next()) {
            (Some(name), None) => name.text.as_deref(),
            _ => None,
        }
    }
}

fn text(value: Element<'_>) -> Result<Option<String>, Malformed> {
    Ok(Some(match value.tag {
        Tag::Utf8String => value.decode::<Utf8StringRef<'_>>()?.as_str().to_owned(),
        Tag::PrintableString => value.decode::<PrintableStringRef<'_>>()?.as_str().to_owned(),
        Tag::Ia5String => value.decode::<Ia5StringRef<'_>>()?.as_str().to_owned(),
        _ => return Ok(None),
    }))
}

/// `id-at-commonName`.
pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// `id-at-countryName`.
pub(crate) const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
/// `id-at-localityName`.
pub(crate) const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
/// `id-at-stateOrProvinceName`.
pub(crate) const STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
/// `id-at-organizationName`.
pub(crate) const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// `id-at-organizationalUnitName`.
pub(crate) const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

/// `id-at-serialNumber`.
pub(crate) const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");

const SHORT: [(ObjectIdentifier, &str); 7] = [
    (COMMON_NAME, "CN"),
    (COUNTRY, "C"),
    (LOCALITY, "L"),
    (STATE, "ST"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    (SERIAL_NUMBER, "serialNumber"),
];

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, attribute) in self.attributes.iter().enumerate() {
            let separator = match (index, attribute.joined) {
                (0, _) => "",
                (_, true) => "+",
                (_, false) => ", ",
            };
            f.write_str(separator)?;
            match SHORT.iter().find(|(oid, _)| *oid == attribute.oid) {
                Some((_, short)) => f.write_str(short)?,
                None => write!(f, "{}", attribute.oid)?,
            }
            match &attribute.text {
                Some(text) => write!(f, "={}", printable(text))?,
                None => write!(f, "=#{}", hex(&attribute.encoding))?,
            }
        }
        Ok(())
    }
}
