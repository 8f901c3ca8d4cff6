//! `a6` of COVG calls: function, reserved bits, supervisor domain.

use tsmsim_abi::cove::{
    covg::CovgFid,
    sbi::{COVE_FIDS, COVE_IO_FIDS, SbiError},
};

use super::super::{call::Call, tap::Tap};

pub(super) fn run(tap: &mut Tap) {
    for (name, function) in [
        ("COVG: function 11", 11),
        ("COVG: last function of CoVE", *COVE_FIDS.end()),
        ("COVG: first function of CoVE-IO", *COVE_IO_FIDS.start()),
        ("COVG: last function of CoVE-IO", *COVE_IO_FIDS.end()),
        ("COVG: function behind CoVE-IO", *COVE_IO_FIDS.end() + 1),
        ("COVG: last function", u16::MAX),
    ] {
        tap.check(name, Call::covg(CovgFid(function)).refused(SbiError::NOT_SUPPORTED));
    }
    let allow = Call::covg(CovgFid::ALLOW_EXTERNAL_INTERRUPT).arguments(&[1]);
    for (name, bits) in [
        ("COVG: reserved bit 16 of a6", 1 << 16),
        ("COVG: reserved bit 25 of a6", 1 << 25),
        ("COVG: reserved bit 32 of a6", 1 << 32),
        ("COVG: reserved bit 63 of a6", 1 << 63),
    ] {
        tap.check(name, allow.with_a6(bits).refused(SbiError::NOT_SUPPORTED));
    }
    tap.check("COVG: supervisor domain in a6", allow.with_a6(0x3f << 26).gives(0));
}
