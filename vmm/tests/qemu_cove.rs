//! TVMs on QEMU: the bare-metal guest, and a stock Linux kernel whose driver delivers the evidence.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;
mod linux;

use std::{
    fs,
    time::{Duration, Instant},
};

use rstest::rstest;
use tsmsim_abi::{guest_test::riscv64::IMAGE_GPA, linux_guest::INIT};
use tsmsim_evidence::{Timestamp, TrustedRoot, cove};
use tsmsim_keys::{Seed, cove::KeyAlgorithm};
use tsmsim_simulator::{
    cove::{
        machine::HostConfig,
        measure::InitialRegisters,
        platform::{CovePlatform, CovePlatformConfig},
    },
    fault::{FaultAction, FaultPoint},
};
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    cc::{
        boot_tvm::{BootedTvm, TvmBootRequest, boot_tvm_on},
        cove::End,
        linux::{CoveLinux, LinuxBoot, LinuxEnd, boot_cove, measure_cove},
        surroundings::Surroundings,
    },
    engine::{
        EngineError,
        riscv::{
            cause,
            qemu::{Firmware, OpenSbi, QEMU, QemuHart},
        },
    },
    loader::linux::{
        initramfs::GuestFiles,
        modules::{COVE_MODULES, Module, ModuleDirectory},
        riscv_image::RiscvKernel,
    },
    memory::PlacedRam,
};
use zerocopy::IntoBytes;

use self::{
    common::Way,
    linux::{Channel, NONCE, Outcome, breaking, one_at_a_time, task},
};

const RAM: u64 = 512 << 20;
const IDENTITY: [u8; 64] = [0x1d; 64];

fn platform() -> CovePlatform {
    CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap()
}

/// The bare-metal guest on QEMU.
fn bare_metal(request: TvmBootRequest<'_>) -> BootedTvm<QemuHart> {
    let engine =
        |ram: &PlacedRam| Ok::<_, EngineError>(QemuHart::new(Firmware::BareMetal, ram.ram().clone()));
    boot_tvm_on(request, engine).unwrap()
}

/// All checks, one reading, and a mode that there is not; the secret.
#[rstest]
#[case::checks(Way::Steps, 0)]
#[case::evidence(Way::Steps, 1)]
#[case::readings(Way::Steps, 2)]
#[case::unknown(Way::Steps, 3)]
#[case::promoted(Way::Promoted, 0)]
#[case::promoted_evidence(Way::Promoted, 1)]
#[case::promoted_without_tap(Way::PromotedWithoutTap, 0)]
fn a_bare_metal_guest_says_the_same_on_every_engine(#[case] way: Way, #[case] mode: u16) {
    let _one = one_at_a_time();
    let (Some(elf), Some(_)) = (common::guest(), need::program(QEMU)) else { return };
    let mut booted = bare_metal(common::request_as(way, &elf, mode));
    let (end, console) = common::run(&mut booted);
    let (expected_end, expected) = common::in_process(common::request_as(way, &elf, mode));
    assert_eq!(end, expected_end, "{console}");
    let pairs = console.lines().zip(expected.lines());
    assert_eq!(pairs.into_iter().find(|(line, expected)| line != expected), None);
    assert_eq!(console.lines().count(), expected.lines().count());
    if (way, mode) == (Way::Promoted, 0) {
        assert_eq!(common::blob(&console, "secret"), common::SECRET);
    }
}

#[rstest]
#[case::cbor("evidence", KeyAlgorithm::Ed25519)]
#[case::x509("evidence-x509", KeyAlgorithm::P256)]
fn evidence_of_a_bare_metal_guest_is_accepted(
    #[case] name: &str,
    #[case] algorithm: KeyAlgorithm,
    #[values(Way::Steps, Way::Promoted)] way: Way,
) {
    let _one = one_at_a_time();
    let (Some(elf), Some(_)) = (common::guest(), need::program(QEMU)) else { return };
    let (end, console) = common::run(&mut bare_metal(common::request_as(way, &elf, 1)));
    assert_eq!(end, End::Done(0));
    let evidence = common::blob(&console, name);
    let predicted = way.measure(&elf, &common::platform());
    let verdict = |evidence| common::judge(&common::platform(), &predicted, algorithm, evidence);
    assert!(verdict(evidence.clone()).accepted(), "{console}");
    let mut damaged = evidence;
    damaged[100] ^= 1;
    assert!(!verdict(damaged).accepted());
}

/// A guest whose first page is no code.
#[test]
fn a_trap_ends_a_bare_metal_guest() {
    let _one = one_at_a_time();
    let (Some(elf), Some(_)) = (common::guest(), need::program(QEMU)) else { return };
    let engine = |ram: &PlacedRam| {
        ram.write(IMAGE_GPA, &[0; 4096]).unwrap();
        Ok::<_, EngineError>(QemuHart::new(Firmware::BareMetal, ram.ram().clone()))
    };
    let mut booted = boot_tvm_on(common::request(&elf, 0), engine).unwrap();
    let (end, console) = common::run(&mut booted);
    let End::Trap(trap) = end else { panic!("{end}: {console}") };
    assert_eq!((trap.cause, trap.value), (cause::ILLEGAL_INSTRUCTION, 0));
}

#[test]
fn a_bare_metal_guest_goes_on_after_the_deadline() {
    let _one = one_at_a_time();
    let (Some(elf), Some(_)) = (common::guest(), need::program(QEMU)) else { return };
    let mut booted = bare_metal(common::request(&elf, 1));
    assert_eq!(booted.machine.run(Instant::now()).unwrap(), End::Deadline);
    assert_eq!(common::run(&mut booted).0, End::Done(0));
}

/// A stock kernel with its modules, the init program, and OpenSBI.
struct Kernel {
    image: RiscvKernel,
    modules: Vec<Module>,
    init: Vec<u8>,
    firmware: OpenSbi,
}

impl Kernel {
    #[track_caller]
    fn new() -> Option<Self> {
        need::program(QEMU)?;
        let directory = need::kernel_riscv64()?;
        let init = fs::read(need::file("TSMSIM_GUEST_LINUX_RISCV64")?).unwrap();
        let firmware = match OpenSbi::find() {
            Err(EngineError::Missing(reason)) => {
                skip(Lack::Software, &reason);
                return None;
            }
            found => found.unwrap(),
        };
        let image = RiscvKernel::read(&fs::read(directory.join("vmlinuz")).unwrap()).unwrap();
        let release = directory.join("lib/modules").join(image.release().unwrap());
        let modules = ModuleDirectory::open(&release).unwrap().load(&COVE_MODULES).unwrap();
        Some(Self { image, modules, init, firmware })
    }

    /// Without a command, the init program checks.
    fn initrd(&self, command: &[&str]) -> Vec<u8> {
        let command: Vec<Vec<u8>> = command.iter().map(|word| word.as_bytes().to_vec()).collect();
        let Self { init, modules, .. } = self;
        let files = GuestFiles { init, modules, command: &command, ..GuestFiles::default() };
        files.archive().unwrap().finish()
    }

    fn cove(&self, surroundings: Surroundings) -> CoveLinux {
        CoveLinux {
            platform: platform(),
            host: HostConfig::default(),
            identity: Some(IDENTITY),
            firmware: self.firmware.clone(),
            surroundings,
        }
    }

    fn tvm(&self, command: &[&str], surroundings: Surroundings) -> (Outcome, InitialRegisters) {
        let initrd = self.initrd(command);
        let task = task();
        let (channel, sink) = Channel::new();
        let boot = LinuxBoot {
            channel: Some(sink),
            task: task.as_bytes(),
            ..LinuxBoot::new(&self.image, &initrd, RAM)
        };
        let registers = measure_cove(&boot, &platform()).unwrap();
        let guest = boot_cove(boot, self.cove(surroundings)).unwrap();
        (channel.run(guest), registers)
    }
}

/// The verdict of a stranger who trusts this platform's root alone.
fn judge(evidence: Vec<u8>, nonce: &[u8; 64], registers: &InitialRegisters) -> bool {
    let platform = platform();
    let root = platform.hierarchy().root().unwrap().der().to_vec();
    // An X.509 certificate is a SEQUENCE; a CBOR one begins with a tag.
    let algorithm = if evidence.first() == Some(&0x30) { KeyAlgorithm::P256 } else { KeyAlgorithm::Ed25519 };
    let bundle = cove::Bundle {
        evidence,
        root: Some(root.clone()),
        chain: Some(platform.chain(algorithm).pem().into_bytes()),
        crl: Some(platform.hierarchy().crl(1, &[]).unwrap().der().to_vec()),
        inblob: Some(nonce.to_vec()),
    };
    let policy = cove::Policy {
        trust: TrustedRoot::Given(root),
        registers: (0..).zip(registers.values().iter().cloned()).collect(),
        identity: Some(IDENTITY),
        ..cove::Policy::at(Timestamp(1_790_000_000))
    };
    cove::verify(&bundle, &policy).accepted()
}

#[test]
fn a_stock_kernel_is_a_tvm() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new() else { return };
    let (outcome, registers) = kernel.tvm(&[], Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    let evidence = outcome.file("evidence.bin").unwrap();
    assert!(judge(evidence.clone(), &NONCE, &registers), "{}", outcome.show());
    assert!(!judge(evidence.clone(), &[0; 64], &registers), "another nonce");
    let mut others = registers.clone();
    others.entry(0, 0);
    assert!(!judge(evidence.clone(), &NONCE, &others), "another entry");
    let mut damaged = evidence;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(!judge(damaged, &NONCE, &registers), "a flipped bit");
    assert!(outcome.stops["ecall"] >= 3, "{}", outcome.show());
}

/// The suite knows what configfs-tsm is to do; the module is this repository's, and all beneath it is the kernel's.
#[test]
fn the_driver_conforms() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new() else { return };
    let (outcome, _) = kernel.tvm(&[INIT, "conform"], Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
}

/// A command is part of the RAM disk, and so of the measurement; the task is not.
#[test]
fn what_is_measured_can_be_told_beforehand() {
    let Some(kernel) = Kernel::new() else { return };
    let measure = |append, initrd: &[u8], task: &[u8]| {
        let boot = LinuxBoot { append, task, ..LinuxBoot::new(&kernel.image, initrd, RAM) };
        measure_cove(&boot, &platform()).unwrap()
    };
    let (initrd, other) = (kernel.initrd(&[]), kernel.initrd(&["/bin/other"]));
    let measured = measure("", &initrd, &[]);
    assert_eq!(measured, measure("", &initrd, task().as_bytes()));
    assert_ne!(measured, measure("quiet", &initrd, &[]));
    assert_ne!(measured, measure("", &other, &[]));
}

/// What comes from the TSM is the driver's to deliver, and a stranger's to judge.
#[test]
fn broken_evidence_is_delivered_and_refused() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new() else { return };
    let (outcome, registers) =
        kernel.tvm(&[], breaking(FaultPoint::COVE_EVIDENCE, FaultAction::FlipBit(4000)));
    assert_eq!(outcome.end, LinuxEnd::Done, "{}", outcome.show());
    let evidence = outcome.file("evidence.bin").unwrap();
    assert!(!judge(evidence, &NONCE, &registers), "{}", outcome.show());
}

#[test]
fn a_kernel_without_time_does_not_come_to_its_end() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new() else { return };
    let initrd = kernel.initrd(&[]);
    let boot = LinuxBoot::new(&kernel.image, &initrd, RAM);
    let mut guest = boot_cove(boot, kernel.cove(Surroundings::default())).unwrap();
    let end = guest.run(Instant::now() + Duration::from_millis(500)).unwrap();
    assert_eq!(end, LinuxEnd::TimeOut, "{}", guest.console());
}

/// Without a RAM disk there is no init program.
#[test]
fn a_panic_is_told() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new() else { return };
    let boot = LinuxBoot::new(&kernel.image, &[], RAM);
    let mut guest = boot_cove(boot, kernel.cove(Surroundings::default())).unwrap();
    let end = guest.run(Instant::now() + Duration::from_secs(600)).unwrap();
    assert!(matches!(end, LinuxEnd::Panic(_)), "{end}: {}", guest.console());
}
