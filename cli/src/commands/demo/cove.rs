//! TVMs: the bare-metal guest on both engines, and one without a virtual machine inside this process.

use std::time::Instant;

use tsmsim_abi::cove::claims::register;
use tsmsim_keys::{Seed, SignatureMode, cove::Scenario};
use tsmsim_simulator::cove::{measure::InitialRegisters, platform::CovePlatform};
use tsmsim_vmm::{cc::cove::End, engine::riscv::qemu, loader::tvm};

use super::{GUEST_TIME, Row, nonce};
use crate::{
    args::{DemoArgs, EvidenceFormat},
    cove::{
        evidence::Evidence,
        local,
        machine::{self, HartChoice},
    },
    failure::Failure,
    guest,
};

/// The bare-metal guest in a virtual machine, on each engine.
pub(super) fn machine_rows(args: &DemoArgs) -> Result<Vec<Row>, Failure> {
    [HartChoice::Interpreter, HartChoice::Qemu].into_iter().map(|hart| machine_row(args, hart)).collect()
}

/// TVMs without one: a row for each format.
pub(super) fn rows(args: &DemoArgs) -> Result<Vec<Row>, Failure> {
    [EvidenceFormat::Cbor, EvidenceFormat::X509].into_iter().map(|format| row(args, format)).collect()
}

fn machine_row(args: &DemoArgs, hart: HartChoice) -> Result<Row, Failure> {
    let name = format!("{}-cove-cbor", hart.name());
    if hart == HartChoice::Qemu
        && let Err(error) = qemu::version()
    {
        return Ok(Row::lacking(name, error.to_string()));
    }
    let elf = guest::load_riscv64(None)?;
    let platform = local::platform(SignatureMode::default(), &Seed::DEFAULT)?;
    let registers = tvm::measure(&elf, platform.initial_registers())
        .map_err(|error| Failure::because("measuring the guest", error))?;
    let challenge = nonce()?;
    let started = Instant::now();
    let run = machine::run(&elf, &platform, hart, challenge, GUEST_TIME, args.verbose)?;
    let took = started.elapsed();
    let refused = match run.evidence("evidence") {
        Ok(bytes) => {
            let evidence = with_certificates(&platform, EvidenceFormat::Cbor, bytes, &challenge)?;
            keep(args, &name, &evidence)?;
            evidence.judge_launch(Some(&registers)).reason()
        }
        Err(why) => Some(why),
    };
    let refused = refused.or_else(|| (run.end != End::Done(0)).then(|| run.end.to_string()));
    Ok(Row {
        name,
        report_version: None,
        key: Some("TSM"),
        checks: Some(run.console.count()),
        measurement: Some(pages(&registers)),
        took,
        refused,
        lacking: None,
    })
}

fn row(args: &DemoArgs, format: EvidenceFormat) -> Result<Row, Failure> {
    let platform = local::platform(SignatureMode::default(), &Seed::DEFAULT)?;
    let inblob = nonce()?;
    let failed = |error| Failure::because("running the in-process TVM", error);
    let started = Instant::now();
    let mut guest = local::launch(platform.clone(), &Seed::DEFAULT, &inblob).map_err(failed)?;
    let bytes = local::ask(&mut guest, format, &inblob).map_err(failed)?;
    let took = started.elapsed();
    let evidence = with_certificates(&platform, format, bytes, &inblob)?;
    let name = format!("in-process-cove-{}", format.name());
    keep(args, &name, &evidence)?;
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

fn with_certificates<'a>(
    platform: &CovePlatform,
    format: EvidenceFormat,
    bytes: Vec<u8>,
    challenge: &'a [u8; 64],
) -> Result<Evidence<'a>, Failure> {
    Evidence::new(platform, format, bytes, challenge, Scenario::Sound)
        .map_err(|error| Failure::because("issuing certificates", error))
}

fn keep(args: &DemoArgs, name: &str, evidence: &Evidence<'_>) -> Result<(), Failure> {
    args.out.as_ref().map(|out| evidence.write(&out.join(name))).transpose().map(drop)
}

/// The measured pages, which are what tells one TVM from another.
pub(super) fn pages(registers: &InitialRegisters) -> [u8; 48] {
    // The platform measures with SHA-384.
    registers.values()[register::TVM_PAGES].as_slice().try_into().unwrap_or([0; 48])
}
