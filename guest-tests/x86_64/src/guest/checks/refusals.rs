//! Guest requests that the hypervisor or the firmware must refuse, without counting the message.

use tsmsim_abi::snp::{
    ghcb::{ExitCode, ExitInfo1, MalformedInput},
    message::{MAX_PAYLOAD, MessageType},
    payload::{ReportReq, ReportRsp},
    status::FirmwareStatus,
};

use super::report::{judge, plain_request};
use crate::guest::{
    exit::Exit,
    machine::Machine,
    message::Message,
    tap::{Check, Tap, ensure},
    to_u16,
};

const INVALID_PARAM: FirmwareStatus = FirmwareStatus::INVALID_PARAM;
const BAD_MEASUREMENT: FirmwareStatus = FirmwareStatus::BAD_MEASUREMENT;
const AEAD_OFLOW: FirmwareStatus = FirmwareStatus::AEAD_OFLOW;

type Spoil = fn(&mut Message);

/// Headers that are refused although the message authenticates, or before that is tried.
const SPOILT_BEFORE_SEALING: &[(&str, Spoil, FirmwareStatus)] = &[
    ("MSG_SEQNO: replayed", |m| m.header.msg_seqno -= 2, AEAD_OFLOW),
    ("MSG_SEQNO: one skipped", |m| m.header.msg_seqno += 2, AEAD_OFLOW),
    ("MSG_SEQNO: the response's", |m| m.header.msg_seqno += 1, AEAD_OFLOW),
    ("ALGO: invalid", |m| m.header.algo = 0, INVALID_PARAM),
    ("ALGO: unknown", |m| m.header.algo = 2, INVALID_PARAM),
    ("HDR_VERSION: unknown", |m| m.header.hdr_version = 2, INVALID_PARAM),
    ("HDR_SIZE: wrong", |m| m.header.hdr_size += 16, INVALID_PARAM),
    ("MSG_TYPE: invalid", |m| m.header.msg_type = MessageType::INVALID.0, INVALID_PARAM),
    ("MSG_TYPE: a response's", |m| m.header.msg_type = MessageType::REPORT_RSP.0, INVALID_PARAM),
    ("MSG_TYPE: unknown", |m| m.header.msg_type = 0x7f, INVALID_PARAM),
    ("MSG_VERSION: zero", |m| m.header.msg_version = 0, INVALID_PARAM),
    ("MSG_VERSION: unknown", |m| m.header.msg_version = 0xff, INVALID_PARAM),
    ("MSG_SIZE: zero", |m| m.header.msg_size.set(0), INVALID_PARAM),
    ("MSG_SIZE: not a multiple of 16", |m| m.header.msg_size += 1, INVALID_PARAM),
    ("MSG_SIZE: less than the message", |m| m.header.msg_size.set(16), INVALID_PARAM),
    ("MSG_VMPCK: unknown", |m| m.header.msg_vmpck = 4, INVALID_PARAM),
    ("MSG_VMPCK: another one's key", |m| m.header.msg_vmpck = 1, BAD_MEASUREMENT),
];

/// Messages that were changed on their way.
const SPOILT_AFTER_SEALING: &[(&str, Spoil, FirmwareStatus)] = &[
    ("AUTHTAG: one bit flipped", |m| m.header.authtag[0] ^= 1, BAD_MEASUREMENT),
    ("payload: one bit flipped", |m| m.payload[0] ^= 0x80, BAD_MEASUREMENT),
    ("MSG_TYPE: changed after sealing", |m| m.header.msg_type = MessageType::KEY_REQ.0, BAD_MEASUREMENT),
    ("MSG_SEQNO: changed after sealing", |m| m.header.msg_seqno += 2, BAD_MEASUREMENT),
    ("MSG_SIZE: more than the page", |m| m.header.msg_size.set(to_u16(MAX_PAYLOAD + 16)), INVALID_PARAM),
];

pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    for (name, spoil, status) in SPOILT_BEFORE_SEALING {
        tap.check(name, spoilt(machine, *status, spoil, |_| ()));
    }
    for (name, spoil, status) in SPOILT_AFTER_SEALING {
        tap.check(name, spoilt(machine, *status, |_| (), spoil));
    }
    let (request, response, private) = (machine.request.gpa(), machine.response.gpa(), machine.private.gpa());
    for (name, request, response) in [
        ("guest request: request page not aligned", request + 16, response),
        ("guest request: response page not aligned", request, response + 16),
        ("guest request: one page for both", request, request),
    ] {
        tap.check(name, malformed(machine, request, response));
    }
    for (name, request, response) in [
        ("guest request: private request page", private, response),
        ("guest request: private response page", request, private),
        ("guest request: request page outside memory", 1 << 46, response),
    ] {
        tap.check(name, not_served(machine, request, response));
    }
    tap.check("MSG_SEQNO: nothing was counted", still_works(machine));
}

/// The next message on VMPCK0, spoilt before or after it is sealed, must be refused.
fn spoilt(
    machine: &mut Machine,
    status: FirmwareStatus,
    before: impl FnOnce(&mut Message),
    after: impl FnOnce(&mut Message),
) -> Check {
    let request = plain_request(machine, 0);
    let channel = machine.channel(0);
    let mut message = channel.draft::<ReportReq>(MessageType::REPORT_REQ, &request);
    before(&mut message);
    channel.seal(&mut message)?;
    after(&mut message);
    machine.refused(&message, status)
}

fn malformed(machine: &Machine, request: u64, response: u64) -> Check {
    machine
        .exit(Exit::new(ExitCode::GUEST_REQUEST, request, response))
        .malformed(MalformedInput::INVALID_INPUT)
}

/// The hypervisor or the firmware complains; the specification leaves open which of the two.
fn not_served(machine: &mut Machine, request: u64, response: u64) -> Check {
    let wanted = plain_request(machine, 0);
    let channel = machine.channel(0);
    let mut message = channel.draft(MessageType::REPORT_REQ, &wanted);
    channel.seal(&mut message)?;
    machine.request.write(0, &message);
    let answer = machine.exit(Exit::new(ExitCode::GUEST_REQUEST, request, response));
    ensure!(answer.info1() != ExitInfo1::NO_ACTION || answer.info2() != 0, "it was served");
    Ok(())
}

fn still_works(machine: &mut Machine) -> Check {
    let request = plain_request(machine, 0);
    let answer: ReportRsp = machine.ask(0, MessageType::REPORT_REQ, &request)?;
    judge(&answer, &request)
}
