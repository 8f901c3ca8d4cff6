use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rstest::rstest;
use tsmsim_abi::snp::{ghcb::ExitInfo1, msr::GhcbMsr};

use super::*;
use crate::snp::host::{HostConfig, SUPPORTED_FEATURES, Wake, testing::*};

const MALFORMED: u64 = ExitInfo1::MALFORMED_INPUT.0 as u64;
const EXCEPTION: u64 = ExitInfo1::ISSUE_EXCEPTION.0 as u64;
const GP: u64 = 0x8000_0b0d;

fn nothing(_: &mut Ghcb) {}

#[rstest]
#[case::usage(|ghcb: &mut Ghcb| ghcb.ghcb_usage.set(1), MalformedInput::INVALID_GHCB_USAGE)]
#[case::version_0(|ghcb: &mut Ghcb| ghcb.protocol_version.set(0), MalformedInput::INVALID_INPUT)]
#[case::version_3(|ghcb: &mut Ghcb| ghcb.protocol_version.set(3), MalformedInput::INVALID_INPUT)]
#[case::bitmap(Ghcb::clear_valid, MalformedInput::MISSING_INPUT)]
fn the_page_is_checked_first(#[case] damage: fn(&mut Ghcb), #[case] reason: MalformedInput) {
    let mut machine = Machine::new();
    assert_eq!(machine.infos(ExitCode::HYPERVISOR_FEATURES, 0, 0, damage), (MALFORMED, reason.0));
    let served = machine.infos(ExitCode::HYPERVISOR_FEATURES, 0, 0, nothing);
    assert_eq!(served, (0, u64::from(SUPPORTED_FEATURES)));
}

#[rstest]
#[case(ExitCode::WRITE_DR7, 0, &[GhcbField::RAX])]
#[case(ExitCode::RDPMC, 0, &[GhcbField::RCX])]
#[case(ExitCode::CPUID, 0, &[GhcbField::RAX, GhcbField::RCX])]
#[case::out(ExitCode::IOIO, 0x10_0010, &[GhcbField::RAX])]
#[case::outs(ExitCode::IOIO, 0x10_0014, &[GhcbField::SW_SCRATCH])]
#[case::rdmsr(ExitCode::MSR, 0, &[GhcbField::RCX])]
#[case::wrmsr(ExitCode::MSR, 1, &[GhcbField::RCX, GhcbField::RAX, GhcbField::RDX])]
#[case(ExitCode::VMMCALL, 0, &[GhcbField::RAX, GhcbField::CPL])]
#[case(ExitCode::MONITOR, 0, &[GhcbField::RAX, GhcbField::RCX, GhcbField::RDX])]
#[case(ExitCode::MWAIT, 0, &[GhcbField::RAX, GhcbField::RCX])]
#[case(ExitCode::MMIO_READ, 0, &[GhcbField::SW_SCRATCH])]
#[case(ExitCode::MMIO_WRITE, 0, &[GhcbField::SW_SCRATCH])]
#[case(ExitCode::PAGE_STATE_CHANGE, 0, &[GhcbField::SW_SCRATCH])]
#[case(ExitCode::AP_CREATION, 0, &[GhcbField::RAX])]
#[case(ExitCode::APIC_ID_LIST, 0, &[GhcbField::RAX])]
fn each_exit_names_its_inputs(#[case] code: ExitCode, #[case] info1: u64, #[case] fields: &[GhcbField]) {
    let mut machine = Machine::new();
    let missing = (MALFORMED, MalformedInput::MISSING_INPUT.0);
    for left_out in fields {
        let others = fields.iter().filter(|field| *field != left_out);
        let infos = machine.infos(code, info1, 0, |ghcb| others.for_each(|field| ghcb.set_valid(*field)));
        assert_eq!(infos, missing, "without {left_out:?}");
    }
    let all = machine.infos(code, info1, 0, |ghcb| fields.iter().for_each(|field| ghcb.set_valid(*field)));
    assert_ne!(all, missing);
}

#[test]
fn cpuid_leaf_d_needs_xcr0() {
    let mut machine = Machine::new();
    let fill = |ghcb: &mut Ghcb| {
        set(ghcb, GhcbField::RAX, 0xffff_ffff_0000_000d);
        set(ghcb, GhcbField::RCX, 1);
    };
    let infos = machine.infos(ExitCode::CPUID, 0, 0, fill);
    assert_eq!(infos, (MALFORMED, MalformedInput::MISSING_INPUT.0));
    let (ghcb, _) = machine.exit(ExitCode::CPUID, 0, 0, |ghcb| {
        fill(ghcb);
        set(ghcb, GhcbField::XCR0, 7);
        set(ghcb, GhcbField::XSS, 0x800);
    });
    let registers =
        [GhcbField::RAX, GhcbField::RBX, GhcbField::RCX, GhcbField::RDX].map(|field| get(&ghcb, field));
    assert_eq!(registers, [0xd, 1, 7, 0x800].map(Some));
}

#[rstest]
#[case::npf(ExitCode::NPF)]
#[case::shutdown(ExitCode::SHUTDOWN)]
#[case::doorbell(ExitCode::HV_DOORBELL_PAGE)]
#[case::ipi(ExitCode::HV_IPI)]
#[case::timer(ExitCode::HV_TIMER)]
#[case::vmpl(ExitCode::RUN_VMPL)]
#[case::zero(ExitCode(0))]
#[case::unknown(ExitCode(0x8000_1234))]
#[case::high_bits(ExitCode(1 << 32 | 0x72))]
fn what_is_not_offered_is_an_invalid_event(#[case] code: ExitCode) {
    let mut machine = Machine::new();
    assert_eq!(machine.infos(code, 0, 0, nothing), (MALFORMED, MalformedInput::INVALID_EVENT.0));
}

#[rstest]
#[case(ExitCode::AP_CREATION)]
#[case(ExitCode::APIC_ID_LIST)]
fn a_feature_that_is_not_advertised_is_an_invalid_event(#[case] code: ExitCode) {
    let features = SUPPORTED_FEATURES.with_ap_creation(false).with_apic_id_list(false).with_multi_vmpl(true);
    let mut machine = Machine::with(HostConfig { features, ..config() });
    let infos = machine.infos(code, 0, 0, |ghcb| set(ghcb, GhcbField::RAX, 1));
    assert_eq!(infos, (MALFORMED, MalformedInput::INVALID_EVENT.0));
    let advertised = machine.infos(ExitCode::HYPERVISOR_FEATURES, 0, 0, nothing);
    assert_eq!(advertised, (0, 1), "what is not implemented is not advertised");
}

#[test]
fn a_ghcb_must_be_registered() {
    let mut machine = Machine::new();
    let other = 0x5000;
    let page = Machine::ghcb(ExitCode::NMI_COMPLETE, 0, 0, nothing);
    machine.world.memory.write(other, page.as_bytes()).unwrap();
    machine.msr(GhcbMsr(other));
    let info =
        |machine: &Machine, offset| u64::from_le_bytes(machine.bytes(other + offset, 8).try_into().unwrap());
    assert_eq!(
        (info(&machine, 0x398), info(&machine, 0x3a0)),
        (MALFORMED, MalformedInput::GHCB_NOT_REGISTERED.0)
    );
    assert_eq!(machine.violations(), [(other, Violation::GhcbNotRegistered)]);
}

#[rstest]
#[case::never_set(0, Violation::GhcbNotRegistered)]
#[case::private(PRIVATE, Violation::HostAccessToPrivate)]
#[case::outside(RAM, Violation::OutOfRange)]
#[case::end(0xffff_ffff_ffff_f000, Violation::OutOfRange)]
fn a_ghcb_out_of_reach_is_left_alone(#[case] gpa: u64, #[case] violation: Violation) {
    let mut machine = Machine::new();
    let len = usize::try_from(RAM).unwrap();
    let before = machine.bytes(0, len);
    assert_eq!(machine.msr(GhcbMsr(gpa)).action, Action::Resume);
    assert!(machine.bytes(0, len) == before);
    assert_eq!(machine.violations(), [(gpa, violation)]);
}

#[test]
fn only_what_was_answered_is_written() {
    let mut machine = Machine::new();
    let mut sent = Machine::ghcb(ExitCode::CPUID, 0, 0, |ghcb| {
        ghcb.as_mut_bytes()[..0x140].fill(0xaa);
        ghcb.shared_buffer.fill(0xbb);
        set(ghcb, GhcbField::RAX, 1);
        set(ghcb, GhcbField::RCX, 2);
        set(ghcb, GhcbField::R8, 3);
    });
    let (received, action) = machine.exit_with(&sent);
    assert_eq!(action, Action::Resume);
    let answered = [GhcbField::RAX, GhcbField::RBX, GhcbField::RCX, GhcbField::RDX];
    sent.clear_valid();
    for (field, value) in answered.into_iter().zip([1, 2, 1, 0]) {
        set(&mut sent, field, value);
    }
    set(&mut sent, GhcbField::SW_EXIT_INFO_1, 0);
    set(&mut sent, GhcbField::SW_EXIT_INFO_2, 0);
    assert!(received == sent);
}

#[test]
fn msrs() {
    let mut machine = Machine::new();
    let (ghcb, _) = machine.exit(ExitCode::MSR, 0, 0, |ghcb| set(ghcb, GhcbField::RCX, DEVICE_MSR.into()));
    assert_eq!(
        (get(&ghcb, GhcbField::RAX), get(&ghcb, GhcbField::RDX)),
        (Some(0x9abc_def0), Some(0x1234_5678))
    );
    let write = |index: u32| {
        move |ghcb: &mut Ghcb| {
            set(ghcb, GhcbField::RCX, index.into());
            set(ghcb, GhcbField::RAX, 0xffff_ffff_0403_0201);
            set(ghcb, GhcbField::RDX, 0xffff_ffff_0807_0605);
        }
    };
    assert_eq!(machine.infos(ExitCode::MSR, 1, 0, write(DEVICE_MSR)), (0, 0));
    assert_eq!(machine.devices.written, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(machine.infos(ExitCode::MSR, 1, 0, write(1)), (EXCEPTION, GP));
    assert_eq!(machine.infos(ExitCode::MSR, 0, 0, write(1)), (EXCEPTION, GP));
    let invalid = (MALFORMED, MalformedInput::INVALID_INPUT.0);
    assert_eq!(machine.infos(ExitCode::MSR, 2, 0, write(DEVICE_MSR)), invalid);
    assert_eq!(machine.infos(ExitCode::RDPMC, 0, 0, write(0)), (EXCEPTION, GP));
}

const fn ioio(port: u16, size: u64, flags: u64) -> u64 {
    (port as u64) << 16 | size << 4 | flags
}

#[rstest]
#[case(1, 0x11)]
#[case(2, 0x2211)]
#[case(4, 0x4433_2211)]
fn port_io(#[case] size: u64, #[case] value: u64) {
    let mut machine = Machine::new();
    let (ghcb, _) = machine.exit(ExitCode::IOIO, ioio(DEVICE_PORT, size, 1), 0, nothing);
    assert_eq!((infos(&ghcb), get(&ghcb, GhcbField::RAX)), ((0, 0), Some(value)));
    let out = |ghcb: &mut Ghcb| set(ghcb, GhcbField::RAX, 0xffff_ffff_4433_2211);
    assert_eq!(machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, size, 0), 0, out), (0, 0));
    assert_eq!(machine.devices.written, &value.to_le_bytes()[..usize::try_from(size).unwrap()]);
}

#[rstest]
#[case(0)]
#[case(3)]
#[case(7)]
fn port_io_of_no_size(#[case] size: u64) {
    let mut machine = Machine::new();
    let infos = machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, size, 1), 0, nothing);
    assert_eq!(infos, (MALFORMED, MalformedInput::INVALID_INPUT.0));
}

#[test]
fn string_io() {
    let mut machine = Machine::new();
    let data = |ghcb: &mut Ghcb| {
        ghcb.shared_buffer[4..10].copy_from_slice(b"abcdef");
        set(ghcb, GhcbField::SW_SCRATCH, SCRATCH + 4);
    };
    assert_eq!(machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, 2, 4), 3, data), (0, 0));
    assert_eq!(machine.devices.written, b"abcdef");
    let (ghcb, _) = machine.exit(ExitCode::IOIO, ioio(DEVICE_PORT, 2, 5), 2, data);
    assert_eq!((infos(&ghcb), &ghcb.shared_buffer[4..10]), ((0, 0), &b"\x11\x22\x11\x22ef"[..]));
    assert_eq!(machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, 2, 5), 0, data), (0, 0));
}

#[rstest]
#[case::fits(SCRATCH, 0x7f0, None)]
#[case::too_long(SCRATCH, 0x7f1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::fits_at_the_end(SCRATCH + 0x7ef, 1, None)]
#[case::beyond(SCRATCH + 0x7f0, 1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::before(SCRATCH - 1, 1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::null(0, 1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::elsewhere(SHARED, 1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::endless(SCRATCH, u64::MAX, Some(MalformedInput::INVALID_SCRATCH_AREA))]
fn scratch_areas(#[case] scratch: u64, #[case] count: u64, #[case] refused: Option<MalformedInput>) {
    let mut machine = Machine::new();
    let fill = |ghcb: &mut Ghcb| set(ghcb, GhcbField::SW_SCRATCH, scratch);
    let infos = machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, 1, 4), count, fill);
    assert_eq!(infos, refused.map_or((0, 0), |reason| (MALFORMED, reason.0)));
}

#[rstest]
#[case::shared(SHARED, true, 1, None)]
#[case::version_1(SHARED, false, 1, None)]
#[case::private(PRIVATE, true, 1, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::into_private(PRIVATE - 1, true, 2, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::outside(RAM - 1, true, 2, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::wraps(u64::MAX, true, 2, Some(MalformedInput::INVALID_SCRATCH_AREA))]
#[case::limit(SHARED, true, 0x4001, Some(MalformedInput::INVALID_SCRATCH_AREA))]
fn scratch_areas_outside(
    #[case] scratch: u64,
    #[case] scratch_outside_ghcb: bool,
    #[case] count: u64,
    #[case] refused: Option<MalformedInput>,
) {
    let mut machine = Machine::with(HostConfig { scratch_outside_ghcb, ..config() });
    let infos = machine.infos(ExitCode::IOIO, ioio(DEVICE_PORT, 1, 5), count, |ghcb| {
        set(ghcb, GhcbField::SW_SCRATCH, scratch);
        ghcb.protocol_version.set(if scratch_outside_ghcb { 2 } else { 1 });
    });
    assert_eq!(infos, refused.map_or((0, 0), |reason| (MALFORMED, reason.0)));
    assert_eq!(machine.bytes(SHARED, 1) == [0x11], refused.is_none() && scratch == SHARED);
}

#[rstest]
#[case::device(DEVICE_GPA, 4, Some(vec![0x5a; 4]))]
#[case::nothing_there(0xe000_0000, 8, Some(vec![0xff; 8]))]
#[case::empty(DEVICE_GPA, 0, Some(vec![]))]
#[case::too_long(DEVICE_GPA, 9, None)]
#[case::endless(DEVICE_GPA, u64::MAX, None)]
fn mmio(#[case] gpa: u64, #[case] len: u64, #[case] expected: Option<Vec<u8>>) {
    let mut machine = Machine::new();
    let fill = |ghcb: &mut Ghcb| {
        ghcb.shared_buffer.fill(0x77);
        set(ghcb, GhcbField::SW_SCRATCH, SCRATCH);
    };
    let (ghcb, _) = machine.exit(ExitCode::MMIO_READ, gpa, len, fill);
    let written = machine.infos(ExitCode::MMIO_WRITE, gpa, len, fill);
    assert_eq!(infos(&ghcb), written);
    match expected {
        None => assert_eq!(written, (MALFORMED, MalformedInput::INVALID_INPUT.0)),
        Some(data) => {
            assert_eq!(written, (0, 0));
            assert_eq!(ghcb.shared_buffer[..data.len()], data);
            assert_eq!(ghcb.shared_buffer[data.len()], 0x77);
            let taken = if gpa == DEVICE_GPA { data.len() } else { 0 };
            assert_eq!(machine.devices.written, vec![0x77; taken]);
        }
    }
}

#[test]
fn time_is_the_clocks() {
    let mut machine = Machine::new();
    machine.world.clock = Box::new(crate::snp::guest::StillClock(4_000_000_000));
    let (ghcb, _) = machine.exit(ExitCode::RDTSCP, 0, 0, nothing);
    let registers = [GhcbField::RAX, GhcbField::RDX, GhcbField::RCX].map(|field| get(&ghcb, field));
    assert_eq!(registers, [Some(12_000_000_000 & 0xffff_ffff), Some(2), Some(0x9abc_def0)]);
    let (ghcb, _) = machine.exit(ExitCode::RDTSC, 0, 0, nothing);
    assert_eq!((get(&ghcb, GhcbField::RDX), get(&ghcb, GhcbField::RCX)), (Some(2), None));
}

#[test]
fn debug_register_7() {
    let mut machine = Machine::new();
    let dr7 = |machine: &mut Machine| get(&machine.exit(ExitCode::READ_DR7, 0, 0, nothing).0, GhcbField::RAX);
    assert_eq!(dr7(&mut machine), Some(0x400));
    machine.exit(ExitCode::WRITE_DR7, 0, 0, |ghcb| set(ghcb, GhcbField::RAX, 0x401));
    assert_eq!(dr7(&mut machine), Some(0x401));
}

#[test]
fn the_ap_jump_table_is_kept() {
    let mut machine = Machine::new();
    assert_eq!(machine.infos(ExitCode::AP_JUMP_TABLE, 0, 0x9000, nothing), (0, 0));
    assert_eq!(machine.infos(ExitCode::AP_JUMP_TABLE, 1, 0, nothing), (0, 0x9000));
    let invalid = (MALFORMED, MalformedInput::INVALID_INPUT.0);
    assert_eq!(machine.infos(ExitCode::AP_JUMP_TABLE, 2, 0, nothing), invalid);
}

#[rstest]
#[case(ExitCode::HLT, Action::Halted)]
#[case(ExitCode::AP_RESET_HOLD, Action::ResetHold)]
#[case(ExitCode::NMI_COMPLETE, Action::Resume)]
#[case(ExitCode::INVD, Action::Resume)]
#[case(ExitCode::WBINVD, Action::Resume)]
fn actions(#[case] code: ExitCode, #[case] action: Action) {
    let mut machine = Machine::new();
    let (ghcb, got) = machine.exit(code, 0, 0, nothing);
    assert_eq!((infos(&ghcb), got), ((0, 0), action));
}

#[test]
fn hypercalls_do_not_exist() {
    let mut machine = Machine::new();
    let (ghcb, _) = machine.exit(ExitCode::VMMCALL, 0, 0, |ghcb| {
        set(ghcb, GhcbField::RAX, 1);
        ghcb.set_valid(GhcbField::CPL);
    });
    assert_eq!(get(&ghcb, GhcbField::RAX), Some(u64::MAX - 999));
}

#[test]
fn reset_hold_ends_with_init_sipi() {
    let mut machine = Machine::new();
    assert_eq!(machine.hypervisor.init_sipi(0, &mut machine.world.env().0), None);
    machine.exit(ExitCode::AP_RESET_HOLD, 0, 0, nothing);
    let wake = machine.hypervisor.init_sipi(0, &mut machine.world.env().0);
    assert_eq!(wake, Some(Wake::Resume { msr: None }));
    assert_eq!(machine.bytes(GHCB + 0x3a0, 8), 1u64.to_le_bytes());
    assert_eq!(machine.hypervisor.init_sipi(0, &mut machine.world.env().0), None);
    assert_eq!(machine.hypervisor.init_sipi(99, &mut machine.world.env().0), None);
}

#[rstest]
#[case(ExitCode::TERMINATION_REQUEST, 0x31, 0, Termination::Requested(TerminationReason { set: 1, code: 3 }))]
#[case(ExitCode::UNSUPPORTED_EVENT, 0x72, 5, Termination::UnsupportedEvent { exit_code: 0x72, info: 5 })]
fn the_end(#[case] code: ExitCode, #[case] info1: u64, #[case] info2: u64, #[case] end: Termination) {
    let mut machine = Machine::new();
    let (_, action) = machine.exit(code, info1, info2, nothing);
    assert_eq!(action, Action::Terminated(end));
    assert_eq!(machine.hypervisor.terminated(), Some(end));
    assert_eq!(machine.msr(GhcbMsr(2)).action, Action::Terminated(end), "no life after that");
}

#[test]
fn faults_at_an_exit() {
    let mut machine = Machine::new();
    machine.fault(FaultPoint::GHCB_EXIT, FaultAction::Status(MalformedInput::INVALID_EVENT.0));
    let invalid = (MALFORMED, MalformedInput::INVALID_EVENT.0);
    assert_eq!(machine.infos(ExitCode::HLT, 0, 0, nothing), invalid);
    machine.fault(FaultPoint::GHCB_EXIT, FaultAction::FlipBit(64));
    assert_eq!(machine.infos(ExitCode::HLT, 0, 0, nothing), (0, 1));
    machine.fault(FaultPoint::GHCB_EXIT, FaultAction::Drop);
    assert_eq!(machine.infos(ExitCode::HYPERVISOR_FEATURES, 7, 8, nothing), (7, 8));
    assert!(machine.world.journal.entries().any(|(_, event)| matches!(event, Event::Fault { .. })));
}

#[rstest]
#[case::outside(FaultAction::FlipBit(usize::MAX), true)]
#[case::status(FaultAction::Status(1), false)]
#[case::dropped(FaultAction::Drop, false)]
fn what_makes_no_sense_at_a_point_is_journalled(#[case] action: FaultAction, #[case] ignored: bool) {
    let points = [
        FaultPoint::GHCB_EXIT,
        FaultPoint::GHCB_MSR,
        FaultPoint::GHCB_PAGE_STATE_CHANGE,
        FaultPoint::GHCB_AP_CREATION,
        FaultPoint::GHCB_GUEST_REQUEST,
    ];
    for point in points {
        let mut machine = Machine::new();
        machine.fault(point, action.clone());
        machine.share(SHARED);
        machine.exit(ExitCode::AP_CREATION, 1, PRIVATE, |ghcb| set(ghcb, GhcbField::RAX, 1));
        machine.exit(ExitCode::GUEST_REQUEST, SHARED, SHARED + PAGE, nothing);
        let count = |event: &Event| machine.world.journal.entries().filter(|(_, it)| *it == event).count();
        let wanted = count(&Event::Fault { point, action: action.clone() });
        assert!(wanted > 0, "{}", point.name);
        let expected = if ignored { wanted } else { 0 };
        assert_eq!(count(&Event::FaultIgnored { point, action: action.clone() }), expected, "{}", point.name);
    }
}

/// Exit codes that reach a handler, with fields that are mostly plausible.
fn plausible_ghcb() -> impl Strategy<Value = Box<Ghcb>> {
    let code = prop::sample::select(ExitCode::NAMED.iter().map(|(code, _)| *code).collect::<Vec<_>>());
    let code = code.prop_filter("these end the guest", |code| {
        ![ExitCode::TERMINATION_REQUEST, ExitCode::UNSUPPORTED_EVENT].contains(code)
    });
    let value = || {
        prop_oneof![
            any::<u64>(),
            0u64..32,
            Just(GHCB),
            Just(SCRATCH),
            Just(PRIVATE),
            Just(SHARED),
            Just(SHARED + PAGE),
            Just(RAM - PAGE),
            Just(RAM),
            (any::<u16>(), 0u64..8, 0u64..8).prop_map(|(port, s, f)| ioio(port, s, f)),
        ]
    };
    let values = (value(), value(), value(), value(), value(), value(), any::<[u8; 64]>(), any::<u8>());
    (code, values).prop_map(|(code, (info1, info2, rax, rbx, rcx, scratch, buffer, spoil))| {
        Machine::ghcb(code, info1, info2, |ghcb| {
            for (field, value) in [
                (GhcbField::RAX, rax),
                (GhcbField::RBX, rbx),
                (GhcbField::RCX, rcx),
                (GhcbField::RDX, rcx),
                (GhcbField::SW_SCRATCH, scratch),
                (GhcbField::XCR0, rbx),
            ] {
                set(ghcb, field, value);
            }
            ghcb.set_valid(GhcbField::CPL);
            ghcb.shared_buffer[..64].copy_from_slice(&buffer);
            if spoil == 0 {
                ghcb.valid_bitmap[14] = 0;
            }
        })
    })
}

/// Runs the cases against one machine, so that states add up. Its GHCB may become private: then the exit does nothing.
fn never_panics(ghcbs: impl Strategy<Value = Box<Ghcb>>, cases: u32) {
    let machine = std::cell::RefCell::new(Machine::new());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&ghcbs, |ghcb| {
            let mut machine = machine.borrow_mut();
            machine.exit_with(&ghcb);
            machine.devices.written.clear();
            prop_assert_eq!(machine.hypervisor.terminated(), None);
            if !machine.hypervisor.rmp().is_shared(GHCB >> 12) {
                machine.share(GHCB);
            }
            for gfn in 0..RAM >> 12 {
                let entry = machine.hypervisor.rmp().entry(gfn).unwrap();
                prop_assert!(!entry.validated() || entry.assigned());
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn plausible_exits_never_panic() {
    never_panics(plausible_ghcb(), 1024);
}

#[test]
fn any_bytes_as_ghcb_never_panic() {
    let bytes = prop::collection::vec(any::<u8>(), 4096).prop_map(|bytes| {
        let mut ghcb = Box::new(Ghcb::new_zeroed());
        ghcb.as_mut_bytes().copy_from_slice(&bytes);
        ghcb
    });
    never_panics(bytes, 128);
}
