//! Promotion of a virtual machine of any memory, with any TAP.
//!
//! Input: kind (1). Bit 0: there is a TAP that is sound as long as the rest of memory is zero. Bit 1: the plan follows: up to
//! three ranges (their number in bits 5:4; start and end, 8 each), vCPUs (2), addresses of FDT and TAP, entry (8 each). Then
//! what is written to memory: address (4), length and bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::{Input, STEPS, cove};
use tsmsim_simulator::cove::{
    guest::{InProcessTvmGuest, TvmGuestError},
    machine::HostConfig,
    promote::PromotePlan,
};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let (platform, world, mut plan) = (cove::platform(), cove::small_world(), cove::promote_plan());
    if kind & 1 != 0 {
        plan.tap_addr = cove::TAP_GPA;
        world.memory.write(cove::TAP_GPA, &cove::tap()).expect("it is in memory");
    }
    if kind & 2 != 0 {
        let ram = (0..kind >> 4 & 3).map(|_| input.u64()..input.u64()).collect();
        plan = PromotePlan {
            ram,
            vcpus: input.u16(),
            fdt_addr: input.u64(),
            tap_addr: input.u64(),
            entry_sepc: input.u64(),
            identity: None,
        };
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let gpa = u64::from(input.u32()) % cove::SMALL_RAM as u64;
        // Nothing is written behind the end.
        let _ = world.memory.write(gpa, input.sized());
    }
    match InProcessTvmGuest::promote(platform, HostConfig::default(), &plan, world) {
        Ok(mut guest) => match guest.secret() {
            Ok(secret) => assert_eq!(secret, cove::SECRET, "only what was sealed is handed out"),
            Err(error) => assert!(plan.tap_addr == 0 || !in_buffer(&plan), "{error}"),
        },
        Err(TvmGuestError::Launch(refused)) => assert!(refused.error.name().is_some(), "{refused}"),
        Err(error) => panic!("it is the launch that fails: {error}"),
    }
});

/// Whether the guest's buffers are in its memory.
fn in_buffer(plan: &PromotePlan) -> bool {
    plan.ram.iter().any(|ram| ram.start == 0 && ram.end >= 0x1_0000)
}
