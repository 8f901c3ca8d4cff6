//! A TVM from its launch to its evidence.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod encoding;
mod evidence;

use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, InProcessTvmGuest, World},
    machine::{HostConfig, LaunchPlan, PlannedPage},
    platform::{CovePlatform, CovePlatformConfig},
};

const CBOR: u64 = 1;
const X509: u64 = 2;

fn platform(config: &CovePlatformConfig) -> CovePlatform {
    CovePlatformConfig { signature_mode: SignatureMode::Deterministic, ..config.clone() }
        .build(&Seed::DEFAULT)
        .unwrap()
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        ram: std::iter::once(0..1 << 20).collect(),
        vcpus: 1,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: Some(Box::new([0xa5; PAGE_SIZE])) }],
        entry_sepc: IMAGE_GPA,
        entry_arg: 0x2_0000,
        identity: Some([0x1d; 64]),
    }
}

fn guest(platform: CovePlatform) -> InProcessTvmGuest {
    let world = World::new(1 << 20, Seed::DEFAULT);
    InProcessTvmGuest::launch(platform, HostConfig::default(), &plan(), world).unwrap()
}
