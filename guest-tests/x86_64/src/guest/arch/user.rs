//! What ring 3 asks of ring 0, and the port instruction that it may use itself (by the I/O permission bitmap).
#![expect(unsafe_code, reason = "machine instructions")]

use core::arch::asm;

use super::{
    instructions::Outcome,
    trap::{self, Service},
};

fn call(service: Service, a: u64, b: u64, c: u64) -> Outcome {
    // SAFETY: the services change page attributes, and the state of pages that hold no Rust object.
    unsafe { trap::call(service, a, b, c) }
}

/// Writes the GHCB MSR, executes VMGEXIT, and returns what the MSR holds then.
pub(in crate::guest) fn vmgexit(ghcb_msr: u64) -> u64 {
    call(Service::VmgExit, ghcb_msr, 0, 0).value
}

/// RDMSR of `SEV_STATUS`.
pub(in crate::guest) fn sev_status() -> u64 {
    call(Service::SevStatus, 0, 0, 0).value
}

/// PVALIDATE; `size` is what goes to ECX.
pub(in crate::guest) fn pvalidate(address: u64, size: u64, validate: bool) -> Outcome {
    call(Service::Pvalidate, address, size, u64::from(validate))
}

/// RMPADJUST of a 4 KiB page.
pub(in crate::guest) fn rmpadjust(address: u64, attributes: u64) -> Outcome {
    call(Service::RmpAdjust, address, 0, attributes)
}

/// Maps a page with (private) or without (shared) the C-bit. False if it is none of the pages that may change.
pub(in crate::guest) fn map_private(address: u64, private: bool) -> bool {
    call(Service::MapPrivate, address, u64::from(private), 0).value == 0
}

/// OUT of a byte.
pub(in crate::guest) fn port_out(port: u16, value: u8) {
    // SAFETY: the ports of this machine are a serial port and the exit port; neither touches memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}
