//! PVALIDATE and RMPADJUST (APM volume 3) on RAM that was not launched.

use tsmsim_abi::snp::{
    psc::PscOperation,
    rmp::{RMP_PAGE_SIZE_2M, RMP_PAGE_SIZE_4K, RmpAdjustOperand, RmpReturn},
};

use crate::guest::{
    arch::{memory::GuestPage, user},
    protocol,
    tap::{Check, Tap, ensure, equal},
};

/// RMPADJUST's permissions: read, write, user and supervisor execute.
const ALL: u8 = 0xf;

pub(in crate::guest) fn run(tap: &mut Tap) {
    let page = GuestPage::test(0);
    tap.check("PVALIDATE: shared page", shared_page(page));
    tap.check("page state change request: RAM that was not launched", assign(page));
    tap.check("PVALIDATE: validate", protocol::validate(page, true));
    tap.check("private page holds data", holds_data(page));
    tap.check("PVALIDATE: already validated", unchanged(page, true));
    tap.check("PVALIDATE: rescind", protocol::validate(page, false));
    tap.check("PVALIDATE: already rescinded", unchanged(page, false));
    tap.check("PVALIDATE: validate again", protocol::validate(page, true));
    let mismatch = pvalidate_fails(page, RMP_PAGE_SIZE_2M, RmpReturn::FAIL_SIZEMISMATCH);
    tap.check("PVALIDATE: 2 MiB on a 4 KiB entry", mismatch);
    tap.check("PVALIDATE: of the page size bit 0 counts alone", small_page(page));
    rmpadjust(page, tap);
    tap.check("page state change request: back to shared", protocol::share(page));
    tap.check("shared page holds data", holds_data(page));
}

fn rmpadjust(page: GuestPage, tap: &mut Tap) {
    let vmpl1 = RmpAdjustOperand::new().with_target_vmpl(1);
    for (name, operand, result) in [
        ("RMPADJUST: permissions of VMPL1", vmpl1.with_permissions(ALL), RmpReturn::SUCCESS),
        ("RMPADJUST: permissions of VMPL0", vmpl1.with_target_vmpl(0), RmpReturn::FAIL_PERMISSION),
        ("RMPADJUST: VMPL4", vmpl1.with_target_vmpl(4), RmpReturn::FAIL_INPUT),
        ("RMPADJUST: VMSA", vmpl1.with_vmsa(true), RmpReturn::SUCCESS),
        ("RMPADJUST: VMSA no more", vmpl1, RmpReturn::SUCCESS),
    ] {
        tap.check(name, adjust(page, operand, result));
    }
}

/// RMPADJUST with this result.
pub(super) fn adjust(page: GuestPage, operand: RmpAdjustOperand, result: RmpReturn) -> Check {
    equal("EAX", user::rmpadjust(page.gpa(), operand.into()).code(), result)
}

fn assign(page: GuestPage) -> Check {
    equal("error", protocol::page_state_change(page.gfn(), PscOperation::PRIVATE.0)?, 0)
}

/// On hardware the hypervisor would see a nested page fault and could only kill the guest.
fn shared_page(page: GuestPage) -> Check {
    let outcome = user::pvalidate(page.gpa(), RMP_PAGE_SIZE_4K, true);
    ensure!(outcome.code() != RmpReturn::SUCCESS, "it was validated");
    Ok(())
}

fn unchanged(page: GuestPage, validate: bool) -> Check {
    let outcome = user::pvalidate(page.gpa(), RMP_PAGE_SIZE_4K, validate);
    equal("EAX", outcome.code(), RmpReturn::SUCCESS)?;
    equal("carry flag", outcome.carry, 1)
}

/// Page size 2 is 4 KiB, as 0 is, so the page is found validated.
fn small_page(page: GuestPage) -> Check {
    let outcome = user::pvalidate(page.gpa(), 2, true);
    equal("EAX, carry flag", (outcome.code(), outcome.carry), (RmpReturn::SUCCESS, 1))
}

fn pvalidate_fails(page: GuestPage, size: u64, result: RmpReturn) -> Check {
    equal("EAX", user::pvalidate(page.gpa(), size, true).code(), result)
}

pub(super) fn holds_data(page: GuestPage) -> Check {
    let pattern = page.gpa().to_le_bytes();
    page.write(0x7f8, &pattern);
    equal("data", page.read::<[u8; 8]>(0x7f8), pattern)
}
