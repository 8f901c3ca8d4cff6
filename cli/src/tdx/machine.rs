//! A bare-metal TD in a virtual machine, and the evidence that it hands out.

use std::time::{Duration, Instant};

use tsmsim_abi::tdx::{report::TdReport, td_params::ConfigFlags};
use tsmsim_simulator::tdx::{
    guest::default_params,
    platform::{TdxPlatform, TdxVersion},
    vmcall::HostConfig,
};
use tsmsim_vmm::{
    cc::{
        boot_td::{BootedTd, TdBootRequest, boot_td},
        tdx::{End, Surroundings},
    },
    loader::bare_metal::GuestTask,
};
use zerocopy::FromBytes;

use crate::{console::Console, failure::Failure};

/// Until a quote is there: long enough for the TD to see it in flight.
const QUOTE_DELAY_NS: u64 = 1_000_000;

/// How a TD's run went.
pub(crate) struct Run {
    /// What it printed.
    pub(crate) console: Console,
    /// How it ended.
    pub(crate) end: End,
}

/// What a TD handed out.
pub(crate) struct Obtained {
    /// The report.
    pub(crate) report: TdReport,
    /// The quote of that report.
    pub(crate) quote: Vec<u8>,
    /// What the TD measured into RTMRs.
    pub(crate) event_log: Vec<u8>,
}

/// Runs all checks of a TD; `verbose` copies its console to the standard error output.
pub(crate) fn run(
    elf: &[u8],
    platform: &TdxPlatform,
    report_data: [u8; 64],
    time: Duration,
    verbose: bool,
) -> Result<Run, Failure> {
    let mut params = default_params();
    // A TD of 1.5 may choose #VE for pages that it did not accept, and tries that.
    let flexible = platform.version() >= TdxVersion::V1_5;
    params.config_flags = u64::from(ConfigFlags::new().with_flexible_pending_ve(flexible)).into();
    let request = TdBootRequest {
        elf,
        platform: platform.clone(),
        host: HostConfig { quote_delay_ns: Some(QUOTE_DELAY_NS), ..HostConfig::default() },
        params,
        task: GuestTask { mode: 0, count: 0, report_data },
        surroundings: Surroundings::default(),
        console: verbose.then(|| Box::new(std::io::stderr()) as _),
    };
    let BootedTd { mut machine, console, .. } =
        boot_td(request).map_err(|error| Failure::because("booting the TD", error))?;
    let end =
        machine.run(Instant::now() + time).map_err(|error| Failure::because("running the TD", error))?;
    Ok(Run { console: Console::read(&console.contents()), end })
}

impl Run {
    /// The evidence, or why there is none.
    pub(crate) fn obtained(&self) -> Result<Obtained, String> {
        if let Some(why) = self.console.failure() {
            return Err(why);
        }
        let blob = |name| self.console.blob(name).ok_or_else(|| format!("the TD printed no {name}"));
        let report = TdReport::read_from_bytes(blob("tdreport")?)
            .map_err(|_| "what the TD printed as its report is none".to_owned())?;
        Ok(Obtained { report, quote: blob("quote")?.to_vec(), event_log: blob("ccel")?.to_vec() })
    }
}
