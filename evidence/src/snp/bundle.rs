//! A report and its certificates, from wherever they are.

use std::path::Path;

use tsmsim_abi::snp::cert_table::CertGuid;

use super::{CertificateKind, TableEntry, read_table};
use crate::{
    EvidenceError,
    files::{read_optional_file, to_der},
    show::{Kind, detect},
    x509::{Certificate, PemBlock, is_pem, pem_blocks},
};

/// Evidence, as bytes. Certificates and the list are DER; what is missing is missed by [`verify`](super::verify).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// The attestation report, 1184 bytes.
    pub report: Vec<u8>,
    /// AMD root key.
    pub ark: Option<Vec<u8>>,
    /// ASK, or for a VLEK the ASVK.
    pub ask: Option<Vec<u8>>,
    /// VCEK.
    pub vcek: Option<Vec<u8>>,
    /// VLEK.
    pub vlek: Option<Vec<u8>>,
    /// Revocation list of the ARK.
    pub crl: Option<Vec<u8>>,
    /// Certificate table of the extended guest request. Certificates that are not given otherwise are taken from it; others
    /// must agree with it.
    pub table: Option<Vec<u8>>,
    /// What the guest asked to have in `REPORT_DATA`, 64 bytes.
    pub inblob: Option<Vec<u8>>,
}

impl Bundle {
    /// Reads a directory: `report.bin`, and as far as they are there `ark.der`, `ask.der` (also for the ASVK), `vcek.der`,
    /// `vlek.der`, `crl.der`, `certs.bin`, `inblob.bin`. Certificates and list may be PEM whatever the name says.
    ///
    /// # Errors
    /// [`EvidenceError`]: which file cannot be read.
    pub fn from_dir(directory: &Path) -> Result<Self, EvidenceError> {
        let read = |name: &str| read_optional_file(&directory.join(name));
        let certificate = |name: &str| -> Result<Option<Vec<u8>>, EvidenceError> {
            read(name)?.map(|bytes| to_der(&directory.join(name).display().to_string(), bytes)).transpose()
        };
        Ok(Self {
            report: read("report.bin")?
                .ok_or_else(|| EvidenceError::NoReport { path: directory.to_owned() })?,
            ark: certificate("ark.der")?,
            ask: certificate("ask.der")?,
            vcek: certificate("vcek.der")?,
            vlek: certificate("vlek.der")?,
            crl: certificate("crl.der")?,
            table: read("certs.bin")?,
            inblob: read("inblob.bin")?,
        })
    }

    /// Adds certificates and lists, told apart by what they are: one in DER, any number in PEM, or a certificate table. `name`
    /// is the file's, for messages.
    ///
    /// # Errors
    /// [`EvidenceError`] for bytes of another kind, and where a place in the chain is already taken by another certificate.
    pub fn add_certificates(&mut self, name: &str, bytes: &[u8]) -> Result<(), EvidenceError> {
        if is_pem(bytes) {
            let blocks = blocks(name, bytes)?;
            return blocks.into_iter().try_for_each(|block| self.add_one(name, block.der));
        }
        self.add_one(name, bytes.to_vec())
    }

    fn add_one(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), EvidenceError> {
        let not_one = |what: String| EvidenceError::NotACertificate { name: name.to_owned(), what };
        let (object, place) = match detect(&bytes) {
            Kind::CertificateTable => ("certificate table", &mut self.table),
            Kind::RevocationList => ("CRL", &mut self.crl),
            Kind::Certificate => match kind_of(&bytes).ok_or_else(|| {
                not_one("a certificate whose subject's common name is none of AMD's".to_owned())
            })? {
                kind @ CertificateKind::Ark => (kind.name(), &mut self.ark),
                kind @ (CertificateKind::Ask | CertificateKind::Asvk) => (kind.name(), &mut self.ask),
                kind @ CertificateKind::Vcek => (kind.name(), &mut self.vcek),
                kind @ CertificateKind::Vlek => (kind.name(), &mut self.vlek),
            },
            other => return Err(not_one(other.to_string())),
        };
        if place.as_ref().is_some_and(|present| *present != bytes) {
            return Err(EvidenceError::Conflict { name: name.to_owned(), object });
        }
        *place = Some(bytes);
        Ok(())
    }

    /// The entries of the certificate table; none if there is none or it cannot be read.
    pub(super) fn table_entries(&self) -> Vec<TableEntry<'_>> {
        self.table.as_deref().and_then(|table| read_table(table).ok()).unwrap_or_default()
    }

    /// What was given otherwise than in the table.
    pub(super) fn given(&self, guid: CertGuid) -> Option<&[u8]> {
        let places = [
            (CertGuid::ARK, &self.ark),
            (CertGuid::ASK, &self.ask),
            (CertGuid::VCEK, &self.vcek),
            (CertGuid::VLEK, &self.vlek),
            (CertGuid::CRL, &self.crl),
        ];
        places.into_iter().find(|(place, _)| *place == guid)?.1.as_deref()
    }

    /// The certificate or list for a place: given, or else from the table.
    pub(super) fn find(&self, guid: CertGuid) -> Option<&[u8]> {
        self.given(guid).or_else(|| {
            let entry = self.table_entries().into_iter().find(|entry| entry.guid == guid)?;
            Some(entry.certificate)
        })
    }
}

/// By the subject's common name.
pub(super) fn kind_of(der: &[u8]) -> Option<CertificateKind> {
    let certificate = Certificate::read(der).ok()?;
    CertificateKind::from_common_name(certificate.subject.common_name()?).map(|(kind, _)| kind)
}

fn blocks(name: &str, bytes: &[u8]) -> Result<Vec<PemBlock>, EvidenceError> {
    pem_blocks(bytes).map_err(|source| EvidenceError::Pem { name: name.to_owned(), source })
}
