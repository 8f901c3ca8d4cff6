//! The boot protocol of Linux on x86 (Linux 6.12, `arch/x86/include/uapi/asm/bootparam.h` and `setup_data.h`;
//! `Documentation/arch/x86/boot.rst` and `zero-page.rst`): what a bzImage says of itself, and what a boot loader tells
//! the kernel.

use zerocopy::little_endian::{U16, U32, U64};

wire! {
    /// `struct setup_header`, at offset 1F1h of a bzImage and of [`BootParams`].
    pub struct SetupHeader {
        /// Size of the real-mode code in sectors of 512 bytes, without the first one; 0 means 4.
        pub setup_sects: u8,
        /// Root is mounted read-only.
        pub root_flags: U16,
        /// Size of the protected-mode code in paragraphs of 16 bytes.
        pub syssize: U32,
        /// Obsolete.
        pub ram_size: U16,
        /// Video mode.
        pub vid_mode: U16,
        /// Root device.
        pub root_dev: U16,
        /// [`BOOT_FLAG`].
        pub boot_flag: U16,
        /// A jump over the header.
        pub jump: U16,
        /// [`HEADER_MAGIC`].
        pub header: [u8; 4],
        /// Version of the protocol, 20Fh is 2.15.
        pub version: U16,
        /// Real-mode hook.
        pub realmode_swtch: U32,
        /// Obsolete.
        pub start_sys_seg: U16,
        /// Offset of the version string, less 200h; 0: there is none.
        pub kernel_version: U16,
        /// Boot loader; FFh: one without a number.
        pub type_of_loader: u8,
        /// [`LOADED_HIGH`] and others.
        pub loadflags: u8,
        /// Obsolete.
        pub setup_move_size: U16,
        /// 32-bit hook.
        pub code32_start: U32,
        /// Guest-physical address of the initial RAM disk.
        pub ramdisk_image: U32,
        /// Its size.
        pub ramdisk_size: U32,
        /// Obsolete.
        pub bootsect_kludge: U32,
        /// End of the real-mode heap.
        pub heap_end_ptr: U16,
        /// Boot loader's version, high part.
        pub ext_loader_ver: u8,
        /// Boot loader's number, high part.
        pub ext_loader_type: u8,
        /// Guest-physical address of the command line.
        pub cmd_line_ptr: U32,
        /// Highest address of the initial RAM disk's last byte.
        pub initrd_addr_max: U32,
        /// Alignment of a relocatable kernel.
        pub kernel_alignment: U32,
        /// Whether the kernel is relocatable.
        pub relocatable_kernel: u8,
        /// Least alignment, a power of two.
        pub min_alignment: u8,
        /// More flags.
        pub xloadflags: U16,
        /// Most bytes of a command line, without the zero that ends it.
        pub cmdline_size: U32,
        /// Hardware subarchitecture: 0 is a PC.
        pub hardware_subarch: U32,
        /// Its data.
        pub hardware_subarch_data: U64,
        /// Offset of the compressed kernel in the protected-mode code.
        pub payload_offset: U32,
        /// Its length.
        pub payload_length: U32,
        /// Guest-physical address of the first [`SetupData`]; 0: there is none.
        pub setup_data: U64,
        /// Preferred load address.
        pub pref_address: U64,
        /// Memory that the kernel needs from its load address on.
        pub init_size: U32,
        /// EFI entry.
        pub handover_offset: U32,
        /// Offset of the `kernel_info`.
        pub kernel_info_offset: U32,
    }
}
assert_layout!(SetupHeader, 0x7b, {
    setup_sects: 0x0, root_flags: 0x1, syssize: 0x3, ram_size: 0x7, vid_mode: 0x9, root_dev: 0xb, boot_flag: 0xd,
    jump: 0xf, header: 0x11, version: 0x15, realmode_swtch: 0x17, start_sys_seg: 0x1b, kernel_version: 0x1d,
    type_of_loader: 0x1f, loadflags: 0x20, setup_move_size: 0x21, code32_start: 0x23, ramdisk_image: 0x27,
    ramdisk_size: 0x2b, bootsect_kludge: 0x2f, heap_end_ptr: 0x33, ext_loader_ver: 0x35, ext_loader_type: 0x36,
    cmd_line_ptr: 0x37, initrd_addr_max: 0x3b, kernel_alignment: 0x3f, relocatable_kernel: 0x43,
    min_alignment: 0x44, xloadflags: 0x45, cmdline_size: 0x47, hardware_subarch: 0x4b, hardware_subarch_data: 0x4f,
    payload_offset: 0x57, payload_length: 0x5b, setup_data: 0x5f, pref_address: 0x67, init_size: 0x6f,
    handover_offset: 0x73, kernel_info_offset: 0x77,
});

/// Offset of [`SetupHeader`] in a bzImage and in [`BootParams`].
pub const SETUP_HEADER_OFFSET: usize = 0x1f1;
/// [`SetupHeader::boot_flag`].
pub const BOOT_FLAG: u16 = 0xaa55;
/// [`SetupHeader::header`].
pub const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// Version of the protocol from which on a bzImage names its compressed kernel: 2.08.
pub const PAYLOAD_VERSION: u16 = 0x208;
/// Version of the protocol that [`BootParams`] here speak: 2.15.
pub const PROTOCOL_VERSION: u16 = 0x20f;
/// [`SetupHeader::type_of_loader`] of a loader without a number.
pub const LOADER_UNDEFINED: u8 = 0xff;
/// [`SetupHeader::loadflags`]: the kernel lies at 1 MiB or above.
pub const LOADED_HIGH: u8 = 1;

wire! {
    /// `struct boot_e820_entry`.
    pub struct E820Entry {
        /// Guest-physical address.
        pub addr: U64,
        /// Length in bytes.
        pub size: U64,
        /// An [`E820Type`].
        pub kind: U32,
    }
}
assert_layout!(E820Entry, 20, { addr: 0x0, size: 0x8, kind: 0x10 });

open_codes! {
    /// What memory is for.
    pub struct E820Type(u32);
    /// Usable memory.
    RAM = 1;
    /// Not to be used.
    RESERVED = 2;
    /// ACPI tables; usable once they have been read.
    ACPI = 3;
    /// ACPI's non-volatile storage.
    NVS = 4;
    /// Memory with errors.
    UNUSABLE = 5;
    /// Persistent memory.
    PMEM = 7;
}

/// Most entries of [`BootParams::e820_table`].
pub const E820_MAX_ENTRIES: usize = 128;

wire! {
    /// `struct boot_params`, the zero page; the parts that a PC's firmware or EFI would fill are left unnamed.
    pub struct BootParams {
        /// Video, power management: zero.
        pub reserved_0x0: [u8; 0x70],
        /// Guest-physical address of ACPI's RSDP; 0: to be searched for.
        pub acpi_rsdp_addr: U64,
        /// Disks and others: zero.
        pub reserved_0x78: [u8; 0x48],
        /// High half of the initial RAM disk's address.
        pub ext_ramdisk_image: U32,
        /// High half of its size.
        pub ext_ramdisk_size: U32,
        /// High half of the command line's address.
        pub ext_cmd_line_ptr: U32,
        /// Zero.
        pub reserved_0xcc: [u8; 0x70],
        /// Guest-physical address of the confidential computing blob, set by the kernel's own decompressor.
        pub cc_blob_address: U32,
        /// EDID, EFI and others: zero.
        pub reserved_0x140: [u8; 0xa8],
        /// Entries of `e820_table`.
        pub e820_entries: u8,
        /// Zero.
        pub reserved_0x1e9: [u8; 6],
        /// Zero, or the kernel takes all but the header for garbage.
        pub sentinel: u8,
        /// Zero.
        pub reserved_0x1f0: u8,
        /// The header.
        pub hdr: SetupHeader,
        /// Disks' signatures: zero.
        pub reserved_0x26c: [u8; 0x64],
        /// Memory map.
        pub e820_table: [E820Entry; E820_MAX_ENTRIES],
        /// Disks: zero.
        pub reserved_0xcd0: [u8; 0x330],
    }
}
assert_layout!(BootParams, 0x1000, {
    reserved_0x0: 0x0, acpi_rsdp_addr: 0x70, reserved_0x78: 0x78, ext_ramdisk_image: 0xc0, ext_ramdisk_size: 0xc4,
    ext_cmd_line_ptr: 0xc8, reserved_0xcc: 0xcc, cc_blob_address: 0x13c, reserved_0x140: 0x140, e820_entries: 0x1e8,
    reserved_0x1e9: 0x1e9, sentinel: 0x1ef, reserved_0x1f0: 0x1f0, hdr: 0x1f1, reserved_0x26c: 0x26c,
    e820_table: 0x2d0, reserved_0xcd0: 0xcd0,
});
const _: () = assert!(core::mem::offset_of!(BootParams, hdr) == SETUP_HEADER_OFFSET);

wire! {
    /// `struct setup_data`: the head of a node in a list that a loader passes on; `len` bytes follow.
    pub struct SetupData {
        /// Guest-physical address of the next node; 0: this is the last.
        pub next: U64,
        /// A [`SetupDataType`].
        pub kind: U32,
        /// Bytes that follow.
        pub len: U32,
    }
}
assert_layout!(SetupData, 0x10, { next: 0x0, kind: 0x8, len: 0xc });

open_codes! {
    /// What a [`SetupData`] holds. The kernel passes over types that it does not know and shows all of them in
    /// `/sys/kernel/boot_params/setup_data`.
    pub struct SetupDataType(u32);
    /// Address, 4 bytes, of the confidential computing blob ([`crate::snp::pages::CcBlob`]).
    CC_BLOB = 7;
    /// Ours: what the host asks of the init program, unmeasured ([`crate::linux_guest::TASK_MAGIC`]).
    TSMSIM_TASK = 0x4d53_5401;
}
