//! RISC-V guests: one hart behind one trait, and its exits as data.
//!
//! What a TVM wants of its host, it says by `ecall`; all else (timer, interrupts, page tables) is the engine's own affair, so
//! this trait is far smaller than the x86 [`Engine`](super::Engine). Guest RAM starts at [`RAM_BASE`].
//!
//! | module | what |
//! |---|---|
//! | [`ckb`] | RV64IMAC without privileged instructions, interpreted in this process: bare-metal guests |
//! | `qemu` | `qemu-system-riscv64` (Linux): bare-metal guests, and Linux with OpenSBI |
//! | [`scripted`] | exits that a test wrote down |

pub mod ckb;
#[cfg(target_os = "linux")]
pub mod qemu;
pub mod scripted;

use std::time::Instant;

use super::{EngineError, EngineInfo};

/// Guest-physical address of the first byte of RAM: QEMU's `virt` machine has it there, and so have most boards.
pub const RAM_BASE: u64 = 0x8000_0000;

/// Why a hart stopped. Owned: nothing in it borrows from the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `ecall` from supervisor mode: wants [`Hart::complete_ecall`].
    Ecall {
        /// `a0` to `a7`, as the guest set them (RISC-V SBI specification, "Binary Encoding").
        arguments: [u64; 8],
    },
    /// A trap that nobody in the guest handles: the hart cannot run on.
    Trap(Trap),
    /// The engine ended the guest: by the machine's own reset or power-off device, or because its process is gone.
    PoweredOff,
    /// The deadline given to [`Hart::run`] is reached. The guest can be run on.
    Deadline,
}

/// A trap, in the words of the privileged architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// `mcause`: what happened; 2 illegal instruction, 5 load access fault, 7 store access fault …
    pub cause: u64,
    /// `mepc`: the instruction.
    pub pc: u64,
    /// `mtval`: the address or the instruction that is at fault, zero where the engine does not know.
    pub value: u64,
}

/// Values of `mcause` for exceptions (RISC-V privileged architecture, table "Machine cause register (mcause) values after
/// trap").
pub mod cause {
    /// Instruction access fault.
    pub const INSTRUCTION_ACCESS_FAULT: u64 = 1;
    /// Illegal instruction.
    pub const ILLEGAL_INSTRUCTION: u64 = 2;
    /// Breakpoint.
    pub const BREAKPOINT: u64 = 3;
    /// Load access fault.
    pub const LOAD_ACCESS_FAULT: u64 = 5;
    /// Store or AMO access fault.
    pub const STORE_ACCESS_FAULT: u64 = 7;
}

/// Where a guest begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `pc`.
    pub pc: u64,
    /// `a0`: the hart's number.
    pub hart: u64,
    /// `a1`: what `finalize_tvm` calls `entry_arg`, the address of the FDT in most cases.
    pub argument: u64,
}

/// One RISC-V hart.
///
/// The order is: [`start`](Hart::start) once, then [`run`](Hart::run) again and again, each [`Exit::Ecall`] answered before
/// the next run.
pub trait Hart {
    /// What this engine is.
    fn info(&self) -> &EngineInfo;

    /// Puts the hart where the guest begins, in supervisor mode without address translation, interrupts off.
    fn start(&mut self, entry: Entry) -> Result<(), EngineError>;

    /// Runs the guest until it exits or `deadline` is reached, whichever is first; a deadline in the past gives
    /// [`Exit::Deadline`] at once.
    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError>;

    /// Answers [`Exit::Ecall`]: `error` goes to `a0`, `value` to `a1`, and the guest continues behind the `ecall`.
    fn complete_ecall(&mut self, error: i64, value: u64) -> Result<(), EngineError>;
}
