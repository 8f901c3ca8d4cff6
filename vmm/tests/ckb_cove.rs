//! The bare-metal TVM on the interpreter in this process: its own checks, and what the host sees of it.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::time::{Duration, Instant};

use common::{
    CHALLENGE, SECRET, TIME, Way, blob, checks, guest, in_process, judge, platform, request, request_as, run,
    tap,
};
use rstest::rstest;
use tsmsim_abi::{
    cove::{
        attcaps::HashAlgorithm,
        covg::{CertificateFormats, CovgFid},
        sbi::SbiError,
    },
    guest_test::riscv64::{IMAGE_GPA, PARAMETERS_GPA, RAM_END, RAM_GPA},
};
use tsmsim_evidence::cove::Claims;
use tsmsim_keys::{Seed, cove::KeyAlgorithm};
use tsmsim_simulator::{
    cove::{
        event::CoveEvent,
        machine::{HostConfig, LaunchError, LaunchPlan},
        platform::{Component, CovePlatform, CovePlatformConfig},
    },
    journal::Event,
};
use tsmsim_vmm::{
    cc::{
        boot_tvm::{TvmBootError, TvmBootRequest, TvmLaunch, boot_tvm},
        cove::{End, HandOver, Surroundings, TvmMachine, TvmMachineError, TvmMachineParts},
    },
    engine::riscv::{Trap, cause, ckb::CkbHart},
    memory::{GuestRam, PlacedRam},
};

fn config() -> CovePlatformConfig {
    CovePlatformConfig::new()
}

/// The guest's checks follow what the TSM says of itself.
#[rstest]
#[case::default(config())]
#[case::sha_512(CovePlatformConfig::with_hash_algorithm(HashAlgorithm::SHA_512).unwrap())]
#[case::sha3_384(CovePlatformConfig::with_hash_algorithm(HashAlgorithm::SHA3_384).unwrap())]
#[case::few_registers(CovePlatformConfig { runtime_measurements: 2, ..config() })]
#[case::no_runtime_registers(CovePlatformConfig { runtime_measurements: 0, ..config() })]
#[case::cbor_alone(CovePlatformConfig { formats: CertificateFormats::new().with_cbor(true), ..config() })]
#[case::x509_alone(CovePlatformConfig { formats: CertificateFormats::new().with_x509(true), ..config() })]
fn every_check_of_the_guest_passes(
    #[case] config: CovePlatformConfig,
    #[values(Way::Steps, Way::Promoted, Way::PromotedWithoutTap)] way: Way,
) {
    let Some(elf) = guest() else { return };
    let platform = config.build(&Seed::DEFAULT).unwrap();
    let launch = way.launch(&elf, &platform);
    let request = TvmBootRequest { platform: platform.clone(), launch, ..request(&elf, 0) };
    let mut booted = boot_tvm(request).unwrap();
    let (end, console) = run(&mut booted);
    assert_eq!(end, End::Done(0), "{console}");
    assert!(checks(&console) > 180, "{console}");

    let tvm = booted.machine.machine().tvm();
    let initial = tvm.initial_registers().values().concat();
    let registers = [initial, tvm.runtime_registers().concat()].concat();
    assert_eq!(blob(&console, "measurements"), registers);
    let predicted = way.measure(&elf, &platform);
    if way == Way::Promoted {
        assert_eq!(blob(&console, "secret"), SECRET);
    } else {
        assert!(!console.contains("# blob secret "));
    }
    for (offered, name, algorithm) in [
        (config.formats.cbor(), "evidence", KeyAlgorithm::Ed25519),
        (config.formats.x509(), "evidence-x509", KeyAlgorithm::P256),
    ] {
        if !offered {
            assert!(!console.contains(&format!("# blob {name} ")));
            continue;
        }
        let evidence = blob(&console, name);
        let verdict = judge(&platform, &predicted, algorithm, evidence.clone());
        assert!(verdict.accepted(), "{}", verdict.table());
        let claims = Claims::read(&evidence).unwrap();
        assert_eq!(claims.tvm.challenge, CHALLENGE);
        let values: Vec<u8> = claims.tvm.registers().flat_map(|register| register.value.clone()).collect();
        assert_eq!(values, registers);
    }
}

/// Every function was called with success, the secret's only if there was a TAP, and each was refused.
#[rstest]
fn every_function_is_called_and_refused(
    #[values(Way::Steps, Way::Promoted, Way::PromotedWithoutTap)] way: Way,
) {
    let Some(elf) = guest() else { return };
    let mut booted = boot_tvm(request_as(way, &elf, 0)).unwrap();
    assert_eq!(run(&mut booted).0, End::Done(0));
    let calls: Vec<(CovgFid, SbiError)> = booted
        .machine
        .journal()
        .entries()
        .filter_map(|(_, event)| match event {
            Event::Cove(CoveEvent::Covg { fid, error, .. }) => Some((*fid, *error)),
            _ => None,
        })
        .collect();
    for (fid, name) in CovgFid::NAMED {
        let errors = || calls.iter().filter(|(called, _)| called == fid).map(|(_, error)| *error);
        let succeeds = *fid != CovgFid::RETRIEVE_SECRET || way == Way::Promoted;
        assert_eq!(errors().any(|error| error == SbiError::SUCCESS), succeeds, "{name}");
        assert!(errors().any(|error| error != SbiError::SUCCESS), "{name}");
    }
}

#[rstest]
fn the_same_request_gives_the_same_lines(#[values(Way::Steps, Way::Promoted)] way: Way) {
    let Some(elf) = guest() else { return };
    let [one, other] = [(); 2].map(|()| in_process(request_as(way, &elf, 0)).1);
    assert!(one.lines().eq(other.lines()));
}

/// Up to a page.
#[rstest]
fn secrets_of_all_sizes_are_retrieved(#[values(1, 4095, 4096)] size: usize) {
    let Some(elf) = guest() else { return };
    let secret: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
    let launch = TvmLaunch::Promote { tap: Some(tap(&elf, &platform(), &secret)) };
    let (end, console) = in_process(TvmBootRequest { launch, ..request(&elf, 0) });
    assert_eq!(end, End::Done(0), "{console}");
    assert!(checks(&console) > 180, "{console}");
    assert_eq!(blob(&console, "secret"), secret);
}

/// An image that differs in one bit.
fn changed(elf: &[u8]) -> Vec<u8> {
    let mut changed = elf.to_vec();
    let at = elf.windows(14).position(|window| window == b"TAP version 14").unwrap();
    changed[at] ^= 1;
    changed
}

/// Why the guest was not promoted with this TAP.
fn refusal(elf: &[u8], platform: CovePlatform, tap: Vec<u8>) -> Option<LaunchError> {
    let request =
        TvmBootRequest { platform, launch: TvmLaunch::Promote { tap: Some(tap) }, ..request(elf, 0) };
    match boot_tvm(request) {
        Ok(_) => None,
        Err(TvmBootError::Machine(TvmMachineError::Launch(error))) => Some(error),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_tap_is_for_one_image_on_one_platform() {
    let Some(elf) = guest() else { return };
    let platform = platform();
    let tap = tap(&elf, &platform, SECRET);
    let auth = Some(LaunchError { step: "promote_to_tvm", error: SbiError::AUTH });
    assert_eq!(refusal(&elf, platform.clone(), tap.clone()), None);
    assert_eq!(refusal(&changed(&elf), platform.clone(), tap.clone()), auth, "another image");
    let newer = Component { svn: config().tsm.svn + 1, ..config().tsm };
    let another_tsm = CovePlatformConfig { tsm: newer, ..config() }.build(&Seed::DEFAULT).unwrap();
    let another_device = config().build(&Seed::from_bytes([1; 32])).unwrap();
    for other in [another_tsm, another_device] {
        let same = |platform: &CovePlatform| Way::Promoted.measure(&elf, platform).local_measurement();
        assert_eq!(same(&other), same(&platform), "it is the key that differs");
        assert_eq!(refusal(&elf, other.clone(), tap.clone()), auth, "another platform");
        let foreign = common::tap(&elf, &other, SECRET);
        assert_eq!(refusal(&elf, other, foreign.clone()), None);
        assert_eq!(refusal(&elf, platform.clone(), foreign), auth, "a TAP of another platform");
    }
}

/// Header, nonce, measurement, secret, tag: every byte counts.
#[test]
fn a_damaged_tap_is_refused() {
    let Some(elf) = guest() else { return };
    let tap = tap(&elf, &platform(), b"four");
    for at in 0..tap.len() {
        let mut damaged = tap.clone();
        damaged[at] ^= 1 << (at % 8);
        let error = refusal(&elf, platform(), damaged).map(|refused| refused.error);
        assert_eq!(error, Some(SbiError::AUTH), "byte {at}");
    }
    let cut = tap[..tap.len() - 1].to_vec();
    let error = |tap| refusal(&elf, platform(), tap).map(|refused| refused.error);
    assert_eq!(error(cut), Some(SbiError::AUTH));
    assert_eq!(error(Vec::new()), Some(SbiError::AUTH));
    // Behind the TAP there is memory like any other.
    assert_eq!(error([tap.as_slice(), &[1]].concat()), Some(SbiError::AUTH));
    assert_eq!(error([tap.as_slice(), &[0]].concat()), None);
}

#[rstest]
#[case::cbor("evidence", KeyAlgorithm::Ed25519)]
#[case::x509("evidence-x509", KeyAlgorithm::P256)]
fn damaged_evidence_is_refused(#[case] name: &str, #[case] algorithm: KeyAlgorithm) {
    let Some(elf) = guest() else { return };
    let (end, console) = in_process(request(&elf, 1));
    assert_eq!((end, checks(&console)), (End::Done(0), 2), "{console}");
    let (platform, evidence) = (platform(), blob(&console, name));
    let predicted = Way::Steps.measure(&elf, &platform);
    assert!(judge(&platform, &predicted, algorithm, evidence.clone()).accepted());
    for at in (0..evidence.len()).step_by(evidence.len() / 40) {
        let mut damaged = evidence.clone();
        damaged[at] ^= 0x10;
        assert!(!judge(&platform, &predicted, algorithm, damaged).accepted(), "byte {at}");
    }
    for other in [Way::Steps.measure(&changed(&elf), &platform), Way::Promoted.measure(&elf, &platform)] {
        let verdict = judge(&platform, &other, algorithm, evidence.clone());
        assert!(verdict.reason().is_some_and(|reason| reason.contains("register 4")), "{}", verdict.table());
    }
}

#[test]
fn readings_are_repeated_and_other_modes_refused() {
    let Some(elf) = guest() else { return };
    let (end, console) = in_process(request(&elf, 2));
    assert_eq!((end, checks(&console)), (End::Done(0), 1), "{console}");
    let (end, console) = in_process(request(&elf, 3));
    assert_eq!(end, End::Done(0));
    assert!(console.contains("not ok 1 - mode: 3 is not known"), "{console}");
}

/// The host converts one page at a time: the guest gets no farther than the first share of more.
#[test]
fn a_host_that_converts_little_is_reported() {
    let Some(elf) = guest() else { return };
    let host = HostConfig { max_conversion: Some(4096) };
    let (end, console) = in_process(TvmBootRequest { host, ..request(&elf, 0) });
    assert_eq!(end, End::Done(0));
    let failed = "share_memory_region: pages that were never used: FAILED";
    assert!(console.lines().any(|line| line.starts_with("not ok") && line.contains(failed)), "{console}");
}

#[test]
fn a_deadline_stops_the_guest_and_it_can_go_on() {
    let Some(elf) = guest() else { return };
    let mut booted = boot_tvm(request(&elf, 1)).unwrap();
    assert_eq!(booted.machine.run(Instant::now()).unwrap(), End::Deadline);
    assert_eq!(run(&mut booted).0, End::Done(0));
}

/// A TVM of these instructions, without anything else.
fn tiny(code: &[u32]) -> TvmMachine<CkbHart> {
    let ram = PlacedRam::new(GuestRam::new(RAM_END - RAM_GPA).unwrap(), RAM_GPA).unwrap();
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    ram.write(IMAGE_GPA, &bytes).unwrap();
    let plan = LaunchPlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
        vcpus: 1,
        pages: Vec::new(),
        entry_sepc: IMAGE_GPA,
        entry_arg: PARAMETERS_GPA,
        identity: None,
    };
    let parts = TvmMachineParts {
        hart: CkbHart::new(ram.clone()),
        ram,
        platform: platform(),
        host: HostConfig::default(),
        plan: plan.into(),
        hand_over: Some(HandOver { gpa: PARAMETERS_GPA, contents: CHALLENGE.to_vec() }),
        console: Box::new(std::io::sink()),
    };
    TvmMachine::launch(parts, Surroundings::default()).unwrap()
}

#[rstest]
#[case::wild_load(&[0xfff0_3503], cause::LOAD_ACCESS_FAULT, u64::MAX)] // ld a0, -1(zero)
#[case::wild_store(&[0x0005_b023, 0x0000_3023], cause::STORE_ACCESS_FAULT, 0)] // sd zero, 0(a1); sd zero, 0(zero)
#[case::illegal(&[0xffff_ffff], cause::ILLEGAL_INSTRUCTION, 0xffff_ffff)]
#[case::breakpoint(&[0x0010_0073], cause::BREAKPOINT, IMAGE_GPA)] // ebreak
#[case::wild_jump(&[0x0000_0067], cause::INSTRUCTION_ACCESS_FAULT, 0)] // jr zero
fn traps_end_the_run(#[case] code: &[u32], #[case] cause: u64, #[case] value: u64) {
    let End::Trap(trap) = tiny(code).run(Instant::now() + TIME).unwrap() else { panic!("no trap") };
    let instruction = IMAGE_GPA + 4 * (code.len() as u64 - 1);
    let pc = if cause == cause::INSTRUCTION_ACCESS_FAULT { 0 } else { instruction };
    assert_eq!(trap, Trap { cause, pc, value });
}

#[test]
fn a_loop_ends_with_the_time() {
    let mut machine = tiny(&[0x0000_006f]); // j .
    assert_eq!(machine.run(Instant::now() + Duration::from_millis(50)).unwrap(), End::Deadline);
    assert_eq!(machine.run(Instant::now() + Duration::from_millis(50)).unwrap(), End::Deadline);
}
