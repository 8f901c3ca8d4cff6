//! A small Linux as an SNP guest and as a TD on KVM: its own drivers deliver the evidence. The kernel is what
//! `cargo xtask kernel` builds; where KVM interprets ring 0, a distribution's would take ten minutes.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    env, fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_abi::{
    linux_guest::{TASK_MAGIC, Task},
    snp::{report::AttestationReport, tcb::ProductLine},
};
use tsmsim_evidence::{Timestamp, snp, tdx};
use tsmsim_keys::{Seed, amd::CertificateKind, intel::Scenario};
use tsmsim_simulator::{
    fault::{FaultAction, FaultHook, FaultPoint},
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
        boot::c_bit,
        boot_td::can_run,
        linux::{
            ConfidentialMachine, LinuxBoot, LinuxBootError, LinuxEnd, LinuxEngine, LinuxGuest, Sink,
            SnpLinux, TdxLinux, kvm::KvmLinux,
        },
        tdx::Surroundings,
    },
    guest_channel::{ChannelReport, GuestChannel, Limits},
    loader::linux::{image::KernelImage, initramfs::GuestFiles},
};
use zerocopy::{FromBytes, IntoBytes};

/// Long enough for any of these guests, however busy the machine.
const TIME: Duration = Duration::from_secs(600);
const RAM: u64 = 48 << 20;
const NONCE: [u8; 64] = *b"chosen outside the guest, found in what its own driver delivers.";
const AT: Timestamp = Timestamp(1_790_000_000);

/// One at a time: each keeps a processor busy.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

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

const TASK: Task = Task { magic: TASK_MAGIC, inblob_len: le(64), reserved_0xc: le(0), inblob: NONCE };

const fn le(value: u32) -> zerocopy::little_endian::U32 {
    zerocopy::little_endian::U32::new(value)
}

/// What came of a boot.
struct Outcome {
    end: LinuxEnd,
    report: ChannelReport,
    console: String,
    stops: String,
    out: tempfile::TempDir,
}

impl Outcome {
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.out.path().join(name)).ok()
    }

    fn show(&self) -> String {
        let lines: Vec<&str> = self.console.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("{:?} {:?}\n{tail}\n{}", self.end, self.report, self.stops)
    }
}

/// The host's end of the channel.
struct Channel {
    shared: Arc<Mutex<Option<GuestChannel>>>,
    out: tempfile::TempDir,
}

impl Channel {
    fn new() -> (Self, Sink) {
        let out = tempfile::tempdir().unwrap();
        let channel = GuestChannel::new(Some(out.path()), Limits::default());
        let shared = Arc::new(Mutex::new(Some(channel)));
        let writer = Arc::clone(&shared);
        let sink = move |bytes: &[u8]| {
            let mut channel = writer.lock().unwrap();
            let channel = channel.as_mut().unwrap();
            channel.push(bytes, &mut |_| ());
            channel.status().is_some()
        };
        (Self { shared, out }, Box::new(sink))
    }

    fn run<M: ConfidentialMachine>(self, mut guest: LinuxGuest<M>) -> Outcome {
        let start = Instant::now();
        let end = guest.run(start + TIME).unwrap();
        let report = self.shared.lock().unwrap().take().unwrap().finish();
        let stops = format!("{:.1} s, {:?}", start.elapsed().as_secs_f64(), guest.machine().engine().stops());
        Outcome { end, report, console: guest.console(), stops, out: self.out }
    }
}

fn snp_platform(c_bit: u8) -> Platform {
    PlatformConfig::new(ProductLine::Genoa).with_c_bit(c_bit).build(&Seed::DEFAULT).unwrap()
}

fn snp_guest(small: &Small, surroundings: Surroundings) -> (Outcome, [u8; 48], Platform) {
    let c_bit = c_bit().unwrap();
    let platform = snp_platform(c_bit);
    let kvm = KvmLinux::new().unwrap();
    let (channel, sink) = Channel::new();
    let boot = small.boot(&TASK, sink);
    let snp = SnpLinux { surroundings, ..SnpLinux::new(Firmware::new(platform.clone()), c_bit) };
    let measurement = *kvm.measure_snp(&boot, &snp).unwrap().as_bytes();
    (channel.run(kvm.boot_snp(boot, snp).unwrap()), measurement, platform)
}

/// The verdict of a stranger who trusts this platform's root alone.
fn judge_snp(report: Vec<u8>, measurement: [u8; 48], platform: &Platform) -> bool {
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
    let trust = snp::TrustedRoot::Given(ark);
    let policy = snp::Policy { trust, measurement: Some(measurement), ..snp::Policy::at(AT) };
    snp::verify(&bundle, &policy).accepted()
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
    assert!(judge_snp(report.clone(), measurement, &platform), "{}", outcome.show());
    let mut other = measurement;
    other[0] ^= 1;
    assert!(!judge_snp(report, other, &platform));
}

/// Breaks the tag of every answer.
struct BrokenTag;

impl FaultHook for BrokenTag {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        (point == FaultPoint::SNP_RESPONSE).then_some(FaultAction::FlipBit(0))
    }
}

#[test]
fn its_driver_refuses_a_broken_answer() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let faults = Surroundings { faults: Box::new(BrokenTag), ..Surroundings::default() };
    let (outcome, _, _) = snp_guest(&small, faults);
    assert_eq!(outcome.end, LinuxEnd::Done, "{}", outcome.show());
    assert!(outcome.report.status.is_some_and(|status| status != 0), "{}", outcome.show());
    assert_eq!(outcome.file("report.bin"), None);
    // sev-guest.c: the key's counter cannot be trusted any more.
    assert!(outcome.console.contains("VMPCK0"), "{}", outcome.show());
}

fn tdx_platform() -> TdxPlatform {
    TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap()
}

fn judge_tdx(quote: Vec<u8>, mr_td: [u8; 48]) -> bool {
    let platform = tdx_platform();
    let hierarchy = platform.hierarchy();
    let qe_identity = platform.config().qe.clone();
    let collateral = Scenario::default()
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
    let trust = tdx::TrustedRoot::Given(root);
    tdx::verify(&bundle, &tdx::Policy { trust, mr_td: Some(mr_td), ..tdx::Policy::at(AT) }).accepted()
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
    let boot = small.boot(&TASK, sink);
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
    assert!(judge_tdx(quote.clone(), mr_td), "{}", outcome.show());
    let mut other = mr_td;
    other[0] ^= 1;
    assert!(!judge_tdx(quote, other));
}

#[test]
fn without_ram_at_the_c_bit_no_guest_gets_far() {
    let _one = one_at_a_time();
    let Some(small) = Small::new() else { return };
    let c_bit = c_bit().unwrap();
    let (channel, sink) = Channel::new();
    let boot = LinuxBoot { alias: false, ..small.boot(&TASK, sink) };
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
