//! `tsmsim report`: evidence without any guest.

use tsmsim_abi::snp::{PAGE_SIZE, launch::PageType, payload::KeySel, policy::GuestPolicy};
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::{ExtendedReport, GuestError, IMAGE_GPA, InProcessGuest, World},
    host::{HostConfig, LaunchPlan, PageContents, PlannedPage},
    platform::Platform,
};

use crate::{
    args::{ReportArgs, Tee, UserData},
    commands::{keys::seed, verify::accepted},
    evidence::Evidence,
    failure::Failure,
    output::{hex, print, print_json, read_file},
    platform::{self, Certificates},
};

/// Memory of the in-process guest.
const RAM: usize = 1 << 20;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let Tee::Snp = args.tee;
    let inblob = user_data(&args.user_data)?;
    // One platform signs, another one (the same, from the same seed) describes: the firmware owns its platform.
    let described = platform::build(&args.platform)?;
    let certificates = platform::certificates(&described)?;
    let mut guest = launch(args, platform::build(&args.platform)?, &certificates, &inblob)
        .map_err(|error| Failure::because("launching the in-process guest", error))?;
    let obtained = obtain(&mut guest, args, &inblob);
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
        print(&format!(
            "measurement {}\n{}: {}\n",
            hex(&report.measurement),
            args.out.display(),
            verdict.summary()
        ));
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

/// Launches a guest of one page, whose entropy follows from the seed and the user data: the same arguments give the
/// same evidence.
fn launch(
    args: &ReportArgs,
    platform: Platform,
    certificates: &Certificates,
    inblob: &[u8; 64],
) -> Result<InProcessGuest, GuestError> {
    let mut image = Box::new([0; PAGE_SIZE]);
    let text = b"tsmsim report: a guest of one page, which asks for a report and ends";
    image[..text.len()].copy_from_slice(text);
    let policy = args.policy.map_or(GuestPolicy::DEFAULT, GuestPolicy::from);
    let mut plan = LaunchPlan::from(policy);
    plan.host_data = args.host_data.unwrap_or_default();
    plan.pages.push(PlannedPage {
        page_type: PageType::NORMAL,
        attributes: IMAGE_GPA.into(),
        contents: PageContents::Given(image),
    });
    let seed = seed(args.platform.seed.as_deref()).unwrap_or(Seed::DEFAULT);
    let config = HostConfig {
        ram: std::iter::once(0..RAM as u64).collect(),
        certificates: certificates.table.clone(),
        ..HostConfig::default()
    };
    let world = World::new(RAM, seed.derive_seed(&[b"tsmsim report", inblob]));
    InProcessGuest::launch(Firmware::new(platform), config, plan, world)
}

fn obtain(
    guest: &mut InProcessGuest,
    args: &ReportArgs,
    inblob: &[u8; 64],
) -> Result<ExtendedReport, GuestError> {
    let pages = guest.layout().cert_pages;
    guest.extended_report(inblob, args.vmpl, KeySel::VlekElseVcek, pages)
}
