//! A quote and what goes with it, from wherever it is.

use std::path::Path;

use crate::{
    EvidenceError,
    files::{read_optional_file, to_der},
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
        let read = |name: &str| read_optional_file(&directory.join(name));
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
