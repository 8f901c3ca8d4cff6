use rstest::rstest;
use tsmsim_abi::snp::ghcb::ExitCode;

use super::*;
use crate::snp::host::{HostConfig, testing::*};

const VMSA: u64 = SHARED + PAGE;
const MALFORMED: u64 = 2;

fn request(machine: &mut Machine, info1: u64, vmsa: u64, features: u64) -> ((u64, u64), Action) {
    let (ghcb, action) =
        machine.exit(ExitCode::AP_CREATION, info1, vmsa, |ghcb| set(ghcb, GhcbField::RAX, features));
    (infos(&ghcb), action)
}

const fn info1(apic_id: u32, request: ApCreationRequest) -> u64 {
    (apic_id as u64) << 32 | request.0 as u64
}

#[test]
fn an_ap_starts_and_stops() {
    let mut machine = Machine::new();
    machine.make_vmsa(VMSA);
    let start = Action::StartVcpu { vcpu: 1, vmsa_gpa: VMSA };
    let create = info1(5, ApCreationRequest::CREATE);
    assert_eq!(request(&mut machine, create, VMSA, 1), ((0, 0), start));
    assert_eq!(request(&mut machine, create, VMSA, 1), ((0, 0), start), "again, as after a crash");
    let destroy = info1(5, ApCreationRequest::DESTROY);
    let (ghcb, action) = machine.exit(ExitCode::AP_CREATION, destroy, 0, |_| {});
    assert_eq!((infos(&ghcb), action), ((0, 0), Action::StopVcpu { vcpu: 1 }));
    let other = info1(9, ApCreationRequest::CREATE);
    assert_eq!(request(&mut machine, other, VMSA, 1).1, Action::StartVcpu { vcpu: 2, vmsa_gpa: VMSA });
}

#[test]
fn an_ap_starts_at_init() {
    let mut machine = Machine::new();
    machine.make_vmsa(VMSA);
    let on_init = info1(5, ApCreationRequest::CREATE_ON_INIT);
    assert_eq!(request(&mut machine, on_init, VMSA, 1), ((0, 0), Action::Resume));
    let wake = machine.hypervisor.init_sipi(1, &mut machine.world.env().0);
    assert_eq!(wake, Some(Wake::Start { vmsa_gpa: VMSA }));
    assert_eq!(machine.hypervisor.init_sipi(1, &mut machine.world.env().0), None);
}

#[rstest]
#[case::apic_id(info1(4, ApCreationRequest::CREATE), VMSA, 1)]
#[case::request(info1(5, ApCreationRequest(3)), VMSA, 1)]
#[case::vmpl(info1(5, ApCreationRequest(1 << 16 | 1)), VMSA, 1)]
#[case::reserved(info1(5, ApCreationRequest(1 << 20 | 1)), VMSA, 1)]
#[case::features(info1(5, ApCreationRequest::CREATE), VMSA, 3)]
#[case::features_on_init(info1(5, ApCreationRequest::CREATE_ON_INIT), VMSA, 0)]
#[case::misaligned(info1(5, ApCreationRequest::CREATE), VMSA + 8, 1)]
#[case::outside(info1(5, ApCreationRequest::CREATE), RAM + PAGE, 1)]
#[case::shared(info1(5, ApCreationRequest::CREATE), SHARED, 1)]
#[case::not_a_vmsa(info1(5, ApCreationRequest::CREATE), PRIVATE, 1)]
#[case::erratum(info1(5, ApCreationRequest::CREATE), 2 << 20, 1)]
#[case::in_use(info1(5, ApCreationRequest::CREATE), VMSA + PAGE, 1)]
fn refused_requests(#[case] info1_: u64, #[case] vmsa: u64, #[case] features: u64) {
    let mut machine = Machine::new();
    for gpa in [VMSA, VMSA + PAGE, 2 << 20] {
        machine.make_vmsa(gpa);
    }
    request(&mut machine, info1(9, ApCreationRequest::CREATE_ON_INIT), VMSA + PAGE, 1);
    let invalid = (MALFORMED, MalformedInput::INVALID_INPUT.0);
    assert_eq!(request(&mut machine, info1_, vmsa, features), (invalid, Action::Resume));
    assert_eq!(machine.hypervisor.init_sipi(1, &mut machine.world.env().0), None, "nothing changed");
    let create = info1(5, ApCreationRequest::CREATE);
    assert_eq!(request(&mut machine, create, VMSA, 1).0, (0, 0), "the right request is served");
}

#[rstest]
#[case::none(0, SHARED, true, false)]
#[case::enough(1, SHARED, true, true)]
#[case::more(u64::MAX, SHARED, true, true)]
#[case::misaligned(1, SHARED + 4, false, false)]
#[case::private(1, PRIVATE, false, false)]
#[case::outside(1, RAM, false, false)]
fn apic_ids(#[case] pages: u64, #[case] gpa: u64, #[case] served: bool, #[case] written: bool) {
    let mut machine = Machine::new();
    let (ghcb, _) = machine.exit(ExitCode::APIC_ID_LIST, gpa, 0, |ghcb| set(ghcb, GhcbField::RAX, pages));
    let expected = if served { (0, 0) } else { (MALFORMED, MalformedInput::INVALID_INPUT.0) };
    assert_eq!(infos(&ghcb), expected);
    assert_eq!(get(&ghcb, GhcbField::RAX), served.then_some(1));
    let list: Vec<u8> = [3, 0, 5, 9].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(machine.bytes(SHARED, 16) == list, written);
}

#[test]
fn a_long_list_takes_more_pages() {
    let mut machine = Machine::with(HostConfig { apic_ids: (0..1024).collect(), ..config() });
    let (ghcb, _) = machine.exit(ExitCode::APIC_ID_LIST, SHARED, 0, |ghcb| set(ghcb, GhcbField::RAX, 1));
    assert_eq!(get(&ghcb, GhcbField::RAX), Some(2));
    assert_eq!(machine.bytes(SHARED, 4), [0; 4]);
    machine.exit(ExitCode::APIC_ID_LIST, SHARED, 0, |ghcb| set(ghcb, GhcbField::RAX, 2));
    assert_eq!(machine.bytes(SHARED + PAGE, 4), 1023u32.to_le_bytes());
}

#[rstest]
#[case(FaultAction::Status(5), (MALFORMED, 5))]
#[case(FaultAction::Drop, (0, 0))]
fn faults(#[case] action: FaultAction, #[case] expected: (u64, u64)) {
    let mut machine = Machine::new();
    machine.make_vmsa(VMSA);
    machine.fault(FaultPoint::GHCB_AP_CREATION, action);
    let create = info1(5, ApCreationRequest::CREATE);
    assert_eq!(request(&mut machine, create, VMSA, 1), (expected, Action::Resume));
}
