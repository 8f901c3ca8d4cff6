//! What the bundles of every technology do with files.

use std::{io::ErrorKind, path::Path};

use crate::{
    EvidenceError, read_file,
    x509::{is_pem, pem_blocks},
};

/// A file that may be absent.
pub(crate) fn read_optional_file(path: &Path) -> Result<Option<Vec<u8>>, EvidenceError> {
    match read_file(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(EvidenceError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The DER of a file that holds one thing in DER or PEM.
pub(crate) fn to_der(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, EvidenceError> {
    if !is_pem(&bytes) {
        return Ok(bytes);
    }
    let blocks = pem_blocks(&bytes).map_err(|source| EvidenceError::Pem { name: name.to_owned(), source })?;
    let count = blocks.len();
    match <[_; 1]>::try_from(blocks) {
        Ok([block]) => Ok(block.der),
        Err(_) => Err(EvidenceError::Several { name: name.to_owned(), count }),
    }
}
