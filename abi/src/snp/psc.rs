//! The page-state-change buffer (56421 rev. 2.04, section 4.1.6, tables 13 and 14): a header and up to 253 entries,
//! in the GHCB's shared buffer or in a shared page that `SW_SCRATCH` names.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64};

/// Entries that a buffer may hold at most.
pub const PSC_MAX_ENTRIES: usize = 253;

wire! {
    /// Header of the buffer. `cur_entry..=end_entry` are the entries still to be processed.
    pub struct PscHeader {
        /// Next entry to process; the hypervisor moves it on.
        pub cur_entry: U16,
        /// Last entry to process.
        pub end_entry: U16,
        /// Reserved, zero.
        pub reserved: U32,
    }
}
assert_layout!(PscHeader, 8, { cur_entry: 0, end_entry: 2, reserved: 4 });

wire! {
    /// One entry, as it lies in memory; [`PscEntryBits`] takes it apart.
    pub struct PscEntry {
        /// The bits of [`PscEntryBits`].
        pub bits: U64,
    }
}
assert_layout!(PscEntry, 8, { bits: 0 });

/// The bits of a [`PscEntry`].
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PscEntryBits {
    /// 4 KiB pages of this entry that are done; the hypervisor moves it on.
    #[bits(12)]
    pub cur_page: u16,
    /// Guest frame number.
    #[bits(40)]
    pub gfn: u64,
    /// A [`PscOperation`].
    #[bits(4)]
    pub operation: u8,
    /// The page is a 2 MiB page.
    pub large: bool,
    #[bits(7)]
    pub reserved: u8,
}

open_codes! {
    /// What to do with a page.
    pub struct PscOperation(u8);
    /// Assign the page to the guest: private, not validated.
    PRIVATE = 1;
    /// Make the page shared with the hypervisor.
    SHARED = 2;
    /// Hint: split a 2 MiB RMP entry.
    PSMASH = 3;
    /// Hint: join into a 2 MiB RMP entry.
    UNSMASH = 4;
}

open_codes! {
    /// `SW_EXITINFO2` of a page state change (56421, section 4.1.6): zero or one of these.
    pub struct PscResult(u64);
    /// Every entry was processed, or the guest is to call again because `cur_entry` is not past `end_entry`.
    DONE = 0;
    /// The header is invalid.
    INVALID_HEADER = 1 << 32 | 1;
    /// The entry at `cur_entry` is invalid.
    INVALID_ENTRY = 1 << 32 | 2;
    /// The entry at `cur_entry` could not be done for a reason of the hypervisor's.
    GENERIC_ERROR = 0x100 << 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_bits() {
        let entry =
            PscEntryBits::new().with_gfn(0xab_cdef).with_operation(PscOperation::SHARED.0).with_large(true);
        assert_eq!(u64::from(entry), 0xab_cdef << 12 | 2 << 52 | 1 << 56);
    }
}
