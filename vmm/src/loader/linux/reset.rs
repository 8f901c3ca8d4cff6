//! From a processor's reset to the kernel's entry: what stands in for firmware under an engine that starts processors as
//! hardware does.
//!
//! A processor begins at FFFF_FFF0h in real mode. The blob here is 64 KiB, as `qemu -bios` wants it, so it ends at 4 GiB.
//! It measures nothing and leaves nothing in memory: it puts the processor into the state that [`LinuxState`] describes,
//! with the tables that lie in guest memory already, and goes to the entry.

use super::boot::LinuxState;
use crate::engine::{Registers, efer};

/// Bytes of the blob.
pub const RESET_BLOB_SIZE: usize = 0x1_0000;
/// Where it begins.
const BASE: u32 = 0xffff_0000;
/// Where its code begins, in it.
const CODE: usize = 0xfe00;
/// Where the processor begins, in it.
const RESET_VECTOR: usize = 0xfff0;
/// Selector of the 32-bit code segment; see [`super::boot::descriptors`].
const CODE32: u16 = 0x08;
const MSR_EFER: u32 = 0xc000_0080;

/// The local APIC's registers (Intel SDM volume 3, section 11.4.1) and what firmware leaves in them.
const LOCAL_APIC: [(u32, u32); 3] = [
    // Spurious interrupt vector: enabled.
    (0xfee0_00f0, 0x1ff),
    // LINT0 delivers what the 8259 has: a kernel that finds no I/O APIC depends on it.
    (0xfee0_0350, 0x700),
    // LINT1 delivers non-maskable interrupts.
    (0xfee0_0360, 0x400),
];

/// Instructions, one after another, at a known place.
struct Code {
    bytes: Vec<u8>,
    at: usize,
}

impl Code {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + N) {
            place.copy_from_slice(&bytes);
        }
        self.at += N;
    }

    /// An opcode with a 32-bit operand.
    fn put32<const N: usize>(&mut self, opcode: [u8; N], operand: u32) {
        self.put(opcode);
        self.put(operand.to_le_bytes());
    }

    /// The linear address of an offset in the blob.
    fn address(offset: usize) -> u32 {
        BASE + u32::try_from(offset).unwrap_or(0)
    }
}

/// The blob for a guest in this state.
#[must_use]
pub fn reset_blob(state: &LinuxState) -> Vec<u8> {
    let mut code = Code { bytes: vec![0; RESET_BLOB_SIZE], at: CODE };
    real_mode(&mut code, state);
    protected_mode(&mut code, state);
    long_mode(&mut code, &state.initial.registers);
    // What LGDT loads: limit and base.
    let gdtr = u16::try_from(code.at).unwrap_or(0);
    code.put(state.gdt.limit.to_le_bytes());
    code.put(low(state.gdt.base).to_le_bytes());
    // lgdt cs:[gdtr] is the first instruction behind cli and cld; its operand is only known now.
    code.at = CODE + 2 + 5;
    code.put(gdtr.to_le_bytes());
    code.at = RESET_VECTOR;
    // jmp CODE
    code.put([0xe9]);
    let behind = RESET_VECTOR + 3;
    code.put(u16::try_from(behind - CODE).unwrap_or(0).wrapping_neg().to_le_bytes());
    code.bytes
}

fn real_mode(code: &mut Code, state: &LinuxState) {
    code.put([0xfa]); // cli
    code.put([0xfc]); // cld
    code.put([0x66, 0x2e, 0x0f, 0x01, 0x16, 0, 0]); // lgdt cs:[gdtr], 32-bit base
    // Protection without paging, and without clearing the flags as OR would.
    code.put32([0x66, 0xb8], low(state.initial.cr0) & !(1 << 31)); // mov eax, CR0 without PG
    code.put([0x0f, 0x22, 0xc0]); // mov cr0, eax
    code.put([0x66, 0xea]); // jmp CODE32:behind
    let behind = Code::address(code.at + 6);
    code.put(behind.to_le_bytes());
    code.put(CODE32.to_le_bytes());
}

fn protected_mode(code: &mut Code, state: &LinuxState) {
    code.put32([0xb8], u32::from(state.data)); // mov eax, data
    code.put([0x8e, 0xd8]); // mov ds, ax
    code.put([0x8e, 0xc0]); // mov es, ax
    code.put([0x8e, 0xd0]); // mov ss, ax
    code.put([0x8e, 0xe0]); // mov fs, ax
    code.put([0x8e, 0xe8]); // mov gs, ax
    for (register, value) in LOCAL_APIC {
        code.put32([0xc7, 0x05], register); // mov dword [register],
        code.put(value.to_le_bytes()); //   value
    }
    code.put32([0xb8], low(state.initial.cr4)); // mov eax, CR4
    code.put([0x0f, 0x22, 0xe0]); // mov cr4, eax
    code.put32([0xb8], low(state.initial.cr3)); // mov eax, CR3
    code.put([0x0f, 0x22, 0xd8]); // mov cr3, eax
    code.put32([0xb9], MSR_EFER); // mov ecx, EFER
    // The processor itself sets LMA.
    code.put32([0xb8], low(state.initial.efer & !efer::LMA)); // mov eax, EFER
    code.put32([0xba], 0); // mov edx, 0
    code.put([0x0f, 0x30]); // wrmsr
    code.put32([0xb8], low(state.initial.cr0)); // mov eax, CR0
    code.put([0x0f, 0x22, 0xc0]); // mov cr0, eax
    code.put([0xea]); // jmp cs:behind
    let behind = Code::address(code.at + 6);
    code.put(behind.to_le_bytes());
    code.put(state.cs.to_le_bytes());
}

fn long_mode(code: &mut Code, registers: &Registers) {
    let r = registers;
    let low_eight = [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi];
    let high_eight = [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
    for (rex, values) in [(0x48, low_eight), (0x49, high_eight)] {
        for (number, value) in (0_u8..).zip(values) {
            code.put([rex, 0xb8 + number]); // mov register,
            code.put(value.to_le_bytes()); //   value
        }
    }
    code.put([0xff, 0x25, 0, 0, 0, 0]); // jmp [rip]
    code.put(r.rip.to_le_bytes()); // the entry
}

/// What a 32-bit operand can hold: control registers here have no more, and the tables lie below 4 GiB.
fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};

    use super::*;
    use crate::engine::InitialState;
    use crate::loader::linux::boot::DescriptorTable;

    fn state() -> LinuxState {
        let mut initial = InitialState::long_mode(0x100_0b53, 0x1000);
        initial.registers.rsi = 0x8000;
        initial.registers.rsp = 0xb000;
        initial.registers.r15 = 0x1234_5678_9abc_def0;
        LinuxState { initial, gdt: DescriptorTable { base: 0x7000, limit: 31 }, cs: 0x10, data: 0x18 }
    }

    /// Decodes from an offset on until control goes elsewhere; gives the instructions and the offset behind.
    fn run(blob: &[u8], bits: u32, offset: usize) -> (Vec<iced_x86::Instruction>, usize) {
        let mut decoder =
            Decoder::with_ip(bits, &blob[offset..], u64::from(Code::address(offset)), DecoderOptions::NONE);
        let mut found = Vec::new();
        loop {
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid(), "{:#x}", instruction.ip());
            found.push(instruction);
            if instruction.mnemonic() == Mnemonic::Jmp {
                return (found, offset + decoder.position());
            }
        }
    }

    #[test]
    fn it_goes_from_the_reset_vector_to_the_entry() {
        let blob = reset_blob(&state());
        assert_eq!(blob.len(), RESET_BLOB_SIZE);
        let (first, _) = run(&blob, 16, RESET_VECTOR);
        assert_eq!(first[0].near_branch16(), 0xfe00);
        let (real, next) = run(&blob, 16, CODE);
        let jump = real.last().unwrap();
        assert_eq!((jump.far_branch_selector(), jump.far_branch32()), (0x08, Code::address(next)));
        let lgdt = real.iter().find(|i| i.mnemonic() == Mnemonic::Lgdt).unwrap();
        assert_eq!(lgdt.memory_segment(), Register::CS);
        let gdtr = usize::try_from(lgdt.memory_displacement32()).unwrap();
        assert_eq!(blob[gdtr..gdtr + 6], [31, 0, 0, 0x70, 0, 0]);
        let (protected, next) = run(&blob, 32, next);
        let jump = protected.last().unwrap();
        assert_eq!((jump.far_branch_selector(), jump.far_branch32()), (0x10, Code::address(next)));
        let (_, end) = run(&blob, 64, next);
        assert_eq!(blob[end..end + 8], 0x100_0b53_u64.to_le_bytes());
        assert_eq!(gdtr, end + 8);
    }

    #[test]
    fn registers_get_what_the_state_says() {
        let blob = reset_blob(&state());
        let (_, protected) = run(&blob, 16, CODE);
        let (instructions, long) = run(&blob, 32, protected);
        let mut eax = 0;
        let mut seen = Vec::new();
        for instruction in instructions {
            if instruction.mnemonic() != Mnemonic::Mov {
                continue;
            }
            match (instruction.op0_register(), instruction.op1_kind()) {
                (Register::EAX, OpKind::Immediate32) => eax = instruction.immediate32(),
                (Register::None, OpKind::Immediate32) => {
                    seen.push((instruction.memory_displacement32(), instruction.immediate32()));
                }
                (Register::CR0 | Register::CR3 | Register::CR4, _) => seen.push((0, eax)),
                _ => {}
            }
        }
        let apic = [(0xfee0_00f0, 0x1ff), (0xfee0_0350, 0x700), (0xfee0_0360, 0x400)];
        assert_eq!(seen[..3], apic);
        assert_eq!(seen[3..], [(0, 0x620), (0, 0x1000), (0, 0x8005_0033)]);
        let (instructions, _) = run(&blob, 64, long);
        let value = |register| {
            let found = instructions.iter().find(|i| i.op0_register() == register);
            found.map(|instruction| instruction.immediate64())
        };
        assert_eq!(value(Register::RSI), Some(0x8000));
        assert_eq!(value(Register::RSP), Some(0xb000));
        assert_eq!(value(Register::R15), Some(0x1234_5678_9abc_def0));
        assert_eq!(value(Register::RAX), Some(0));
    }
}
