//! Launching a guest: page types, the measured `PAGE_INFO`, ID block and ID authentication (56860 rev. 1.58,
//! sections 8.16 to 8.18).

use zerocopy::little_endian::{U16, U32, U64};

use super::report::{EcdsaPublicKey, Signature};

open_codes! {
    /// `PAGE_TYPE` of `SNP_LAUNCH_UPDATE` (table 66).
    pub struct PageType(u8);
    /// A page of data.
    NORMAL = 1;
    /// A virtual machine save area.
    VMSA = 2;
    /// Zeros, whatever the page held.
    ZERO = 3;
    /// Encrypted, its place measured but not its contents.
    UNMEASURED = 4;
    /// Where the firmware puts the guest's secrets.
    SECRETS = 5;
    /// Where the hypervisor puts CPUID values, checked by the firmware.
    CPUID = 6;
}

/// The guest-physical address under which VMSA pages are measured: all ones, page-aligned, 48 bits.
pub const VMSA_GPA: u64 = 0xffff_ffff_f000;

wire! {
    /// `PAGE_INFO` (table 67): the launch digest is the SHA-384 over this structure, page after page.
    pub struct PageInfo {
        /// The digest so far; zero before the first page.
        pub digest_cur: [u8; 48],
        /// SHA-384 of the page (types NORMAL and VMSA), else zero.
        pub contents: [u8; 48],
        /// Size of this structure: 70h.
        pub length: U16,
        /// A [`PageType`].
        pub page_type: u8,
        /// Bit 0: IMI_PAGE; the rest zero.
        pub imi_page: u8,
        /// Reserved, zero.
        pub reserved_0x64: u8,
        /// Permissions of VMPL1.
        pub vmpl1_perms: u8,
        /// Permissions of VMPL2.
        pub vmpl2_perms: u8,
        /// Permissions of VMPL3.
        pub vmpl3_perms: u8,
        /// Guest-physical address of the page.
        pub gpa: U64,
    }
}
assert_layout!(PageInfo, 0x70, {
    digest_cur: 0x0, contents: 0x30, length: 0x60, page_type: 0x62, imi_page: 0x63, reserved_0x64: 0x64,
    vmpl1_perms: 0x65, vmpl2_perms: 0x66, vmpl3_perms: 0x67, gpa: 0x68,
});

/// VMPL permission bits (APM volume 2, section 15.36.7).
#[bitfield_struct::bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct VmplPermissions {
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable at CPL 3.
    pub execute_user: bool,
    /// Executable at CPL 0 to 2.
    pub execute_supervisor: bool,
    /// Usable as supervisor shadow stack.
    pub supervisor_shadow_stack: bool,
    /// Reserved, zero.
    #[bits(3)]
    pub reserved: u8,
}

wire! {
    /// ID block (table 74): what the guest owner expects, signed with the ID key.
    pub struct IdBlock {
        /// Expected launch digest.
        pub ld: [u8; 48],
        /// Family ID.
        pub family_id: [u8; 16],
        /// Image ID.
        pub image_id: [u8; 16],
        /// Version of this structure: 1.
        pub version: U32,
        /// Security version number of the guest.
        pub guest_svn: U32,
        /// The guest policy.
        pub policy: U64,
    }
}
assert_layout!(IdBlock, 0x60, {
    ld: 0x0, family_id: 0x30, image_id: 0x40, version: 0x50, guest_svn: 0x54, policy: 0x58,
});

/// The version of [`IdBlock`].
pub const ID_BLOCK_VERSION: u32 = 1;

wire! {
    /// ID authentication information (table 75): one page.
    pub struct IdAuth {
        /// Algorithm of the ID key: a [`super::report::SignatureAlgorithm`].
        pub id_key_algo: U32,
        /// Algorithm of the author key.
        pub auth_key_algo: U32,
        /// Reserved, zero.
        pub reserved_0x8: [u8; 56],
        /// Signature of the ID block by the ID key.
        pub id_block_sig: Signature,
        /// Public ID key.
        pub id_key: EcdsaPublicKey,
        /// Reserved, zero.
        pub reserved_0x644: [u8; 60],
        /// Signature of the ID key by the author key.
        pub id_key_sig: Signature,
        /// Public author key.
        pub author_key: EcdsaPublicKey,
        /// Reserved, zero.
        pub reserved_0xc84: [u8; 892],
    }
}
assert_layout!(IdAuth, 0x1000, {
    id_key_algo: 0x0, auth_key_algo: 0x4, reserved_0x8: 0x8, id_block_sig: 0x40, id_key: 0x240,
    reserved_0x644: 0x644, id_key_sig: 0x680, author_key: 0x880, reserved_0xc84: 0xc84,
});
