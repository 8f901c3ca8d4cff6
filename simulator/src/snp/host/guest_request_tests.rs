use rstest::rstest;
use tsmsim_abi::snp::{
    cert_table::CertGuid,
    ghcb::{ExitCode, Ghcb},
};

use super::*;
use crate::snp::{
    event::{SnpEvent, Violation},
    host::{HostConfig, build_cert_table, testing::*},
};

const REQUEST: u64 = SHARED;
const RESPONSE: u64 = SHARED + PAGE;
const CERTS: u64 = SHARED + 2 * PAGE;
const MALFORMED: u64 = 2;

/// Two pages and a bit.
fn table() -> Vec<u8> {
    build_cert_table(&[(CertGuid::VCEK, vec![1; 4096]), (CertGuid::ASK, vec![2; 4096])]).unwrap()
}

fn machine() -> Machine {
    let machine = Machine::with(HostConfig { certificates: table(), ..config() });
    // Not a message that authenticates: what the firmware says of it shows that it was asked.
    let mut message = [0; PAGE_SIZE];
    message[core::mem::offset_of!(MessageHeader, msg_type)] = MessageType::REPORT_REQ.0;
    machine.world.memory.write(REQUEST, &message).unwrap();
    machine
}

const REFUSED_BY_FIRMWARE: (u64, u64) = (0, FirmwareStatus::INVALID_PARAM.0 as u64);

fn certs(rax: u64, rbx: u64) -> impl FnOnce(&mut Ghcb) {
    move |ghcb| {
        set(ghcb, GhcbField::RAX, rax);
        set(ghcb, GhcbField::RBX, rbx);
    }
}

fn asked(machine: &Machine) -> usize {
    let command = |event: &crate::journal::Event| {
        matches!(event, crate::journal::Event::Snp(SnpEvent::Command { name: "SNP_GUEST_REQUEST", .. }))
    };
    machine.world.journal.entries().filter(|(_, event)| command(event)).count()
}

#[test]
fn a_request_reaches_the_firmware() {
    let mut machine = machine();
    let before = machine.bytes(RESPONSE, PAGE_SIZE);
    assert_eq!(machine.infos(ExitCode::GUEST_REQUEST, REQUEST, RESPONSE, |_| {}), REFUSED_BY_FIRMWARE);
    assert_eq!(machine.bytes(RESPONSE, PAGE_SIZE), before, "no response, nothing written");
    assert_eq!(asked(&machine), 1);
}

#[rstest]
#[case::request_misaligned(REQUEST + 1, RESPONSE, None)]
#[case::response_misaligned(REQUEST, RESPONSE + 0x800, None)]
#[case::same_page(REQUEST, REQUEST, None)]
#[case::request_private(PRIVATE, RESPONSE, Some((PRIVATE, Violation::HostAccessToPrivate)))]
#[case::response_private(REQUEST, PRIVATE, Some((PRIVATE, Violation::HostAccessToPrivate)))]
#[case::request_outside(RAM, RESPONSE, Some((RAM, Violation::OutOfRange)))]
#[case::response_outside(REQUEST, u64::MAX << 12, Some((u64::MAX << 12, Violation::OutOfRange)))]
fn unusable_pages(
    #[case] request: u64,
    #[case] response: u64,
    #[case] violation: Option<(u64, Violation)>,
    #[values(ExitCode::GUEST_REQUEST, ExitCode::EXTENDED_GUEST_REQUEST)] code: ExitCode,
) {
    let mut machine = machine();
    let invalid = (MALFORMED, MalformedInput::INVALID_INPUT.0);
    assert_eq!(machine.infos(code, request, response, certs(CERTS, 3)), invalid);
    assert_eq!(machine.violations(), violation.into_iter().collect::<Vec<_>>());
    assert_eq!(asked(&machine), 0);
}

#[rstest]
#[case::none(0)]
#[case::too_few(2)]
fn too_few_pages_for_the_certificates(#[case] pages: u64) {
    let mut machine = machine();
    let (ghcb, _) = machine.exit(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(CERTS, pages));
    assert_eq!(infos(&ghcb), (0, 1 << 32));
    assert_eq!(get(&ghcb, GhcbField::RBX), Some(3));
    assert_eq!(asked(&machine), 0);
    assert_eq!(machine.bytes(CERTS, 64), [0; 64]);
}

#[rstest]
#[case::just_enough(3)]
#[case::more_than_there_is(u64::MAX)]
fn certificates_are_written(#[case] pages: u64) {
    let mut machine = machine();
    let (ghcb, _) = machine.exit(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(CERTS, pages));
    assert_eq!((infos(&ghcb), get(&ghcb, GhcbField::RBX)), (REFUSED_BY_FIRMWARE, None));
    assert_eq!(machine.bytes(CERTS, table().len()), table());
    assert_eq!(asked(&machine), 1);
}

#[rstest]
#[case::room(1, [0; 24])]
#[case::no_room(0, [0xff; 24])]
fn a_host_without_certificates_gives_an_empty_table(#[case] pages: u64, #[case] expected: [u8; 24]) {
    let mut machine = machine();
    machine.hypervisor.set_certificates(Vec::new());
    machine.world.memory.write(CERTS, &[0xff; 25]).unwrap();
    let infos = machine.infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(CERTS, pages));
    assert_eq!(infos, REFUSED_BY_FIRMWARE);
    assert_eq!(machine.bytes(CERTS, 25), [&expected[..], &[0xff]].concat());
}

#[rstest]
#[case::misaligned(CERTS + 8, 3, MalformedInput::INVALID_INPUT)]
#[case::private(PRIVATE, 3, MalformedInput::INVALID_INPUT)]
#[case::into_outside(RAM - 2 * PAGE, 3, MalformedInput::INVALID_INPUT)]
#[case::outside(u64::MAX << 12, 3, MalformedInput::INVALID_INPUT)]
fn unusable_certificate_buffers(#[case] gpa: u64, #[case] pages: u64, #[case] reason: MalformedInput) {
    let mut machine = machine();
    let infos = machine.infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(gpa, pages));
    assert_eq!(infos, (MALFORMED, reason.0));
    assert_eq!(asked(&machine), 0);
}

#[test]
fn a_report_needs_both_registers_and_others_need_none() {
    let mut machine = machine();
    let infos = machine
        .infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, |ghcb| set(ghcb, GhcbField::RAX, CERTS));
    assert_eq!(infos, (MALFORMED, MalformedInput::MISSING_INPUT.0));
    let msg_type = REQUEST + core::mem::offset_of!(MessageHeader, msg_type) as u64;
    machine.world.memory.write(msg_type, &[MessageType::KEY_REQ.0]).unwrap();
    let infos = machine.infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, |_| {});
    assert_eq!(infos, REFUSED_BY_FIRMWARE);
}

#[rstest]
#[case::busy(FaultPoint::GHCB_GUEST_REQUEST, FaultAction::Status(2 << 32), (0, 2 << 32), false, 0)]
#[case::certificates(FaultPoint::GHCB_CERTIFICATES, FaultAction::Status(1 << 32), (0, 1 << 32), false, 0)]
#[case::no_certificates(FaultPoint::GHCB_CERTIFICATES, FaultAction::Drop, REFUSED_BY_FIRMWARE, false, 1)]
fn faults(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] expected: (u64, u64),
    #[case] written: bool,
    #[case] commands: usize,
) {
    let mut machine = machine();
    machine.fault(point, action);
    let infos = machine.infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(CERTS, 3));
    assert_eq!(infos, expected);
    assert_eq!(machine.bytes(CERTS, table().len()) == table(), written);
    assert_eq!(asked(&machine), commands);
}

#[test]
fn a_damaged_table_is_delivered() {
    let mut machine = machine();
    machine.fault(FaultPoint::GHCB_CERTIFICATES, FaultAction::Truncate(100));
    machine.infos(ExitCode::EXTENDED_GUEST_REQUEST, REQUEST, RESPONSE, certs(CERTS, 3));
    let mut expected = table();
    expected[100..].fill(0);
    assert_eq!(machine.bytes(CERTS, expected.len()), expected);
}
