//! Any sequence of values in the GHCB MSR. One step: vCPU (1), value (8).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::msr::GhcbMsr;
use tsmsim_fuzz::{Input, STEPS, host, machine, op};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (mut hypervisor, mut world, _) = machine(host());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let vcpu = input.u8();
        let outcome = op::vmgexit(&mut hypervisor, &mut world, vcpu.into(), GhcbMsr(input.u64()));
        if vcpu & 0x80 != 0 {
            // The guest uses what it got.
            op::vmgexit(&mut hypervisor, &mut world, 0, outcome.msr);
        }
        let (mut env, _) = world.env();
        hypervisor.init_sipi(1, &mut env);
    }
});
