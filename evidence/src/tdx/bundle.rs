//! A quote and what goes with it, from wherever it is.

use std::path::Path;

use crate::{
    EvidenceError, read_file,
    x509::{is_pem, pem_blocks},
};

/// Evidence, as bytes; what is missing is missed by [`verify`](super::verify).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// The quote; zeros may follow, as a guest's buffer has them.
    pub quote: Vec<u8>,
    /// The TDREPORT that the quote was made from, 1024 bytes.
    pub td_report: Option<Vec<u8>>,
    /// The root's certificate, DER. If none is given, the policy's, or else the one that the quote carries.
    pub root: Option<Vec<u8>>,
    /// JSON, as [`Collateral`](super::Collateral) reads it.
    pub collateral: Option<Vec<u8>>,
    /// What the guest asked to have in the report data, 64 bytes.
    pub inblob: Option<Vec<u8>>,
    /// The guest's event log: the log area that the CCEL table names.
    pub event_log: Option<Vec<u8>>,
}

impl Bundle {
    /// Reads a directory: `quote.bin`, and as far as they are there `tdreport.bin`, `root.der` or else `root.pem`,
    /// `collateral.json`, `inblob.bin`, `ccel.bin`.
    ///
    /// # Errors
    /// [`EvidenceError`]: which file cannot be read.
    pub fn from_dir(directory: &Path) -> Result<Self, EvidenceError> {
        let read = |name: &str| -> Result<Option<Vec<u8>>, EvidenceError> {
            match read_file(&directory.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(EvidenceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        let root = match read("root.der")? {
            Some(bytes) => Some(("root.der", bytes)),
            None => read("root.pem")?.map(|bytes| ("root.pem", bytes)),
        };
        let root = root.map(|(name, bytes)| to_der(&directory.join(name).display().to_string(), bytes));
        Ok(Self {
            quote: read("quote.bin")?.ok_or_else(|| EvidenceError::NoQuote { path: directory.to_owned() })?,
            td_report: read("tdreport.bin")?,
            root: root.transpose()?,
            collateral: read("collateral.json")?,
            inblob: read("inblob.bin")?,
            event_log: read("ccel.bin")?,
        })
    }
}

fn to_der(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, EvidenceError> {
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
