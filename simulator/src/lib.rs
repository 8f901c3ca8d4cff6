//! Firmware and host services of TSM hardware as state machines, without I/O.
//!
//! The simulator sees the world only through the traits of [`mod@env`]: guest memory, a clock, entropy, the host's devices.
//! No ambient time, randomness, files or threads, so the same machine serves KVM, FUSE, a fuzzer and a test with a
//! fake clock. What a guest sees is a reply or the specification's status code; no guest input is a Rust error.
//!
//! | module | what |
//! |---|---|
//! | [`snp`] | AMD SEV-SNP: the secure processor's firmware, and the hypervisor's side of the GHCB protocol |
//! | [`tdx`] | Intel TDX: the module, the host's side of TDVMCALL, the quoting enclave and its service |
//! | [`cove`] | RISC-V CoVE: the TSM with its layers of attestation, a TVM and its host |
//! | [`fault`] | where faults can be injected |
//! | [`journal`] | what happened: requests, violations, faults |

pub mod cove;
pub mod env;
pub mod fault;
pub mod journal;
pub mod snp;
pub mod tdx;
