//! How a bare-metal test guest and its host talk: where the host puts things, and the lines that the guest prints.
//!
//! The loader puts the guest's ELF image at its own addresses (1 MiB and up), and below it the pages listed here. The
//! guest starts in 64-bit mode with flat segments, interrupts off, page tables that map the first 4 GiB one to one
//! *without* the C-bit (so the launch measurement does not depend on where a machine has it), and RDI holding the
//! guest-physical address of the parameter page. It finds the C-bit in the CPUID page and makes tables of its own. A guest
//! that is given no CPUID page asks CPUID whether it is a TD; then the shared bit follows from `TDG.VP.INFO`.
//!
//! It reports on the serial port, a line at a time: TAP version 14 lines, and `# ` comments. Evidence goes out as
//! `# blob NAME HEX` lines; the last line is the plan, `1..N`. A guest that cannot go on prints `Bail out! ` with the
//! reason instead, and ends the run with a code other than zero: 1 it lacks something, 2 an exception, 3 a panic.
//!
//! All of that is for x86-64; [`riscv64`] says where a RISC-V guest differs.

pub mod riscv64;

use zerocopy::little_endian::{U16, U32, U64};

/// Guest-physical address of the boot page tables: [`PAGE_TABLE_PAGES`] pages.
pub const PAGE_TABLES_GPA: u64 = 0x1000;
/// One PML4, one PDPT, four page directories.
pub const PAGE_TABLE_PAGES: u64 = 6;
/// Guest-physical address of the SNP secrets page.
pub const SECRETS_GPA: u64 = 0x8000;
/// Guest-physical address of the SNP CPUID page.
pub const CPUID_GPA: u64 = 0x9000;
/// Guest-physical address of the parameter page: launched as UNMEASURED (in a TD, added and not extended), so a nonce does
/// not change the measurement.
pub const PARAMETERS_GPA: u64 = 0xa000;
/// Lowest address of a guest image.
pub const IMAGE_GPA: u64 = 0x10_0000;
/// Bytes of RAM that a test guest gets.
pub const RAM_SIZE: u64 = 16 << 20;

/// Serial port (16550) of the guest.
pub const SERIAL_PORT: u16 = 0x3f8;
/// A byte written to this port ends the run: zero, the guest is done (whatever its checks came to); anything else, it
/// gave up.
pub const EXIT_PORT: u16 = 0xf4;

/// [`Parameters::magic`]: `TSMSIMGT`.
pub const PARAMETERS_MAGIC: [u8; 8] = *b"TSMSIMGT";

wire! {
    /// The parameter page's beginning; the rest of the page is zero.
    pub struct Parameters {
        /// [`PARAMETERS_MAGIC`].
        pub magic: [u8; 8],
        /// Guest-physical address of the secrets page, in a TVM of its attestation payload; zero if there is none.
        pub secrets_gpa: U64,
        /// Guest-physical address of the CPUID page, zero if there is none.
        pub cpuid_gpa: U64,
        /// Bytes of RAM.
        pub ram_size: U64,
        /// Data for the report that the host wants (`# blob report …`).
        pub report_data: [u8; 64],
        /// Which test program: 0 all checks, 1 only the report, 2 as many guest requests as `count` says (a benchmark),
        /// 3 a GHCB termination request (set 0, code 0), 4 an unsupported event. The last two print no plan: they do
        /// not come back. In a TD: 0 all checks, 1 only report and quote, 2 as many quotes as `count` says,
        /// 3 `ReportFatalError`, 4 a report to where there is no memory, 5 HLT with interrupts blocked. In a TVM: 0 all
        /// checks, 1 only evidence, 2 as many readings of a measurement register as `count` says.
        pub mode: U16,
        /// Reserved, zero.
        pub reserved_0x62: U16,
        /// For mode 2: how many requests.
        pub count: U32,
    }
}
assert_layout!(Parameters, 0x68, {
    magic: 0x0, secrets_gpa: 0x8, cpuid_gpa: 0x10, ram_size: 0x18, report_data: 0x20, mode: 0x60,
    reserved_0x62: 0x62, count: 0x64,
});
