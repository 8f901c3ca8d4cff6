//! QEMU's TCG as the hart: `qemu-system-riscv64 -M virt`, as the distribution ships it.
//!
//! No debugger stops it: firmware of ours hands each `ecall` that the TSM is to answer to a mailbox in memory that this program
//! has mapped too. A guest has all of its RAM to itself; the firmware, and the mailbox in it, have memory behind the guest's, which
//! physical memory protection keeps the guest out of. There is one hart.
//!
//! | file | what |
//! |---|---|
//! | `shim.rs` | the machine-mode code, assembled when a guest is started |
//! | `opensbi.rs` | OpenSBI with that code in front of its trap entries |
//! | `firmware.rs` | what lies where in the firmware's memory |
//! | `mailbox.rs` | the mailbox |
//! | `monitor.rs` | QEMU's monitor: stop and continue |
//! | `process.rs` | the child process: its arguments, its sockets |
//! | `hart.rs` | the [`Hart`](super::Hart) |

mod firmware;
mod hart;
mod mailbox;
mod monitor;
mod opensbi;
mod process;
mod shim;

pub use firmware::{Firmware, OpenSbiBoot};
pub use hart::QemuHart;
pub use opensbi::OpenSbi;
pub use process::{QEMU, version};
