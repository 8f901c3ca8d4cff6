//! Ring 0 until ring 3 takes over.
//!
//! The loader's page tables have no C-bit. On hardware every data access through them would be one to shared memory; this
//! program relies on a machine where private and shared mappings reach the same bytes, until it has tables of its own.
#![expect(unsafe_code, reason = "the entry point has no caller that could prove anything")]

use core::arch::global_asm;

use tsmsim_abi::snp::msr::{GhcbInfo, GhcbMsr};

use super::{instructions::exit_with, memory::Launched, tables, td, trap};
use crate::guest::{
    EXIT_GAVE_UP, EXIT_PANIC,
    serial::{exit, print},
};

// RDI holds the address of the parameter page. The image is linked below 2 GiB, so addresses fit immediates.
global_asm!(
    ".section .text.entry, \"ax\"",
    ".global _start",
    ".type _start, @function",
    "_start:",
    "cld",
    "lea rsp, [rip + KERNEL_STACK + {size}]",
    "xor ebp, ebp",
    "call {boot}",
    "ud2",
    ".size _start, . - _start",
    ".section .text, \"ax\"",
    size = const tables::KERNEL_STACK_SIZE,
    boot = sym boot,
);

/// Finds the C-bit, loads this program's own tables, goes to ring 3. A machine without CPUID page may be a TD's.
extern "sysv64" fn boot(parameters: u64) -> ! {
    let launched = Launched::at(parameters);
    if launched.cpuid_page().is_none() && td::is_td() {
        td::boot(launched, ring_0)
    }
    let c_bit = launched.c_bit().unwrap_or(0);
    check_c_bit(c_bit);
    tables::load_page_tables(1 << c_bit, 0, launched.ram_size());
    tables::load_descriptor_tables();
    tables::set_handler(6, trap::undefined_opcode());
    tables::enter_ring_3(ring_3, parameters)
}

/// A C-bit where this machine has none would end in a triple fault: say it instead.
fn check_c_bit(c_bit: u32) {
    let answer = GhcbMsr(exit_with(GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST).0));
    let hypervisor = answer.0 >> 24 & 0xff;
    if answer.info() != GhcbInfo::SEV_INFO_RESPONSE || hypervisor != u64::from(c_bit) {
        print(format_args!(
            "Bail out! C-bit: CPUID page {c_bit}, SEV information {hypervisor} ({answer:?})\n"
        ));
        exit(EXIT_GAVE_UP)
    }
}

extern "sysv64" fn ring_3(parameters: u64) -> ! {
    crate::guest::main(Launched::at(parameters))
}

extern "sysv64" fn ring_0(parameters: u64) -> ! {
    crate::guest::tdx::main(Launched::at(parameters))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    print(format_args!("# {info}\nBail out! the guest panicked\n"));
    exit(EXIT_PANIC)
}
