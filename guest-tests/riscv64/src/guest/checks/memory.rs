//! `share_memory_region`, `unshare_memory_region`.

use tsmsim_abi::{
    cove::{covg::CovgFid, sbi::SbiError},
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    arch,
    call::Call,
    place::{BEYOND, CONSOLE, LAST_PAGE, MMIO, PAGE, SPARE},
    tap::{Check, Tap, ensure},
    tvm::{share, unshare},
};

const ADDRESS: SbiError = SbiError::INVALID_ADDRESS;
const PARAM: SbiError = SbiError::INVALID_PARAM;

pub(super) fn run(tap: &mut Tap) {
    tap.check("share_memory_region: contents are lost", lost(share(SPARE, PAGE)));
    tap.check("unshare_memory_region: contents are lost", lost(unshare(SPARE, PAGE)));
    tap.check("share_memory_region: pages that were never used", share(SPARE + PAGE, 3 * PAGE).gives(0));
    tap.check("unshare_memory_region: a page in the middle", unshare(SPARE + 2 * PAGE, PAGE).gives(0));
    // Confidential: 0 and 2; shared: 1 and 3.
    for (name, call) in [
        ("share_memory_region: shared in part", share(SPARE, 2 * PAGE)),
        ("share_memory_region: shared already", share(SPARE + PAGE, PAGE)),
        ("unshare_memory_region: confidential in part", unshare(SPARE + PAGE, 2 * PAGE)),
        ("unshare_memory_region: confidential already", unshare(SPARE, PAGE)),
    ] {
        tap.check(name, call.refused(PARAM));
    }
    tap.check("unshare_memory_region: the pages around", around());
    tap.check("share_memory_region: last page of RAM", share(LAST_PAGE, PAGE).gives(0));
    tap.check("unshare_memory_region: last page of RAM", unshare(LAST_PAGE, PAGE).gives(0));
    refusals(
        tap,
        Call::covg(CovgFid::SHARE_MEMORY_REGION).arguments(&[SPARE, PAGE]),
        &[
            "share_memory_region: unaligned address",
            "share_memory_region: beyond the address space",
            "share_memory_region: range that wraps around",
            "share_memory_region: unaligned length",
            "share_memory_region: no length",
            "share_memory_region: below the TVM's memory",
            "share_memory_region: behind RAM",
            "share_memory_region: across the end of RAM",
            "share_memory_region: no memory at all",
        ],
    );
    refusals(
        tap,
        Call::covg(CovgFid::UNSHARE_MEMORY_REGION).arguments(&[CONSOLE, PAGE]),
        &[
            "unshare_memory_region: unaligned address",
            "unshare_memory_region: beyond the address space",
            "unshare_memory_region: range that wraps around",
            "unshare_memory_region: unaligned length",
            "unshare_memory_region: no length",
            "unshare_memory_region: below the TVM's memory",
            "unshare_memory_region: behind RAM",
            "unshare_memory_region: across the end of RAM",
            "unshare_memory_region: no memory at all",
        ],
    );
}

fn refusals(tap: &mut Tap, call: Call, names: &[&str; 9]) {
    let page = call.with(1, PAGE);
    let calls = [
        (page.with(0, SPARE + 8), ADDRESS),
        (page.with(0, BEYOND), ADDRESS),
        (page.with(0, u64::MAX - PAGE + 1), ADDRESS),
        (call.with(1, PAGE + 8), PARAM),
        (call.with(1, 0), PARAM),
        (page.with(0, RAM_GPA), PARAM),
        (page.with(0, RAM_END), PARAM),
        (call.with(0, LAST_PAGE).with(1, 2 * PAGE), PARAM),
        (page.with(0, MMIO), PARAM),
    ];
    names.iter().zip(calls).for_each(|(name, (call, error))| tap.check(name, call.refused(error)));
}

/// A page that was written is zero after the call.
fn lost(conversion: Call) -> Check {
    let mut bytes = [0x5a; 64];
    arch::write(SPARE, &bytes);
    arch::write(SPARE + PAGE - 64, &bytes);
    conversion.gives(0)?;
    for at in [SPARE, SPARE + PAGE - 64] {
        arch::read(at, &mut bytes);
        ensure!(bytes == [0; 64], "they are there");
    }
    Ok(())
}

fn around() -> Check {
    unshare(SPARE + PAGE, PAGE).gives(0)?;
    unshare(SPARE + 3 * PAGE, PAGE).gives(0)?;
    share(SPARE, 4 * PAGE).gives(0)?;
    unshare(SPARE, 4 * PAGE).gives(0)
}
