//! Dispatch of a TVM's exits with a scripted hart: no processor, real TSM and host.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::{
    cove::sbi::{BaseFid, DbcnFid, SPEC_VERSION_2_0},
    guest_test::riscv64::{IMAGE_GPA, RAM_END, RAM_GPA},
};
use tsmsim_keys::Seed;
use tsmsim_simulator::{
    cove::{event::CoveEvent, machine::PlannedPage, platform::CovePlatformConfig, regions::RegionKind},
    fault::{FaultAction, FaultHook, FaultPoint},
    journal::Event,
};

use super::*;
use crate::{
    engine::riscv::{Trap, scripted::ScriptedHart},
    memory::GuestRam,
};

const PAGE: u64 = 0x1000;
/// Where the host hands something over.
const PLACE: u64 = IMAGE_GPA + 4 * PAGE;
const SAID: &[u8] = b"what the host has to say";
/// A page that the script shares.
const SHARED: u64 = IMAGE_GPA + 8 * PAGE;

const OK: i64 = SbiError::SUCCESS.0;
const PARAM: (i64, u64) = (SbiError::INVALID_PARAM.0, 0);
const NOT_SUPPORTED: (i64, u64) = (SbiError::NOT_SUPPORTED.0, 0);

/// A console that keeps what it gets.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn call(extension: ExtensionId, fid: u64, arguments: &[u64]) -> Exit {
    Exit::Ecall { arguments: Registers::call(extension, fid, arguments).0 }
}

fn covg(fid: CovgFid, arguments: &[u64]) -> Exit {
    call(ExtensionId::COVG, fid.0.into(), arguments)
}

fn share(gpa: u64, length: u64) -> Exit {
    covg(CovgFid::SHARE_MEMORY_REGION, &[gpa, length])
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END + PAGE).collect(),
        vcpus: 1,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: None }],
        entry_sepc: IMAGE_GPA,
        entry_arg: PLACE,
        identity: None,
    }
}

fn promote_plan() -> PromotePlan {
    PromotePlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
        vcpus: 1,
        fdt_addr: SHARED,
        tap_addr: 0,
        entry_sepc: IMAGE_GPA + 4,
        identity: None,
    }
}

fn parts(exits: Vec<Exit>, console: &Console) -> TvmMachineParts<ScriptedHart> {
    let ram = PlacedRam::new(GuestRam::new(RAM_END - RAM_GPA).unwrap(), RAM_GPA).unwrap();
    ram.write(IMAGE_GPA, b"confidential").unwrap();
    TvmMachineParts {
        hart: ScriptedHart::new(exits),
        ram,
        platform: CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap(),
        host: HostConfig::default(),
        plan: plan().into(),
        hand_over: Some(HandOver { gpa: PLACE, contents: SAID.to_vec() }),
        console: Box::new(console.clone()),
    }
}

fn machine(exits: Vec<Exit>) -> (TvmMachine<ScriptedHart>, Console) {
    let console = Console::default();
    (TvmMachine::launch(parts(exits, &console), Surroundings::default()).unwrap(), console)
}

/// What the last of these calls, after which the hart is powered off, gets for an answer.
fn answer(mut exits: Vec<Exit>) -> (i64, u64) {
    exits.push(Exit::PoweredOff);
    let (mut machine, _) = machine(exits);
    assert_eq!(machine.run(soon()), Ok(End::PoweredOff));
    *machine.hart().answers().last().unwrap()
}

#[test]
fn the_hart_starts_where_the_plan_says() {
    let (machine, _) = machine(Vec::new());
    let entry = Entry { pc: IMAGE_GPA, hart: 0, argument: PLACE };
    assert_eq!(machine.hart().entry(), Some(entry));
}

/// All of its memory is there, and none of it shared.
#[test]
fn a_promoted_hart_starts_where_the_plan_says() {
    let mut parts = parts(vec![share(PLACE, PAGE)], &Console::default());
    parts.plan = promote_plan().into();
    let mut machine = TvmMachine::launch(parts, Surroundings::default()).unwrap();
    let entry = Entry { pc: IMAGE_GPA + 4, hart: 0, argument: SHARED };
    assert_eq!(machine.hart().entry(), Some(entry));
    let regions = machine.machine().tvm().regions();
    assert_eq!(regions.unmapped(&(IMAGE_GPA..RAM_END)), None);
    assert_eq!(machine.run(soon()), Err(EngineError::ScriptEnded));
    assert_eq!(machine.hart().answers(), [(OK, 0)]);
}

#[test]
fn what_cannot_be_launched_is_an_error() {
    let console = Console::default();
    let mut unaligned = parts(Vec::new(), &console);
    unaligned.plan = PromotePlan { fdt_addr: SHARED + 4, ..promote_plan() }.into();
    let result = TvmMachine::launch(unaligned, Surroundings::default());
    assert!(matches!(result, Err(TvmMachineError::Launch(_))));
    let mut unaligned = parts(Vec::new(), &console);
    let pages = vec![PlannedPage { gpa: IMAGE_GPA + 1, contents: None }];
    unaligned.plan = LaunchPlan { pages, ..plan() }.into();
    let result = TvmMachine::launch(unaligned, Surroundings::default());
    assert!(matches!(result, Err(TvmMachineError::Launch(_))));
    let mut outside = parts(Vec::new(), &console);
    outside.hand_over = Some(HandOver { gpa: RAM_END - 1, contents: vec![0; 2] });
    let result = TvmMachine::launch(outside, Surroundings::default());
    assert!(matches!(result, Err(TvmMachineError::OutOfRange(_))));
}

#[rstest]
#[case::trap(Exit::Trap(Trap { cause: 2, pc: 4, value: 5 }), End::Trap(Trap { cause: 2, pc: 4, value: 5 }))]
#[case::powered_off(Exit::PoweredOff, End::PoweredOff)]
#[case::deadline(Exit::Deadline, End::Deadline)]
#[case::done(call(ExtensionId::SRST, 0, &[0, 0]), End::Done(0))]
#[case::cold_reboot(call(ExtensionId::SRST, 0, &[1, 0]), End::Done(0))]
#[case::warm_reboot(call(ExtensionId::SRST, 0, &[2, 1]), End::Done(1))]
#[case::failed(call(ExtensionId::SRST, 0, &[0, 1]), End::Done(1))]
#[case::failed_in_its_own_way(call(ExtensionId::SRST, 0, &[0, 0xe000_0000]), End::Done(0xff))]
#[case::arguments_have_32_bits(call(ExtensionId::SRST, 0, &[1 << 32, 1 << 32]), End::Done(0))]
fn exits_that_end_the_run(#[case] exit: Exit, #[case] end: End) {
    let (mut machine, _) = machine(vec![exit]);
    assert_eq!(machine.run(soon()), Ok(end));
    assert_eq!(machine.hart().answers(), []);
}

#[rstest]
#[case::version(call(ExtensionId::BASE, BaseFid::GET_SPEC_VERSION.0.into(), &[]), (OK, SPEC_VERSION_2_0))]
#[case::vendor(call(ExtensionId::BASE, BaseFid::GET_MVENDORID.0.into(), &[]), (OK, 0))]
#[case::probe_base(call(ExtensionId::BASE, 3, &[ExtensionId::BASE.0]), (OK, 1))]
#[case::probe_console(call(ExtensionId::BASE, 3, &[ExtensionId::DBCN.0]), (OK, 1))]
#[case::probe_reset(call(ExtensionId::BASE, 3, &[ExtensionId::SRST.0]), (OK, 1))]
#[case::probe_covg(call(ExtensionId::BASE, 3, &[ExtensionId::COVG.0]), (OK, 1))]
#[case::probe_covh(call(ExtensionId::BASE, 3, &[ExtensionId::COVH.0]), (OK, 0))]
#[case::base_function(call(ExtensionId::BASE, 7, &[]), NOT_SUPPORTED)]
#[case::base_function_of_64_bits(call(ExtensionId::BASE, 1 << 16, &[]), NOT_SUPPORTED)]
#[case::covh(call(ExtensionId::COVH, 0, &[]), NOT_SUPPORTED)]
#[case::set_timer(call(ExtensionId(0), 0, &[]), NOT_SUPPORTED)]
#[case::exit_of_other_interpreters(call(ExtensionId(93), 0, &[]), NOT_SUPPORTED)]
#[case::reset_function(call(ExtensionId::SRST, 1, &[]), NOT_SUPPORTED)]
#[case::reset_type(call(ExtensionId::SRST, 0, &[3, 0]), PARAM)]
#[case::reset_type_of_a_vendor(call(ExtensionId::SRST, 0, &[0xf000_0000, 0]), NOT_SUPPORTED)]
#[case::reset_reason(call(ExtensionId::SRST, 0, &[0, 2]), PARAM)]
#[case::console_function(call(ExtensionId::DBCN, 3, &[]), NOT_SUPPORTED)]
#[case::console_confidential(call(ExtensionId::DBCN, 0, &[12, IMAGE_GPA]), PARAM)]
#[case::console_high_address(call(ExtensionId::DBCN, 0, &[1, SHARED, 1]), PARAM)]
#[case::console_wraps(call(ExtensionId::DBCN, 0, &[u64::MAX, SHARED]), PARAM)]
#[case::covg_function(covg(CovgFid(11), &[]), NOT_SUPPORTED)]
#[case::covg_refusal(covg(CovgFid::ALLOW_EXTERNAL_INTERRUPT, &[0]), PARAM)]
#[case::covg(covg(CovgFid::ALLOW_EXTERNAL_INTERRUPT, &[1]), (OK, 0))]
fn answers_of_tsm_and_host(#[case] exit: Exit, #[case] expected: (i64, u64)) {
    assert_eq!(answer(vec![share(SHARED, PAGE), exit]), expected);
}

/// The last page of the region has no memory behind it: it can be shared, and the host finds nothing there.
#[rstest]
#[case::one_page(SHARED, PAGE, (OK, PAGE))]
#[case::more_than_is_shared(SHARED, PAGE + 1, PARAM)]
#[case::nothing(SHARED, 0, (OK, 0))]
#[case::behind_ram(RAM_END, 1, PARAM)]
#[case::across_the_end_of_ram(RAM_END - 1, 2, PARAM)]
#[case::last_byte(RAM_END - 1, 1, (OK, 1))]
fn the_console_takes_shared_ram(#[case] gpa: u64, #[case] length: u64, #[case] expected: (i64, u64)) {
    let shared = [share(SHARED, PAGE), share(RAM_END - PAGE, 2 * PAGE)];
    for fid in [DbcnFid::CONSOLE_WRITE, DbcnFid::CONSOLE_READ] {
        let exit = call(ExtensionId::DBCN, fid.0, &[length, gpa]);
        let expected = match (fid, expected) {
            (DbcnFid::CONSOLE_READ, (OK, _)) => (OK, 0),
            _ => expected,
        };
        assert_eq!(answer(shared.iter().cloned().chain([exit]).collect()), expected, "{fid}");
    }
}

#[test]
fn what_is_printed_is_printed_once() {
    let (mut machine, console) = machine(vec![
        share(SHARED, 32 * PAGE),
        call(ExtensionId::DBCN, 2, &[0xff41]),
        call(ExtensionId::DBCN, 0, &[5, SHARED]),
        call(ExtensionId::DBCN, 0, &[32 * PAGE, SHARED]),
    ]);
    assert_eq!(machine.run(soon()), Err(EngineError::ScriptEnded));
    assert_eq!(*console.0.lock().unwrap(), [&b"A"[..], &[0; 5 + 16 * 4096]].concat());
    let expected = [(OK, 0), (OK, 0), (OK, 5), (OK, 16 * PAGE)];
    assert_eq!(machine.hart().answers(), expected, "the host takes a part of what is long");
}

/// A console that fails is none of the guest's business.
#[test]
fn a_broken_console_is_not_seen_by_the_guest() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut parts = parts(vec![call(ExtensionId::DBCN, 2, &[0x41])], &Console::default());
    parts.console = Box::new(Broken);
    let mut machine = TvmMachine::launch(parts, Surroundings::default()).unwrap();
    assert_eq!(machine.run(soon()), Err(EngineError::ScriptEnded));
    assert_eq!(machine.hart().answers(), [(OK, 0)]);
}

#[rstest]
#[case::the_page(PLACE, PAGE, true)]
#[case::more(PLACE - PAGE, 3 * PAGE, true)]
#[case::another_page(PLACE + PAGE, PAGE, false)]
#[case::refused(PLACE, PAGE + 1, false)]
fn the_host_hands_over_when_the_place_is_shared(#[case] gpa: u64, #[case] length: u64, #[case] there: bool) {
    let unshare = covg(CovgFid::UNSHARE_MEMORY_REGION, &[PLACE, PAGE]);
    let (mut machine, _) = machine(vec![share(gpa, length), unshare, share(PLACE, PAGE)]);
    let found = |machine: &TvmMachine<ScriptedHart>| {
        let mut bytes = vec![0; SAID.len()];
        machine.ram.read(PLACE, &mut bytes).unwrap();
        bytes == SAID
    };
    let step = |machine: &mut TvmMachine<ScriptedHart>| {
        let exit = machine.hart.run(soon()).unwrap();
        assert_eq!(machine.dispatch(exit), Ok(None));
    };
    step(&mut machine);
    assert_eq!(found(&machine), there);
    step(&mut machine);
    assert!(!found(&machine), "contents are lost");
    step(&mut machine);
    assert!(found(&machine) || gpa != PLACE && there, "each time");
    let kind = machine.machine().tvm().regions().kind(&(PLACE..PLACE + PAGE));
    assert_eq!(kind, Some(RegionKind::Shared));
}

#[test]
fn a_planned_fault_is_met_and_recorded() {
    struct NoConversions;
    impl FaultHook for NoConversions {
        fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
            let failed = FaultAction::Status(SbiError::FAILED.to_register());
            (point == FaultPoint::COVE_CONVERSION).then_some(failed)
        }
    }
    let surroundings = Surroundings { faults: Box::new(NoConversions), ..Surroundings::default() };
    let mut machine =
        TvmMachine::launch(parts(vec![share(PLACE, PAGE)], &Console::default()), surroundings).unwrap();
    assert_eq!(machine.run(soon()), Err(EngineError::ScriptEnded));
    assert_eq!(machine.hart().answers(), [(SbiError::FAILED.0, 0)]);
    let failed =
        Event::Cove(CoveEvent::Covg { vcpu: 0, fid: CovgFid::SHARE_MEMORY_REGION, error: SbiError::FAILED });
    assert!(machine.journal().entries().any(|(_, event)| *event == failed));
}

fn interesting() -> impl Strategy<Value = u64> {
    let places =
        [0, 1, 48, 336, PAGE, RAM_GPA, IMAGE_GPA, PLACE, SHARED, RAM_END - PAGE, RAM_END, 1 << 50, u64::MAX];
    prop_oneof![4 => prop::sample::select(places.to_vec()), 1 => any::<u64>()]
}

fn extension() -> impl Strategy<Value = u64> {
    let known: Vec<u64> = ExtensionId::NAMED.iter().map(|(id, _)| id.0).collect();
    prop_oneof![8 => prop::sample::select(known), 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any registers, any memory: an SBI code or an end, never a failure of the engine.
    #[test]
    fn any_calls(
        calls in prop::collection::vec((prop::array::uniform6(interesting()), 0_u64..12, any::<bool>(), extension()), 1..24),
        memory in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let known: Vec<i64> = SbiError::NAMED.iter().map(|(error, _)| error.0).collect();
        let (mut machine, _) = machine(Vec::new());
        machine.ram.write(SHARED, &memory).unwrap();
        for (arguments, fid, reserved, extension) in calls {
            let a6 = fid | u64::from(reserved) << 20;
            let exit = call(ExtensionId(extension), a6, &arguments);
            let mut hart = ScriptedHart::new([exit]);
            let exit = hart.run(soon()).unwrap();
            machine.hart = hart;
            match machine.dispatch(exit).unwrap() {
                None => {
                    let (error, value) = machine.hart.answers()[0];
                    prop_assert!(known.contains(&error), "{error}");
                    prop_assert!(error == OK || value == 0);
                }
                Some(end) => prop_assert!(matches!(end, End::Done(_)) && extension == ExtensionId::SRST.0),
            }
        }
    }
}
