//! What the Linux drivers `sev-guest` and `tdx-guest`, and this project's module for TVMs, do between their callers and the
//! hypervisor.
//!
//! A driver stands over a simulated guest ([`InProcessGuest`](tsmsim_simulator::snp::guest::InProcessGuest),
//! [`InProcessTdGuest`](tsmsim_simulator::tdx::guest::InProcessTdGuest),
//! [`InProcessTvmGuest`](tsmsim_simulator::cove::guest::InProcessTvmGuest)) and reaches the firmware by VMGEXIT, TDCALL and
//! ECALL as a guest in a virtual machine does. Its own are the order of checks, the error numbers, the retries in time and what
//! becomes of a key after a failure: those of Linux 6.12.117, `drivers/virt/coco/{sev-guest,tdx-guest}/`, or of another
//! kernel where the options say so.
//!
//! | file | Linux |
//! |---|---|
//! | `sev_guest.rs` | `sev-guest.c`: the ioctls, the provider |
//! | `sev_guest/request.rs` | `sev-guest.c` (from 6.14: `arch/x86/coco/sev/core.c`): a message, its retries, the VMPCK |
//! | `tdx_guest.rs` | `tdx-guest.c`: the ioctl, the provider |
//! | `tdx_guest/quote.rs` | `tdx-guest.c`: GetQuote |
//! | `tdx_guest/measurements.rs` | `drivers/virt/coco/guest/tsm-mr.c` with the registers of `tdx-guest.c` (from 6.16) |
//! | `cove_guest.rs` | the module in `guest-tests/linux-cove-module/`: the provider |
//! | `ccel.rs` | the firmware's event log and the ACPI table that names it |
//! | `uapi.rs` | `include/uapi/linux/{sev-guest,tdx-guest}.h` |

pub mod ccel;
pub mod cove_guest;
pub mod sev_guest;
pub mod tdx_guest;
pub mod time;
pub mod uapi;

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

/// `TASK_SIZE_MAX` of x86-64 with four levels of page tables: user addresses lie below.
const TASK_SIZE_MAX: u64 = (1 << 47) - 4096;

/// The memory of the program that called.
pub trait UserMemory {
    /// `copy_from_user`.
    ///
    /// # Errors
    /// EFAULT where a byte cannot be read.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno>;

    /// `copy_to_user`.
    ///
    /// # Errors
    /// EFAULT where a byte cannot be written; the bytes before it may have been.
    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), Errno>;
}

/// How an ioctl ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct IoctlOutcome {
    /// What the caller of ioctl(2) gets. Success need not be zero: see [`sev_guest::SevGuest::ioctl`].
    pub result: Result<i32, Errno>,
    /// Whether the structure goes back to the caller, which may be so if the ioctl fails. If not, it is untouched.
    pub written: bool,
}

impl IoctlOutcome {
    /// Ended before anything was written back.
    const fn early(errno: Errno) -> Self {
        Self { result: Err(errno), written: false }
    }
}

/// Runs an ioctl over its structure in user memory: copied in, and copied back if it is to be.
fn at_address<const SIZE: usize>(
    arg: u64,
    user: &mut dyn UserMemory,
    ioctl: impl FnOnce(&mut [u8; SIZE], &mut dyn UserMemory) -> IoctlOutcome,
) -> Result<i32, Errno> {
    let mut bytes = [0; SIZE];
    user.read(arg, &mut bytes).map_err(|_| Errno::EFAULT)?;
    let outcome = ioctl(&mut bytes, user);
    if outcome.written {
        user.write(arg, &bytes).map_err(|_| Errno::EFAULT)?;
    }
    outcome.result
}

/// Locks, also after another thread panicked: what the lock protects is bytes of a simulated machine.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
