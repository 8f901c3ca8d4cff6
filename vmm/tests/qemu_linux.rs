//! Stock Linux kernels as SNP guests and TDs on QEMU: their own drivers deliver the evidence.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod judge;
mod linux;

use std::{env, fs, path::PathBuf};

use rstest::rstest;
use tsmsim_abi::{
    linux_guest::Task,
    snp::{policy::GuestPolicy, report::AttestationReport},
    tdx::quote::Quote,
};
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint},
    snp::firmware::Firmware,
    tdx::{guest::default_params, vmcall::HostConfig},
};
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    cc::{
        linux::{
            LinuxBoot, LinuxEnd, Sink, SnpLinux, TdxLinux, boot_snp, boot_tdx, measure_snp, measure_tdx,
            sites,
        },
        surroundings::Surroundings,
    },
    engine::qemu::{QEMU, Watched},
    loader::{
        linux::{
            image::KernelImage,
            initramfs::GuestFiles,
            modules::{ModuleDirectory, SNP_MODULES, TDX_MODULES, Wanted},
        },
        patch::PatchedInstruction,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use self::{
    judge::{judge_snp, judge_tdx, snp_platform, tdx_platform},
    linux::{Channel, NONCE, Outcome, breaking, one_at_a_time, task},
};

const RAM: u64 = 512 << 20;
const C_BIT: u8 = 51;

/// A stock kernel with its modules, and the init program.
struct Kernel {
    image: KernelImage,
    modules: ModuleDirectory,
    init: Vec<u8>,
}

/// The directory of a kernel that `cargo xtask setup` brought: `vmlinuz` and `lib/modules/RELEASE`.
#[track_caller]
fn directory(variable: &str) -> Option<PathBuf> {
    let directory = env::var_os(variable).map(PathBuf::from).filter(|path| path.join("vmlinuz").is_file());
    if directory.is_none() {
        skip(Lack::Software, &format!("{variable} names no kernel; `cargo xtask test` sets it"));
    }
    directory
}

#[track_caller]
fn image(variable: &str) -> Option<KernelImage> {
    let directory = directory(variable)?;
    Some(KernelImage::read(&fs::read(directory.join("vmlinuz")).unwrap()).unwrap())
}

impl Kernel {
    #[track_caller]
    fn new(variable: &str) -> Option<Self> {
        need::program(QEMU)?;
        let init = fs::read(need::file("TSMSIM_GUEST_LINUX")?).unwrap();
        let image = image(variable)?;
        let release = directory(variable)?.join("lib/modules").join(image.release().unwrap());
        Some(Self { image, modules: ModuleDirectory::open(&release).unwrap(), init })
    }

    fn initrd(&self, wanted: &[Wanted<'_>]) -> Vec<u8> {
        let modules = self.modules.load(wanted).unwrap();
        let files = GuestFiles { init: &self.init, modules: &modules, ..GuestFiles::default() };
        files.archive().unwrap().finish()
    }

    fn boot<'a>(&'a self, initrd: &'a [u8], task: &'a Task, sink: Sink) -> LinuxBoot<'a> {
        LinuxBoot { channel: Some(sink), task: task.as_bytes(), ..LinuxBoot::new(&self.image, initrd, RAM) }
    }
}

fn stops(outcome: &Outcome, name: &str) -> u64 {
    outcome.stops.get(name).copied().unwrap_or_default()
}

fn snp_guest(kernel: &Kernel, alias: bool, surroundings: Surroundings) -> (Outcome, [u8; 48]) {
    let initrd = kernel.initrd(&SNP_MODULES);
    let task = task();
    let (channel, sink) = Channel::new();
    let boot = LinuxBoot { alias, ..kernel.boot(&initrd, &task, sink) };
    let snp = SnpLinux {
        policy: GuestPolicy::DEFAULT,
        surroundings,
        ..SnpLinux::new(Firmware::new(snp_platform(C_BIT)), C_BIT)
    };
    let measurement = measure_snp(&boot, &snp).unwrap();
    let guest = boot_snp(boot, snp).unwrap();
    (channel.run(guest), *measurement.as_bytes())
}

#[rstest]
#[case::v6_12("TSMSIM_KERNEL_6_12")]
#[case::v7("TSMSIM_KERNEL_7")]
fn a_stock_kernel_is_an_snp_guest(#[case] variable: &str) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new(variable) else { return };
    let (outcome, measurement) = snp_guest(&kernel, true, Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"));
    let report = outcome.file("report.bin").unwrap();
    assert_eq!(AttestationReport::read_from_bytes(&report).unwrap().report_data, NONCE);
    assert!(judge_snp(report, &NONCE, measurement, &snp_platform(C_BIT)), "{}", outcome.show());
    assert!(stops(&outcome, "VMGEXIT") > 0 && stops(&outcome, "PVALIDATE") > 0);
}

/// A bit of the tag, which the first bytes of a message are; and of the sequence number, at 20h.
#[rstest]
#[case::tag(0)]
#[case::sequence_number(0x20 * 8)]
fn a_driver_refuses_a_broken_answer(#[case] bit: usize) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let broken = breaking(FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(bit));
    let (outcome, _) = snp_guest(&kernel, true, broken);
    assert_eq!(outcome.end, LinuxEnd::Done, "{}", outcome.show());
    assert!(outcome.report.status.is_some_and(|status| status != 0), "{}", outcome.show());
    assert_eq!(outcome.file("report.bin"), None);
    // sev-guest.c: the key's counter cannot be trusted any more.
    assert!(outcome.console.contains("VMPCK0"), "{}", outcome.show());
}

#[test]
fn without_ram_at_the_c_bit_no_guest_gets_far() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let (outcome, _) = snp_guest(&kernel, false, Surroundings::default());
    assert!(!outcome.report.hello && outcome.report.files.is_empty(), "{}", outcome.show());
    assert_ne!(outcome.end, LinuxEnd::Done);
}

fn td(kernel: &Kernel, alias: bool, host: HostConfig, surroundings: Surroundings) -> (Outcome, [u8; 48]) {
    let initrd = kernel.initrd(&TDX_MODULES);
    let task = task();
    let (channel, sink) = Channel::new();
    let boot = LinuxBoot { alias, ..kernel.boot(&initrd, &task, sink) };
    let tdx = TdxLinux { platform: tdx_platform(), host, params: default_params(), surroundings };
    let measurement = measure_tdx(&boot, &tdx).unwrap();
    let guest = boot_tdx(boot, tdx).unwrap();
    (channel.run(guest), measurement)
}

/// The second kernel has its quote delayed: it has to wait for it.
#[rstest]
#[case::v6_12("TSMSIM_KERNEL_6_12", None)]
#[case::v7("TSMSIM_KERNEL_7", Some(300_000_000))]
fn a_stock_kernel_is_a_td(#[case] variable: &str, #[case] quote_delay_ns: Option<u64>) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new(variable) else { return };
    let host = HostConfig { quote_delay_ns, ..HostConfig::default() };
    let (outcome, mr_td) = td(&kernel, true, host, Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: Intel TDX"));
    let quote = outcome.file("quote.bin").unwrap();
    assert!(Quote::read(&quote).is_ok());
    assert!(judge_tdx(quote, &NONCE, mr_td), "{}", outcome.show());
    assert!(stops(&outcome, "TDCALL") > 0);
    assert!(stops(&outcome, "CPUID") < 10, "CPUID is watched only until the kernel knows what it is");
}

#[test]
fn a_td_without_a_quoting_service_gets_no_quote() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let host = HostConfig { quoting: false, ..HostConfig::default() };
    let (outcome, _) = td(&kernel, true, host, Surroundings::default());
    assert!(outcome.report.status.is_some_and(|status| status != 0), "{}", outcome.show());
    assert_eq!(outcome.file("quote.bin"), None);
}

/// What a TD shares with its host is not there then: it boots, but its request for a quote does not arrive.
#[test]
fn without_ram_at_the_shared_bit_no_td_gets_a_quote() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let (outcome, _) = td(&kernel, false, HostConfig::default(), Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(1)), "{}", outcome.show());
    assert_eq!(outcome.file("quote.bin"), None, "{}", outcome.show());
    // tdx-guest.c: the host has found no request.
    assert!(outcome.console.contains("GetQuote hypercall failed"), "{}", outcome.show());
}

#[rstest]
#[case::v6_12("TSMSIM_KERNEL_6_12")]
#[case::v7("TSMSIM_KERNEL_7")]
fn a_stock_kernel_has_the_instructions(#[case] variable: &str) {
    let Some(image) = image(variable) else { return };
    let code: Vec<_> = image.code().collect();
    let snp = sites::find_snp(&code);
    let count = |instruction| snp.count(Watched::Confidential(instruction));
    assert!(count(PatchedInstruction::Vmgexit) >= 10);
    assert!(count(PatchedInstruction::Pvalidate) >= 1);
    assert!(count(PatchedInstruction::Rmpadjust) >= 1);
    assert!(snp.count(Watched::Wrmsr) >= count(PatchedInstruction::Vmgexit));
    assert!(snp.unconfirmed.is_empty(), "{:x?}", snp.unconfirmed);
    let tdx = sites::find_tdx(&code);
    assert!(tdx.count(Watched::Confidential(PatchedInstruction::Tdcall)) >= 2);
    assert!(sites::find_halt(&code).is_some());
}
