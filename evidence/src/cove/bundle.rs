//! Evidence and what goes with it, from wherever it is.

use std::path::Path;

use crate::{
    EvidenceError,
    files::{read_optional_file, to_der},
};

/// Evidence, as bytes; what is missing is missed by [`verify`](super::verify).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// What `get_evidence` gave: a CBOR certificate or an X.509 one.
    pub evidence: Vec<u8>,
    /// The manufacturer's root certificate, DER. If none is given, the policy's.
    pub root: Option<Vec<u8>>,
    /// Certificates of TSM, platform and RoT, in this order, or of the RoT only; PEM.
    pub chain: Option<Vec<u8>>,
    /// The root's revocation list, DER.
    pub crl: Option<Vec<u8>>,
    /// The challenge that the evidence must carry, 64 bytes.
    pub inblob: Option<Vec<u8>>,
}

impl Bundle {
    /// Reads a directory: `evidence.bin`, and as far as they are there `root.der` or else `root.pem`, `chain.pem`, `crl.der`,
    /// `inblob.bin`.
    ///
    /// # Errors
    /// [`EvidenceError`]: which file cannot be read.
    pub fn from_dir(directory: &Path) -> Result<Self, EvidenceError> {
        let read = |name: &str| read_optional_file(&directory.join(name));
        let der = |name: &str| match read(name)? {
            Some(bytes) => to_der(&directory.join(name).display().to_string(), bytes).map(Some),
            None => Ok(None),
        };
        let evidence = read("evidence.bin")?;
        Ok(Self {
            evidence: evidence.ok_or_else(|| EvidenceError::NoEvidence { path: directory.to_owned() })?,
            root: match der("root.der")? {
                Some(root) => Some(root),
                None => der("root.pem")?,
            },
            chain: read("chain.pem")?,
            crl: der("crl.der")?,
            inblob: read("inblob.bin")?,
        })
    }

    /// DER of a revocation list in DER or PEM. `name` is the file's, for messages.
    ///
    /// # Errors
    /// [`EvidenceError`] for PEM that is not one block.
    pub fn list(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, EvidenceError> {
        to_der(name, bytes)
    }
}
