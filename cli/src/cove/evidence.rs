//! Evidence as `--out` lays it out.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tsmsim_abi::cove::claims::register;
use tsmsim_evidence::{
    Verdict,
    cove::{Bundle, Claims, Policy, TrustedRoot, verify},
};
use tsmsim_keys::{KeysError, cove::Scenario};
use tsmsim_simulator::cove::{measure::InitialRegisters, platform::CovePlatform};

use crate::{
    args::EvidenceFormat,
    commands::verify::now,
    failure::Failure,
    output::{hex, write_file},
};

/// Evidence with everything that goes with it.
pub(crate) struct Evidence<'a> {
    format: EvidenceFormat,
    inblob: &'a [u8; 64],
    evidence: Vec<u8>,
    root: Vec<u8>,
    root_pem: String,
    chain: String,
    crl: Vec<u8>,
}

impl<'a> Evidence<'a> {
    /// Puts certificates and the revocation list beside it.
    pub(crate) fn new(
        platform: &CovePlatform,
        format: EvidenceFormat,
        evidence: Vec<u8>,
        inblob: &'a [u8; 64],
        scenario: Scenario,
    ) -> Result<Self, KeysError> {
        let root = platform.hierarchy().root()?;
        Ok(Self {
            format,
            inblob,
            evidence,
            root: root.der().to_vec(),
            root_pem: root.pem(),
            chain: platform.chain(format.algorithm()).pem(),
            crl: scenario.crl(platform.hierarchy(), platform.device())?.der().to_vec(),
        })
    }

    /// Judges it under the platform's own root, as a stranger would.
    pub(crate) fn judge(&self) -> Verdict {
        self.judge_launch(None)
    }

    /// The same; the initial registers must be these.
    pub(crate) fn judge_launch(&self, expected: Option<&InitialRegisters>) -> Verdict {
        let bundle = Bundle {
            evidence: self.evidence.clone(),
            root: Some(self.root.clone()),
            chain: Some(self.chain.clone().into_bytes()),
            crl: Some(self.crl.clone()),
            inblob: Some(self.inblob.to_vec()),
        };
        let trust = TrustedRoot::Given(self.root.clone());
        let registers = expected.map(|registers| (0..).zip(registers.values().iter().cloned()).collect());
        let registers = registers.unwrap_or_default();
        verify(&bundle, &Policy { trust, registers, ..Policy::at(now()) })
    }

    /// Writes the files.
    pub(crate) fn write(&self, directory: &Path) -> Result<Value, Failure> {
        let files: [(&str, &[u8]); 6] = [
            ("evidence.bin", &self.evidence),
            ("root.der", &self.root),
            ("root.pem", self.root_pem.as_bytes()),
            ("chain.pem", self.chain.as_bytes()),
            ("crl.der", &self.crl),
            ("inblob.bin", self.inblob),
        ];
        for (name, bytes) in files {
            write_file(&directory.join(name), bytes)?;
        }
        let description = self.description(&files);
        write_file(&directory.join("evidence.json"), format!("{description:#}\n").as_bytes())?;
        Ok(description)
    }

    /// Register 4, the measured pages.
    pub(crate) fn measurement(&self) -> Vec<u8> {
        let claims = Claims::read(&self.evidence).ok();
        let pages = claims.as_ref().and_then(|claims| claims.tvm.initial.get(register::TVM_PAGES));
        pages.map(|register| register.value.clone()).unwrap_or_default()
    }

    fn description(&self, files: &[(&str, &[u8])]) -> Value {
        let digests: Map<String, Value> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), hex(&Sha256::digest(bytes)).into()))
            .collect();
        let claims = Claims::read(&self.evidence).ok();
        let registers: Vec<String> =
            claims.iter().flat_map(|claims| claims.tvm.registers()).map(|it| hex(&it.value)).collect();
        json!({
            "tee": "cove",
            "synthetic": true,
            "generator": concat!("tsmsim ", env!("CARGO_PKG_VERSION")),
            "profile": "cove-0.7",
            "format": self.format.name(),
            "measurement": hex(&self.measurement()),
            "registers": registers,
            "challenge": hex(self.inblob),
            "sha256": digests,
        })
    }
}
