//! A Linux guest from its first instruction to its end, and the evidence that it left.

use std::{
    fs,
    io::{Write, stderr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_abi::{snp::report::AttestationReport, tdx::report::TdReport};
use tsmsim_evidence::Verdict;
use tsmsim_simulator::{
    cove::{measure::InitialRegisters, platform::CovePlatform},
    snp::platform::Platform,
    tdx::platform::TdxPlatform,
};
use tsmsim_vmm::{
    cc::linux::{ConfidentialMachine, LinuxBoot, LinuxBootError, LinuxEnd, LinuxGuest, Sink},
    engine::EngineError,
    guest_channel::{ChannelReport, GuestChannel, Limits, Said},
};
use zerocopy::FromBytes;

use crate::{
    args::{EvidenceFormat, ScenarioArgs},
    cove,
    failure::Failure,
    snp::{evidence::Evidence, platform::Certificates},
    tdx,
};

/// Of a guest that did not come to its end, this many lines of the console are shown.
const LAST_LINES: usize = 25;

/// Hears what a guest says.
pub(crate) type Listener = Box<dyn FnMut(Said<'_>) + Send>;

/// The guest's channel, which a thread of the machine's reads.
pub(crate) struct Session {
    channel: Arc<Mutex<Option<GuestChannel>>>,
    verbose: bool,
}

impl Session {
    /// A session whose guest leaves its files in a directory, or nowhere; `verbose` shows its console.
    pub(crate) fn new(out: Option<&Path>, verbose: bool) -> Self {
        let channel = GuestChannel::new(out, Limits::default());
        Self { channel: Arc::new(Mutex::new(Some(channel))), verbose }
    }

    /// Connects console and channel.
    pub(crate) fn connect<'a, K>(&self, boot: LinuxBoot<'a, K>, mut listener: Listener) -> LinuxBoot<'a, K> {
        let shared = Arc::clone(&self.channel);
        let sink: Sink = Box::new(move |bytes| {
            let mut channel = shared.lock().unwrap_or_else(PoisonError::into_inner);
            channel.as_mut().is_none_or(|channel| {
                channel.push(bytes, &mut listener);
                channel.status().is_some()
            })
        });
        let console = self.verbose.then(|| Box::new(stderr()) as Box<dyn Write + Send>);
        LinuxBoot { console, channel: Some(sink), ..boot }
    }

    /// Runs the guest; gives the exit status of CMD.
    pub(crate) fn run<M: ConfidentialMachine>(
        &self,
        guest: &mut LinuxGuest<M>,
        time: Duration,
    ) -> Result<u32, Failure> {
        let end = guest.run(Instant::now() + time)?;
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

/// Puts beside the report that the guest left in `out` what goes with it, and judges it; `None` if there is no report.
pub(crate) fn judge_snp(
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

/// The same for a quote.
pub(crate) fn judge_tdx(
    out: &Path,
    platform: &TdxPlatform,
    scenario: ScenarioArgs,
    inblob: &[u8; 64],
    measurement: [u8; 48],
) -> Result<Option<Verdict>, Failure> {
    let (Ok(quote), Ok(report)) = (fs::read(out.join("quote.bin")), fs::read(out.join("tdreport.bin")))
    else {
        return Ok(None);
    };
    let report = TdReport::read_from_bytes(&report)
        .map_err(|_| Failure::Failed("what the guest delivered as a TDREPORT is none".to_owned()))?;
    let (scenario, update) = scenario.tdx()?;
    let evidence = tdx::evidence::Evidence::new(platform, &report, quote, inblob)
        .and_then(|evidence| evidence.with_scenario(scenario, update))
        .map_err(|error| Failure::because("issuing collateral", error))?;
    evidence.write(out)?;
    Ok(Some(evidence.judge_launch(Some(measurement))))
}

/// The same for CoVE's evidence, in whichever form it is. The initial registers must be those that were predicted.
pub(crate) fn judge_cove(
    out: &Path,
    platform: &CovePlatform,
    scenario: ScenarioArgs,
    inblob: &[u8; 64],
    registers: &InitialRegisters,
) -> Result<Option<Verdict>, Failure> {
    let Ok(bytes) = fs::read(out.join("evidence.bin")) else { return Ok(None) };
    let format = EvidenceFormat::of(&bytes);
    let evidence = cove::evidence::Evidence::new(platform, format, bytes, inblob, scenario.cove()?)
        .map_err(|error| Failure::because("issuing certificates", error))?;
    evidence.write(out)?;
    Ok(Some(evidence.judge_launch(Some(registers))))
}

impl From<LinuxBootError> for Failure {
    fn from(error: LinuxBootError) -> Self {
        match error {
            LinuxBootError::Kernel(_) | LinuxBootError::Load(_) | LinuxBootError::LoadTvm(_) => {
                Self::Usage(error.to_string())
            }
            LinuxBootError::Snp(tsmsim_vmm::cc::snp::SnpMachineError::Engine(error))
            | LinuxBootError::Tdx(tsmsim_vmm::cc::tdx::TdMachineError::Engine(error))
            | LinuxBootError::Cove(tsmsim_vmm::cc::cove::TvmMachineError::Engine(error)) => error.into(),
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
