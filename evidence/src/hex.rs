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
