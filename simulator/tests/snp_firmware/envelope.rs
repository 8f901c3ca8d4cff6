//! `SNP_GUEST_REQUEST`: the checks of the envelope, in order, and the sequence numbers.

use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::snp::{
    message::MessageType,
    payload::{ReportReq, ReportRsp, TscInfoReq},
    policy::GuestPolicy,
    status::FirmwareStatus,
};
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint},
    journal::Event,
    snp::event::SnpEvent,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::support::{ASID, GUEST, Guest, Machine, Message};

fn running() -> (Machine, Guest) {
    let mut machine = Machine::genoa();
    let guest = machine.running();
    (machine, guest)
}

fn tsc_info(guest: &Guest) -> Message {
    guest.message(MessageType::TSC_INFO_REQ, 0, TscInfoReq::new_zeroed().as_bytes())
}

type Edit = fn(&mut Message);

/// Each is refused with its status, takes no sequence number, and a good message passes afterwards.
#[rstest]
#[case::header_version_0(|m: &mut Message| m.header.hdr_version = 0, FirmwareStatus::INVALID_PARAM)]
#[case::header_version_2(|m: &mut Message| m.header.hdr_version = 2, FirmwareStatus::INVALID_PARAM)]
#[case::header_size(|m: &mut Message| m.header.hdr_size = 0x61.into(), FirmwareStatus::INVALID_PARAM)]
#[case::algorithm_invalid(|m: &mut Message| m.header.algo = 0, FirmwareStatus::INVALID_PARAM)]
#[case::algorithm_unknown(|m: &mut Message| m.header.algo = 2, FirmwareStatus::INVALID_PARAM)]
#[case::size_zero(|m: &mut Message| { m.payload.clear(); m.header.msg_size = 0.into(); }, FirmwareStatus::INVALID_PARAM)]
#[case::size_not_of_blocks(|m: &mut Message| { m.payload.pop(); m.header.msg_size = 127.into(); }, FirmwareStatus::INVALID_PARAM)]
#[case::size_beyond_the_page(|m: &mut Message| m.header.msg_size = 4016.into(), FirmwareStatus::INVALID_PARAM)]
#[case::vmpck_4(|m: &mut Message| m.header.msg_vmpck = 4, FirmwareStatus::INVALID_PARAM)]
#[case::vmpck_255(|m: &mut Message| m.header.msg_vmpck = 255, FirmwareStatus::INVALID_PARAM)]
#[case::size_shorter_than_sealed(|m: &mut Message| m.header.msg_size = 112.into(), FirmwareStatus::BAD_MEASUREMENT)]
#[case::replayed(|m: &mut Message| m.header.msg_seqno = 0.into(), FirmwareStatus::AEAD_OFLOW)]
#[case::ahead(|m: &mut Message| m.header.msg_seqno = 2.into(), FirmwareStatus::AEAD_OFLOW)]
#[case::last(|m: &mut Message| m.header.msg_seqno = u64::MAX.into(), FirmwareStatus::AEAD_OFLOW)]
#[case::message_version_0(|m: &mut Message| m.header.msg_version = 0, FirmwareStatus::INVALID_PARAM)]
#[case::message_version_2(|m: &mut Message| m.header.msg_version = 2, FirmwareStatus::INVALID_PARAM)]
#[case::type_invalid(|m: &mut Message| m.header.msg_type = 0, FirmwareStatus::INVALID_PARAM)]
#[case::type_of_a_response(|m: &mut Message| m.header.msg_type = 18, FirmwareStatus::INVALID_PARAM)]
#[case::type_unknown(|m: &mut Message| m.header.msg_type = 19, FirmwareStatus::INVALID_PARAM)]
#[case::too_small(|m: &mut Message| { m.payload.truncate(112); m.header.msg_size = 112.into(); }, FirmwareStatus::INVALID_PARAM)]
fn refused(#[case] edit: Edit, #[case] status: FirmwareStatus) {
    let (mut machine, mut guest) = running();
    let mut message = tsc_info(&guest);
    edit(&mut message);
    // The size of a message that is sealed must be the payload's, or it will not authenticate.
    assert_eq!(guest.send(&mut machine, &message).err(), Some(status));
    assert_eq!(machine.firmware.guest(GUEST).unwrap().msg_count(), &[0; 4]);
    let (_, last) = machine.journal.entries().last().unwrap();
    assert_eq!(last, &Event::Snp(SnpEvent::Command { name: "SNP_GUEST_REQUEST", status }));
    let message = tsc_info(&guest);
    assert_eq!(guest.send(&mut machine, &message).unwrap().status(), FirmwareStatus::SUCCESS);
}

/// Two things wrong: the earlier check answers.
#[rstest]
#[case::header_before_tag(|m: &mut Message| m.header.hdr_version = 2, true, FirmwareStatus::INVALID_PARAM)]
#[case::tag_before_sequence(|m: &mut Message| m.header.msg_seqno = 7.into(), true, FirmwareStatus::BAD_MEASUREMENT)]
#[case::sequence_before_version(
    |m: &mut Message| { m.header.msg_seqno = 7.into(); m.header.msg_version = 9; },
    false,
    FirmwareStatus::AEAD_OFLOW
)]
fn order(#[case] edit: Edit, #[case] break_tag: bool, #[case] status: FirmwareStatus) {
    let (mut machine, guest) = running();
    let mut message = tsc_info(&guest);
    edit(&mut message);
    let mut page = message.seal(&guest.secrets.vmpck[0]);
    page[0] ^= u8::from(break_tag);
    assert_eq!(machine.request(GUEST, &page).err(), Some(status));
}

/// Header bytes 0 to 2Fh but tag and sequence number are not authenticated, nor looked at; all others are.
#[test]
fn a_flipped_bit_anywhere() {
    let (mut machine, guest) = running();
    let page = tsc_info(&guest).seal(&guest.secrets.vmpck[0]);
    for at in 0..0x60 + 0x80 {
        let ignored = (0x10..0x20).contains(&at) || (0x28..0x30).contains(&at);
        let mut flipped = page;
        flipped[at] ^= 0x80;
        if !ignored {
            assert!(machine.request(GUEST, &flipped).is_err(), "byte {at:#x}");
        }
    }
    let mut flipped = page;
    flipped[0x10..0x20].fill(0xff);
    flipped[0x28..0x30].fill(0xff);
    assert!(machine.request(GUEST, &flipped).is_ok());
}

#[rstest]
#[case::unaligned(GUEST + 1, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(GUEST + 0x1000, FirmwareStatus::INVALID_GUEST)]
fn context_address(#[case] gctx: u64, #[case] status: FirmwareStatus) {
    let (mut machine, guest) = running();
    let page = tsc_info(&guest).seal(&guest.secrets.vmpck[0]);
    assert_eq!(machine.request(gctx, &page).err(), Some(status));
}

#[test]
fn a_guest_that_does_not_run_yet() {
    let mut machine = Machine::genoa();
    let guest = machine.launch(GUEST, ASID, &GuestPolicy::DEFAULT.into());
    let page = tsc_info(&guest).seal(&guest.secrets.vmpck[0]);
    assert_eq!(machine.request(GUEST, &page).err(), Some(FirmwareStatus::INVALID_GUEST_STATE));
}

#[test]
fn each_vmpck_has_its_own_key_and_count() {
    let (mut machine, mut guest) = running();
    for vmpck in [3, 1, 3, 0, 2, 3] {
        let response = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, vmpck, &TscInfoReq::new_zeroed());
        assert_eq!(response.status(), FirmwareStatus::SUCCESS);
    }
    assert_eq!(machine.firmware.guest(GUEST).unwrap().msg_count(), &[2, 2, 2, 6]);
    let page = guest.message(MessageType::TSC_INFO_REQ, 1, &[0; 128]).seal(&guest.secrets.vmpck[0]);
    assert_eq!(machine.request(GUEST, &page).err(), Some(FirmwareStatus::BAD_MEASUREMENT));
}

#[test]
fn a_refusal_inside_the_message_still_takes_its_sequence_number() {
    let (mut machine, mut guest) = running();
    let response = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 0, &[1_u8; 128]);
    assert_eq!(response.status(), FirmwareStatus::INVALID_PARAM);
    assert_eq!(machine.firmware.guest(GUEST).unwrap().msg_count()[0], 2);
    let message = Event::Snp(SnpEvent::Message {
        vmpck: 0,
        msg_type: MessageType::TSC_INFO_REQ,
        seqno: 1,
        status: FirmwareStatus::INVALID_PARAM,
    });
    assert!(machine.journal.entries().any(|(_, event)| *event == message));
}

#[rstest]
#[case::command(
    FaultPoint::SNP_GUEST_REQUEST,
    FaultAction::Status(0x13),
    Err(FirmwareStatus::HWERROR_PLATFORM)
)]
#[case::message(FaultPoint::SNP_MESSAGE, FaultAction::Status(0x27), Ok(FirmwareStatus::INVALID_KEY))]
#[case::report_not_made(FaultPoint::SNP_REPORT, FaultAction::FlipBit(0), Ok(FirmwareStatus::SUCCESS))]
fn faults(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] expected: Result<FirmwareStatus, FirmwareStatus>,
) {
    let (mut machine, mut guest) = running();
    machine.faults.0 = Some((point, action.clone()));
    let message = guest.message(MessageType::REPORT_REQ, 0, ReportReq::new_zeroed().as_bytes());
    let result = guest.send(&mut machine, &message);
    assert_eq!(result.as_ref().map(Message::status).map_err(|status| *status), expected);
    if let Ok(response) = result {
        let report = response.read::<ReportRsp>().report;
        let version = u32::from(point == FaultPoint::SNP_REPORT) * 2;
        assert_eq!(report.version.get(), version, "bit 0 of version 3 was flipped, or there is no report");
    }
    assert!(
        machine.journal.entries().any(|(_, event)| *event == Event::Fault { point, action: action.clone() })
    );
    assert!(!machine.journal.entries().any(|(_, event)| matches!(event, Event::FaultIgnored { .. })));
}

#[rstest]
#[case::no_status(FaultPoint::SNP_GUEST_REQUEST, FaultAction::FlipBit(0))]
#[case::no_error(FaultPoint::SNP_GUEST_REQUEST, FaultAction::Status(0))]
#[case::no_firmware_status(FaultPoint::SNP_GUEST_REQUEST, FaultAction::Status(1 << 32))]
#[case::message(FaultPoint::SNP_MESSAGE, FaultAction::Drop)]
#[case::no_data(FaultPoint::SNP_REPORT, FaultAction::Status(5))]
#[case::outside(FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(usize::MAX))]
fn faults_that_make_no_sense_are_journalled(#[case] point: FaultPoint, #[case] action: FaultAction) {
    let (mut machine, mut guest) = running();
    machine.faults.0 = Some((point, action.clone()));
    let message = guest.message(MessageType::REPORT_REQ, 0, ReportReq::new_zeroed().as_bytes());
    let response = guest.send(&mut machine, &message).unwrap();
    assert_eq!(response.status(), FirmwareStatus::SUCCESS);
    let ignored = Event::FaultIgnored { point, action };
    assert!(machine.journal.entries().any(|(_, event)| *event == ignored));
}

#[test]
fn a_response_can_be_damaged() {
    let (mut machine, guest) = running();
    machine.faults.0 = Some((FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(8 * 0x60)));
    let key = guest.secrets.vmpck[0];
    let page = machine.request(GUEST, &tsc_info(&guest).seal(&key)).unwrap();
    assert!(Message::open(&page, &key).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_page_has_a_status(bytes in prop::collection::vec(any::<u8>(), 4096), good_header: bool) {
        let (mut machine, guest) = running();
        let mut page: [u8; 4096] = bytes.try_into().unwrap();
        if good_header {
            page[..0x60].copy_from_slice(&tsc_info(&guest).seal(&guest.secrets.vmpck[0])[..0x60]);
        }
        let status = machine.request(GUEST, &page).unwrap_err();
        prop_assert!(matches!(status, FirmwareStatus::INVALID_PARAM | FirmwareStatus::BAD_MEASUREMENT));
    }

    /// Whatever a guest encrypts properly has a status, or a response that it can decrypt.
    #[test]
    fn any_message_has_a_status(
        msg_type in 0_u8..20,
        version in 0_u8..4,
        blocks in 1_usize..=250,
        seed in prop::collection::vec(any::<u8>(), 64),
        zeros: bool,
    ) {
        let (mut machine, mut guest) = running();
        let fill = |i: usize| if zeros && i >= 8 { 0 } else { seed[i % 64] };
        let payload: Vec<u8> = (0..blocks * 16).map(fill).collect();
        let mut message = guest.message(MessageType(msg_type), 0, &payload);
        message.header.msg_version = version;
        if let Err(status) = guest.send(&mut machine, &message) {
            prop_assert_eq!(status, FirmwareStatus::INVALID_PARAM);
        }
    }

    /// The count of each VMPCK against a model, whatever numbers are tried.
    #[test]
    fn sequence_numbers(steps in prop::collection::vec((0_u8..4, prop_oneof![Just(1_u64), 0..6_u64], any::<bool>()), 1..40)) {
        let (mut machine, mut guest) = running();
        let mut model = [0_u64; 4];
        for (vmpck, ahead, break_tag) in steps {
            let count = &mut model[usize::from(vmpck)];
            let seqno = count.wrapping_add(ahead).wrapping_sub(u64::from(ahead == 5) * 6);
            let message = Message::new(MessageType::TSC_INFO_REQ, vmpck, seqno, &[0; 128]);
            let key = guest.secrets.vmpck[usize::from(vmpck)];
            let mut page = message.seal(&key);
            page[0x60] ^= u8::from(break_tag);
            let result = machine.request(GUEST, &page);
            if break_tag {
                prop_assert_eq!(result.err(), Some(FirmwareStatus::BAD_MEASUREMENT));
            } else if seqno == *count + 1 {
                prop_assert!(Message::open(&result.unwrap(), &key).is_some());
                *count += 2;
            } else {
                prop_assert_eq!(result.err(), Some(FirmwareStatus::AEAD_OFLOW));
            }
            prop_assert_eq!(machine.firmware.guest(GUEST).unwrap().msg_count(), &model);
        }
        guest.count = model;
        let tsc = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 0, &TscInfoReq::new_zeroed());
        prop_assert_eq!(tsc.status(), FirmwareStatus::SUCCESS);
    }
}
