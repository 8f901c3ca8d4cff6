//! What a guest can do at its hypervisor, read from an input.

use tsmsim_abi::snp::{
    ghcb::{Ghcb, GhcbField, SHARED_BUFFER_OFFSET},
    msr::GhcbMsr,
};
use tsmsim_simulator::snp::{
    guest::{GuestLayout, World},
    host::{Hypervisor, Outcome, WalkedPage},
    rmp::PageSize,
};
use zerocopy::FromZeros;

use crate::Input;

/// The registers that an exit may name.
const FIELDS: [GhcbField; 12] = [
    GhcbField::SW_EXIT_CODE,
    GhcbField::SW_EXIT_INFO_1,
    GhcbField::SW_EXIT_INFO_2,
    GhcbField::SW_SCRATCH,
    GhcbField::RAX,
    GhcbField::RBX,
    GhcbField::RCX,
    GhcbField::RDX,
    GhcbField::XCR0,
    GhcbField::XSS,
    GhcbField::DR7,
    GhcbField::CPL,
];

/// VMGEXIT with this value of the MSR.
pub fn vmgexit(hypervisor: &mut Hypervisor, world: &mut World, vcpu: usize, msr: GhcbMsr) -> Outcome {
    let ended = hypervisor.terminated();
    let (mut env, devices) = world.env();
    let outcome = hypervisor.vmgexit(vcpu, msr, &mut env, devices);
    assert!(ended.is_none() || hypervisor.terminated() == ended, "a guest ends once");
    outcome
}

/// An exit whose fields the input gives one by one, all of them valid; its shared buffer is `buffer`.
pub fn well_formed(input: &mut Input<'_>, ghcb_gpa: u64, buffer: &[u8]) -> Box<Ghcb> {
    let mut ghcb = Box::new(Ghcb::new_zeroed());
    ghcb.protocol_version.set(if input.u8() & 1 == 0 { 2 } else { 1 });
    ghcb.sw_exit_code.set(exit_code(input.u32()));
    ghcb.sw_exit_info_1.set(input.u64());
    ghcb.sw_exit_info_2.set(input.u64());
    ghcb.rax.set(input.u64());
    ghcb.rbx.set(input.u64());
    ghcb.rcx.set(input.u64());
    ghcb.rdx.set(input.u64());
    ghcb.xcr0.set(input.u64());
    ghcb.sw_scratch.set(ghcb_gpa + SHARED_BUFFER_OFFSET + u64::from(input.u16()));
    ghcb.shared_buffer[..buffer.len()].copy_from_slice(buffer);
    FIELDS.into_iter().for_each(|field| ghcb.set_valid(field));
    ghcb
}

/// Exit codes of the GHCB protocol have bit 31 set and the upper half zero, those of the processor neither; the last, and
/// VMGEXIT's own, is all ones.
fn exit_code(code: u32) -> u64 {
    if code == u32::MAX { u64::MAX } else { code.into() }
}

/// Puts the GHCB in its place and exits.
pub fn exit_with(
    hypervisor: &mut Hypervisor,
    world: &mut World,
    layout: GuestLayout,
    ghcb: &[u8],
) -> Outcome {
    let gpa = layout.ghcb_gpa();
    world.memory.write(gpa, ghcb).expect("the GHCB is in memory");
    vmgexit(hypervisor, world, 0, GhcbMsr(gpa))
}

/// PVALIDATE or RMPADJUST of a page somewhere in or behind RAM.
pub fn page_instruction(hypervisor: &mut Hypervisor, world: &mut World, input: &mut Input<'_>) {
    let flags = input.u8();
    let page = WalkedPage {
        gpa: u64::from(input.u16() & 0xfff) << 12,
        c_bit: flags & 1 == 0,
        size: if flags & 2 == 0 { PageSize::Size4K } else { PageSize::Size2M },
    };
    let (rcx, rdx) = (u64::from(flags >> 2 & 3), input.u32().into());
    let (mut env, _) = world.env();
    if flags & 0x80 == 0 {
        hypervisor.pvalidate(page, rcx, rdx, &mut env);
    } else {
        hypervisor.rmpadjust(page, rcx, rdx, &mut env);
    }
}
