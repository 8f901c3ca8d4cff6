//! `tsmsim verify`: judging evidence.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use tsmsim_abi::cove::claims::register;
use tsmsim_evidence::{
    EvidenceError, Timestamp, TrustedRoot, Verdict, cove, read_file,
    show::{Kind, detect},
    snp,
    tdx::{self, TcbStatus},
};

use crate::{
    args::VerifyArgs,
    failure::Failure,
    output::{print, print_json},
};

/// Runs the command.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let at = match &args.at {
        Some(text) => text.parse().map_err(|error| Failure::Usage(format!("--at: {error}")))?,
        None => now(),
    };
    let verdict = judge(args, at).map_err(|error| Failure::Usage(error.to_string()))?;
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

/// Judges as what it is, which the name of the directory's file or the content of the file tells.
fn judge(args: &VerifyArgs, at: Timestamp) -> Result<Verdict, EvidenceError> {
    match (&args.dir, &args.report) {
        (Some(directory), _) if directory.join("quote.bin").exists() => {
            judge_quote(args, at, tdx::Bundle::from_dir(directory)?)
        }
        (Some(directory), _) if directory.join("evidence.bin").exists() => {
            judge_cove(args, at, cove::Bundle::from_dir(directory)?)
        }
        (Some(directory), _) => judge_report(args, at, snp::Bundle::from_dir(directory)?),
        (None, Some(path)) => {
            let bytes = read_file(path)?;
            if detect(&bytes) == Kind::Quote {
                judge_quote(args, at, tdx::Bundle { quote: bytes, ..tdx::Bundle::default() })
            } else if cove::is_evidence(&bytes) {
                judge_cove(args, at, cove::Bundle { evidence: bytes, ..cove::Bundle::default() })
            } else {
                judge_report(args, at, snp::Bundle { report: bytes, ..snp::Bundle::default() })
            }
        }
        (None, None) => judge_report(args, at, snp::Bundle::default()),
    }
}

fn judge_report(args: &VerifyArgs, at: Timestamp, mut bundle: snp::Bundle) -> Result<Verdict, EvidenceError> {
    for path in args.certs.iter().chain(&args.crl) {
        bundle.add_certificates(&path.display().to_string(), &read_file(path)?)?;
    }
    if let Some(path) = &args.inblob {
        bundle.inblob = Some(read_file(path)?);
    }
    let policy = snp::Policy {
        trust: trust(args.root.as_deref())?,
        measurement: args.measurement,
        vmpl: args.vmpl,
        allow_debug: args.allow_debug,
        allow_masked_chip_id: args.allow_masked_chip_id,
        ..snp::Policy::at(at)
    };
    Ok(snp::verify(&bundle, &policy))
}

fn judge_quote(args: &VerifyArgs, at: Timestamp, mut bundle: tdx::Bundle) -> Result<Verdict, EvidenceError> {
    if let Some(path) = &args.collateral {
        bundle.collateral = Some(read_file(path)?);
    }
    if let Some(path) = &args.ccel {
        bundle.event_log = Some(read_file(path)?);
    }
    if let Some(path) = &args.inblob {
        bundle.inblob = Some(read_file(path)?);
    }
    let mut accepted_statuses = vec![TcbStatus::UpToDate];
    accepted_statuses.extend(&args.accept_tcb);
    let policy = tdx::Policy {
        trust: trust(args.root.as_deref())?,
        mr_td: args.measurement,
        allow_debug: args.allow_debug,
        accepted_statuses,
        ..tdx::Policy::at(at)
    };
    Ok(tdx::verify(&bundle, &policy))
}

fn judge_cove(args: &VerifyArgs, at: Timestamp, mut bundle: cove::Bundle) -> Result<Verdict, EvidenceError> {
    for path in &args.certs {
        bundle.chain.get_or_insert_default().extend(read_file(path)?);
    }
    if let Some(path) = &args.crl {
        bundle.crl = Some(cove::Bundle::list(&path.display().to_string(), read_file(path)?)?);
    }
    if let Some(path) = &args.inblob {
        bundle.inblob = Some(read_file(path)?);
    }
    let registers = args.register.iter().map(|expected| (expected.index, expected.value.clone()));
    let pages = args.measurement.map(|value| (register::TVM_PAGES as u64, value.to_vec()));
    let policy = cove::Policy {
        trust: trust(args.root.as_deref())?,
        registers: pages.into_iter().chain(registers).collect(),
        allow_debug: args.allow_debug,
        ..cove::Policy::at(at)
    };
    Ok(cove::verify(&bundle, &policy))
}

fn trust(root: Option<&Path>) -> Result<TrustedRoot, EvidenceError> {
    match root {
        Some(path) => TrustedRoot::from_bytes(&path.display().to_string(), read_file(path)?),
        None => Ok(TrustedRoot::Recognised),
    }
}
