//! `tsmsim boot`: a stock Linux kernel becomes a confidential guest, and a program runs in it.

use std::{
    fs,
    io::{Write, stderr, stdout},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_abi::{
    snp::report::AttestationReport,
    tdx::{report::TdReport, td_params::TdParams},
};
use tsmsim_evidence::Verdict;
use tsmsim_simulator::{
    env::Entropy,
    journal::Journal,
    snp::{firmware::Firmware, platform::Platform},
    tdx::{guest::default_params, platform::TdxPlatform, vmcall::HostConfig},
};
use tsmsim_vmm::{
    cc::{
        host::HostEntropy,
        linux::{
            ConfidentialMachine, LinuxBoot, LinuxBootError, LinuxEnd, LinuxGuest, Sink, SnpLinux, TdxLinux,
            boot_snp, boot_tdx, measure_snp, measure_tdx,
        },
        tdx::Surroundings,
    },
    engine::EngineError,
    guest_channel::{ChannelReport, GuestChannel, Limits, Said},
};
use zerocopy::FromBytes;

use crate::{
    args::{BootArgs, EngineChoice, Tee},
    commands::{keys::seed, report::user_data},
    failure::Failure,
    linux::image::Image,
    snp::{
        evidence::Evidence,
        platform::{self, Certificates},
    },
    tdx,
};

/// The C-bit of the real chips.
const C_BIT: u8 = 51;
/// Of a guest that did not come to its end, this many lines of the console are shown.
const LAST_LINES: usize = 25;

/// Runs the command; gives the exit status of CMD.
pub(crate) fn run(args: &BootArgs) -> Result<ExitCode, Failure> {
    if args.engine == EngineChoice::Kvm {
        let text = "stock kernels run on --engine qemu; bare-metal guests on KVM are in `tsmsim demo`";
        return Err(Failure::Usage(text.to_owned()));
    }
    let inblob = inblob(args)?;
    let image = Image::new(&args.linux, args.tee, &inblob)?;
    eprintln!("tsmsim: Linux {} on QEMU's TCG, {} MiB", image.release(), args.linux.mem);
    let (status, verdict) = match args.tee {
        Tee::Snp => snp(args, &image, &inblob)?,
        Tee::Tdx => tdx(args, &image, &inblob)?,
    };
    if let Some(verdict) = verdict {
        eprintln!("tsmsim: {}", verdict.summary());
        if !verdict.accepted() && status == 0 {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
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

fn snp(args: &BootArgs, image: &Image, inblob: &[u8; 64]) -> Result<Ran, Failure> {
    let platform = platform::build(&args.platform)?;
    let certificates = platform::certificates(&platform)?;
    let snp = SnpLinux {
        certificates: certificates.table.clone(),
        ..SnpLinux::new(Firmware::new(platform.clone()), C_BIT)
    };
    let measurement = *measure_snp(&image.boot(), &snp)?.as_bytes();
    let mut session = Session::new(args);
    let status = session.run(args, boot_snp(session.connect(image.boot()), snp)?)?;
    let judge = |out: &Path| judge_snp(out, &platform, &certificates, inblob, measurement);
    Ok((status, args.evidence().map(judge).transpose()?.flatten()))
}

/// Puts beside the guest's report what goes with it; `None` if there is no report.
fn judge_snp(
    out: &Path,
    platform: &Platform,
    certificates: &Certificates,
    inblob: &[u8; 64],
    measurement: [u8; 48],
) -> Result<Option<Verdict>, Failure> {
    let Ok(report) = fs::read(out.join("report.bin")) else { return Ok(None) };
    let report = AttestationReport::read_from_bytes(&report)
        .map_err(|_| Failure::Failed("what the guest delivered as a report is none".to_owned()))?;
    let table = fs::read(out.join("certs.bin")).unwrap_or_default();
    let evidence = Evidence { platform, report: &report, certificates, table: &table, inblob };
    evidence.write(out)?;
    Ok(Some(evidence.judge(Some(measurement))))
}

fn tdx(args: &BootArgs, image: &Image, inblob: &[u8; 64]) -> Result<Ran, Failure> {
    let seed = seed(args.platform.seed.as_deref())?;
    let platform = tdx::local::build(&args.platform, &seed)?;
    let params: TdParams = default_params();
    let host = HostConfig::default();
    let tdx = TdxLinux { platform: platform.clone(), host, params, surroundings: Surroundings::default() };
    let measurement = measure_tdx(&image.boot(), &tdx)?;
    let mut session = Session::new(args);
    let status = session.run(args, boot_tdx(session.connect(image.boot()), tdx)?)?;
    let judge = |out: &Path| judge_tdx(args, out, &platform, inblob, measurement);
    Ok((status, args.evidence().map(judge).transpose()?.flatten()))
}

/// The same for a quote.
fn judge_tdx(
    args: &BootArgs,
    out: &Path,
    platform: &TdxPlatform,
    inblob: &[u8; 64],
    measurement: [u8; 48],
) -> Result<Option<Verdict>, Failure> {
    let (Ok(quote), Ok(report)) = (fs::read(out.join("quote.bin")), fs::read(out.join("tdreport.bin")))
    else {
        return Ok(None);
    };
    let report = TdReport::read_from_bytes(&report)
        .map_err(|_| Failure::Failed("what the guest delivered as a TDREPORT is none".to_owned()))?;
    let (scenario, update) = args.platform.scenario.tdx()?;
    let evidence = tdx::evidence::Evidence::new(platform, &report, quote, inblob)
        .and_then(|evidence| evidence.with_scenario(scenario, update))
        .map_err(|error| Failure::because("issuing collateral", error))?;
    evidence.write(out)?;
    Ok(Some(evidence.judge_launch(Some(measurement))))
}

impl BootArgs {
    /// Where evidence is expected: that of the built-in check.
    fn evidence(&self) -> Option<&Path> {
        if self.linux.command.is_empty() { self.out.as_deref() } else { None }
    }
}

/// The guest's channel, which a thread of the machine's reads.
struct Session {
    channel: Arc<Mutex<Option<GuestChannel>>>,
    verbose: bool,
}

impl Session {
    fn new(args: &BootArgs) -> Self {
        let channel = GuestChannel::new(args.out.as_deref(), Limits::default());
        Self { channel: Arc::new(Mutex::new(Some(channel))), verbose: args.verbose }
    }

    /// Connects console and channel.
    fn connect<'a>(&self, boot: LinuxBoot<'a>) -> LinuxBoot<'a> {
        let shared = Arc::clone(&self.channel);
        let sink: Sink = Box::new(move |bytes| {
            let mut channel = shared.lock().unwrap_or_else(PoisonError::into_inner);
            channel.as_mut().is_none_or(|channel| {
                channel.push(bytes, &mut say);
                channel.status().is_some()
            })
        });
        let console = self.verbose.then(|| Box::new(stderr()) as Box<dyn Write + Send>);
        LinuxBoot { console, channel: Some(sink), ..boot }
    }

    /// Runs the guest; gives the exit status of CMD.
    fn run<M: ConfidentialMachine>(
        &mut self,
        args: &BootArgs,
        mut guest: LinuxGuest<M>,
    ) -> Result<u32, Failure> {
        let end = guest.run(Instant::now() + Duration::from_secs(args.time))?;
        let journal: &Journal = guest.machine().journal();
        platform::write_journal(&args.platform, journal)?;
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let report = channel.map(GuestChannel::finish).unwrap_or_default();
        for problem in &report.problems {
            eprintln!("tsmsim: {problem}");
        }
        status(&end, &report).ok_or_else(|| {
            if !self.verbose {
                eprintln!("tsmsim: the console's last lines:");
                guest.last_lines(LAST_LINES).iter().for_each(|line| eprintln!("  {line}"));
            }
            Failure::Failed(end.to_string())
        })
    }
}

/// The exit status of CMD, if the guest came to its end.
fn status(end: &LinuxEnd, report: &ChannelReport) -> Option<u32> {
    report.status.filter(|_| matches!(end, LinuxEnd::Done | LinuxEnd::PowerOff | LinuxEnd::Restart))
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

impl From<LinuxBootError> for Failure {
    fn from(error: LinuxBootError) -> Self {
        match error {
            LinuxBootError::Kernel(_) | LinuxBootError::Load(_) => Self::Usage(error.to_string()),
            LinuxBootError::Snp(tsmsim_vmm::cc::snp::SnpMachineError::Engine(error))
            | LinuxBootError::Tdx(tsmsim_vmm::cc::tdx::TdMachineError::Engine(error)) => error.into(),
            _ => Self::because("booting the guest", error),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Missing(text) | EngineError::NotPermitted(text) => Self::Lacking(text),
            _ => Self::because("running the guest", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_came_to_its_end_has_a_status() {
        let report = |status| ChannelReport { status, ..ChannelReport::default() };
        assert_eq!(status(&LinuxEnd::Done, &report(Some(7))), Some(7));
        assert_eq!(status(&LinuxEnd::PowerOff, &report(Some(0))), Some(0));
        assert_eq!(status(&LinuxEnd::TimeOut, &report(Some(0))), None);
        assert_eq!(status(&LinuxEnd::Restart, &report(None)), None);
    }
}
