//! Stock Linux kernels as SNP guests and TDs on QEMU: their own drivers deliver the evidence.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rstest::rstest;
use tsmsim_abi::{
    linux_guest::{TASK_MAGIC, Task},
    snp::{policy::GuestPolicy, report::AttestationReport, tcb::ProductLine},
    tdx::quote::Quote,
};
use tsmsim_evidence::{snp, tdx};
use tsmsim_keys::{Seed, amd::CertificateKind};
use tsmsim_simulator::{
    fault::{FaultAction, FaultHook, FaultPoint, NoFaults},
    snp::{
        firmware::Firmware,
        platform::{Platform, PlatformConfig},
    },
    tdx::{
        guest::default_params,
        platform::{TdxPlatform, TdxPlatformConfig},
        vmcall::HostConfig,
    },
};
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    cc::{
        linux::{
            ConfidentialMachine, LinuxBoot, LinuxEnd, LinuxGuest, Sink, SnpLinux, TdxLinux, boot_snp,
            boot_tdx, measure_snp, measure_tdx, sites,
        },
        tdx::Surroundings,
    },
    engine::qemu::{QEMU, Watched},
    guest_channel::{ChannelReport, GuestChannel, Limits},
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

/// Long enough for any of these guests, however busy the machine.
const TIME: Duration = Duration::from_secs(600);
const RAM: u64 = 512 << 20;
const NONCE: [u8; 64] = *b"chosen outside the guest, found in what its own driver delivers.";
const C_BIT: u8 = 51;

/// One QEMU at a time: each keeps a processor busy.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

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
}

fn task() -> Task {
    Task { magic: TASK_MAGIC, inblob_len: 64.into(), reserved_0xc: 0.into(), inblob: NONCE }
}

/// What came of a boot.
struct Outcome {
    end: LinuxEnd,
    report: ChannelReport,
    said: String,
    console: String,
    stops: Vec<(&'static str, u64)>,
    out: tempfile::TempDir,
}

impl Outcome {
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.out.path().join(name)).ok()
    }

    fn show(&self) -> String {
        let tail: Vec<&str> = self.console.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{:?} {:?}\n{}\n{}", self.end, self.report, self.said, tail.join("\n"))
    }

    fn stops(&self, name: &str) -> u64 {
        self.stops.iter().filter(|stop| stop.0 == name).map(|stop| stop.1).sum()
    }
}

/// The host's end of the channel, shared with the thread that reads it.
type Channel = Arc<Mutex<(Option<GuestChannel>, Vec<u8>)>>;

fn channel(out: &Path) -> (Channel, Sink) {
    let shared: Channel =
        Arc::new(Mutex::new((Some(GuestChannel::new(Some(out), Limits::default())), Vec::new())));
    let writer = Arc::clone(&shared);
    let sink = move |bytes: &[u8]| {
        let (channel, said) = &mut *writer.lock().unwrap();
        let channel = channel.as_mut().unwrap();
        channel.push(bytes, &mut |word| said.extend_from_slice(format!("{word:?}\n").as_bytes()));
        channel.status().is_some()
    };
    (shared, Box::new(sink))
}

fn run<M: ConfidentialMachine>(
    mut guest: LinuxGuest<M>,
    channel: &Channel,
    out: tempfile::TempDir,
) -> Outcome {
    let end = guest.run(Instant::now() + TIME).unwrap();
    let (report, said) = {
        let (channel, said) = &mut *channel.lock().unwrap();
        (channel.take().unwrap().finish(), String::from_utf8_lossy(said).into_owned())
    };
    let stops = guest.stops().iter().map(|(name, count)| (*name, *count)).collect();
    Outcome { end, report, said, console: guest.console(), stops, out }
}

fn faults(faults: impl FaultHook + 'static) -> Surroundings {
    Surroundings { faults: Box::new(faults), ..Surroundings::default() }
}

fn snp_platform() -> Platform {
    PlatformConfig::new(ProductLine::Genoa).with_c_bit(C_BIT).build(&Seed::DEFAULT).unwrap()
}

fn snp_guest(kernel: &Kernel, alias: bool, surroundings: Surroundings) -> (Outcome, [u8; 48]) {
    let initrd = kernel.initrd(&SNP_MODULES);
    let task = task();
    let out = tempfile::tempdir().unwrap();
    let (shared, sink) = channel(out.path());
    let boot = LinuxBoot {
        alias,
        channel: Some(sink),
        task: task.as_bytes(),
        ..LinuxBoot::new(&kernel.image, &initrd, RAM)
    };
    let snp = SnpLinux {
        policy: GuestPolicy::DEFAULT,
        surroundings,
        ..SnpLinux::new(Firmware::new(snp_platform()), C_BIT)
    };
    let measurement = measure_snp(&boot, &snp).unwrap();
    let guest = boot_snp(boot, snp).unwrap();
    (run(guest, &shared, out), *measurement.as_bytes())
}

/// The verdict of a stranger who trusts this platform's root alone.
fn judge_snp(report: Vec<u8>, measurement: [u8; 48]) -> bool {
    let platform = snp_platform();
    let hierarchy = platform.hierarchy();
    let ark = hierarchy.ark().unwrap().der().to_vec();
    let bundle = snp::Bundle {
        report,
        ark: Some(ark.clone()),
        ask: Some(hierarchy.issuer_of(CertificateKind::Vcek).unwrap().der().to_vec()),
        vcek: Some(platform.vcek().certificate().der().to_vec()),
        crl: Some(hierarchy.crl().unwrap().der().to_vec()),
        inblob: Some(NONCE.to_vec()),
        ..snp::Bundle::default()
    };
    let at = tsmsim_evidence::Timestamp(1_790_000_000);
    let trust = snp::TrustedRoot::Given(ark);
    let policy = snp::Policy { trust, measurement: Some(measurement), ..snp::Policy::at(at) };
    snp::verify(&bundle, &policy).accepted()
}

#[rstest]
#[case::v6_12("TSMSIM_KERNEL_6_12")]
#[case::v7("TSMSIM_KERNEL_7")]
fn a_stock_kernel_is_an_snp_guest(#[case] variable: &str) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new(variable) else { return };
    let (outcome, measurement) = snp_guest(&kernel, true, faults(NoFaults));
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"));
    let report = outcome.file("report.bin").unwrap();
    assert_eq!(AttestationReport::read_from_bytes(&report).unwrap().report_data, NONCE);
    assert!(judge_snp(report, measurement), "{}", outcome.show());
    assert!(outcome.stops("VMGEXIT") > 0 && outcome.stops("PVALIDATE") > 0);
}

/// Breaks one thing, each time.
struct Break(FaultPoint, FaultAction);

impl FaultHook for Break {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        (point == self.0).then(|| self.1.clone())
    }
}

/// A bit of the tag, which the first bytes of a message are; and of the sequence number, at 20h.
#[rstest]
#[case::tag(0)]
#[case::sequence_number(0x20 * 8)]
fn a_driver_refuses_a_broken_answer(#[case] bit: usize) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let broken = Break(FaultPoint::SNP_RESPONSE, FaultAction::FlipBit(bit));
    let (outcome, _) = snp_guest(&kernel, true, faults(broken));
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
    let (outcome, _) = snp_guest(&kernel, false, faults(NoFaults));
    assert!(!outcome.report.hello && outcome.report.files.is_empty(), "{}", outcome.show());
    assert_ne!(outcome.end, LinuxEnd::Done);
}

fn tdx_platform() -> TdxPlatform {
    TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap()
}

fn td(kernel: &Kernel, alias: bool, host: HostConfig, surroundings: Surroundings) -> (Outcome, [u8; 48]) {
    let initrd = kernel.initrd(&TDX_MODULES);
    let task = task();
    let out = tempfile::tempdir().unwrap();
    let (shared, sink) = channel(out.path());
    let boot = LinuxBoot {
        alias,
        channel: Some(sink),
        task: task.as_bytes(),
        ..LinuxBoot::new(&kernel.image, &initrd, RAM)
    };
    let tdx = TdxLinux { platform: tdx_platform(), host, params: default_params(), surroundings };
    let measurement = measure_tdx(&boot, &tdx).unwrap();
    let guest = boot_tdx(boot, tdx).unwrap();
    (run(guest, &shared, out), measurement)
}

fn judge_tdx(quote: Vec<u8>, mr_td: [u8; 48]) -> bool {
    let platform = tdx_platform();
    let hierarchy = platform.hierarchy();
    let qe_identity = platform.config().qe.clone();
    let scenario = tsmsim_keys::intel::Scenario::default();
    let collateral = scenario
        .collateral(hierarchy, platform.identity(), platform.tcb_info_spec(), qe_identity)
        .unwrap()
        .to_json()
        .unwrap();
    let root = hierarchy.root().unwrap().der().to_vec();
    let bundle = tdx::Bundle {
        quote,
        root: Some(root.clone()),
        collateral: Some(collateral.into_bytes()),
        inblob: Some(NONCE.to_vec()),
        ..tdx::Bundle::default()
    };
    let at = tsmsim_evidence::Timestamp(1_790_000_000);
    let trust = tdx::TrustedRoot::Given(root);
    tdx::verify(&bundle, &tdx::Policy { trust, mr_td: Some(mr_td), ..tdx::Policy::at(at) }).accepted()
}

/// The second kernel has its quote delayed: it has to wait for it.
#[rstest]
#[case::v6_12("TSMSIM_KERNEL_6_12", None)]
#[case::v7("TSMSIM_KERNEL_7", Some(300_000_000))]
fn a_stock_kernel_is_a_td(#[case] variable: &str, #[case] quote_delay_ns: Option<u64>) {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new(variable) else { return };
    let host = HostConfig { quote_delay_ns, ..HostConfig::default() };
    let (outcome, mr_td) = td(&kernel, true, host, faults(NoFaults));
    assert_eq!((&outcome.end, outcome.report.status), (&LinuxEnd::Done, Some(0)), "{}", outcome.show());
    assert!(outcome.console.contains("Memory Encryption Features active: Intel TDX"));
    let quote = outcome.file("quote.bin").unwrap();
    assert!(Quote::read(&quote).is_ok());
    assert!(judge_tdx(quote, mr_td), "{}", outcome.show());
    assert!(outcome.stops("TDCALL") > 0);
    assert!(outcome.stops("CPUID") < 10, "CPUID is watched only until the kernel knows what it is");
}

#[test]
fn a_td_without_a_quoting_service_gets_no_quote() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let host = HostConfig { quoting: false, ..HostConfig::default() };
    let (outcome, _) = td(&kernel, true, host, faults(NoFaults));
    assert!(outcome.report.status.is_some_and(|status| status != 0), "{}", outcome.show());
    assert_eq!(outcome.file("quote.bin"), None);
}

/// What a TD shares with its host is not there then: it boots, but its request for a quote does not arrive.
#[test]
fn without_ram_at_the_shared_bit_no_td_gets_a_quote() {
    let _one = one_at_a_time();
    let Some(kernel) = Kernel::new("TSMSIM_KERNEL_6_12") else { return };
    let (outcome, _) = td(&kernel, false, HostConfig::default(), faults(NoFaults));
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
