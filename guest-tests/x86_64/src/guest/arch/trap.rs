//! Ring 0 after boot: exceptions, which end the run, and the services that ring 3 calls by UD2.
//!
//! Why not `int` or SYSCALL: where KVM has no virtualization hardware below it and emulates ring 0, neither enters ring
//! 0 as it should; exceptions do, everywhere.
#![expect(unsafe_code, reason = "entry points that the processor calls")]

use core::arch::{global_asm, naked_asm};

use tsmsim_abi::snp::msr::MSR_SEV_STATUS;

use super::{
    instructions::{Outcome, exit_with, invalidate_page, pvalidate, read_msr, rmpadjust},
    tables,
};
use crate::guest::{
    EXIT_EXCEPTION,
    serial::{exit, print},
};

/// Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.
const WITH_ERROR_CODE: u32 = 0x6022_7d00;
/// Bytes between one exception's stub and the next one's.
pub(super) const STUB_SIZE: usize = 8;
/// The services, by number in RDI; operands in RSI, RDX, RCX; results in RAX and RDX.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Service {
    /// WRMSR(GHCB), VMGEXIT, RDMSR(GHCB).
    VmgExit,
    /// RDMSR(`SEV_STATUS`).
    SevStatus,
    /// PVALIDATE.
    Pvalidate,
    /// RMPADJUST.
    RmpAdjust,
    /// Change of a page's C-bit in the page tables.
    MapPrivate,
}

// One stub for each exception: a call pushes an address that tells which one it was.
global_asm!(
    ".balign 8",
    ".global trap_stubs",
    "trap_stubs:",
    ".rept 32",
    "call {exception_entry}",
    ".balign 8",
    ".endr",
    exception_entry = sym exception_entry,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Address of the first exception's stub.
pub(super) fn stubs() -> u64 {
    (&raw const trap_stubs) as u64
}

/// Address of the handler of #UD.
pub(super) fn undefined_opcode() -> u64 {
    undefined_opcode_entry as *const () as u64
}

/// Calls a service, in ring 3: the UD2 at this function's beginning is one that the handler of #UD knows.
///
/// # Safety
/// The operands must be such that the service does no harm.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn call(number: Service, a: u64, b: u64, c: u64) -> Outcome {
    naked_asm!("ud2", "ret")
}

#[unsafe(naked)]
extern "sysv64" fn exception_entry() -> ! {
    naked_asm!("cld", "mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym exception)
}

/// At the UD2 of [`call`], runs the service and goes on after those two bytes; registers are as for any call. The
/// processor's frame is five words, so eight more bytes align the stack.
#[unsafe(naked)]
extern "sysv64" fn undefined_opcode_entry() {
    naked_asm!(
        "cmp qword ptr [rsp], offset {call}",
        "jne trap_stubs + 6 * 8",
        "cld",
        "sub rsp, 8",
        "call {service}",
        "add rsp, 8",
        "add qword ptr [rsp], 2",
        "iretq",
        call = sym call,
        service = sym service,
    )
}

/// Says which exception it was and where, and ends the run.
extern "sysv64" fn exception(stack: *const u64) -> ! {
    // SAFETY: `stack` is what the stub pushed: its return address, then the processor's frame.
    let word = |index: usize| unsafe { stack.add(index).read() };
    let vector = (word(0) - stubs()) / STUB_SIZE as u64;
    let has_code = WITH_ERROR_CODE >> vector & 1 == 1;
    let (error, frame) = if has_code { (word(1), 2) } else { (0, 1) };
    print(format_args!(
        "# exception {vector} error {error:#x} rip {:#x} cs {:#x} flags {:#x} rsp {:#x} cr2 {:#x}\nBail out! exception in the guest\n",
        word(frame),
        word(frame + 1),
        word(frame + 2),
        word(frame + 3),
        tables::fault_address(),
    ));
    exit(EXIT_EXCEPTION)
}

extern "sysv64" fn service(number: u64, a: u64, b: u64, c: u64) -> Outcome {
    let value = |value| Outcome { value, carry: 0 };
    match number {
        n if n == Service::VmgExit as u64 => value(exit_with(a)),
        n if n == Service::SevStatus as u64 => value(read_msr(MSR_SEV_STATUS)),
        n if n == Service::Pvalidate as u64 => pvalidate(a, b, c),
        n if n == Service::RmpAdjust as u64 => rmpadjust(a, b, c),
        n if n == Service::MapPrivate as u64 => {
            let done = tables::map_private(a, b != 0);
            invalidate_page(a);
            value(u64::from(!done))
        }
        _ => value(u64::MAX),
    }
}
