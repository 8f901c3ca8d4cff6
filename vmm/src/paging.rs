//! The guest's view of its addresses: a walk through its page tables, as the processor would make it.
//!
//! AMD64 Architecture Programmer's Manual volume 2 (24593), sections 5.3 and 5.4, and 7.10 for the C-bit. Four levels
//! only. Tables are the guest's, so they are hostile: each entry is copied out once, at most four are read, and whatever
//! they hold gives a translation or an error. Accessed and dirty bits are not set.

use thiserror::Error;
use tsmsim_simulator::env::GuestMemory;

use crate::engine::{SystemRegisters, cr0, cr4, efer};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How much a translation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// A page table's entry.
    Size4KiB,
    /// A page directory's entry.
    Size2MiB,
    /// A page directory pointer table's entry.
    Size1GiB,
}

impl PageSize {
    /// Its bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4KiB => 1 << 12,
            Self::Size2MiB => 1 << 21,
            Self::Size1GiB => 1 << 30,
        }
    }
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the byte, without the C-bit.
    pub gpa: u64,
    /// Whether the page's own entry has the C-bit: private to the guest.
    pub encrypted: bool,
    /// The page's size.
    pub size: PageSize,
    /// Whether all levels allow writing.
    pub writable: bool,
    /// Whether all levels allow ring 3.
    pub user: bool,
    /// Whether any level forbids execution.
    pub no_execute: bool,
}

/// A table's level: 4 is the PML4, 1 the page table.
pub type Level = u8;

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalkError {
    /// The processor is not in long mode with four-level paging.
    #[error("paging is not in four-level long mode")]
    Mode,
    /// Bits 63:47 are not all the same.
    #[error("address {0:#x} is not canonical")]
    NotCanonical(u64),
    /// An entry is not present.
    #[error("no entry at level {0}")]
    NotPresent(Level),
    /// An entry has bits set that must be zero.
    #[error("reserved bits in the entry at level {0}")]
    Reserved(Level),
    /// A table does not lie in RAM.
    #[error("the table of level {level} at {gpa:#x} is not in guest RAM")]
    Table {
        /// The table's level.
        level: Level,
        /// Where it should be.
        gpa: u64,
    },
}

/// A walk through one set of tables.
pub struct Walk<'memory> {
    memory: &'memory dyn GuestMemory,
    registers: SystemRegisters,
    c_bit_mask: u64,
}

impl<'memory> Walk<'memory> {
    /// Through the tables that `registers` name; `c_bit` is the number of the C-bit, where the guest has one.
    pub fn new(memory: &'memory dyn GuestMemory, registers: &SystemRegisters, c_bit: Option<u8>) -> Self {
        let c_bit_mask = c_bit.and_then(|bit| 1u64.checked_shl(bit.into())).unwrap_or(0) & ADDRESS;
        Self { memory, registers: *registers, c_bit_mask }
    }

    /// Where `address` leads. The page itself need not lie in RAM.
    pub fn translate(&self, address: u64) -> Result<Translation, WalkError> {
        self.check_mode()?;
        let upper = address >> 47;
        if upper != 0 && upper != (1 << 17) - 1 {
            return Err(WalkError::NotCanonical(address));
        }
        let mut table = self.registers.cr3;
        let (mut writable, mut user, mut no_execute) = (true, true, false);
        for level in [4, 3, 2, 1] {
            let entry = self.entry(level, table, address)?;
            writable &= entry & WRITABLE != 0;
            user &= entry & USER != 0;
            no_execute |= entry & NO_EXECUTE != 0;
            if let Some(size) = page_size(level, entry)? {
                let offset = address & (size.bytes() - 1);
                let gpa = (self.strip(entry) & !(size.bytes() - 1)) | offset;
                let encrypted = entry & self.c_bit_mask != 0;
                return Ok(Translation { gpa, encrypted, size, writable, user, no_execute });
            }
            table = entry;
        }
        // The entry of level 1 is always a page.
        Err(WalkError::Reserved(1))
    }

    fn check_mode(&self) -> Result<(), WalkError> {
        let registers = &self.registers;
        let paging = cr0::PE | cr0::PG;
        let long_mode = registers.cr0 & paging == paging
            && registers.cr4 & cr4::PAE != 0
            && registers.efer & efer::LMA != 0;
        if long_mode && registers.cr4 & cr4::LA57 == 0 { Ok(()) } else { Err(WalkError::Mode) }
    }

    /// The entry for `address` in the table that CR3 or the entry `table` names.
    fn entry(&self, level: Level, table: u64, address: u64) -> Result<u64, WalkError> {
        let index = (address >> (12 + 9 * (u32::from(level) - 1))) & 0x1ff;
        let gpa = self.strip(table);
        let mut bytes = [0; 8];
        self.memory.read(gpa + index * 8, &mut bytes).map_err(|_| WalkError::Table { level, gpa })?;
        let entry = u64::from_le_bytes(bytes);
        if entry & PRESENT == 0 {
            return Err(WalkError::NotPresent(level));
        }
        if entry & NO_EXECUTE != 0 && self.registers.efer & efer::NXE == 0 {
            return Err(WalkError::Reserved(level));
        }
        Ok(entry)
    }

    /// The address in CR3 or an entry, without the C-bit.
    fn strip(&self, entry: u64) -> u64 {
        entry & ADDRESS & !self.c_bit_mask
    }
}

/// The size of the page that an entry maps, or `None` if it names another table.
fn page_size(level: Level, entry: u64) -> Result<Option<PageSize>, WalkError> {
    let size = match (level, entry & LARGE != 0) {
        (1, _) => return Ok(Some(PageSize::Size4KiB)),
        (2, true) => PageSize::Size2MiB,
        (3, true) => PageSize::Size1GiB,
        (_, false) => return Ok(None),
        (_, true) => return Err(WalkError::Reserved(level)),
    };
    // Bit 12 is PAT; from there up to the page's own address all is reserved.
    let reserved = (size.bytes() - 1) & !0x1fff;
    if entry & reserved != 0 { Err(WalkError::Reserved(level)) } else { Ok(Some(size)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::InitialState;
    use crate::memory::GuestRam;
    use proptest::prelude::*;
    use rstest::rstest;

    const C_BIT: u64 = 1 << 47;
    const TABLE: u64 = PRESENT | WRITABLE | USER;

    fn registers(cr3: u64) -> SystemRegisters {
        let state = InitialState::long_mode(0, cr3);
        SystemRegisters { cr0: state.cr0, cr3, cr4: state.cr4, efer: state.efer | efer::NXE, cpl: 0 }
    }

    /// Tables at 0x1000, 0x2000, 0x3000, 0x4000; each first entry leads on, except what `changes` replaces
    /// (level, entry).
    fn ram_with(changes: &[(Level, u64)]) -> GuestRam {
        let ram = GuestRam::new(0x8000).unwrap();
        let mut entries = [0x5000 | TABLE | C_BIT, 0x4000 | TABLE | C_BIT, 0x3000 | TABLE, 0x2000 | TABLE];
        for &(level, entry) in changes {
            entries[usize::from(level) - 1] = entry;
        }
        for (entry, gpa) in entries.iter().zip([0x4000, 0x3000, 0x2000, 0x1000]) {
            ram.write(gpa, &entry.to_le_bytes()).unwrap();
        }
        ram
    }

    fn walk(ram: &GuestRam, address: u64) -> Result<Translation, WalkError> {
        Walk::new(ram, &registers(0x1000), Some(47)).translate(address)
    }

    #[test]
    fn a_small_page_and_its_c_bit() {
        let expected = Translation {
            gpa: 0x5abc,
            encrypted: true,
            size: PageSize::Size4KiB,
            writable: true,
            user: true,
            no_execute: false,
        };
        assert_eq!(walk(&ram_with(&[]), 0xabc), Ok(expected));
        let shared = walk(&ram_with(&[(1, 0x5000 | TABLE)]), 0xabc).unwrap();
        assert_eq!(shared, Translation { encrypted: false, ..expected });
        // CR3 may have the C-bit as well.
        let ram = ram_with(&[]);
        let through_cr3 = Walk::new(&ram, &registers(0x1000 | C_BIT), Some(47)).translate(0xabc);
        assert_eq!(through_cr3, Ok(expected));
    }

    #[rstest]
    #[case::two_mib(2, 0x1234_5678_0000 & !0x1f_ffff, PageSize::Size2MiB, 0x1f_fff8)]
    #[case::one_gib(3, 0x1234_4000_0000, PageSize::Size1GiB, 0x3fff_fff8)]
    fn large_pages(#[case] level: Level, #[case] page: u64, #[case] size: PageSize, #[case] offset: u64) {
        let pat = 1 << 12;
        let ram = ram_with(&[(level, page | TABLE | LARGE | pat | C_BIT)]);
        let found = walk(&ram, offset).unwrap();
        assert_eq!((found.gpa, found.size, found.encrypted), (page | offset, size, true));
    }

    #[rstest]
    #[case::read_only_above((3, 0x3000 | PRESENT | USER), false, true, false)]
    #[case::supervisor_above((4, 0x2000 | PRESENT | WRITABLE), true, false, false)]
    #[case::no_execute_above((2, 0x4000 | TABLE | NO_EXECUTE), true, true, true)]
    #[case::read_only_page((1, 0x5000 | PRESENT | USER), false, true, false)]
    fn permissions_of_all_levels(
        #[case] change: (Level, u64),
        #[case] writable: bool,
        #[case] user: bool,
        #[case] no_execute: bool,
    ) {
        let found = walk(&ram_with(&[change]), 0).unwrap();
        assert_eq!((found.writable, found.user, found.no_execute), (writable, user, no_execute));
    }

    #[rstest]
    #[case::pml4((4, 0), WalkError::NotPresent(4))]
    #[case::page((1, 0x5000), WalkError::NotPresent(1))]
    #[case::large_pml4((4, 0x2000 | TABLE | LARGE), WalkError::Reserved(4))]
    #[case::unaligned_2_mib((2, 0x2000 | TABLE | LARGE), WalkError::Reserved(2))]
    #[case::unaligned_1_gib((3, (1 << 29) | TABLE | LARGE), WalkError::Reserved(3))]
    #[case::table_behind_ram((3, 0x8000 | TABLE), WalkError::Table { level: 2, gpa: 0x8000 })]
    #[case::table_far_away((2, ADDRESS | TABLE), WalkError::Table { level: 1, gpa: ADDRESS & !C_BIT })]
    fn broken_tables(#[case] change: (Level, u64), #[case] error: WalkError) {
        assert_eq!(walk(&ram_with(&[change]), 0), Err(error));
    }

    #[test]
    fn no_execute_is_reserved_unless_enabled() {
        let ram = ram_with(&[(1, 0x5000 | TABLE | NO_EXECUTE)]);
        let mut registers = registers(0x1000);
        registers.efer &= !efer::NXE;
        assert_eq!(Walk::new(&ram, &registers, Some(47)).translate(0), Err(WalkError::Reserved(1)));
    }

    #[rstest]
    #[case::hole(0x0000_8000_0000_0000)]
    #[case::half_sign(0x7fff_8000_0000_0000)]
    fn not_canonical(#[case] address: u64) {
        assert_eq!(walk(&ram_with(&[]), address), Err(WalkError::NotCanonical(address)));
    }

    #[test]
    fn the_upper_half_is_canonical() {
        assert_eq!(walk(&ram_with(&[]), 0xffff_8000_0000_0000), Err(WalkError::NotPresent(4)));
    }

    #[rstest]
    #[case::no_paging(SystemRegisters { cr0: cr0::PE, ..registers(0x1000) })]
    #[case::no_pae(SystemRegisters { cr4: 0, ..registers(0x1000) })]
    #[case::no_long_mode(SystemRegisters { efer: 0, ..registers(0x1000) })]
    #[case::five_levels(SystemRegisters { cr4: cr4::PAE | cr4::LA57, ..registers(0x1000) })]
    fn other_modes(#[case] registers: SystemRegisters) {
        let ram = ram_with(&[]);
        assert_eq!(Walk::new(&ram, &registers, None).translate(0), Err(WalkError::Mode));
    }

    #[test]
    fn a_table_may_point_at_itself() {
        let ram = ram_with(&[(4, 0x1000 | TABLE)]);
        assert_eq!(walk(&ram, 0).unwrap().gpa, 0x1000);
    }

    proptest! {
        #[test]
        fn any_tables_are_answered(
            cr3: u64,
            address: u64,
            c_bit in proptest::option::of(any::<u8>()),
            contents in proptest::collection::vec(any::<u64>(), 2048),
        ) {
            let ram = GuestRam::new(0x4000).unwrap();
            // Addresses within RAM, so that walks get past the first level.
            let bytes: Vec<u8> =
                contents.iter().flat_map(|entry| ((entry & !ADDRESS) | (entry & 0x3000)).to_le_bytes()).collect();
            ram.write(0, &bytes).unwrap();
            for cr3 in [cr3, cr3 & 0x3000] {
                for address in [address, address & 0x7fff_ffff_ffff] {
                    let _ = Walk::new(&ram, &registers(cr3), c_bit).translate(address);
                }
            }
        }
    }
}
