//! What OVMF images say about their launch as SNP guests: the footer table, the SEV metadata and the kernel hashes
//! (edk2 `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`, `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`, and QEMU
//! `target/i386/sev.c` for the hash table).

use zerocopy::{
    FromBytes,
    little_endian::{U16, U32},
};

use crate::guid::Guid;

wire! {
    /// Header of an entry of the footer table. The table is read backwards: an entry's data lie *before* its header.
    pub struct FooterEntry {
        /// Size of data and header.
        pub size: U16,
        /// What the entry is.
        pub guid: Guid,
    }
}
assert_layout!(FooterEntry, 18, { size: 0x0, guid: 0x2 });

/// The footer table's own entry ends this many bytes before the end of the image.
pub const FOOTER_FROM_END: usize = 32;
/// The footer table itself, 96b582de-1fb2-45f7-baea-a366c55a082d.
pub const FOOTER_GUID: Guid = Guid::from_fields(0x96b5_82de, 0x1fb2, 0x45f7, 0xbaea_a366_c55a_082d);
/// Kernel hash table area: address and size, 7255371f-3a3b-4b04-927b-1da6efa8d454.
pub const HASH_TABLE_AREA_GUID: Guid = Guid::from_fields(0x7255_371f, 0x3a3b, 0x4b04, 0x927b_1da6_efa8_d454);
/// SEV-ES reset block: EIP of application processors, 00f771de-1a7e-4fcb-890e-68c77e2fb44e.
pub const RESET_BLOCK_GUID: Guid = Guid::from_fields(0x00f7_71de, 0x1a7e, 0x4fcb, 0x890e_68c7_7e2f_b44e);
/// SEV metadata: offset from the end of the image, dc886566-984a-4798-a75e-5585a7bf67cc.
pub const METADATA_GUID: Guid = Guid::from_fields(0xdc88_6566, 0x984a, 0x4798, 0xa75e_5585_a7bf_67cc);

wire! {
    /// Header of the SEV metadata; [`Section`]s follow.
    pub struct MetadataHeader {
        /// `ASEV`.
        pub signature: [u8; 4],
        /// Size of header and sections.
        pub size: U32,
        /// Version: 1.
        pub version: U32,
        /// Number of sections.
        pub count: U32,
    }
}
assert_layout!(MetadataHeader, 16, { signature: 0x0, size: 0x4, version: 0x8, count: 0xc });

wire! {
    /// A range that the hypervisor must prepare.
    pub struct Section {
        /// Guest-physical address.
        pub gpa: U32,
        /// Size in bytes.
        pub size: U32,
        /// A [`SectionKind`].
        pub kind: U32,
    }
}
assert_layout!(Section, 12, { gpa: 0x0, size: 0x4, kind: 0x8 });

open_codes! {
    /// What a [`Section`] is for.
    pub struct SectionKind(u32);
    /// Memory to be validated before the guest starts.
    SNP_SEC_MEM = 1;
    /// Secrets page.
    SNP_SECRETS = 2;
    /// CPUID page.
    CPUID = 3;
    /// Calling area of an SVSM.
    SVSM_CAA = 4;
    /// Hashes of kernel, initrd and command line.
    SNP_KERNEL_HASHES = 0x10;
}

wire! {
    /// A hash of the [`HashTable`].
    pub struct HashEntry {
        /// Of what.
        pub guid: Guid,
        /// Size of this entry.
        pub length: U16,
        /// SHA-256.
        pub hash: [u8; 32],
    }
}
assert_layout!(HashEntry, 50, { guid: 0x0, length: 0x10, hash: 0x12 });

wire! {
    /// Kernel hash table as QEMU builds it, padded to 16 bytes.
    pub struct HashTable {
        /// [`HASH_TABLE_GUID`].
        pub guid: Guid,
        /// Size of this table without its padding.
        pub length: U16,
        /// Command line, with its closing zero byte.
        pub cmdline: HashEntry,
        /// Initrd; of nothing if there is none.
        pub initrd: HashEntry,
        /// Kernel.
        pub kernel: HashEntry,
        /// Zero.
        pub padding: [u8; 8],
    }
}
assert_layout!(HashTable, 176, { guid: 0x0, length: 0x10, cmdline: 0x12, initrd: 0x44, kernel: 0x76, padding: 0xa8 });

/// The hash table, 9438d606-4f22-4cc9-b479-a793d411fd21.
pub const HASH_TABLE_GUID: Guid = Guid::from_fields(0x9438_d606, 0x4f22, 0x4cc9, 0xb479_a793_d411_fd21);
/// Kernel, 4de79437-abd2-427f-b835-d5b172d2045b.
pub const KERNEL_GUID: Guid = Guid::from_fields(0x4de7_9437, 0xabd2, 0x427f, 0xb835_d5b1_72d2_045b);
/// Initrd, 44baf731-3a2f-4bd7-9af1-41e29169781d.
pub const INITRD_GUID: Guid = Guid::from_fields(0x44ba_f731, 0x3a2f, 0x4bd7, 0x9af1_41e2_9169_781d);
/// Command line, 97d02dd8-bd20-4c94-aa78-e7714d36ab2a.
pub const CMDLINE_GUID: Guid = Guid::from_fields(0x97d0_2dd8, 0xbd20, 0x4c94, 0xaa78_e771_4d36_ab2a);

/// The footer table of an image: data by [`Guid`], read from the last entry to the first. After an entry that is broken there
/// are no more; bytes that are too few for a header are no entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FooterTable<'a> {
    /// Size of the whole table without its own header.
    size: usize,
    /// What lies before the entries that were read.
    left: &'a [u8],
}

/// An entry of the [`FooterTable`] states a size that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenEntry {
    /// Where the entry ends: bytes from the end of the table; 0 for the table's own header, too.
    pub from_end: usize,
    /// The size that it states, in bytes.
    pub stated: usize,
    /// The size that it can have at most; the least is a header's.
    pub available: usize,
}

impl core::fmt::Display for BrokenEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { from_end, stated, available } = self;
        write!(f, "the entry at {from_end} bytes from the end states {stated} bytes of {available}")
    }
}

impl core::error::Error for BrokenEntry {}

impl<'a> FooterTable<'a> {
    /// Finds the table; `None` if the image has none.
    ///
    /// # Errors
    /// The table begins before the image.
    pub fn find(image: &'a [u8]) -> Result<Option<Self>, BrokenEntry> {
        let end = image.len().checked_sub(FOOTER_FROM_END).and_then(|end| image.get(..end));
        let header = end.and_then(|end| FooterEntry::ref_from_suffix(end).ok());
        let Some((before, footer)) = header.filter(|(_, footer)| footer.guid == FOOTER_GUID) else {
            return Ok(None);
        };
        let (_, table) = split(before, footer, 0)?;
        Ok(Some(Self { size: table.len(), left: table }))
    }
}

impl<'a> Iterator for FooterTable<'a> {
    type Item = Result<(Guid, &'a [u8]), BrokenEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let (before, entry) = FooterEntry::ref_from_suffix(self.left).ok()?;
        let split = split(before, entry, self.size - self.left.len());
        self.left = split.map_or_else(|_| Default::default(), |(left, _)| left);
        Some(split.map(|(_, data)| (entry.guid, data)))
    }
}

/// What lies before an entry's header, in two: what is before the entry, and its data.
fn split<'a>(
    before: &'a [u8],
    entry: &FooterEntry,
    from_end: usize,
) -> Result<(&'a [u8], &'a [u8]), BrokenEntry> {
    let head = size_of::<FooterEntry>();
    let stated = usize::from(entry.size.get());
    let at = stated.checked_sub(head).and_then(|size| before.len().checked_sub(size));
    let parts = at.and_then(|at| before.split_at_checked(at));
    parts.ok_or(BrokenEntry { from_end, stated, available: before.len() + head })
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;
    use rstest::rstest;
    use zerocopy::IntoBytes;

    use super::*;

    /// An image of 256 bytes whose table has these entries: GUIDs of one byte, data, and what is to be added to their size.
    fn image(entries: &[(u8, &[u8], u16)], footer: Guid, more: u16) -> Vec<u8> {
        let mut table = Vec::new();
        let mut entry = |guid, data: &[u8], before: usize, more| {
            table.extend_from_slice(data);
            let size: u16 = u16::try_from(before + 18).unwrap() + more;
            table.extend_from_slice(FooterEntry { size: size.into(), guid }.as_bytes());
            table.len()
        };
        let mut size = 0;
        for (guid, data, more) in entries {
            size = entry(Guid([*guid; 16]), data, data.len(), *more);
        }
        entry(footer, &[], size, more);
        let mut image = vec![0; 256];
        let end = image.len() - FOOTER_FROM_END;
        image[end - table.len()..end].copy_from_slice(&table);
        image
    }

    fn entries(image: &[u8]) -> Vec<Result<(Guid, &[u8]), BrokenEntry>> {
        FooterTable::find(image).unwrap().unwrap().collect()
    }

    #[test]
    fn entries_come_from_the_last_to_the_first() {
        let image = image(&[(1, &[5, 6], 0), (2, &[], 0), (1, &[7], 0)], FOOTER_GUID, 0);
        let [one, two] = [Guid([1; 16]), Guid([2; 16])];
        assert_eq!(entries(&image), [Ok((one, &[7][..])), Ok((two, &[])), Ok((one, &[5, 6]))]);
    }

    #[test]
    fn after_a_broken_entry_there_are_none() {
        let image = image(&[(1, &[5, 6], 0), (2, &[], 21), (3, &[7], 0)], FOOTER_GUID, 0);
        let broken = BrokenEntry { from_end: 19, stated: 39, available: 38 };
        assert_eq!(entries(&image), [Ok((Guid([3; 16]), &[7][..])), Err(broken)]);
    }

    #[rstest]
    #[case::empty(0)]
    #[case::short(FOOTER_FROM_END + 17)]
    fn images_without_room_have_no_table(#[case] size: usize) {
        assert_eq!(FooterTable::find(&vec![0; size]), Ok(None));
    }

    #[test]
    fn another_guid_is_no_table() {
        assert_eq!(FooterTable::find(&image(&[], Guid::ZERO, 0)), Ok(None));
        assert_eq!(entries(&image(&[], FOOTER_GUID, 0)), []);
    }

    #[test]
    fn a_table_larger_than_the_image_is_broken() {
        let broken = BrokenEntry { from_end: 0, stated: 225, available: 224 };
        assert_eq!(FooterTable::find(&image(&[], FOOTER_GUID, 207)), Err(broken));
    }

    proptest! {
        #[test]
        fn any_image_is_read(mut bytes in prop::collection::vec(any::<u8>(), 50..256)) {
            let end = bytes.len() - FOOTER_FROM_END;
            bytes[end - 16..end].copy_from_slice(&FOOTER_GUID.0);
            if let Ok(Some(table)) = FooterTable::find(&bytes) {
                prop_assert!(table.map_while(Result::ok).map(|(_, data)| data.len() + 18).sum::<usize>() <= end);
            }
        }
    }
}
