//! Stock Linux kernels as confidential guests, on an engine whose processor is not confidential.
//!
//! Nothing in such a kernel *needs* encrypted memory. It needs CPUID and MSRs that say so, answers to a few instructions, and
//! RAM a second time where an address has the C-bit or the shared bit. So the kernel is left as its distribution built it:
//! [`sites`] finds those instructions, the engine stops there ([`kvm`] patches them first), and the machine answers
//! ([`SnpMachine`](super::snp::SnpMachine), [`TdMachine`](super::tdx::TdMachine)) as it does for any other guest.
//!
//! A TVM asks by `ecall`, which no processor executes by itself, so nothing has to be found in its kernel
//! ([`TvmMachine`](super::cove::TvmMachine)).

mod cove;
mod guest;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
mod line;
pub mod sites;
mod snp;
mod tdx;

pub use cove::{CoveLinux, boot_cove, measure_cove};
pub use guest::{ConfidentialMachine, LinuxBoot, LinuxBootError, LinuxEnd, LinuxEngine, LinuxGuest};
pub use line::Sink;
pub use snp::{SnpLinux, boot_snp, measure_snp};
pub use tdx::{TdxLinux, boot_tdx, measure_tdx};
