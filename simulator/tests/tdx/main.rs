//! A TD from its build to its quote, judged by independent code.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod mrtd;
mod quotes;
mod services;

use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::tdx::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, InProcessTdGuest, World, default_params},
    machine::{LaunchPlan, PlannedPage},
    platform::{TdxPlatform, TdxPlatformConfig},
    vmcall::HostConfig,
};

fn platform(config: TdxPlatformConfig) -> TdxPlatform {
    TdxPlatformConfig { signature_mode: SignatureMode::Deterministic, ..config }
        .build(&Seed::DEFAULT)
        .unwrap()
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        params: default_params(),
        ram: std::iter::once(0..1 << 20).collect(),
        vcpus: 1,
        pages: vec![
            PlannedPage { gpa: IMAGE_GPA, contents: Some(Box::new([0xa5; PAGE_SIZE])), measured: true },
            PlannedPage { gpa: IMAGE_GPA + 0x3000, contents: None, measured: false },
        ],
    }
}

fn guest(platform: TdxPlatform, config: HostConfig) -> InProcessTdGuest {
    InProcessTdGuest::launch(platform, config, plan(), World::new(1 << 20, Seed::DEFAULT)).unwrap()
}
