mod any;

use rstest::rstest;
use tsmsim_abi::cove::{
    covg::{ALL_INTERRUPTS, CertificateFormats},
    sbi::CoveErrors,
};
use tsmsim_keys::Seed;

use super::*;
use crate::{
    cove::{
        event::Violation,
        guest::World,
        machine::{Action, HostConfig, LaunchPlan, Machine, PlannedPage},
        platform::CovePlatformConfig,
        regions::RegionKind,
    },
    fault::{FaultAction, FaultHook},
};

/// Memory from 0 to 0x40000: 0x5000 is shared, 0x50000 is MMIO, 0x80000 to 0x90000 is confidential without memory.
struct Bench {
    machine: Machine,
    world: World,
}

const RAM: u64 = 0x4_0000;
const KEY: u64 = 0x1000;
const CHALLENGE: u64 = 0x2000;
const SHARED: u64 = 0x5000;
const OUT: u64 = 0x8000;
const MMIO: u64 = 0x5_0000;
const HOLLOW: u64 = 0x8_0000;

/// A COSE_Key: OKP, Ed25519.
fn key() -> Vec<u8> {
    [&[0xa3, 1, 1, 0x20, 6, 0x21, 0x58, 32][..], &[9; 32]].concat()
}

fn bench_with(config: &CovePlatformConfig, host: HostConfig) -> Bench {
    let platform = config.build(&Seed::DEFAULT).unwrap();
    let mut world = World::new(usize::try_from(RAM).unwrap(), Seed::DEFAULT);
    let plan = LaunchPlan {
        ram: vec![0..RAM, HOLLOW..HOLLOW + 0x1_0000],
        vcpus: 2,
        pages: vec![PlannedPage { gpa: 0x1_0000, contents: Some(Box::new([0xa5; 4096])) }],
        entry_sepc: 0x1_0000,
        entry_arg: 0x2_0000,
        identity: None,
    };
    let (mut env, _) = world.env();
    let machine = Machine::launch(platform, host, &plan, &mut env).unwrap();
    let mut bench = Bench { machine, world };
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[SHARED, 0x1000]), (SbiError::SUCCESS, 0));
    assert_eq!(bench.call(CovgFid::ADD_MMIO_REGION, &[MMIO, 0x1000]), (SbiError::SUCCESS, 0));
    bench.world.memory.write(KEY, &key()).unwrap();
    bench.world.memory.write(CHALLENGE, &[7; 64]).unwrap();
    bench
}

fn bench() -> Bench {
    bench_with(&CovePlatformConfig::new(), HostConfig::default())
}

impl Bench {
    fn ecall(&mut self, vcpu: usize, registers: &mut Registers) -> Action {
        let (mut env, _) = self.world.env();
        self.machine.ecall(vcpu, registers, &mut env)
    }

    fn call(&mut self, fid: CovgFid, arguments: &[u64]) -> (SbiError, u64) {
        let mut registers = Registers::covg(fid, arguments);
        assert_eq!(self.ecall(0, &mut registers), Action::Resume);
        (registers.error(), registers.value())
    }

    fn violations(&self) -> Vec<Violation> {
        let entries = self.world.journal.entries();
        entries
            .filter_map(|(_, event)| match event {
                Event::Cove(CoveEvent::Violation { violation, .. }) => Some(*violation),
                _ => None,
            })
            .collect()
    }
}

const OK: SbiError = SbiError::SUCCESS;
const ADDRESS: SbiError = SbiError::INVALID_ADDRESS;
const PARAM: SbiError = SbiError::INVALID_PARAM;

#[rstest]
#[case::add([0x6_0000, 0x2000], OK)]
#[case::add_beside_another([0x5_1000, 0x1000], OK)]
#[case::add_unaligned([0x6_0010, 0x1000], ADDRESS)]
#[case::add_length_unaligned([0x6_0000, 0x1001], ADDRESS)]
#[case::add_nothing([0x6_0000, 0], ADDRESS)]
#[case::add_over_memory([0x3_f000, 0x2000], ADDRESS)]
#[case::add_over_shared([SHARED, 0x1000], ADDRESS)]
#[case::add_over_mmio([MMIO - 0x1000, 0x2000], ADDRESS)]
#[case::add_wraps([u64::MAX - 0xfff, 0x1000], ADDRESS)]
#[case::add_beyond_sv48x4([1 << 50, 0x1000], ADDRESS)]
#[case::add_last_page([(1 << 50) - 0x1000, 0x1000], OK)]
fn add_mmio_region(#[case] arguments: [u64; 2], #[case] expected: SbiError) {
    assert_eq!(bench().call(CovgFid::ADD_MMIO_REGION, &arguments), (expected, 0));
}

#[rstest]
#[case::whole([MMIO, 0x1000], OK, false)]
#[case::overlapping([0x4_0000, 0x2_0000], OK, false)]
#[case::none([0x7_0000, 0x1000], OK, true)]
#[case::unaligned([MMIO + 1, 0x1000], ADDRESS, true)]
#[case::length_unaligned([MMIO, 8], ADDRESS, true)]
#[case::nothing([MMIO, 0], ADDRESS, true)]
#[case::wraps([u64::MAX - 0xfff, 0x1000], ADDRESS, true)]
fn remove_mmio_region(#[case] arguments: [u64; 2], #[case] expected: SbiError, #[case] stays: bool) {
    let mut bench = bench();
    assert_eq!(bench.call(CovgFid::REMOVE_MMIO_REGION, &arguments), (expected, 0));
    assert_eq!(bench.machine.tvm().regions().mmio_regions() == 1, stays);
}

#[test]
fn mmio_regions_are_bounded() {
    let mut bench = bench();
    let base = 1 << 40;
    let count = u64::try_from(crate::cove::regions::MAX_MMIO_REGIONS).unwrap() - 1;
    for index in 0..count {
        assert_eq!(bench.call(CovgFid::ADD_MMIO_REGION, &[base + index * 0x1000, 0x1000]), (OK, 0));
    }
    let next = [base + count * 0x1000, 0x1000];
    assert_eq!(bench.call(CovgFid::ADD_MMIO_REGION, &next), (SbiError::FAILED, 0));
}

#[rstest]
#[case::share(CovgFid::SHARE_MEMORY_REGION, [0x6000, 0x2000], OK)]
#[case::share_without_memory(CovgFid::SHARE_MEMORY_REGION, [HOLLOW, 0x1_0000], OK)]
#[case::share_unaligned(CovgFid::SHARE_MEMORY_REGION, [0x6001, 0x1000], ADDRESS)]
#[case::share_length(CovgFid::SHARE_MEMORY_REGION, [0x6000, 0x800], PARAM)]
#[case::share_nothing(CovgFid::SHARE_MEMORY_REGION, [0x6000, 0], PARAM)]
#[case::share_shared(CovgFid::SHARE_MEMORY_REGION, [SHARED, 0x1000], PARAM)]
#[case::share_across(CovgFid::SHARE_MEMORY_REGION, [0x4000, 0x2000], PARAM)]
#[case::share_mmio(CovgFid::SHARE_MEMORY_REGION, [MMIO, 0x1000], PARAM)]
#[case::share_nowhere(CovgFid::SHARE_MEMORY_REGION, [0x7_0000, 0x1000], PARAM)]
#[case::share_wraps(CovgFid::SHARE_MEMORY_REGION, [u64::MAX - 0xfff, 0x2000], ADDRESS)]
#[case::unshare(CovgFid::UNSHARE_MEMORY_REGION, [SHARED, 0x1000], OK)]
#[case::unshare_unaligned(CovgFid::UNSHARE_MEMORY_REGION, [SHARED + 8, 0x1000], ADDRESS)]
#[case::unshare_length(CovgFid::UNSHARE_MEMORY_REGION, [SHARED, 1], PARAM)]
#[case::unshare_nothing(CovgFid::UNSHARE_MEMORY_REGION, [SHARED, 0], PARAM)]
#[case::unshare_confidential(CovgFid::UNSHARE_MEMORY_REGION, [0x6000, 0x1000], PARAM)]
#[case::unshare_across(CovgFid::UNSHARE_MEMORY_REGION, [SHARED, 0x2000], PARAM)]
#[case::unshare_wraps(CovgFid::UNSHARE_MEMORY_REGION, [1 << 63, 1 << 63], ADDRESS)]
fn share_and_unshare(#[case] fid: CovgFid, #[case] arguments: [u64; 2], #[case] expected: SbiError) {
    let mut bench = bench();
    let [gpa, len] = arguments;
    let before = bench.machine.tvm().regions().clone();
    assert_eq!(bench.call(fid, &arguments), (expected, 0));
    let regions = bench.machine.tvm().regions();
    if expected == OK {
        let to =
            if fid == CovgFid::SHARE_MEMORY_REGION { RegionKind::Shared } else { RegionKind::Confidential };
        assert_eq!(regions.kind(&(gpa..gpa + len)), Some(to));
    } else {
        assert_eq!(*regions, before);
    }
    assert!(bench.machine.tvm().vcpus().iter().all(|vcpu| vcpu.conversion().is_none()));
}

#[test]
fn what_is_shared_loses_its_contents() {
    let mut bench = bench();
    bench.world.memory.write(0x1_0000, &[1; 4096]).unwrap();
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x1_0000, 0x1000]), (OK, 0));
    let mut page = [1; 4096];
    bench.world.memory.read(0x1_0000, &mut page).unwrap();
    assert_eq!(page, [0; 4096]);
}

#[test]
fn a_host_may_convert_in_small_pieces_only() {
    let host = HostConfig { max_conversion: Some(0x1000) };
    let mut bench = bench_with(&CovePlatformConfig::new(), host);
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x2000]), (SbiError::FAILED, 0));
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x1000]), (OK, 0));
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x7000, 0x1000]), (OK, 0));
}

#[test]
fn a_vcpu_that_waits_does_not_run() {
    let mut bench = bench();
    let platform = bench.machine.platform().clone();
    let (mut env, _) = bench.world.env();
    let tvm = bench.machine.tvm_mut();
    let mut share = Registers::covg(CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x1000]);
    assert!(matches!(tvm.ecall(&platform, 0, &mut share.clone(), &mut env), Outcome::Convert(_)));
    assert!(!tvm.can_run(0) && tvm.can_run(1));
    assert_eq!(tvm.ecall(&platform, 0, &mut share.clone(), &mut env), Outcome::Done);
    // The other vCPU wants the same range while the first waits for it.
    assert_eq!(tvm.ecall(&platform, 1, &mut share, &mut env), Outcome::Done);
    assert_eq!(share.error(), SbiError::FAILED);
    tvm.complete_conversion(0, &mut env).unwrap();
    assert!(tvm.can_run(0));
    assert_eq!(tvm.complete_conversion(0, &mut env), Err(SbiError::FAILED));
}

#[rstest]
#[case::first(1, OK)]
#[case::last(2047, OK)]
#[case::all(ALL_INTERRUPTS, OK)]
#[case::none(0, PARAM)]
#[case::beyond(2048, PARAM)]
#[case::huge(u64::MAX - 1, PARAM)]
fn external_interrupts(#[case] id: u64, #[case] expected: SbiError) {
    let mut bench = bench();
    let allows = |bench: &Bench| bench.machine.tvm().vcpus()[0].interrupts().allows(id.min(2047));
    assert!(!allows(&bench));
    assert_eq!(bench.call(CovgFid::ALLOW_EXTERNAL_INTERRUPT, &[id]), (expected, 0));
    assert_eq!(allows(&bench), expected == OK);
    assert_eq!(bench.call(CovgFid::DENY_EXTERNAL_INTERRUPT, &[id]), (expected, 0));
    assert!(!allows(&bench));
}

#[rstest]
#[case::page([0x3000, 0x1000], OK, 336)]
#[case::more([0x3000, 0x2000], OK, 336)]
#[case::unaligned([0x3008, 0x1000], ADDRESS, 0)]
#[case::size_unaligned([0x3000, 336], PARAM, 0)]
#[case::size_zero([0x3000, 0], PARAM, 0)]
#[case::shared([SHARED, 0x1000], PARAM, 0)]
#[case::partly_shared([0x4000, 0x2000], PARAM, 0)]
#[case::mmio([MMIO, 0x1000], PARAM, 0)]
#[case::nowhere([0x7_0000, 0x1000], ADDRESS, 0)]
#[case::beyond([1 << 50, 0x1000], ADDRESS, 0)]
#[case::wraps([0x3000, u64::MAX - 0xfff], ADDRESS, 0)]
#[case::no_memory([HOLLOW, 0x1000], ADDRESS, 0)]
fn get_attcaps(#[case] arguments: [u64; 2], #[case] expected: SbiError, #[case] value: u64) {
    assert_eq!(bench().call(CovgFid::GET_ATTCAPS, &arguments), (expected, value));
}

#[rstest]
#[case::first([0x4000, 48, 6], OK)]
#[case::last([0x4000, 48, 23], OK)]
#[case::unaligned([0x4010, 48, 6], ADDRESS)]
#[case::short([0x4000, 47, 6], PARAM)]
#[case::long([0x4000, 64, 6], PARAM)]
#[case::initial([0x4000, 48, 5], PARAM)]
#[case::beyond([0x4000, 48, 24], PARAM)]
#[case::huge([0x4000, 48, u64::MAX], PARAM)]
#[case::shared([SHARED, 48, 6], ADDRESS)]
#[case::mmio([MMIO, 48, 6], ADDRESS)]
#[case::nowhere([0x7_0000, 48, 6], ADDRESS)]
#[case::no_memory([HOLLOW, 48, 6], ADDRESS)]
fn extend_measurement(#[case] arguments: [u64; 3], #[case] expected: SbiError) {
    let mut bench = bench();
    assert_eq!(bench.call(CovgFid::EXTEND_MEASUREMENT, &arguments), (expected, 0));
    let zeros = vec![vec![0; 48]; 18];
    assert_eq!(bench.machine.tvm().runtime_registers() == zeros, expected != OK);
}

#[rstest]
#[case::initial([0x4000, 48, 0], OK, 48)]
#[case::runtime([0x4000, 4096, 23], OK, 48)]
#[case::unaligned([0x4001, 48, 0], ADDRESS, 0)]
#[case::short([0x4000, 47, 0], PARAM, 0)]
#[case::beyond([0x4000, 48, 24], PARAM, 0)]
#[case::shared([SHARED, 48, 0], PARAM, 0)]
#[case::partly_shared([0x4000, 0x1001, 0], PARAM, 0)]
#[case::nowhere([0x7_0000, 48, 0], ADDRESS, 0)]
#[case::wraps([0x4000, u64::MAX, 0], ADDRESS, 0)]
#[case::no_memory([HOLLOW, 48, 0], ADDRESS, 0)]
fn read_measurement(#[case] arguments: [u64; 3], #[case] expected: SbiError, #[case] value: u64) {
    assert_eq!(bench().call(CovgFid::READ_MEASUREMENT, &arguments), (expected, value));
}

#[rstest]
#[case::no_tap([0x4000, 4096], CoveErrors::DEFAULT.auth)]
#[case::unaligned([0x4001, 4096], ADDRESS)]
#[case::too_large([0x4000, 4097], PARAM)]
#[case::shared([SHARED, 4096], ADDRESS)]
#[case::mmio([MMIO, 4096], ADDRESS)]
#[case::nowhere([0x7_0000, 4096], ADDRESS)]
fn retrieve_secret(#[case] arguments: [u64; 2], #[case] expected: SbiError) {
    assert_eq!(bench().call(CovgFid::RETRIEVE_SECRET, &arguments), (expected, 0));
}

#[rstest]
#[case::cbor([KEY, 40, CHALLENGE, 1, OUT, 0x4000], OK)]
#[case::x509([KEY, 40, CHALLENGE, 2, OUT, 0x4000], OK)]
#[case::own_key([KEY, 0, CHALLENGE, 1, OUT, 0x4000], OK)]
#[case::into_shared_memory([KEY, 40, CHALLENGE, 1, 0x2_0000, 0x4000], OK)]
#[case::into_both_kinds([KEY, 40, CHALLENGE, 1, 0x1_e000, 0x4000], OK)]
#[case::key_unaligned([KEY + 1, 40, CHALLENGE, 1, OUT, 0x4000], ADDRESS)]
#[case::challenge_unaligned([KEY, 40, CHALLENGE + 64, 1, OUT, 0x4000], ADDRESS)]
#[case::out_unaligned([KEY, 40, CHALLENGE, 1, OUT + 8, 0x4000], ADDRESS)]
#[case::key_too_large([KEY, 4097, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::key_cut([KEY, 39, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::key_and_more([KEY, 41, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::no_key([0x3000, 40, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::no_format([KEY, 40, CHALLENGE, 0, OUT, 0x4000], PARAM)]
#[case::both_formats([KEY, 40, CHALLENGE, 3, OUT, 0x4000], PARAM)]
#[case::unknown_format([KEY, 40, CHALLENGE, 4, OUT, 0x4000], PARAM)]
#[case::format_high([KEY, 40, CHALLENGE, 1 << 32 | 1, OUT, 0x4000], PARAM)]
#[case::no_room([KEY, 40, CHALLENGE, 1, OUT, 0], PARAM)]
#[case::little_room([KEY, 40, CHALLENGE, 1, OUT, 0x200], PARAM)]
#[case::key_shared([SHARED, 40, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::key_mmio([MMIO, 40, CHALLENGE, 1, OUT, 0x4000], PARAM)]
#[case::key_nowhere([0x7_0000, 40, CHALLENGE, 1, OUT, 0x4000], ADDRESS)]
#[case::no_key_nowhere([0x7_0000, 0, CHALLENGE, 1, OUT, 0x4000], ADDRESS)]
#[case::challenge_shared([KEY, 40, SHARED, 1, OUT, 0x4000], PARAM)]
#[case::challenge_nowhere([KEY, 40, 1 << 50, 1, OUT, 0x4000], ADDRESS)]
#[case::challenge_without_memory([KEY, 40, HOLLOW, 1, OUT, 0x4000], ADDRESS)]
#[case::out_mmio([KEY, 40, CHALLENGE, 1, MMIO, 0x1000], ADDRESS)]
#[case::out_nowhere([KEY, 40, CHALLENGE, 1, 0x7_0000, 0x4000], ADDRESS)]
#[case::out_ends_nowhere([KEY, 40, CHALLENGE, 1, 0x3_f000, 0x2000], ADDRESS)]
#[case::out_without_memory([KEY, 40, CHALLENGE, 1, HOLLOW, 0x4000], ADDRESS)]
#[case::out_wraps([KEY, 40, CHALLENGE, 1, OUT, u64::MAX], ADDRESS)]
fn get_evidence(#[case] arguments: [u64; 6], #[case] expected: SbiError) {
    let mut bench = bench();
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x2_0000, 0x4000]), (OK, 0));
    let (error, value) = bench.call(CovgFid::GET_EVIDENCE, &arguments);
    assert_eq!((error, value > 1000), (expected, expected == OK));
}

#[rstest]
#[case::cbor_only(true, [OK, PARAM])]
#[case::x509_only(false, [PARAM, OK])]
fn formats_that_are_not_offered(#[case] cbor: bool, #[case] expected: [SbiError; 2]) {
    let formats = CertificateFormats::new().with_cbor(cbor).with_x509(!cbor);
    let mut bench =
        bench_with(&CovePlatformConfig { formats, ..CovePlatformConfig::new() }, HostConfig::default());
    let ask = |bench: &mut Bench, format| {
        bench.call(CovgFid::GET_EVIDENCE, &[KEY, 40, CHALLENGE, format, OUT, 0x4000]).0
    };
    assert_eq!([ask(&mut bench, 1), ask(&mut bench, 2)], expected);
}

#[rstest]
#[case::unknown(11, SbiError::NOT_SUPPORTED)]
#[case::cove_io(1024, SbiError::NOT_SUPPORTED)]
#[case::reserved(1 << 16 | 4, SbiError::NOT_SUPPORTED)]
#[case::reserved_high(1 << 32 | 4, SbiError::NOT_SUPPORTED)]
#[case::with_domain(3 << 26 | 4, OK)]
fn function_ids(#[case] a6: u64, #[case] expected: SbiError) {
    let mut registers = Registers::call(ExtensionId::COVG, a6, &[1]);
    assert_eq!(bench().ecall(0, &mut registers), Action::Resume);
    assert_eq!((registers.error(), registers.value()), (expected, 0));
}

#[rstest]
#[case::covg(Registers::probe(ExtensionId::COVG), Action::Resume, 1)]
#[case::covh(Registers::probe(ExtensionId::COVH), Action::Forward, 0)]
#[case::version(Registers::call(ExtensionId::BASE, 0, &[]), Action::Forward, 0)]
#[case::another(Registers::call(ExtensionId::COVH, 0, &[]), Action::Forward, 0)]
fn probes(#[case] mut registers: Registers, #[case] action: Action, #[case] value: u64) {
    let before = registers;
    assert_eq!(bench().ecall(0, &mut registers), action);
    assert!(if action == Action::Forward { registers == before } else { registers.value() == value });
}

#[test]
fn a_vcpu_that_there_is_not() {
    let mut registers = Registers::covg(CovgFid::ALLOW_EXTERNAL_INTERRUPT, &[1]);
    assert_eq!(bench().ecall(2, &mut registers), Action::Resume);
    assert_eq!(registers.error(), SbiError::FAILED);
}

#[test]
fn violations_are_journalled() {
    let mut bench = bench();
    bench.call(CovgFid::GET_ATTCAPS, &[SHARED, 0x1000]);
    bench.call(CovgFid::GET_ATTCAPS, &[MMIO, 0x1000]);
    bench.call(CovgFid::GET_ATTCAPS, &[0x7_0000, 0x1000]);
    bench.call(CovgFid::ADD_MMIO_REGION, &[0, 0x1000]);
    bench.call(CovgFid::UNSHARE_MEMORY_REGION, &[0, 0x1000]);
    bench.call(CovgFid::SHARE_MEMORY_REGION, &[1 << 50, 0x1000]);
    let expected = [
        Violation::NotConfidential,
        Violation::Mmio,
        Violation::NoRegion,
        Violation::Overlap,
        Violation::WrongKind,
        Violation::OutOfAddressSpace,
    ];
    assert_eq!(bench.violations(), expected);
}

struct Once(Option<(FaultPoint, FaultAction)>);

impl FaultHook for Once {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        self.0.take_if(|(wanted, _)| *wanted == point).map(|(_, action)| action)
    }
}

#[rstest]
#[case::busy(FaultPoint::COVE_ECALL, FaultAction::Status(SbiError::BUSY.to_register()), SbiError::BUSY)]
#[case::no_evidence(FaultPoint::COVE_EVIDENCE, FaultAction::Status(SbiError::BUSY.to_register()), SbiError::BUSY)]
#[case::changed(FaultPoint::COVE_EVIDENCE, FaultAction::FlipBit(99), OK)]
#[case::token(FaultPoint::COVE_TOKEN, FaultAction::FlipBit(99), OK)]
#[case::dropped(FaultPoint::COVE_EVIDENCE, FaultAction::Drop, OK)]
fn faults(#[case] point: FaultPoint, #[case] action: FaultAction, #[case] expected: SbiError) {
    let evidence = |fault| {
        let config = CovePlatformConfig::new();
        let mut bench = bench_with(&config, HostConfig::default());
        bench.world.faults = Box::new(Once(fault));
        let (error, len) = bench.call(CovgFid::GET_EVIDENCE, &[KEY, 40, CHALLENGE, 1, OUT, 0x4000]);
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        bench.world.memory.read(OUT, &mut bytes).unwrap();
        (error, bytes)
    };
    let (error, bytes) = evidence(Some((point, action)));
    assert_eq!(error, expected);
    assert_ne!(bytes, evidence(None).1);
}

struct Count(std::sync::Arc<std::sync::Mutex<Vec<&'static str>>>);

impl FaultHook for Count {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        self.0.lock().unwrap().push(point.name);
        None
    }
}

#[test]
fn a_call_passes_each_fault_point_once_however_many_pages_it_needs() {
    let (mut bench, passed) = (bench(), std::sync::Arc::default());
    bench.world.faults = Box::new(Count(std::sync::Arc::clone(&passed)));
    assert_eq!(bench.call(CovgFid::GET_EVIDENCE, &[KEY, 40, CHALLENGE, 1, OUT, 0x8000]).0, OK);
    let passed = passed.lock().unwrap();
    let covg: Vec<_> = passed.iter().filter(|name| **name != FaultPoint::COVE_COVH.name).collect();
    assert_eq!(covg, [&"cove.ecall", &"cove.token", &"cove.evidence"]);
    assert!(passed.len() > covg.len(), "the host mapped pages");
}

#[test]
fn a_host_that_fails_a_conversion() {
    let mut bench = bench();
    let fault = (FaultPoint::COVE_CONVERSION, FaultAction::Status(SbiError::FAILED.to_register()));
    bench.world.faults = Box::new(Once(Some(fault)));
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x1000]), (SbiError::FAILED, 0));
    assert_eq!(bench.call(CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x1000]), (OK, 0));
}

#[test]
fn a_call_that_the_host_gives_up_has_ended() {
    let mut bench = bench();
    assert_eq!(bench.call(CovgFid::GET_ATTCAPS, &[HOLLOW, 0x1000]), (ADDRESS, 0));
    let fid = CovgFid::GET_ATTCAPS;
    let ended = Event::Cove(CoveEvent::Covg { vcpu: 0, fid, error: ADDRESS });
    assert_eq!(bench.world.journal.entries().last().map(|(_, event)| event), Some(&ended));
    // The next call is another one: it passes its fault point.
    let fault = (FaultPoint::COVE_ECALL, FaultAction::Status(SbiError::BUSY.to_register()));
    bench.world.faults = Box::new(Once(Some(fault)));
    assert_eq!(bench.call(CovgFid::GET_ATTCAPS, &[0x3000, 0x1000]), (SbiError::BUSY, 0));
}
