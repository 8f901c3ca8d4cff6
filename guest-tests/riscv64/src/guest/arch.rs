//! Entry, `ecall`, memory by address.
#![expect(
    unsafe_code,
    reason = "the entry point has no caller that could prove anything; ecall needs assembly"
)]

use core::{
    arch::{asm, global_asm},
    cell::UnsafeCell,
    panic::PanicInfo,
};

use super::console::{give_up, print};

const STACK_SIZE: usize = 64 << 10;

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: only the one hart uses it, through sp.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

// a0 holds the hart's number, a1 the address of parameter page or device tree. Memory is zero where the image has nothing, so .bss needs
// no clearing.
global_asm!(
    ".section .text.entry, \"ax\"",
    ".global _start",
    ".type _start, @function",
    "_start:",
    "la sp, {stack}",
    "li t0, {size}",
    "add sp, sp, t0",
    "li ra, 0",
    "mv a0, a1",
    "call {boot}",
    "unimp",
    ".size _start, . - _start",
    ".section .text, \"ax\"",
    stack = sym STACK,
    size = const STACK_SIZE,
    boot = sym boot,
);

extern "C" fn boot(argument: u64) -> ! {
    super::main(argument)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    print(format_args!("Bail out! {info}\n"));
    give_up()
}

/// `ecall` with these values in `a0` to `a7`; gives them as they are afterwards.
pub(super) fn ecall(registers: [u64; 8]) -> [u64; 8] {
    let [mut a0, mut a1, mut a2, mut a3, mut a4, mut a5, mut a6, mut a7] = registers;
    // SAFETY: the call changes a0 and a1, and memory that was named in it, all of which lies behind addresses that this
    // program reaches by `read` and `write` alone.
    unsafe {
        asm!(
            "ecall",
            inlateout("a0") a0,
            inlateout("a1") a1,
            inlateout("a2") a2,
            inlateout("a3") a3,
            inlateout("a4") a4,
            inlateout("a5") a5,
            inlateout("a6") a6,
            inlateout("a7") a7,
            options(nostack),
        );
    }
    [a0, a1, a2, a3, a4, a5, a6, a7]
}

fn address(gpa: u64, length: usize) -> usize {
    match usize::try_from(gpa) {
        Ok(address) if super::place::is_buffer(gpa, length) => address,
        _ => panic!("{gpa:#x} is no buffer of this program"),
    }
}

/// Copies out of a buffer, see [`place`](super::place).
pub(super) fn read(gpa: u64, bytes: &mut [u8]) {
    let address = address(gpa, bytes.len());
    for (offset, byte) in bytes.iter_mut().enumerate() {
        // SAFETY: buffers lie in RAM behind the image, where no object of this program is.
        *byte = unsafe { core::ptr::with_exposed_provenance::<u8>(address + offset).read_volatile() };
    }
}

/// Copies into a buffer.
pub(super) fn write(gpa: u64, bytes: &[u8]) {
    let address = address(gpa, bytes.len());
    for (offset, byte) in bytes.iter().enumerate() {
        // SAFETY: as above.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address + offset).write_volatile(*byte) };
    }
}
