//! Bytes as people read them.

use std::fmt::Write as _;

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// As [`hex`], cut after eight bytes.
pub(crate) fn short(bytes: &[u8]) -> String {
    match bytes.get(..8) {
        Some(head) if bytes.len() > 8 => format!("{}... ({} bytes)", hex(head), bytes.len()),
        _ => hex(bytes),
    }
}

/// Where two equally long strings of bytes first differ.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

/// The bytes that hexadecimal digits of either case stand for.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
