//! What OVMF images say about their launch as SNP guests: the footer table, the SEV metadata and the kernel hashes
//! (edk2 `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`, `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`, and QEMU
//! `target/i386/sev.c` for the hash table).

use zerocopy::little_endian::{U16, U32};

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
