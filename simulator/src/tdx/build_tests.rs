use proptest::prelude::*;
use rstest::rstest;
use tsmsim_keys::Seed;
use zerocopy::FromBytes;

use super::*;
use crate::tdx::{
    guest::{World, default_params},
    platform::TdxPlatformConfig,
};

fn td(world: &mut World, config: &TdxPlatformConfig) -> Td {
    let platform = config.build(&Seed::DEFAULT).unwrap();
    let (env, _) = world.env();
    Td::create(&platform, std::slice::from_ref(&(0..1 << 20)), env.entropy)
}

fn world() -> World {
    World::new(1 << 20, Seed::DEFAULT)
}

fn init(config: &TdxPlatformConfig, params: &TdParams) -> Result<(), CompletionStatus> {
    let mut world = world();
    let mut td = td(&mut world, config);
    let result = td.mng_init(params, &mut world.env().0);
    assert_eq!(td.op_state() == OpState::Initialized, result.is_ok());
    result
}

type Change = fn(&mut TdParams);

#[rstest]
#[case::attributes_reserved(|p: &mut TdParams| p.attributes = (1 << 8).into(), OperandId::ATTRIBUTES)]
#[case::attributes_perf_prof(|p: &mut TdParams| p.attributes = (1 << 5).into(), OperandId::ATTRIBUTES)]
#[case::migratable_and_debug(|p: &mut TdParams| p.attributes = (1 << 29 | 1).into(), OperandId::ATTRIBUTES)]
#[case::migratable_and_perfmon(|p: &mut TdParams| p.attributes = (1 << 29 | 1 << 63).into(), OperandId::ATTRIBUTES)]
#[case::xfam_without_sse(|p: &mut TdParams| p.xfam = 1.into(), OperandId::XFAM)]
#[case::xfam_reserved(|p: &mut TdParams| p.xfam = (3 | 1 << 20).into(), OperandId::XFAM)]
#[case::xfam_half_of_cet(|p: &mut TdParams| p.xfam = (3 | 1 << 11).into(), OperandId::XFAM)]
#[case::no_vcpus(|p: &mut TdParams| p.max_vcpus = 0.into(), OperandId::MAX_VCPUS)]
#[case::l2_vms(|p: &mut TdParams| p.num_l2_vms = 4, OperandId::NUM_L2_VMS)]
#[case::reserved_0x14(|p: &mut TdParams| p.reserved_0x14[3] = 1, OperandId::RDX)]
#[case::config_flags(|p: &mut TdParams| p.config_flags = 8.into(), OperandId::EXEC_CONTROLS)]
#[case::eptp_memory_type(|p: &mut TdParams| p.eptp_controls = 0x18.into(), OperandId::EPTP_CONTROLS)]
#[case::eptp_walk(|p: &mut TdParams| p.eptp_controls = 0x16.into(), OperandId::EPTP_CONTROLS)]
#[case::eptp_reserved(|p: &mut TdParams| p.eptp_controls = 0x5e.into(), OperandId::EPTP_CONTROLS)]
#[case::gpaw_with_four_levels(|p: &mut TdParams| p.config_flags = 1.into(), OperandId::EPTP_CONTROLS)]
#[case::tsc_low(|p: &mut TdParams| p.tsc_frequency = 3.into(), OperandId::TSC_FREQUENCY)]
#[case::tsc_high(|p: &mut TdParams| p.tsc_frequency = 401.into(), OperandId::TSC_FREQUENCY)]
#[case::reserved_0x2a(|p: &mut TdParams| p.reserved_0x2a[37] = 1, OperandId::RDX)]
#[case::msr_config_ctls(|p: &mut TdParams| p.msr_config_ctls = 2, OperandId::RDX)]
#[case::reserved_0xe8(|p: &mut TdParams| p.reserved_0xe8[0] = 1, OperandId::RDX)]
#[case::cpuid_beyond_the_configurable(|p: &mut TdParams| p.cpuid_config[12].registers[0][0] = 1, OperandId::RDX)]
#[case::capabilities_not_given(
    |p: &mut TdParams| p.ia32_arch_capabilities_config = (1 << 4).into(),
    OperandId::IA32_ARCH_CAPABILITIES_CONFIG
)]
#[case::capabilities_fixed(
    |p: &mut TdParams| (p.msr_config_ctls, p.ia32_arch_capabilities_config) = (1, 1.into()),
    OperandId::IA32_ARCH_CAPABILITIES_CONFIG
)]
#[case::migratable_with_l2_vms(|p: &mut TdParams| (p.attributes, p.num_l2_vms) = ((1 << 29).into(), 1), OperandId::RDX)]
fn parameters_that_are_refused(#[case] change: Change, #[case] operand: OperandId) {
    let mut params = default_params();
    change(&mut params);
    assert_eq!(init(&TdxPlatformConfig::tdx_1_5(), &params), Err(invalid(operand)));
}

#[rstest]
#[case::as_they_are(|_: &mut TdParams| ())]
#[case::debug(|p: &mut TdParams| p.attributes = 1.into())]
#[case::wide(|p: &mut TdParams| (p.config_flags, p.eptp_controls) = (1.into(), 0x26.into()))]
#[case::capabilities(|p: &mut TdParams| (p.msr_config_ctls, p.ia32_arch_capabilities_config) = (1, (1 << 19).into()))]
fn parameters_that_are_taken(#[case] change: Change) {
    let mut params = default_params();
    change(&mut params);
    assert_eq!(init(&TdxPlatformConfig::tdx_1_5(), &params), Ok(()));
}

#[rstest]
#[case::migratable(|p: &mut TdParams| p.attributes = (1 << 29).into(), OperandId::ATTRIBUTES)]
#[case::flexible_pending_ve(|p: &mut TdParams| p.config_flags = 2.into(), OperandId::EXEC_CONTROLS)]
#[case::l2_vms(|p: &mut TdParams| p.num_l2_vms = 1, OperandId::RDX)]
fn what_tdx_1_0_does_not_know(#[case] change: Change, #[case] operand: OperandId) {
    let mut params = default_params();
    change(&mut params);
    assert_eq!(init(&TdxPlatformConfig::tdx_1_0(), &params), Err(invalid(operand)));
    assert_eq!(init(&TdxPlatformConfig::tdx_1_5(), &params), Ok(()));
}

const WRONG_STATE: CompletionStatus = StatusCode::OP_STATE_INCORRECT.status();

#[test]
fn functions_have_their_time() {
    let mut world = world();
    let mut td = td(&mut world, &TdxPlatformConfig::tdx_1_5());
    let (mut env, _) = world.env();
    assert_eq!(td.vp_init(&mut env), Err(WRONG_STATE));
    assert_eq!(td.mem_page_add(PageInfo::from(0), None, &mut env), Err(WRONG_STATE));
    assert_eq!(td.mr_extend(0, &mut env), Err(WRONG_STATE));
    assert_eq!(td.mr_finalize(&mut env), Err(WRONG_STATE));
    assert_eq!(td.mng_init(&default_params(), &mut env), Ok(()));
    assert_eq!(td.mng_init(&default_params(), &mut env), Err(WRONG_STATE));
    assert_eq!(td.mr_finalize(&mut env), Err(StatusCode::NO_VCPUS.status()));
    assert_eq!(td.vp_init(&mut env), Ok(()));
    assert_eq!(td.vp_init(&mut env), Err(StatusCode::MAX_VCPUS_EXCEEDED.status()));
    assert_eq!(td.mr_finalize(&mut env), Ok(()));
    assert_eq!(td.mem_page_add(PageInfo::from(0), None, &mut env), Err(WRONG_STATE));
    assert_eq!(env.journal.recorded(), 11);
}

#[rstest]
#[case::reserved_low(1 << 3, StatusCode::OPERAND_INVALID)]
#[case::reserved_high(1 << 52, StatusCode::OPERAND_INVALID)]
#[case::level(1, StatusCode::OPERAND_INVALID)]
#[case::shared(1 << 47, StatusCode::OPERAND_INVALID)]
#[case::too_wide(1 << 48, StatusCode::OPERAND_INVALID)]
#[case::no_ram(1 << 20, StatusCode::EPT_WALK_FAILED)]
#[case::there_already(0x1000, StatusCode::EPT_ENTRY_STATE_INCORRECT)]
fn pages_that_are_not_added(#[case] page: u64, #[case] code: StatusCode) {
    let mut world = world();
    let mut td = td(&mut world, &TdxPlatformConfig::tdx_1_5());
    let (mut env, _) = world.env();
    td.mng_init(&default_params(), &mut env).unwrap();
    td.mem_page_add(PageInfo::from(0x1000), None, &mut env).unwrap();
    let refused = td.mem_page_add(PageInfo::from(page), None, &mut env);
    assert_eq!(refused, Err(code.of(OperandId::RCX)));
}

#[rstest]
#[case::unaligned(0x1080, StatusCode::OPERAND_INVALID)]
#[case::shared(1 << 47 | 0x1000, StatusCode::OPERAND_INVALID)]
#[case::not_added(0x2000, StatusCode::EPT_ENTRY_NOT_PRESENT)]
fn bytes_that_are_not_measured(#[case] gpa: u64, #[case] code: StatusCode) {
    let mut world = world();
    let mut td = td(&mut world, &TdxPlatformConfig::tdx_1_5());
    let (mut env, _) = world.env();
    td.mng_init(&default_params(), &mut env).unwrap();
    td.mem_page_add(PageInfo::from(0x1000), None, &mut env).unwrap();
    assert_eq!(td.mr_extend(0x1f00, &mut env), Ok(()));
    assert_eq!(td.mr_extend(gpa, &mut env), Err(code.of(OperandId::RCX)));
}

proptest! {
    #[test]
    fn any_parameters_get_a_status(bytes in prop::collection::vec(any::<u8>(), 0x400)) {
        let params = TdParams::read_from_bytes(&bytes).unwrap();
        for version in [TdxVersion::V1_0, TdxVersion::V1_5] {
            let _ = check_params(&params, version);
        }
    }
}
