//! The built-in check: evidence by every way that the kernel offers, kept below `/out`.
//!
//! Each line says what was tried and what came of it, as the Test Anything Protocol has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tsmsim_abi::linux_guest::{INBLOB, OUT};

use crate::device::{self, SevGuest};

const REPORTS: &str = "/sys/kernel/config/tsm/report";
const SEV_GUEST: &str = "/dev/sev-guest";
const TDX_GUEST: &str = "/dev/tdx_guest";
/// Where Linux 6.16 and later show TDX's measurement registers.
const MEASUREMENTS: &str = "/sys/class/misc/tdx_guest/measurements";
/// Fields of a derived key: the guest's policy.
const KEY_FIELDS: u64 = 1;
/// Offset of the report in `MSG_REPORT_RSP`.
const REPORT: usize = 32;
/// Offset and size of a report's `REPORT_DATA`.
const REPORT_DATA: std::ops::Range<usize> = REPORT + 0x50..REPORT + 0x90;
/// The same in a TD report: behind type, reserved, CPU SVN and the hashes.
const TD_REPORT_DATA: std::ops::Range<usize> = 128..192;

/// Counts and prints.
#[derive(Default)]
struct Checks {
    number: usize,
    failed: usize,
}

impl Checks {
    /// One check; gives what it found, or nothing if it failed.
    fn run<T>(&mut self, name: &str, result: Result<T, String>) -> Option<T> {
        self.number += 1;
        match result {
            Ok(value) => {
                println!("ok {} - {name}", self.number);
                Some(value)
            }
            Err(problem) => {
                self.failed += 1;
                println!("not ok {} - {name}\n# {problem}", self.number);
                None
            }
        }
    }
}

/// Runs all checks; the exit status tells whether all were good.
pub(crate) fn run() -> ExitCode {
    let mut checks = Checks::default();
    let inblob = inblob();
    println!("TAP version 14");
    println!("# kernel {}", text("/proc/sys/kernel/osrelease"));
    let provider = configfs(&mut checks, inblob);
    if cfg!(target_arch = "riscv64") {
        let name = provider.as_deref().unwrap_or_default();
        checks.run("the provider is cove_guest", equal(name, "cove_guest"));
    }
    match provider.as_deref() {
        Some("sev_guest") => sev_guest(&mut checks, inblob),
        Some("tdx_guest") => tdx_guest(&mut checks, inblob),
        Some("cove_guest") => cove_guest(&mut checks, inblob),
        _ => {}
    }
    println!("1..{}", checks.number);
    if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the host wants in the report, filled up with zeros; without a task, a text.
fn inblob() -> [u8; 64] {
    let given = fs::read(INBLOB).unwrap_or_else(|_| b"tsmsim: no inblob was given".to_vec());
    let mut inblob = [0; 64];
    for (place, byte) in inblob.iter_mut().zip(given) {
        *place = byte;
    }
    inblob
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn keep(name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = Path::new(OUT).join(name);
    fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn problem(what: &str) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// Why there is no entry. Debian's kernels have configfs and the drivers as modules.
fn no_entry(error: io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "; is the kernel without configfs-tsm, or was it given without its --modules?"
        }
        _ => "",
    };
    format!("mkdir {REPORTS}: {error}{hint}")
}

/// An entry of configfs; gives the provider's name.
fn configfs(checks: &mut Checks, inblob: [u8; 64]) -> Option<String> {
    let entry = Path::new(REPORTS).join("tsmsim");
    checks.run("an entry is made", fs::create_dir(&entry).map_err(no_entry))?;
    let read = |name: &str| fs::read(entry.join(name)).map_err(problem(name));
    let write = |name: &str, bytes: &[u8]| fs::write(entry.join(name), bytes).map_err(problem(name));
    let provider = text(entry.join("provider"));
    println!("# provider {provider}, generation {}", text(entry.join("generation")));
    let first = checks.run(
        "outblob follows inblob",
        write("inblob", &inblob)
            .and_then(|()| read("outblob"))
            .and_then(|blob| not_empty(&blob).map(|()| blob)),
    )?;
    let auxiliary =
        if entry.join("auxblob").exists() { read("auxblob").unwrap_or_default() } else { Vec::new() };
    let (blob, auxblob) = names(&provider);
    let kept = keep(blob, &first)
        .and_then(|()| if auxiliary.is_empty() { Ok(()) } else { keep(auxblob, &auxiliary) })
        .and_then(|()| keep("inblob.bin", &inblob));
    checks.run("the evidence is kept", kept);
    checks.run("generation counts one write", equal(text(entry.join("generation")).as_str(), "1"));
    checks.run("the blob is cached", read("outblob").and_then(|again| equal(&again, &first)));
    let second = write("inblob", &[0x5a; 64]).and_then(|()| read("outblob"));
    checks.run("another inblob gives another outblob", second.and_then(|blob| different(&blob, &first)));
    checks.run("generation counts two writes", equal(text(entry.join("generation")).as_str(), "2"));
    checks.run("the entry is removed", fs::remove_dir(&entry).map_err(problem("rmdir")));
    Some(provider)
}

/// What the evidence is called on the host.
fn names(provider: &str) -> (&'static str, &'static str) {
    match provider {
        "sev_guest" => ("report.bin", "certs.bin"),
        "tdx_guest" => ("quote.bin", "auxblob.bin"),
        "cove_guest" => ("evidence.bin", "auxblob.bin"),
        _ => ("outblob.bin", "auxblob.bin"),
    }
}

fn not_empty(blob: &[u8]) -> Result<(), String> {
    if blob.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:02x?} instead of {expected:02x?}")) }
}

fn different(found: &[u8], other: &[u8]) -> Result<(), String> {
    if found == other { Err("it is the same".to_owned()) } else { not_empty(found) }
}

fn sev_guest(checks: &mut Checks, inblob: [u8; 64]) {
    let opened = SevGuest::open(Path::new(SEV_GUEST)).map_err(problem(SEV_GUEST));
    let Some(device) = checks.run("/dev/sev-guest opens", opened) else {
        return;
    };
    let report = device.report(inblob).map_err(problem("ioctl"));
    let good = |response: &[u8]| {
        equal(response.get(..4).unwrap_or_default(), &[0; 4])
            .and_then(|()| equal(response.get(REPORT_DATA).unwrap_or_default(), &inblob))
    };
    checks.run("SNP_GET_REPORT", report.and_then(|response| good(&response)));
    let key = || device.derived_key(KEY_FIELDS).map_err(problem("ioctl"));
    let keys = key().and_then(|first| key().map(|second| (first, second)));
    let same = |(first, second): (Vec<u8>, Vec<u8>)| {
        equal(first.get(..4).unwrap_or_default(), &[0; 4]).and_then(|()| equal(&first, &second))
    };
    checks.run("SNP_GET_DERIVED_KEY gives the same key twice", keys.and_then(same));
    let extended = device.extended_report(inblob).map_err(problem("ioctl"));
    checks.run("SNP_GET_EXT_REPORT", extended.and_then(|(response, _)| good(&response)));
}

/// `cove_guest` has no device: all it knows is how long an inblob is.
fn cove_guest(checks: &mut Checks, inblob: [u8; 64]) {
    let entry = Path::new(REPORTS).join("tsmsim-cove");
    if checks.run("another entry is made", fs::create_dir(&entry).map_err(problem("mkdir"))).is_none() {
        return;
    }
    let write = |bytes: &[u8]| fs::write(entry.join("inblob"), bytes).map_err(problem("inblob"));
    let read = || fs::read(entry.join("outblob")).map_err(problem("outblob"));
    let short = inblob.get(..63).unwrap_or_default();
    let refused = write(short).and_then(|()| match read() {
        Err(_) => Ok(()),
        Ok(blob) => Err(format!("{} bytes of evidence for 63 of a challenge", blob.len())),
    });
    checks.run("a challenge of 63 bytes is refused", refused);
    let carries = write(&inblob).and_then(|()| read()).and_then(|blob| {
        let found = blob.windows(inblob.len()).any(|window| window == inblob);
        if found { Ok(()) } else { Err("it is not in the evidence".to_owned()) }
    });
    checks.run("the evidence carries the challenge", carries);
    checks.run("the second entry is removed", fs::remove_dir(&entry).map_err(problem("rmdir")));
}

fn tdx_guest(checks: &mut Checks, inblob: [u8; 64]) {
    let report = device::td_report(Path::new(TDX_GUEST), inblob).map_err(problem(TDX_GUEST));
    let good = report.and_then(|report| {
        equal(report.get(TD_REPORT_DATA).unwrap_or_default(), &inblob)?;
        keep("tdreport.bin", &report)
    });
    checks.run("TDX_CMD_GET_REPORT0", good);
    let Ok(registers) = fs::read_dir(MEASUREMENTS) else {
        return;
    };
    let mut paths: Vec<PathBuf> = registers.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    checks.run("measurement registers are shown", not_none(&paths));
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let value = fs::read(&path).map_err(problem(&name));
        checks.run(&format!("register {name}"), value.and_then(|value| keep_register(&name, &value)));
    }
}

fn not_none(paths: &[PathBuf]) -> Result<(), String> {
    if paths.is_empty() { Err("there is none".to_owned()) } else { Ok(()) }
}

fn keep_register(name: &str, value: &[u8]) -> Result<(), String> {
    let directory = Path::new(OUT).join("measurements");
    fs::create_dir_all(&directory).map_err(problem("measurements"))?;
    not_empty(value)?;
    keep(&format!("measurements/{name}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted() {
        let mut checks = Checks::default();
        assert_eq!(checks.run("good", Ok(1)), Some(1));
        assert_eq!(checks.run("bad", Err::<(), _>("because".to_owned())), None);
        assert_eq!((checks.number, checks.failed), (2, 1));
    }

    #[test]
    fn comparisons_say_what_differs() {
        assert_eq!(equal("1", "1"), Ok(()));
        assert!(equal("1", "2").unwrap_err().contains("instead of"));
        assert!(
            different(b"a", b"a").is_err() && different(b"a", b"b").is_ok() && different(b"", b"b").is_err()
        );
        assert!(not_empty(b"").is_err());
    }

    #[test]
    fn names_are_those_of_the_out_directory() {
        assert_eq!(names("sev_guest"), ("report.bin", "certs.bin"));
        assert_eq!(names("tdx_guest").0, "quote.bin");
    }
}
