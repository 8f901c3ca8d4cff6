//! `tsmsim demo`: everything that this machine can do, as one table of verified evidence.

mod cove;
mod stock;

use std::time::{Duration, Instant};

use serde_json::json;
use tsmsim_abi::snp::{policy::GuestPolicy, report::AttestationReport, tcb::ProductLine};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::ExtendedReport,
    platform::{Platform, PlatformConfig},
};
use tsmsim_vmm::{
    cc::{
        boot::{BootRequest, BootedGuest, boot, c_bit},
        boot_td::can_run,
        snp::End,
    },
    engine::kvm::probe,
    loader::{bare_metal::GuestTask, td},
};
use zerocopy::FromBytes;

use crate::{
    args::{DemoArgs, Profile},
    console::Console,
    failure::Failure,
    guest::{self, Guest},
    output::{hex, print, print_json, table},
    snp::{
        evidence::Evidence,
        local::Local,
        platform::{self, Certificates},
    },
    tdx::{self, machine::Obtained},
};

/// How long one guest may run. The slow kind of KVM needs about a second.
const GUEST_TIME: Duration = Duration::from_secs(60);
/// The C-bit of the real chips.
const HARDWARE_C_BIT: u8 = 51;

/// What is shown: a platform and the key that signs.
#[derive(Clone, Copy)]
struct Scene {
    line: ProductLine,
    csp_id: Option<&'static str>,
}

const SCENES: [Scene; 4] = [
    Scene { line: ProductLine::Milan, csp_id: None },
    Scene { line: ProductLine::Genoa, csp_id: None },
    Scene { line: ProductLine::Turin, csp_id: None },
    Scene { line: ProductLine::Genoa, csp_id: Some("tsmsim") },
];

/// The TDX platforms that are shown, and the version of their quotes.
const QUOTES: [(Profile, u8); 2] = [(Profile::Tdx10, 4), (Profile::Tdx15, 5)];

/// One row of the table.
struct Row {
    name: String,
    /// Version of the report or quote.
    report_version: Option<u32>,
    key: Option<&'static str>,
    /// Checks of the guest's that passed, and all; `None` where nothing ran in a virtual machine.
    checks: Option<(usize, usize)>,
    measurement: Option<[u8; 48]>,
    took: Duration,
    /// Why it is refused; `None` if all is well.
    refused: Option<String>,
    /// What is lacking; the guest was not run then.
    lacking: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let guest = guest::load(args.kernel.as_deref())?;
    let mut rows = Vec::new();
    let kvm = c_bit();
    if let Ok(c_bit) = kvm {
        for scene in SCENES {
            rows.push(scene.under_kvm(args, &guest, c_bit)?);
        }
    }
    let td = can_run();
    if td.is_ok() {
        for (profile, quote_version) in QUOTES {
            rows.push(quote_under_kvm(args, &guest, profile, quote_version)?);
        }
    }
    rows.extend(cove::machine_rows(args)?);
    rows.extend(stock::rows(args)?);
    for scene in SCENES {
        rows.push(scene.in_process(args)?);
    }
    for (profile, quote_version) in QUOTES {
        rows.push(quote(args, profile, quote_version)?);
    }
    rows.extend(cove::rows(args)?);
    if args.json {
        print_json(&rows.iter().map(Row::to_json).collect());
    } else {
        print(&rendered(&rows));
    }
    if rows.iter().any(|row| row.refused.is_some()) {
        return Err(Failure::Refused);
    }
    kvm.and(td).map_err(|error| Failure::Lacking(format!("no virtual machine can be run here: {error}")))
}

impl Scene {
    fn name(self, how: &str) -> String {
        let key = if self.csp_id.is_some() { "vlek" } else { "vcek" };
        format!("{how}-{}-{key}", self.line.name().to_lowercase())
    }

    fn platform(self, c_bit: u8) -> Result<Platform, Failure> {
        let config = PlatformConfig::new(self.line).with_c_bit(c_bit);
        let config = self.csp_id.into_iter().fold(config, PlatformConfig::with_vlek);
        config.build(&Seed::DEFAULT).map_err(|error| Failure::because("building the platform", error))
    }

    fn row(self, how: &str, described: &Platform, report_measurement: [u8; 48], took: Duration) -> Row {
        Row {
            name: self.name(how),
            report_version: Some(described.report_version()),
            key: Some(if self.csp_id.is_some() { "VLEK" } else { "VCEK" }),
            checks: None,
            measurement: Some(report_measurement),
            took,
            refused: None,
            lacking: None,
        }
    }

    /// A bare-metal guest in a virtual machine.
    fn under_kvm(self, args: &DemoArgs, guest: &Guest, c_bit: u8) -> Result<Row, Failure> {
        let described = self.platform(c_bit)?;
        let certificates = platform::certificates(&described)?;
        let report_data = nonce()?;
        let request = BootRequest {
            elf: &guest.elf,
            firmware: Firmware::new(described.clone()),
            c_bit,
            certificates: certificates.table.clone(),
            policy: GuestPolicy::DEFAULT,
            task: GuestTask { mode: 0, count: 0, report_data },
            console: args.verbose.then(|| Box::new(std::io::stderr()) as _),
        };
        let started = Instant::now();
        let BootedGuest { mut machine, console, .. } =
            boot(request).map_err(|error| Failure::because("booting the guest", error))?;
        let end = machine
            .run(started + GUEST_TIME)
            .map_err(|error| Failure::because("running the guest", error))?;
        let console = Console::read(&console.contents());
        let row = self.row("kvm", &described, *guest.measure().as_bytes(), started.elapsed());
        let directory = args.out.as_ref().map(|out| out.join(&row.name));
        let refused = match obtained(&console, &described, &certificates, &report_data) {
            Ok(evidence) => {
                directory.map(|directory| evidence.write(&directory)).transpose()?;
                evidence.judge(row.measurement).reason()
            }
            Err(why) => Some(why),
        };
        let checks = console.count();
        let refused = refused.or_else(|| (end != End::Done(0)).then(|| end.to_string()));
        Ok(Row { checks: Some(checks), refused, ..row })
    }

    /// The same firmware, asked from inside this process.
    fn in_process(self, args: &DemoArgs) -> Result<Row, Failure> {
        let described = self.platform(HARDWARE_C_BIT)?;
        let certificates = platform::certificates(&described)?;
        let local = Local::new(nonce()?);
        let failed = |error| Failure::because("running the in-process guest", error);
        let started = Instant::now();
        let mut guest =
            local.launch(described.clone(), &certificates.table, &Seed::DEFAULT).map_err(failed)?;
        let ExtendedReport { report, certificates: table } = local.ask(&mut guest).map_err(failed)?;
        let row = self.row("in-process", &described, report.measurement, started.elapsed());
        let evidence = Evidence {
            platform: &described,
            report: &report,
            certificates: &certificates,
            table: &table,
            inblob: &local.inblob,
        };
        if let Some(out) = &args.out {
            evidence.write(&out.join(&row.name))?;
        }
        Ok(Row { refused: evidence.judge(None).reason(), ..row })
    }
}

/// A quote from a bare-metal TD in a virtual machine.
fn quote_under_kvm(
    args: &DemoArgs,
    guest: &Guest,
    profile: Profile,
    quote_version: u8,
) -> Result<Row, Failure> {
    let platform =
        tdx::local::platform(profile, quote_version == 5, SignatureMode::default(), &Seed::DEFAULT)?;
    let report_data = nonce()?;
    let measurement = td::measure(&guest.elf)
        .map_err(|error| Failure::Usage(format!("the guest cannot be loaded: {error}")))?;
    let started = Instant::now();
    let run = tdx::machine::run(&guest.elf, &platform, report_data, GUEST_TIME, args.verbose)?;
    let took = started.elapsed();
    let name = format!("kvm-{}", tdx::local::profile_name(&platform));
    let refused = match run.obtained() {
        Ok(Obtained { report, quote, event_log }) => {
            let evidence = tdx::evidence::Evidence::new(&platform, &report, quote, &report_data)
                .map_err(|error| Failure::because("issuing collateral", error))?
                .with_event_log(Some(event_log));
            if let Some(out) = &args.out {
                evidence.write(&out.join(&name))?;
            }
            evidence.judge_launch(Some(measurement)).reason()
        }
        Err(why) => Some(why),
    };
    let refused = refused.or_else(|| (run.end != End::Done(0)).then(|| run.end.to_string()));
    Ok(Row {
        name,
        report_version: Some(quote_version.into()),
        key: Some("PCK"),
        checks: Some(run.console.count()),
        measurement: Some(measurement),
        took,
        refused,
        lacking: None,
    })
}

/// A quote from a TD inside this process.
fn quote(args: &DemoArgs, profile: Profile, quote_version: u8) -> Result<Row, Failure> {
    let platform =
        tdx::local::platform(profile, quote_version == 5, SignatureMode::default(), &Seed::DEFAULT)?;
    let inblob = nonce()?;
    let failed = |error| Failure::because("running the in-process TD", error);
    let started = Instant::now();
    let mut guest = tdx::local::launch(platform.clone(), &Seed::DEFAULT, &inblob).map_err(failed)?;
    let (report, quote) = tdx::local::ask(&mut guest, &inblob).map_err(failed)?;
    let took = started.elapsed();
    let evidence = tdx::evidence::Evidence::new(&platform, &report, quote, &inblob)
        .map_err(|error| Failure::because("issuing collateral", error))?;
    let name = format!("in-process-{}", tdx::local::profile_name(&platform));
    if let Some(out) = &args.out {
        evidence.write(&out.join(&name))?;
    }
    Ok(Row {
        name,
        report_version: Some(quote_version.into()),
        key: Some("PCK"),
        checks: None,
        measurement: Some(report.td_info.mr_td),
        took,
        refused: evidence.judge().reason(),
        lacking: None,
    })
}

fn nonce() -> Result<[u8; 64], Failure> {
    let mut nonce = [0; 64];
    getrandom::fill(&mut nonce).map_err(|error| Failure::because("asking for randomness", error))?;
    Ok(nonce)
}

/// The evidence that a guest printed, or why there is none.
fn obtained<'a>(
    console: &'a Console,
    platform: &'a Platform,
    certificates: &'a Certificates,
    inblob: &'a [u8; 64],
) -> Result<Evidence<'a>, String> {
    if let Some(why) = console.failure() {
        return Err(why);
    }
    let report = console.blob("report").and_then(|bytes| AttestationReport::ref_from_bytes(bytes).ok());
    match (report, console.blob("certificates")) {
        (Some(report), Some(table)) => Ok(Evidence { platform, report, certificates, table, inblob }),
        _ => Err("the guest printed no report or no certificates".to_owned()),
    }
}

impl Row {
    /// A guest that was not run, and why.
    fn lacking(name: String, why: String) -> Self {
        Self {
            name,
            report_version: None,
            key: None,
            checks: None,
            measurement: None,
            took: Duration::ZERO,
            refused: None,
            lacking: Some(why),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "report_version": self.report_version,
            "signing_key": self.key.map(str::to_lowercase),
            "checks_passed": self.checks.map(|checks| checks.0),
            "checks": self.checks.map(|checks| checks.1),
            "measurement": self.measurement.map(|measurement| hex(&measurement)),
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "verified": self.lacking.is_none().then_some(self.refused.is_none()),
            "reason": self.refused,
            "lacking": self.lacking,
        })
    }

    fn cells(&self) -> Vec<String> {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let evidence = match (&self.lacking, &self.refused) {
            (Some(why), _) => format!("not run: {why}"),
            (None, Some(why)) => why.clone(),
            (None, None) => "verified under the synthetic root".to_owned(),
        };
        vec![
            self.name.clone(),
            or_dash(self.report_version.map(|version| format!("v{version}"))),
            or_dash(self.key.map(str::to_owned)),
            or_dash(self.checks.map(|(passed, all)| format!("{passed}/{all}"))),
            or_dash(self.measurement.map(|measurement| format!("{}…", &hex(&measurement)[..16]))),
            or_dash(self.lacking.is_none().then(|| format!("{:.1} ms", self.took.as_secs_f64() * 1000.0))),
            evidence,
        ]
    }
}

fn rendered(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    let heading = ["guest", "report", "key", "guest's checks", "measurement", "time", "evidence"];
    format!(
        "{}\nkvm: a guest under /dev/kvm that got its report through an encrypted guest message, or as TD its quote through shared memory.\n\
         ckb-vm, qemu: a bare-metal RISC-V guest in an interpreter, and on QEMU's processor, that got its evidence by ecall.\n\
         qemu-linux: a stock Linux kernel on QEMU's processor; its own driver, or for CoVE our module, delivered the evidence through configfs.\n\
         in-process: the same firmware models, asked by a guest without a virtual machine.\n\
         {}\n",
        table(&heading, &cells),
        probe(),
    )
}
