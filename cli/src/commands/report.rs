//! `tsmsim report`: evidence without any guest.

use serde_json::Value;
use tsmsim_abi::snp::policy::GuestPolicy;
use tsmsim_evidence::Verdict;
use tsmsim_simulator::snp::guest::ExtendedReport;

use crate::{
    args::{ReportArgs, Tee, UserData},
    commands::{keys::seed, verify::accepted},
    cove,
    failure::Failure,
    output::{print, print_json, read_file},
    snp::{evidence::Evidence, local::Local, platform},
    tdx,
};

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let inblob = user_data(&args.user_data)?;
    if args.format.is_some() && args.tee != Tee::Cove {
        return Err(Failure::Usage("--format is for --tee cove".to_owned()));
    }
    let (description, verdict) = match args.tee {
        Tee::Snp => snp_report(args, inblob)?,
        Tee::Tdx => tdx_quote(args, &inblob)?,
        Tee::Cove => cove_evidence(args, &inblob)?,
    };
    if args.json {
        print_json(&description);
    } else {
        let measurement = description["measurement"].as_str().unwrap_or_default();
        print(&format!("measurement {measurement}\n{}: {}\n", args.out.display(), verdict.summary()));
    }
    accepted(&verdict)
}

fn snp_report(args: &ReportArgs, inblob: [u8; 64]) -> Result<(Value, Verdict), Failure> {
    if !args.event.is_empty() {
        return Err(Failure::Usage("--event is for --tee tdx".to_owned()));
    }
    let local = Local {
        policy: args.policy.map_or(GuestPolicy::DEFAULT, GuestPolicy::from),
        host_data: args.host_data.unwrap_or_default(),
        vmpl: args.vmpl.unwrap_or(0),
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
    Ok((evidence.write(&args.out)?, evidence.judge(None)))
}

fn tdx_quote(args: &ReportArgs, inblob: &[u8; 64]) -> Result<(Value, Verdict), Failure> {
    let snp_only = args.vmpl.is_some()
        || args.policy.is_some()
        || args.host_data.is_some()
        || args.platform.report_version.is_some()
        || args.platform.vlek.is_some()
        || args.platform.mask_chip_id;
    if snp_only {
        let text =
            "--vmpl, --policy, --host-data, --report-version, --vlek and --mask-chip-id are for --tee snp";
        return Err(Failure::Usage(text.to_owned()));
    }
    let (scenario, update) = args.platform.scenario.tdx()?;
    let seed = seed(args.platform.seed.as_deref())?;
    let described = tdx::local::build(&args.platform, &seed)?;
    let mut guest = tdx::local::launch(described.clone(), &seed, inblob)
        .map_err(|error| Failure::because("launching the in-process TD", error))?;
    let event_log = tdx::local::measure(&mut guest, &args.event)?;
    let obtained = tdx::local::ask(&mut guest, inblob);
    platform::write_journal(&args.platform, &guest.world().journal)?;
    let (report, quote) = obtained.map_err(|error| Failure::because("asking for a quote", error))?;
    let evidence = tdx::evidence::Evidence::new(&described, &report, quote, inblob)
        .and_then(|evidence| evidence.with_scenario(scenario, update))
        .map_err(|error| Failure::because("issuing collateral", error))?
        .with_event_log(event_log);
    Ok((evidence.write(&args.out)?, evidence.judge()))
}

fn cove_evidence(args: &ReportArgs, inblob: &[u8; 64]) -> Result<(Value, Verdict), Failure> {
    let other =
        args.vmpl.is_some() || args.policy.is_some() || args.host_data.is_some() || !args.event.is_empty();
    if other {
        let text = "--vmpl, --policy and --host-data are for --tee snp, --event is for --tee tdx";
        return Err(Failure::Usage(text.to_owned()));
    }
    let scenario = args.platform.scenario.cove()?;
    let seed = seed(args.platform.seed.as_deref())?;
    let described = cove::local::build(&args.platform, &seed)?;
    let format = args.format.unwrap_or_default();
    let mut guest = cove::local::launch(described.clone(), &seed, inblob)
        .map_err(|error| Failure::because("launching the in-process TVM", error))?;
    let obtained = cove::local::ask(&mut guest, format, inblob);
    platform::write_journal(&args.platform, &guest.world().journal)?;
    let bytes = obtained.map_err(|error| Failure::because("asking for evidence", error))?;
    let evidence = cove::evidence::Evidence::new(&described, format, bytes, inblob, scenario)
        .map_err(|error| Failure::because("issuing certificates", error))?;
    Ok((evidence.write(&args.out)?, evidence.judge()))
}

/// The 64 bytes that the report is to carry.
pub(crate) fn user_data(args: &UserData) -> Result<[u8; 64], Failure> {
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
