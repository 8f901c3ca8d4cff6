//! What can go wrong while keys and certificates are made.

/// Why a key or certificate could not be made. None of these carries key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A seed in text form is 64 hexadecimal digits; this was not. The text itself is not repeated: it may be a secret.
    #[error("a seed is 64 hexadecimal digits (32 bytes)")]
    SeedText,
    /// RSA key generation, decoding or signing failed.
    #[error("RSA: {0}")]
    Rsa(rsa::Error),
    /// A private key in PKCS #8 form, or a public key, could not be encoded or decoded.
    #[error("key encoding: {0}")]
    KeyEncoding(&'static str),
    /// A DER structure could not be encoded or decoded.
    #[error("DER: {0}")]
    Der(#[from] der::Error),
    /// An elliptic curve key or signature was refused by the library named.
    #[error("ECDSA ({0}) refused a key or could not sign")]
    Ecdsa(&'static str),
    /// A chip identifier has bytes set beyond those that its product line uses (8 on Turin).
    #[error("chip identifier: bytes beyond the first {0} must be zero")]
    ChipId(usize),
    /// A `TCB_VERSION` has reserved bytes set, which certificates cannot express.
    #[error("TCB_VERSION {0:#018x}: reserved bytes must be zero")]
    Tcb(u64),
    /// A cloud provider identifier is 1 to 64 printable ASCII characters; this was not.
    #[error("a CSP_ID is 1 to 64 printable ASCII characters")]
    CspId,
    /// A product name goes into an IA5String; this one has other characters.
    #[error("a product name is ASCII")]
    ProductName,
    /// Collateral could not be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A file of the committed default could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<rsa::Error> for KeysError {
    fn from(error: rsa::Error) -> Self {
        Self::Rsa(error)
    }
}
