//! Page tables, descriptor tables and the way into ring 3; a TD stays in ring 0.
//!
//! Virtual addresses are guest-physical addresses. The first 2 MiB (the launched pages and the image) and the 2 MiB of
//! the test area are mapped by 4 KiB pages, the rest of RAM by 2 MiB pages; all of it private until ring 3 asks
//! otherwise, and all of it open to ring 3.
#![expect(unsafe_code, reason = "processor tables are static memory that the processor reads")]

use core::{arch::asm, cell::UnsafeCell};

use tsmsim_abi::snp::PAGE_SIZE;

use super::{
    memory::{LARGE_PAGE, LARGE_TEST_GPA, TEST_AREA_GPA},
    trap,
};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const LEAF: u64 = PRESENT | WRITABLE | USER;

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const USER_DATA: u16 = 0x18 | 3;
const USER_CODE: u16 = 0x20 | 3;
const TASK_STATE: u16 = 0x28;

/// Interrupts off, I/O privilege level 0: ring 3 has its ports by the permission bitmap, which also holds on a KVM
/// whose emulated IRETQ drops the level. Bit 1 is always one.
const USER_FLAGS: u64 = 1 << 1;
/// Words of a 64-bit task state segment without its I/O permission bitmap.
const TSS_WORDS: usize = 26;
/// Words of the bitmap for the ports below 400h; clear bits permit.
const BITMAP_WORDS: usize = 0x400 / 32;
/// Exceptions, and a few external interrupts.
const VECTORS: usize = 64;
/// [`VECTORS`] gates of 16 bytes, less one.
const IDT_LIMIT: u16 = 0x3ff;
const STACK_SIZE: usize = 64 << 10;
/// Unoptimized builds copy messages and GHCBs freely.
const USER_STACK_SIZE: usize = 256 << 10;

#[repr(C, align(4096))]
struct Static<T>(UnsafeCell<T>);

// SAFETY: one processor, interrupts off; each is written by ring 0 only, at boot or in the one service that changes a
// page table entry.
unsafe impl<T> Sync for Static<T> {}

impl<T> Static<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Replaces the value; volatile, because the processor reads it behind the compiler's back.
    fn set(&self, value: T) {
        // SAFETY: see `Sync` above.
        unsafe { self.0.get().write_volatile(value) }
    }
}

impl<T, const N: usize> Static<[T; N]> {
    fn set_entry(&self, index: usize, value: T) {
        assert!(index < N);
        // SAFETY: the index was checked; for the rest see `Sync` above.
        unsafe { self.0.get().cast::<T>().add(index).write_volatile(value) }
    }

    fn entry(&self, index: usize) -> T {
        assert!(index < N);
        // SAFETY: as above.
        unsafe { self.0.get().cast::<T>().add(index).read_volatile() }
    }
}

type Table = Static<[u64; 512]>;

static PML4: Table = Static::new([0; 512]);
static PDPT: Table = Static::new([0; 512]);
static DIRECTORY: Table = Static::new([0; 512]);
static LOW: Table = Static::new([0; 512]);
static TEST: Table = Static::new([0; 512]);
static PRIVATE: Static<u64> = Static::new(0);
static SHARED: Static<u64> = Static::new(0);

static GDT: Static<[u64; 7]> = Static::new([
    0,
    0x00af_9b00_0000_ffff, // kernel code, 64 bits
    0x00cf_9300_0000_ffff, // kernel data
    0x00cf_f300_0000_ffff, // user data
    0x00af_fb00_0000_ffff, // user code, 64 bits
    0,                     // task state segment, two words, filled in at boot
    0,
]);
static TSS: Static<[u32; TSS_WORDS + BITMAP_WORDS + 1]> = Static::new([0; TSS_WORDS + BITMAP_WORDS + 1]);
static IDT: Static<[[u64; 2]; VECTORS]> = Static::new([[0; 2]; VECTORS]);

/// The ring-0 stack, which `_start` uses before all else.
#[unsafe(no_mangle)]
static KERNEL_STACK: Static<[u8; STACK_SIZE]> = Static::new([0; STACK_SIZE]);
static USER_STACK: Static<[u8; USER_STACK_SIZE]> = Static::new([0; USER_STACK_SIZE]);

/// Bytes of `KERNEL_STACK`.
pub(super) const KERNEL_STACK_SIZE: usize = STACK_SIZE;

/// Builds the page tables and switches to them. `private` and `shared` are what addresses have in addition when they are
/// that: the C-bit and nothing, or nothing and the shared bit.
pub(super) fn load_page_tables(private: u64, shared: u64, ram_size: u64) {
    PRIVATE.set(private);
    SHARED.set(shared);
    let c_bit = private;
    let table = |address: u64| address | c_bit | LEAF;
    PML4.set_entry(0, table(PDPT.address()));
    PDPT.set_entry(0, table(DIRECTORY.address()));
    for (index, base) in (0..512).zip((0..ram_size).step_by(LARGE_PAGE)) {
        DIRECTORY.set_entry(index, base | c_bit | LEAF | LARGE);
    }
    split(&LOW, 0, c_bit);
    split(&TEST, TEST_AREA_GPA, c_bit);
    for stack in [KERNEL_STACK.address(), USER_STACK.address()] {
        // The lowest page of each stack is a guard.
        LOW.set_entry(slot(stack, PAGE_SIZE), 0);
    }
    // SAFETY: the tables map this code, its data and its stack where they are.
    unsafe { asm!("mov cr3, {}", in(reg) PML4.address() | c_bit, options(nostack)) };
}

/// Maps the 2 MiB from `base` on by 4 KiB pages.
fn split(pages: &Table, base: u64, c_bit: u64) {
    for (index, address) in (0..512).zip((base..).step_by(PAGE_SIZE)) {
        pages.set_entry(index, address | c_bit | LEAF);
    }
    DIRECTORY.set_entry(slot(base, LARGE_PAGE), pages.address() | c_bit | LEAF);
}

/// Which entry of a table of pages of this size an address has.
const fn slot(address: u64, size: usize) -> usize {
    (address / size as u64 % 512) as usize
}

/// Maps the page at `address` as private or as shared. False if that page may not change.
pub(super) fn map_private(address: u64, private: bool) -> bool {
    let (table, index) = match address & !(LARGE_PAGE as u64 - 1) {
        0 => (&LOW, slot(address, PAGE_SIZE)),
        TEST_AREA_GPA => (&TEST, slot(address, PAGE_SIZE)),
        LARGE_TEST_GPA => (&DIRECTORY, slot(address, LARGE_PAGE)),
        _ => return false,
    };
    let (as_private, as_shared) = (PRIVATE.value(), SHARED.value());
    let entry = table.entry(index) & !(as_private | as_shared);
    table.set_entry(index, entry | if private { as_private } else { as_shared });
    true
}

impl Static<u64> {
    fn value(&self) -> u64 {
        // SAFETY: see `Sync` above.
        unsafe { self.0.get().read_volatile() }
    }
}

/// CR2: the address of the last page fault.
pub(super) fn fault_address() -> u64 {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// An interrupt gate (APM volume 2, section 4.8.4).
fn gate(handler: u64) -> [u64; 2] {
    let low = handler & 0xffff | u64::from(KERNEL_CODE) << 16 | 0x8e00 << 32 | handler >> 16 << 48;
    [low, handler >> 32]
}

/// A descriptor of an available 64-bit task state segment (APM volume 2, section 4.8.3).
fn task_state_descriptor(base: u64, limit: u64) -> [u64; 2] {
    [limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56, base >> 32]
}

/// Fills and loads the GDT, the TSS (its ring-0 stack) and the IDT.
pub(super) fn load_descriptor_tables() {
    let stack = (KERNEL_STACK.address() + STACK_SIZE as u64).to_le_bytes();
    TSS.set_entry(1, u32::from_le_bytes([stack[0], stack[1], stack[2], stack[3]]));
    TSS.set_entry(2, u32::from_le_bytes([stack[4], stack[5], stack[6], stack[7]]));
    TSS.set_entry(TSS_WORDS - 1, 104 << 16); // where the bitmap begins
    TSS.set_entry(TSS_WORDS + BITMAP_WORDS, u32::MAX); // what must follow it
    let [low, high] = task_state_descriptor(TSS.address(), (TSS_WORDS + BITMAP_WORDS) as u64 * 4);
    GDT.set_entry(5, low);
    GDT.set_entry(6, high);
    for (vector, handler) in (0..32).zip((trap::stubs()..).step_by(trap::STUB_SIZE)) {
        IDT.set_entry(vector, gate(handler));
    }
    let gdt = Pointer { limit: 7 * 8 - 1, base: GDT.address() };
    let idt = Pointer { limit: IDT_LIMIT, base: IDT.address() };
    // SAFETY: the tables are static and complete; the current code segment stays cached until the first gate.
    unsafe {
        asm!("lgdt [{}]", "lidt [{}]", "ltr {:x}", in(reg) &gdt, in(reg) &idt, in(reg) TASK_STATE, options(nostack));
    }
}

/// Has a handler called for an exception or interrupt.
pub(super) fn set_handler(vector: usize, handler: u64) {
    IDT.set_entry(vector, gate(handler));
}

/// Goes on at `entry(argument)` in ring 0, on a fresh stack and with the segments of the table that was loaded, to which
/// handlers return.
pub(super) fn enter_ring_0(entry: extern "sysv64" fn(u64) -> !, argument: u64) -> ! {
    // As in `enter_ring_3`.
    let stack = KERNEL_STACK.address() + STACK_SIZE as u64 - 8;
    // SAFETY: the segments, the stack and the code are in the tables that were loaded before.
    unsafe {
        asm!(
            "push {ss}", "push {stack}", "push {flags}", "push {cs}", "push {entry}", "xor ebp, ebp", "iretq",
            ss = in(reg) u64::from(KERNEL_DATA), stack = in(reg) stack, flags = in(reg) USER_FLAGS,
            cs = in(reg) u64::from(KERNEL_CODE), entry = in(reg) entry as *const () as u64, in("rdi") argument,
            options(noreturn),
        )
    }
}

/// Leaves ring 0 for `entry(argument)` on the ring-3 stack.
pub(super) fn enter_ring_3(entry: extern "sysv64" fn(u64) -> !, argument: u64) -> ! {
    // As after a call, so that the stack is aligned as the calling convention has it.
    let stack = USER_STACK.address() + USER_STACK_SIZE as u64 - 8;
    // SAFETY: the segments, the stack and the code are in the tables that were loaded before.
    unsafe {
        asm!(
            "push {ss}", "push {stack}", "push {flags}", "push {cs}", "push {entry}", "xor ebp, ebp", "iretq",
            ss = in(reg) u64::from(USER_DATA), stack = in(reg) stack, flags = in(reg) USER_FLAGS,
            cs = in(reg) u64::from(USER_CODE), entry = in(reg) entry as *const () as u64, in("rdi") argument,
            options(noreturn),
        )
    }
}
