//! Evidence as `--out` lays it out, whichever way it was obtained.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tsmsim_abi::tdx::report::{Measurement, TdReport};
use tsmsim_evidence::{
    Verdict,
    tdx::{Bundle, Policy, TrustedRoot, verify},
};
use tsmsim_keys::{
    KeysError,
    intel::{QuoteCollateral, Scenario, Update},
};
use tsmsim_simulator::tdx::platform::TdxPlatform;
use zerocopy::IntoBytes;

use crate::{
    commands::verify::now,
    failure::Failure,
    output::{hex, write_file},
    tdx::local::profile_name,
};

/// Collateral of a platform.
pub(crate) fn collateral(
    platform: &TdxPlatform,
    scenario: Scenario,
    update: Update,
) -> Result<QuoteCollateral, KeysError> {
    let tcb_info = platform.tcb_info_spec().with_update(update);
    let qe_identity = platform.config().qe.clone().with_update(update);
    scenario.collateral(platform.hierarchy(), platform.identity(), tcb_info, qe_identity)
}

/// A quote with everything that goes with it.
pub(crate) struct Evidence<'a> {
    platform: &'a TdxPlatform,
    report: &'a TdReport,
    inblob: &'a [u8; 64],
    quote: Vec<u8>,
    root: Vec<u8>,
    root_pem: String,
    collateral: String,
    event_log: Option<Vec<u8>>,
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
        let collateral = collateral(platform, Scenario::default(), Update::default())?;
        let root = hierarchy.root()?;
        Ok(Self {
            platform,
            report,
            inblob,
            quote,
            root: root.der().to_vec(),
            root_pem: root.pem(),
            collateral: collateral.to_json()?,
            event_log: None,
        })
    }

    /// With collateral by which the platform stands otherwise.
    pub(crate) fn with_scenario(self, scenario: Scenario, update: Update) -> Result<Self, KeysError> {
        Ok(Self { collateral: collateral(self.platform, scenario, update)?.to_json()?, ..self })
    }

    /// With the log of what the RTMRs were extended with.
    pub(crate) fn with_event_log(self, event_log: Option<Vec<u8>>) -> Self {
        Self { event_log, ..self }
    }

    /// Judges it under the platform's own root, as a stranger would.
    pub(crate) fn judge(&self) -> Verdict {
        self.judge_launch(None)
    }

    /// The same, and `MRTD` must be this.
    pub(crate) fn judge_launch(&self, mr_td: Option<Measurement>) -> Verdict {
        let bundle = Bundle {
            quote: self.quote.clone(),
            td_report: Some(self.report.as_bytes().to_vec()),
            root: Some(self.root.clone()),
            collateral: Some(self.collateral.clone().into_bytes()),
            inblob: Some(self.inblob.to_vec()),
            event_log: self.event_log.clone(),
        };
        let trust = TrustedRoot::Given(self.root.clone());
        verify(&bundle, &Policy { trust, mr_td, ..Policy::at(now()) })
    }

    /// Writes the files.
    pub(crate) fn write(&self, directory: &Path) -> Result<Value, Failure> {
        let mut files: Vec<(&str, &[u8])> = vec![
            ("quote.bin", &self.quote),
            ("tdreport.bin", self.report.as_bytes()),
            ("root.der", &self.root),
            ("root.pem", self.root_pem.as_bytes()),
            ("collateral.json", self.collateral.as_bytes()),
            ("inblob.bin", self.inblob),
        ];
        files.extend(self.event_log.as_deref().map(|log| ("ccel.bin", log)));
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
