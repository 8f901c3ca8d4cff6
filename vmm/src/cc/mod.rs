//! Confidential machines: an engine's exits turned into calls of the simulator, and nothing else.
//!
//! | module | what |
//! |---|---|
//! | [`snp`], [`tdx`], [`cove`] | the machine of each technology |
//! | `boot`, `boot_td` (x86-64 Linux), [`boot_tvm`] | a bare-metal guest of each, loaded, launched and at its first instruction |
//! | `linux` | stock Linux kernels as guests of each (Linux) |
//! | [`surroundings`], [`host`] | time, randomness and faults; those of this machine |
//! | [`end`] | how a run ended |

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod boot;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod boot_td;
pub mod boot_tvm;
pub mod cove;
mod devices;
pub mod end;
pub mod host;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod snp;
pub mod surroundings;
pub mod tdx;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_td;
