use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::tdx::{
    leaf::{CpuidVeControl, VeInstruction},
    metadata::{Field, FieldId},
};
use tsmsim_keys::Seed;

use super::*;
use crate::{
    fault::{FaultAction, FaultHook},
    tdx::{
        event::Violation,
        guest::{World, default_params},
        platform::TdxPlatformConfig,
        sept::PageState,
        td::VeInfo,
    },
};

/// 0x1000 to 0x3fff are the TD's, 0x4000 waits to be accepted, 0x5000 is shared, 0x6000 is free, 0x7000 is blocked.
struct Bench {
    td: Td,
    platform: TdxPlatform,
    world: World,
}

const SHARED: u64 = 1 << 47;

fn bench_with(
    config: &TdxPlatformConfig,
    change: impl FnOnce(&mut tsmsim_abi::tdx::td_params::TdParams),
) -> Bench {
    let platform = config.build(&Seed::DEFAULT).unwrap();
    let mut world = World::new(1 << 16, Seed::DEFAULT);
    let (mut env, _) = world.env();
    let mut td = Td::create(&platform, std::slice::from_ref(&(0..1 << 16)), env.entropy);
    let mut params = default_params();
    change(&mut params);
    td.mng_init(&params, &mut env).unwrap();
    td.vp_init(&mut env).unwrap();
    for gpa in [0x1000, 0x2000, 0x3000, 0x7000] {
        td.mem_page_add(gpa.into(), None, &mut env).unwrap();
    }
    td.mr_finalize(&mut env).unwrap();
    td.sept.page_aug(0x4000, PageLevel::PT);
    td.sept.convert(5..6, true);
    td.sept.block(0x7000);
    Bench { td, platform, world }
}

fn bench() -> Bench {
    bench_with(&TdxPlatformConfig::tdx_1_5(), |_| ())
}

impl Bench {
    fn call(&mut self, registers: &mut Registers) -> Outcome {
        let (mut env, _) = self.world.env();
        self.td.tdcall(&self.platform, 0, registers, &mut env)
    }

    /// Calls with RCX, RDX, R8, R9; gives the registers and the status.
    fn done(&mut self, rax: u64, operands: [u64; 4]) -> (CompletionStatus, Registers) {
        let mut registers = registers(rax, operands);
        assert_eq!(self.call(&mut registers), Outcome::Done);
        (CompletionStatus(registers[Gpr::Rax]), registers)
    }
}

fn registers(rax: u64, [rcx, rdx, r8, r9]: [u64; 4]) -> Registers {
    Registers::default()
        .with(Gpr::Rax, rax)
        .with(Gpr::Rcx, rcx)
        .with(Gpr::Rdx, rdx)
        .with(Gpr::R8, r8)
        .with(Gpr::R9, r9)
}

const fn of(operand: OperandId) -> CompletionStatus {
    StatusCode::OPERAND_INVALID.of(operand)
}

const OK: CompletionStatus = CompletionStatus::SUCCESS;

#[rstest]
#[case::unknown_leaf(99, [0; 4], of(OperandId::RAX))]
#[case::not_modelled(9, [0; 4], of(OperandId::RAX))]
#[case::version(1 << 16 | 1, [0; 4], of(OperandId::RAX))]
#[case::reserved(1 << 24 | 1, [0; 4], of(OperandId::RAX))]
#[case::reserved_high(1 << 63 | 1, [0; 4], of(OperandId::RAX))]
#[case::report(4, [0x1000, 0x2000, 0, 0], OK)]
#[case::report_into_shared_memory(4, [SHARED | 0x5000, SHARED | 0x5400, 0, 0], OK)]
#[case::report_unaligned(4, [0x1200, 0x2000, 0, 0], of(OperandId::RCX))]
#[case::report_data_unaligned(4, [0x1000, 0x2020, 0, 0], of(OperandId::RDX))]
#[case::report_data_too_wide(4, [0x1000, 1 << 48, 0, 0], of(OperandId::RDX))]
#[case::report_sub_type(4, [0x1000, 0x2000, 1, 0], of(OperandId::R8))]
#[case::report_too_wide(4, [1 << 52, 0x2000, 0, 0], of(OperandId::RCX))]
#[case::sub_type_before_where_it_goes(4, [1 << 52, 0x2000, 1, 0], of(OperandId::R8))]
#[case::rtmr(2, [0x1000, 3, 0, 0], OK)]
#[case::rtmr_unaligned(2, [0x1020, 0, 0, 0], of(OperandId::RCX))]
#[case::rtmr_shared(2, [SHARED | 0x5000, 0, 0, 0], of(OperandId::RCX))]
#[case::rtmr_index(2, [0x1000, 4, 0, 0], of(OperandId::RDX))]
#[case::rtmr_index_huge(2, [0x1000, u64::MAX, 0, 0], of(OperandId::RDX))]
#[case::verify_unaligned(22, [0x1080, 0, 0, 0], of(OperandId::RCX))]
#[case::verify_shared(22, [SHARED | 0x5000, 0, 0, 0], of(OperandId::RCX))]
#[case::verify_zeros(22, [0x1000, 0, 0, 0], StatusCode::INVALID_CPUSVN.status())]
#[case::no_ve(3, [0; 4], StatusCode::NO_VALID_VE_INFO.status())]
#[case::cpuid_ve(5, [3, 0, 0, 0], OK)]
#[case::cpuid_ve_reserved(5, [4, 0, 0, 0], of(OperandId::RCX))]
#[case::accept(6, [0x4000, 0, 0, 0], OK)]
#[case::accept_again(6, [0x1000, 0, 0, 0], StatusCode::PAGE_ALREADY_ACCEPTED.status())]
#[case::accept_size(6, [1, 0, 0, 0], StatusCode::PAGE_SIZE_MISMATCH.with_details(1))]
#[case::accept_level(6, [2, 0, 0, 0], of(OperandId::RCX))]
#[case::accept_unaligned(6, [0x1001, 0, 0, 0], of(OperandId::RCX))]
#[case::accept_reserved(6, [0x4008, 0, 0, 0], of(OperandId::RCX))]
#[case::accept_shared(6, [SHARED | 0x5000, 0, 0, 0], of(OperandId::RCX))]
#[case::vmcall_rsp(0, [1 << 4, 0, 0, 0], of(OperandId::RCX))]
#[case::vmcall_reserved(0, [1 << 32, 0, 0, 0], of(OperandId::RCX))]
#[case::rd(7, [0, FieldId::XFAM.0, 0, 0], OK)]
#[case::rd_version_2(2 << 16 | 7, [0, FieldId::XFAM.0, 0, 0], of(OperandId::RAX))]
#[case::rd_vm(7, [1, FieldId::XFAM.0, 0, 0], of(OperandId::RCX))]
#[case::rd_malformed(7, [0, FieldId::XFAM.0 | 1 << 34, 0, 0], StatusCode::METADATA_FIELD_ID_INCORRECT.status())]
#[case::rd_unknown(7, [0, 0x1110_0003_0000_0004, 0, 0], StatusCode::METADATA_FIELD_ID_INCORRECT.status())]
#[case::wr(8, [0, FieldId::NOTIFY_ENABLES.0, 1, 1], OK)]
#[case::wr_version(1 << 16 | 8, [0, FieldId::NOTIFY_ENABLES.0, 1, 1], of(OperandId::RAX))]
#[case::wr_vm(8, [1, FieldId::NOTIFY_ENABLES.0, 1, 1], of(OperandId::RCX))]
#[case::wr_read_only(8, [0, FieldId::XFAM.0, 1, 1], StatusCode::METADATA_FIELD_NOT_WRITABLE.status())]
#[case::wr_no_mask(8, [0, FieldId::NOTIFY_ENABLES.0, 1, 0], StatusCode::METADATA_FIELD_NOT_WRITABLE.status())]
#[case::wr_other_bits(8, [0, FieldId::NOTIFY_ENABLES.0, 3, 3], StatusCode::METADATA_FIELD_VALUE_NOT_VALID.status())]
#[case::wr_not_flexible(8, [0, FieldId::TD_CTLS.0, 0, 1], StatusCode::METADATA_FIELD_VALUE_NOT_VALID.status())]
#[case::sys_rd(11, [0, FieldId::VENDOR_ID.0, 0, 0], OK)]
#[case::sys_rd_hidden(11, [0, FieldId::XFAM_FIXED0.0, 0, 0], StatusCode::METADATA_FIELD_NOT_READABLE.status())]
fn statuses(#[case] rax: u64, #[case] operands: [u64; 4], #[case] status: CompletionStatus) {
    assert_eq!(bench().done(rax, operands).0, status);
}

#[rstest]
#[case::sys_rd(11)]
#[case::verify_report(22)]
#[case::rd_version_1(1 << 16 | 7)]
fn tdx_1_0_does_not_know(#[case] rax: u64) {
    let mut bench = bench_with(&TdxPlatformConfig::tdx_1_0(), |_| ());
    assert_eq!(bench.done(rax, [0x1000, FieldId::XFAM.0, 0, 0]).0, of(OperandId::RAX));
}

#[rstest]
#[case::free([0x6000, 0x1000], 0x6000, Violation::AccessToUnmapped)]
#[case::blocked([0x7000, 0x1000], 0x7000, Violation::AccessToUnmapped)]
#[case::pending([0x4000, 0x1000], 0x4000, Violation::AccessToPending)]
#[case::shared_used_as_private([0x5000, 0x1000], 0x5000, Violation::PrivateAccessToShared)]
#[case::private_used_as_shared([0x1000, SHARED | 0x2000], 0x2000, Violation::SharedAccessToPrivate)]
#[case::outside([0x1000, 1 << 20], 1 << 20, Violation::OutOfRange)]
fn pages_that_cannot_be_reached(#[case] operands: [u64; 2], #[case] gpa: u64, #[case] violation: Violation) {
    let mut bench = bench();
    let mut registers = registers(4, [operands[0], operands[1], 0, 0]);
    let before = registers;
    assert_eq!(bench.call(&mut registers), Outcome::EptViolation { gpa, accept: None });
    assert_eq!(registers, before);
    let expected = Event::Tdx(TdxEvent::Violation { gpa, violation });
    assert!(bench.world.journal.entries().any(|(_, event)| *event == expected));
}

#[test]
fn a_td_that_wants_ve_gets_it_for_pending_pages_once() {
    let mut bench = bench_with(&TdxPlatformConfig::tdx_1_5(), |params| params.attributes = 0.into());
    let mut call = registers(2, [0x4000, 0, 0, 0]);
    assert_eq!(bench.call(&mut call), Outcome::VirtualizationException);
    assert_eq!(bench.call(&mut call), Outcome::GeneralProtection);
    let (status, out) = bench.done(3, [0; 4]);
    assert_eq!((status, out[Gpr::Rcx], out[Gpr::Rdx], out[Gpr::R9]), (OK, 48, 1, 0x4000));
    assert_eq!(bench.done(3, [0; 4]).0.code(), StatusCode::NO_VALID_VE_INFO);
}

#[test]
fn ve_information_is_handed_over() {
    let mut bench = bench();
    let instruction = VeInstruction::new().with_length(2);
    let info = VeInfo { exit_reason: 10, exit_qualification: 1, gla: 2, gpa: 3, instruction };
    assert!(bench.td.raise_ve(0, info) && !bench.td.raise_ve(0, info) && !bench.td.raise_ve(1, info));
    let (_, out) = bench.done(3, [0; 4]);
    assert_eq!([Gpr::Rcx, Gpr::Rdx, Gpr::R8, Gpr::R9, Gpr::R10].map(|r| out[r]), [10, 1, 2, 3, 2]);
}

#[test]
fn acceptance_zeroes_the_page() {
    let mut bench = bench();
    bench.world.memory.write(0x4ff8, &[0xff; 16]).unwrap();
    assert_eq!(bench.done(6, [0x4000, 0, 0, 0]).0, OK);
    let mut bytes = [0; 16];
    bench.world.memory.read(0x4ff8, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(bench.td.sept.state(0x4000), PageState::Mapped);
    let free = bench.call(&mut registers(6, [0x6000, 0, 0, 0]));
    assert_eq!(free, Outcome::EptViolation { gpa: 0x6000, accept: Some(PageLevel::PT) });
}

#[test]
fn vp_info_says_what_the_td_is() {
    let (_, out) = bench().done(1, [7; 4]);
    let values = [Gpr::Rcx, Gpr::Rdx, Gpr::R8, Gpr::R9, Gpr::R10, Gpr::R11].map(|register| out[register]);
    assert_eq!(values, [48, 1 << 28, 1 << 32 | 1, 0, 1, 0]);
}

#[test]
fn cpuid_ve_is_kept() {
    let mut bench = bench();
    bench.done(5, [2, 0, 0, 0]);
    assert_eq!(bench.td.vcpus()[0].cpuid_ve(), CpuidVeControl::new().with_user(true));
}

#[test]
fn pending_ve_can_be_chosen_where_the_host_lets() {
    let mut bench = bench_with(&TdxPlatformConfig::tdx_1_5(), |params| params.config_flags = 2.into());
    let (status, out) = bench.done(8, [0, FieldId::TD_CTLS.0, 0, 1]);
    assert_eq!((status, out[Gpr::R8]), (OK, 1));
    assert_eq!(bench.done(7, [0, FieldId::TD_CTLS.0, 0, 0]).1[Gpr::R8], 0);
}

#[rstest]
#[case::td(1 << 16 | 7, Field::TD)]
#[case::sys(11, Field::SYS)]
fn every_field_is_walked_through(#[case] rax: u64, #[case] fields: &[Field]) {
    let mut bench = bench();
    let (status, out) = bench.done(rax, [0, FieldId::NONE.0, 0, 0]);
    assert_eq!(status.code(), StatusCode::METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    let (mut id, mut seen) = (out[Gpr::Rdx], 0);
    while id != FieldId::NONE.0 {
        let (status, out) = bench.done(rax, [0, id, 0, 0]);
        assert_eq!(status, OK);
        (id, seen) = (out[Gpr::Rdx], seen + 1);
    }
    assert_eq!(seen, fields.iter().map(|field| field.elements).sum::<u32>());
}

#[test]
fn no_rbp_mod_keeps_rbp_from_the_host() {
    let mut bench = bench_with(&TdxPlatformConfig::tdx_1_5(), |params| params.config_flags = 4.into());
    assert_eq!(bench.done(0, [1 << 5, 0, 0, 0]).0, of(OperandId::RCX));
}

#[test]
fn a_td_that_is_not_built_does_not_run() {
    let mut bench = bench();
    let (mut env, _) = bench.world.env();
    let mut fresh = Td::create(&bench.platform, &[], env.entropy);
    let mut call = registers(1, [0; 4]);
    assert_eq!(fresh.tdcall(&bench.platform, 0, &mut call, &mut env), Outcome::Done);
    assert_eq!(CompletionStatus(call[Gpr::Rax]).code(), StatusCode::OP_STATE_INCORRECT);
}

struct One(FaultPoint, Option<FaultAction>);

impl FaultHook for One {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point == self.0 { self.1.take() } else { None }
    }
}

#[test]
fn faults_are_made() {
    let mut bench = bench();
    let busy = StatusCode::OPERAND_BUSY.of(OperandId::RTMR);
    bench.world.faults = Box::new(One(FaultPoint::TDX_TDCALL, Some(FaultAction::Status(busy.0))));
    assert_eq!(bench.done(2, [0x1000, 0, 0, 0]).0, busy);
    bench.world.faults = Box::new(One(FaultPoint::TDX_REPORT, Some(FaultAction::FlipBit(8 * 0xe0))));
    assert_eq!(bench.done(4, [0x1000, 0x2000, 0, 0]).0, OK);
    assert_eq!(bench.done(22, [0x1000, 0, 0, 0]).0.code(), StatusCode::INVALID_REPORTMACSTRUCT);
    assert_eq!(bench.done(4, [0x1000, 0x2000, 0, 0]).0, OK);
    assert_eq!(bench.done(22, [0x1000, 0, 0, 0]).0, OK);
}

proptest! {
    #[test]
    fn any_registers_get_an_outcome(
        leaf in 0_u64..30,
        version in prop_oneof![8 => Just(0_u64), 1 => 1_u64..4],
        operands in prop::array::uniform4(prop_oneof![any::<u64>(), (0_u64..20).prop_map(|page| page << 12), 0_u64..8]),
        rest in prop::array::uniform16(any::<u64>()),
    ) {
        let mut bench = bench();
        for vcpu in [0, 1] {
            let mut call = registers(version << 16 | leaf, operands);
            call.0[10..].copy_from_slice(&rest[10..]);
            let (mut env, _) = bench.world.env();
            bench.td.tdcall(&bench.platform, vcpu, &mut call, &mut env);
        }
        let mut call = Registers(rest);
        bench.call(&mut call);
    }
}
