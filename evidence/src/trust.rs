//! Which roots are good enough, whatever the technology, and which are known to be good for nothing.

use crate::{EvidenceError, files::to_der, x509::Certificate};

/// The marker of synthetic hierarchies: the first octets of the serial number of each root, and of most of what is below it.
pub const SYNTHETIC_SERIAL_PREFIX: &[u8; 6] = b"tsmsim";

/// Which roots are good enough.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TrustedRoot {
    /// The vendor's (AMD's, Intel's), known by fingerprint, or one that carries tsmsim's marker ([`SYNTHETIC_SERIAL_PREFIX`]);
    /// [`Verdict::root`](crate::Verdict::root) says which.
    #[default]
    Recognised,
    /// The vendor's only.
    Vendor,
    /// Exactly this certificate (DER).
    Given(Vec<u8>),
}

impl TrustedRoot {
    /// [`TrustedRoot::Given`] from a file's content, DER or PEM. `name` is the file's, for messages.
    ///
    /// # Errors
    /// [`EvidenceError`] if it is not one certificate.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, EvidenceError> {
        let der = to_der(name, bytes)?;
        match Certificate::read(&der) {
            Ok(_) => Ok(Self::Given(der)),
            Err(malformed) => Err(EvidenceError::NotACertificate {
                name: name.to_owned(),
                what: format!("not a certificate, which breaks off at {malformed}"),
            }),
        }
    }
}

/// Whether a certificate is marked as synthetic.
pub(crate) fn carries_marker(certificate: &Certificate<'_>) -> bool {
    certificate.serial_number.starts_with(SYNTHETIC_SERIAL_PREFIX)
}
