//! Walking through DER, saying where it goes wrong.

use der::{Decode, Header, Reader, SliceReader, Tag};

/// Bytes that are not the DER that they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{part}: {why}")]
pub struct Malformed {
    /// Which part, by its name in RFC 5280: `tbsCertificate.subject`.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
}

impl Malformed {
    pub(crate) fn new(part: impl Into<String>, why: impl ToString) -> Self {
        Self { part: part.into(), why: why.to_string() }
    }
}

/// One encoded value: tag, and the bytes with and without the header.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) part: &'static str,
    pub(crate) tag: Tag,
    pub(crate) encoding: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The values within.
    pub(crate) fn walk(self) -> Result<Walk<'a>, Malformed> {
        Walk::new(self.value, self.part)
    }

    /// As a type of the `der` crate, which checks that the encoding is the canonical one.
    pub(crate) fn decode<T: Decode<'a>>(self) -> Result<T, Malformed>
    where
        T::Error: core::fmt::Display,
    {
        T::from_der(self.encoding).map_err(|error| self.malformed(error))
    }

    pub(crate) fn malformed(self, why: impl ToString) -> Malformed {
        Malformed::new(self.part, why)
    }
}

/// The values in a string of bytes, one after the other.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    reader: SliceReader<'a>,
    part: &'static str,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8], part: &'static str) -> Result<Self, Malformed> {
        let reader = SliceReader::new(bytes).map_err(|error| Malformed::new(part, error))?;
        Ok(Self { bytes, reader, part })
    }

    /// The one value that the bytes are, with nothing behind it.
    pub(crate) fn only(bytes: &'a [u8], tag: Tag, part: &'static str) -> Result<Element<'a>, Malformed> {
        let mut walk = Self::new(bytes, part)?;
        let element = walk.expect(tag, part)?;
        walk.end()?;
        Ok(element)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next value, whatever its tag.
    pub(crate) fn next(&mut self, part: &'static str) -> Result<Element<'a>, Malformed> {
        self.take().map_err(|error| Malformed::new(part, error)).map(|mut element| {
            element.part = part;
            element
        })
    }

    /// The next value, which must have this tag.
    pub(crate) fn expect(&mut self, tag: Tag, part: &'static str) -> Result<Element<'a>, Malformed> {
        let element = self.next(part)?;
        if element.tag == tag {
            return Ok(element);
        }
        Err(element.malformed(format!("{tag} expected, not {}", element.tag)))
    }

    /// The next value if it has one of these tags.
    pub(crate) fn optional(
        &mut self,
        tags: &[Tag],
        part: &'static str,
    ) -> Result<Option<Element<'a>>, Malformed> {
        if self.is_finished() {
            return Ok(None);
        }
        let tag = Tag::peek(&self.reader).map_err(|error| Malformed::new(part, error))?;
        if tags.contains(&tag) { self.next(part).map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        self.reader.finish().map_err(|error| Malformed::new(self.part, error))
    }

    fn position(&self) -> der::Result<usize> {
        usize::try_from(self.reader.position())
    }

    fn take(&mut self) -> der::Result<Element<'a>> {
        let start = self.position()?;
        let header = Header::decode(&mut self.reader)?;
        let value = self.reader.read_slice(header.length())?;
        let end = self.position()?;
        let encoding = self.bytes.get(start..end).unwrap_or_default();
        Ok(Element { part: self.part, tag: header.tag(), encoding, value })
    }
}
