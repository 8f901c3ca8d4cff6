//! Dispatch of a TD's exits with a scripted engine: no processor, real module and host.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::{
    guest_test::EXIT_PORT,
    tdx::{
        get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION},
        leaf::{LeafAndVersion, TdcallLeaf, VmcallControl, exit_reason},
        report::TdReport,
        status::{CompletionStatus, OperandId, StatusCode},
        td_params::TdAttributes,
        vmcall::{FatalError, VmcallStatus, VmcallSubFunction},
    },
};
use tsmsim_keys::Seed;
use tsmsim_simulator::{
    env::Clock,
    tdx::{
        guest::default_params,
        machine::{LaunchPlan, PlannedPage},
        platform::TdxPlatformConfig,
        vmcall::{FatalReport, HostConfig},
    },
};
use zerocopy::{FromZeros, IntoBytes};

use super::tdx::{End, MSR_MISC_ENABLE, Surroundings, TdMachine, TdMachineParts};
use crate::{
    bus::PortBus,
    engine::{
        Exception, Exit, InitialState, Registers, SystemRegisters,
        cpuid::CpuidTable,
        scripted::{Answer, ScriptedEngine, Step},
    },
    loader::patch::PatchedInstruction,
    memory::GuestRam,
};

/// An added page; the pages behind it are free.
const PAGE: u64 = 0x10_0000;
const SHARED: u64 = 1 << 47;
/// A page that is shared by the script.
const BUFFER: u64 = 0x20_0000;
const GP: Exception = Exception::general_protection(0);
const VE: Exception = Exception::VIRTUALIZATION;

/// A clock that moves on by a millisecond whenever it is asked.
#[derive(Clone, Default)]
struct Ticking(Arc<AtomicU64>);

impl Clock for Ticking {
    fn now_ns(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

struct Bench {
    host: HostConfig,
    sept_ve_disable: bool,
    ram: GuestRam,
}

impl Default for Bench {
    fn default() -> Self {
        Self { host: HostConfig::default(), sept_ve_disable: true, ram: GuestRam::new(4 << 20).unwrap() }
    }
}

impl Bench {
    fn machine(&self, script: impl IntoIterator<Item = impl Into<Step>>) -> TdMachine<ScriptedEngine> {
        let mut params = default_params();
        let attributes = TdAttributes::new().with_sept_ve_disable(self.sept_ve_disable);
        params.attributes = u64::from(attributes).into();
        let plan = LaunchPlan {
            params,
            ram: std::iter::once(0..self.ram.size()).collect(),
            vcpus: 1,
            pages: vec![PlannedPage { gpa: PAGE, contents: None, measured: true }],
        };
        let parts = TdMachineParts {
            engine: ScriptedEngine::new(script),
            ram: self.ram.clone(),
            bus: PortBus::new(),
            cpuid: CpuidTable::new(),
            platform: TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap(),
            host: self.host.clone(),
            plan,
            state: InitialState::long_mode(PAGE, 0x1000),
        };
        let clock = Box::new(Ticking::default());
        TdMachine::launch(parts, Surroundings { clock, ..Surroundings::default() }).unwrap()
    }
}

fn machine(script: impl IntoIterator<Item = impl Into<Step>>) -> TdMachine<ScriptedEngine> {
    Bench::default().machine(script)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn out(port: u16, byte: u8) -> Exit {
    Exit::IoOut { port, size: 1, data: vec![byte] }
}

fn done() -> Step {
    out(EXIT_PORT, 0).into()
}

/// TDCALL with these registers.
fn tdcall(registers: Registers) -> Step {
    Step::from(out(PatchedInstruction::Tdcall.port(), 0)).with_registers(Registers { rip: PAGE, ..registers })
}

fn leaf(leaf: TdcallLeaf) -> u64 {
    LeafAndVersion::new().with_leaf(leaf.0).into()
}

fn report(to: u64) -> Step {
    let rax = leaf(TdcallLeaf::TDG_MR_REPORT);
    tdcall(Registers { rax, rcx: to, rdx: PAGE, ..Registers::default() })
}

/// TDVMCALL with R12 and R13.
fn vmcall(sub_function: VmcallSubFunction, r12: u64, r13: u64) -> Step {
    let shown = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
    tdcall(Registers { rcx: shown.into(), r11: sub_function.0, r12, r13, ..Registers::default() })
}

/// What dispatch answered, without the initial state.
fn answers(machine: &TdMachine<ScriptedEngine>) -> Vec<Answer> {
    let initial = |answer: &&Answer| !matches!(answer, Answer::InitialState(_));
    machine.engine().answers().iter().filter(initial).cloned().collect()
}

/// The registers after each TDCALL that came back.
fn registers(machine: &TdMachine<ScriptedEngine>) -> Vec<Registers> {
    let registers = |answer: Answer| match answer {
        Answer::Registers(registers) => Some(*registers),
        _ => None,
    };
    answers(machine).into_iter().filter_map(registers).collect()
}

#[rstest]
#[case::done(out(EXIT_PORT, 0), End::Done(0))]
#[case::gave_up(out(EXIT_PORT, 3), End::Done(3))]
#[case::triple_fault(Exit::Shutdown, End::Shutdown)]
#[case::reset(Exit::SystemEvent { kind: 2, data: vec![] }, End::Shutdown)]
#[case::time(Exit::Deadline, End::Deadline)]
#[case::unrunnable(
    Exit::InternalError { suberror: 1, instruction: vec![0x0f, 0x0b] },
    End::Unrunnable { rip: PAGE, instruction: vec![0x0f, 0x0b] }
)]
#[case::private_address_without_memory(
    Exit::MmioWrite { gpa: 0xfee0_0000, data: vec![1] },
    End::MemoryFault { gpa: 0xfee0_0000 }
)]
#[case::read_of_one(Exit::MmioRead { gpa: 0xfee0_0000, size: 4 }, End::MemoryFault { gpa: 0xfee0_0000 })]
#[case::ram_that_lacks_its_shared_name(
    Exit::MmioWrite { gpa: SHARED | PAGE, data: vec![1] },
    End::MemoryFault { gpa: SHARED | PAGE }
)]
#[case::address_too_wide(Exit::MmioWrite { gpa: 1 << 48, data: vec![1] }, End::MemoryFault { gpa: 1 << 48 })]
fn a_run_ends(#[case] exit: Exit, #[case] end: End) {
    assert_eq!(machine([exit]).run(soon()).unwrap(), end);
}

#[test]
fn a_deadline_in_the_past_ends_at_once_and_can_be_moved() {
    let mut machine = machine([done()]);
    assert_eq!(machine.run(Instant::now()).unwrap(), End::Deadline);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
}

#[test]
fn tdcall_answers_in_registers_and_leaves_the_others() {
    let before = Registers {
        rax: leaf(TdcallLeaf::TDG_VP_INFO),
        rbx: 11,
        rsp: 12,
        rbp: 13,
        r15: 14,
        rflags: 2,
        ..Registers::default()
    };
    let mut machine = machine([tdcall(before), done()]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    let [after] = registers(&machine)[..] else { panic!("{:?}", answers(&machine)) };
    assert_eq!((after.rax, after.rcx), (0, 48));
    assert_eq!((after.rbx, after.rsp, after.rbp, after.r15), (11, 12, 13, 14));
    assert_eq!((after.rip, after.rflags), (PAGE, 2), "the engine goes on behind the instruction by itself");
}

#[test]
fn a_report_is_in_memory() {
    let bench = Bench::default();
    bench.ram.write(PAGE, &[9; 64]).unwrap();
    let mut machine = bench.machine([report(PAGE + 0x400), done()]);
    machine.run(soon()).unwrap();
    assert_eq!(registers(&machine)[0].rax, 0);
    let mut report = TdReport::new_zeroed();
    bench.ram.read(PAGE + 0x400, report.as_mut_bytes()).unwrap();
    assert_eq!(report.report_mac_struct.report_data, [9; 64]);
    assert_eq!(report.td_info, machine.machine().td().td_info());
}

#[rstest]
#[case::unaligned(report(PAGE + 1), StatusCode::OPERAND_INVALID.of(OperandId::RCX))]
#[case::beyond_the_width(report(1 << 48), StatusCode::OPERAND_INVALID.of(OperandId::RCX))]
fn what_the_module_refuses(#[case] step: Step, #[case] status: CompletionStatus) {
    let mut machine = machine([step, done()]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    assert_eq!(CompletionStatus(registers(&machine)[0].rax), status);
}

#[test]
fn tdcall_is_for_ring_0() {
    let user = SystemRegisters { cpl: 3, ..SystemRegisters::default() };
    let mut machine = machine([report(PAGE).with_system_registers(user), done()]);
    machine.run(soon()).unwrap();
    assert_eq!(answers(&machine), [Answer::Fault(GP, 2)]);
}

#[test]
fn a_page_that_was_not_accepted_stops_the_machine_or_raises_ve() {
    let outside = 5 << 20;
    assert_eq!(machine([report(outside)]).run(soon()).unwrap(), End::MemoryFault { gpa: outside });
    let pending = PAGE + 0x1000;
    assert_eq!(machine([report(pending)]).run(soon()).unwrap(), End::MemoryFault { gpa: pending });
    let bench = Bench { sept_ve_disable: false, ..Bench::default() };
    let mut machine = bench.machine([report(pending), report(pending), done()]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    // The second comes before the TD has asked about the first.
    assert_eq!(answers(&machine), [Answer::Fault(VE, 2), Answer::Fault(GP, 2)]);
    assert_eq!(machine.machine().td().vcpus()[0].ve_info().unwrap().gpa, pending);
}

#[rstest]
#[case::hlt(Exit::Hlt, exit_reason::HLT, 1)]
#[case::rdmsr(Exit::MsrRead { index: MSR_MISC_ENABLE }, exit_reason::MSR_READ, 2)]
#[case::wrmsr(Exit::MsrWrite { index: MSR_MISC_ENABLE, value: 0 }, exit_reason::MSR_WRITE, 2)]
fn instructions_that_a_td_cannot_execute(#[case] exit: Exit, #[case] reason: u64, #[case] length: u8) {
    let veinfo = tdcall(Registers { rax: leaf(TdcallLeaf::TDG_VP_VEINFO_GET), ..Registers::default() });
    let mut machine = machine([Step::from(exit.clone()), veinfo, exit.clone().into(), exit.into(), done()]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    let info = registers(&machine)[0];
    assert_eq!((info.rax, info.rcx, info.r10 & 0xffff_ffff), (0, reason, length.into()));
    let faults: Vec<_> =
        answers(&machine).into_iter().filter(|answer| matches!(answer, Answer::Fault(..))).collect();
    assert_eq!(faults, [Answer::Fault(VE, length), Answer::Fault(VE, length), Answer::Fault(GP, length)]);
}

#[rstest]
#[case::blocked(1)]
#[case::nothing_in_flight(0)]
fn a_halt_that_nothing_ends(#[case] blocked: u64) {
    let halt = vmcall(VmcallSubFunction::INSTRUCTION_HLT, blocked, 0);
    assert_eq!(machine([halt]).run(soon()).unwrap(), End::Halted);
}

#[test]
fn a_td_can_end_itself() {
    let error = FatalError::new().with_error_code(7);
    let shown = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
    let registers = Registers {
        rcx: shown.into(),
        r11: VmcallSubFunction::REPORT_FATAL_ERROR.0,
        r12: error.into(),
        r14: u64::from_le_bytes(*b"no more\0"),
        ..Registers::default()
    };
    let end = machine([tdcall(registers)]).run(soon()).unwrap();
    let mut text = [0; 64];
    text[..7].copy_from_slice(b"no more");
    assert_eq!(end, End::Fatal(FatalReport { error, gpa: None, text }));
    assert_eq!(end.to_string(), "the TD ended itself: error 0x7, no more");
}

/// A request for a quote in the buffer, with a report that the script of `machine` made there.
fn request(ram: &GuestRam) {
    let header =
        GetQuoteHeader { version: VERSION.into(), in_len: 1024.into(), ..GetQuoteHeader::new_zeroed() };
    ram.write(BUFFER, header.as_bytes()).unwrap();
    let mut report = [0; 1024];
    ram.read(PAGE + 0x400, &mut report).unwrap();
    ram.write(BUFFER + 24, &report).unwrap();
}

fn quote_status(ram: &GuestRam) -> GetQuoteStatus {
    let mut header = GetQuoteHeader::new_zeroed();
    ram.read(BUFFER, header.as_mut_bytes()).unwrap();
    GetQuoteStatus(header.status.get())
}

/// A machine that has made a report and shared the buffer, and goes on with `script`.
fn with_request(bench: &Bench, script: Vec<Step>) -> TdMachine<ScriptedEngine> {
    let share = vmcall(VmcallSubFunction::MAP_GPA, SHARED | BUFFER, 0x4000);
    let before = [report(PAGE + 0x400), share, Exit::Deadline.into()];
    let mut machine = bench.machine(before.into_iter().chain(script));
    assert_eq!(machine.run(soon()).unwrap(), End::Deadline);
    request(&bench.ram);
    machine
}

fn get_quote() -> Step {
    vmcall(VmcallSubFunction::GET_QUOTE, SHARED | BUFFER, 0x4000)
}

fn notify_by(vector: u64) -> Step {
    vmcall(VmcallSubFunction::SETUP_EVENT_NOTIFY_INTERRUPT, vector, 0)
}

#[test]
fn a_delayed_quote_ends_a_halt_by_its_interrupt() {
    let host = HostConfig { quote_delay_ns: Some(20_000_000), ..HostConfig::default() };
    let bench = Bench { host, ..Bench::default() };
    let halt = vmcall(VmcallSubFunction::INSTRUCTION_HLT, 0, 0);
    let mut machine = with_request(&bench, vec![notify_by(0x40), get_quote(), halt, done()]);
    // While the quote is in flight a deadline may pass; the machine halts on.
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    assert_eq!(quote_status(&bench.ram), GetQuoteStatus::SUCCESS);
    let interrupts = answers(&machine).into_iter().filter(|answer| *answer == Answer::Interrupt(0x40));
    assert_eq!(interrupts.count(), 1);
}

#[test]
fn a_quote_at_once_has_its_interrupt_wait_for_the_halt() {
    let bench = Bench::default();
    let halt = vmcall(VmcallSubFunction::INSTRUCTION_HLT, 0, 0);
    let mut machine = with_request(&bench, vec![notify_by(0xff), get_quote(), halt]);
    // The script supposes that the interrupt is taken before the halt, so nothing ends that.
    assert_eq!(machine.run(soon()).unwrap(), End::Halted);
    assert_eq!(quote_status(&bench.ram), GetQuoteStatus::SUCCESS);
    assert!(answers(&machine).contains(&Answer::Interrupt(0xff)));
}

#[test]
fn a_halt_outlasts_a_deadline() {
    let host = HostConfig { quote_delay_ns: Some(u64::MAX / 4), ..HostConfig::default() };
    let bench = Bench { host, ..Bench::default() };
    let halt = vmcall(VmcallSubFunction::INSTRUCTION_HLT, 0, 0);
    let mut machine = with_request(&bench, vec![get_quote(), halt, done()]);
    for _ in 0..2 {
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(machine.run(deadline).unwrap(), End::Deadline);
    }
    assert_eq!(quote_status(&bench.ram), GetQuoteStatus::IN_FLIGHT);
    assert_eq!(machine.engine().remaining(), 1);
}

#[test]
fn ports_and_shared_devices_are_answered() {
    let mut machine = machine([
        Step::from(Exit::IoIn { port: 0x60, size: 2, count: 2 }),
        Exit::MmioRead { gpa: SHARED | 0xfee0_0000, size: 4 }.into(),
        Exit::MmioWrite { gpa: SHARED | 0xfee0_0000, data: vec![1] }.into(),
        done(),
    ]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    assert_eq!(answers(&machine), [Answer::IoIn(vec![0xff; 4]), Answer::MmioRead(vec![0xff; 4])]);
}

#[test]
fn msrs_are_the_hosts() {
    let read = |index| vmcall(VmcallSubFunction::INSTRUCTION_RDMSR, index, 0);
    let write = vmcall(VmcallSubFunction::INSTRUCTION_WRMSR, MSR_MISC_ENABLE.into(), 0);
    let mut machine = machine([read(MSR_MISC_ENABLE.into()), read(0x10), write, done()]);
    machine.run(soon()).unwrap();
    let after = registers(&machine);
    let status = |index: usize| VmcallStatus(after[index].r10);
    assert_eq!((status(0), after[0].r11), (VmcallStatus::SUCCESS, 1));
    assert_eq!((status(1), status(2)), (VmcallStatus::INVALID_OPERAND, VmcallStatus::INVALID_OPERAND));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a TD puts into registers, a run ends by one of the named ends.
    #[test]
    fn wild_registers(calls in prop::collection::vec((0_u64..32, any::<[u64; 14]>(), 0_u64..4), 1..8)) {
        let step = |(leaf, values, page): &(u64, [u64; 14], u64)| {
            let [rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15] = *values;
            let at = |value: u64| if value & 1 == 0 { (value & 0x3f_f000) | page << 46 } else { value };
            let few = r11 & 1 == 0;
            tdcall(Registers {
                rax: *leaf,
                rbx, rsi, rdi, rbp, r8, r9, r15, r14,
                rcx: if *leaf == 0 { rcx & 0xffff } else { at(rcx) },
                rdx: at(rdx),
                r10: if few { 0 } else { r10 },
                r11: if few { 0x1_0000 + (r11 >> 1 & 7) } else { r11 },
                r12: at(r12),
                r13: at(r13) & 0xff_ffff,
                ..Registers::default()
            })
        };
        let script: Vec<Step> = calls.iter().map(step).chain([done()]).collect();
        let end = machine(script).run(soon());
        prop_assert!(matches!(end, Ok(End::Done(0) | End::Halted | End::Fatal(_) | End::MemoryFault { .. })), "{end:?}");
    }
}
