//! The structures and numbers of `include/uapi/linux/sev-guest.h` and `include/uapi/linux/tdx-guest.h`, little-endian.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

/// `SNP_GET_REPORT`: `_IOWR('S', 0, struct snp_guest_request_ioctl)`.
pub const SNP_GET_REPORT: u32 = iowr(b'S', 0, size_of::<SnpGuestRequestIoctl>());
/// `SNP_GET_DERIVED_KEY`.
pub const SNP_GET_DERIVED_KEY: u32 = iowr(b'S', 1, size_of::<SnpGuestRequestIoctl>());
/// `SNP_GET_EXT_REPORT`.
pub const SNP_GET_EXT_REPORT: u32 = iowr(b'S', 2, size_of::<SnpGuestRequestIoctl>());
/// `TDX_CMD_GET_REPORT0`: `_IOWR('T', 1, struct tdx_report_req)`.
pub const TDX_CMD_GET_REPORT0: u32 = iowr(b'T', 1, size_of::<TdxReportReq>());

const _: () = {
    assert!(SNP_GET_REPORT == 0xc020_5300);
    assert!(SNP_GET_DERIVED_KEY == 0xc020_5301);
    assert!(SNP_GET_EXT_REPORT == 0xc020_5302);
    assert!(TDX_CMD_GET_REPORT0 == 0xc440_5401);
};

/// `_IOWR` of `asm-generic/ioctl.h`.
const fn iowr(kind: u8, number: u8, size: usize) -> u32 {
    assert!(size < 1 << 14, "an ioctl's size has 14 bits");
    #[expect(clippy::cast_possible_truncation, reason = "asserted to have 14 bits")]
    let size = size as u32;
    3 << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

/// `SNP_GUEST_VMM_ERR(SNP_GUEST_VMM_ERR_INVALID_LEN)`.
pub const SNP_GUEST_VMM_ERR_INVALID_LEN: u64 = 1 << 32;
/// `SNP_GUEST_VMM_ERR(SNP_GUEST_VMM_ERR_BUSY)`.
pub const SNP_GUEST_VMM_ERR_BUSY: u64 = 2 << 32;
/// `SEV_RET_NO_FW_CALL` as `exitinfo2` has it: -1, sign-extended.
pub const SEV_RET_NO_FW_CALL: u64 = u64::MAX;

macro_rules! uapi {
    ($( $(#[$meta:meta])* pub struct $name:ident, $size:literal { $($body:tt)* } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $size, stringify!($name));
    )* };
}

uapi! {
    /// `struct snp_guest_request_ioctl`: what all ioctls of `/dev/sev-guest` take.
    pub struct SnpGuestRequestIoctl, 32 {
        /// Version of the message; not zero.
        pub msg_version: u8,
        /// Padding.
        pub reserved: [u8; 7],
        /// Address of the request.
        pub req_data: U64,
        /// Address of the response.
        pub resp_data: U64,
        /// The firmware's status in bits 31 to 0, the host's error in bits 63 to 32.
        pub exitinfo2: U64,
    }

    /// `struct snp_report_req`: the payload of `MSG_REPORT_REQ`.
    pub struct SnpReportReq, 96 {
        /// The caller's data.
        pub user_data: [u8; 64],
        /// The VMPL that the report is to state.
        pub vmpl: U32,
        /// To be zero; the firmware has `KEY_SEL` in the first word.
        pub rsvd: [u8; 28],
    }

    /// `struct snp_derived_key_req`: the payload of `MSG_KEY_REQ`.
    pub struct SnpDerivedKeyReq, 32 {
        /// The root key.
        pub root_key_select: U32,
        /// To be zero.
        pub rsvd: U32,
        /// What is mixed in.
        pub guest_field_select: U64,
        /// The VMPL.
        pub vmpl: U32,
        /// The guest's security version.
        pub guest_svn: U32,
        /// The TCB version.
        pub tcb_version: U64,
    }

    /// `struct snp_ext_report_req`.
    pub struct SnpExtReportReq, 112 {
        /// The report.
        pub data: SnpReportReq,
        /// Where the certificate table is to be copied.
        pub certs_address: U64,
        /// Room there: whole pages, 16 KiB at most. Too few: what is needed.
        pub certs_len: U32,
        /// Padding.
        pub reserved: U32,
    }

    /// `struct tdx_report_req`.
    pub struct TdxReportReq, 1088 {
        /// The caller's data.
        pub reportdata: [u8; 64],
        /// Receives the TDREPORT.
        pub tdreport: [u8; 1024],
    }
}

/// Bytes of `struct snp_report_resp`.
pub const SNP_REPORT_RESP_LEN: usize = 4000;
/// Bytes of `struct snp_derived_key_resp`.
pub const SNP_DERIVED_KEY_RESP_LEN: usize = 64;
