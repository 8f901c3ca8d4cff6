//! The debug console: it reads shared memory only.

use tsmsim_abi::{
    cove::sbi::{DbcnFid, ExtensionId, SbiError},
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    call::Call,
    console::print_byte,
    place::{BEYOND, CONSOLE, PAGE, SHARED},
    tap::Tap,
};

pub(super) fn run(tap: &mut Tap) {
    b"# byte by byte\n".iter().copied().for_each(print_byte);
    let write = Call::new(ExtensionId::DBCN, DbcnFid::CONSOLE_WRITE.0);
    let read = Call::new(ExtensionId::DBCN, DbcnFid::CONSOLE_READ.0);
    tap.check("console_write: nothing", write.arguments(&[0, CONSOLE]).gives(0));
    tap.check("console_read: nothing was typed", read.arguments(&[PAGE, CONSOLE]).gives(0));
    for (name, call) in [
        ("console_write: confidential memory", write.arguments(&[1, SHARED])),
        ("console_write: shared in part", write.arguments(&[2, CONSOLE + PAGE - 1])),
        ("console_write: below the TVM's memory", write.arguments(&[1, RAM_GPA])),
        ("console_write: behind RAM", write.arguments(&[1, RAM_END])),
        ("console_write: beyond the address space", write.arguments(&[1, BEYOND])),
        ("console_write: range that wraps around", write.arguments(&[u64::MAX, CONSOLE])),
        ("console_write: high part of the address", write.arguments(&[1, CONSOLE, 1])),
        ("console_read: confidential memory", read.arguments(&[1, SHARED])),
        ("console_read: beyond the address space", read.arguments(&[1, BEYOND])),
    ] {
        tap.check(name, call.refused(SbiError::INVALID_PARAM));
    }
    tap.check("DBCN: no such function", Call::new(ExtensionId::DBCN, 3).refused(SbiError::NOT_SUPPORTED));
}
