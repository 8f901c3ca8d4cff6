//! QEMU's TCG as the processor: for machines without KVM, or with a slow one.
//!
//! QEMU stays what the distribution ships. This program maps its RAM, and drives it through its gdb stub: a breakpoint at
//! each instruction that QEMU's processor lacks or answers wrongly ([`Watch`]); at a stop the instruction becomes an
//! [`Exit`], and its result goes into the registers, as if the processor had executed it. Everything else (interrupts, timers,
//! HLT, ports, serial lines) is QEMU's own affair.
//!
//! | file | what |
//! |---|---|
//! | `protocol.rs` | the gdb remote serial protocol |
//! | `process.rs` | the child process: its arguments, its sockets |
//! | `child.rs` | what QEMUs for all processors have in common: their beginning and their end |
//! | `watch.rs` | which instructions are watched, and until when |
//! | `engine.rs` | the [`Engine`](super::Engine) |
//! | `delivery.rs` | exceptions, interrupts and HLT, delivered by hand |

#[cfg(doc)]
use super::Exit;

pub(crate) mod child;
mod delivery;
mod engine;
mod process;
pub mod protocol;
mod registers;
mod watch;

pub use delivery::HaltStub;
pub use engine::{QemuEngine, QemuSetup};
pub use process::{QEMU, QemuConfig, version};
pub use registers::RegisterFile;
pub use watch::{Until, Watch, Watched};
