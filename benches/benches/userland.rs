//! `tsmsim run`: what a report costs through configfs and through `/dev/sev-guest`, and CoVE's evidence through configfs,
//! beside the same request to the simulator alone and beside bare signatures; and what starting costs. All in turn, in one run.
//!
//! `cargo bench -p tsmsim-benches --bench userland`, after `cargo xtask build`. The aims: the file system adds under
//! 150 µs to a report, and `tsmsim run -- true` takes under 30 ms. Figures are printed and never tested.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use sev::firmware::guest::Firmware;
use tsmsim_abi::snp::{payload::KeySel, tcb::ProductLine};
use tsmsim_benches::{
    BareSignature,
    cove::{BareEvidence, EvidenceMachine, FORMATS, cove_platform},
    guest, platform,
};
use tsmsim_keys::{SignatureMode, cove::KeyAlgorithm};

/// Set in the copy of this program that runs inside `tsmsim run`: how many rounds.
const INSIDE: &str = "TSMSIM_BENCH_INSIDE";
/// Set besides in a TVM: the format of its evidence.
const FORMAT: &str = "TSMSIM_BENCH_FORMAT";
/// The program, if it is not where `cargo xtask build` puts it.
const PROGRAM: &str = "TSMSIM_PROGRAM";
const ROUNDS: usize = 2000;
const STARTS: usize = 40;

fn main() {
    if let Ok(rounds) = env::var(INSIDE) {
        let rounds = rounds.parse().expect("we gave it a number");
        return match env::var(FORMAT).ok() {
            Some(format) => inside_tvm(rounds, &format),
            None => inside(rounds),
        };
    }
    // Without `--bench` it is a test that wants to see it run.
    let measured = env::args().any(|word| word == "--bench");
    let Some(program) = program() else {
        println!("not measured: there is no tsmsim; `cargo xtask build` makes it");
        return;
    };
    if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        println!("not measured: /dev/fuse cannot be opened");
        return;
    }
    let rounds = if measured { ROUNDS } else { 1 };
    println!("{:52} {:>10} {:>10} {:>10}", "medians", "whole", "bare", "more");
    let itself = env::current_exe().expect("this program has a path");
    let inside = |mut command: Command| {
        let status = command.arg(&itself).env(INSIDE, rounds.to_string()).status().expect("tsmsim runs");
        assert!(status.success(), "inside tsmsim run: {status}");
    };
    inside(run(&program));
    for format in FORMATS.map(format_name) {
        let mut command = Command::new(&program);
        command.args(["run", "--tee", "cove", "--randomized", "--format", format, "--"]).env(FORMAT, format);
        inside(command);
    }
    start_up(&program, if measured { STARTS } else { 1 });
}

fn program() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tsmsim");
    Some(env::var_os(PROGRAM).map_or(ours, PathBuf::from)).filter(|file| file.is_file())
}

fn run(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--tee", "snp", "--profile", "milan", "--randomized", "--"]);
    command
}

/// Reports by four ways, in turn.
fn inside(rounds: usize) {
    let entry = PathBuf::from("/sys/kernel/config/tsm/report/bench");
    fs::create_dir(&entry).expect("configfs-tsm makes entries");
    let mut device = Firmware::open().expect("there is /dev/sev-guest");
    let mut alone = guest(platform(ProductLine::Milan, SignatureMode::Randomized));
    let bare = BareSignature::new();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..rounds {
        let mut nonce = [0x5a; 64];
        nonce[..8].copy_from_slice(&(round as u64).to_le_bytes());
        times[0].push(timed(|| {
            fs::write(entry.join("inblob"), nonce).expect("inblob can be written");
            let report = fs::read(entry.join("outblob")).expect("there is a report");
            assert_eq!(report[0x50..0x90], nonce);
        }));
        times[1].push(timed(|| {
            device.get_report(None, Some(nonce), Some(0)).expect("there is a report");
        }));
        times[2].push(timed(|| {
            alone.report(&nonce, 0, KeySel::VlekElseVcek).expect("there is a report");
        }));
        times[3].push(timed(|| bare.sign()));
    }
    fs::remove_dir(&entry).expect("entries can be removed");
    let [configfs, ioctl, alone, bare] = times.map(median);
    print("configfs: write inblob, read outblob / simulator", configfs, alone);
    print("ioctl SNP_GET_REPORT / simulator", ioctl, alone);
    print("simulator alone / P-384 signature", alone, bare);
}

const fn format_name(format: KeyAlgorithm) -> &'static str {
    match format {
        KeyAlgorithm::Ed25519 => "cbor",
        KeyAlgorithm::P256 => "x509",
    }
}

/// Evidence by two ways, in turn.
fn inside_tvm(rounds: usize, name: &str) {
    let entry = PathBuf::from("/sys/kernel/config/tsm/report/bench");
    fs::create_dir(&entry).expect("configfs-tsm makes entries");
    let format = FORMATS.into_iter().find(|format| format_name(*format) == name).expect("we gave it a name");
    let platform = cove_platform(SignatureMode::Randomized);
    let mut alone = EvidenceMachine::new(platform.clone(), format);
    let bare = BareEvidence::new(platform, format, &alone.evidence());
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..rounds {
        let mut nonce = [0x5a; 64];
        nonce[..8].copy_from_slice(&(round as u64).to_le_bytes());
        times[0].push(timed(|| {
            fs::write(entry.join("inblob"), nonce).expect("inblob can be written");
            let evidence = fs::read(entry.join("outblob")).expect("there is evidence");
            assert!(evidence.windows(64).any(|bytes| bytes == nonce), "it is of this challenge");
        }));
        alone.prepare();
        times[1].push(timed(|| alone.ecall()));
        times[2].push(timed(|| bare.sign()));
    }
    fs::remove_dir(&entry).expect("entries can be removed");
    let [configfs, alone, bare] = times.map(median);
    print(&format!("configfs, CoVE {name}: inblob, outblob / simulator"), configfs, alone);
    print(&format!("simulator alone, CoVE {name} / two signatures"), alone, bare);
}

/// `tsmsim run -- true`, beside `true`.
fn start_up(program: &Path, rounds: usize) {
    let once = |mut command: Command| {
        timed(|| assert!(command.status().expect("it can be run").success(), "{command:?} failed"))
    };
    let whole = || {
        let mut command = run(program);
        command.arg("true");
        once(command)
    };
    let (whole, bare) = (0..rounds).map(|_| (whole(), once(Command::new("true")))).unzip();
    print("tsmsim run -- true / true", median(whole), median(bare));
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn print(what: &str, whole: Duration, bare: Duration) {
    let [whole, bare, more] =
        [whole, bare, whole.saturating_sub(bare)].map(|time| format!("{:.1} µs", time.as_secs_f64() * 1e6));
    println!("{what:52} {whole:>10} {bare:>10} {more:>10}");
}
