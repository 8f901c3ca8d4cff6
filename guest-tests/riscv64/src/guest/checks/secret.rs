//! `retrieve_secret`. This TVM was built in steps, without a TAP: it has no secret.

use tsmsim_abi::{
    cove::{covg::CovgFid, sbi::SbiError},
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    call::Call,
    place::{BEYOND, PAGE, SECRET, SHARED},
    tap::Tap,
};

pub(super) fn run(tap: &mut Tap) {
    let call = Call::covg(CovgFid::RETRIEVE_SECRET).arguments(&[SECRET, PAGE]);
    tap.check("retrieve_secret: there was no TAP", call.refused(SbiError::AUTH));
    for (name, position, value, error) in [
        ("retrieve_secret: unaligned address", 0, SECRET + 8, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: shared memory", 0, SHARED, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: below the TVM's memory", 0, RAM_GPA, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: behind RAM", 0, RAM_END, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: beyond the address space", 0, BEYOND, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: more than a page", 1, PAGE + 1, SbiError::INVALID_PARAM),
    ] {
        tap.check(name, call.with(position, value).refused(error));
    }
}
