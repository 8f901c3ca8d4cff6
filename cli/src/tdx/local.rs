//! Evidence without a virtual machine: a TD of one page inside this process.

use tsmsim_abi::tdx::{
    ccel::{EventType, LogWriter, MeasurementRegister},
    report::TdReport,
};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    snp::guest::World,
    tdx::{
        PAGE_SIZE,
        guest::{IMAGE_GPA, InProcessTdGuest, TdGuestError, default_params},
        machine::{LaunchPlan, PlannedPage},
        mrtd::sha384,
        platform::{QuoteFormat, TdxPlatform, TdxPlatformConfig, TdxVersion},
        vmcall::HostConfig,
    },
};

use crate::{
    args::{PlatformArgs, Profile, RtmrEvent},
    failure::Failure,
    snp::platform::signature_mode,
};

/// Memory of the TD.
const RAM: usize = 1 << 20;
/// What its one page holds.
const IMAGE: &[u8] = b"tsmsim report: a TD of one page, which asks for a quote and ends";

/// Builds the platform that the arguments describe.
pub(crate) fn build(args: &PlatformArgs, seed: &Seed) -> Result<TdxPlatform, Failure> {
    let profile = args.profile.unwrap_or(Profile::Tdx15);
    platform(profile, args.quote_version.as_deref() == Some("5"), signature_mode(args), seed)
}

/// A platform; its quotes are of version 5 or 4.
pub(crate) fn platform(
    profile: Profile,
    version_5: bool,
    signature_mode: SignatureMode,
    seed: &Seed,
) -> Result<TdxPlatform, Failure> {
    let (config, v5) = match profile {
        Profile::Tdx10 => (TdxPlatformConfig::tdx_1_0(), QuoteFormat::V5Td10),
        Profile::Tdx15 => (TdxPlatformConfig::tdx_1_5(), QuoteFormat::V5Td15),
        Profile::Milan | Profile::Genoa | Profile::Turin | Profile::Cove07 => {
            return Err(Failure::Usage("--tee tdx has the profiles tdx-1.0 and tdx-1.5".to_owned()));
        }
    };
    let quote_format = if version_5 { v5 } else { QuoteFormat::V4 };
    let config = TdxPlatformConfig { quote_format, signature_mode, ..config };
    config.build(seed).map_err(|error| Failure::because("building the platform", error))
}

/// The profile's name on the command line.
pub(crate) const fn profile_name(platform: &TdxPlatform) -> &'static str {
    match platform.version() {
        TdxVersion::V1_0 => "tdx-1.0",
        TdxVersion::V1_5 => "tdx-1.5",
    }
}

/// Launches the TD. Its entropy follows from the seed and the user data, so that the same arguments give the same evidence.
pub(crate) fn launch(
    platform: TdxPlatform,
    seed: &Seed,
    inblob: &[u8; 64],
) -> Result<InProcessTdGuest, TdGuestError> {
    let mut image = Box::new([0; PAGE_SIZE]);
    image[..IMAGE.len()].copy_from_slice(IMAGE);
    let plan = LaunchPlan {
        params: default_params(),
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 1,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: Some(image), measured: true }],
    };
    let world = World::new(RAM, seed.derive_seed(&[b"tsmsim report", inblob]));
    InProcessTdGuest::launch(platform, HostConfig::default(), plan, world)
}

/// Measures texts into RTMRs; gives the log of it, if there is anything to log.
pub(crate) fn measure(
    guest: &mut InProcessTdGuest,
    events: &[RtmrEvent],
) -> Result<Option<Vec<u8>>, Failure> {
    if events.is_empty() {
        return Ok(None);
    }
    let records = events.iter().map(|event| LogWriter::record_size(event.text.len()));
    let mut area = vec![0; LogWriter::FIRST + records.sum::<usize>()];
    let logging = |error| Failure::because("writing the event log", error);
    let mut log = LogWriter::new(&mut area).map_err(logging)?;
    for RtmrEvent { rtmr, text } in events {
        let digest = sha384(&[text.as_bytes()]);
        let extended = guest.extend_rtmr((*rtmr).into(), &digest);
        extended.map_err(|error| Failure::because("extending an RTMR", error))?;
        let register = MeasurementRegister(MeasurementRegister::RTMR0.0 + rtmr);
        log.event(register, EventType::EV_ACTION, &digest, text.as_bytes()).map_err(logging)?;
    }
    Ok(Some(area))
}

/// Asks for the report and its quote.
pub(crate) fn ask(
    guest: &mut InProcessTdGuest,
    inblob: &[u8; 64],
) -> Result<(TdReport, Vec<u8>), TdGuestError> {
    Ok((guest.report(inblob)?, guest.quote(inblob)?))
}
