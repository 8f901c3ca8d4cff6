use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rstest::rstest;
use tsmsim_abi::snp::msr::{TerminationReason, page_state_change_response};

use super::*;
use crate::snp::{
    host::{HostConfig, Wake, testing::*},
    rmp::PageState,
};

#[rstest]
#[case::sev_info(GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST), GhcbMsr::sev_info(2, 1, 51))]
#[case::cpuid_eax(GhcbMsr::cpuid(0x8000_001f, 0), GhcbMsr(0x8000_001f_0000_0005))]
#[case::cpuid_ecx(GhcbMsr::cpuid(7, 2), GhcbMsr(0x1_8000_0005))]
#[case::cpuid_edx(GhcbMsr::cpuid(7, 3), GhcbMsr(0xc000_0005))]
#[case::preferred(
    GhcbMsr::request(GhcbInfo::PREFERRED_GHCB_REQUEST),
    GhcbMsr::new(GhcbInfo::PREFERRED_GHCB_RESPONSE, NO_GHCB)
)]
#[case::register(
    GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, 5),
    GhcbMsr::new(GhcbInfo::REGISTER_GHCB_RESPONSE, 5)
)]
#[case::register_outside(
    GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, RAM >> 12),
    GhcbMsr::new(GhcbInfo::REGISTER_GHCB_RESPONSE, NO_GHCB)
)]
#[case::psc(GhcbMsr::page_state_change(9, 1), page_state_change_response(0))]
#[case::psc_outside(GhcbMsr::page_state_change(RAM >> 12, 1), page_state_change_response(MSR_PSC_ERROR))]
#[case::psc_operation(GhcbMsr::page_state_change(9, 3), page_state_change_response(MSR_PSC_ERROR))]
#[case::psc_reserved(
    GhcbMsr(GhcbMsr::page_state_change(9, 1).0 | 1 << 56),
    page_state_change_response(MSR_PSC_ERROR)
)]
#[case::run_vmpl(GhcbMsr::request(GhcbInfo::RUN_VMPL_REQUEST), GhcbMsr(1 << 32 | 0x17))]
#[case::features(
    GhcbMsr::request(GhcbInfo::HYPERVISOR_FEATURES_REQUEST),
    GhcbMsr::new(GhcbInfo::HYPERVISOR_FEATURES_RESPONSE, 0x13)
)]
#[case::unknown(GhcbMsr(0xabc_0fff), GhcbMsr(0xabc_0fff))]
#[case::a_response(GhcbMsr::sev_info(9, 9, 9), GhcbMsr::sev_info(9, 9, 9))]
fn requests(#[case] request: GhcbMsr, #[case] response: GhcbMsr) {
    let mut machine = Machine::new();
    assert_eq!(machine.msr(request), Outcome { msr: response, action: Action::Resume });
    let last = machine.world.journal.entries().last().unwrap().1.clone();
    assert_eq!(last, Event::Snp(SnpEvent::Msr { vcpu: 0, request, response }));
}

const MSR_PSC_ERROR: u32 = 1 << 31;

#[test]
fn a_preferred_ghcb_is_named() {
    let mut machine = Machine::with(HostConfig { preferred_ghcb: Some(0x7000), ..config() });
    let response = machine.msr(GhcbMsr::request(GhcbInfo::PREFERRED_GHCB_REQUEST)).msr;
    assert_eq!(response, GhcbMsr::new(GhcbInfo::PREFERRED_GHCB_RESPONSE, 7));
}

#[test]
fn page_states_change() {
    let mut machine = Machine::new();
    machine.make_private(SHARED);
    assert_eq!(machine.hypervisor.rmp().state(SHARED >> 12), Some(PageState::GuestInvalid));
    machine.share(SHARED);
    assert!(machine.hypervisor.rmp().is_shared(SHARED >> 12));
    assert_eq!(machine.violations(), []);
    machine.share(PRIVATE);
    assert_eq!(machine.violations(), [(PRIVATE, crate::snp::event::Violation::SharedWhileValidated)]);
}

#[test]
fn reset_hold() {
    let mut machine = Machine::new();
    let outcome = machine.msr(GhcbMsr::request(GhcbInfo::AP_RESET_HOLD_REQUEST));
    let msr = GhcbMsr::new(GhcbInfo::AP_RESET_HOLD_RESPONSE, 0);
    assert_eq!(outcome, Outcome { msr, action: Action::ResetHold });
    let wake = machine.hypervisor.init_sipi(0, &mut machine.world.env().0);
    let msr = GhcbMsr::new(GhcbInfo::AP_RESET_HOLD_RESPONSE, 1);
    assert_eq!(wake, Some(Wake::Resume { msr: Some(msr) }));
}

#[test]
fn termination() {
    let mut machine = Machine::new();
    let reason = TerminationReason { set: 1, code: 2 };
    let end = Termination::Requested(reason);
    let request = GhcbMsr::terminate(reason);
    assert_eq!(machine.msr(request), Outcome { msr: request, action: Action::Terminated(end) });
    let last = machine.world.journal.entries().last().unwrap().1.clone();
    assert_eq!(last, Event::Snp(SnpEvent::Terminated { reason }));
}

#[test]
fn an_unknown_vcpu_is_left_alone() {
    let mut machine = Machine::new();
    let request = GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST);
    let outcome = machine.hypervisor.vmgexit(9, request, &mut machine.world.env().0, &mut machine.devices);
    assert_eq!(outcome, Outcome { msr: request, action: Action::Resume });
}

#[rstest]
#[case(FaultAction::Status(0x1234), GhcbMsr(0x1234))]
#[case(FaultAction::FlipBit(0), GhcbMsr(GhcbMsr::sev_info(2, 1, 51).0 ^ 1))]
#[case(FaultAction::Drop, GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST))]
fn faults(#[case] action: FaultAction, #[case] response: GhcbMsr) {
    let mut machine = Machine::new();
    machine.fault(FaultPoint::GHCB_MSR, action);
    assert_eq!(machine.msr(GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST)).msr, response);
}

#[rstest]
#[case(FaultAction::Status(7), page_state_change_response(7), true)]
#[case(FaultAction::Drop, GhcbMsr::page_state_change(SHARED >> 12, 1), false)]
fn page_state_faults(#[case] action: FaultAction, #[case] response: GhcbMsr, #[case] shared: bool) {
    let mut machine = Machine::new();
    machine.fault(FaultPoint::GHCB_PAGE_STATE_CHANGE, action);
    assert_eq!(machine.make_private(SHARED).msr, response);
    assert_eq!(machine.hypervisor.rmp().is_shared(SHARED >> 12), shared);
}

#[test]
fn any_value_never_panics() {
    let machine = std::cell::RefCell::new(Machine::new());
    let value =
        prop_oneof![any::<u64>(), (any::<u64>(), 0u64..0x101).prop_map(|(data, info)| data << 12 | info)];
    let value = value.prop_filter("this ends the guest", |value| value & 0xfff != 0x100);
    let mut runner = TestRunner::new(Config { cases: 4096, failure_persistence: None, ..Config::default() });
    runner
        .run(&value, |value| {
            let outcome = machine.borrow_mut().msr(GhcbMsr(value));
            prop_assert!(matches!(outcome.action, Action::Resume | Action::ResetHold));
            Ok(())
        })
        .unwrap();
}
