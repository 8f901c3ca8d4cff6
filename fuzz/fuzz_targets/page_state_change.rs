//! Any page-state-change buffers, mixed with changes by MSR, PVALIDATE and RMPADJUST.
//!
//! Input: pages per exit (2), then steps: kind (1), then 0: the operand of the MSR protocol (8); 1: a page instruction;
//! else a buffer (length and bytes), issued again up to four times while the hypervisor makes progress.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::{
    ghcb::{ExitCode, Ghcb, GhcbField, SHARED_BUFFER_OFFSET, SHARED_BUFFER_SIZE},
    msr::{GhcbInfo, GhcbMsr},
};
use tsmsim_fuzz::{Input, RAM, STEPS, host, machine, op};
use tsmsim_simulator::snp::host::HostConfig;
use zerocopy::{FromZeros, IntoBytes};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let psc_pages_per_exit = input.u16().into();
    let (mut hypervisor, mut world, layout) = machine(HostConfig { psc_pages_per_exit, ..host() });
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() & 3 {
            0 => {
                let msr = GhcbMsr::new(GhcbInfo::PAGE_STATE_CHANGE_REQUEST, input.u64() >> 12);
                op::vmgexit(&mut hypervisor, &mut world, 0, msr);
            }
            1 => op::page_instruction(&mut hypervisor, &mut world, &mut input),
            _ => {
                let bytes = input.sized();
                let mut ghcb = exit(layout.ghcb_gpa(), &bytes[..bytes.len().min(SHARED_BUFFER_SIZE)]);
                for _ in 0..4 {
                    op::exit_with(&mut hypervisor, &mut world, layout, ghcb.as_bytes());
                    let before = ghcb.shared_buffer;
                    let gpa = layout.ghcb_gpa() + SHARED_BUFFER_OFFSET;
                    world.memory.read(gpa, &mut ghcb.shared_buffer).expect("the GHCB is in memory");
                    if before == ghcb.shared_buffer {
                        break;
                    }
                }
            }
        }
    }
    let frames = RAM as u64 >> 12;
    assert!((0..frames).all(|gfn| hypervisor.rmp().entry(gfn).is_some()), "every frame of RAM has an entry");
    assert!(hypervisor.rmp().entry(frames).is_none(), "none was added");
});

fn exit(ghcb_gpa: u64, buffer: &[u8]) -> Box<Ghcb> {
    let mut ghcb = Box::new(Ghcb::new_zeroed());
    ghcb.protocol_version.set(2);
    ghcb.sw_exit_code.set(ExitCode::PAGE_STATE_CHANGE.0);
    ghcb.sw_scratch.set(ghcb_gpa + SHARED_BUFFER_OFFSET);
    ghcb.shared_buffer[..buffer.len()].copy_from_slice(buffer);
    for field in
        [GhcbField::SW_EXIT_CODE, GhcbField::SW_EXIT_INFO_1, GhcbField::SW_EXIT_INFO_2, GhcbField::SW_SCRATCH]
    {
        ghcb.set_valid(field);
    }
    ghcb
}
