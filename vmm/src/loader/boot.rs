//! The page tables with which a bare-metal guest begins.
//!
//! They map the first 4 GiB one to one, without the C-bit: so they are the same, and measure the same, on every host,
//! and a guest makes tables of its own once it has read where the C-bit is. Segments are set in the processor itself,
//! so there is no descriptor table, and the guest brings its own stack.

use thiserror::Error;
use tsmsim_simulator::env::OutOfRange;

use crate::memory::{GuestRam, PAGE_SIZE};

/// One PML4, one page directory pointer table, four page directories.
pub const TABLE_PAGES: u64 = 6;

/// Bits of page table entries: AMD64 Architecture Programmer's Manual volume 2 (24593), section 5.4.1.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
const LARGE_PAGE_SIZE: u64 = 2 << 20;
const ENTRIES: u64 = 512;

/// Where the tables came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootTables {
    /// The value for CR3: the first of [`TABLE_PAGES`] pages in a row.
    pub cr3: u64,
}

impl BootTables {
    /// Guest-physical addresses of the pages, ascending: what has to be measured.
    pub fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.cr3;
        (0..TABLE_PAGES).map(move |page| first + page * PAGE_SIZE)
    }
}

/// Why there are no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BootError {
    /// The address is not that of a page.
    #[error("boot page tables at {0:#x}: not the address of a page")]
    Unaligned(u64),
    /// The tables would not lie within RAM.
    #[error("boot page tables: {0}")]
    OutOfRange(#[from] OutOfRange),
}

/// Writes the tables, in pages of 2 MiB, supervisor only, to [`TABLE_PAGES`] pages from `gpa` on.
pub fn write_identity_tables(ram: &GuestRam, gpa: u64) -> Result<BootTables, BootError> {
    if !gpa.is_multiple_of(PAGE_SIZE) {
        return Err(BootError::Unaligned(gpa));
    }
    if !ram.contains(gpa, TABLE_PAGES * PAGE_SIZE) {
        return Err(OutOfRange { gpa, len: 6 << 12 }.into());
    }
    let page = |number: u64| gpa + number * PAGE_SIZE;
    write_table(ram, page(0), [page(1) | PRESENT_WRITABLE])?;
    write_table(ram, page(1), (2..TABLE_PAGES).map(|directory| page(directory) | PRESENT_WRITABLE))?;
    for directory in 0..TABLE_PAGES - 2 {
        let first = directory * ENTRIES;
        let entries = (first..first + ENTRIES).map(|n| (n * LARGE_PAGE_SIZE) | PRESENT_WRITABLE | LARGE_PAGE);
        write_table(ram, page(2 + directory), entries)?;
    }
    Ok(BootTables { cr3: gpa })
}

/// Writes one table; what `entries` does not give is not present.
fn write_table(ram: &GuestRam, gpa: u64, entries: impl IntoIterator<Item = u64>) -> Result<(), OutOfRange> {
    let mut table = [0; 4096];
    for (place, entry) in table.chunks_exact_mut(8).zip(entries) {
        place.copy_from_slice(&entry.to_le_bytes());
    }
    ram.write(gpa, &table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{InitialState, SystemRegisters};
    use crate::paging::{PageSize, Walk};
    use rstest::rstest;

    #[rstest]
    #[case::unaligned(0x1001)]
    #[case::beyond_ram(0x6000)]
    #[case::wrapping(u64::MAX - 4095)]
    fn bad_places(#[case] gpa: u64) {
        let ram = GuestRam::new(0x8000).unwrap();
        assert!(write_identity_tables(&ram, gpa).is_err());
        let mut all = vec![0; 0x8000];
        ram.read(0, &mut all).unwrap();
        assert!(all.iter().all(|&byte| byte == 0));
    }

    #[rstest]
    #[case::start(0, Some(0))]
    #[case::somewhere(0x1234_5678, Some(0x1234_5678))]
    #[case::last_byte(0xffff_ffff, Some(0xffff_ffff))]
    #[case::beyond(0x1_0000_0000, None)]
    fn the_first_4_gib_are_where_they_are(#[case] address: u64, #[case] gpa: Option<u64>) {
        let ram = GuestRam::new(0x8000).unwrap();
        let tables = write_identity_tables(&ram, 0x1000).unwrap();
        assert_eq!(tables.pages().collect::<Vec<_>>(), [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000]);
        let state = InitialState::long_mode(0, tables.cr3);
        let registers =
            SystemRegisters { cr0: state.cr0, cr3: state.cr3, cr4: state.cr4, efer: state.efer, cpl: 0 };
        let found = Walk::new(&ram, &registers, Some(47)).translate(address).ok();
        assert_eq!(found.map(|page| page.gpa), gpa);
        if let Some(page) = found {
            assert_eq!(page.size, PageSize::Size2MiB);
            assert!(page.writable && !page.user && !page.encrypted && !page.no_execute);
        }
    }
}
