//! The pages that a launch gives to the guest: secrets and CPUID (56860 rev. 1.58, section 8.17.2, tables 68 to 71),
//! and the blob by which firmware tells an operating system where they are.

use zerocopy::little_endian::{U16, U32, U64};

wire! {
    /// Secrets page (tables 68 and 69), version 3.
    pub struct SecretsPage {
        /// Version of this structure: 3.
        pub version: U32,
        /// Bit 0: IMI_EN; the rest reserved, zero.
        pub imi_en: U32,
        /// Family, model and stepping (CPUID Fn0000_0001_EAX).
        pub fms: U32,
        /// Reserved, zero.
        pub reserved_0xc: U32,
        /// Guest-OS visible workarounds, from `SNP_LAUNCH_START`.
        pub gosvw: [u8; 16],
        /// VM platform communication keys 0 to 3.
        pub vmpck: [[u8; 32]; 4],
        /// For the guest operating system.
        pub os_area: SecretsOsArea,
        /// Which quadwords of a VMSA are tweaked.
        pub vmsa_tweak_bitmap: [u8; 64],
        /// SVSM: base address.
        pub svsm_base: U64,
        /// SVSM: size in bytes.
        pub svsm_size: U64,
        /// SVSM: address of the calling area.
        pub svsm_caa: U64,
        /// SVSM: highest protocol version.
        pub svsm_max_version: U32,
        /// SVSM: VMPL of the guest.
        pub svsm_guest_vmpl: u8,
        /// Reserved, zero.
        pub reserved_0x15d: [u8; 3],
        /// `TSC_FACTOR`: the real mean TSC frequency is lower than nominal by this many 1/100,000.
        pub tsc_factor: U32,
        /// Reserved, zero.
        pub reserved_0x164: [u8; 0xe9c],
    }
}
assert_layout!(SecretsPage, 0x1000, {
    version: 0x0, imi_en: 0x4, fms: 0x8, reserved_0xc: 0xc, gosvw: 0x10, vmpck: 0x20, os_area: 0xa0,
    vmsa_tweak_bitmap: 0x100, svsm_base: 0x140, svsm_size: 0x148, svsm_caa: 0x150, svsm_max_version: 0x158,
    svsm_guest_vmpl: 0x15c, reserved_0x15d: 0x15d, tsc_factor: 0x160, reserved_0x164: 0x164,
});

/// The version of [`SecretsPage`].
pub const SECRETS_PAGE_VERSION: u32 = 3;

wire! {
    /// The secrets page's area for the guest operating system (56421 rev. 2.04, section 2.7, table 5).
    pub struct SecretsOsArea {
        /// Message counts of VMPCK 0 to 3, low halves.
        pub msg_seqno: [U32; 4],
        /// Address of the AP jump table.
        pub ap_jump_table_pa: U64,
        /// Message counts of VMPCK 0 to 3, high halves.
        pub msg_seqno_high: [U32; 4],
        /// Reserved.
        pub reserved_0x28: [u8; 24],
        /// Free for the guest.
        pub guest_usage: [u8; 32],
    }
}
assert_layout!(SecretsOsArea, 0x60, {
    msg_seqno: 0x0, ap_jump_table_pa: 0x10, msg_seqno_high: 0x18, reserved_0x28: 0x28, guest_usage: 0x40,
});

wire! {
    /// `CPUID_FUNCTION` (table 71): one leaf, its inputs and its values.
    pub struct CpuidFunction {
        /// Leaf.
        pub eax_in: U32,
        /// Subleaf.
        pub ecx_in: U32,
        /// XCR0 for which the values hold (leaf Dh).
        pub xcr0_in: U64,
        /// XSS for which the values hold (leaf Dh).
        pub xss_in: U64,
        /// EAX.
        pub eax: U32,
        /// EBX.
        pub ebx: U32,
        /// ECX.
        pub ecx: U32,
        /// EDX.
        pub edx: U32,
        /// Reserved, zero.
        pub reserved_0x28: U64,
    }
}
assert_layout!(CpuidFunction, 0x30, {
    eax_in: 0x0, ecx_in: 0x4, xcr0_in: 0x8, xss_in: 0x10, eax: 0x18, ebx: 0x1c, ecx: 0x20, edx: 0x24,
    reserved_0x28: 0x28,
});

wire! {
    /// CPUID page (table 70).
    pub struct CpuidPage {
        /// Number of entries: 64 at most.
        pub count: U32,
        /// Reserved, zero.
        pub reserved_0x4: U32,
        /// Reserved, zero.
        pub reserved_0x8: U64,
        /// The entries.
        pub functions: [CpuidFunction; 64],
        /// Unused, zero.
        pub reserved_0xc10: [u8; 0x3f0],
    }
}
assert_layout!(CpuidPage, 0x1000, {
    count: 0x0, reserved_0x4: 0x4, reserved_0x8: 0x8, functions: 0x10, reserved_0xc10: 0xc10,
});

wire! {
    /// Confidential computing blob (Linux `struct cc_blob_sev_info`, OVMF `ConfidentialComputingSevSnpBlob.h`).
    pub struct CcBlob {
        /// `AMDE`: [`CC_BLOB_MAGIC`].
        pub magic: U32,
        /// Version: 1 (Linux does not look).
        pub version: U16,
        /// Reserved, zero.
        pub reserved_0x6: U16,
        /// Guest-physical address of the secrets page.
        pub secrets_phys: U64,
        /// Its size.
        pub secrets_len: U32,
        /// Reserved, zero.
        pub reserved_0x14: U32,
        /// Guest-physical address of the CPUID page.
        pub cpuid_phys: U64,
        /// Its size.
        pub cpuid_len: U32,
        /// Reserved, zero.
        pub reserved_0x24: U32,
    }
}
assert_layout!(CcBlob, 0x28, {
    magic: 0x0, version: 0x4, reserved_0x6: 0x6, secrets_phys: 0x8, secrets_len: 0x10, reserved_0x14: 0x14,
    cpuid_phys: 0x18, cpuid_len: 0x20, reserved_0x24: 0x24,
});

/// [`CcBlob::magic`].
pub const CC_BLOB_MAGIC: u32 = 0x4544_4d41;
