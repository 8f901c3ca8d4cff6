//! The payloads of the guest messages (56860 rev. 1.58, chapter 7 "Guest Messages").

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U32, U64};

use super::{launch::IdBlock, pages::CpuidFunction, report::AttestationReport, tcb::TcbVersion};

/// Most entries of a CPUID message or CPUID page.
pub const CPUID_MAX: usize = 64;

wire! {
    /// `MSG_CPUID_REQ` (section 7.1), version 1; `count` entries of [`CpuidFunction`] follow.
    pub struct CpuidReq {
        /// Number of entries: 64 at most.
        pub count: U32,
        /// Reserved, zero.
        pub reserved_0x4: U32,
        /// Reserved, zero.
        pub reserved_0x8: U64,
        /// The functions to check; unused ones are zero.
        pub functions: [CpuidFunction; CPUID_MAX],
    }
}
assert_layout!(CpuidReq, 0xc10, { count: 0x0, reserved_0x4: 0x4, reserved_0x8: 0x8, functions: 0x10 });

wire! {
    /// `MSG_CPUID_RSP` (section 7.1), version 1.
    pub struct CpuidRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Number of entries.
        pub count: U32,
        /// Reserved, zero.
        pub reserved_0x8: U64,
        /// The functions, with the values corrected where the firmware refuses them.
        pub functions: [CpuidFunction; CPUID_MAX],
    }
}
assert_layout!(CpuidRsp, 0xc10, { status: 0x0, count: 0x4, reserved_0x8: 0x8, functions: 0x10 });

/// `KEY_SEL`: which endorsement key to use (sections 7.2 and 7.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeySel {
    /// VLEK if one is installed, else VCEK.
    VlekElseVcek,
    /// VCEK.
    Vcek,
    /// VLEK.
    Vlek,
    /// Reserved encoding 3.
    Reserved,
}

impl KeySel {
    /// From the two bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::VlekElseVcek,
            1 => Self::Vcek,
            2 => Self::Vlek,
            _ => Self::Reserved,
        }
    }

    /// The two bits.
    #[must_use]
    pub const fn into_bits(self) -> u32 {
        match self {
            Self::VlekElseVcek => 0,
            Self::Vcek => 1,
            Self::Vlek => 2,
            Self::Reserved => 3,
        }
    }
}

/// First word of [`KeyReq`].
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct KeyReqSelect {
    /// Root key: false the VCEK or VLEK, true the VM root key (VMRK).
    pub root_key_vmrk: bool,
    /// Endorsement key, where the root key is one.
    #[bits(2, from = KeySel::from_bits, into = KeySel::into_bits)]
    pub key_sel: KeySel,
    /// Reserved, zero.
    #[bits(29)]
    pub reserved: u32,
}

/// `GUEST_FIELD_SELECT`: what is mixed into a derived key (section 7.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GuestFieldSelect {
    /// Guest policy.
    pub guest_policy: bool,
    /// Image ID of the ID block.
    pub image_id: bool,
    /// Family ID of the ID block.
    pub family_id: bool,
    /// Launch measurement.
    pub measurement: bool,
    /// The guest SVN given in the request.
    pub guest_svn: bool,
    /// The TCB version given in the request.
    pub tcb_version: bool,
    /// The launch mitigation vector given in the request; message version 2.
    pub launch_mit_vector: bool,
    /// Reserved, zero.
    #[bits(57)]
    pub reserved: u64,
}

wire! {
    /// `MSG_KEY_REQ` (section 7.2), version 1.
    pub struct KeyReq {
        /// The bits of [`KeyReqSelect`].
        pub select: U32,
        /// Reserved, zero.
        pub reserved_0x4: U32,
        /// The bits of [`GuestFieldSelect`].
        pub guest_field_select: U64,
        /// VMPL to mix in; not below the VMPL that sends.
        pub vmpl: U32,
        /// Guest SVN to mix in; not above the ID block's.
        pub guest_svn: U32,
        /// TCB version to mix in; not above the committed one.
        pub tcb_version: TcbVersion,
    }
}
assert_layout!(KeyReq, 0x20, {
    select: 0x0, reserved_0x4: 0x4, guest_field_select: 0x8, vmpl: 0x10, guest_svn: 0x14, tcb_version: 0x18,
});

wire! {
    /// `MSG_KEY_REQ` (section 7.2), version 2.
    pub struct KeyReqV2 {
        /// The fields of version 1.
        pub v1: KeyReq,
        /// Mitigation vector to mix in; not above (bit-wise) the launch mitigation vector.
        pub launch_mit_vector: U64,
        /// Reserved, zero: the payload stays a multiple of 16 bytes.
        pub reserved_0x28: U64,
    }
}
assert_layout!(KeyReqV2, 0x30, { v1: 0x0, launch_mit_vector: 0x20, reserved_0x28: 0x28 });

wire! {
    /// `MSG_KEY_RSP` (section 7.2).
    pub struct KeyRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Reserved, zero.
        pub reserved_0x4: [u8; 28],
        /// The key, zero unless `status` is success.
        pub derived_key: [u8; 32],
    }
}
assert_layout!(KeyRsp, 0x40, { status: 0x0, reserved_0x4: 0x4, derived_key: 0x20 });

/// Flags of [`ReportReq`].
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ReportReqFlags {
    /// Which endorsement key signs.
    #[bits(2, from = KeySel::from_bits, into = KeySel::into_bits)]
    pub key_sel: KeySel,
    /// Reserved, zero.
    #[bits(30)]
    pub reserved: u32,
}

wire! {
    /// `MSG_REPORT_REQ` (section 7.3), version 1.
    pub struct ReportReq {
        /// Goes into the report.
        pub report_data: [u8; 64],
        /// VMPL to put into the report; not below the VMPL that sends.
        pub vmpl: U32,
        /// The bits of [`ReportReqFlags`].
        pub flags: U32,
        /// Reserved, zero.
        pub reserved_0x48: [u8; 24],
    }
}
assert_layout!(ReportReq, 0x60, { report_data: 0x0, vmpl: 0x40, flags: 0x44, reserved_0x48: 0x48 });

wire! {
    /// `MSG_REPORT_RSP` (section 7.3).
    pub struct ReportRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Size of the report in bytes.
        pub report_size: U32,
        /// Reserved, zero.
        pub reserved_0x8: [u8; 24],
        /// The report, zero unless `status` is success.
        pub report: AttestationReport,
    }
}
assert_layout!(ReportRsp, 0x4c0, { status: 0x0, report_size: 0x4, reserved_0x8: 0x8, report: 0x20 });

wire! {
    /// Root metadata entry of a guest that was swapped out (section 3.1, metadata entry).
    pub struct MetadataEntry {
        /// Data of the hypervisor.
        pub software_data: U64,
        /// IV of the page's encryption.
        pub iv: U64,
        /// Authentication tag.
        pub auth_tag: [u8; 16],
        /// Page information.
        pub page_info: U64,
        /// VMPL permissions.
        pub vmpl_permissions: U64,
        /// Reserved, zero.
        pub reserved_0x30: [u8; 16],
    }
}
assert_layout!(MetadataEntry, 0x40, {
    software_data: 0x0, iv: 0x8, auth_tag: 0x10, page_info: 0x20, vmpl_permissions: 0x28, reserved_0x30: 0x30,
});

/// Flags of [`GuestContext`].
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GuestContextFlags {
    /// An author key certified the ID key.
    pub author_key_en: bool,
    /// The guest was launched with an ID block.
    pub id_block_en: bool,
    /// The VCEK is disabled for this guest.
    pub vcek_dis: bool,
    /// Reserved, zero.
    #[bits(61)]
    pub reserved: u64,
}

wire! {
    /// The guest context as messages carry it, version 3 (section 7.4): what a guest's identity consists of.
    pub struct GuestContext {
        /// Launch digest.
        pub ld: [u8; 48],
        /// Offline encryption key.
        pub oek: [u8; 32],
        /// VM platform communication keys 0 to 3.
        pub vmpck: [[u8; 32]; 4],
        /// VM root key.
        pub vmrk: [u8; 32],
        /// Host data given at launch.
        pub host_data: [u8; 32],
        /// SHA-384 of the ID key.
        pub id_key_digest: [u8; 48],
        /// SHA-384 of the author key.
        pub author_key_digest: [u8; 48],
        /// Report ID.
        pub report_id: [u8; 32],
        /// Measurement of the incoming migration image.
        pub imd: [u8; 48],
        /// Message counts of VMPCK 0 to 3.
        pub msg_count: [U64; 4],
        /// Root metadata entry.
        pub root_md_entry: MetadataEntry,
        /// The bits of [`GuestContextFlags`].
        pub flags: U64,
        /// Guest policy.
        pub policy: U64,
        /// Guest state.
        pub state: u8,
        /// Reserved, zero.
        pub reserved_0x231: [u8; 7],
        /// IV count of the offline encryption key.
        pub oek_iv_count: U64,
        /// The ID block.
        pub id_block: IdBlock,
        /// Guest-OS visible workarounds.
        pub gosvw: [u8; 16],
        /// Desired TSC frequency in kHz.
        pub desired_tsc_freq: U32,
        /// Reserved, zero.
        pub reserved_0x2b4: U32,
        /// Offset applied to guest TSC reads.
        pub psp_tsc_offset: U64,
        /// TCB version at launch or import.
        pub launch_tcb: TcbVersion,
        /// Reserved, zero.
        pub reserved_0x2c8: [u8; 0x38],
    }
}
assert_layout!(GuestContext, 0x300, {
    ld: 0x0, oek: 0x30, vmpck: 0x50, vmrk: 0xd0, host_data: 0xf0, id_key_digest: 0x110, author_key_digest: 0x140,
    report_id: 0x170, imd: 0x190, msg_count: 0x1c0, root_md_entry: 0x1e0, flags: 0x220, policy: 0x228, state: 0x230,
    reserved_0x231: 0x231, oek_iv_count: 0x238, id_block: 0x240, gosvw: 0x2a0, desired_tsc_freq: 0x2b0,
    reserved_0x2b4: 0x2b4, psp_tsc_offset: 0x2b8, launch_tcb: 0x2c0, reserved_0x2c8: 0x2c8,
});

/// The version of [`GuestContext`].
pub const GUEST_CONTEXT_VERSION: u32 = 3;
/// The size of [`GuestContext`].
pub const GUEST_CONTEXT_SIZE: u32 = 0x300;

wire! {
    /// `MSG_EXPORT_REQ` (section 7.4), version 1.
    pub struct ExportReq {
        /// System-physical address of the guest context page to export.
        pub gctx_paddr: U64,
        /// Bit 0: IMI_EN, the guest is to become an incoming migration image; the rest reserved, zero.
        pub imi_en: U32,
        /// Reserved, zero.
        pub reserved_0xc: U32,
    }
}
assert_layout!(ExportReq, 0x10, { gctx_paddr: 0x0, imi_en: 0x8, reserved_0xc: 0xc });

wire! {
    /// `MSG_EXPORT_RSP` (section 7.4).
    pub struct ExportRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Size of the context.
        pub gctx_size: U32,
        /// Version of the context.
        pub gctx_version: U32,
        /// Reserved, zero.
        pub reserved_0xc: [u8; 20],
        /// The context.
        pub gctx: GuestContext,
    }
}
assert_layout!(ExportRsp, 0x320, { status: 0x0, gctx_size: 0x4, gctx_version: 0x8, reserved_0xc: 0xc, gctx: 0x20 });

wire! {
    /// `MSG_IMPORT_REQ`, `MSG_ABSORB_REQ` and `MSG_ABSORB_NOMA_REQ` (sections 7.5 to 7.7), version 1: one shape.
    pub struct IncomingContextReq {
        /// System-physical address of the guest context page to fill; reserved, zero, in `MSG_ABSORB_NOMA_REQ`.
        pub gctx_paddr: U64,
        /// Size of the context.
        pub in_gctx_size: U32,
        /// Version of the context.
        pub in_gctx_version: U32,
        /// Reserved, zero.
        pub reserved_0x10: [u8; 16],
        /// The context.
        pub incoming_gctx: GuestContext,
    }
}
assert_layout!(IncomingContextReq, 0x320, {
    gctx_paddr: 0x0, in_gctx_size: 0x8, in_gctx_version: 0xc, reserved_0x10: 0x10, incoming_gctx: 0x20,
});

wire! {
    /// `MSG_IMPORT_RSP`, `MSG_ABSORB_RSP`, `MSG_ABSORB_NOMA_RSP`, `MSG_VMRK_RSP` (sections 7.5 to 7.8): one shape.
    pub struct StatusRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Reserved, zero.
        pub reserved_0x4: [u8; 12],
    }
}
assert_layout!(StatusRsp, 0x10, { status: 0x0, reserved_0x4: 0x4 });

wire! {
    /// `MSG_VMRK_REQ` (section 7.8), version 1.
    pub struct VmrkReq {
        /// System-physical address of the guest context page.
        pub gctx_paddr: U64,
        /// Reserved, zero.
        pub reserved_0x8: [u8; 24],
        /// The VM root key to set.
        pub vmrk: [u8; 32],
    }
}
assert_layout!(VmrkReq, 0x40, { gctx_paddr: 0x0, reserved_0x8: 0x8, vmrk: 0x20 });

wire! {
    /// `MSG_TSC_INFO_REQ` (section 7.9), version 1.
    pub struct TscInfoReq {
        /// Reserved, zero.
        pub reserved: [u8; 128],
    }
}
assert_layout!(TscInfoReq, 0x80, { reserved: 0x0 });

wire! {
    /// `MSG_TSC_INFO_RSP` (section 7.9).
    pub struct TscInfoRsp {
        /// A [`super::status::FirmwareStatus`].
        pub status: U32,
        /// Reserved, zero.
        pub reserved_0x4: U32,
        /// `GUEST_TSC_SCALE`: fixed point, 8 integer and 32 fraction bits.
        pub guest_tsc_scale: U64,
        /// `GUEST_TSC_OFFSET`, in TSC ticks.
        pub guest_tsc_offset: U64,
        /// `TSC_FACTOR`: the real mean frequency is lower than nominal by this many 1/100,000.
        pub tsc_factor: U32,
        /// Reserved, zero.
        pub reserved_0x1c: [u8; 100],
    }
}
assert_layout!(TscInfoRsp, 0x80, {
    status: 0x0, reserved_0x4: 0x4, guest_tsc_scale: 0x8, guest_tsc_offset: 0x10, tsc_factor: 0x18, reserved_0x1c: 0x1c,
});
