//! `TDG.MEM.PAGE.ACCEPT` and `MapGPA` on RAM that was not added at launch.

use tsmsim_abi::{
    snp::PAGE_SIZE,
    tdx::{
        leaf::{PageLevel, TdcallLeaf},
        status::{OperandId, StatusCode},
        vmcall::{VmcallStatus, VmcallSubFunction},
    },
};

use super::super::{
    call::{Tdcall, Vmcall, invalid},
    td::Td,
};
use crate::guest::{
    arch::memory::{GuestPage, LARGE_PAGE},
    tap::{Check, Tap, ensure, equal},
};

pub(super) fn run(td: &Td, tap: &mut Tap) {
    let page = GuestPage::test(0);
    tap.check("TDG.MEM.PAGE.ACCEPT: 4 KiB", accept(page, PageLevel::PT));
    let already = StatusCode::PAGE_ALREADY_ACCEPTED.with_details(PageLevel::PT.0.into());
    tap.check("TDG.MEM.PAGE.ACCEPT: again", Td::accept(page.gpa(), PageLevel::PT).expect(already).map(drop));
    let large = GuestPage::large_test();
    tap.check("TDG.MEM.PAGE.ACCEPT: 2 MiB", accept(large, PageLevel::PD));
    let already = StatusCode::PAGE_ALREADY_ACCEPTED.with_details(PageLevel::PD.0.into());
    tap.check(
        "TDG.MEM.PAGE.ACCEPT: 4 KiB of it",
        Td::accept(large.gpa(), PageLevel::PT).expect(already).map(drop),
    );
    let mismatch = StatusCode::PAGE_SIZE_MISMATCH.with_details(PageLevel::PD.0.into());
    let whole = page.gpa() & !(LARGE_PAGE as u64 - 1);
    tap.check(
        "TDG.MEM.PAGE.ACCEPT: 2 MiB of 4 KiB pages",
        Td::accept(whole, PageLevel::PD).refused(mismatch),
    );
    let raw = |rcx| Tdcall::new(TdcallLeaf::TDG_MEM_PAGE_ACCEPT).rcx(rcx).refused(invalid(OperandId::RCX));
    tap.check(
        "TDG.MEM.PAGE.ACCEPT: unaligned",
        raw((page.gpa() + PAGE_SIZE as u64) | u64::from(PageLevel::PD.0)),
    );
    tap.check("TDG.MEM.PAGE.ACCEPT: 1 GiB", raw(u64::from(PageLevel::PDPT.0)));
    tap.check("TDG.MEM.PAGE.ACCEPT: reserved bits", raw(page.gpa() | 1 << 3));
    tap.check("TDG.MEM.PAGE.ACCEPT: shared address", raw(td.shared_gpa(page)));
    tap.check("MapGPA: shared, and private again", there_and_back(td, page));
    tap.check("MapGPA: 64 pages, however many calls", many(td));
    map_gpa_refusals(td, page, tap);
}

fn map_gpa_refusals(td: &Td, page: GuestPage, tap: &mut Tap) {
    let size = PAGE_SIZE as u64;
    let gpa = td.shared_gpa(page);
    for (name, operands, status) in [
        ("MapGPA: unaligned address", [gpa + 1, size], VmcallStatus::ALIGN_ERROR),
        ("MapGPA: unaligned size", [gpa, size + 1], VmcallStatus::ALIGN_ERROR),
        ("MapGPA: no size", [gpa, 0], VmcallStatus::INVALID_OPERAND),
        ("MapGPA: beyond the address width", [1 << td.gpa_width, size], VmcallStatus::INVALID_OPERAND),
    ] {
        let call = Vmcall::new(VmcallSubFunction::MAP_GPA).operands(operands);
        tap.check(name, call.refused(status));
    }
}

/// A page that is accepted reads as zero and holds data.
fn accept(page: GuestPage, level: PageLevel) -> Check {
    page.write(0, b"what the host left here");
    Td::accept(page.gpa(), level).succeed()?;
    ensure!(page.read::<[u8; 32]>(0) == [0; 32], "it does not read as zero");
    page.write(0, &[0x5a_u8; 16]);
    equal("content", page.read::<[u8; 16]>(0), [0x5a; 16])
}

fn there_and_back(td: &Td, page: GuestPage) -> Check {
    td.map(page, 1, false)?;
    page.write(0, &[0xa5_u8; 16]);
    equal("content", page.read::<[u8; 16]>(0), [0xa5; 16])?;
    td.map(page, 1, true)?;
    accept(page, PageLevel::PT)
}

fn many(td: &Td) -> Check {
    let first = GuestPage::test(64);
    td.map(first, 64, false)?;
    td.map(first, 64, true)?;
    accept(GuestPage::test(127), PageLevel::PT)
}
