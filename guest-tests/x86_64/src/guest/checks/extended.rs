//! The extended guest request (56421, section 4.1.8): certificates come with the report.

use tsmsim_abi::snp::{
    PAGE_SIZE,
    cert_table::{CertGuid, CertTableEntry},
    ghcb::{ExitCode, GhcbField, HostRequestError, MalformedInput},
    message::MessageType,
    status::FirmwareStatus,
};
use zerocopy::FromBytes;

use super::report::{judge, plain_request};
use crate::guest::{
    arch::memory::GuestPage,
    exit::{Answer, Exit},
    machine::{CERTIFICATE_PAGES, FIRST_CERTIFICATE_PAGE, Machine, RequestStatus, payload},
    message::Message,
    serial::print_blob,
    tap::{Check, Tap, Why, ensure, equal},
};

const TOO_SMALL: RequestStatus =
    RequestStatus { host: HostRequestError::INVALID_LEN, firmware: FirmwareStatus::SUCCESS };

pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    tap.check("extended guest request: buffer too small", too_small(machine));
    tap.check("extended guest request: same sequence number, certificates", certificates(machine));
    let gpa = buffer().gpa();
    for (name, exit, reason) in [
        ("extended guest request: RAX missing", exit(machine, gpa, 1).without(GhcbField::RAX), true),
        ("extended guest request: RBX missing", exit(machine, gpa, 1).without(GhcbField::RBX), true),
        ("extended guest request: buffer not on a page", exit(machine, gpa + 16, 1), false),
    ] {
        let reason = if reason { MalformedInput::MISSING_INPUT } else { MalformedInput::INVALID_INPUT };
        tap.check(name, machine.exit(exit).malformed(reason));
    }
}

/// The certificate buffer's first page.
fn buffer() -> GuestPage {
    GuestPage::launched(FIRST_CERTIFICATE_PAGE)
}

fn exit(machine: &Machine, gpa: u64, pages: u64) -> Exit {
    let exit = Exit::new(ExitCode::EXTENDED_GUEST_REQUEST, machine.request.gpa(), machine.response.gpa());
    exit.rax(gpa).rbx(pages)
}

/// The next request on VMPCK0, sealed.
fn sealed(machine: &mut Machine) -> Check<Message> {
    let request = plain_request(machine, 0);
    let channel = machine.channel(0);
    let mut message = channel.draft(MessageType::REPORT_REQ, &request);
    channel.seal(&mut message)?;
    Ok(message)
}

fn send(machine: &mut Machine, pages: u64) -> Check<(RequestStatus, Answer)> {
    let message = sealed(machine)?;
    machine.send(&message, exit(machine, buffer().gpa(), pages))
}

/// No page at all: RBX says how many it takes, and the message was not processed. (A host without certificates does
/// process it; then it counts.)
fn pages_needed(machine: &mut Machine) -> Check<u64> {
    let (status, answer) = send(machine, 0)?;
    if status == RequestStatus::SUCCESS {
        machine.response(0, MessageType::REPORT_RSP)?;
    }
    equal("SW_EXITINFO2", status, TOO_SMALL)?;
    answer.has(GhcbField::RBX)?;
    let pages = answer.0.rbx.get();
    ensure!((1..=u64::from(CERTIFICATE_PAGES)).contains(&pages), "{pages} pages needed");
    Ok(pages)
}

fn too_small(machine: &mut Machine) -> Check {
    let pages = pages_needed(machine)?;
    if pages > 1 {
        let (status, answer) = send(machine, pages - 1)?;
        equal("SW_EXITINFO2", status, TOO_SMALL)?;
        equal("pages needed", answer.0.rbx.get(), pages)?;
    }
    Ok(())
}

fn certificates(machine: &mut Machine) -> Check {
    let pages = pages_needed(machine)?;
    let (status, _) = send(machine, pages)?;
    equal("SW_EXITINFO2", status, RequestStatus::SUCCESS)?;
    let request = plain_request(machine, 0);
    judge(&payload(&machine.response(0, MessageType::REPORT_RSP)?)?, &request)?;
    let size = table_size(pages * PAGE_SIZE as u64)?;
    print_blob("certificates", (0..size).map(byte));
    Ok(())
}

/// A byte of the certificate buffer.
fn byte(offset: usize) -> u8 {
    Machine::certificates().nth(offset / PAGE_SIZE).map_or(0, |page| page.read(offset % PAGE_SIZE))
}

/// Walks the table to its closing entry; its size is where the last certificate ends.
fn table_size(limit: u64) -> Check<usize> {
    let (mut at, mut size, mut endorsement) = (0, 0, false);
    loop {
        let bytes: [u8; size_of::<CertTableEntry>()] = core::array::from_fn(|index| byte(at + index));
        let Ok(entry) = CertTableEntry::read_from_bytes(&bytes) else {
            return Err(Why::new(format_args!("no entry")));
        };
        at += bytes.len();
        if entry.guid == CertGuid::END {
            break;
        }
        let end = entry.offset.get() as usize + entry.length.get() as usize;
        ensure!(end.max(at + bytes.len()) as u64 <= limit, "{} ends at {end:#x}", entry.guid);
        ensure!(byte(entry.offset.get() as usize) == 0x30, "{} is not a DER sequence", entry.guid);
        endorsement |= entry.guid == CertGuid::VCEK || entry.guid == CertGuid::VLEK;
        size = size.max(end);
    }
    ensure!(endorsement, "neither VCEK nor VLEK is in the table");
    Ok(size.max(at))
}
