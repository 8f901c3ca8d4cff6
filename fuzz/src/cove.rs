//! TVMs that cost little to make, and sound evidence of the default seed: the platform is built once per thread, and every run
//! gets a clone of a launched TVM.

use std::cell::OnceCell;

use tsmsim_abi::cove::covg::{ATTESTATION_CERTIFICATE_CBOR, ATTESTATION_CERTIFICATE_X509};
use tsmsim_evidence::cove::Bundle;
use tsmsim_keys::{
    Seed, SignatureMode,
    cove::{KeyAlgorithm, Scenario},
};
use tsmsim_simulator::{
    cove::{
        guest::{IMAGE_GPA, InProcessTvmGuest},
        machine::{HostConfig, LaunchPlan, Machine, PlannedPage},
        platform::{CovePlatform, CovePlatformConfig},
        promote::PromotePlan,
    },
    snp::guest::World,
};

use crate::{RAM, world};

/// Memory of the virtual machines that are promoted, in bytes.
pub const SMALL_RAM: usize = 0x1_0000;
/// Where they have a TAP.
pub const TAP_GPA: u64 = 0x9000;
/// What is sealed in the TAP.
pub const SECRET: &[u8] = b"for this TVM only";

thread_local! {
    static PLATFORM: OnceCell<CovePlatform> = const { OnceCell::new() };
    static MACHINE: OnceCell<Machine> = const { OnceCell::new() };
    static TAP: OnceCell<Vec<u8>> = const { OnceCell::new() };
}

/// A platform of the default seed.
pub fn platform() -> CovePlatform {
    let build = || {
        let config =
            CovePlatformConfig { signature_mode: SignatureMode::Deterministic, ..CovePlatformConfig::new() };
        config.build(&Seed::DEFAULT).expect("the platform can be built")
    };
    PLATFORM.with(|platform| platform.get_or_init(build).clone())
}

/// A launched TVM of two vCPUs; all of memory is confidential.
pub fn machine() -> (Machine, World) {
    (MACHINE.with(|machine| machine.get_or_init(launch).clone()), world())
}

fn launch() -> Machine {
    let plan = LaunchPlan {
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 2,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: None }],
        entry_sepc: IMAGE_GPA,
        entry_arg: 0,
        identity: None,
    };
    let mut world = world();
    let (mut env, _) = world.env();
    Machine::launch(platform(), HostConfig::default(), &plan, &mut env).expect("the TVM launches")
}

/// Memory of [`SMALL_RAM`] bytes.
pub fn small_world() -> World {
    World::new(SMALL_RAM, Seed::DEFAULT)
}

/// A virtual machine of all of [`small_world`], without a TAP.
pub fn promote_plan() -> PromotePlan {
    PromotePlan {
        ram: std::iter::once(0..SMALL_RAM as u64).collect(),
        vcpus: 1,
        fdt_addr: 0x8000,
        tap_addr: 0,
        entry_sepc: 0x1000,
        identity: None,
    }
}

/// The TAP with [`SECRET`] for [`promote_plan`] with nothing in memory but the TAP at [`TAP_GPA`].
pub fn tap() -> Vec<u8> {
    TAP.with(|tap| tap.get_or_init(seal).clone())
}

fn seal() -> Vec<u8> {
    let platform = platform();
    let registers = promote_plan().measure(&*small_world().memory, platform.initial_registers().clone());
    let registers = registers.expect("the plan is of this memory");
    platform.seal_tap(&registers.local_measurement(), SECRET, [4; 12]).expect("it is not too long")
}

/// Evidence with its chain, root and revocation list; the same in every run.
pub fn bundle(x509: bool) -> Bundle {
    let platform = platform();
    let (format, algorithm) = match x509 {
        false => (ATTESTATION_CERTIFICATE_CBOR, KeyAlgorithm::Ed25519),
        true => (ATTESTATION_CERTIFICATE_X509, KeyAlgorithm::P256),
    };
    let guest =
        InProcessTvmGuest::promote(platform.clone(), HostConfig::default(), &promote_plan(), small_world());
    let evidence = guest.expect("the TVM is promoted").evidence(format, None, &[7; 64]);
    let crl = Scenario::Sound.crl(platform.hierarchy(), platform.device());
    Bundle {
        evidence: evidence.expect("there is evidence"),
        root: Some(platform.hierarchy().root().expect("there is a root").der().to_vec()),
        chain: Some(platform.chain(algorithm).pem().into_bytes()),
        crl: Some(crl.expect("there is a list").der().to_vec()),
        inblob: Some(vec![7; 64]),
    }
}
