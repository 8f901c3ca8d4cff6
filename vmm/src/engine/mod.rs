//! What executes a guest: one virtual CPU behind one trait, and its exits as data.
//!
//! | module | what |
//! |---|---|
//! | `kvm` | KVM (x86-64 Linux) |
//! | `qemu` | `qemu-system-x86_64`, over the gdb protocol (Linux) |
//! | [`riscv`] | RISC-V harts, which have a trait of their own: an interpreter, and `qemu-system-riscv64` |
//! | [`scripted`] | exits that a test wrote down |
//! | [`cpuid`] | what a guest reads by CPUID |

pub mod cpuid;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
#[cfg(target_os = "linux")]
pub mod qemu;
pub mod riscv;
pub mod scripted;
mod state;

use std::time::Instant;

use thiserror::Error;

pub use state::{InitialState, Privilege, Registers, SystemRegisters, rflags};
pub(crate) use state::{cr0, cr4, efer};

/// How fast an engine runs a guest's kernel code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// By the processor itself.
    Native,
    /// Translated to the host's instructions, block by block: tens of times slower than a processor, fast enough for a
    /// stock Linux.
    Translated,
    /// Instruction by instruction in software, at a few million a second or less: fine for a small guest, not for a
    /// stock Linux. Such an engine also lacks instructions in ring 0 (SSE arithmetic, CMPXCHG16B, INT3 …).
    SlowEmulated,
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The name on the command line: `kvm`, `qemu`, `scripted`.
    pub name: &'static str,
    /// How fast it is.
    pub speed: Speed,
    /// Bits of a guest-physical address that it can map.
    pub physical_bits: u8,
}

/// Why a virtual CPU stopped. Owned: nothing in it borrows from the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// OUT or OUTS. RIP is at the instruction or behind it, as the engine has it; leave it as it is read, and the
    /// guest continues behind the instruction. Other registers may be set.
    IoOut {
        /// The I/O port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: u8,
        /// The data, little endian: one access, or for OUTS with a repeat prefix several.
        data: Vec<u8>,
    },
    /// IN or INS: wants [`Engine::complete_io_in`] with `size` × `count` bytes.
    IoIn {
        /// The I/O port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: u8,
        /// How many accesses: one, or for INS with a repeat prefix several.
        count: u32,
    },
    /// A read from a guest-physical address that is not RAM: wants [`Engine::complete_mmio_read`].
    MmioRead {
        /// Guest-physical address.
        gpa: u64,
        /// Bytes to read, at most 8.
        size: u8,
    },
    /// A write to a guest-physical address that is not RAM.
    MmioWrite {
        /// Guest-physical address.
        gpa: u64,
        /// The data, little endian, at most 8 bytes.
        data: Vec<u8>,
    },
    /// RDMSR of a register that the configuration names: wants [`Engine::complete_msr_read`].
    MsrRead {
        /// Register number.
        index: u32,
    },
    /// WRMSR of a register that the configuration names: wants [`Engine::complete_msr_write`].
    MsrWrite {
        /// Register number.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// HLT.
    Hlt,
    /// A triple fault, or another reason for a processor to shut down.
    Shutdown,
    /// A platform event (reset, shutdown, crash) that the engine's own devices saw.
    SystemEvent {
        /// The engine's number for it.
        kind: u32,
        /// What came with it.
        data: Vec<u64>,
    },
    /// The deadline given to [`Engine::run`] is reached. The guest can be run on.
    Deadline,
    /// The engine cannot go on with this guest: an instruction that it cannot execute, in most cases.
    InternalError {
        /// The engine's number for it; for KVM the `KVM_INTERNAL_ERROR_*` suberror, 1 = emulation.
        suberror: u32,
        /// The bytes at RIP, as far as the engine gives them.
        instruction: Vec<u8>,
    },
}

/// The guest gets #GP(0) for its RDMSR or WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// An exception to deliver to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its vector, below 32.
    pub vector: u8,
    /// Its error code, where the vector has one.
    pub error_code: Option<u32>,
}

impl Exception {
    /// #GP with an error code: AMD64 Architecture Programmer's Manual volume 2 (24593), section 8.2.14.
    pub const fn general_protection(error_code: u32) -> Self {
        Self { vector: 13, error_code: Some(error_code) }
    }

    /// #VE: Intel Software Developer's Manual volume 3 (325384), section 6.15.
    pub const VIRTUALIZATION: Self = Self { vector: 20, error_code: None };
}

/// What went wrong on our side, or the host's. Nothing a guest does by itself leads here, except
/// [`EngineError::UnexpectedExit`] and [`EngineError::EntryFailed`] on a host that reports what no guest set up like
/// ours should cause.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The host has no such engine.
    #[error("{0}")]
    Missing(String),
    /// This user may not use the engine.
    #[error("{0}")]
    NotPermitted(String),
    /// The host's engine lacks capabilities.
    #[error("this host's KVM lacks {}: a newer kernel is needed (5.10 or later)", .0.join(", "))]
    TooOld(Vec<&'static str>),
    /// A request to the host's kernel failed.
    #[error("{operation}: {}", std::io::Error::from_raw_os_error(*.errno))]
    Host {
        /// The request, by its name in the kernel's interface.
        operation: &'static str,
        /// The error number.
        errno: i32,
    },
    /// The configuration cannot be had.
    #[error("{0}")]
    Configuration(String),
    /// QEMU failed, or is not as it should be.
    #[error("QEMU: {0}")]
    Qemu(String),
    /// An exit that this program does not know.
    #[error("the virtual CPU stopped for a reason that is not handled: {0}")]
    UnexpectedExit(String),
    /// The processor refused the guest's state.
    #[error("the processor refused to enter the guest, reason {0:#x}")]
    EntryFailed(u64),
    /// [`Engine::run`] while an exit still waits for its answer.
    #[error("the last exit was not answered: {0}")]
    Unanswered(&'static str),
    /// An answer to an exit that does not wait for it, or of the wrong length.
    #[error("wrong answer to an exit: {0}")]
    WrongAnswer(&'static str),
    /// The script has no more steps.
    #[error("the script has ended")]
    ScriptEnded,
}

/// One virtual CPU.
///
/// The order is: [`set_initial_state`](Engine::set_initial_state) once, then [`run`](Engine::run) again and again,
/// each [`Exit`] that says so answered before the next run.
pub trait Engine {
    /// What this engine is.
    fn info(&self) -> &EngineInfo;

    /// Puts the CPU into the state in which the guest begins.
    fn set_initial_state(&mut self, state: &InitialState) -> Result<(), EngineError>;

    /// Runs the guest until it exits or `deadline` is reached, whichever is first; a deadline in the past gives
    /// [`Exit::Deadline`] at once.
    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError>;

    /// The general registers.
    fn registers(&self) -> Result<Registers, EngineError>;

    /// Replaces the general registers.
    fn set_registers(&mut self, registers: &Registers) -> Result<(), EngineError>;

    /// The registers that a page walk needs.
    fn system_registers(&self) -> Result<SystemRegisters, EngineError>;

    /// Answers [`Exit::IoIn`]: exactly `size` × `count` bytes, little endian.
    fn complete_io_in(&mut self, data: &[u8]) -> Result<(), EngineError>;

    /// Answers [`Exit::MmioRead`]: exactly `size` bytes, little endian.
    fn complete_mmio_read(&mut self, data: &[u8]) -> Result<(), EngineError>;

    /// Answers [`Exit::MsrRead`].
    fn complete_msr_read(&mut self, outcome: Result<u64, GeneralProtection>) -> Result<(), EngineError>;

    /// Answers [`Exit::MsrWrite`].
    fn complete_msr_write(&mut self, outcome: Result<(), GeneralProtection>) -> Result<(), EngineError>;

    /// Delivers an exception when the guest next runs.
    fn inject_exception(&mut self, exception: Exception) -> Result<(), EngineError>;

    /// Delivers an exception in place of the instruction of the last exit, which is `length` bytes long: the guest's
    /// handler finds RIP at its beginning and the other registers as the exit had them. An answer that the exit waits for is
    /// not to be given.
    fn inject_fault(&mut self, exception: Exception, length: u8) -> Result<(), EngineError>;

    /// Delivers an external interrupt as soon as the guest takes interrupts. Of several that wait the one with the highest
    /// vector comes first; one that waits already is not counted again.
    fn inject_interrupt(&mut self, vector: u8) -> Result<(), EngineError>;

    /// Whether an interrupt waits for the guest to take it.
    fn interrupt_waits(&self) -> bool;

    /// Halts the guest behind the last exit until it has taken an interrupt, as HLT does, without an exit. `false` if
    /// this engine has no interrupt controller, or no way to halt: then nothing happened.
    fn halt(&mut self) -> Result<bool, EngineError> {
        Ok(false)
    }
}

/// Which answer an exit waits for. Both engines hold callers to the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pending {
    #[default]
    None,
    IoIn(usize),
    MmioRead(usize),
    MsrRead,
    MsrWrite,
}

impl Pending {
    /// What `exit` waits for.
    pub(crate) fn of(exit: &Exit) -> Self {
        match *exit {
            Exit::IoIn { size, count, .. } => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                Self::IoIn(usize::from(size).saturating_mul(count))
            }
            Exit::MmioRead { size, .. } => Self::MmioRead(usize::from(size)),
            Exit::MsrRead { .. } => Self::MsrRead,
            Exit::MsrWrite { .. } => Self::MsrWrite,
            _ => Self::None,
        }
    }

    /// Refuses to run on over an exit without its answer.
    pub(crate) fn check_answered(self) -> Result<(), EngineError> {
        match self {
            Self::None => Ok(()),
            Self::IoIn(_) => Err(EngineError::Unanswered("IN")),
            Self::MmioRead(_) => Err(EngineError::Unanswered("MMIO read")),
            Self::MsrRead => Err(EngineError::Unanswered("RDMSR")),
            Self::MsrWrite => Err(EngineError::Unanswered("WRMSR")),
        }
    }

    /// Takes an answer, if it is the one waited for.
    pub(crate) fn answer(&mut self, answer: Self) -> Result<(), EngineError> {
        if answer == Self::None || *self != answer {
            return Err(EngineError::WrongAnswer(match answer {
                Self::IoIn(_) => "data for an IN",
                Self::MmioRead(_) => "data for an MMIO read",
                Self::MsrRead => "a value for RDMSR",
                Self::MsrWrite | Self::None => "an outcome for WRMSR",
            }));
        }
        *self = Self::None;
        Ok(())
    }
}

/// The C-bit for guests on an engine that maps `physical_bits` bits of guest-physical address: the highest bit, so
/// that RAM's second place at `1 << c_bit` lies inside and leaves every address below to the guest.
///
/// `None` if that would come into the first 4 GiB, where RAM and devices are. Real processors have it at bit 51 or 47
/// (CPUID 0x8000001f EBX\[5:0\]); a guest has to read it there.
pub fn choose_c_bit(physical_bits: u8) -> Option<u8> {
    // Page table entries hold bits 51:12 of an address.
    let c_bit = physical_bits.min(52).checked_sub(1)?;
    (c_bit >= 32).then_some(c_bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, None)]
    #[case(32, None)]
    #[case(33, Some(32))]
    #[case(39, Some(38))]
    #[case(48, Some(47))]
    #[case(52, Some(51))]
    #[case(57, Some(51))]
    #[case(255, Some(51))]
    fn c_bit_is_the_highest_that_can_be_mapped(#[case] physical_bits: u8, #[case] c_bit: Option<u8>) {
        assert_eq!(choose_c_bit(physical_bits), c_bit);
    }

    #[rstest]
    #[case::io(Exit::IoIn { port: 1, size: 2, count: 3 }, Pending::IoIn(6))]
    #[case::mmio(Exit::MmioRead { gpa: 0, size: 8 }, Pending::MmioRead(8))]
    #[case::rdmsr(Exit::MsrRead { index: 1 }, Pending::MsrRead)]
    #[case::wrmsr(Exit::MsrWrite { index: 1, value: 2 }, Pending::MsrWrite)]
    fn an_exit_wants_its_own_answer_once(#[case] exit: Exit, #[case] answer: Pending) {
        let others =
            [Pending::None, Pending::IoIn(5), Pending::MmioRead(7), Pending::MsrRead, Pending::MsrWrite];
        for wrong in others.into_iter().filter(|&wrong| wrong != answer) {
            let mut pending = Pending::of(&exit);
            assert!(matches!(pending.answer(wrong), Err(EngineError::WrongAnswer(_))));
            assert!(matches!(pending.check_answered(), Err(EngineError::Unanswered(_))));
        }
        let mut pending = Pending::of(&exit);
        pending.answer(answer).unwrap();
        pending.check_answered().unwrap();
        assert!(pending.answer(answer).is_err(), "an answer is taken once");
    }
}
