//! Evidence without a virtual machine: a TVM of one page inside this process.

use tsmsim_keys::{Seed, SignatureMode, cove::KeyAlgorithm};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, InProcessTvmGuest, TvmGuestError, World},
    machine::{HostConfig, LaunchPlan, PlannedPage},
    platform::{CovePlatform, CovePlatformConfig},
};
use tsmsim_userland::drivers::cove_guest::CoveFormat;

use crate::{
    args::{EvidenceFormat, PlatformArgs, Profile},
    failure::Failure,
    snp::platform::signature_mode,
};

/// Memory of the TVM.
const RAM: usize = 1 << 20;
/// What its one page holds.
const IMAGE: &[u8] = b"tsmsim report: a TVM of one page, which asks for evidence and ends";

impl EvidenceFormat {
    /// The keys that sign it.
    pub(crate) const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Cbor => KeyAlgorithm::Ed25519,
            Self::X509 => KeyAlgorithm::P256,
        }
    }

    /// That of evidence: a certificate is a SEQUENCE, the other form a tagged array.
    pub(crate) fn of(evidence: &[u8]) -> Self {
        if evidence.starts_with(&[0x30]) { Self::X509 } else { Self::Cbor }
    }

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cbor => "cbor",
            Self::X509 => "x509",
        }
    }
}

impl From<EvidenceFormat> for CoveFormat {
    fn from(format: EvidenceFormat) -> Self {
        match format {
            EvidenceFormat::Cbor => Self::Cbor,
            EvidenceFormat::X509 => Self::X509,
        }
    }
}

/// Builds the platform that the arguments describe.
pub(crate) fn build(args: &PlatformArgs, seed: &Seed) -> Result<CovePlatform, Failure> {
    let other = args.report_version.is_some()
        || args.quote_version.is_some()
        || args.vlek.is_some()
        || args.mask_chip_id;
    if other {
        let text =
            "--report-version, --vlek and --mask-chip-id are for --tee snp, --quote-version is for --tee tdx";
        return Err(Failure::Usage(text.to_owned()));
    }
    if !matches!(args.profile, None | Some(Profile::Cove07)) {
        return Err(Failure::Usage("--tee cove has the profile cove-0.7".to_owned()));
    }
    platform(signature_mode(args), seed)
}

/// The platform.
pub(crate) fn platform(signature_mode: SignatureMode, seed: &Seed) -> Result<CovePlatform, Failure> {
    let config = CovePlatformConfig { signature_mode, ..CovePlatformConfig::new() };
    config.build(seed).map_err(|error| Failure::because("building the platform", error))
}

/// Launches the TVM. Its entropy follows from the seed and the user data, so that the same arguments give the same evidence.
pub(crate) fn launch(
    platform: CovePlatform,
    seed: &Seed,
    inblob: &[u8; 64],
) -> Result<InProcessTvmGuest, TvmGuestError> {
    let mut image = Box::new([0; PAGE_SIZE]);
    image[..IMAGE.len()].copy_from_slice(IMAGE);
    let plan = LaunchPlan {
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 1,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: Some(image) }],
        entry_sepc: IMAGE_GPA,
        entry_arg: 0,
        identity: None,
    };
    let world = World::new(RAM, seed.derive_seed(&[b"tsmsim report", inblob]));
    InProcessTvmGuest::launch(platform, HostConfig::default(), &plan, world)
}

/// Asks for evidence with the TVM's own key.
pub(crate) fn ask(
    guest: &mut InProcessTvmGuest,
    format: EvidenceFormat,
    inblob: &[u8; 64],
) -> Result<Vec<u8>, TvmGuestError> {
    guest.evidence(CoveFormat::from(format).flag(), None, inblob)
}
