//! The bare-metal TD under KVM: its own checks, and what the host sees of it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    time::{Duration, Instant},
};

use rstest::rstest;
use tsmsim_abi::tdx::{
    leaf::shared_bit,
    quote::Quote,
    report::TdReport,
    td_params::{ConfigFlags, TdAttributes},
};
use tsmsim_evidence::tdx::replay;
use tsmsim_keys::Seed;
use tsmsim_simulator::tdx::{
    guest::default_params,
    platform::{QuoteFormat, TdxPlatformConfig, TdxVersion},
    vmcall::HostConfig,
};
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    bus::PortBus,
    cc::{
        boot_td::{BootedTd, SHARED_BIT, TdBootRequest, boot_td, can_run},
        tdx::{End, Surroundings, TdMachine, TdMachineParts},
    },
    engine::{
        cpuid::CpuidEntry,
        kvm::{KvmConfig, KvmVcpu, KvmVm},
    },
    loader::{
        bare_metal::GuestTask,
        patch::PatchedInstruction,
        td::{LoadedTd, load, measure},
    },
};
use zerocopy::FromBytes;

/// Long enough for any of these guests, however slow the machine.
const TIME: Duration = Duration::from_secs(60);
const REPORT_DATA: [u8; 64] = [0x4e; 64];

/// The guest's image; without it, or a KVM that runs TDs, the calling test is skipped.
#[track_caller]
fn guest() -> Option<Vec<u8>> {
    if let Err(why) = can_run() {
        skip(Lack::Hardware, &why.to_string());
        return None;
    }
    Some(fs::read(need::guest_x86_64()?).unwrap())
}

/// A TD and its host.
struct Scene {
    platform: TdxPlatformConfig,
    host: HostConfig,
    /// Whether accesses to pages that were not accepted stop the machine, and whether the TD may change that.
    sept_ve_disable: bool,
    flexible: bool,
    mode: u16,
}

impl Scene {
    fn new(platform: TdxPlatformConfig) -> Self {
        Self { platform, host: HostConfig::default(), sept_ve_disable: true, flexible: false, mode: 0 }
    }

    fn mode(mode: u16) -> Self {
        Self { mode, ..Self::new(TdxPlatformConfig::tdx_1_5()) }
    }

    fn boot(&self, elf: &[u8]) -> BootedTd {
        let mut params = default_params();
        let attributes = TdAttributes::new().with_sept_ve_disable(self.sept_ve_disable);
        params.attributes = u64::from(attributes).into();
        let flags = ConfigFlags::new().with_flexible_pending_ve(self.flexible);
        params.config_flags = u64::from(flags).into();
        boot_td(TdBootRequest {
            elf,
            platform: self.platform.build(&Seed::DEFAULT).unwrap(),
            host: self.host.clone(),
            params,
            task: GuestTask { mode: self.mode, count: 3, report_data: REPORT_DATA },
            surroundings: Surroundings::default(),
            console: None,
        })
        .unwrap()
    }

    fn run(&self, elf: &[u8]) -> (BootedTd, End, String) {
        let mut booted = self.boot(elf);
        let end = booted.machine.run(Instant::now() + TIME).unwrap();
        let console = String::from_utf8(booted.console.contents()).unwrap();
        (booted, end, console)
    }
}

fn blob(console: &str, name: &str) -> Vec<u8> {
    let prefix = format!("# blob {name} ");
    let hex = console.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.trim_end().as_bytes().chunks(2).map(byte).collect()
}

/// Number of checks, all of which must have passed, and their plan.
fn checks(console: &str) -> usize {
    let failed: Vec<_> = console.lines().filter(|line| line.starts_with("not ok")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = console.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(console.lines().any(|line| line.trim_end() == format!("1..{passed}")), "{console}");
    passed
}

fn delayed(milliseconds: u64) -> HostConfig {
    HostConfig { quote_delay_ns: Some(milliseconds * 1_000_000), ..HostConfig::default() }
}

#[test]
fn the_shared_bit_is_that_of_the_width() {
    assert_eq!(shared_bit(48), Some(1 << SHARED_BIT));
}

#[rstest]
#[case::tdx_1_0(Scene::new(TdxPlatformConfig::tdx_1_0()))]
#[case::tdx_1_0_ve(Scene { sept_ve_disable: false, ..Scene::new(TdxPlatformConfig::tdx_1_0()) })]
#[case::tdx_1_5(Scene::new(TdxPlatformConfig::tdx_1_5()))]
#[case::tdx_1_5_ve(Scene { flexible: true, ..Scene::new(TdxPlatformConfig::tdx_1_5()) })]
#[case::delayed(Scene { host: delayed(5), ..Scene::new(TdxPlatformConfig::tdx_1_5()) })]
#[case::map_gpa_in_parts(Scene {
    host: HostConfig { map_gpa_pages: 3, ..delayed(1) },
    ..Scene::new(TdxPlatformConfig::tdx_1_0())
})]
#[case::quote_v5(Scene::new(TdxPlatformConfig {
    quote_format: QuoteFormat::V5Td15,
    ..TdxPlatformConfig::tdx_1_5()
}))]
fn every_check_of_the_guest_passes(#[case] scene: Scene) {
    let Some(elf) = guest() else { return };
    let (booted, end, console) = scene.run(&elf);
    assert_eq!(end, End::Done(0), "{console}");
    assert!(checks(&console) > 100);
    let tdcalls = booted.patches.sites.iter().filter(|site| site.instruction == PatchedInstruction::Tdcall);
    assert_eq!(tdcalls.count(), 3);
    assert_eq!(booted.patches.skipped, []);

    let report = TdReport::read_from_bytes(&blob(&console, "tdreport")).unwrap();
    assert_eq!(report.report_mac_struct.report_data, REPORT_DATA);
    assert_eq!(report.td_info.mr_td, measure(&elf).unwrap());
    assert_eq!(report.td_info.rtmr, replay(&blob(&console, "ccel")).unwrap());
    assert!(report.td_info.rtmr.iter().all(|rtmr| *rtmr != [0; 48]));
    assert_eq!(report.td_info, booted.machine.machine().td().td_info());
    let quote = blob(&console, "quote");
    let quote = Quote::read(&quote).unwrap();
    assert!(quote.trailing.is_empty());
    let body = quote.signed.body.td().unwrap();
    assert_eq!(body.report_data, REPORT_DATA);
    assert_eq!((body.mr_td, body.rtmr), (report.td_info.mr_td, report.td_info.rtmr));
}

/// The guest's check has two branches: which one is taken is the host's to say.
#[rstest]
#[case::allowed(Scene { sept_ve_disable: false, ..Scene::mode(0) }, "#VE: page that was not accepted")]
#[case::chosen(Scene { flexible: true, ..Scene::mode(0) }, "#VE: page that was not accepted")]
#[case::disabled(Scene::mode(0), "#VE: disabled for pages that were not accepted")]
fn pages_that_were_not_accepted(#[case] scene: Scene, #[case] name: &str) {
    let Some(elf) = guest() else { return };
    let (_, _, console) = scene.run(&elf);
    assert!(
        console.lines().any(|line| line.starts_with("ok ") && line.trim_end().ends_with(name)),
        "{console}"
    );
}

#[test]
fn ends_that_a_td_brings_about() {
    let Some(elf) = guest() else { return };
    let (_, end, console) = Scene::mode(3).run(&elf);
    let End::Fatal(report) = end else { panic!("{end:?} {console}") };
    assert_eq!((report.error.error_code(), report.gpa), (7, None));
    assert!(report.text.starts_with(b"tsmsim: the test guest ends itself, as it was told to do\0"));
    let (booted, end, _) = Scene::mode(4).run(&elf);
    assert_eq!(end, End::MemoryFault { gpa: 16 << 20 });
    assert_eq!(booted.machine.machine().platform().version(), TdxVersion::V1_5);
    assert_eq!(Scene::mode(5).run(&elf).1, End::Halted);
    let (_, end, console) = Scene::mode(6).run(&elf);
    assert_eq!(end, End::Done(0));
    assert!(console.contains("not ok 1 - mode: 6 is not known"), "{console}");
}

#[test]
fn the_report_alone_and_repeated_quotes() {
    let Some(elf) = guest() else { return };
    for mode in [1, 2] {
        let (_, end, console) = Scene::mode(mode).run(&elf);
        assert_eq!((end, checks(&console)), (End::Done(0), 1), "{console}");
    }
}

#[test]
fn a_quote_that_never_comes_ends_with_the_time() {
    let Some(elf) = guest() else { return };
    let scene = Scene { host: delayed(1 << 40), ..Scene::mode(1) };
    let mut booted = scene.boot(&elf);
    assert_eq!(booted.machine.run(Instant::now() + Duration::from_millis(500)).unwrap(), End::Deadline);
}

/// A machine put together by hand, whose RAM the test keeps.
fn by_hand(elf: &[u8], alias_bit: Option<u8>) -> (TdMachine<KvmVcpu>, LoadedTd<'_>) {
    let task = GuestTask { mode: 0, count: 0, report_data: REPORT_DATA };
    let td = load(elf, default_params(), task).unwrap();
    let vm = KvmVm::new(&KvmConfig { alias_bit, ..KvmConfig::default() }, &td.ram).unwrap();
    let mut cpuid = vm.supported_cpuid().unwrap();
    cpuid.set_vendor(b"GenuineIntel");
    cpuid.raise_limit(0, 0x21);
    let [ebx, edx, ecx] = [*b"Inte", *b"lTDX", *b"    "].map(u32::from_le_bytes);
    cpuid.set(CpuidEntry { function: 0x21, index: Some(0), eax: 0, ebx, ecx, edx });
    let parts = TdMachineParts {
        engine: vm.create_vcpu(&cpuid).unwrap(),
        ram: td.ram.clone(),
        bus: PortBus::new(),
        cpuid,
        platform: TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap(),
        host: HostConfig::default(),
        plan: td.plan.clone(),
        state: td.state,
    };
    let machine = TdMachine::launch(parts, Surroundings::default()).unwrap();
    td.patch().unwrap();
    (machine, td)
}

#[test]
fn a_machine_whose_ram_is_there_once_stops_at_the_first_shared_access() {
    let Some(elf) = guest() else { return };
    let (mut machine, _) = by_hand(&elf, None);
    let end = machine.run(Instant::now() + TIME).unwrap();
    let End::MemoryFault { gpa } = end else { panic!("{end:?}") };
    assert_eq!(gpa >> SHARED_BIT, 1, "{end}");
}

/// What a TD does with itself, or with the port that stands for TDCALL, ends by a named end.
#[rstest]
#[case::no_instruction(&[0x0f, 0x0b], End::Shutdown)] // ud2, without any IDT
#[case::hlt(&[0xf4], End::Shutdown)] // #VE, without any IDT
#[case::the_port_itself(&[0xe6, 0xb7, 0xeb, 0xfc], End::Deadline)] // 1: out 0xb7, al; jmp 1b
fn hostile_code(#[case] code: &[u8], #[case] expected: End) {
    let Some(elf) = guest() else { return };
    let (mut machine, td) = by_hand(&elf, Some(SHARED_BIT));
    td.ram.write(td.state.registers.rip, code).unwrap();
    assert_eq!(machine.run(Instant::now() + Duration::from_millis(300)).unwrap(), expected);
}

/// #UD to a processor; an interpreting KVM says that it cannot run it.
#[test]
fn a_tdcall_that_was_not_patched() {
    let Some(elf) = guest() else { return };
    let (mut machine, td) = by_hand(&elf, Some(SHARED_BIT));
    td.ram.write(td.state.registers.rip, &PatchedInstruction::Tdcall.bytes()).unwrap();
    let end = machine.run(Instant::now() + TIME).unwrap();
    assert!(matches!(end, End::Shutdown | End::Unrunnable { .. }), "{end:?}");
}
