//! Any evidence or certificate, field by field.

use tsmsim_abi::snp::tcb::ProductLine;

use crate::{
    Node, cove, snp, tdx,
    x509::{Certificate, RevocationList, is_pem, pem_blocks, show_certificate, show_crl},
};

/// What a file is, told by its content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// SEV-SNP attestation report.
    SnpReport,
    /// X.509 certificate, DER.
    Certificate,
    /// X.509 revocation list, DER.
    RevocationList,
    /// Certificate table of the SNP extended guest request.
    CertificateTable,
    /// One or more PEM blocks.
    Pem,
    /// Quote of a TD or an enclave.
    Quote,
    /// TDREPORT.
    TdReport,
    /// Collateral of a quote, JSON.
    Collateral,
    /// CC event log.
    EventLog,
    /// CCEL ACPI table.
    CcelTable,
    /// CBOR certificate of a CoVE TVM. (The X.509 one is a [`Kind::Certificate`]; [`cove::is_evidence`] tells.)
    CoveEvidence,
    /// Something else.
    Unknown,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SnpReport => "an SEV-SNP attestation report",
            Self::Certificate => "an X.509 certificate",
            Self::RevocationList => "an X.509 revocation list",
            Self::CertificateTable => "a certificate table",
            Self::Pem => "PEM",
            Self::Quote => "a TDX or SGX quote",
            Self::TdReport => "a TDREPORT",
            Self::Collateral => "collateral of a quote",
            Self::EventLog => "a CC event log",
            Self::CcelTable => "a CCEL ACPI table",
            Self::CoveEvidence => "CoVE evidence",
            Self::Unknown => "neither evidence nor a certificate",
        })
    }
}

/// Why bytes cannot be shown.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShowError {
    /// None of the kinds.
    #[error(
        "{size} bytes that are neither an SEV-SNP report (1184 bytes), nor a TDX quote, TDREPORT, collateral or event log, nor CoVE evidence, nor a certificate, revocation list (DER, PEM) or certificate table{hint}"
    )]
    Unknown {
        /// How many bytes.
        size: usize,
        /// What it might have been meant to be, and why it is not; or empty.
        hint: String,
    },
    /// Collateral that cannot be read.
    #[error("collateral: {0}")]
    Collateral(String),
    /// PEM that cannot be read.
    #[error(transparent)]
    Pem(#[from] crate::x509::PemError),
}

/// Tells what bytes are. Certificates, lists and tables must be readable to count as such.
#[must_use]
pub fn detect(bytes: &[u8]) -> Kind {
    if is_pem(bytes) {
        Kind::Pem
    } else if snp::is_report(bytes) {
        Kind::SnpReport
    } else if Certificate::read(bytes).is_ok() {
        Kind::Certificate
    } else if RevocationList::read(bytes).is_ok() {
        Kind::RevocationList
    } else if snp::read_table(bytes).is_ok_and(|entries| !entries.is_empty()) {
        Kind::CertificateTable
    } else {
        detect_other(bytes)
    }
}

fn detect_other(bytes: &[u8]) -> Kind {
    if tdx::is_quote(bytes) {
        Kind::Quote
    } else if tdx::is_report(bytes) {
        Kind::TdReport
    } else if tdx::is_collateral(bytes) {
        Kind::Collateral
    } else if tdx::is_table(bytes) {
        Kind::CcelTable
    } else if tdx::is_log(bytes) {
        Kind::EventLog
    } else if cove::is_evidence(bytes) {
        Kind::CoveEvidence
    } else {
        Kind::Unknown
    }
}

/// Every field of a file. `line` is the product line by which TCB versions are read; `None` takes the one that the file names, or
/// that it is most likely of.
///
/// # Errors
/// [`ShowError`] for bytes of no known kind, with the reason why they are not what they look like.
pub fn show(bytes: &[u8], line: Option<ProductLine>) -> Result<Node, ShowError> {
    match detect(bytes) {
        Kind::Pem => show_pem(bytes, line),
        Kind::SnpReport => snp::show_report(bytes, line).ok_or_else(|| unknown(bytes)),
        Kind::Certificate => {
            Certificate::read(bytes).map(|read| show_certificate(&read)).map_err(|_| unknown(bytes))
        }
        Kind::RevocationList => {
            RevocationList::read(bytes).map(|read| show_crl(&read)).map_err(|_| unknown(bytes))
        }
        Kind::CertificateTable => snp::show_table(bytes).map_err(|_| unknown(bytes)),
        Kind::Quote => tdx::show_quote(bytes).ok_or_else(|| unknown(bytes)),
        Kind::TdReport => tdx::show_report(bytes).ok_or_else(|| unknown(bytes)),
        Kind::Collateral => Ok(tdx::show_collateral(bytes)?),
        Kind::EventLog => tdx::show_log(bytes).ok_or_else(|| unknown(bytes)),
        Kind::CcelTable => tdx::show_table(bytes).ok_or_else(|| unknown(bytes)),
        Kind::CoveEvidence => cove::show_evidence(bytes).ok_or_else(|| unknown(bytes)),
        Kind::Unknown => Err(unknown(bytes)),
    }
}

fn show_pem(bytes: &[u8], line: Option<ProductLine>) -> Result<Node, ShowError> {
    let mut nodes = Vec::new();
    for block in pem_blocks(bytes)? {
        // PEM within PEM is of no known kind, so this goes no deeper.
        if is_pem(&block.der) {
            return Err(unknown(&block.der));
        }
        nodes.push(show(&block.der, line)?);
    }
    match nodes.len() {
        1 => Ok(nodes.remove(0)),
        count => Ok(Node::group("PEM", format!("{count} blocks"), nodes)),
    }
}

/// Says for DER in which part it stops being a certificate or a list, whichever it is more of.
fn unknown(bytes: &[u8]) -> ShowError {
    let hint = match (bytes.first(), Certificate::read(bytes), RevocationList::read(bytes)) {
        (Some(0x30), Err(certificate), Err(_)) => {
            format!("; as a certificate it breaks off at {certificate}")
        }
        _ => String::new(),
    };
    ShowError::Unknown { size: bytes.len(), hint }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_file_is_nothing() {
        assert_eq!(detect(b""), Kind::Unknown);
        assert!(show(b"", None).unwrap_err().to_string().starts_with("0 bytes that are neither"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(detect(&bytes) == Kind::Unknown, show(&bytes, None).is_err());
        }
    }
}
