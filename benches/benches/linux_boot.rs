//! A stock kernel as a confidential guest on QEMU, beside the same kernel and initial RAM disk under plain QEMU, in turn.
//!
//! `cargo bench -p tsmsim-benches --bench linux_boot [-- TEE]`, after `cargo xtask setup build`. The aim: under 1.2 times the
//! plain boot. Then a thousand reports in one guest, beside the same loop over plain files there. Figures are printed and
//! never tested.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tsmsim_vmm::loader::linux::{
    initramfs::GuestFiles,
    modules::{COVE_MODULES, ModuleDirectory, SNP_MODULES, TDX_MODULES, Wanted},
};

/// Boots of each kind.
const ROUNDS: usize = 5;
/// Reports in one guest.
const REPORTS: &str = "1000";
const MEMORY: &str = "512";

/// A kind of guest.
struct Kind {
    tee: &'static str,
    modules: &'static [Wanted<'static>],
    qemu: &'static str,
    /// What plain QEMU is given: machine, processor, serial ports.
    machine: &'static [&'static str],
    /// How the names of its kernels' directories end.
    processor: &'static str,
    /// What names such a directory instead.
    variable: Option<&'static str>,
    /// Its init program, below `target/guest`, if the other variable does not name one.
    init: (&'static str, Option<&'static str>),
}

const X86: Kind = Kind {
    tee: "",
    modules: &[],
    qemu: "qemu-system-x86_64",
    machine: &[],
    processor: "amd64",
    variable: None,
    init: ("x86_64-unknown-linux-musl", None),
};
const KINDS: [Kind; 3] = [
    Kind {
        tee: "snp",
        modules: &SNP_MODULES,
        machine: &["-machine", "pc", "-cpu", "EPYC", "-serial", "null", "-serial", "null"],
        ..X86
    },
    Kind {
        tee: "tdx",
        modules: &TDX_MODULES,
        machine: &["-machine", "pc", "-cpu", "max,vendor=GenuineIntel", "-serial", "null", "-serial", "null"],
        ..X86
    },
    Kind {
        tee: "cove",
        modules: &COVE_MODULES,
        qemu: "qemu-system-riscv64",
        machine: &[
            "-machine",
            "virt",
            "-cpu",
            "rv64",
            "-serial",
            "null",
            "-chardev",
            "stdio,id=channel,signal=off",
            "-device",
            "pci-serial,chardev=channel",
        ],
        processor: "riscv64",
        variable: Some("TSMSIM_KERNEL_RISCV64"),
        init: ("riscv64gc-unknown-linux-gnu", Some("TSMSIM_GUEST_LINUX_RISCV64")),
    },
];

/// What a row needs besides QEMU.
struct Needs {
    kind: &'static Kind,
    tsmsim: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
    init: PathBuf,
}

impl Needs {
    /// The RAM disk that `tsmsim boot` makes: the init program and the driver's modules.
    fn initrd(&self) -> Vec<u8> {
        let init = fs::read(&self.init).expect("the init program can be read");
        let directory = ModuleDirectory::open(&self.modules).expect("the kernel has modules");
        let modules = directory.load(self.kind.modules).expect("the modules are there");
        let files = GuestFiles { init: &init, modules: &modules, ..GuestFiles::default() };
        files.archive().expect("they make an archive").finish()
    }
}

fn main() {
    // Without `--bench` it is a test; a boot is too long for one, and other tests have it.
    if !env::args().any(|word| word == "--bench") {
        return;
    }
    let named: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut found = Vec::new();
    for kind in KINDS.iter().filter(|kind| named.is_empty() || named.iter().any(|name| name == kind.tee)) {
        match find(kind) {
            Ok(needs) => found.push(needs),
            Err(missing) => {
                println!(
                    "{}: not measured: there is no {missing}; `cargo xtask setup` and `build` make it",
                    kind.tee
                );
            }
        }
    }
    println!("{:44} {:>10} {:>10} {:>7}", "medians", "tsmsim", "plain", "ratio");
    found.iter().for_each(boots);
    for needs in &found {
        println!("\n{}: {REPORTS} reports in one guest, by its own clock", needs.kind.tee);
        let out = boot(needs, &["/init", "reports", REPORTS]);
        print!("{}", String::from_utf8_lossy(&out.stdout));
    }
}

fn find(kind: &'static Kind) -> Result<Needs, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let tsmsim = env::var_os("TSMSIM_PROGRAM").map_or(target.join("release/tsmsim"), PathBuf::from);
    let release = match kind.variable.and_then(env::var_os) {
        Some(directory) => PathBuf::from(directory),
        None => newest(&target.join("kernels"), kind.processor).ok_or("kernel in target/kernels")?,
    };
    let name = release.file_name().unwrap_or_default().to_owned();
    let (directory, variable) = kind.init;
    let built = || target.join("guest").join(directory).join("release/tsmsim-guest-linux");
    let init = variable.and_then(env::var_os).map_or_else(built, PathBuf::from);
    let (kernel, modules) = (release.join("vmlinuz"), release.join("lib/modules").join(name));
    if let Some(missing) = [&tsmsim, &kernel, &init].into_iter().find(|path| !path.is_file()) {
        return Err(missing.display().to_string());
    }
    let qemu = Command::new(kind.qemu).arg("--version").stdout(Stdio::null()).status();
    qemu.map_err(|_| kind.qemu)?;
    Ok(Needs { kind, tsmsim, kernel, modules, init })
}

/// The kernel whose name is last.
fn newest(kernels: &Path, processor: &str) -> Option<PathBuf> {
    let releases = fs::read_dir(kernels).ok()?.flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| path.to_string_lossy().ends_with(processor) && path.join("vmlinuz").is_file();
    releases.filter(fits).max()
}

/// A confidential guest, from the start of the program to its end.
fn boot(needs: &Needs, cmd: &[&str]) -> std::process::Output {
    let mut command = Command::new(&needs.tsmsim);
    command
        .args(["boot", "--engine", "qemu", "--mem", MEMORY, "--tee", needs.kind.tee, "--kernel"])
        .arg(&needs.kernel);
    command.arg("--modules").arg(&needs.modules).env("RUST_LOG", "info");
    if !cmd.is_empty() {
        command.arg("--").args(cmd);
    }
    let output = command.stdin(Stdio::null()).output().expect("tsmsim runs");
    assert!(output.status.success(), "tsmsim boot: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn boots(needs: &Needs) {
    let directory = env::temp_dir().join(format!("tsmsim-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory can be made");
    let initrd = directory.join("initrd");
    fs::write(&initrd, needs.initrd()).expect("it can be written");
    let (mut ours, mut theirs, mut stops) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let output = boot(needs, &[]);
        ours.push(start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        stops = said.lines().find(|line| line.contains("stops=")).unwrap_or_default().to_owned();
        let start = Instant::now();
        plain(needs, &initrd);
        theirs.push(start.elapsed());
    }
    fs::remove_dir_all(&directory).expect("the directory can be removed");
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let what = format!("{}: from nothing to the check's end", needs.kind.tee);
    println!("{what:44} {:>8.2} s {:>8.2} s {ratio:7.2}", ours.as_secs_f64(), theirs.as_secs_f64());
    println!("    {}", stops.split("stops=").nth(1).unwrap_or_default());
}

/// The same kernel and RAM disk without anybody's help: its drivers find nothing, and the init program ends.
fn plain(needs: &Needs, initrd: &Path) {
    let mut command = Command::new(needs.kind.qemu);
    command.args([
        "-accel",
        "tcg",
        "-smp",
        "1",
        "-m",
        MEMORY,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command.args(needs.kind.machine);
    command.args(["-append", "console=ttyS0 nr_cpus=1 panic=-1 reboot=t"]);
    command.arg("-kernel").arg(&needs.kernel).arg("-initrd").arg(initrd);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut qemu = command.spawn().expect("QEMU runs");
    let mut channel = qemu.stdout.take().expect("it is a pipe");
    // On RISC-V the init program says a word first, and then waits for its task: here there is none.
    if channel.read(&mut [0]).is_ok_and(|read| read > 0) {
        let mut task = qemu.stdin.take().expect("it is a pipe");
        task.write_all(&[0; 4]).expect("QEMU takes it");
        std::io::copy(&mut channel, &mut std::io::sink()).expect("QEMU writes");
    }
    let status = qemu.wait().expect("QEMU ends");
    assert!(status.success(), "plain QEMU: {status}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
