//! Evidence as `--out` lays it out, whichever way it was obtained.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tsmsim_abi::snp::report::AttestationReport;
use tsmsim_evidence::{
    Verdict,
    snp::{Bundle, Policy, TrustedRoot, verify},
};
use tsmsim_simulator::snp::platform::Platform;
use zerocopy::IntoBytes;

use crate::{
    commands::verify::now,
    failure::Failure,
    output::{hex, write_file},
    snp::platform::Certificates,
};

/// A report with everything that goes with it.
pub(crate) struct Evidence<'a> {
    /// The platform that made it.
    pub(crate) platform: &'a Platform,
    /// The report.
    pub(crate) report: &'a AttestationReport,
    /// The certificates above it.
    pub(crate) certificates: &'a Certificates,
    /// The certificate table as the guest received it.
    pub(crate) table: &'a [u8],
    /// What the report was to carry.
    pub(crate) inblob: &'a [u8; 64],
}

impl Evidence<'_> {
    /// Judges it under the platform's own root, as a stranger would.
    pub(crate) fn judge(&self, measurement: Option<[u8; 48]>) -> Verdict {
        let find = |name: &str| {
            self.certificates.files.iter().find(|file| file.0 == name).map(|file| file.1.clone())
        };
        let bundle = Bundle {
            report: self.report.as_bytes().to_vec(),
            ark: find("ark.der"),
            ask: find("ask.der"),
            vcek: find("vcek.der"),
            vlek: find("vlek.der"),
            crl: find("crl.der"),
            table: Some(self.table.to_vec()),
            inblob: Some(self.inblob.to_vec()),
        };
        let trust = find("ark.der").map_or(TrustedRoot::Recognised, TrustedRoot::Given);
        let policy = Policy {
            trust,
            measurement,
            allow_masked_chip_id: self.platform.mask_chip_id(),
            ..Policy::at(now())
        };
        verify(&bundle, &policy)
    }

    /// Writes the files.
    pub(crate) fn write(&self, directory: &Path) -> Result<Value, Failure> {
        let mut files: Vec<(&str, &[u8])> = vec![
            ("report.bin", self.report.as_bytes()),
            ("certs.bin", self.table),
            ("inblob.bin", self.inblob),
        ];
        files.extend(self.certificates.files.iter().map(|(name, der, _)| (*name, der.as_slice())));
        for (name, bytes) in &files {
            write_file(&directory.join(name), bytes)?;
        }
        let description = self.description(&files);
        write_file(&directory.join("evidence.json"), format!("{description:#}\n").as_bytes())?;
        Ok(description)
    }

    fn description(&self, files: &[(&str, &[u8])]) -> Value {
        let digests: serde_json::Map<String, Value> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), hex(&Sha256::digest(bytes)).into()))
            .collect();
        let report = self.report;
        json!({
            "tee": "snp",
            "synthetic": true,
            "generator": concat!("tsmsim ", env!("CARGO_PKG_VERSION")),
            "profile": self.platform.line().name().to_lowercase(),
            "report_version": report.version.get(),
            "signing_key": if self.platform.vlek().is_some() { "vlek" } else { "vcek" },
            "vmpl": report.vmpl.get(),
            "policy": format!("{:#x}", report.policy.get()),
            "measurement": hex(&report.measurement),
            "report_data": hex(&report.report_data),
            "report_id": hex(&report.report_id),
            "chip_id": hex(&report.chip_id),
            "reported_tcb": format!("{:#018x}", report.reported_tcb.get()),
            "sha256": digests,
        })
    }
}
