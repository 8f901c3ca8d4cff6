//! A stock kernel as a confidential guest on QEMU, beside the same kernel and initial RAM disk under plain QEMU, in turn.
//!
//! `cargo bench -p tsmsim-benches --bench linux_boot`, after `cargo xtask setup build`. The aim: under 1.2 times the plain
//! boot. Then a thousand reports in one guest, beside the same loop over plain files there. Figures are printed and never
//! tested.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tsmsim_vmm::loader::linux::{
    initramfs::GuestFiles,
    modules::{ModuleDirectory, SNP_MODULES, TDX_MODULES, Wanted},
};

/// Boots of each kind.
const ROUNDS: usize = 5;
/// Reports in one guest.
const REPORTS: &str = "1000";
const MEMORY: &str = "512";

/// What the benchmark needs besides QEMU.
struct Needs {
    tsmsim: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
    init: PathBuf,
}

impl Needs {
    /// The RAM disk that `tsmsim boot` makes: the init program and the driver's modules.
    fn initrd(&self, tee: &str) -> Vec<u8> {
        let init = fs::read(&self.init).expect("the init program can be read");
        let directory = ModuleDirectory::open(&self.modules).expect("the kernel has modules");
        let wanted: &[Wanted<'_>] = if tee == "snp" { &SNP_MODULES } else { &TDX_MODULES };
        let modules = directory.load(wanted).expect("the modules are there");
        let files = GuestFiles { init: &init, modules: &modules, ..GuestFiles::default() };
        files.archive().expect("they make an archive").finish()
    }
}

fn main() {
    // Without `--bench` it is a test; a boot is too long for one, and other tests have it.
    if !env::args().any(|word| word == "--bench") {
        return;
    }
    let needs = match find() {
        Ok(needs) => needs,
        Err(missing) => {
            return println!("not measured: there is no {missing}; `cargo xtask setup` and `build` make it");
        }
    };
    println!("{:44} {:>10} {:>10} {:>7}", "medians", "tsmsim", "plain", "ratio");
    for (tee, cpu) in [("snp", "EPYC"), ("tdx", "max,vendor=GenuineIntel")] {
        boots(&needs, tee, cpu);
    }
    for tee in ["snp", "tdx"] {
        println!("\n{tee}: {REPORTS} reports in one guest, by its own clock");
        let out = boot(&needs, tee, &["/init", "reports", REPORTS]);
        print!("{}", String::from_utf8_lossy(&out.stdout));
    }
}

fn find() -> Result<Needs, &'static str> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let tsmsim = env::var_os("TSMSIM_PROGRAM").map_or(target.join("release/tsmsim"), PathBuf::from);
    let kernels = fs::read_dir(target.join("kernels")).map_err(|_| "target/kernels")?;
    let mut releases: Vec<_> = kernels.flatten().map(|entry| entry.path()).collect();
    releases.retain(|release| release.join("vmlinuz").is_file());
    releases.sort();
    let release = releases.pop().ok_or("kernel in target/kernels")?;
    let name = release.file_name().unwrap_or_default().to_owned();
    let init = target.join("guest/x86_64-unknown-linux-musl/release/tsmsim-guest-linux");
    let needs = Needs {
        init,
        tsmsim,
        kernel: release.join("vmlinuz"),
        modules: release.join("lib/modules").join(name),
    };
    let qemu = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
    match qemu {
        Ok(_) if !needs.tsmsim.is_file() || !needs.init.is_file() => Err("tsmsim"),
        Ok(_) => Ok(needs),
        Err(_) => Err("qemu-system-x86_64"),
    }
}

/// A confidential guest, from the start of the program to its end.
fn boot(needs: &Needs, tee: &str, cmd: &[&str]) -> std::process::Output {
    let mut command = Command::new(&needs.tsmsim);
    command.args(["boot", "--engine", "qemu", "--mem", MEMORY, "--tee", tee, "--kernel"]).arg(&needs.kernel);
    command.arg("--modules").arg(&needs.modules).env("RUST_LOG", "info");
    if !cmd.is_empty() {
        command.arg("--").args(cmd);
    }
    let output = command.stdin(Stdio::null()).output().expect("tsmsim runs");
    assert!(output.status.success(), "tsmsim boot: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn boots(needs: &Needs, tee: &str, cpu: &str) {
    let directory = env::temp_dir().join(format!("tsmsim-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory can be made");
    let initrd = directory.join("initrd");
    fs::write(&initrd, needs.initrd(tee)).expect("it can be written");
    let (mut ours, mut theirs, mut stops) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let output = boot(needs, tee, &[]);
        ours.push(start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        stops = said.lines().find(|line| line.contains("stops=")).unwrap_or_default().to_owned();
        let start = Instant::now();
        plain(needs, cpu, &initrd);
        theirs.push(start.elapsed());
    }
    fs::remove_dir_all(&directory).expect("the directory can be removed");
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let what = format!("{tee}: from nothing to the check's end");
    println!("{what:44} {:>8.2} s {:>8.2} s {ratio:7.2}", ours.as_secs_f64(), theirs.as_secs_f64());
    println!("    {}", stops.split("stops=").nth(1).unwrap_or_default());
}

/// The same kernel and RAM disk without anybody's help: its drivers find nothing, and the init program ends.
fn plain(needs: &Needs, cpu: &str, initrd: &Path) {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg", "-machine", "pc", "-cpu", cpu, "-smp", "1", "-m", MEMORY]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "null", "-serial", "null"]);
    command.args(["-append", "console=ttyS0 nr_cpus=1 panic=-1 reboot=t"]);
    command.arg("-kernel").arg(&needs.kernel).arg("-initrd").arg(initrd);
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().expect("QEMU runs");
    assert!(status.success(), "plain QEMU: {status}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
