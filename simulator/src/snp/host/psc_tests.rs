use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rstest::rstest;
use tsmsim_abi::snp::ghcb::{ExitCode, Ghcb, GhcbField};

use super::*;
use crate::snp::{
    host::{Action, HostConfig, WalkedPage, testing::*},
    rmp::PageState,
};

const LARGE: u64 = 0x200;

fn entry(operation: PscOperation, gfn: u64) -> PscEntryBits {
    PscEntryBits::new().with_operation(operation.0).with_gfn(gfn)
}

fn large(operation: PscOperation, gfn: u64) -> PscEntryBits {
    entry(operation, gfn).with_large(true)
}

fn write(ghcb: &mut Ghcb, (cur, end): (u16, u16), entries: &[PscEntryBits]) {
    let header = u64::from(cur) | u64::from(end) << 16;
    let words = [header].into_iter().chain(entries.iter().map(|entry| u64::from(*entry)));
    for (place, word) in ghcb.shared_buffer.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    set(ghcb, GhcbField::SW_SCRATCH, SCRATCH);
}

/// Result, `cur_entry`, and each entry's `cur_page`.
fn change(machine: &mut Machine, range: (u16, u16), entries: &[PscEntryBits]) -> (PscResult, u16, Vec<u16>) {
    let (ghcb, action) = machine.exit(ExitCode::PAGE_STATE_CHANGE, 0, 0, |ghcb| write(ghcb, range, entries));
    assert_eq!(action, Action::Resume);
    let (info1, info2) = infos(&ghcb);
    assert_eq!(info1, 0);
    let word = |n: usize| u64::from_le_bytes(*ghcb.shared_buffer[8 * n..].first_chunk().unwrap());
    let pages = (0..entries.len()).map(|n| PscEntryBits::from(word(n + 1)).cur_page()).collect();
    (PscResult(info2), u16::try_from(word(0) & 0xffff).unwrap(), pages)
}

fn state(machine: &Machine, gfn: u64) -> PageState {
    machine.hypervisor.rmp().state(gfn).unwrap()
}

#[test]
fn pages_go_there_and_back() {
    let mut machine = Machine::new();
    let private = [
        entry(PscOperation::PRIVATE, 0x100),
        entry(PscOperation::PRIVATE, 0x101),
        large(PscOperation::PRIVATE, LARGE),
    ];
    assert_eq!(change(&mut machine, (0, 2), &private), (PscResult::DONE, 3, vec![1, 1, 512]));
    for gfn in [0x100, 0x101, LARGE, LARGE + 511] {
        assert_eq!(state(&machine, gfn), PageState::GuestInvalid);
    }
    assert!(machine.hypervisor.rmp().entry(LARGE).unwrap().large());
    let shared = [entry(PscOperation::SHARED, 0x101), large(PscOperation::SHARED, LARGE)];
    assert_eq!(change(&mut machine, (0, 1), &shared), (PscResult::DONE, 2, vec![1, 512]));
    assert_eq!(state(&machine, 0x100), PageState::GuestInvalid);
    assert_eq!(state(&machine, 0x101), PageState::Hypervisor);
    assert_eq!(state(&machine, LARGE + 5), PageState::Hypervisor);
    assert_eq!(machine.violations(), []);
}

#[test]
fn work_starts_where_it_stopped() {
    let mut machine = Machine::new();
    let entries = [
        entry(PscOperation::PRIVATE, 0x100),
        entry(PscOperation::PRIVATE, 0x101).with_cur_page(1),
        large(PscOperation::PRIVATE, LARGE).with_cur_page(510),
    ];
    assert_eq!(change(&mut machine, (1, 2), &entries), (PscResult::DONE, 3, vec![0, 1, 512]));
    for (gfn, expected) in [
        (0x100, PageState::Hypervisor),
        (0x101, PageState::Hypervisor),
        (LARGE + 509, PageState::Hypervisor),
        (LARGE + 510, PageState::GuestInvalid),
    ] {
        assert_eq!(state(&machine, gfn), expected, "{gfn:#x}");
    }
    assert_eq!(
        change(&mut machine, (3, 2), &entries),
        (PscResult::DONE, 3, vec![0, 1, 510]),
        "nothing to do"
    );
}

#[rstest]
#[case::end(253, 0, PscResult::INVALID_HEADER)]
#[case::end_of_all(u16::MAX, 0, PscResult::INVALID_HEADER)]
#[case::reserved(0, 1, PscResult::INVALID_HEADER)]
#[case::last_entry(252, 0, PscResult::INVALID_ENTRY)]
fn headers(#[case] end: u16, #[case] reserved: u8, #[case] result: PscResult) {
    let mut machine = Machine::new();
    let (ghcb, _) = machine.exit(ExitCode::PAGE_STATE_CHANGE, 0, 0, |ghcb| {
        write(ghcb, (0, end), &[entry(PscOperation::PRIVATE, 0x100)]);
        ghcb.shared_buffer[4] = reserved;
    });
    assert_eq!(infos(&ghcb), (0, result.0));
    let stopped = u16::from(result == PscResult::INVALID_ENTRY);
    assert_eq!(
        ghcb.shared_buffer[..2],
        stopped.to_le_bytes(),
        "the second entry of the valid one is all zero"
    );
}

#[rstest]
#[case::operation_0(entry(PscOperation(0), 0x100), PscResult::INVALID_ENTRY)]
#[case::operation_5(entry(PscOperation(5), 0x100), PscResult::INVALID_ENTRY)]
#[case::reserved(entry(PscOperation::PRIVATE, 0x100).with_reserved(1), PscResult::INVALID_ENTRY)]
#[case::cur_page(entry(PscOperation::PRIVATE, 0x100).with_cur_page(2), PscResult::INVALID_ENTRY)]
#[case::cur_page_large(large(PscOperation::PRIVATE, LARGE).with_cur_page(513), PscResult::INVALID_ENTRY)]
#[case::misaligned(large(PscOperation::PRIVATE, LARGE + 1), PscResult::INVALID_ENTRY)]
#[case::outside(entry(PscOperation::PRIVATE, RAM >> 12), PscResult::GENERIC_ERROR)]
#[case::far_outside(entry(PscOperation::SHARED, (1 << 40) - 1), PscResult::GENERIC_ERROR)]
#[case::large_outside(large(PscOperation::PRIVATE, RAM >> 12), PscResult::GENERIC_ERROR)]
fn refused_entries(#[case] refused: PscEntryBits, #[case] result: PscResult) {
    let mut machine = Machine::new();
    let good = entry(PscOperation::PRIVATE, 0x180);
    let pages = vec![1, refused.cur_page(), 0];
    assert_eq!(change(&mut machine, (0, 2), &[good, refused, good.with_gfn(0x181)]), (result, 1, pages));
    assert_eq!(state(&machine, 0x180), PageState::GuestInvalid);
    assert_eq!(state(&machine, 0x181), PageState::Hypervisor);
}

#[rstest]
#[case(PscOperation::PSMASH)]
#[case(PscOperation::UNSMASH)]
fn hints_are_done_wherever_they_point(#[case] operation: PscOperation) {
    let mut machine = Machine::new();
    let entries = [large(operation, LARGE), large(operation, RAM >> 12), entry(operation, 3)];
    assert_eq!(change(&mut machine, (0, 2), &entries), (PscResult::DONE, 3, vec![512, 512, 1]));
}

#[test]
fn hints_split_and_join() {
    let mut machine = Machine::new();
    change(&mut machine, (0, 0), &[large(PscOperation::PRIVATE, LARGE)]);
    let is_large = |machine: &Machine| machine.hypervisor.rmp().entry(LARGE).unwrap().large();
    assert!(is_large(&machine));
    change(&mut machine, (0, 0), &[large(PscOperation::PSMASH, LARGE)]);
    assert!(!is_large(&machine));
    change(&mut machine, (0, 0), &[large(PscOperation::UNSMASH, LARGE)]);
    assert!(is_large(&machine));
}

#[test]
fn a_hypervisor_may_return_early() {
    let mut machine = Machine::with(HostConfig { psc_pages_per_exit: 200, ..config() });
    machine.make_private((LARGE + 7) << 12);
    // 4 KiB entries that differ: the 2 MiB page must be changed page by page.
    let entries = [large(PscOperation::PRIVATE, LARGE), entry(PscOperation::PRIVATE, 0x100)];
    assert_eq!(change(&mut machine, (0, 1), &entries), (PscResult::DONE, 0, vec![200, 0]));
    let entries = [entries[0].with_cur_page(200), entries[1]];
    assert_eq!(change(&mut machine, (0, 1), &entries), (PscResult::DONE, 0, vec![400, 0]));
    let entries = [entries[0].with_cur_page(400), entries[1]];
    assert_eq!(change(&mut machine, (0, 1), &entries), (PscResult::DONE, 2, vec![512, 1]));
    assert_eq!(state(&machine, LARGE + 511), PageState::GuestInvalid);
}

#[test]
fn at_least_one_page_is_changed() {
    let mut machine = Machine::with(HostConfig { psc_pages_per_exit: 0, ..config() });
    let entries = [entry(PscOperation::PRIVATE, 0x100), entry(PscOperation::PRIVATE, 0x101)];
    assert_eq!(change(&mut machine, (0, 1), &entries), (PscResult::DONE, 1, vec![1, 0]));
}

#[test]
fn sharing_what_is_still_validated_is_a_violation() {
    let mut machine = Machine::new();
    change(&mut machine, (0, 0), &[entry(PscOperation::SHARED, PRIVATE >> 12)]);
    assert_eq!(machine.violations(), [(PRIVATE, Violation::SharedWhileValidated)]);
}

#[test]
fn a_vmsa_in_use_cannot_be_taken() {
    let mut machine = Machine::new();
    machine.make_vmsa(SHARED);
    let create = u64::from(APIC_IDS[1]) << 32 | 1;
    machine.exit(ExitCode::AP_CREATION, create, SHARED, |ghcb| set(ghcb, GhcbField::RAX, 1));
    let share = [entry(PscOperation::SHARED, SHARED >> 12)];
    assert_eq!(change(&mut machine, (0, 0), &share), (PscResult::GENERIC_ERROR, 0, vec![0]));
    let destroy = u64::from(APIC_IDS[1]) << 32 | 2;
    machine.exit(ExitCode::AP_CREATION, destroy, 0, |_| {});
    assert_eq!(change(&mut machine, (0, 0), &share), (PscResult::DONE, 1, vec![1]));
}

#[test]
fn the_ghcb_itself_may_go() {
    let mut machine = Machine::new();
    let sent = Machine::ghcb(ExitCode::PAGE_STATE_CHANGE, 0, 0, |ghcb| {
        write(ghcb, (0, 0), &[entry(PscOperation::PRIVATE, GHCB >> 12)]);
    });
    let (received, _) = machine.exit_with(&sent);
    assert!(received == sent, "a private page is not written");
    assert_eq!(state(&machine, GHCB >> 12), PageState::GuestInvalid);
    assert_eq!(machine.violations(), [(GHCB, Violation::HostAccessToPrivate)]);
}

#[test]
fn a_buffer_outside_the_ghcb() {
    let mut machine = Machine::with(HostConfig { scratch_outside_ghcb: true, ..config() });
    let words =
        [1 << 16, entry(PscOperation::PRIVATE, 0x180).into(), entry(PscOperation::PRIVATE, 0x181).into()];
    let buffer: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    // The buffer ends with the page, so only two entries fit.
    let gpa = SHARED + PAGE - 24;
    machine.world.memory.write(gpa, &buffer).unwrap();
    let fill = |ghcb: &mut Ghcb| set(ghcb, GhcbField::SW_SCRATCH, gpa);
    assert_eq!(machine.infos(ExitCode::PAGE_STATE_CHANGE, 0, 0, fill), (0, 0));
    assert_eq!(machine.bytes(gpa, 2), [2, 0]);
    assert_eq!(state(&machine, 0x181), PageState::GuestInvalid);
    machine.world.memory.write(gpa, &[0, 0, 2, 0]).unwrap();
    assert_eq!(machine.infos(ExitCode::PAGE_STATE_CHANGE, 0, 0, fill), (0, PscResult::INVALID_HEADER.0));
}

#[rstest]
#[case(FaultAction::Status(PscResult::GENERIC_ERROR.0), PscResult::GENERIC_ERROR, 0, false)]
#[case(FaultAction::Drop, PscResult::DONE, 0, true)]
#[case(FaultAction::FlipBit(1), PscResult::DONE, 3, true)]
fn faults(
    #[case] action: FaultAction,
    #[case] result: PscResult,
    #[case] cur_entry: u16,
    #[case] done: bool,
) {
    let mut machine = Machine::new();
    machine.fault(FaultPoint::GHCB_PAGE_STATE_CHANGE, action);
    let (got, cur, _) = change(&mut machine, (0, 0), &[entry(PscOperation::PRIVATE, 0x100)]);
    assert_eq!((got, cur), (result, cur_entry));
    assert_eq!(state(&machine, 0x100) == PageState::GuestInvalid, done);
}

/// What a guest may do to its pages, legal or not.
#[derive(Clone, Debug)]
enum Op {
    Buffer(Vec<PscEntryBits>),
    Msr(u64, u8),
    Pvalidate(u64, PageSize, u64, u64),
    Rmpadjust(u64, PageSize, u64, u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![0u64..6, 0x1feu64..0x203, 0x3feu64..0x402, 0x7feu64..0x802];
    let size = || prop_oneof![Just(PageSize::Size4K), Just(PageSize::Size2M)];
    let bits =
        (0u16..514, gfn(), 0u8..6, any::<bool>(), 0u8..8).prop_map(|(cur, gfn, operation, large, spoil)| {
            let gfn = if large && spoil != 1 { gfn & !0x1ff } else { gfn };
            let cur = if spoil == 2 { cur } else { 0 };
            entry(PscOperation(operation), gfn).with_large(large).with_cur_page(cur).with_reserved(spoil / 7)
        });
    prop_oneof![
        prop::collection::vec(bits, 1..8).prop_map(Op::Buffer),
        (gfn(), 0u8..4).prop_map(|(gfn, operation)| Op::Msr(gfn, operation)),
        (gfn(), size(), 0u64..3, 0u64..3)
            .prop_map(|(gfn, size, rcx, rdx)| Op::Pvalidate(gfn, size, rcx, rdx)),
        (gfn(), size(), 0u64..3, 0u64..0x2_0400)
            .prop_map(|(gfn, size, rcx, rdx)| Op::Rmpadjust(gfn, size, rcx, rdx)),
    ]
}

fn run(machine: &mut Machine, op: &Op) {
    match op {
        Op::Buffer(entries) => {
            let end = u16::try_from(entries.len() - 1).unwrap();
            let (result, cur, pages) = change(machine, (0, end), entries);
            assert!(pages.iter().all(|page| *page <= 513));
            if result == PscResult::DONE && machine.hypervisor.rmp().is_shared(GHCB >> 12) {
                assert_eq!(cur, end + 1);
            }
        }
        Op::Msr(gfn, operation) => drop(machine.msr(GhcbMsr::page_state_change(*gfn, *operation))),
        Op::Pvalidate(gfn, size, rcx, rdx) => {
            let page = WalkedPage { gpa: gfn << 12, c_bit: true, size: *size };
            machine.hypervisor.pvalidate(page, *rcx, *rdx, &mut machine.world.env().0);
        }
        Op::Rmpadjust(gfn, size, rcx, rdx) => {
            let page = WalkedPage { gpa: gfn << 12, c_bit: true, size: *size };
            machine.hypervisor.rmpadjust(page, *rcx, *rdx, &mut machine.world.env().0);
        }
    }
}

#[test]
fn page_states_stay_sound() {
    let machine = std::cell::RefCell::new(Machine::new());
    let mut runner = TestRunner::new(Config { cases: 192, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(ops(), 1..24), |ops| {
            let mut machine = machine.borrow_mut();
            for op in &ops {
                run(&mut machine, op);
                if !machine.hypervisor.rmp().is_shared(GHCB >> 12) {
                    machine.share(GHCB);
                }
            }
            for gfn in 0..RAM >> 12 {
                let entry = machine.hypervisor.rmp().entry(gfn).unwrap();
                prop_assert!(!entry.validated() || entry.assigned(), "validated and shared");
                prop_assert!(!entry.vmsa() || entry.validated(), "a VMSA that is not validated");
                prop_assert!(!entry.immutable(), "nothing is immutable after the launch");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_buffer_ends() {
    let machine = std::cell::RefCell::new(Machine::new());
    let mut runner = TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() });
    let buffer = (prop::collection::vec(any::<u8>(), 2032), 0u16..260, any::<bool>());
    runner
        .run(&buffer, |(mut buffer, end, sane)| {
            let mut machine = machine.borrow_mut();
            if sane {
                buffer[..8].copy_from_slice(&(u64::from(end) << 16).to_le_bytes());
            }
            machine.exit(ExitCode::PAGE_STATE_CHANGE, 0, 0, |ghcb| {
                ghcb.shared_buffer.copy_from_slice(&buffer);
                set(ghcb, GhcbField::SW_SCRATCH, SCRATCH);
            });
            machine.share(GHCB);
            Ok(())
        })
        .unwrap();
}
