//! What a guest, and a judge, sees when something goes wrong on the host's side.

use rstest::rstest;
use tsmsim_abi::snp::{
    ghcb::{HostRequestError, MalformedInput, guest_request_result},
    message::MessageType,
    payload::KeySel,
    status::FirmwareStatus,
    tcb::ProductLine,
};
use tsmsim_evidence::{
    Outcome, Verdict,
    snp::{Bundle, Policy, verify},
};
use tsmsim_simulator::{
    fault::{FaultAction, FaultHook, FaultPoint},
    journal::Event,
    snp::guest::{ExtendedReport, GuestError, InProcessGuest, ResponseError},
};
use zerocopy::IntoBytes as _;

use crate::made;

/// An action at a point, each time that it is passed up to this often.
struct Planned {
    point: FaultPoint,
    action: FaultAction,
    times: u32,
}

impl FaultHook for Planned {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point != self.point || self.times == 0 {
            return None;
        }
        self.times -= 1;
        Some(self.action.clone())
    }
}

fn guest_with(point: FaultPoint, action: FaultAction, times: u32) -> InProcessGuest {
    let mut guest = made::guest(made::platform(ProductLine::Genoa, 3, false));
    guest.world().faults = Box::new(Planned { point, action, times });
    guest
}

fn ask(guest: &mut InProcessGuest) -> Result<ExtendedReport, GuestError> {
    let pages = guest.layout().cert_pages;
    guest.extended_report(&made::REPORT_DATA, 0, KeySel::VlekElseVcek, pages)
}

const fn request(host: HostRequestError, firmware: FirmwareStatus) -> GuestError {
    GuestError::Request { host, firmware }
}

/// The first byte of the encrypted payload in a message's page, after the 60h bytes of its header; and its bit.
const PAYLOAD_BIT: usize = 0x60 * 8;
const BUSY: FaultAction =
    FaultAction::Status(guest_request_result(HostRequestError::BUSY, FirmwareStatus::SUCCESS));

/// What is wrong with a response, the guest cannot trust: it never uses that key again.
#[rstest]
#[case::tag(FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(0), GuestError::Response(ResponseError::Tag))]
#[case::payload(
    FaultPoint::SNP_RESPONSE,
    FaultAction::FlipBit(PAYLOAD_BIT),
    GuestError::Response(ResponseError::Tag)
)]
#[case::cut_off(
    FaultPoint::SNP_RESPONSE,
    FaultAction::Truncate(0x100),
    GuestError::Response(ResponseError::Tag)
)]
#[case::replayed(
    FaultPoint::SNP_RESPONSE,
    FaultAction::FlipBit(0x20 * 8),
    GuestError::Response(ResponseError::SequenceNumber { expected: 2, found: 3 })
)]
#[case::another_type(
    FaultPoint::SNP_RESPONSE,
    FaultAction::Overwrite { offset: 0x34, bytes: vec![MessageType::KEY_RSP.0] },
    GuestError::Response(ResponseError::Type { expected: MessageType::REPORT_RSP, found: MessageType::KEY_RSP })
)]
#[case::none(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::Drop,
    GuestError::Response(ResponseError::SequenceNumber { expected: 2, found: 0 })
)]
#[case::firmware_status(
    FaultPoint::SNP_GUEST_REQUEST,
    FaultAction::Status(FirmwareStatus::RESOURCE_LIMIT.0 as u64),
    request(HostRequestError::NONE, FirmwareStatus::RESOURCE_LIMIT)
)]
#[case::request_damaged(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::FlipBit(PAYLOAD_BIT),
    request(HostRequestError::NONE, FirmwareStatus::BAD_MEASUREMENT)
)]
#[case::host_error(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::Status(guest_request_result(HostRequestError::GENERIC, FirmwareStatus::SUCCESS)),
    request(HostRequestError::GENERIC, FirmwareStatus::SUCCESS)
)]
#[case::always_busy(FaultPoint::GHCB_GUEST_REQUEST, BUSY, GuestError::Busy)]
#[case::exit_refused(
    FaultPoint::GHCB_EXIT,
    FaultAction::Status(MalformedInput::INVALID_EVENT.0),
    GuestError::Hypervisor { info1: 2, info2: MalformedInput::INVALID_EVENT.0 }
)]
fn the_guest_gives_up_its_key(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] error: GuestError,
) {
    let mut guest = guest_with(point, action.clone(), 1000);
    assert_eq!(ask(&mut guest), Err(error));
    let faults: Vec<_> = guest
        .world()
        .journal
        .entries()
        .filter_map(|(_, event)| match event {
            Event::Fault { point, action } => Some((*point, action.clone())),
            _ => None,
        })
        .collect();
    assert!(!faults.is_empty() && faults.iter().all(|fault| *fault == (point, action.clone())), "{faults:?}");
    guest.world().faults = Box::new(tsmsim_simulator::fault::NoFaults);
    assert_eq!(ask(&mut guest), Err(GuestError::KeyDisabled(0)));
    let mut other = guest.with_vmpck(1);
    assert!(other.report(&made::REPORT_DATA, 1, KeySel::VlekElseVcek).is_ok(), "the other keys are good");
}

/// After these the guest goes on with the same key.
#[rstest]
#[case::busy_for_a_while(FaultPoint::GHCB_GUEST_REQUEST, BUSY, 3, None)]
#[case::refused_in_the_response(
    FaultPoint::SNP_MESSAGE,
    FaultAction::Status(FirmwareStatus::INVALID_PARAM.0 as u64),
    1,
    Some(GuestError::Status(FirmwareStatus::INVALID_PARAM))
)]
#[case::no_such_action(FaultPoint::SNP_MESSAGE, FaultAction::Truncate(4), 1, None)]
fn the_guest_goes_on(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] times: u32,
    #[case] error: Option<GuestError>,
) {
    let mut guest = guest_with(point, action, times);
    assert_eq!(ask(&mut guest).err(), error);
    assert!(ask(&mut guest).is_ok());
}

/// What the guest cannot tell, the judge tells.
#[rstest]
#[case::measurement(FaultPoint::SNP_REPORT, FaultAction::FlipBit(0x90 * 8), "report: signature: ")]
#[case::signature(FaultPoint::SNP_REPORT, FaultAction::FlipBit(0x2a0 * 8), "report: signature: ")]
#[case::report_data(
    FaultPoint::SNP_REPORT,
    FaultAction::Overwrite { offset: 0x50, bytes: vec![0; 64] },
    "report: report_data: differs from the inblob at byte 0"
)]
#[case::chip_id(FaultPoint::SNP_REPORT, FaultAction::FlipBit(0x1a0 * 8), "report: chip_id: ")]
#[case::certificate(FaultPoint::GHCB_CERTIFICATES, FaultAction::FlipBit(0x200 * 8), "VCEK: ")]
#[case::table(FaultPoint::GHCB_CERTIFICATES, FaultAction::FlipBit(0x10 * 8), "certificate table: layout: ")]
#[case::table_cut_off(FaultPoint::GHCB_CERTIFICATES, FaultAction::Truncate(0x800), "ARK: ")]
#[case::no_table(FaultPoint::GHCB_CERTIFICATES, FaultAction::Drop, "ARK: certificate: ")]
fn the_judge_refuses(#[case] point: FaultPoint, #[case] action: FaultAction, #[case] reason: &str) {
    let judged = |guest: &mut InProcessGuest| -> Verdict {
        let ExtendedReport { report, certificates } = ask(guest).unwrap();
        let bundle = Bundle {
            report: report.as_bytes().to_vec(),
            table: Some(certificates),
            inblob: Some(made::REPORT_DATA.to_vec()),
            ..Bundle::default()
        };
        verify(&bundle, &Policy::at("2026-01-01".parse().unwrap()))
    };
    let mut guest = guest_with(point, action, 1);
    let verdict = judged(&mut guest);
    let failed = verdict.checks.iter().filter(|check| check.outcome == Outcome::Failed);
    let named: Vec<_> =
        failed.map(|check| format!("{}: {}: {}", check.object, check.field, check.detail)).collect();
    assert!(named.iter().any(|found| found.starts_with(reason)), "{named:#?}");
    assert_eq!(judged(&mut guest).reason(), None, "the next one is good");
}
