//! CPUID, `TDG.VP.INFO`, and calls that are none.

use tsmsim_abi::tdx::{
    leaf::{GPA_WIDTH_48, GPA_WIDTH_52, LeafAndVersion, TdcallLeaf, VcpuCounts, VmcallControl},
    status::OperandId,
};

use super::super::{
    call::{Tdcall, invalid},
    td::Td,
};
use crate::guest::{
    arch::td::{cpuid, gpr},
    tap::{Check, Tap, ensure, equal},
};

pub(super) fn run(td: &Td, tap: &mut Tap) {
    tap.check("CPUID 21H: IntelTDX", leaf_21());
    tap.check("CPUID 0: GenuineIntel", vendor());
    tap.check("CPUID 1: hypervisor", equal("ECX bit 31", cpuid(1, 0)[2] >> 31, 1));
    tap.check("TDG.VP.INFO", info(td));
    let rax = LeafAndVersion::new();
    for (name, rax) in [
        ("TDCALL: unknown leaf", rax.with_leaf(0x1ff)),
        ("TDCALL: leaf of a function that is not offered", rax.with_leaf(TdcallLeaf::TDG_SERVTD_RD.0)),
        ("TDCALL: unknown version", rax.with_leaf(TdcallLeaf::TDG_VP_INFO.0).with_version(1)),
        ("TDCALL: reserved bits of RAX", rax.with_leaf(TdcallLeaf::TDG_VP_INFO.0).with_reserved(1)),
    ] {
        let call = Tdcall::new(TdcallLeaf::TDG_VP_INFO).with(gpr::RAX, rax.into());
        tap.check(name, call.refused(invalid(OperandId::RAX)));
    }
    let control = VmcallControl::new();
    for (name, control) in [
        ("TDG.VP.VMCALL: shows RAX", control.with_gpr_select(1 << 0)),
        ("TDG.VP.VMCALL: shows RSP", control.with_gpr_select(1 << 4)),
        ("TDG.VP.VMCALL: reserved bits of RCX", control.with_reserved(1)),
    ] {
        let call = Tdcall::new(TdcallLeaf::TDG_VP_VMCALL).rcx(control.into());
        tap.check(name, call.refused(invalid(OperandId::RCX)));
    }
    tap.check("TDG.VP.CPUIDVE.SET", Tdcall::new(TdcallLeaf::TDG_VP_CPUIDVE_SET).rcx(0).succeed().map(drop));
    let reserved = Tdcall::new(TdcallLeaf::TDG_VP_CPUIDVE_SET).rcx(1 << 2);
    tap.check("TDG.VP.CPUIDVE.SET: reserved bits", reserved.refused(invalid(OperandId::RCX)));
}

fn leaf_21() -> Check {
    let [_, ebx, ecx, edx] = cpuid(0x21, 0).map(u32::to_le_bytes);
    equal("EBX, EDX, ECX", [ebx, edx, ecx], [*b"Inte", *b"lTDX", *b"    "])
}

fn vendor() -> Check {
    let [_, ebx, ecx, edx] = cpuid(0, 0).map(u32::to_le_bytes);
    equal("EBX, EDX, ECX", [ebx, edx, ecx], [*b"Genu", *b"ineI", *b"ntel"])
}

fn info(td: &Td) -> Check {
    let after = Tdcall::new(TdcallLeaf::TDG_VP_INFO).succeed()?;
    ensure!(matches!(td.gpa_width, GPA_WIDTH_48 | GPA_WIDTH_52), "GPA width is {}", td.gpa_width);
    let counts = VcpuCounts::from(after.get(gpr::R8));
    equal("NUM_VCPUS, VCPU_INDEX", (counts.num_vcpus(), after.get(gpr::R9)), (1, 0))?;
    equal("MAX_VCPUS", counts.max_vcpus(), 1)?;
    ensure!(!td.attributes.debug(), "the TD can be debugged");
    equal("R11", after.get(gpr::R11), 0)
}
