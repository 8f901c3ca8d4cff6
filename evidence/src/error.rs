//! What can go wrong before there is anything to judge.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::x509::PemError;

/// Files larger than this are not evidence and are not read: 4 MiB.
pub const MAX_FILE_SIZE: u64 = 4 << 20;

/// Evidence that cannot be taken up at all: which file, what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory does not hold evidence.
    #[error("{}: no report.bin in it; give a directory that `tsmsim report --out` wrote, or one of that layout", path.display())]
    NoReport {
        /// The directory.
        path: PathBuf,
    },
    /// The directory does not hold TDX evidence.
    #[error("{}: no quote.bin in it; give a directory that `tsmsim report --out` wrote, or one of that layout", path.display())]
    NoQuote {
        /// The directory.
        path: PathBuf,
    },
    /// The directory does not hold CoVE evidence.
    #[error("{}: no evidence.bin in it; give a directory that `tsmsim report --out` wrote, or one of that layout", path.display())]
    NoEvidence {
        /// The directory.
        path: PathBuf,
    },
    /// Larger than [`MAX_FILE_SIZE`].
    #[error("{}: larger than {} MiB, which no evidence is", path.display(), MAX_FILE_SIZE >> 20)]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// PEM that cannot be read.
    #[error("{name}: {source}")]
    Pem {
        /// Which file.
        name: String,
        /// Why.
        source: PemError,
    },
    /// One certificate was expected.
    #[error(
        "{name}: {count} PEM blocks, where one is expected: split the file, or give it as a set of certificates"
    )]
    Several {
        /// Which file.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// Not a certificate, a revocation list or a certificate table where one of these is expected.
    #[error(
        "{name}: {what}; certificates (DER, PEM), revocation lists (DER, PEM) and certificate tables are taken"
    )]
    NotACertificate {
        /// Which file.
        name: String,
        /// What it is instead.
        what: String,
    },
    /// Two different ones for one place in the chain.
    #[error("{name}: a second, different {object}: give one")]
    Conflict {
        /// Which file.
        name: String,
        /// `ARK`, `ASK`, ...
        object: &'static str,
    },
}

/// Reads a file of up to [`MAX_FILE_SIZE`].
///
/// # Errors
/// [`EvidenceError::Io`] and [`EvidenceError::TooLarge`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let failed = |source| EvidenceError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(EvidenceError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
