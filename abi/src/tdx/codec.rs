//! Reading and writing what has no fixed size: a cursor over bytes, bounded and without allocation.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The bytes end inside a part.
    Truncated {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Its size.
        needed: usize,
        /// Bytes that are left there.
        left: usize,
    },
    /// A field has a value that the format does not have, or that this reader does not know.
    Unsupported {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A size field contradicts the format or the other sizes.
    Size {
        /// Of which part.
        what: &'static str,
        /// What is stated.
        stated: u64,
        /// What it should be.
        expected: u64,
    },
    /// Bytes are left where the format has none.
    Trailing {
        /// Behind which part.
        what: &'static str,
        /// How many.
        left: usize,
    },
    /// Text is not as the format asks.
    Text {
        /// Which part.
        what: &'static str,
    },
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated { what, offset, needed, left } => {
                write!(f, "{what} at offset {offset:#x} needs {needed} bytes, {left} are left")
            }
            Self::Unsupported { what, value } => write!(f, "{what} is {value:#x}, which is not supported"),
            Self::Size { what, stated, expected } => {
                write!(f, "size of {what} is stated as {stated}, should be {expected}")
            }
            Self::Trailing { what, left } => write!(f, "{left} bytes are left behind {what}"),
            Self::Text { what } => write!(f, "{what} is not well-formed text"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Why something cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// The buffer is too small.
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        capacity: usize,
    },
    /// A part is longer than its size field can say.
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// The parts do not go together.
    Inconsistent {
        /// Which field.
        what: &'static str,
    },
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BufferTooSmall { needed, capacity } => {
                write!(f, "{needed} bytes do not fit into a buffer of {capacity}")
            }
            Self::TooLong { what, size } => {
                write!(f, "{what} of {size} bytes is too long for its size field")
            }
            Self::Inconsistent { what } => write!(f, "{what} does not go with the other parts"),
        }
    }
}

impl core::error::Error for WriteError {}

/// Reads from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self, size: usize, what: &'static str) -> Result<&'a [u8], ReadError> {
        let rest = self.rest();
        let Some(part) = rest.get(..size) else {
            return Err(ReadError::Truncated { what, offset: self.offset, needed: size, left: rest.len() });
        };
        self.offset += size;
        Ok(part)
    }

    /// As [`Self::bytes`], for a size as formats state it.
    pub(crate) fn sized(&mut self, size: u32, what: &'static str) -> Result<&'a [u8], ReadError> {
        self.bytes(usize::try_from(size).unwrap_or(usize::MAX), what)
    }

    /// A fixed layout, in place.
    pub(crate) fn part<T>(&mut self, what: &'static str) -> Result<&'a T, ReadError>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let offset = self.offset;
        let bytes = self.bytes(size_of::<T>(), what)?;
        let needed = size_of::<T>();
        T::ref_from_bytes(bytes).map_err(|_| ReadError::Truncated { what, offset, needed, left: bytes.len() })
    }

    /// That nothing is left behind `what`.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), ReadError> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(ReadError::Trailing { what, left }),
        }
    }
}

/// Writes to the front of a buffer that is large enough.
pub(crate) struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Writer<'o> {
    /// Into a buffer of which `needed` bytes will be written.
    pub(crate) fn new(out: &'o mut [u8], needed: usize) -> Result<Self, WriteError> {
        match out.len() {
            capacity if capacity < needed => Err(WriteError::BufferTooSmall { needed, capacity }),
            _ => Ok(Self { out, at: 0 }),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let capacity = self.out.len();
        let needed = self.at.saturating_add(bytes.len());
        let place = self.out.get_mut(self.at..needed);
        place.ok_or(WriteError::BufferTooSmall { needed, capacity })?.copy_from_slice(bytes);
        self.at = needed;
        Ok(())
    }

    pub(crate) fn part<T: IntoBytes + Immutable>(&mut self, part: &T) -> Result<(), WriteError> {
        self.bytes(part.as_bytes())
    }

    /// Bytes written.
    pub(crate) const fn written(self) -> usize {
        self.at
    }
}

/// A size as a `u32` field says it.
pub(crate) fn size_u32(size: usize, what: &'static str) -> Result<u32, WriteError> {
    u32::try_from(size).map_err(|_| WriteError::TooLong { what, size })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use zerocopy::little_endian::U16;

    use super::*;

    #[test]
    fn reads_to_the_end_and_no_further() {
        let mut reader = Reader::new(&[1, 0, 2, 3]);
        assert_eq!(reader.part::<U16>("first").unwrap().get(), 1);
        assert_eq!(reader.end("first"), Err(ReadError::Trailing { what: "first", left: 2 }));
        let error = reader.sized(3, "second").unwrap_err();
        assert_eq!(error.to_string(), "second at offset 0x2 needs 3 bytes, 2 are left");
        assert_eq!(reader.bytes(2, "second"), Ok(&[2, 3][..]));
        assert_eq!(reader.end("second"), Ok(()));
    }

    #[test]
    fn writes_no_further_than_the_buffer() {
        let mut buffer = [0; 3];
        assert!(Writer::new(&mut buffer, 4).is_err());
        let mut writer = Writer::new(&mut buffer, 3).unwrap();
        writer.part(&U16::new(0x0201)).unwrap();
        assert_eq!(writer.bytes(&[3, 4]), Err(WriteError::BufferTooSmall { needed: 4, capacity: 3 }));
        assert_eq!(writer.written(), 2);
        assert_eq!(buffer, [1, 2, 0]);
    }
}
