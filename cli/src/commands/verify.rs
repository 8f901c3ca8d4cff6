//! `tsmsim verify`: judging evidence.

use std::time::{SystemTime, UNIX_EPOCH};

use tsmsim_evidence::{
    EvidenceError, Timestamp, Verdict, read_file,
    snp::{Bundle, Policy, TrustedRoot, verify},
};

use crate::{
    args::VerifyArgs,
    failure::Failure,
    output::{print, print_json},
};

/// Runs the command.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let policy = policy(args)?;
    let bundle = bundle(args).map_err(|error| Failure::Usage(error.to_string()))?;
    let verdict = verify(&bundle, &policy);
    if args.json {
        print_json(&verdict.to_json());
    } else {
        print(&verdict.table());
    }
    accepted(&verdict)
}

/// Refused evidence is the command's failure.
pub(crate) fn accepted(verdict: &Verdict) -> Result<(), Failure> {
    if verdict.accepted() { Ok(()) } else { Err(Failure::Refused) }
}

/// The present moment.
pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

fn bundle(args: &VerifyArgs) -> Result<Bundle, EvidenceError> {
    let mut bundle = match (&args.dir, &args.report) {
        (Some(directory), _) => Bundle::from_dir(directory)?,
        (None, Some(report)) => Bundle { report: read_file(report)?, ..Bundle::default() },
        (None, None) => Bundle::default(),
    };
    for path in args.certs.iter().chain(&args.crl) {
        bundle.add_certificates(&path.display().to_string(), &read_file(path)?)?;
    }
    if let Some(path) = &args.inblob {
        bundle.inblob = Some(read_file(path)?);
    }
    Ok(bundle)
}

fn policy(args: &VerifyArgs) -> Result<Policy, Failure> {
    let at = match &args.at {
        Some(text) => text.parse().map_err(|error| Failure::Usage(format!("--at: {error}")))?,
        None => now(),
    };
    let trust = match &args.root {
        Some(path) => read_file(path)
            .and_then(|bytes| TrustedRoot::from_bytes(&path.display().to_string(), bytes))
            .map_err(|error| Failure::Usage(error.to_string()))?,
        None => TrustedRoot::Recognised,
    };
    Ok(Policy {
        trust,
        measurement: args.measurement,
        vmpl: args.vmpl,
        allow_debug: args.allow_debug,
        allow_masked_chip_id: args.allow_masked_chip_id,
        ..Policy::at(at)
    })
}
