//! Evidence as `--out` lays it out, whichever way it was obtained.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tsmsim_abi::tdx::report::TdReport;
use tsmsim_evidence::{
    Verdict,
    tdx::{Bundle, Policy, TrustedRoot, verify},
};
use tsmsim_keys::KeysError;
use tsmsim_simulator::tdx::platform::TdxPlatform;
use zerocopy::IntoBytes;

use crate::{
    commands::verify::now,
    failure::Failure,
    output::{hex, write_file},
    tdx::local::profile_name,
};

/// A quote with everything that goes with it.
pub(crate) struct Evidence<'a> {
    platform: &'a TdxPlatform,
    report: &'a TdReport,
    inblob: &'a [u8; 64],
    quote: Vec<u8>,
    root: Vec<u8>,
    root_pem: String,
    collateral: String,
}

impl<'a> Evidence<'a> {
    /// Puts collateral beside a quote, by which its platform is up to date.
    pub(crate) fn new(
        platform: &'a TdxPlatform,
        report: &'a TdReport,
        quote: Vec<u8>,
        inblob: &'a [u8; 64],
    ) -> Result<Self, KeysError> {
        let hierarchy = platform.hierarchy();
        let collateral = hierarchy.collateral(
            platform.identity().ca(),
            &platform.tcb_info_spec(),
            &platform.config().qe,
        )?;
        let root = hierarchy.root()?;
        Ok(Self {
            platform,
            report,
            inblob,
            quote,
            root: root.der().to_vec(),
            root_pem: root.pem(),
            collateral: collateral.to_json()?,
        })
    }

    /// Judges it under the platform's own root, as a stranger would.
    pub(crate) fn judge(&self) -> Verdict {
        let bundle = Bundle {
            quote: self.quote.clone(),
            td_report: Some(self.report.as_bytes().to_vec()),
            root: Some(self.root.clone()),
            collateral: Some(self.collateral.clone().into_bytes()),
            inblob: Some(self.inblob.to_vec()),
            event_log: None,
        };
        verify(&bundle, &Policy { trust: TrustedRoot::Given(self.root.clone()), ..Policy::at(now()) })
    }

    /// Writes the files.
    pub(crate) fn write(&self, directory: &Path) -> Result<Value, Failure> {
        let files: [(&str, &[u8]); 6] = [
            ("quote.bin", &self.quote),
            ("tdreport.bin", self.report.as_bytes()),
            ("root.der", &self.root),
            ("root.pem", self.root_pem.as_bytes()),
            ("collateral.json", self.collateral.as_bytes()),
            ("inblob.bin", self.inblob),
        ];
        for (name, bytes) in &files {
            write_file(&directory.join(name), bytes)?;
        }
        let description = self.description(&files);
        write_file(&directory.join("evidence.json"), format!("{description:#}\n").as_bytes())?;
        Ok(description)
    }

    fn description(&self, files: &[(&str, &[u8])]) -> Value {
        let digests: Map<String, Value> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), hex(&Sha256::digest(bytes)).into()))
            .collect();
        let td_info = &self.report.td_info;
        let rtmrs: Vec<String> = td_info.rtmr.iter().map(|rtmr| hex(rtmr)).collect();
        json!({
            "tee": "tdx",
            "synthetic": true,
            "generator": concat!("tsmsim ", env!("CARGO_PKG_VERSION")),
            "profile": profile_name(self.platform),
            "quote_version": self.quote.first(),
            "measurement": hex(&td_info.mr_td),
            "rtmrs": rtmrs,
            "report_data": hex(&self.report.report_mac_struct.report_data),
            "attributes": format!("{:#x}", td_info.attributes.get()),
            "xfam": format!("{:#x}", td_info.xfam.get()),
            "fmspc": hex(&self.platform.identity().fmspc),
            "sha256": digests,
        })
    }
}
