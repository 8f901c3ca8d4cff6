//! TVMs inside this process.

use std::time::Instant;

use tsmsim_keys::{Seed, SignatureMode, cove::Scenario};

use super::{Row, nonce};
use crate::{
    args::{DemoArgs, EvidenceFormat},
    cove::{evidence::Evidence, local},
    failure::Failure,
};

/// A row for each format.
pub(super) fn rows(args: &DemoArgs) -> Result<Vec<Row>, Failure> {
    [EvidenceFormat::Cbor, EvidenceFormat::X509].into_iter().map(|format| row(args, format)).collect()
}

fn row(args: &DemoArgs, format: EvidenceFormat) -> Result<Row, Failure> {
    let platform = local::platform(SignatureMode::default(), &Seed::DEFAULT)?;
    let inblob = nonce()?;
    let failed = |error| Failure::because("running the in-process TVM", error);
    let started = Instant::now();
    let mut guest = local::launch(platform.clone(), &Seed::DEFAULT, &inblob).map_err(failed)?;
    let bytes = local::ask(&mut guest, format, &inblob).map_err(failed)?;
    let took = started.elapsed();
    let evidence = Evidence::new(&platform, format, bytes, &inblob, Scenario::Sound)
        .map_err(|error| Failure::because("issuing certificates", error))?;
    let name = format!("in-process-cove-{}", format.name());
    if let Some(out) = &args.out {
        evidence.write(&out.join(&name))?;
    }
    Ok(Row {
        name,
        report_version: None,
        key: Some("TSM"),
        checks: None,
        measurement: evidence.measurement().try_into().ok(),
        took,
        refused: evidence.judge().reason(),
        lacking: None,
    })
}
