//! Page state change by buffer (56421, section 4.1.6).

use tsmsim_abi::snp::{
    ghcb::{ExitCode, GhcbField, MalformedInput, SHARED_BUFFER_OFFSET},
    psc::{PSC_MAX_ENTRIES, PscEntryBits, PscHeader, PscOperation, PscResult},
    rmp::{RMP_PAGE_SIZE_2M, RmpReturn},
};
use zerocopy::{FromBytes, IntoBytes, little_endian::U64};

use super::pages::holds_data;
use crate::guest::{
    arch::{memory::GuestPage, user},
    exit::Exit,
    machine::Machine,
    protocol,
    tap::{Check, Tap, Why, equal},
    to_u16,
};

const HEADER: usize = size_of::<PscHeader>();

pub(in crate::guest) fn run(machine: &Machine, tap: &mut Tap) {
    tap.check("page state change: several entries to private", several(machine, PscOperation::PRIVATE));
    tap.check("PVALIDATE: every page of the entries", several_validate(true));
    tap.check("PVALIDATE: rescind every page", several_validate(false));
    tap.check("page state change: several entries to shared", several(machine, PscOperation::SHARED));
    tap.check("page state change: 2 MiB entry", large(machine));
    tap.check("page state change: invalid header", invalid_header(machine));
    let page = GuestPage::test(8);
    let private = PscOperation::PRIVATE.0;
    for (name, entry) in [
        ("page state change: 2 MiB entry not aligned", entry(page.gfn(), private).with_large(true)),
        ("page state change: unknown operation", entry(page.gfn(), 0xf)),
        ("page state change: reserved bits", entry(page.gfn(), private).with_reserved(1)),
    ] {
        tap.check(name, refused(machine, entry, PscResult::INVALID_ENTRY));
    }
    tap.check("page state change: frame outside memory", frame_outside(machine));
    tap.check("SW_SCRATCH: outside memory", scratch(machine, 1 << 46));
    tap.check("SW_SCRATCH: in a private page", scratch(machine, machine.private.gpa()));
    let exit = buffer(machine, 0, &[entry(page.gfn(), private)]).without(GhcbField::SW_SCRATCH);
    tap.check("SW_SCRATCH: missing", machine.exit(exit).malformed(MalformedInput::MISSING_INPUT));
}

fn entry(gfn: u64, operation: u8) -> PscEntryBits {
    PscEntryBits::new().with_gfn(gfn).with_operation(operation)
}

/// The exit with these entries in the GHCB's shared buffer, the first to be done being `cur_entry`.
fn buffer(machine: &Machine, cur_entry: u16, entries: &[PscEntryBits]) -> Exit {
    let mut exit =
        Exit::new(ExitCode::PAGE_STATE_CHANGE, 0, 0).scratch(machine.ghcb.gpa() + SHARED_BUFFER_OFFSET);
    let end_entry = to_u16(entries.len() - 1);
    let header = PscHeader { cur_entry: cur_entry.into(), end_entry: end_entry.into(), reserved: 0.into() };
    exit.0.shared_buffer[..HEADER].copy_from_slice(header.as_bytes());
    for (place, entry) in exit.0.shared_buffer[HEADER..].chunks_exact_mut(8).zip(entries) {
        place.copy_from_slice(U64::new(u64::from(*entry)).as_bytes());
    }
    exit
}

/// Makes the exit: the result, and `cur_entry` afterwards.
fn change(machine: &Machine, exit: Exit) -> Check<(PscResult, u16)> {
    let answer = machine.exit(exit).served()?;
    let Ok((header, _)) = PscHeader::read_from_prefix(&answer.0.shared_buffer) else {
        return Err(Why::new(format_args!("no header")));
    };
    Ok((PscResult(answer.info2()), header.cur_entry.get()))
}

/// Three pages in two entries that are done and one that `cur_entry` skips.
fn several(machine: &Machine, operation: PscOperation) -> Check {
    let gfn = |index| GuestPage::test(index).gfn();
    let entries = [
        entry(gfn(16), 0xf),
        entry(gfn(1), operation.0),
        entry(gfn(2), operation.0),
        entry(gfn(3), operation.0),
    ];
    let (result, cur_entry) = change(machine, buffer(machine, 1, &entries))?;
    equal("SW_EXITINFO2", result, PscResult::DONE)?;
    equal("cur_entry", cur_entry, 4)
}

fn several_validate(validate: bool) -> Check {
    (1..=3).map(GuestPage::test).try_for_each(|page| {
        protocol::validate(page, validate)?;
        if validate { holds_data(page) } else { Ok(()) }
    })
}

fn large(machine: &Machine) -> Check {
    let page = GuestPage::large_test();
    let change_to = |operation: PscOperation| {
        let (result, cur_entry) =
            change(machine, buffer(machine, 0, &[entry(page.gfn(), operation.0).with_large(true)]))?;
        equal("SW_EXITINFO2", result, PscResult::DONE)?;
        equal("cur_entry", cur_entry, 1)
    };
    change_to(PscOperation::PRIVATE)?;
    for (validate, carry) in [(true, 0), (true, 1), (false, 0)] {
        let outcome = user::pvalidate(page.gpa(), RMP_PAGE_SIZE_2M, validate);
        equal("PVALIDATE's EAX", outcome.code(), RmpReturn::SUCCESS)?;
        equal("PVALIDATE's carry flag", outcome.carry, carry)?;
    }
    change_to(PscOperation::SHARED)?;
    protocol::map_private(page, false)?;
    holds_data(page)
}

fn invalid_header(machine: &Machine) -> Check {
    let mut exit = buffer(machine, 0, &[entry(GuestPage::test(8).gfn(), PscOperation::PRIVATE.0)]);
    let end_entry = to_u16(PSC_MAX_ENTRIES);
    exit.0.shared_buffer[2..4].copy_from_slice(&end_entry.to_le_bytes());
    equal("SW_EXITINFO2", change(machine, exit)?.0, PscResult::INVALID_HEADER)
}

fn refused(machine: &Machine, entry: PscEntryBits, expected: PscResult) -> Check {
    let (result, cur_entry) = change(machine, buffer(machine, 0, &[entry]))?;
    equal("SW_EXITINFO2", result, expected)?;
    equal("cur_entry", cur_entry, 0)
}

/// The specification leaves open which error it is.
fn frame_outside(machine: &Machine) -> Check {
    let entries = [entry(1 << 35, PscOperation::PRIVATE.0)];
    let (result, _) = change(machine, buffer(machine, 0, &entries))?;
    equal("done", result == PscResult::DONE, false)
}

fn scratch(machine: &Machine, gpa: u64) -> Check {
    let exit = buffer(machine, 0, &[entry(GuestPage::test(8).gfn(), PscOperation::PRIVATE.0)]).scratch(gpa);
    machine.exit(exit).malformed(MalformedInput::INVALID_SCRATCH_AREA)
}
