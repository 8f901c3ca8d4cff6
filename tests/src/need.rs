//! What a test needs and a machine may lack. Each function gives the thing, or records that the calling test is skipped
//! and gives `None`:
//!
//! ```
//! fn chain_is_accepted_by_openssl() {
//!     let Some(openssl) = tsmsim_tests::need::program("openssl") else { return };
//!     // … run it
//! #   drop(openssl);
//! }
//! # chain_is_accepted_by_openssl();
//! ```
//!
//! The record is a line on standard error and, if the variable `TSMSIM_SKIP_LOG` names a file, the same line there:
//! `SKIPPED: PACKAGE: TEST: REASON`, or `SKIPPED[hardware]: …` where nothing that could be installed would help.
//! `cargo xtask test` counts these lines; under CI only those of the second form are excused.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::thread;

/// What sort of thing is lacking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Something that `cargo xtask setup` or `build` provides: under CI its absence is a failure.
    Software,
    /// Hardware, or the right to use it: nothing that could be installed would help.
    Hardware,
}

/// Records that the calling test is skipped, and why.
#[track_caller]
pub fn skip(lack: Lack, reason: &str) {
    let line = line(lack, &calling_test(), reason);
    eprint!("{line}");
    let Some(log) = env::var_os("TSMSIM_SKIP_LOG") else { return };
    // One write in append mode: lines of tests that run at the same time do not mix.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(written.is_ok(), "a skipped test must not go unseen, but {} cannot be written", log.display());
}

/// The line of the record: one line, whatever the reason is.
fn line(lack: Lack, test: &str, reason: &str) -> String {
    let mark = match lack {
        Lack::Software => "SKIPPED",
        Lack::Hardware => "SKIPPED[hardware]",
    };
    let package = env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "unknown".to_owned());
    let reason: Vec<&str> = reason.split_whitespace().collect();
    format!("{mark}: {package}: {test}: {}\n", reason.join(" "))
}

/// The test harness names threads after tests, unless it runs them one after the other.
#[track_caller]
fn calling_test() -> String {
    match thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let place = Location::caller();
            format!("{} line {}", place.file(), place.line())
        }
    }
}

/// The file that an environment variable names; `cargo xtask test` sets those below.
#[must_use]
#[track_caller]
pub fn file(variable: &str) -> Option<PathBuf> {
    named(variable, Path::is_file, "file")
}

/// A directory that a variable names.
#[track_caller]
fn directory(variable: &str) -> Option<PathBuf> {
    named(variable, Path::is_dir, "directory")
}

#[track_caller]
fn named(variable: &str, is_one: fn(&Path) -> bool, what: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    let reason = match path {
        Some(path) if is_one(&path) => return Some(path),
        Some(path) => format!("{variable} names {}, which is no {what}", path.display()),
        None => format!("{variable} is not set; `cargo xtask test` sets it"),
    };
    skip(Lack::Software, &reason);
    None
}

/// The `tsmsim` program.
#[must_use]
#[track_caller]
pub fn tsmsim() -> Option<PathBuf> {
    file("TSMSIM_PROGRAM")
}

/// The bare-metal x86-64 guest, an ELF file.
#[must_use]
#[track_caller]
pub fn guest_x86_64() -> Option<PathBuf> {
    file("TSMSIM_GUEST_X86_64")
}

/// A firmware image with SEV metadata: Debian's `OVMF.fd`.
#[must_use]
#[track_caller]
pub fn ovmf() -> Option<PathBuf> {
    file("TSMSIM_OVMF")
}

/// PyPI's `sev-snp-measure`.
#[must_use]
#[track_caller]
pub fn sev_snp_measure() -> Option<PathBuf> {
    file("TSMSIM_SEV_SNP_MEASURE")
}

/// `snpguest` of crates.io, a client of `/dev/sev-guest`.
#[must_use]
#[track_caller]
pub fn snpguest() -> Option<PathBuf> {
    file("TSMSIM_SNPGUEST")
}

/// `configfs-tsm` of crates.io, a client that asks for TDX quotes.
#[must_use]
#[track_caller]
pub fn configfs_tsm() -> Option<PathBuf> {
    file("TSMSIM_CONFIGFS_TSM")
}

/// A Python with the packages of PyPI that tests import: `cctrusted_vm`, a client of TDX's device, configfs-tsm and event
/// log, and `cwt`, which judges COSE.
#[must_use]
#[track_caller]
pub fn python() -> Option<PathBuf> {
    file("TSMSIM_PYTHON")
}

/// A stock kernel of Linux 6.12 with its modules, a directory named after its release: `vmlinuz`, `lib/modules/RELEASE`.
#[must_use]
#[track_caller]
pub fn kernel_6_12() -> Option<PathBuf> {
    directory("TSMSIM_KERNEL_6_12")
}

/// The same of Linux 7.
#[must_use]
#[track_caller]
pub fn kernel_7() -> Option<PathBuf> {
    directory("TSMSIM_KERNEL_7")
}

/// Debian's Linux 6.12 for riscv64, in the same form, with this repository's modules `tsm` and `cove_guest` among its own.
#[must_use]
#[track_caller]
pub fn kernel_riscv64() -> Option<PathBuf> {
    directory("TSMSIM_KERNEL_RISCV64")
}

/// A program of the system, by its name.
#[must_use]
#[track_caller]
pub fn program(name: &str) -> Option<PathBuf> {
    let found = env::var_os("PATH")
        .and_then(|path| env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        skip(
            Lack::Software,
            &format!("there is no program {name}; `cargo xtask setup` installs what tests need"),
        );
    }
    found
}

/// `/dev/kvm`, if it can be opened for reading and writing.
#[must_use]
#[track_caller]
pub fn kvm() -> Option<PathBuf> {
    device(Path::new("/dev/kvm"))
}

/// A device that can be opened for reading and writing.
#[must_use]
#[track_caller]
pub fn device(path: &Path) -> Option<PathBuf> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Some(path.to_path_buf()),
        Err(error) => {
            skip(Lack::Hardware, &format!("{}: {error}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_one_line_that_names_the_test() {
        let test = calling_test();
        assert!(
            test.ends_with("the_record_is_one_line_that_names_the_test") || test.contains("need.rs"),
            "{test}"
        );
        assert_eq!(
            line(Lack::Software, "a::b", "no\n such  thing"),
            "SKIPPED: tsmsim-tests: a::b: no such thing\n"
        );
        assert_eq!(line(Lack::Hardware, "a::b", "none"), "SKIPPED[hardware]: tsmsim-tests: a::b: none\n");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        let shell = program("sh").expect("every Unix has a shell");
        assert!(shell.is_file());
    }
}
