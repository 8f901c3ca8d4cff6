//! A small Linux as an SNP guest and as a TD on KVM: its own drivers deliver the evidence. The kernel is what
//! `cargo xtask kernel` builds; where KVM interprets ring 0, a distribution's would take ten minutes.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod judge;
mod linux;

use std::{env, fs};

use tsmsim_abi::{linux_guest::Task, snp::report::AttestationReport};
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint},
    snp::{firmware::Firmware, platform::Platform},
    tdx::{guest::default_params, vmcall::HostConfig},
};
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    cc::{
        boot::c_bit,
        boot_td::can_run,
        linux::{LinuxBoot, LinuxBootError, LinuxEnd, Sink, SnpLinux, TdxLinux, kvm::KvmLinux},
        surroundings::Surroundings,
    },
    loader::linux::{image::KernelImage, initramfs::GuestFiles},
};
use zerocopy::{FromBytes, IntoBytes};

use self::{
    judge::{judge_snp, judge_tdx, snp_platform, tdx_platform},
    linux::{Channel, NONCE, Outcome, breaking, one_at_a_time, task},
};

const RAM: u64 = 48 << 20;

/// The small kernel and the init program.
struct Small {
    kernel: KernelImage,
    initrd: Vec<u8>,
}

impl Small {
    #[track_caller]
    fn new() -> Option<Self> {
        need::kvm()?;
        let init = fs::read(need::file("TSMSIM_GUEST_LINUX")?).unwrap();
        let Some(kernel) = env::var_os("TSMSIM_KERNEL_SMALL") else {
            let reason =
                "no small kernel: `cargo xtask kernel` builds one, and `cargo xtask test` takes it then";
            skip(Lack::Software, reason);
            return None;
        };
        let kernel = KernelImage::read(&fs::read(kernel).unwrap()).unwrap();
        let files = GuestFiles { init: &init, ..GuestFiles::default() };
        Some(Self { kernel, initrd: files.archive().unwrap().finish() })
    }

    fn boot<'a>(&'a self, task: &'a Task, sink: Sink) -> LinuxBoot<'a> {
        LinuxBoot {
            channel: Some(sink),
            task: task.as_bytes(),
            ..LinuxBoot::new(&self.kernel, &self.initrd, RAM)
        }
    }
}

fn snp_guest(small: &Small, surroundings: Surroundings) -> (Outcome, [u8; 48], Platform) {
    let c_bit = c_bit().unwrap();
    let platform = snp_platform(c_bit);
    let kvm = KvmLinux::new().unwrap();
    let (channel, sink) = Channel::new();
    let task = task();
    let boot = small.boot(&task, sink);
    let snp = SnpLinux { surroundings, ..SnpLinux::new(Firmware::new(platform.clone()), c_bit) };
    let measurement = *kvm.measure_snp(&boot, &snp).unwrap().as_bytes();
    (channel.run(kvm.boot_snp(boot, snp).unwrap()), measurement, platform)
}

#[test]
fn a_small_kernel_is_an_snp_guest() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let (outcome, measurement, platform) = snp_guest(&small, Surroundings::default());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"));
    let report = outcome.file("report.bin").unwrap();
    assert_eq!(AttestationReport::read_from_bytes(&report).unwrap().report_data, NONCE);
    assert!(judge_snp(report.clone(), &NONCE, measurement, &platform), "{}", outcome.show());
    let mut other = measurement;
    other[0] ^= 1;
    assert!(!judge_snp(report, &NONCE, other, &platform));
}

#[test]
fn its_driver_refuses_a_broken_answer() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let faults = breaking(FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(0));
    let (outcome, _, _) = snp_guest(&small, faults);
    assert_eq!(outcome.end, LinuxEnd::Done, "{}", outcome.show());
    assert!(outcome.report.status.is_some_and(|status| status != 0), "{}", outcome.show());
    assert_eq!(outcome.file("report.bin"), None);
    // sev-guest.c: the key's counter cannot be trusted any more.
    assert!(outcome.console.contains("VMPCK0"), "{}", outcome.show());
}

#[test]
fn a_small_kernel_is_a_td() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    if let Err(error) = can_run() {
        return skip(Lack::Hardware, &error.to_string());
    }
    let kvm = KvmLinux::new().unwrap();
    let (channel, sink) = Channel::new();
    let task = task();
    let boot = small.boot(&task, sink);
    let tdx = TdxLinux {
        platform: tdx_platform(),
        host: HostConfig::default(),
        params: default_params(),
        surroundings: Surroundings::default(),
    };
    let mr_td = kvm.measure_tdx(&boot, &tdx).unwrap();
    let outcome = channel.run(kvm.boot_tdx(boot, tdx).unwrap());
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: Intel TDX"));
    let quote = outcome.file("quote.bin").unwrap();
    assert!(judge_tdx(quote.clone(), &NONCE, mr_td), "{}", outcome.show());
    let mut other = mr_td;
    other[0] ^= 1;
    assert!(!judge_tdx(quote, &NONCE, other));
}

#[test]
fn without_ram_at_the_c_bit_no_guest_gets_far() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let c_bit = c_bit().unwrap();
    let (channel, sink) = Channel::new();
    let task = task();
    let boot = LinuxBoot { alias: false, ..small.boot(&task, sink) };
    let snp = SnpLinux::new(Firmware::new(snp_platform(c_bit)), c_bit);
    let outcome = channel.run(KvmLinux::new().unwrap().boot_snp(boot, snp).unwrap());
    assert!(!outcome.report.hello && outcome.report.files.is_empty(), "{}", outcome.show());
    assert_ne!(outcome.end, LinuxEnd::Done);
}

#[test]
fn too_little_memory_is_an_error() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let c_bit = c_bit().unwrap();
    let snp = SnpLinux::new(Firmware::new(snp_platform(c_bit)), c_bit);
    let boot = LinuxBoot { ram_size: 16 << 20, ..LinuxBoot::new(&small.kernel, &small.initrd, RAM) };
    let refused = KvmLinux::new().unwrap().boot_snp(boot, snp);
    assert!(matches!(refused, Err(LinuxBootError::Load(_))));
}
