//! The registers of an x86-64 processor as QEMU's gdb stub lays them out (`gdb-xml/i386-64bit.xml` of its source).

use crate::engine::{Registers, SystemRegisters};

/// Bytes of the general registers, RIP and EFLAGS, which come first.
pub(super) const GENERAL_BYTES: usize = 17 * 8 + 4;
/// Where CS is: a selector of 4 bytes.
const CS: usize = GENERAL_BYTES;
/// CR0, CR2, CR3, CR4, CR8, EFER, 8 bytes each, behind six selectors and three segment bases.
const CONTROL: usize = GENERAL_BYTES + 6 * 4 + 3 * 8;
/// Bytes up to EFER.
const SYSTEM_BYTES: usize = CONTROL + 6 * 8;

/// What a packet `g` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterFile {
    /// General registers.
    pub general: Registers,
    /// What a page walk needs.
    pub system: SystemRegisters,
    /// Selector of the code segment.
    pub cs: u16,
    /// Selector of the stack segment.
    pub ss: u16,
}

impl RegisterFile {
    /// `None` if there are too few bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SYSTEM_BYTES)?;
        let quad = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let mut registers = [0; 17];
        for (number, register) in registers.iter_mut().enumerate() {
            *register = quad(number * 8)?;
        }
        let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip] = registers;
        let rflags = u64::from(word(17 * 8)?);
        let general = Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        };
        let [cr0, _cr2, cr3, cr4, _cr8, efer] = [0, 1, 2, 3, 4, 5].map(|number| quad(CONTROL + number * 8));
        let (cs, ss) = (selector(word(CS)?), selector(word(CS + 4)?));
        let cpl = u8::try_from(cs & 3).ok()?;
        let system = SystemRegisters { cr0: cr0?, cr3: cr3?, cr4: cr4?, efer: efer?, cpl };
        Some(Self { general, system, cs, ss })
    }
}

/// A selector has 16 bits, whatever stands above.
fn selector(word: u32) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The beginning of a packet `G`.
pub(super) fn general_bytes(registers: &Registers) -> Vec<u8> {
    let r = registers;
    let order = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15, r.rip,
    ];
    let mut bytes: Vec<u8> = order.into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.extend_from_slice(&r.rflags.to_le_bytes()[..4]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_registers_go_there_and_back() {
        let general = Registers::numbered();
        let mut bytes = general_bytes(&general);
        assert_eq!(bytes.len(), GENERAL_BYTES);
        bytes.extend(0x10u32.to_le_bytes());
        bytes.extend(0x18u32.to_le_bytes());
        bytes.resize(CONTROL, 0);
        for value in [0x8005_0033u64, 2, 0x1000, 0x6a0, 8, 0xd01] {
            bytes.extend(value.to_le_bytes());
        }
        let system = SystemRegisters { cr0: 0x8005_0033, cr3: 0x1000, cr4: 0x6a0, efer: 0xd01, cpl: 0 };
        assert_eq!(
            RegisterFile::from_bytes(&bytes),
            Some(RegisterFile { general, system, cs: 0x10, ss: 0x18 })
        );
        assert_eq!(RegisterFile::from_bytes(&bytes[..bytes.len() - 1]), None);
    }
}
