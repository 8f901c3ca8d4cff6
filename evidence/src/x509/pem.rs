//! PEM (RFC 7468), strictly: blocks and white space, nothing else.

use der::pem::decode_vec;

/// What stands between a pair of boundaries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PemBlock {
    /// `CERTIFICATE`, `X509 CRL`, ...
    pub label: String,
    /// The decoded bytes.
    pub der: Vec<u8>,
}

/// Why text is not PEM.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PemError {
    /// Something else than white space outside of the blocks.
    #[error("text outside the PEM blocks, before block {0} (counted from 1): take it out")]
    OutsideText(usize),
    /// A block has no end.
    #[error("PEM block {0} (counted from 1) has no `-----END` line")]
    Unfinished(usize),
    /// A block is not what RFC 7468 describes.
    #[error("PEM block {0} (counted from 1): {1}")]
    Block(usize, String),
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// Whether bytes are meant to be PEM.
#[must_use]
pub fn is_pem(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(BEGIN)
}

/// Every block in order.
///
/// # Errors
/// The first block that cannot be read, or text outside of blocks.
pub fn pem_blocks(bytes: &[u8]) -> Result<Vec<PemBlock>, PemError> {
    let mut blocks = Vec::new();
    let mut rest = bytes.trim_ascii();
    while !rest.is_empty() {
        let number = blocks.len() + 1;
        if !rest.starts_with(BEGIN) {
            return Err(PemError::OutsideText(number));
        }
        let end = find(rest, END).ok_or(PemError::Unfinished(number))?;
        let tail = rest.get(end + END.len()..).unwrap_or_default();
        let line = find(tail, b"-----").ok_or(PemError::Unfinished(number))?;
        let (block, after) = rest.split_at(end + END.len() + line + b"-----".len());
        let (label, der) = decode_vec(block).map_err(|error| PemError::Block(number, error.to_string()))?;
        blocks.push(PemBlock { label: label.to_owned(), der });
        rest = after.trim_ascii();
    }
    Ok(blocks)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BLOCK: &str = "-----BEGIN X-----\nAQID\n-----END X-----\n";

    #[rstest]
    #[case("", 0)]
    #[case(BLOCK, 1)]
    #[case(&format!("\n{BLOCK}\r\n{BLOCK}"), 2)]
    fn reads(#[case] text: &str, #[case] count: usize) {
        let blocks = pem_blocks(text.as_bytes()).unwrap();
        assert_eq!(blocks.len(), count);
        assert!(blocks.iter().all(|block| block.label == "X" && block.der == [1, 2, 3]));
    }

    #[rstest]
    #[case(&format!("note\n{BLOCK}"), PemError::OutsideText(1))]
    #[case(&format!("{BLOCK}note\n"), PemError::OutsideText(2))]
    #[case("-----BEGIN X-----\nAQID\n", PemError::Unfinished(1))]
    #[case("-----BEGIN X-----\nAQID\n-----END X", PemError::Unfinished(1))]
    fn refuses(#[case] text: &str, #[case] error: PemError) {
        assert_eq!(pem_blocks(text.as_bytes()), Err(error));
    }

    #[test]
    fn refuses_bits_that_base64_does_not_use() {
        let text = "-----BEGIN X-----\nAQJ=\n-----END X-----\n";
        assert!(matches!(pem_blocks(text.as_bytes()), Err(PemError::Block(1, _))));
    }
}
