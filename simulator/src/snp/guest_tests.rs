use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rstest::rstest;
use tsmsim_abi::snp::{
    cert_table::{CertGuid, CertTableError},
    ghcb::{ExitCode, MalformedInput},
    message::MessageType,
    pages::CpuidFunction,
    payload::{KeyReq, KeySel},
    policy::GuestPolicy,
    tcb::ProductLine,
};
use tsmsim_keys::Seed;

use super::*;
use crate::{
    fault::{FaultAction, FaultHook, FaultPoint, NoFaults},
    snp::{
        host::{Action, build_cert_table},
        platform::PlatformConfig,
        rmp::PageState,
    },
};

const RAM: u64 = 1 << 20;
const DATA: [u8; 64] = [0x42; 64];

fn config() -> HostConfig {
    HostConfig { ram: std::iter::once(0..RAM).collect(), ..HostConfig::default() }
}

fn firmware(line: ProductLine) -> Firmware {
    Firmware::new(PlatformConfig::new(line).build(&Seed::DEFAULT).unwrap())
}

fn plan() -> LaunchPlan {
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.push(PlannedPage {
        page_type: PageType::NORMAL,
        attributes: IMAGE_GPA.into(),
        contents: PageContents::Given(Box::new([0x90; PAGE_SIZE])),
    });
    plan.host_data = [7; 32];
    plan
}

fn world() -> World {
    World::new(usize::try_from(RAM).unwrap(), Seed::DEFAULT)
}

fn launched(line: ProductLine, config: HostConfig) -> Result<InProcessGuest, GuestError> {
    InProcessGuest::launch(firmware(line), config, plan(), world())
}

fn guest() -> InProcessGuest {
    launched(ProductLine::Milan, config()).unwrap()
}

/// The first `count` times at a point.
struct Times(FaultPoint, FaultAction, u32);

impl FaultHook for Times {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point != self.0 || self.2 == 0 {
            return None;
        }
        self.2 -= 1;
        Some(self.1.clone())
    }
}

fn fault(guest: &mut InProcessGuest, point: FaultPoint, action: FaultAction, count: u32) {
    guest.world().faults = Box::new(Times(point, action, count));
}

#[rstest]
#[case(ProductLine::Milan, 2)]
#[case(ProductLine::Genoa, 3)]
#[case(ProductLine::Turin, 5)]
fn a_report_has_what_was_launched(#[case] line: ProductLine, #[case] version: u32) {
    let mut guest = launched(line, config()).unwrap();
    let report = guest.report(&DATA, 0, KeySel::VlekElseVcek).unwrap();
    assert_eq!((report.version.get(), report.report_data, report.vmpl.get()), (version, DATA, 0));
    assert_eq!((report.host_data, report.policy.get()), ([7; 32], GuestPolicy::DEFAULT.into()));
    let context = guest.hypervisor().guest_context().unwrap();
    assert_eq!(report.measurement, *context.launch_digest().as_bytes());
    assert_ne!(report.signature.r, [0; 72]);
    let again = guest.report(&[0; 64], 3, KeySel::Vcek).unwrap();
    assert_eq!((again.vmpl.get(), again.report_id), (3, report.report_id));
}

#[test]
fn the_plan_says_what_the_report_measures() {
    let memory = VecMemory::new(usize::try_from(RAM).unwrap());
    let mut whole = plan();
    for gpa in [0x2000, 0x3000] {
        whole.pages.push(PlannedPage::memory(PageType::UNMEASURED, gpa));
    }
    let measured = whole.measure(&memory).unwrap();
    let mut world = world();
    let hypervisor =
        Hypervisor::launch(firmware(ProductLine::Genoa), config(), &whole, &mut world.env().0).unwrap();
    assert_eq!(*hypervisor.guest_context().unwrap().launch_digest(), measured);
    whole.pages.push(PlannedPage::memory(PageType::NORMAL, RAM));
    assert!(whole.measure(&memory).is_err());
}

#[test]
fn the_guest_shares_its_buffers_and_nothing_else() {
    let mut guest = guest();
    let layout = guest.layout();
    for gpa in (layout.ghcb_gpa()..layout.end_gpa()).step_by(PAGE_SIZE) {
        assert!(guest.hypervisor().rmp().is_shared(gpa >> 12));
    }
    for gpa in [layout.secrets_gpa, place::CPUID, IMAGE_GPA] {
        assert_eq!(guest.hypervisor().rmp().state(gpa >> 12), Some(PageState::GuestValid));
    }
    let violation = |event: &crate::journal::Event| {
        matches!(event, crate::journal::Event::Snp(crate::snp::event::SnpEvent::Violation { .. }))
    };
    assert!(!guest.world().journal.entries().any(|(_, event)| violation(event)));
}

#[test]
fn a_hypervisor_that_returns_early_is_asked_again() {
    let mut guest = launched(ProductLine::Milan, HostConfig { psc_pages_per_exit: 3, ..config() }).unwrap();
    assert!(guest.report(&DATA, 0, KeySel::VlekElseVcek).is_ok());
}

#[test]
fn keys_depend_on_what_is_mixed_in() {
    let mut guest = guest();
    let request = KeyReq::new_zeroed();
    let key = guest.derive_key(&request).unwrap();
    assert_ne!(*key, [0; 32]);
    assert_eq!(guest.derive_key(&request).unwrap(), key);
    let other = KeyReq { vmpl: 1.into(), ..request };
    assert_ne!(guest.derive_key(&other).unwrap(), key);
    let refused = KeyReq { guest_field_select: (1 << 63).into(), ..request };
    assert_eq!(guest.derive_key(&refused), Err(GuestError::Status(FirmwareStatus::INVALID_PARAM)));
    assert!(guest.derive_key(&request).is_ok(), "a refusal in a response does no harm to the VMPCK");
}

#[test]
fn cpuid_and_tsc() {
    let mut guest = guest();
    let mut function = CpuidFunction::new_zeroed();
    function.eax_in.set(0x8000_0000);
    let (_, functions) = guest.cpuid(&[function; 2]).unwrap();
    assert_eq!(functions.len(), 2);
    assert_eq!(functions[0].eax_in.get(), 0x8000_0000);
    assert!(guest.tsc_info().is_ok());
}

#[test]
fn other_vmpcks_have_counts_of_their_own() {
    let mut guest = guest();
    guest.report(&DATA, 0, KeySel::VlekElseVcek).unwrap();
    let mut guest = guest.with_vmpck(2);
    assert_eq!(guest.message_count_for_test(), 0);
    let status = guest.report(&DATA, 1, KeySel::VlekElseVcek);
    assert_eq!(status, Err(GuestError::Status(FirmwareStatus::INVALID_PARAM)), "VMPL 1 is above VMPL 2");
    assert_eq!(guest.report(&DATA, 2, KeySel::VlekElseVcek).unwrap().vmpl.get(), 2);
    assert_eq!(guest.message_count_for_test(), 4);
}

impl InProcessGuest {
    fn message_count_for_test(&self) -> u32 {
        let mut count = [0; 4];
        let gpa = self.layout.secrets_gpa + 0xa0 + 4 * u64::from(self.vmpck);
        self.world.memory.read(gpa, &mut count).unwrap();
        u32::from_le_bytes(count)
    }
}

#[test]
fn certificates_come_along() {
    let certificates = vec![(CertGuid::VCEK, vec![1; 5000]), (CertGuid::ARK, vec![2; 3])];
    let mut guest = guest();
    let empty = guest.extended_report(&DATA, 0, KeySel::VlekElseVcek, 4).unwrap();
    assert_eq!(empty.certificates(), Ok(vec![]));
    let none = guest.extended_report(&DATA, 0, KeySel::VlekElseVcek, 0).unwrap();
    assert_eq!(none.certificates(), Err(CertTableError::NotTerminated), "no room, no table");

    guest.hypervisor_mut().set_certificates(build_cert_table(&certificates).unwrap());
    let refused = guest.extended_report(&DATA, 0, KeySel::VlekElseVcek, 1);
    assert_eq!(refused, Err(GuestError::CertificateBufferTooSmall { pages: 2 }));
    let report = guest.extended_report(&DATA, 0, KeySel::VlekElseVcek, 2).unwrap();
    assert_eq!(report.report.report_data, DATA);
    let expected = certificates.iter().map(|(guid, der)| (*guid, der.as_slice())).collect();
    assert_eq!(report.certificates(), Ok(expected));
    assert_eq!(guest.message_count_for_test(), 8, "a buffer that is too small costs a sequence number too");
}

#[test]
fn a_busy_host_is_asked_again() {
    let mut guest = guest().with_busy_retries(3);
    fault(&mut guest, FaultPoint::GHCB_GUEST_REQUEST, FaultAction::Status(2 << 32), 3);
    assert!(guest.report(&DATA, 0, KeySel::VlekElseVcek).is_ok());
    fault(&mut guest, FaultPoint::GHCB_GUEST_REQUEST, FaultAction::Status(2 << 32), 4);
    assert_eq!(guest.report(&DATA, 0, KeySel::VlekElseVcek), Err(GuestError::Busy));
    assert_eq!(guest.report(&DATA, 0, KeySel::VlekElseVcek), Err(GuestError::KeyDisabled(0)));
    let mut guest = guest.with_vmpck(1);
    assert!(guest.report(&DATA, 1, KeySel::VlekElseVcek).is_ok(), "the other VMPCKs are good");
}

const fn request_error(host: HostRequestError, firmware: FirmwareStatus) -> GuestError {
    GuestError::Request { host, firmware }
}

#[rstest]
#[case::firmware_status(
    FaultPoint::SNP_GUEST_REQUEST,
    FaultAction::Status(0x16),
    request_error(HostRequestError::NONE, FirmwareStatus::INVALID_PARAM)
)]
#[case::host_error(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::Status(0xffff_ffff << 32),
    request_error(HostRequestError::GENERIC, FirmwareStatus::SUCCESS)
)]
#[case::length_of_what(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::Status(1 << 32),
    request_error(HostRequestError::INVALID_LEN, FirmwareStatus::SUCCESS)
)]
#[case::request_damaged(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::FlipBit(0x60 * 8),
    request_error(HostRequestError::NONE, FirmwareStatus::BAD_MEASUREMENT)
)]
#[case::response_dropped(
    FaultPoint::GHCB_GUEST_REQUEST,
    FaultAction::Drop,
    GuestError::Response(ResponseError::SequenceNumber { expected: 2, found: 0 })
)]
#[case::exit_refused(
    FaultPoint::GHCB_EXIT,
    FaultAction::Status(MalformedInput::INVALID_EVENT.0),
    GuestError::Hypervisor { info1: 2, info2: 6 }
)]
#[case::sequence_number(
    FaultPoint::SNP_RESPONSE,
    FaultAction::FlipBit(0x20 * 8),
    GuestError::Response(ResponseError::SequenceNumber { expected: 2, found: 3 })
)]
#[case::response_tag(
    FaultPoint::SNP_RESPONSE,
    FaultAction::FlipBit(0),
    GuestError::Response(ResponseError::Tag)
)]
#[case::response_short(
    FaultPoint::SNP_RESPONSE,
    FaultAction::Truncate(0x200),
    GuestError::Response(ResponseError::Tag)
)]
fn what_goes_wrong_wipes_the_key(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] error: GuestError,
) {
    let mut guest = guest();
    fault(&mut guest, point, action, 1);
    assert_eq!(guest.report(&DATA, 0, KeySel::VlekElseVcek), Err(error));
    assert_eq!(guest.report(&DATA, 0, KeySel::VlekElseVcek), Err(GuestError::KeyDisabled(0)));
}

#[test]
fn raw_messages() {
    let mut guest = guest();
    let refused = guest.raw(MessageType::REPORT_REQ, 9, &[0; 0x60]);
    assert_eq!(refused, Err(request_error(HostRequestError::NONE, FirmwareStatus::INVALID_PARAM)));
    let mut guest = guest.with_vmpck(3);
    let too_large = guest.raw(MessageType::REPORT_REQ, 1, &[0; 4001]);
    assert_eq!(too_large, Err(GuestError::PayloadTooLarge(4001)));
    let report = guest.raw(MessageType::REPORT_REQ, 1, &[0; 0x60]).unwrap();
    assert_eq!(report[..4], FirmwareStatus::INVALID_PARAM.0.to_le_bytes(), "VMPL 0 is above VMPL 3");
}

#[test]
fn sequence_numbers_end() {
    let mut guest = guest();
    let gpa = guest.layout().secrets_gpa + 0xa0;
    guest.world().memory.write(gpa, &(u32::MAX - 1).to_le_bytes()).unwrap();
    let report = guest.report(&DATA, 0, KeySel::VlekElseVcek);
    assert_eq!(report, Err(GuestError::SequenceNumberExhausted));
}

#[rstest]
#[case::silent(FaultAction::Drop)]
#[case::no_common_version(FaultAction::Status(0x0009_0003_3300_0001))]
fn a_hypervisor_that_does_not_negotiate(#[case] action: FaultAction) {
    let mut world = world();
    world.faults = Box::new(Times(FaultPoint::GHCB_MSR, action, 1));
    let guest = InProcessGuest::launch(firmware(ProductLine::Milan), config(), plan(), world);
    assert!(matches!(guest.map(drop), Err(GuestError::Protocol(_))));
}

#[test]
fn launches_fail_with_the_command_that_failed() {
    let status = FirmwareStatus::POLICY_FAILURE;
    let refused = LaunchPlan { start: GuestPolicy::new().into(), ..plan() };
    let guest = InProcessGuest::launch(firmware(ProductLine::Milan), config(), refused, world());
    let error = LaunchError::Command { command: "SNP_LAUNCH_START", status };
    assert_eq!(guest.map(drop), Err(GuestError::Launch(error)));
    let mut twice = plan();
    twice.pages.push(PlannedPage::memory(PageType::ZERO, IMAGE_GPA));
    let guest = InProcessGuest::launch(firmware(ProductLine::Milan), config(), twice, world());
    assert!(matches!(guest.map(drop), Err(GuestError::Launch(LaunchError::Rmp { gpa: IMAGE_GPA, .. }))));
    let mut outside = plan();
    outside.pages.push(PlannedPage::memory(PageType::ZERO, RAM));
    let guest = InProcessGuest::launch(firmware(ProductLine::Milan), config(), outside, world());
    assert!(matches!(guest.map(drop), Err(GuestError::Launch(LaunchError::Memory(_)))));
}

#[test]
fn a_layout_must_fit() {
    let mut world = world();
    let mut hypervisor =
        || Hypervisor::launch(firmware(ProductLine::Milan), config(), &plan(), &mut world.env().0).unwrap();
    let (first, second) = (hypervisor(), hypervisor());
    let layout = GuestLayout {
        secrets_gpa: 0xe000,
        buffers_gpa: RAM - 0x3000,
        cert_pages: 1,
        buffers_are_private: false,
    };
    assert!(matches!(
        InProcessGuest::attach(first, self::world(), layout).map(drop),
        Err(GuestError::Memory(_))
    ));
    let layout = GuestLayout { cert_pages: 0, ..layout };
    let mut guest = InProcessGuest::attach(second, self::world(), layout).unwrap();
    assert_eq!(
        guest.report(&DATA, 0, KeySel::Vcek),
        Err(GuestError::KeyDisabled(0)),
        "no secrets page was launched"
    );
    assert!(matches!(
        guest.ghcb_call(ExitCode::TERMINATION_REQUEST, 0, 0, |_| {}),
        Err(GuestError::Terminated)
    ));
    assert!(matches!(guest.hypervisor().terminated().map(Action::Terminated), Some(Action::Terminated(_))));
}

/// One thing a guest may meet: talking under a VMPCK, maybe with a fault on the way.
fn exchange() -> impl Strategy<Value = (u8, bool, Option<(FaultPoint, FaultAction)>)> {
    let point = prop::sample::select(FaultPoint::ALL.to_vec());
    let action = prop_oneof![
        any::<u32>().prop_map(|status| FaultAction::Status(status.into())),
        (1u64..3).prop_map(|host| FaultAction::Status(host << 32)),
        (0usize..4096 * 8).prop_map(FaultAction::FlipBit),
        (0usize..0x600).prop_map(FaultAction::Truncate),
        Just(FaultAction::Drop),
    ];
    (0u8..4, any::<bool>(), prop::option::of((point, action)))
}

#[test]
fn sequence_numbers_never_drift_while_a_key_is_good() {
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(exchange(), 1..16), |exchanges| {
            let mut guest = guest();
            for (vmpck, extended, planned) in exchanges {
                guest = guest.with_vmpck(vmpck).with_busy_retries(1);
                match planned {
                    Some((point, action)) => fault(&mut guest, point, action, 1),
                    None => guest.world().faults = Box::new(NoFaults),
                }
                let result = match extended {
                    true => guest.extended_report(&DATA, 3, KeySel::Vcek, 1).map(|report| report.report),
                    false => guest.report(&DATA, 3, KeySel::Vcek),
                };
                let disabled = guest.key_for_test() == [0; 32];
                let count = guest.hypervisor().guest_context().unwrap().msg_count()[usize::from(vmpck)];
                prop_assert!(disabled || u64::from(guest.message_count_for_test()) == count);
                prop_assert!(!disabled || result.is_err());
            }
            Ok(())
        })
        .unwrap();
}

impl InProcessGuest {
    fn key_for_test(&self) -> [u8; 32] {
        let mut key = [0; 32];
        let gpa = self.layout.secrets_gpa + 0x20 + 32 * u64::from(self.vmpck);
        self.world.memory.read(gpa, &mut key).unwrap();
        key
    }
}
