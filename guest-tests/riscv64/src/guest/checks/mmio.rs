//! `add_mmio_region`, `remove_mmio_region`.

use tsmsim_abi::{
    cove::{covg::CovgFid, sbi::SbiError},
    guest_test::riscv64::RAM_END,
};

use super::super::{
    call::Call,
    place::{BEYOND, LAST_PAGE, MMIO, PAGE, SHARED, SPARE},
    tap::{Check, Tap},
    tvm::{get_attcaps, share, unshare},
};

const ADDRESS: SbiError = SbiError::INVALID_ADDRESS;
const PARAM: SbiError = SbiError::INVALID_PARAM;

pub(super) fn run(tap: &mut Tap) {
    tap.check("add_mmio_region", add(MMIO, 4 * PAGE).gives(0));
    for (name, call) in [
        ("add_mmio_region: there already", add(MMIO, 4 * PAGE)),
        ("add_mmio_region: overlaps the end of another", add(MMIO + 3 * PAGE, 2 * PAGE)),
        ("add_mmio_region: overlaps the beginning of another", add(MMIO - PAGE, 2 * PAGE)),
        ("add_mmio_region: within another", add(MMIO + PAGE, PAGE)),
        ("add_mmio_region: around another", add(MMIO - PAGE, 6 * PAGE)),
        ("add_mmio_region: confidential memory", add(SPARE, PAGE)),
        ("add_mmio_region: shared memory", add(SHARED, PAGE)),
        ("add_mmio_region: across the end of RAM", add(LAST_PAGE, 2 * PAGE)),
        ("add_mmio_region: unaligned address", add(RAM_END + 8, PAGE)),
        ("add_mmio_region: unaligned length", add(RAM_END, PAGE + 8)),
        ("add_mmio_region: no length", add(RAM_END, 0)),
        ("add_mmio_region: beyond the address space", add(BEYOND, PAGE)),
        ("add_mmio_region: range that wraps around", add(u64::MAX - PAGE + 1, 2 * PAGE)),
        ("remove_mmio_region: unaligned address", remove(MMIO + 8, PAGE)),
        ("remove_mmio_region: unaligned length", remove(MMIO, 8)),
        ("remove_mmio_region: no length", remove(MMIO, 0)),
        ("remove_mmio_region: beyond the address space", remove(BEYOND, PAGE)),
    ] {
        tap.check(name, call.refused(ADDRESS));
    }
    for (name, call) in [
        ("share_memory_region: MMIO", share(MMIO, PAGE)),
        ("unshare_memory_region: MMIO", unshare(MMIO, PAGE)),
        ("get_attcaps: MMIO", get_attcaps().with(0, MMIO)),
    ] {
        tap.check(name, call.refused(PARAM));
    }
    tap.check("add_mmio_region: behind another", add(MMIO + 4 * PAGE, PAGE).gives(0));
    tap.check("remove_mmio_region: every region that overlaps", both());
    tap.check("remove_mmio_region: there is none", remove(MMIO, 8 * PAGE).gives(0));
    tap.check("remove_mmio_region: memory stays", memory_stays());
}

fn add(gpa: u64, length: u64) -> Call {
    Call::covg(CovgFid::ADD_MMIO_REGION).arguments(&[gpa, length])
}

fn remove(gpa: u64, length: u64) -> Call {
    Call::covg(CovgFid::REMOVE_MMIO_REGION).arguments(&[gpa, length])
}

/// A range over the border of two regions takes both away.
fn both() -> Check {
    remove(MMIO + 3 * PAGE, 2 * PAGE).gives(0)?;
    add(MMIO, 8 * PAGE).gives(0)?;
    remove(MMIO + 7 * PAGE, PAGE).gives(0)
}

fn memory_stays() -> Check {
    remove(SPARE, PAGE).gives(0)?;
    add(SPARE, PAGE).refused(ADDRESS)
}
