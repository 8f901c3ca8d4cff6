use rstest::rstest;
use tsmsim_abi::cove::{claims::register, covg::CovgFid, tap::TapHeader};
use tsmsim_keys::Seed;

use super::*;
use crate::cove::{
    guest::{InProcessTvmGuest, TvmGuestError, World},
    machine::HostConfig,
    platform::CovePlatformConfig,
    promote::PromotePlan,
    registers::Registers,
};

const RAM: u64 = 0x2_0000;

fn platform() -> CovePlatform {
    CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap()
}

fn world() -> World {
    World::new(usize::try_from(RAM).unwrap(), Seed::DEFAULT)
}

/// One region, from 0x1000 to the end of memory and a page beyond.
fn tvm(world: &mut World) -> Tvm {
    let (mut env, _) = world.env();
    let mut tvm = Tvm::create(&platform(), &mut env).unwrap();
    tvm.add_memory_region(0x1000, RAM, &mut env).unwrap();
    tvm
}

const OK: Result<(), SbiError> = Ok(());
const ADDRESS: Result<(), SbiError> = Err(SbiError::INVALID_ADDRESS);
const PARAM: Result<(), SbiError> = Err(SbiError::INVALID_PARAM);

#[rstest]
#[case::beside([0x2_1000, 0x1000], OK)]
#[case::overlap([0x2_0000, 0x1000], ADDRESS)]
#[case::unaligned([0x3_0001, 0x1000], ADDRESS)]
#[case::beyond([1 << 50, 0x1000], ADDRESS)]
#[case::length([0x3_0000, 0x1001], PARAM)]
#[case::nothing([0x3_0000, 0], PARAM)]
fn memory_regions(#[case] range: [u64; 2], #[case] expected: Result<(), SbiError>) {
    let [gpa, len] = range;
    let mut world = world();
    let mut tvm = tvm(&mut world);
    assert_eq!(tvm.add_memory_region(gpa, len, &mut world.env().0), expected);
}

#[rstest]
#[case::page(0x1000, OK)]
#[case::unaligned(0x1800, ADDRESS)]
#[case::outside_of_the_region(0, ADDRESS)]
#[case::no_memory(0x2_0000, ADDRESS)]
#[case::beyond(u64::MAX - 0xfff, ADDRESS)]
fn measured_pages(#[case] gpa: u64, #[case] expected: Result<(), SbiError>) {
    let mut world = world();
    let mut tvm = tvm(&mut world);
    let before = tvm.initial.clone();
    assert_eq!(tvm.add_measured_page(gpa, Some(&[3; 4096]), &mut world.env().0), expected);
    assert_eq!(tvm.initial == before, expected != OK);
    assert_eq!(tvm.add_measured_page(gpa, None, &mut world.env().0), ADDRESS, "it is mapped, or cannot be");
}

#[test]
fn the_order_of_pages_is_measured_and_so_is_what_lies_there() {
    let measure = |pages: &[(u64, Option<u8>)]| {
        let mut world = world();
        let mut tvm = tvm(&mut world);
        world.memory.write(0x3000, &[7; 4096]).unwrap();
        for (gpa, byte) in pages {
            let page = byte.map(|byte| [byte; 4096]);
            tvm.add_measured_page(*gpa, page.as_ref(), &mut world.env().0).unwrap();
        }
        tvm.initial.values()[register::TVM_PAGES].clone()
    };
    assert_ne!(
        measure(&[(0x1000, Some(1)), (0x2000, Some(2))]),
        measure(&[(0x2000, Some(2)), (0x1000, Some(1))])
    );
    assert_ne!(measure(&[(0x1000, Some(1))]), measure(&[(0x2000, Some(1))]));
    assert_eq!(measure(&[(0x3000, None)]), measure(&[(0x3000, Some(7))]));
    let hash = platform().hash();
    let page: [&[u8]; 3] = [&[0; 48], &0x3000_u64.to_le_bytes(), &[7; 4096]];
    assert_eq!(measure(&[(0x3000, None)]), hash.digest(&page));
}

#[test]
fn nothing_is_added_to_a_final_tvm_but_pages() {
    let mut world = world();
    let mut tvm = tvm(&mut world);
    let platform = platform();
    let (mut env, _) = world.env();
    let entry = [0x1000, 0x2000];
    assert_eq!(tvm.add_zero_page(0x1000, &mut env), PARAM);
    assert_eq!(tvm.finalize(&platform, entry, None, &mut env), Err(SbiError::FAILED), "there is no vCPU");
    assert_eq!(tvm.create_vcpu(3, &mut env), OK);
    assert_eq!(tvm.create_vcpu(3, &mut env), PARAM);
    assert_eq!(tvm.create_vcpu(64, &mut env), PARAM);
    assert_eq!(tvm.finalize(&platform, entry, Some(&[1; 64]), &mut env), OK);
    assert_eq!(tvm.finalize(&platform, entry, None, &mut env), PARAM);
    assert_eq!(tvm.add_memory_region(0x4_0000, 0x1000, &mut env), PARAM);
    assert_eq!(tvm.add_measured_page(0x1000, None, &mut env), PARAM);
    assert_eq!(tvm.create_vcpu(1, &mut env), PARAM);
    let before = tvm.initial.clone();
    assert_eq!(tvm.add_zero_page(0x1000, &mut env), OK);
    assert_eq!(tvm.add_zero_page(0x1000, &mut env), ADDRESS);
    assert_eq!(tvm.add_shared_page(0x2000, &mut env), ADDRESS);
    assert_eq!(tvm.add_page_table_pages(5, &mut env), OK);
    assert_eq!((tvm.page_table_pages(), &tvm.initial), (5, &before));
    assert_eq!(tvm.identity(), Some(&[1; 64]));
    assert_eq!(tvm.destroy(&mut env), OK);
    assert_eq!(tvm.destroy(&mut env), PARAM);
    assert!(!tvm.can_run(0));
}

#[test]
fn pages_go_by_invalidate_fence_remove() {
    let mut world = world();
    let mut tvm = tvm(&mut world);
    let (mut env, _) = world.env();
    tvm.create_vcpu(0, &mut env).unwrap();
    tvm.finalize(&platform(), [0; 2], None, &mut env).unwrap();
    assert_eq!(tvm.invalidate_pages(0x1000, 0x1000, &mut env), ADDRESS, "it is not there");
    tvm.add_zero_page(0x1000, &mut env).unwrap();
    tvm.add_zero_page(0x2000, &mut env).unwrap();
    assert_eq!(tvm.invalidate_pages(0x1000, 0x3000, &mut env), ADDRESS);
    assert_eq!(tvm.invalidate_pages(0x1000, 0, &mut env), PARAM);
    assert_eq!(tvm.invalidate_pages(0x1001, 0x1000, &mut env), ADDRESS);
    assert_eq!(tvm.invalidate_pages(0x1000, 0x2000, &mut env), OK);
    assert_eq!(tvm.remove_pages(0x1000, 0x2000, &mut env), ADDRESS, "it is not fenced");
    assert_eq!(tvm.fence(&mut env), OK);
    assert_eq!(tvm.validate_pages(0x2000, 0x1000, &mut env), OK);
    assert_eq!(tvm.validate_pages(0x2000, 0x1000, &mut env), ADDRESS);
    assert_eq!(tvm.remove_pages(0x1000, 0x1000, &mut env), OK);
    assert_eq!(tvm.regions().page(0x1000), PageState::Absent);
    assert_eq!(tvm.regions().page(0x2000), PageState::Mapped);
    assert_eq!(tvm.invalidate_pages(0, u64::MAX - 0xfff, &mut env), ADDRESS);
}

/// What takes the place of a page is other memory: neither the TVM nor the host sees what was there.
#[test]
fn what_is_removed_is_lost() {
    let mut world = world();
    let mut tvm = tvm(&mut world);
    tvm.create_vcpu(0, &mut world.env().0).unwrap();
    tvm.finalize(&platform(), [0; 2], None, &mut world.env().0).unwrap();
    tvm.add_zero_page(0x1000, &mut world.env().0).unwrap();
    world.memory.write(0x1000, &[5; 8192]).unwrap();
    let contents = |world: &World| {
        [0x1000, 0x2000].map(|gpa| {
            let mut byte = [0];
            world.memory.read(gpa, &mut byte).unwrap();
            byte[0]
        })
    };
    let (mut env, _) = world.env();
    tvm.invalidate_pages(0x1000, 0x1000, &mut env).unwrap();
    tvm.fence(&mut env).unwrap();
    tvm.validate_pages(0x1000, 0x1000, &mut env).unwrap();
    assert_eq!(contents(&world), [5, 5]);
    let (mut env, _) = world.env();
    tvm.invalidate_pages(0x1000, 0x1000, &mut env).unwrap();
    tvm.fence(&mut env).unwrap();
    tvm.remove_pages(0x1000, 0x1000, &mut env).unwrap();
    tvm.add_zero_page(0x1000, &mut env).unwrap();
    assert_eq!(contents(&world), [0, 5]);
}

#[test]
fn a_tvm_that_is_gone_converts_nothing() {
    let mut world = world();
    let mut tvm = tvm(&mut world);
    world.memory.write(0x1000, &[5]).unwrap();
    let (mut env, _) = world.env();
    tvm.create_vcpu(0, &mut env).unwrap();
    tvm.finalize(&platform(), [0; 2], None, &mut env).unwrap();
    let mut registers = Registers::covg(CovgFid::SHARE_MEMORY_REGION, &[0x1000, 0x1000]);
    tvm.ecall(&platform(), 0, &mut registers, &mut env);
    tvm.destroy(&mut env).unwrap();
    assert_eq!(tvm.complete_conversion(0, &mut env), Err(SbiError::FAILED));
    let mut byte = [0];
    world.memory.read(0x1000, &mut byte).unwrap();
    assert_eq!(byte, [5]);
}

fn plan() -> PromotePlan {
    PromotePlan {
        ram: std::iter::once(0..RAM).collect(),
        vcpus: 1,
        fdt_addr: 0x8000,
        tap_addr: 0,
        entry_sepc: 0x1000,
        identity: None,
    }
}

#[rstest]
#[case::plain(|_: &mut PromotePlan| (), OK)]
#[case::fdt_unaligned(|plan: &mut PromotePlan| plan.fdt_addr = 0x8004, ADDRESS)]
#[case::fdt_outside(|plan: &mut PromotePlan| plan.fdt_addr = RAM, ADDRESS)]
#[case::tap_unaligned(|plan: &mut PromotePlan| plan.tap_addr = 0x8004, ADDRESS)]
#[case::no_tap(|plan: &mut PromotePlan| plan.tap_addr = 0x9000, Err(SbiError::AUTH))]
#[case::no_vcpu(|plan: &mut PromotePlan| plan.vcpus = 0, Err(SbiError::FAILED))]
#[case::no_memory(|plan: &mut PromotePlan| plan.ram[0].end = RAM + 0x1000, Err(SbiError::OUT_OF_MEMORY))]
#[case::part_of_a_page(|plan: &mut PromotePlan| plan.ram[0].end = RAM - 1, Err(SbiError::FAILED))]
#[case::overlap(|plan: &mut PromotePlan| plan.ram.push(0..0x1000), Err(SbiError::FAILED))]
fn promote(#[case] change: fn(&mut PromotePlan), #[case] expected: Result<(), SbiError>) {
    let (mut world, mut plan) = (world(), plan());
    change(&mut plan);
    assert_eq!(Tvm::promote(&platform(), &plan, &mut world.env().0).map(drop), expected);
}

/// A promoted guest with a TAP at 0x9000, after something was changed about it.
fn with_tap(change: impl Fn(&mut Vec<u8>, &mut World)) -> Result<InProcessTvmGuest, TvmGuestError> {
    let platform = platform();
    let (mut world, plan) = (world(), PromotePlan { tap_addr: 0x9000, ..plan() });
    let mut registers = platform.initial_registers().clone();
    for gpa in (0..RAM).step_by(4096) {
        registers.measured_page(gpa, &[0; 4096]);
    }
    registers.entry(plan.entry_sepc, plan.fdt_addr);
    let mut tap = platform.seal_tap(&registers.local_measurement(), b"for this TVM only", [4; 12]).unwrap();
    change(&mut tap, &mut world);
    world.memory.write(0x9000, &tap).unwrap();
    InProcessTvmGuest::promote(platform, HostConfig::default(), &plan, world)
}

#[test]
fn the_secret_is_for_the_tvm_that_the_tap_names() {
    let mut guest = with_tap(|_, _| ()).unwrap();
    assert_eq!(guest.secret().unwrap(), b"for this TVM only");
    let small = guest.call(CovgFid::RETRIEVE_SECRET, &[0x1000, 16]);
    assert!(matches!(small, Err(TvmGuestError::Sbi { error: SbiError::INVALID_PARAM, .. })));
}

#[rstest]
#[case::magic(|tap: &mut Vec<u8>, _: &mut World| tap[0] ^= 1)]
#[case::version(|tap: &mut Vec<u8>, _: &mut World| tap[8] ^= 2)]
#[case::size(|tap: &mut Vec<u8>, _: &mut World| tap[0xd] = 0xff)]
#[case::reserved(|tap: &mut Vec<u8>, _: &mut World| tap[0x1c] = 1)]
#[case::measurement(|tap: &mut Vec<u8>, _: &mut World| tap[0x20] ^= 1)]
#[case::secret(|tap: &mut Vec<u8>, _: &mut World| tap[size_of::<TapHeader>()] ^= 1)]
#[case::memory(|_: &mut Vec<u8>, world: &mut World| world.memory.write(0x4000, &[1]).unwrap())]
fn another_tap_or_tvm(#[case] change: fn(&mut Vec<u8>, &mut World)) {
    let Err(TvmGuestError::Launch(error)) = with_tap(change) else { panic!("no secret for it") };
    assert_eq!(error.error, SbiError::AUTH);
}

/// The TAP's bytes are zeros in measurement and memory, wherever it lies; what else is in its pages counts.
#[rstest]
#[case::one_page(0x9000, 17)]
#[case::two_pages(0x9fd8, 17)]
#[case::largest(0x9008, 4096)]
#[case::at_the_end(RAM - 96 - 24 - 16, 24)]
fn all_but_the_tap_is_measured(#[case] tap_addr: u64, #[case] size: usize) {
    let (platform, plan) = (platform(), PromotePlan { tap_addr, ..plan() });
    let measure = |world: &World| {
        plan.measure(&*world.memory, platform.initial_registers().clone()).unwrap().local_measurement()
    };
    let plain = measure(&world());
    let tap = platform.seal_tap(&plain, &vec![0xa5; size], [4; 12]).unwrap();
    let promote = |change: Option<u64>| {
        let mut world = world();
        world.memory.write(tap_addr, &tap).unwrap();
        if let Some(gpa) = change {
            world.memory.write(gpa, &[1]).unwrap();
        }
        let measured = measure(&world);
        let tvm = Tvm::promote(&platform, &plan, &mut world.env().0);
        let mut memory = vec![0; tap.len()];
        world.memory.read(tap_addr, &mut memory).unwrap();
        (tvm.map(|tvm| tvm.initial_registers().local_measurement()), measured, memory)
    };
    assert_eq!(promote(None), (Ok(plain), plain, vec![0; tap.len()]));
    let end = tap_addr + tap.len() as u64;
    for gpa in [Some(tap_addr - 1), Some(end).filter(|end| *end < RAM)].into_iter().flatten() {
        let (tvm, measured, memory) = promote(Some(gpa));
        assert_eq!(
            (tvm, memory),
            (Err(SbiError::AUTH), tap.clone()),
            "{gpa:#x}: a TAP that is refused stays"
        );
        assert_ne!(measured, plain);
    }
}

/// A TAP that begins in the TVM's memory and ends outside.
#[test]
fn a_tap_lies_in_memory_of_the_tvm() {
    let (platform, mut world) = (platform(), world());
    let end = RAM - 0x1000;
    let plan = PromotePlan { ram: std::iter::once(0..end).collect(), tap_addr: end - 8, ..plan() };
    let tap = platform.seal_tap(&[0; 64], b"secret", [4; 12]).unwrap();
    world.memory.write(plan.tap_addr, &tap).unwrap();
    assert_eq!(Tvm::promote(&platform, &plan, &mut world.env().0).map(drop), ADDRESS);
}

#[test]
fn the_tsm_says_what_it_can() {
    let info = tsm_info(&platform());
    let capabilities = TsmCapabilities::from(info.tsm_capabilities.get());
    let expected = TsmCapabilities::new()
        .with_promote_tvm(true)
        .with_attestation_local(true)
        .with_attestation_remote(true);
    assert_eq!(capabilities, expected);
    assert_eq!((info.tsm_state.get(), info.tvm_max_vcpus.get()), (TsmState::READY.0, 64));
}
