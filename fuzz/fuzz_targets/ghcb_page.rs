//! Any sequence of exits through the GHCB page, mixed with the MSR protocol and page instructions.
//!
//! One step: kind (1), then 0: MSR value (8); 1: a page instruction; 2: a whole page (length and bytes); else the fields of
//! a well-formed exit, and its shared buffer (length and bytes).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::{PAGE_SIZE, ghcb::SHARED_BUFFER_SIZE, msr::GhcbMsr};
use tsmsim_fuzz::{Input, STEPS, host, machine, op};
use tsmsim_simulator::snp::host::HostConfig;
use zerocopy::IntoBytes;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let scratch_outside_ghcb = input.u8() & 1 == 1;
    let (mut hypervisor, mut world, layout) = machine(HostConfig { scratch_outside_ghcb, ..host() });
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() & 7 {
            0 => drop_outcome(op::vmgexit(&mut hypervisor, &mut world, 0, GhcbMsr(input.u64()))),
            1 => op::page_instruction(&mut hypervisor, &mut world, &mut input),
            2 => {
                let mut page = input.sized().to_vec();
                page.resize(PAGE_SIZE, 0);
                drop_outcome(op::exit_with(&mut hypervisor, &mut world, layout, &page));
            }
            _ => {
                let buffer = input.sized();
                let buffer = &buffer[..buffer.len().min(SHARED_BUFFER_SIZE)];
                let ghcb = op::well_formed(&mut input, layout.ghcb_gpa(), buffer);
                drop_outcome(op::exit_with(&mut hypervisor, &mut world, layout, ghcb.as_bytes()));
            }
        }
    }
});

fn drop_outcome(_: tsmsim_simulator::snp::host::Outcome) {}
