//! `MSG_TSC_INFO_REQ` (56860 rev. 1.58, section 7.9).

use tsmsim_abi::snp::{
    payload::{TscInfoReq, TscInfoRsp},
    status::FirmwareStatus,
};
use zerocopy::{
    FromZeros,
    little_endian::{U32, U64},
};

use super::Request;
use crate::snp::firmware::Firmware;

pub(super) fn respond(firmware: &Firmware, request: &Request<'_>) -> TscInfoRsp {
    let message = request.read::<TscInfoReq>();
    let tsc = firmware.platform.tsc();
    match firmware.guests.get(&request.sender) {
        Some(gctx) if *message == TscInfoReq::new_zeroed() => TscInfoRsp {
            guest_tsc_scale: U64::new(tsc_scale(gctx.desired_tsc_freq, tsc.reference_clock_khz)),
            guest_tsc_offset: U64::new(gctx.psp_tsc_offset),
            tsc_factor: U32::new(tsc.tsc_factor),
            ..TscInfoRsp::new_zeroed()
        },
        _ => TscInfoRsp { status: U32::new(FirmwareStatus::INVALID_PARAM.0), ..TscInfoRsp::new_zeroed() },
    }
}

/// `GUEST_TSC_SCALE`: desired over reference frequency, as a fixed-point number of 8 integer and 32 fraction bits, the
/// fraction rounded up (APM volume 2, TSC Ratio MSR; rounding as in AMD-ASPFW). What does not fit is cut off.
pub(in crate::snp) fn tsc_scale(desired_khz: u32, reference_khz: u32) -> u64 {
    let (desired, reference) = (u64::from(desired_khz), u64::from(reference_khz));
    if reference == 0 {
        return 0;
    }
    let integer = (desired / reference) & 0xff;
    let fraction = ((desired % reference) << 32).div_ceil(reference) & 0xffff_ffff;
    integer << 32 | fraction
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::tsc_scale;

    #[rstest]
    #[case(0, 99_800, 0)]
    #[case(99_800, 99_800, 1 << 32)]
    #[case(149_700, 99_800, 1 << 32 | 1 << 31)]
    #[case(1, 3, 0x5555_5556)]
    #[case(300, 1, 44 << 32)]
    #[case(u32::MAX, u32::MAX, 1 << 32)]
    #[case(5, 0, 0)]
    fn scale_is_8_32_fixed_point_rounded_up(
        #[case] desired: u32,
        #[case] reference: u32,
        #[case] scale: u64,
    ) {
        assert_eq!(tsc_scale(desired, reference), scale);
    }
}
