//! CBOR, strictly: deterministic encoding (RFC 8949 section 4.2.1, but for the order of keys, which the specification fixes
//! otherwise), bounded in size and depth, no label twice, none left over.

use ciborium::{
    de::{Error, from_reader_with_recursion_limit},
    ser::into_writer,
    value::Value,
};

use crate::x509::Malformed;

/// Evidence larger than this is not read: 256 KiB.
pub(super) const MAX_SIZE: usize = 256 << 10;
/// The deepest that evidence nests is less.
const MAX_DEPTH: usize = 24;

/// One item that is all of the bytes, in the deterministic encoding.
pub(super) fn read(bytes: &[u8], part: &'static str) -> Result<Value, Malformed> {
    let value = read_any(bytes, part)?;
    if encode(&value) != bytes {
        return Err(Malformed::new(part, "CBOR not in the deterministic encoding, or more than one item"));
    }
    Ok(value)
}

/// One item in any encoding; what stands behind it is not looked at.
pub(super) fn read_any(bytes: &[u8], part: &'static str) -> Result<Value, Malformed> {
    if bytes.len() > MAX_SIZE {
        let why = format!("{} bytes; more than {MAX_SIZE} are not read", bytes.len());
        return Err(Malformed::new(part, why));
    }
    from_reader_with_recursion_limit(bytes, MAX_DEPTH).map_err(|error: Error<_>| {
        let why = match error {
            Error::Io(_) => "CBOR breaks off".to_owned(),
            Error::Syntax(at) => format!("not CBOR at byte {at}"),
            Error::Semantic(..) => "not CBOR as it is used here".to_owned(),
            Error::RecursionLimitExceeded => format!("CBOR nested deeper than {MAX_DEPTH}"),
        };
        Malformed::new(part, why)
    })
}

/// The deterministic encoding.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing a Value to a Vec cannot fail; what were cut short would not compare equal to anything.
    let _ = into_writer(value, &mut bytes);
    bytes
}

/// What a tag holds.
pub(super) fn tagged(value: Value, tag: u64, part: &'static str) -> Result<Value, Malformed> {
    match value {
        Value::Tag(found, inner) if found == tag => Ok(*inner),
        Value::Tag(found, _) => Err(Malformed::new(part, format!("tag {found}, where {tag} is expected"))),
        other => Err(Malformed::new(part, format!("{}, where tag {tag} is expected", kind(&other)))),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "an integer",
        Value::Bytes(_) => "a byte string",
        Value::Float(_) => "a floating-point number",
        Value::Text(_) => "text",
        Value::Bool(_) | Value::Null => "a simple value",
        Value::Tag(..) => "a tag",
        Value::Array(_) => "an array",
        Value::Map(_) => "a map",
        _ => "something else",
    }
}

fn unexpected(value: &Value, expected: &str, part: &'static str) -> Malformed {
    Malformed::new(part, format!("{}, where {expected} is expected", kind(value)))
}

pub(super) fn bytes(value: Value, part: &'static str) -> Result<Vec<u8>, Malformed> {
    if let Value::Bytes(bytes) = value { Ok(bytes) } else { Err(unexpected(&value, "a byte string", part)) }
}

pub(super) fn sized<const N: usize>(value: Value, part: &'static str) -> Result<[u8; N], Malformed> {
    let bytes = bytes(value, part)?;
    let size = bytes.len();
    bytes.try_into().map_err(|_| Malformed::new(part, format!("{size} bytes, where {N} are expected")))
}

pub(super) fn text(value: Value, part: &'static str) -> Result<String, Malformed> {
    if let Value::Text(text) = value { Ok(text) } else { Err(unexpected(&value, "text", part)) }
}

pub(super) fn integer(value: &Value, part: &'static str) -> Result<i64, Malformed> {
    let number = value.as_integer().and_then(|number| i64::try_from(number).ok());
    number.ok_or_else(|| unexpected(value, "a 64-bit integer", part))
}

pub(super) fn unsigned(value: &Value, part: &'static str) -> Result<u64, Malformed> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| unexpected(value, "an unsigned integer", part))
}

pub(super) fn array(value: Value, part: &'static str) -> Result<Vec<Value>, Malformed> {
    if let Value::Array(items) = value { Ok(items) } else { Err(unexpected(&value, "an array", part)) }
}

pub(super) fn entries(value: Value, part: &'static str) -> Result<Vec<(Value, Value)>, Malformed> {
    if let Value::Map(entries) = value { Ok(entries) } else { Err(unexpected(&value, "a map", part)) }
}

/// A map from integers, from which the known labels are taken.
pub(super) struct Claims {
    part: &'static str,
    entries: Vec<(i64, Value)>,
}

impl Claims {
    pub(super) fn read(value: Value, part: &'static str) -> Result<Self, Malformed> {
        let mut claims = Self { part, entries: Vec::new() };
        for (label, value) in entries(value, part)? {
            let label = integer(&label, part)?;
            if claims.entries.iter().any(|(known, _)| *known == label) {
                return Err(Malformed::new(part, format!("label {label} stands twice")));
            }
            claims.entries.push((label, value));
        }
        Ok(claims)
    }

    /// The value of a label that may be absent.
    pub(super) fn take(&mut self, label: i64) -> Option<Value> {
        let index = self.entries.iter().position(|(known, _)| *known == label)?;
        Some(self.entries.swap_remove(index).1)
    }

    /// The value of a label that must be there.
    pub(super) fn need(&mut self, label: i64, name: &'static str) -> Result<Value, Malformed> {
        self.take(label).ok_or_else(|| Malformed::new(name, format!("missing (label {label})")))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        match self.entries.first() {
            Some((label, _)) => {
                Err(Malformed::new(self.part, format!("label {label} does not belong into it")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::integer(&[0x01], true)]
    #[case::longer_than_needed(&[0x18, 0x01], false)]
    #[case::two_items(&[0x01, 0x01], false)]
    #[case::indefinite(&[0x9f, 0x01, 0xff], false)]
    #[case::breaks_off(&[0x42, 0x01], false)]
    #[case::huge_length(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], false)]
    #[case::huge_array(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], false)]
    #[case::bignum_of_a_small_number(&[0xc2, 0x41, 0x01], false)]
    #[case::nothing(&[], false)]
    fn deterministic_only(#[case] bytes: &[u8], #[case] taken: bool) {
        assert_eq!(read(bytes, "test").is_ok(), taken);
    }

    #[rstest]
    #[case::arrays(0x81)]
    #[case::tags(0xd2)]
    #[case::maps(0xa1)]
    #[case::indefinite_arrays(0x9f)]
    #[case::indefinite_bytes(0x5f)]
    fn depth_is_bounded(#[case] head: u8) {
        assert!(read(&vec![head; MAX_SIZE], "test").is_err());
    }

    #[test]
    fn size_is_bounded() {
        let why = read(&vec![0; MAX_SIZE + 1], "test").unwrap_err().why;
        assert!(why.contains("are not read"), "{why}");
    }

    #[test]
    fn labels_stand_once_and_are_known() {
        let twice = read(&[0xa2, 0x01, 0x00, 0x01, 0x00], "test").unwrap();
        assert!(Claims::read(twice, "test").is_err());
        let mut claims = Claims::read(read(&[0xa1, 0x01, 0x00], "test").unwrap(), "test").unwrap();
        assert!(claims.need(2, "other").is_err());
        assert!(claims.end().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(value) = read(&bytes, "test") {
                prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
