//! Instructions that need ring 0, each in a function of its own.
//!
//! The three SEV instructions are written as bytes and stand alone in functions that start with whole instructions:
//! a disassembler can confirm, from the symbol on, that these bytes are the instruction. A VMM without SEV hardware
//! replaces exactly those four bytes, after it has measured the image.
#![expect(unsafe_code, reason = "machine instructions")]

use core::arch::{asm, naked_asm};

use tsmsim_abi::snp::{msr::MSR_GHCB, rmp::RmpReturn};

/// What PVALIDATE or RMPADJUST leaves behind.
#[repr(C)]
pub(in crate::guest) struct Outcome {
    /// EAX: an [`RmpReturn`]; of another service, its result.
    pub(super) value: u64,
    /// The carry flag, where the instruction defines it.
    pub(in crate::guest) carry: u64,
}

impl Outcome {
    /// EAX.
    pub(in crate::guest) fn code(&self) -> RmpReturn {
        RmpReturn((self.value & 0xffff_ffff) as u32)
    }
}

/// VMGEXIT (APM volume 3): leaves to the hypervisor, with the GHCB MSR saying why.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "sysv64" fn vmgexit() {
    naked_asm!(".byte 0xf3, 0x0f, 0x01, 0xd9", "ret")
}

/// Writes the GHCB MSR, leaves to the hypervisor, and returns what the MSR holds then.
pub(super) fn exit_with(ghcb_msr: u64) -> u64 {
    // SAFETY: the GHCB MSR is a mailbox to the hypervisor.
    unsafe { write_msr(MSR_GHCB, ghcb_msr) };
    vmgexit();
    read_msr(MSR_GHCB)
}

/// PVALIDATE (APM volume 3): validates (`validate` 1) or rescinds the page at `address`; `size` is 0 for 4 KiB, 1 for
/// 2 MiB. Carry: the page was in the state asked for already.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(super) extern "sysv64" fn pvalidate(address: u64, size: u64, validate: u64) -> Outcome {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rsi",
        ".byte 0xf2, 0x0f, 0x01, 0xff",
        "setc dl",
        "movzx edx, dl",
        "mov eax, eax",
        "ret",
    )
}

/// RMPADJUST (APM volume 3): `attributes` holds the target VMPL (7:0), its permissions (15:8) and the VMSA bit (16).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(super) extern "sysv64" fn rmpadjust(address: u64, size: u64, attributes: u64) -> Outcome {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rsi",
        ".byte 0xf3, 0x0f, 0x01, 0xfe",
        "setc dl",
        "movzx edx, dl",
        "mov eax, eax",
        "ret",
    )
}

/// RDMSR.
pub(super) fn read_msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR has no effect on memory; only the two SEV ones are read here, and both exist.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR.
///
/// # Safety
/// The MSR must not change how this program's memory is reached.
pub(super) unsafe fn write_msr(index: u32, value: u64) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    let (low, high) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    // SAFETY: the caller vouches for the MSR.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) };
}

/// INVLPG.
pub(super) fn invalidate_page(address: u64) {
    // SAFETY: dropping a translation is always sound; the next access walks the tables.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}
