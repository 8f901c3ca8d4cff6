//! `tsmsim report`: evidence without any guest.

use tsmsim_abi::snp::policy::GuestPolicy;
use tsmsim_simulator::snp::guest::ExtendedReport;

use crate::{
    args::{ReportArgs, Tee, UserData},
    commands::{keys::seed, verify::accepted},
    evidence::Evidence,
    failure::Failure,
    local::Local,
    output::{hex, print, print_json, read_file},
    platform,
};

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let Tee::Snp = args.tee;
    let inblob = user_data(&args.user_data)?;
    let local = Local {
        policy: args.policy.map_or(GuestPolicy::DEFAULT, GuestPolicy::from),
        host_data: args.host_data.unwrap_or_default(),
        vmpl: args.vmpl,
        inblob,
    };
    let described = platform::build(&args.platform)?;
    let certificates = platform::certificates(&described)?;
    let seed = seed(args.platform.seed.as_deref())?;
    let mut guest = local
        .launch(described.clone(), &certificates.table, &seed)
        .map_err(|error| Failure::because("launching the in-process guest", error))?;
    let obtained = local.ask(&mut guest);
    platform::write_journal(&args.platform, &guest.world().journal)?;
    let ExtendedReport { report, certificates: table } =
        obtained.map_err(|error| Failure::because("asking for a report", error))?;
    let evidence = Evidence {
        platform: &described,
        report: &report,
        certificates: &certificates,
        table: &table,
        inblob: &inblob,
    };
    let description = evidence.write(&args.out)?;
    let verdict = evidence.judge(None);
    if args.json {
        print_json(&description);
    } else {
        let measurement = hex(&report.measurement);
        print(&format!("measurement {measurement}\n{}: {}\n", args.out.display(), verdict.summary()));
    }
    accepted(&verdict)
}

/// The 64 bytes that the report is to carry.
fn user_data(args: &UserData) -> Result<[u8; 64], Failure> {
    let bytes = match (&args.inblob, &args.nonce) {
        (Some(path), _) => read_file(path)?,
        (None, Some(nonce)) => nonce.0.clone(),
        (None, None) => Vec::new(),
    };
    let mut inblob = [0; 64];
    inblob
        .get_mut(..bytes.len())
        .ok_or_else(|| Failure::Usage(format!("a report carries 64 bytes, not {}", bytes.len())))?
        .copy_from_slice(&bytes);
    Ok(inblob)
}
