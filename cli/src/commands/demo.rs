//! `tsmsim demo`: everything that this machine can do, as one table of verified evidence.

use std::time::{Duration, Instant};

use serde_json::json;
use tsmsim_abi::snp::{policy::GuestPolicy, report::AttestationReport, tcb::ProductLine};
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{
    firmware::Firmware,
    platform::{Platform, PlatformConfig},
};
use tsmsim_vmm::{
    cc::{
        boot::{BootRequest, BootedGuest, boot, c_bit},
        snp::End,
    },
    engine::EngineError,
    loader::bare_metal::GuestTask,
};
use zerocopy::FromBytes;

use crate::{
    args::DemoArgs,
    console::Console,
    evidence::Evidence,
    failure::Failure,
    guest::{self, Guest},
    output::{hex, print, print_json, table},
    platform::{self, Certificates},
};

/// How long one guest may run. The slow kind of KVM needs about a second.
const GUEST_TIME: Duration = Duration::from_secs(60);

/// What is shown: a platform and the key that signs.
const SCENES: [(ProductLine, Option<&str>); 4] = [
    (ProductLine::Milan, None),
    (ProductLine::Genoa, None),
    (ProductLine::Turin, None),
    (ProductLine::Genoa, Some("tsmsim")),
];

/// One row of the table.
struct Row {
    name: String,
    report_version: u32,
    key: &'static str,
    checks: (usize, usize),
    measurement: [u8; 48],
    took: Duration,
    /// Why it is refused; `None` if all is well.
    refused: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let guest = guest::load(args.kernel.as_deref())?;
    let c_bit = c_bit().map_err(lacking)?;
    let mut rows = Vec::new();
    for (line, csp_id) in SCENES {
        rows.push(scene(args, &guest, c_bit, line, csp_id)?);
    }
    if args.json {
        print_json(&rows.iter().map(Row::to_json).collect());
    } else {
        print(&rendered(&rows));
    }
    if rows.iter().all(|row| row.refused.is_none()) { Ok(()) } else { Err(Failure::Refused) }
}

/// What KVM lacks is what this machine lacks.
fn lacking(error: EngineError) -> Failure {
    Failure::Lacking(format!("no guest can be run here: {error}"))
}

fn build(line: ProductLine, csp_id: Option<&str>, c_bit: u8) -> Result<Platform, Failure> {
    let config = PlatformConfig::new(line).with_c_bit(c_bit);
    let config = csp_id.into_iter().fold(config, PlatformConfig::with_vlek);
    config.build(&Seed::DEFAULT).map_err(|error| Failure::because("building the platform", error))
}

fn scene(
    args: &DemoArgs,
    guest: &Guest,
    c_bit: u8,
    line: ProductLine,
    csp_id: Option<&str>,
) -> Result<Row, Failure> {
    let described = build(line, csp_id, c_bit)?;
    let certificates = platform::certificates(&described)?;
    let mut report_data = [0; 64];
    getrandom::fill(&mut report_data).map_err(|error| Failure::because("asking for randomness", error))?;
    let request = BootRequest {
        elf: &guest.elf,
        firmware: Firmware::new(build(line, csp_id, c_bit)?),
        c_bit,
        certificates: certificates.table.clone(),
        policy: GuestPolicy::DEFAULT,
        task: GuestTask { mode: 0, count: 0, report_data },
        console: args.verbose.then(|| Box::new(std::io::stderr()) as _),
    };
    let started = Instant::now();
    let BootedGuest { mut machine, console, .. } =
        boot(request).map_err(|error| Failure::Lacking(format!("the guest cannot be booted: {error}")))?;
    let end =
        machine.run(started + GUEST_TIME).map_err(|error| Failure::because("running the guest", error))?;
    let took = started.elapsed();
    let console = Console::read(&console.contents());
    let name =
        format!("kvm-{}-{}", line.name().to_lowercase(), if csp_id.is_some() { "vlek" } else { "vcek" });
    let refused = match judge(args, guest, &described, &certificates, &console, &report_data, &name)? {
        None if end != End::Done(0) => Some(end.to_string()),
        refused => refused,
    };
    Ok(Row {
        name,
        report_version: described.report_version(),
        key: if csp_id.is_some() { "VLEK" } else { "VCEK" },
        checks: (console.checks.iter().filter(|check| check.passed).count(), console.checks.len()),
        measurement: *guest.measure().as_bytes(),
        took,
        refused,
    })
}

/// Judges what the guest printed; keeps it if asked to.
fn judge(
    args: &DemoArgs,
    guest: &Guest,
    platform: &Platform,
    certificates: &Certificates,
    console: &Console,
    inblob: &[u8; 64],
    name: &str,
) -> Result<Option<String>, Failure> {
    if let Some(why) = console.failure() {
        return Ok(Some(why));
    }
    let report = console.blob("report").and_then(|bytes| AttestationReport::read_from_bytes(bytes).ok());
    let (Some(report), Some(table)) = (report, console.blob("certificates")) else {
        return Ok(Some("the guest printed no report or no certificates".to_owned()));
    };
    let evidence = Evidence { platform, report: &report, certificates, table, inblob };
    if let Some(out) = &args.out {
        evidence.write(&out.join(name))?;
    }
    Ok(evidence.judge(Some(*guest.measure().as_bytes())).reason())
}

impl Row {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "report_version": self.report_version,
            "signing_key": self.key.to_lowercase(),
            "checks_passed": self.checks.0,
            "checks": self.checks.1,
            "measurement": hex(&self.measurement),
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "verified": self.refused.is_none(),
            "reason": self.refused,
        })
    }
}

fn rendered(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                format!("v{}", row.report_version),
                row.key.to_owned(),
                format!("{}/{}", row.checks.0, row.checks.1),
                format!("{}…", &hex(&row.measurement)[..16]),
                format!("{} ms", row.took.as_millis()),
                row.refused.clone().unwrap_or_else(|| "verified under the synthetic root".to_owned()),
            ]
        })
        .collect();
    let heading = ["guest", "report", "key", "guest's checks", "measurement", "time", "evidence"];
    format!(
        "{}\nEach guest ran under /dev/kvm, spoke the GHCB protocol, and got its report through an encrypted guest message.\n",
        table(&heading, &cells)
    )
}
