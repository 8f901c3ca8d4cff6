//! `allow_external_interrupt`, `deny_external_interrupt`.

use tsmsim_abi::cove::{
    covg::{ALL_INTERRUPTS, CovgFid, MAX_INTERRUPT_ID},
    sbi::SbiError,
};

use super::super::{call::Call, tap::Tap};

pub(super) fn run(tap: &mut Tap) {
    for (function, names) in [
        (
            CovgFid::ALLOW_EXTERNAL_INTERRUPT,
            [
                "allow_external_interrupt: first",
                "allow_external_interrupt: last",
                "allow_external_interrupt: all",
                "allow_external_interrupt: zero",
                "allow_external_interrupt: behind the last",
                "allow_external_interrupt: 2^64 - 2",
            ],
        ),
        (
            CovgFid::DENY_EXTERNAL_INTERRUPT,
            [
                "deny_external_interrupt: first",
                "deny_external_interrupt: last",
                "deny_external_interrupt: all",
                "deny_external_interrupt: zero",
                "deny_external_interrupt: behind the last",
                "deny_external_interrupt: 2^64 - 2",
            ],
        ),
    ] {
        let call = |id| Call::covg(function).arguments(&[id]);
        let [first, last, all, zero, behind, almost_all] = names;
        tap.check(first, call(1).gives(0));
        tap.check(last, call(MAX_INTERRUPT_ID).gives(0));
        tap.check(all, call(ALL_INTERRUPTS).gives(0));
        for (name, id) in [(zero, 0), (behind, MAX_INTERRUPT_ID + 1), (almost_all, ALL_INTERRUPTS - 1)] {
            tap.check(name, call(id).refused(SbiError::INVALID_PARAM));
        }
    }
}
