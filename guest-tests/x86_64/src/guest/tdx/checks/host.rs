//! TDVMCALLs that ask the host of itself, or stand for one instruction.

use tsmsim_abi::tdx::vmcall::{Direction, SupportedSubFunctions, VmcallStatus, VmcallSubFunction};

use super::super::{call::Vmcall, td::Td};
use crate::guest::{
    arch::td::{cpuid, gpr},
    tap::{Check, Tap, equal},
};

/// A port at which a PC has nothing.
const NO_PORT: u64 = 0x2f0;
/// `IA32_MISC_ENABLE`: what the host has among MSRs.
const IA32_MISC_ENABLE: u64 = 0x1a0;
/// The local APIC's address; no device is there.
const NO_DEVICE: u64 = 0xfee0_0000;

pub(super) fn run(td: &Td, tap: &mut Tap) {
    tap.check("GetTdVmCallInfo: leaf 0", info(0, SupportedSubFunctions::new()));
    let beyond = SupportedSubFunctions::new().with_get_quote(true).with_setup_event_notify_interrupt(true);
    tap.check("GetTdVmCallInfo: leaf 1", info(1, beyond));
    let call = Vmcall::new(VmcallSubFunction::GET_TD_VM_CALL_INFO).operands([2]);
    tap.check("GetTdVmCallInfo: unknown leaf", call.refused(VmcallStatus::INVALID_OPERAND));
    let unsupported = VmcallStatus::SUBFUNC_UNSUPPORTED;
    tap.check(
        "TDVMCALL: unknown sub-function",
        Vmcall::new(VmcallSubFunction(0x1_0fff)).refused(unsupported),
    );
    let vendor = Vmcall::new(VmcallSubFunction::GET_QUOTE).with(gpr::R10, 1);
    tap.check("TDVMCALL: of another vendor", vendor.refused(unsupported));
    tap.check("Instruction.CPUID", same_cpuid());
    let call = Vmcall::new(VmcallSubFunction::INSTRUCTION_CPUID).operands([1 << 32]);
    tap.check("Instruction.CPUID: leaf of 64 bits", call.refused(VmcallStatus::INVALID_OPERAND));
    io(tap);
    msrs(tap);
    mmio(td, tap);
    tap.check("Instruction.WBINVD", Vmcall::new(VmcallSubFunction::INSTRUCTION_WBINVD).succeed().map(drop));
}

fn info(leaf: u64, expected: SupportedSubFunctions) -> Check {
    let after = Vmcall::new(VmcallSubFunction::GET_TD_VM_CALL_INFO).operands([leaf, 1, 2, 3]).succeed()?;
    equal("R11", SupportedSubFunctions::from(after.get(gpr::R11)), expected)?;
    equal("R12, R13, R14", [gpr::R12, gpr::R13, gpr::R14].map(|register| after.get(register)), [0; 3])
}

/// The host's answer is what the processor says; only of leaves that neither changes by itself.
fn same_cpuid() -> Check {
    for leaf in [0, 0x21] {
        let after = Vmcall::new(VmcallSubFunction::INSTRUCTION_CPUID).operands([leaf, 0]).succeed()?;
        let found = [gpr::R12, gpr::R13, gpr::R14, gpr::R15].map(|register| after.get(register));
        equal("R12 to R15", found, cpuid((leaf & 0xff) as u32, 0).map(u64::from))?;
    }
    Ok(())
}

fn io(tap: &mut Tap) {
    let call = |operands: [u64; 4]| Vmcall::new(VmcallSubFunction::INSTRUCTION_IO).operands(operands);
    let read = |size, value| {
        let after = call([size, Direction::READ.0, NO_PORT, 0]).succeed()?;
        equal("R11", after.get(gpr::R11), value)
    };
    tap.check("Instruction.IO: IN of a byte from nowhere", read(1, 0xff));
    tap.check("Instruction.IO: IN of four bytes from nowhere", read(4, 0xffff_ffff));
    let out = call([2, Direction::WRITE.0, NO_PORT, 0x1234]);
    tap.check("Instruction.IO: OUT", out.succeed().map(drop));
    for (name, operands) in [
        ("Instruction.IO: three bytes", [3, Direction::READ.0, NO_PORT, 0]),
        ("Instruction.IO: no direction", [1, 2, NO_PORT, 0]),
        ("Instruction.IO: port of 17 bits", [1, Direction::READ.0, 0x1_0000, 0]),
    ] {
        tap.check(name, call(operands).refused(VmcallStatus::INVALID_OPERAND));
    }
}

fn msrs(tap: &mut Tap) {
    let read = Vmcall::new(VmcallSubFunction::INSTRUCTION_RDMSR);
    let value = read.operands([IA32_MISC_ENABLE]).succeed();
    tap.check("Instruction.RDMSR", value.and_then(|after| equal("R11", after.get(gpr::R11), 1)));
    let invalid = VmcallStatus::INVALID_OPERAND;
    tap.check("Instruction.RDMSR: unknown MSR", read.operands([0xdead_beef]).refused(invalid));
    let write = Vmcall::new(VmcallSubFunction::INSTRUCTION_WRMSR);
    tap.check("Instruction.WRMSR: read-only MSR", write.operands([IA32_MISC_ENABLE, 0]).refused(invalid));
    tap.check("Instruction.WRMSR: number of 64 bits", write.operands([1 << 32, 0]).refused(invalid));
}

fn mmio(td: &Td, tap: &mut Tap) {
    let call = |operands: [u64; 4]| Vmcall::new(VmcallSubFunction::VE_REQUEST_MMIO).operands(operands);
    let device = NO_DEVICE | td.shared;
    let after = call([8, Direction::READ.0, device, 0]).succeed();
    tap.check(
        "#VE.RequestMMIO: read from nowhere",
        after.and_then(|after| equal("R11", after.get(gpr::R11), !0)),
    );
    let write = call([4, Direction::WRITE.0, device, 1]).succeed();
    tap.check("#VE.RequestMMIO: write to nowhere", write.map(drop));
    for (name, operands) in [
        ("#VE.RequestMMIO: private address", [4, Direction::READ.0, NO_DEVICE, 0]),
        ("#VE.RequestMMIO: three bytes", [3, Direction::READ.0, device, 0]),
        ("#VE.RequestMMIO: across pages", [4, Direction::READ.0, device + 0xffe, 0]),
    ] {
        tap.check(name, call(operands).refused(VmcallStatus::INVALID_OPERAND));
    }
}
