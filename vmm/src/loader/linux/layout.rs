//! Where everything but the kernel and the RAM disk lies, guest-physical.
//!
//! What the kernel reads only once, early, lies in memory that it may use afterwards: page tables, descriptor table,
//! boot parameters, command line, stack. What it must not overwrite lies in memory that the map reserves: the list of
//! `setup_data`, SNP's pages, the task. From A0000h to 1 MiB there is no memory, as in any PC. The kernel lies at the
//! addresses for which it was linked, 16 MiB and up; the RAM disk lies at the end of memory, but below 2 GiB.

use std::ops::Range;

/// [`crate::loader::boot::TABLE_PAGES`] page tables.
pub const PAGE_TABLES: u64 = 0x1000;
/// The descriptor table.
pub const GDT: u64 = 0x7000;
/// The zero page.
pub const BOOT_PARAMS: u64 = 0x8000;
/// The command line: one page.
pub const COMMAND_LINE: u64 = 0x9000;
/// The first address behind the stack, which is one page.
pub const STACK_END: u64 = 0xb000;

/// What the map reserves, below A0000h.
pub const RESERVED: Range<u64> = 0x80000..0x98000;
/// The `setup_data` node that names the confidential computing blob.
pub const CC_SETUP_DATA: u64 = 0x80000;
/// The confidential computing blob.
pub const CC_BLOB: u64 = 0x81000;
/// SNP's secrets page.
pub const SECRETS: u64 = 0x82000;
/// SNP's CPUID page.
pub const CPUID: u64 = 0x83000;
/// The log of events that TDX's CCEL table names: one page.
pub const EVENT_LOG: u64 = 0x83000;
/// The `setup_data` node with the task for the init program, to the end of [`RESERVED`]; not measured.
pub const TASK: u64 = 0x84000;
/// ACPI's tables.
pub const ACPI: Range<u64> = 0x98000..0xa0000;

/// What is no memory in a PC.
pub const HOLE: Range<u64> = 0xa0000..0x10_0000;
/// The RAM disk ends here at the latest: `initrd_addr_max` of every kernel of the last decade.
pub const INITRD_END_MAX: u64 = 0x8000_0000;

/// Most bytes of a command line, without the zero that ends it (Linux `COMMAND_LINE_SIZE`, less one).
pub const COMMAND_LINE_MAX: usize = 2047;
/// Most bytes of a task.
pub const TASK_MAX: usize = 0x1_3ff0;
const _: () = assert!(RESERVED.end - TASK == 0x1_3ff0 + 16);
