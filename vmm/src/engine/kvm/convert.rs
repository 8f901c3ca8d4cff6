//! Between the engine-neutral register and CPUID types and those of the KVM interface.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2, kvm_regs, kvm_segment, kvm_sregs,
};

use crate::engine::cpuid::{CpuidEntry, CpuidTable};
use crate::engine::{EngineError, InitialState, Privilege, Registers};

/// Selectors of the flat segments. No descriptor table backs them; a guest that makes one can choose the same.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;

/// Segment types: AMD64 Architecture Programmer's Manual volume 2 (24593), section 4.7.
const TYPE_CODE_EXECUTE_READ_ACCESSED: u8 = 0xb;
const TYPE_DATA_READ_WRITE_ACCESSED: u8 = 0x3;

pub(super) fn registers_from_kvm(regs: &kvm_regs) -> Registers {
    Registers {
        rax: regs.rax,
        rbx: regs.rbx,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rsp: regs.rsp,
        rbp: regs.rbp,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rip: regs.rip,
        rflags: regs.rflags,
    }
}

pub(super) fn registers_to_kvm(registers: &Registers) -> kvm_regs {
    kvm_regs {
        rax: registers.rax,
        rbx: registers.rbx,
        rcx: registers.rcx,
        rdx: registers.rdx,
        rsi: registers.rsi,
        rdi: registers.rdi,
        rsp: registers.rsp,
        rbp: registers.rbp,
        r8: registers.r8,
        r9: registers.r9,
        r10: registers.r10,
        r11: registers.r11,
        r12: registers.r12,
        r13: registers.r13,
        r14: registers.r14,
        r15: registers.r15,
        rip: registers.rip,
        rflags: registers.rflags,
    }
}

/// Changes what KVM has after creation into the guest's initial state; what is not named here (task register, local
/// descriptor table, APIC base) stays as it is.
pub(super) fn apply_initial_state(sregs: &mut kvm_sregs, state: &InitialState) {
    sregs.cr0 = state.cr0;
    sregs.cr3 = state.cr3;
    sregs.cr4 = state.cr4;
    sregs.efer = state.efer;
    sregs.cs = code_segment(state.privilege);
    let data = data_segment(state.privilege);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    (sregs.gdt.base, sregs.gdt.limit) = (0, 0);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
}

/// Code and stack segment of ring 0 as SYSCALL loads them, for the code segment's selector.
pub(super) fn kernel_segments(selector: u16) -> (kvm_segment, kvm_segment) {
    let code = kvm_segment { selector, ..code_segment(Privilege::Kernel) };
    let data = kvm_segment { selector: selector.wrapping_add(8), ..data_segment(Privilege::Kernel) };
    (code, data)
}

fn code_segment(privilege: Privilege) -> kvm_segment {
    let dpl = privilege.level();
    kvm_segment {
        limit: u32::MAX,
        selector: CODE_SELECTOR | u16::from(dpl),
        type_: TYPE_CODE_EXECUTE_READ_ACCESSED,
        present: 1,
        dpl,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

fn data_segment(privilege: Privilege) -> kvm_segment {
    let dpl = privilege.level();
    kvm_segment {
        limit: u32::MAX,
        selector: DATA_SELECTOR | u16::from(dpl),
        type_: TYPE_DATA_READ_WRITE_ACCESSED,
        present: 1,
        dpl,
        s: 1,
        db: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

pub(super) fn cpuid_from_kvm(cpuid: &CpuId) -> CpuidTable {
    let entry = |entry: &kvm_cpuid_entry2| CpuidEntry {
        function: entry.function,
        index: (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0).then_some(entry.index),
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    };
    cpuid.as_slice().iter().map(entry).collect()
}

pub(super) fn cpuid_to_kvm(table: &CpuidTable) -> Result<CpuId, EngineError> {
    let entry = |entry: &CpuidEntry| kvm_cpuid_entry2 {
        function: entry.function,
        index: entry.index.unwrap_or(0),
        flags: if entry.index.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
        padding: [0; 3],
    };
    let entries: Vec<_> = table.entries().iter().map(entry).collect();
    CpuId::from_entries(&entries).map_err(|_| {
        EngineError::Configuration(format!("a CPUID table of {} entries: too long", entries.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_way_there_and_back() {
        let registers = Registers::numbered();
        assert_eq!(registers_from_kvm(&registers_to_kvm(&registers)), registers);
    }

    #[test]
    fn cpuid_survives_the_way_there_and_back() {
        let entry = |function, index| CpuidEntry { function, index, eax: 1, ebx: 2, ecx: 3, edx: 4 };
        let table: CpuidTable = [entry(0, None), entry(4, Some(0)), entry(4, Some(1))].into_iter().collect();
        assert_eq!(cpuid_from_kvm(&cpuid_to_kvm(&table).unwrap()), table);
    }

    #[test]
    fn a_table_that_kvm_cannot_take_is_refused() {
        let table: CpuidTable =
            (0..1000).map(|index| CpuidEntry { index: Some(index), ..CpuidEntry::default() }).collect();
        assert!(matches!(cpuid_to_kvm(&table), Err(EngineError::Configuration(_))));
    }
}
