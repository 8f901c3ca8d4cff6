//! How guests end.

use tsmsim_simulator::{snp::host::Termination, tdx::vmcall::FatalReport};

use crate::engine::riscv::Trap;

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The guest wrote this to [`EXIT_PORT`](tsmsim_abi::guest_test::EXIT_PORT), or gave it to `sbi_system_reset` as reason.
    Done(u8),
    /// The guest asked to be terminated, or met an event that it cannot handle.
    Terminated(Termination),
    /// The guest halted, and nothing will wake it.
    Halted,
    /// The TD ended itself.
    Fatal(FatalReport),
    /// The guest used memory that the host does not have, or that the guest must not use so.
    MemoryFault {
        /// Guest-physical address, as the guest named it.
        gpa: u64,
    },
    /// Triple fault, or another reason for the processor to shut down.
    Shutdown,
    /// A RISC-V guest met a trap that nobody handles.
    Trap(Trap),
    /// The machine's own power-off device, or the end of its process.
    PoweredOff,
    /// The time is up.
    Deadline,
    /// The engine cannot run an instruction.
    Unrunnable {
        /// Where.
        rip: u64,
        /// The instruction's bytes, as far as the engine gives them.
        instruction: Vec<u8>,
    },
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(0) => f.write_str("the guest is done"),
            Self::Done(code) => write!(f, "the guest gave up (code {code})"),
            Self::Terminated(Termination::Requested(reason)) => {
                let name = reason.name().unwrap_or("reason unknown");
                write!(
                    f,
                    "the guest asked to be terminated: {name} (set {}, code {})",
                    reason.set, reason.code
                )
            }
            Self::Terminated(Termination::UnsupportedEvent { exit_code, .. }) => {
                write!(f, "the guest met #VC for exit code {exit_code:#x}, which it cannot handle")
            }
            Self::Halted => f.write_str("the guest halted, and nothing will wake it"),
            Self::Fatal(FatalReport { error, text, .. }) => {
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                write!(f, "the TD ended itself: error {:#x}", error.error_code())?;
                if text.is_empty() { Ok(()) } else { write!(f, ", {}", text.escape_ascii()) }
            }
            Self::MemoryFault { gpa } => {
                write!(f, "the guest used memory at {gpa:#x} that it does not have, or not in this way")
            }
            Self::Shutdown => f.write_str("the guest's processor shut down (triple fault)"),
            Self::Trap(Trap { cause, pc, value }) => {
                write!(f, "the guest's hart stopped at {pc:#x} by a trap: cause {cause}, value {value:#x}")
            }
            Self::PoweredOff => f.write_str("the guest's machine was powered off"),
            Self::Deadline => f.write_str("the guest did not end in the time it was given"),
            Self::Unrunnable { rip, instruction } => {
                write!(f, "the engine cannot run the instruction at {rip:#x}:")?;
                instruction.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}
