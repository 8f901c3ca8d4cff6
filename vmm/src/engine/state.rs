//! Register state, in no hypervisor's terms.

/// The general registers, the instruction pointer and the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

#[cfg(test)]
impl Registers {
    /// Every register has another value: its place in the list, from 1.
    pub(crate) const fn numbered() -> Self {
        Self {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rsp: 7,
            rbp: 8,
            r8: 9,
            r9: 10,
            r10: 11,
            r11: 12,
            r12: 13,
            r13: 14,
            r14: 15,
            r15: 16,
            rip: 17,
            rflags: 18,
        }
    }
}

/// The registers that a page walk needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR3: where the top page table is.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The extended feature enable register, MSR 0xc0000080.
    pub efer: u64,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
}

/// Bits of RFLAGS.
pub mod rflags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Reads as one, always.
    pub const FIXED: u64 = 1 << 1;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Interrupts are enabled.
    pub const IF: u64 = 1 << 9;
    /// I/O privilege level 3: ring 3 may use IN and OUT.
    pub const IOPL_3: u64 = 3 << 12;
}

/// Bits of CR0: AMD64 Architecture Programmer's Manual volume 2 (24593), section 3.1.1.
pub(crate) mod cr0 {
    pub(crate) const PE: u64 = 1 << 0;
    pub(crate) const MP: u64 = 1 << 1;
    pub(crate) const ET: u64 = 1 << 4;
    pub(crate) const NE: u64 = 1 << 5;
    pub(crate) const WP: u64 = 1 << 16;
    pub(crate) const AM: u64 = 1 << 18;
    pub(crate) const PG: u64 = 1 << 31;
}

/// Bits of CR4: section 3.1.3.
pub(crate) mod cr4 {
    pub(crate) const PAE: u64 = 1 << 5;
    pub(crate) const OSFXSR: u64 = 1 << 9;
    pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
    pub(crate) const LA57: u64 = 1 << 12;
}

/// Bits of EFER: section 3.1.7.
pub(crate) mod efer {
    pub(crate) const LME: u64 = 1 << 8;
    pub(crate) const LMA: u64 = 1 << 10;
    pub(crate) const NXE: u64 = 1 << 11;
}

/// The ring in which a guest begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privilege {
    /// Ring 0.
    #[default]
    Kernel,
    /// Ring 3; with [`rflags::IOPL_3`] it may use I/O ports.
    User,
}

impl Privilege {
    /// The ring's number.
    pub const fn level(self) -> u8 {
        match self {
            Self::Kernel => 0,
            Self::User => 3,
        }
    }
}

/// How a guest begins: 64-bit mode, flat segments without any descriptor table, interrupts off.
///
/// An exception before the guest has made tables of its own is a triple fault.
///
/// The task register is as after a reset: a segment of 64 KiB at address zero. So what RAM holds there is the permission
/// bitmap for I/O from ring 3, and zeros allow every port. A KVM that interprets ring 0 needs it so, as its ring 3 does
/// not have the I/O privilege level that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialState {
    /// General registers; RIP is the entry, RFLAGS should be [`rflags::FIXED`] and what is wanted beside it.
    pub registers: Registers,
    /// CR0.
    pub cr0: u64,
    /// CR3: where the top page table is.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// The ring.
    pub privilege: Privilege,
}

impl InitialState {
    /// Ring 0 at `entry` with the page tables at `cr3`; all other general registers are zero. The x87 and SSE state is
    /// enabled.
    pub const fn long_mode(entry: u64, cr3: u64) -> Self {
        let zero = Registers {
            rax: 0,
            rbx: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            rsp: 0,
            rbp: 0,
            r8: 0,
            r9: 0,
            r10: 0,
            r11: 0,
            r12: 0,
            r13: 0,
            r14: 0,
            r15: 0,
            rip: 0,
            rflags: 0,
        };
        Self {
            registers: Registers { rip: entry, rflags: rflags::FIXED, ..zero },
            cr0: cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG,
            cr3,
            cr4: cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT,
            efer: efer::LME | efer::LMA,
            privilege: Privilege::Kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_mode_is_what_the_boot_protocol_wants() {
        let state = InitialState::long_mode(0x10_0000, 0x1000);
        assert_eq!((state.cr0, state.cr4, state.efer), (0x8005_0033, 0x620, 0x500));
        assert_eq!((state.registers.rip, state.registers.rflags), (0x10_0000, 2));
        assert_eq!(state.privilege.level(), 0);
    }
}
