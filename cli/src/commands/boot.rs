//! `tsmsim boot`: a stock Linux kernel becomes a confidential guest, and a program runs in it.

use std::{
    io::{Write, stderr, stdout},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use tsmsim_abi::tdx::td_params::TdParams;
use tsmsim_evidence::Verdict;
use tsmsim_simulator::{
    env::Entropy,
    journal::Journal,
    snp::firmware::Firmware,
    tdx::{guest::default_params, vmcall::HostConfig},
};
use tsmsim_vmm::{
    cc::{
        host::HostEntropy,
        linux::{
            ConfidentialMachine, LinuxGuest, SnpLinux, TdxLinux, boot_cove, boot_snp, boot_tdx, measure_cove,
            measure_snp, measure_tdx,
        },
        tdx::Surroundings,
    },
    guest_channel::Said,
    loader::linux::riscv_image::RiscvKernel,
};

use crate::{
    args::{BootArgs, Tee},
    commands::{keys::seed, report::user_data},
    cove,
    failure::Failure,
    linux::{
        engine::Engine,
        image::{Image, Kernel},
        session::{Session, judge_cove, judge_snp, judge_tdx},
    },
    snp::platform,
    tdx,
};

/// Runs the command; gives the exit status of CMD.
pub(crate) fn run(args: &BootArgs) -> Result<ExitCode, Failure> {
    let inblob = inblob(args)?;
    let (status, verdict) = match args.tee {
        Tee::Snp => {
            let (image, engine) = image(args, &inblob)?;
            snp(args, &engine, &image, &inblob)?
        }
        Tee::Tdx => {
            let (image, engine) = image(args, &inblob)?;
            tdx(args, &engine, &image, &inblob)?
        }
        Tee::Cove => {
            let (image, _) = image(args, &inblob)?;
            cove(args, &image, &inblob)?
        }
    };
    if let Some(verdict) = verdict {
        eprintln!("tsmsim: {}", verdict.summary());
        if !verdict.accepted() && status == 0 {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// The guest and what executes it.
fn image<K: Kernel>(args: &BootArgs, inblob: &[u8; 64]) -> Result<(Image<K>, Engine), Failure> {
    let image = Image::new(&args.linux, args.tee, inblob)?;
    let engine = Engine::new(args.engine, args.tee)?;
    eprintln!("tsmsim: Linux {} on {engine}, {} MiB", image.release(), args.linux.mem);
    Ok((image, engine))
}

/// What the report is to carry.
fn inblob(args: &BootArgs) -> Result<[u8; 64], Failure> {
    let given = args.user_data.inblob.is_some() || args.user_data.nonce.is_some();
    if given {
        return user_data(&args.user_data);
    }
    let mut random = [0; 64];
    HostEntropy.fill(&mut random);
    Ok(random)
}

type Ran = (u32, Option<Verdict>);

fn snp(args: &BootArgs, engine: &Engine, image: &Image, inblob: &[u8; 64]) -> Result<Ran, Failure> {
    let platform = platform::build_with_c_bit(&args.platform, engine.c_bit())?;
    let certificates = platform::certificates(&platform)?;
    let snp = SnpLinux {
        certificates: certificates.table.clone(),
        ..SnpLinux::new(Firmware::new(platform.clone()), engine.c_bit())
    };
    let session = Session::new(args.out.as_deref(), args.verbose);
    let guest = session.connect(image.boot(), Box::new(say));
    let (measurement, status) = match engine {
        Engine::Qemu => (measure_snp(&guest, &snp)?, run_guest(args, &session, boot_snp(guest, snp)?)?),
        Engine::Kvm { linux, .. } => {
            (linux.measure_snp(&guest, &snp)?, run_guest(args, &session, linux.boot_snp(guest, snp)?)?)
        }
    };
    let measurement = *measurement.as_bytes();
    let judge = |out: &Path| judge_snp(out, &platform, &certificates, inblob, measurement);
    Ok((status, args.evidence().map(judge).transpose()?.flatten()))
}

fn tdx(args: &BootArgs, engine: &Engine, image: &Image, inblob: &[u8; 64]) -> Result<Ran, Failure> {
    let seed = seed(args.platform.seed.as_deref())?;
    let platform = tdx::local::build(&args.platform, &seed)?;
    let params: TdParams = default_params();
    let host = HostConfig::default();
    let tdx = TdxLinux { platform: platform.clone(), host, params, surroundings: Surroundings::default() };
    let session = Session::new(args.out.as_deref(), args.verbose);
    let guest = session.connect(image.boot(), Box::new(say));
    let (measurement, status) = match engine {
        Engine::Qemu => (measure_tdx(&guest, &tdx)?, run_guest(args, &session, boot_tdx(guest, tdx)?)?),
        Engine::Kvm { linux, .. } => {
            (linux.measure_tdx(&guest, &tdx)?, run_guest(args, &session, linux.boot_tdx(guest, tdx)?)?)
        }
    };
    let judge = |out: &Path| judge_tdx(out, &platform, args.platform.scenario, inblob, measurement);
    Ok((status, args.evidence().map(judge).transpose()?.flatten()))
}

fn cove(args: &BootArgs, image: &Image<RiscvKernel>, inblob: &[u8; 64]) -> Result<Ran, Failure> {
    let seed = seed(args.platform.seed.as_deref())?;
    let platform = cove::local::build(&args.platform, &seed)?;
    let session = Session::new(args.out.as_deref(), args.verbose);
    let guest = session.connect(image.boot(), Box::new(say));
    let registers = measure_cove(&guest, &platform)?;
    let status = run_guest(args, &session, boot_cove(guest, cove::machine::linux(platform.clone())?)?)?;
    let judge = |out: &Path| judge_cove(out, &platform, args.platform.scenario, inblob, &registers);
    Ok((status, args.evidence().map(judge).transpose()?.flatten()))
}

impl BootArgs {
    /// Where evidence is expected: that of the built-in check.
    fn evidence(&self) -> Option<&Path> {
        if self.linux.command.is_empty() { self.out.as_deref() } else { None }
    }
}

/// Runs the guest; gives the exit status of CMD. The journal is written however the guest ends.
fn run_guest<M: ConfidentialMachine>(
    args: &BootArgs,
    session: &Session,
    mut guest: LinuxGuest<M>,
) -> Result<u32, Failure> {
    let status = session.run(&mut guest, Duration::from_secs(args.time));
    let journal: &Journal = guest.machine().journal();
    platform::write_journal(&args.platform, journal)?;
    status
}

/// Passes on what the guest says. A reader that is gone does not end the guest.
fn say(word: Said<'_>) {
    match word {
        Said::Stdout(bytes) => drop(stdout().write_all(bytes).and_then(|()| stdout().flush())),
        Said::Stderr(bytes) => drop(stderr().write_all(bytes)),
        Said::Log(bytes) => drop(writeln!(stderr(), "tsmsim: guest: {}", String::from_utf8_lossy(bytes))),
        Said::Hello | Said::Exit(_) => {}
    }
}
