use proptest::prelude::*;
use rstest::rstest;

use super::*;

const MIB: u64 = 1 << 20;

fn rmp() -> Rmp {
    Rmp::new(&[0..MIB, 2 * MIB..8 * MIB + 0x800])
}

fn all() -> [VmplPermissions; 3] {
    [VmplPermissions::from(0xf); 3]
}

#[test]
fn only_ram_has_entries() {
    let rmp = rmp();
    assert_eq!(rmp.state(0), Some(PageState::Hypervisor));
    assert_eq!(rmp.state(0x100), None);
    assert_eq!(rmp.state(0x7ff), Some(PageState::Hypervisor));
    assert_eq!(rmp.state(0x800), None);
    assert_eq!(rmp.state(u64::MAX), None);
    assert!(!rmp.contains(0, 0x200) && rmp.contains(0x200, 0x200));
}

#[test]
fn a_page_goes_to_the_guest_and_back() {
    let mut rmp = rmp();
    rmp.assign(5, PageSize::Size4K, false).unwrap();
    assert_eq!(rmp.state(5), Some(PageState::GuestInvalid));
    assert_eq!(rmp.pvalidate(0, 5, PageSize::Size4K, true), RmpOutcome::SUCCESS);
    assert_eq!(rmp.state(5), Some(PageState::GuestValid));
    rmp.assign(5, PageSize::Size4K, false).unwrap();
    assert_eq!(rmp.state(5), Some(PageState::GuestValid), "assigning again changes nothing");
    assert_eq!(rmp.unassign(5, PageSize::Size4K), Ok(true));
    assert!(rmp.is_shared(5));
    assert_eq!(rmp.unassign(5, PageSize::Size4K), Ok(false));
    assert!(rmp.is_shared(4) && rmp.is_shared(6));
}

#[rstest]
#[case::outside(0x100, PageSize::Size4K, RmpUpdateError::OutOfRange(0x100))]
#[case::wraps(u64::MAX, PageSize::Size4K, RmpUpdateError::OutOfRange(u64::MAX))]
#[case::partly_outside(0, PageSize::Size2M, RmpUpdateError::OutOfRange(0))]
#[case::misaligned(0x201, PageSize::Size2M, RmpUpdateError::Misaligned(0x201))]
#[case::overlap(0x400, PageSize::Size2M, RmpUpdateError::Overlap(0x400))]
#[case::immutable(1, PageSize::Size4K, RmpUpdateError::State { gfn: 1, state: PageState::PreGuest })]
fn refused_updates(#[case] gfn: u64, #[case] size: PageSize, #[case] error: RmpUpdateError) {
    let mut rmp = rmp();
    rmp.assign(1, PageSize::Size4K, true).unwrap();
    rmp.assign(0x401, PageSize::Size4K, false).unwrap();
    assert_eq!(rmp.assign(gfn, size, false), Err(error));
    assert_eq!(rmp.unassign(gfn, size), Err(error));
}

#[test]
fn launch_converts_pre_guest_pages_only() {
    let mut rmp = rmp();
    assert_eq!(rmp.launch_convert(1, false, all()), Err(Some(PageState::Hypervisor)));
    assert_eq!(rmp.launch_convert(0x100, false, all()), Err(None));
    rmp.assign(1, PageSize::Size4K, true).unwrap();
    assert_eq!(rmp.state(1), Some(PageState::PreGuest));
    rmp.launch_convert(1, true, all()).unwrap();
    let entry = rmp.entry(1).unwrap();
    assert_eq!((entry.state(), entry.vmsa(), u8::from(entry.vmpl2())), (PageState::GuestValid, true, 0xf));
    assert_eq!(rmp.launch_convert(1, false, all()), Err(Some(PageState::GuestValid)));
}

#[test]
fn large_pages_split_and_join() {
    let mut rmp = rmp();
    rmp.assign(0x200, PageSize::Size2M, false).unwrap();
    assert_eq!(rmp.pvalidate(0, 0x200, PageSize::Size2M, true), RmpOutcome::SUCCESS);
    assert!(rmp.entry(0x3ff).unwrap().large());
    rmp.psmash(0x234);
    assert!(!rmp.entry(0x200).unwrap().large());
    assert_eq!(rmp.pvalidate(0, 0x200, PageSize::Size2M, true).result, RmpReturn::FAIL_SIZEMISMATCH);
    assert!(rmp.unsmash(0x234));
    assert!(rmp.entry(0x200).unwrap().large());
    assert_eq!(rmp.pvalidate(0, 0x234, PageSize::Size4K, false), RmpOutcome::SUCCESS);
    assert_eq!(rmp.state(0x234), Some(PageState::GuestInvalid));
    assert_eq!(rmp.state(0x235), Some(PageState::GuestValid));
    assert!(!rmp.unsmash(0x234), "entries differ");
    assert!(!rmp.unsmash(0x400), "the hypervisor's");
    assert!(!rmp.unsmash(0x10), "not all RAM");
}

#[rstest]
#[case::shared(0, 3, PageSize::Size4K, true, RmpReturn::FAIL_INPUT, false, Some(Violation::ValidateShared))]
#[case::outside(0, 0x100, PageSize::Size4K, true, RmpReturn::FAIL_INPUT, false, Some(Violation::OutOfRange))]
#[case::again(0, 1, PageSize::Size4K, true, RmpReturn::SUCCESS, true, Some(Violation::AlreadyValidated))]
#[case::rescind_again(0, 2, PageSize::Size4K, false, RmpReturn::SUCCESS, true, None)]
#[case::vmpl1(1, 2, PageSize::Size4K, true, RmpReturn::FAIL_PERMISSION, false, None)]
#[case::size(0, 0x400, PageSize::Size2M, true, RmpReturn::FAIL_SIZEMISMATCH, false, None)]
#[case::misaligned(0, 0x401, PageSize::Size2M, true, RmpReturn::FAIL_INPUT, false, None)]
#[case::vmsa(0, 4, PageSize::Size4K, false, RmpReturn::FAIL_INPUT, false, Some(Violation::VmsaMismatch))]
fn pvalidate_refusals(
    #[case] vmpl: u8,
    #[case] gfn: u64,
    #[case] size: PageSize,
    #[case] validate: bool,
    #[case] result: RmpReturn,
    #[case] carry: bool,
    #[case] violation: Option<Violation>,
) {
    let mut rmp = sample();
    assert_eq!(rmp.pvalidate(vmpl, gfn, size, validate), RmpOutcome { result, carry, violation });
}

/// Frame 1 valid, 2 invalid, 3 shared, 4 a VMSA, 0x400 invalid with a 4 KiB entry.
fn sample() -> Rmp {
    let mut rmp = rmp();
    for gfn in [1, 2, 4, 0x400] {
        rmp.assign(gfn, PageSize::Size4K, false).unwrap();
    }
    for gfn in [1, 4] {
        assert_eq!(rmp.pvalidate(0, gfn, PageSize::Size4K, true), RmpOutcome::SUCCESS);
    }
    assert_eq!(rmp.rmpadjust(0, 4, PageSize::Size4K, adjust(1, 0, true)), RmpOutcome::SUCCESS);
    rmp
}

fn adjust(target: u8, permissions: u8, vmsa: bool) -> RmpAdjustOperand {
    RmpAdjustOperand::new().with_target_vmpl(target).with_permissions(permissions).with_vmsa(vmsa)
}

#[rstest]
#[case::granted(0, 1, PageSize::Size4K, adjust(2, 0xf, false), RmpReturn::SUCCESS, None)]
#[case::same_vmpl(1, 1, PageSize::Size4K, adjust(1, 0, false), RmpReturn::FAIL_PERMISSION, None)]
#[case::own_vmpl0(0, 1, PageSize::Size4K, adjust(0, 0, false), RmpReturn::FAIL_PERMISSION, None)]
#[case::more_than_own(1, 1, PageSize::Size4K, adjust(2, 1, false), RmpReturn::FAIL_PERMISSION, None)]
#[case::no_such_vmpl(0, 1, PageSize::Size4K, adjust(4, 0, false), RmpReturn::FAIL_INPUT, None)]
#[case::reserved_permission(0, 1, PageSize::Size4K, adjust(1, 0x20, false), RmpReturn::FAIL_INPUT, None)]
#[case::reserved(0, 1, PageSize::Size4K, adjust(1, 0, false).with_reserved(1), RmpReturn::FAIL_INPUT, None)]
#[case::large_vmsa(0, 0x400, PageSize::Size2M, adjust(1, 0, true), RmpReturn::FAIL_INPUT, None)]
#[case::invalid(
    0,
    2,
    PageSize::Size4K,
    adjust(1, 0, false),
    RmpReturn::FAIL_INPUT,
    Some(Violation::AdjustInvalid)
)]
#[case::shared(
    0,
    3,
    PageSize::Size4K,
    adjust(1, 0, false),
    RmpReturn::FAIL_INPUT,
    Some(Violation::AdjustInvalid)
)]
#[case::size(0, 0x400, PageSize::Size2M, adjust(1, 0, false), RmpReturn::FAIL_SIZEMISMATCH, None)]
fn rmpadjust_results(
    #[case] vmpl: u8,
    #[case] gfn: u64,
    #[case] size: PageSize,
    #[case] operand: RmpAdjustOperand,
    #[case] result: RmpReturn,
    #[case] violation: Option<Violation>,
) {
    let mut rmp = sample();
    assert_eq!(rmp.rmpadjust(vmpl, gfn, size, operand), RmpOutcome { result, carry: false, violation });
    if result == RmpReturn::SUCCESS {
        assert_eq!(u8::from(rmp.entry(gfn).unwrap().vmpl2()), 0xf);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Assign(u64, bool, bool),
    Unassign(u64, bool),
    Psmash(u64),
    Unsmash(u64),
    Convert(u64, bool),
    Pvalidate(u8, u64, bool, bool),
    Rmpadjust(u8, u64, bool, u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Few pages, so that operations meet; 2 MiB boundaries and the end of RAM among them.
    let gfn = prop_oneof![
        0u64..4,
        0x1feu64..0x204,
        0x3feu64..0x402,
        0x7feu64..0x802,
        Just(0x200u64),
        Just(0x400u64)
    ];
    let operand =
        prop_oneof![any::<u64>(), (0u64..5, 0u64..32, 0u64..2).prop_map(|(v, p, m)| v | p << 8 | m << 16)];
    prop_oneof![
        (gfn.clone(), any::<bool>(), any::<bool>()).prop_map(|(g, l, i)| Op::Assign(g, l, i)),
        (gfn.clone(), any::<bool>()).prop_map(|(g, l)| Op::Unassign(g, l)),
        gfn.clone().prop_map(Op::Psmash),
        gfn.clone().prop_map(Op::Unsmash),
        (gfn.clone(), any::<bool>()).prop_map(|(g, v)| Op::Convert(g, v)),
        (0u8..2, gfn.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(p, g, l, v)| Op::Pvalidate(p, g, l, v)),
        (0u8..4, gfn, any::<bool>(), operand).prop_map(|(p, g, l, o)| Op::Rmpadjust(p, g, l, o)),
    ]
}

fn size(large: bool) -> PageSize {
    if large { PageSize::Size2M } else { PageSize::Size4K }
}

fn apply(rmp: &mut Rmp, op: &Op) {
    match *op {
        Op::Assign(gfn, large, immutable) => drop(rmp.assign(gfn, size(large), immutable)),
        Op::Unassign(gfn, large) => drop(rmp.unassign(gfn, size(large))),
        Op::Psmash(gfn) => rmp.psmash(gfn),
        Op::Unsmash(gfn) => drop(rmp.unsmash(gfn)),
        Op::Convert(gfn, vmsa) => drop(rmp.launch_convert(gfn, vmsa, all())),
        Op::Pvalidate(vmpl, gfn, large, validate) => {
            let outcome = rmp.pvalidate(vmpl, gfn, size(large), validate);
            if outcome.result == RmpReturn::SUCCESS {
                assert_eq!(rmp.entry(gfn).unwrap().validated(), validate);
            }
        }
        Op::Rmpadjust(vmpl, gfn, large, operand) => {
            let _ = rmp.rmpadjust(vmpl, gfn, size(large), RmpAdjustOperand::from(operand));
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_any_sequence(ops in prop::collection::vec(op(), 0..60)) {
        let mut rmp = rmp();
        for op in &ops {
            apply(&mut rmp, op);
            for base in [0u64, 0x200, 0x400, 0x600] {
                for gfn in base..base + FRAMES_2M {
                    let Some(entry) = rmp.entry(gfn) else { continue };
                    prop_assert!(!entry.validated() || entry.assigned(), "validated and shared");
                    prop_assert!(!entry.vmsa() || entry.validated(), "a VMSA that is not validated");
                    prop_assert!(!entry.immutable() || entry.state() == PageState::PreGuest);
                    prop_assert!(!entry.large() || entry == rmp.entry(base).unwrap(), "a 2 MiB entry is one entry");
                    prop_assert!(entry.guest() == entry.assigned());
                }
            }
        }
    }
}
