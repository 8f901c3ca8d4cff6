//! `tsmsim boot`: stock Linux kernels as confidential guests, by the command line. One QEMU at a time.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cove;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rstest::rstest;
use tsmsim_abi::snp::report::AttestationReport;
use tsmsim_tests::need::{self, Lack};
use tsmsim_vmm::loader::linux::initramfs::Initramfs;
use zerocopy::FromBytes as _;

/// This machine has room for one QEMU at a time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static QEMU: Mutex<()> = Mutex::new(());
    QEMU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a program ended and what it said.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

#[track_caller]
fn run(command: &mut Command) -> Said {
    let output =
        command.env_remove("RUST_LOG").env_remove("TSMSIM_SEED").stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Said { status: output.status.code().unwrap_or(-1), out, err }
}

impl Said {
    #[track_caller]
    fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked at"), "{}", self.err);
        self
    }
}

/// The program, and a stock kernel for its guests.
struct Boot {
    tsmsim: PathBuf,
    kernel: PathBuf,
}

impl Boot {
    #[track_caller]
    fn new(kernel: fn() -> Option<PathBuf>) -> Option<Self> {
        Self::on("qemu-system-x86_64", kernel)
    }

    #[track_caller]
    fn on(qemu: &str, kernel: fn() -> Option<PathBuf>) -> Option<Self> {
        need::program(qemu)?;
        Some(Self { tsmsim: need::tsmsim()?, kernel: kernel()? })
    }

    /// A command on QEMU with this kernel; `words` are split at spaces.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.tsmsim);
        let release = self.kernel.file_name().unwrap();
        command.args(words.split_whitespace()).args(["--engine", "qemu", "--kernel"]);
        command.arg(self.kernel.join("vmlinuz")).arg("--modules");
        command.arg(self.kernel.join("lib/modules").join(release));
        command
    }

    /// What `tsmsim measure` says of a guest with these options.
    #[track_caller]
    fn measure(&self, tee: &str, options: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let mut command = self.command(&format!("measure --tee {tee}"));
        run(command.args(options)).with_status(0).out.trim().to_owned()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The built-in check: the driver's evidence carries what was chosen outside, and is accepted outside.
#[rstest]
#[case::snp("snp", need::kernel_6_12, "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP")]
#[case::tdx("tdx", need::kernel_7, "Memory Encryption Features active: Intel TDX")]
fn evidence_comes_out(#[case] tee: &str, #[case] kernel: fn() -> Option<PathBuf>, #[case] console: &str) {
    let _one = one_at_a_time();
    let Some(boot) = Boot::new(kernel) else { return };
    let directory = tempfile::tempdir().unwrap();
    let [out, inblob, other] = ["out", "inblob", "other"].map(|name| directory.path().join(name));
    fs::write(&inblob, [0x5c; 64]).unwrap();
    fs::write(&other, [0x5d; 64]).unwrap();
    let mut command = boot.command(&format!("boot --verbose --tee {tee}"));
    let said = run(command.arg("--out").arg(&out).arg("--inblob").arg(&inblob)).with_status(0);
    assert!(said.err.contains(console), "{}", said.err);
    assert!(said.err.contains("tsmsim: accepted under a synthetic root"), "{}", said.err);
    let checks = said.out.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(checks > 8 && said.out.contains(&format!("\n1..{checks}\n")), "{}", said.out);

    let measurement = boot.measure(tee, [""; 0]);
    let verify = |inblob: &Path, measurement: &str| {
        let mut command = Command::new(&boot.tsmsim);
        command.args(["verify", "--measurement", measurement, "--dir"]).arg(&out).arg("--inblob").arg(inblob);
        run(&mut command)
    };
    verify(&inblob, &measurement).with_status(0);
    verify(&other, &measurement).with_status(1);
    verify(&inblob, &"5c".repeat(48)).with_status(1);
}

/// CMD's output, exit status and files; files from the host, a RAM disk and a command line of one's own. All that the guest is
/// given is measured.
#[test]
fn a_command_runs_inside() {
    let _one = one_at_a_time();
    let Some(boot) = Boot::new(need::kernel_6_12) else { return };
    let Some(busybox) = need::program("busybox") else { return };
    let directory = tempfile::tempdir().unwrap();
    let [out, own, initrd] = ["out", "own", "initrd"].map(|name| directory.path().join(name));
    fs::write(&own, "copied in\n").unwrap();
    let mut archive = Initramfs::new();
    archive.file("of/the/user", 0o644, b"unpacked first\n").unwrap();
    fs::write(&initrd, archive.finish()).unwrap();
    let script = "cat /etc/own /of/the/user; echo complaint >&2; grep -o tsmsim.test=[0-9]* /proc/cmdline
        r=/sys/kernel/config/tsm/report/r; mkdir $r && cat /tsmsim/inblob >$r/inblob && cat $r/outblob >/out/report
        mkdir -p /out/a/b && echo deep >/out/a/b/c; exit 7";
    let add = |host: &Path, guest: &str| format!("{}:{guest}", host.display());
    let mut options: Vec<String> =
        ["--mem", "384", "--append", "tsmsim.test=1", "--initrd"].map(Into::into).into();
    options.push(initrd.display().to_string());
    options.extend(["--add".to_owned(), add(&busybox, "/bin/busybox")]);
    options.extend(["--add".to_owned(), add(&own, "/etc/own")]);
    let program = ["--", "/bin/busybox", "sh", "-c"].map(Into::into);
    let script = format!("export PATH=/bin; /bin/busybox --install -s /bin; {script}");
    options.extend(program.into_iter().chain([script]));
    let mut command = boot.command("boot --tee snp --nonce 0123456789abcdef");
    let said = run(command.arg("--out").arg(&out).args(&options)).with_status(7);
    assert_eq!(said.out, "copied in\nunpacked first\ntsmsim.test=1\n");
    assert!(said.err.contains("complaint\n"), "{}", said.err);
    assert_eq!(fs::read_to_string(out.join("a/b/c")).unwrap(), "deep\n");
    let report = AttestationReport::read_from_bytes(&fs::read(out.join("report")).unwrap()).unwrap();
    assert_eq!(hex(&report.report_data[..9]), "0123456789abcdef00");
    assert_eq!(hex(&report.measurement), boot.measure("snp", &options));
    assert_ne!(hex(&report.measurement), boot.measure("snp", &options[2..]), "memory is measured");
    *options.last_mut().unwrap() += " ";
    assert_ne!(hex(&report.measurement), boot.measure("snp", &options), "the command is measured");
}

/// Guests that do not come to their end: exit status 1, and the console's last lines. With `panic=0` Linux hangs instead of
/// restarting.
#[rstest]
#[case::panic("rdinit=/none", "300", "the guest's kernel panicked: [")]
#[case::hang("rdinit=/none panic=0", "8", "the guest did not end in the time it was given")]
fn a_guest_that_fails_is_shown(#[case] append: &str, #[case] time: &str, #[case] reason: &str) {
    let _one = one_at_a_time();
    let Some(boot) = Boot::new(need::kernel_6_12) else { return };
    let mut command = boot.command("boot --tee tdx");
    let said = run(command.args(["--append", append, "--time", time])).with_status(1);
    assert_eq!(said.out, "");
    let (_, rest) = said.err.split_once("tsmsim: the console's last lines:\n").unwrap();
    let (shown, last): (Vec<_>, Vec<_>) = rest.lines().partition(|line| line.starts_with("  "));
    let [last] = last[..] else { panic!("{}", said.err) };
    assert!(last.starts_with("tsmsim: ") && last.contains(reason), "{}", said.err);
    // A guest that is stopped may not have come to that on a busy machine.
    let panicked = shown.iter().any(|line| line.contains("Kernel panic - not syncing"));
    assert!(shown.len() <= 25 && (panicked || time != "300"), "{}", said.err);
}

/// What cannot be meant: exit status 2.
#[rstest]
#[case::no_tee("boot", "--tee <TEE>")]
#[case::modules_alone("boot --tee snp --modules x", "--modules goes with --kernel")]
#[case::no_kernel("boot --tee snp --kernel no/such/file", "cannot read no/such/file")]
#[case::little_memory("boot --tee snp --mem 63", "63 is not in 64..=3072")]
#[case::no_time("boot --tee snp --time 0", "0 is not in 1..=86400")]
#[case::relative_path("boot --tee snp --add a:b", "an absolute path in the guest")]
#[case::unknown_engine("boot --tee snp --engine bochs", "[possible values: auto, kvm, qemu]")]
#[case::two_user_data("boot --tee snp --inblob a --nonce 00", "cannot be used with")]
#[case::command_without_kernel("measure --tee snp -- true", "required arguments were not provided")]
#[case::memory_without_kernel("measure --tee tdx --mem 512", "required arguments were not provided")]
fn usage_errors(#[case] words: &str, #[case] says: &str) {
    let Some(tsmsim) = need::tsmsim() else { return };
    let said = run(Command::new(tsmsim).args(words.split_whitespace())).with_status(2);
    assert!(said.err.contains(says), "{}", said.err);
    assert_eq!(said.out, "");
}

/// Files that are no kernel, and options that a kernel does not take.
#[test]
fn kernels_are_told_by_their_contents() {
    let (Some(tsmsim), Some(kernel)) = (need::tsmsim(), need::kernel_6_12()) else { return };
    let Some(bare_metal) = need::guest_x86_64() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [text, cut] = ["text", "cut"].map(|name| directory.path().join(name));
    fs::write(&text, "no kernel").unwrap();
    fs::write(&cut, &fs::read(kernel.join("vmlinuz")).unwrap()[..1 << 20]).unwrap();
    let says = |words: &str, kernel: &Path, text: &str| {
        let mut command = Command::new(&tsmsim);
        let mut words = words.split_whitespace();
        let said =
            run(command.args(words.by_ref().take(1)).arg("--kernel").arg(kernel).args(words)).with_status(2);
        assert!(said.err.contains(text), "{}", said.err);
    };
    says("boot --tee snp", &text, "neither a bzImage nor an ELF image");
    says("boot --tee tdx", &cut, "is it cut short?");
    says("measure --tee snp", &cut, "is it cut short?");
    says("measure --tee snp --mem 512", &bare_metal, "are for a Linux kernel");
    says("measure --tee snp --append x", &bare_metal, "this kernel is a bare-metal guest");
    says("measure --tee snp --vcpus 2", &kernel.join("vmlinuz"), "go with --ovmf");
}

/// Without QEMU, or without a kernel: exit status 3, and what to do.
#[test]
fn what_is_missing_is_told() {
    let (Some(tsmsim), Some(kernel)) = (need::tsmsim(), need::kernel_6_12()) else { return };
    let boot = Boot { tsmsim: tsmsim.clone(), kernel };
    let directory = tempfile::tempdir().unwrap();
    let said = run(boot.command("boot --tee snp").env("PATH", directory.path())).with_status(3);
    assert!(said.err.contains("qemu-system-x86"), "{}", said.err);

    // Kernels are looked for beside the program's directory, so its copy has none.
    let own = format!("/boot/vmlinuz-{}", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    if fs::File::open(&own).is_ok() {
        return need::skip(Lack::Hardware, "this machine has a kernel of its own to boot");
    }
    let home = directory.path().join("release");
    fs::create_dir(&home).unwrap();
    fs::copy(&tsmsim, home.join("tsmsim")).unwrap();
    let mut command = Command::new(home.join("tsmsim"));
    let said = run(command.args(["boot", "--tee", "tdx"]).env_remove("TSMSIM_KERNELS")).with_status(3);
    assert!(said.err.contains("there is no kernel to boot: run `cargo xtask setup`"), "{}", said.err);
}
