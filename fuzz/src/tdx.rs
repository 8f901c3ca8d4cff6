//! TDs that cost little to make, and sound evidence of the default seed.
//!
//! A TD is launched once per thread (its quoting enclave takes certificates and signatures); every run gets a clone of it and
//! memory of its own.

use std::{cell::OnceCell, thread::LocalKey, time::Duration};

use tsmsim_abi::tdx::{
    leaf::{LeafAndVersion, TdcallLeaf, VmcallControl},
    report::TdReport,
    td_params::TdParams,
    vmcall::VmcallSubFunction,
};
use tsmsim_evidence::tdx::Bundle;
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    snp::guest::World,
    tdx::{
        guest::{InProcessTdGuest, default_params},
        machine::{Action, LaunchPlan, Machine, PlannedPage},
        platform::{TdxPlatform, TdxPlatformConfig},
        qgs::QuoteService,
        quoting::QuotingEnclave,
        registers::{Gpr, Registers},
        vmcall::HostConfig,
    },
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{PRIVATE_GPA, RAM, SHARED_GPA, world};

/// Bytes from [`SHARED_GPA`] on that are shared.
pub const SHARED_SIZE: u64 = 8 << 12;

thread_local! {
    static AT_ONCE: OnceCell<Machine> = const { OnceCell::new() };
    static DELAYED: OnceCell<Machine> = const { OnceCell::new() };
}

/// A TDX 1.5 platform of the default seed.
pub fn platform(mode: SignatureMode) -> TdxPlatform {
    let config = TdxPlatformConfig { signature_mode: mode, ..TdxPlatformConfig::tdx_1_5() };
    config.build(&Seed::DEFAULT).expect("the platform can be built")
}

/// The quoting service of such a platform.
pub fn service() -> QuoteService {
    let enclave = QuotingEnclave::new(&platform(SignatureMode::Randomized)).expect("there are keys");
    QuoteService::new(enclave)
}

/// A launched TD of two VCPUs: [`PRIVATE_GPA`] is private and accepted, [`SHARED_SIZE`] bytes from [`SHARED_GPA`] on are
/// shared. A delayed quote is there when the host is polled, others at once.
pub fn machine(delayed: bool) -> (Machine, World) {
    fn cached(cell: &'static LocalKey<OnceCell<Machine>>, delay: Option<u64>) -> Machine {
        cell.with(|cell| cell.get_or_init(|| launch(delay)).clone())
    }
    let machine = if delayed { cached(&DELAYED, Some(0)) } else { cached(&AT_ONCE, None) };
    (machine, world())
}

fn launch(quote_delay_ns: Option<u64>) -> Machine {
    let plan = LaunchPlan {
        params: TdParams { max_vcpus: 2.into(), ..default_params() },
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 2,
        pages: vec![PlannedPage { gpa: PRIVATE_GPA, contents: None, measured: true }],
    };
    let config = HostConfig { quote_delay_ns, ..HostConfig::default() };
    let mut world = world();
    let (mut env, _) = world.env();
    let mut machine = Machine::launch(platform(SignatureMode::Randomized), config, &plan, &mut env)
        .expect("the TD launches");
    let gpa = SHARED_GPA | machine.td().shared_bit();
    let mut registers = vmcall(VmcallSubFunction::MAP_GPA, [gpa, SHARED_SIZE, 0, 0]);
    let action = tdcall(&mut machine, &mut world, 0, &mut registers);
    assert_eq!((action, registers[Gpr::R10]), (Action::Resume, 0), "the pages are shared");
    machine
}

/// A TD of one VCPU without a virtual machine, whose host takes this long for a quote.
pub fn guest(delay: Option<Duration>) -> InProcessTdGuest {
    thread_local! {
        static PLATFORM: OnceCell<TdxPlatform> = const { OnceCell::new() };
    }
    let platform = PLATFORM.with(|cell| cell.get_or_init(|| platform(SignatureMode::Randomized)).clone());
    let plan = LaunchPlan {
        params: default_params(),
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 1,
        pages: Vec::new(),
    };
    let quote_delay_ns = delay.and_then(|delay| u64::try_from(delay.as_nanos()).ok());
    let config = HostConfig { quote_delay_ns, ..HostConfig::default() };
    InProcessTdGuest::launch(platform, config, plan, world()).expect("the TD launches")
}

/// Registers of a TDVMCALL, with R12 to R15.
pub fn vmcall(sub_function: VmcallSubFunction, [r12, r13, r14, r15]: [u64; 4]) -> Registers {
    let control = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
    Registers::default()
        .with(Gpr::Rax, LeafAndVersion::new().with_leaf(TdcallLeaf::TDG_VP_VMCALL.0).into())
        .with(Gpr::Rcx, control.into())
        .with(Gpr::R11, sub_function.0)
        .with(Gpr::R12, r12)
        .with(Gpr::R13, r13)
        .with(Gpr::R14, r14)
        .with(Gpr::R15, r15)
}

/// A TDCALL.
pub fn tdcall(machine: &mut Machine, world: &mut World, vcpu: usize, registers: &mut Registers) -> Action {
    let (mut env, devices) = world.env();
    machine.tdcall(vcpu, registers, &mut env, devices)
}

/// The report that the TD of [`machine`] gets for these report data.
pub fn report(report_data: &[u8; 64]) -> TdReport {
    let (mut machine, mut world) = machine(false);
    world.memory.write(PRIVATE_GPA + 0x400, report_data).expect("it is in memory");
    let mut registers = Registers::default()
        .with(Gpr::Rax, LeafAndVersion::new().with_leaf(TdcallLeaf::TDG_MR_REPORT.0).into())
        .with(Gpr::Rcx, PRIVATE_GPA)
        .with(Gpr::Rdx, PRIVATE_GPA + 0x400);
    tdcall(&mut machine, &mut world, 0, &mut registers);
    assert_eq!(registers[Gpr::Rax], 0, "there is a report");
    let mut report = TdReport::new_zeroed();
    world.memory.read(PRIVATE_GPA, report.as_mut_bytes()).expect("it is in memory");
    report
}

/// A quote with its report, root and collateral; the same in every run.
pub fn bundle() -> Bundle {
    let platform = platform(SignatureMode::Deterministic);
    let report = report(&[7; 64]);
    let enclave = QuotingEnclave::new(&platform).expect("there are keys");
    let (hierarchy, tcb_info) = (platform.hierarchy(), platform.tcb_info_spec());
    let collateral = hierarchy.collateral(platform.identity().ca(), &tcb_info, &platform.config().qe);
    let collateral = collateral.expect("there is collateral").to_json().expect("it is text");
    Bundle {
        quote: enclave.quote(report.as_bytes()).expect("the report is the platform's"),
        td_report: Some(report.as_bytes().to_vec()),
        root: Some(hierarchy.root().expect("there is a root").der().to_vec()),
        collateral: Some(collateral.into_bytes()),
        inblob: Some(vec![7; 64]),
        event_log: None,
    }
}
