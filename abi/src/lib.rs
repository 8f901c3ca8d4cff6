//! Wire formats and code points, each declared once and shared by the guest side and the host side.
//!
//! Every structure is named as its specification names it, cites document, revision and table or section, and has
//! its size and the offset of every field asserted at compile time. Multi-byte fields are little-endian unless a
//! field says otherwise. Codes are *open* newtypes: an unknown value is kept, printed and passed on, never lost.
//!
//! | module | documents |
//! |---|---|
//! | [`snp`] | AMD 56860 SEV-SNP Firmware ABI (rev. 1.58), AMD 56421 GHCB specification (rev. 2.04), AMD 24593 APM volume 2 |
//! | [`tdx`] | Intel 348551 TDX Module ABI Reference 1.5, 348552 (344426) Guest-Host-Communication Interface, DCAP quoting library API, TCG PC Client Platform Firmware Profile |
//! | [`cove`] | riscv-non-isa/riscv-ap-tee (rev. 0.7): COVG, COVH and COVI SBI calls, attestation evidence |
//! | [`guid`] | EFI GUIDs |
//! | [`linux_boot`] | Linux 6.12, the x86 boot protocol |
//! | [`guest_test`] | ours: how a bare-metal test guest and its host talk |
//! | [`guest_channel`] | ours: what a Linux guest sends to its host |
//! | [`linux_guest`] | ours: what the host asks of the init program of a Linux guest |
#![no_std]

#[cfg(test)]
extern crate std;

#[macro_use]
mod macros;
pub mod cove;
pub mod guest_channel;
pub mod guest_test;
pub mod guid;
pub mod linux_boot;
pub mod linux_guest;
pub mod snp;
pub mod tdx;
