//! Dispatch with a scripted engine: no processor, real firmware.

use std::time::{Duration, Instant};

use rstest::rstest;
use tsmsim_abi::{
    guest_test::EXIT_PORT,
    snp::{
        launch::PageType,
        msr::{GhcbInfo, GhcbMsr, MSR_GHCB, MSR_SEV_STATUS, TerminationReason},
        policy::GuestPolicy,
        rmp::RmpReturn,
        tcb::ProductLine,
    },
};
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{
    firmware::Firmware,
    host::{HostConfig, LaunchPlan, PlannedPage, Termination},
    platform::PlatformConfig,
};

use super::snp::{End, SnpMachine, SnpMachineParts};
use crate::{
    bus::PortBus,
    engine::{
        Exit, GeneralProtection, Registers,
        cpuid::CpuidTable,
        rflags,
        scripted::{Answer, ScriptedEngine, Step},
    },
    loader::{boot::write_identity_tables, patch::PatchedInstruction, vmsa::long_mode_vmsa},
    memory::GuestRam,
};

const TABLES: u64 = 0x1000;
/// A page of the guest's, validated at launch.
const PAGE: u64 = 0x10_0000;
const C_BIT: u8 = 40;

/// A machine whose guest has boot page tables (without C-bit) and one page; it plays the script.
fn machine(script: impl IntoIterator<Item = impl Into<Step>>) -> SnpMachine<ScriptedEngine> {
    let ram = GuestRam::new(4 << 20).unwrap();
    let tables = write_identity_tables(&ram, TABLES).unwrap();
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.extend(tables.pages().map(|gpa| PlannedPage::memory(PageType::NORMAL, gpa)));
    plan.pages.push(PlannedPage::memory(PageType::ZERO, PAGE));
    let platform = PlatformConfig::new(ProductLine::Genoa).with_c_bit(C_BIT).build(&Seed::DEFAULT).unwrap();
    let host =
        HostConfig { ram: std::iter::once(0..ram.size()).collect(), c_bit: C_BIT, ..HostConfig::default() };
    SnpMachine::launch(SnpMachineParts {
        engine: ScriptedEngine::new(script),
        ram,
        bus: PortBus::new(),
        cpuid: CpuidTable::new(),
        firmware: Firmware::new(platform),
        host,
        plan,
        vmsa: Box::new(long_mode_vmsa(PAGE, tables.cr3, 0)),
    })
    .unwrap()
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

/// What dispatch answered, without the initial state.
fn answers(machine: &SnpMachine<ScriptedEngine>) -> Vec<Answer> {
    let initial = |answer: &&Answer| !matches!(answer, Answer::InitialState(_));
    machine.engine().answers().iter().filter(initial).cloned().collect()
}

#[rstest]
#[case::done(out(EXIT_PORT, 0), End::Done(0))]
#[case::gave_up(out(EXIT_PORT, 3), End::Done(3))]
#[case::halted(Exit::Hlt, End::Halted)]
#[case::triple_fault(Exit::Shutdown, End::Shutdown)]
#[case::reset(Exit::SystemEvent { kind: 2, data: vec![] }, End::Shutdown)]
#[case::time(Exit::Deadline, End::Deadline)]
#[case::unrunnable(
    Exit::InternalError { suberror: 1, instruction: vec![0x0f, 0x0b] },
    End::Unrunnable { rip: PAGE, instruction: vec![0x0f, 0x0b] }
)]
fn a_run_ends(#[case] exit: Exit, #[case] end: End) {
    assert_eq!(machine([exit]).run(soon()).unwrap(), end);
}

#[test]
fn a_deadline_in_the_past_ends_at_once_and_can_be_moved() {
    let mut machine = machine([done()]);
    assert_eq!(machine.run(Instant::now()).unwrap(), End::Deadline);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
}

#[rstest]
#[case::sev_status(MSR_SEV_STATUS, Ok(7))]
#[case::ghcb(MSR_GHCB, Ok(0))]
#[case::unknown(0xdead_beef, Err(GeneralProtection))]
fn msrs_are_read(#[case] index: u32, #[case] value: Result<u64, GeneralProtection>) {
    let mut machine = machine([Step::from(Exit::MsrRead { index }), done()]);
    machine.run(soon()).unwrap();
    assert_eq!(answers(&machine), [Answer::MsrRead(value)]);
}

#[rstest]
#[case::ghcb(MSR_GHCB, Ok(()))]
#[case::sev_status_is_read_only(MSR_SEV_STATUS, Err(GeneralProtection))]
#[case::unknown(0xdead_beef, Err(GeneralProtection))]
fn msrs_are_written(#[case] index: u32, #[case] outcome: Result<(), GeneralProtection>) {
    let mut machine = machine([Step::from(Exit::MsrWrite { index, value: 2 }), done()]);
    machine.run(soon()).unwrap();
    assert_eq!(answers(&machine), [Answer::MsrWrite(outcome)]);
}

#[test]
fn vmgexit_answers_in_the_ghcb_msr() {
    let request = GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST).0;
    let mut machine = machine([
        Step::from(Exit::MsrWrite { index: MSR_GHCB, value: request }),
        out(PatchedInstruction::Vmgexit.port(), 0).into(),
        Exit::MsrRead { index: MSR_GHCB }.into(),
        done(),
    ]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    let response = GhcbMsr::sev_info(2, 1, C_BIT).0;
    assert_eq!(answers(&machine), [Answer::MsrWrite(Ok(())), Answer::MsrRead(Ok(response))]);
}

#[test]
fn a_guest_can_end_itself() {
    let reason = TerminationReason { set: 1, code: 3 };
    let mut machine = machine([
        Exit::MsrWrite { index: MSR_GHCB, value: GhcbMsr::terminate(reason).0 },
        out(PatchedInstruction::Vmgexit.port(), 0),
    ]);
    let end = machine.run(soon()).unwrap();
    assert_eq!(end, End::Terminated(Termination::Requested(reason)));
    assert!(end.to_string().contains("not running at VMPL0"), "{end}");
}

/// PVALIDATE of an address; returns EAX, the carry flag and the zero flag.
fn pvalidate(address: u64, size: u64, validate: u64) -> (u64, bool, bool) {
    let registers = Registers { rax: address, rcx: size, rdx: validate, rip: PAGE, ..Registers::default() };
    let step = Step::from(out(PatchedInstruction::Pvalidate.port(), 0)).with_registers(registers);
    let mut machine = machine([step, done()]);
    assert_eq!(machine.run(soon()).unwrap(), End::Done(0));
    match answers(&machine).as_slice() {
        [Answer::Registers(after)] => {
            assert_eq!(
                (after.rcx, after.rdx, after.rip),
                (size, validate, PAGE),
                "only RAX and flags change"
            );
            (after.rax, after.rflags & rflags::CF != 0, after.rflags & rflags::ZF != 0)
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::validated_already(PAGE, 0, 1, RmpReturn::SUCCESS, true)]
#[case::rescind(PAGE, 0, 0, RmpReturn::SUCCESS, false)]
#[case::bits_above_the_first_do_not_count(PAGE, 0x100, 0x1_b200, RmpReturn::SUCCESS, false)]
fn pvalidate_leaves_its_result(
    #[case] address: u64,
    #[case] size: u64,
    #[case] validate: u64,
    #[case] result: RmpReturn,
    #[case] carry: bool,
) {
    let zero = result == RmpReturn::SUCCESS;
    assert_eq!(pvalidate(address, size, validate), (u64::from(result.0), carry, zero));
}

#[rstest]
#[case::unmapped(1 << 40)]
#[case::not_canonical(1 << 63)]
fn an_operand_that_is_not_mapped_faults(#[case] address: u64) {
    let registers = Registers { rax: address, ..Registers::default() };
    let step = Step::from(out(PatchedInstruction::Rmpadjust.port(), 0)).with_registers(registers);
    let mut machine = machine([step, done()]);
    machine.run(soon()).unwrap();
    assert!(matches!(answers(&machine).as_slice(), [Answer::Exception(_)]));
}

#[rstest]
#[case::pvalidate(PatchedInstruction::Pvalidate)]
#[case::rmpadjust(PatchedInstruction::Rmpadjust)]
fn page_instructions_are_for_ring_0(#[case] instruction: PatchedInstruction) {
    let system = crate::engine::SystemRegisters { cpl: 3, ..Default::default() };
    let step = Step::from(out(instruction.port(), 0)).with_system_registers(system);
    let mut machine = machine([step, done()]);
    machine.run(soon()).unwrap();
    assert!(matches!(answers(&machine).as_slice(), [Answer::Exception(_)]));
}

#[test]
fn nothing_answers_outside_ram_and_devices() {
    let mut machine = machine([
        Step::from(Exit::IoIn { port: 0x60, size: 2, count: 2 }),
        Exit::MmioRead { gpa: 0xfee0_0000, size: 4 }.into(),
        Exit::MmioWrite { gpa: 0xfee0_0000, data: vec![1] }.into(),
        done(),
    ]);
    machine.run(soon()).unwrap();
    assert_eq!(answers(&machine), [Answer::IoIn(vec![0xff; 4]), Answer::MmioRead(vec![0xff; 4])]);
}

#[test]
fn launched_pages_are_the_guests_and_the_rest_is_shared() {
    let machine = machine([done()]);
    assert!(!machine.hypervisor().rmp().is_shared(PAGE >> 12));
    assert!(machine.hypervisor().rmp().is_shared(0));
}
