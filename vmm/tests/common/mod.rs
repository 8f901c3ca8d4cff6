//! What tests of bare-metal TVMs share, on whatever engine: the request, the run, and what is demanded of its output.
#![allow(dead_code, reason = "not every test needs all of it")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    time::{Duration, Instant},
};

use tsmsim_evidence::{
    Timestamp, Verdict,
    cove::{Bundle, Policy, TrustedRoot, verify},
};
use tsmsim_keys::{Seed, SignatureMode, cove::KeyAlgorithm};
use tsmsim_simulator::cove::{
    machine::HostConfig,
    measure::InitialRegisters,
    platform::{CovePlatform, CovePlatformConfig},
};
use tsmsim_tests::need;
use tsmsim_vmm::{
    cc::{
        boot_tvm::{BootedTvm, TvmBootRequest, TvmLaunch, boot_tvm},
        cove::{End, Surroundings},
    },
    engine::riscv::Hart,
    loader::{
        bare_metal::GuestTask,
        tvm::{measure, measure_promoted},
    },
};

/// Long enough for any of these guests, however slow the machine.
pub(crate) const TIME: Duration = Duration::from_secs(300);
/// 2026-01-01.
const NOW: Timestamp = Timestamp(1_767_225_600);
/// What the guest asks evidence for.
pub(crate) const CHALLENGE: [u8; 64] = [0x4e; 64];
/// What the host calls the TVM.
pub(crate) const IDENTITY: [u8; 64] = [0x1d; 64];

/// What a TAP holds unless a test says otherwise.
pub(crate) const SECRET: &[u8] = b"for this TVM on this platform only";

/// How a TVM comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// In steps.
    Steps,
    /// Promoted, with a TAP.
    Promoted,
    /// Promoted, without one.
    PromotedWithoutTap,
}

impl Way {
    /// The launch of this image on this platform.
    pub(crate) fn launch(self, elf: &[u8], platform: &CovePlatform) -> TvmLaunch {
        match self {
            Self::Steps => TvmLaunch::Steps,
            Self::Promoted => TvmLaunch::Promote { tap: Some(tap(elf, platform, SECRET)) },
            Self::PromotedWithoutTap => TvmLaunch::Promote { tap: None },
        }
    }

    /// The initial registers of this image on this platform.
    pub(crate) fn measure(self, elf: &[u8], platform: &CovePlatform) -> InitialRegisters {
        let measure = if self == Self::Steps { measure } else { measure_promoted };
        measure(elf, platform.initial_registers()).unwrap()
    }
}

/// The TAP with a secret for this image on this platform.
pub(crate) fn tap(elf: &[u8], platform: &CovePlatform, secret: &[u8]) -> Vec<u8> {
    let measurement = Way::Promoted.measure(elf, platform).local_measurement();
    platform.seal_tap(&measurement, secret, [9; 12]).unwrap()
}

/// The guest's image; without it the calling test is skipped.
#[track_caller]
pub(crate) fn guest() -> Option<Vec<u8>> {
    Some(fs::read(need::file("TSMSIM_GUEST_RISCV64")?).unwrap())
}

/// The platform of all of these tests unless they say otherwise: what it signs twice, it signs the same.
pub(crate) fn platform() -> CovePlatform {
    let signature_mode = SignatureMode::Deterministic;
    CovePlatformConfig { signature_mode, ..CovePlatformConfig::new() }.build(&Seed::DEFAULT).unwrap()
}

/// The guest in this mode, made in this way.
pub(crate) fn request_as(way: Way, elf: &[u8], mode: u16) -> TvmBootRequest<'_> {
    TvmBootRequest { launch: way.launch(elf, &platform()), ..request(elf, mode) }
}

/// The guest in this mode, built in steps.
pub(crate) fn request(elf: &[u8], mode: u16) -> TvmBootRequest<'_> {
    TvmBootRequest {
        elf,
        platform: platform(),
        host: HostConfig::default(),
        launch: TvmLaunch::Steps,
        identity: Some(IDENTITY),
        task: GuestTask { mode, count: 3, report_data: CHALLENGE },
        surroundings: Surroundings::default(),
        console: None,
    }
}

/// Runs a TVM to its end: how it ended, and what it printed.
pub(crate) fn run<H: Hart>(booted: &mut BootedTvm<H>) -> (End, String) {
    let end = booted.machine.run(Instant::now() + TIME).unwrap();
    assert_eq!(booted.console.dropped(), 0);
    (end, String::from_utf8(booted.console.contents()).unwrap())
}

/// What the guest prints on the interpreter in this process: another engine's output has to be the same, line by line.
pub(crate) fn in_process(request: TvmBootRequest<'_>) -> (End, String) {
    run(&mut boot_tvm(request).unwrap())
}

/// A blob that the guest printed.
pub(crate) fn blob(console: &str, name: &str) -> Vec<u8> {
    let prefix = format!("# blob {name} ");
    let hex = console.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.trim_end().as_bytes().chunks(2).map(byte).collect()
}

/// Number of checks, all of which must have passed, and their plan.
pub(crate) fn checks(console: &str) -> usize {
    let failed: Vec<_> = console.lines().filter(|line| line.starts_with("not ok")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = console.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(console.lines().any(|line| line.trim_end() == format!("1..{passed}")), "{console}");
    passed
}

/// The judge's answer to evidence that the guest printed: the platform's own certificates, the challenge, the identity, and
/// every register that can be predicted from the image.
pub(crate) fn judge(
    platform: &CovePlatform,
    predicted: &InitialRegisters,
    algorithm: KeyAlgorithm,
    evidence: Vec<u8>,
) -> Verdict {
    let root = platform.hierarchy().root().unwrap().der().to_vec();
    let bundle = Bundle {
        evidence,
        root: Some(root.clone()),
        chain: Some(platform.chain(algorithm).pem().into_bytes()),
        crl: None,
        inblob: Some(CHALLENGE.to_vec()),
    };
    let policy = Policy {
        trust: TrustedRoot::Given(root),
        registers: (0..).zip(predicted.values().iter().cloned()).collect(),
        identity: Some(IDENTITY),
        ..Policy::at(NOW)
    };
    verify(&bundle, &policy)
}
