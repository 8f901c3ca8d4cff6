//! Clients of other projects, unmodified, inside `tsmsim run`: each obtains evidence, and each judges it by its own means.
//!
//! A real guest is told from ours by none of them: they open `/dev/sev-guest`, `/dev/tdx_guest`, configfs-tsm and the CCEL
//! tables where Linux has them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cove;
mod crate_sev;
mod snpguest;
mod tdx;

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Output, Stdio},
};

use tsmsim_tests::need;

/// `tsmsim run` with these options; the program and its arguments are to be added. `None` if the calling test is to be
/// skipped.
#[track_caller]
fn run(options: &str) -> Option<Command> {
    let (tsmsim, _) = (need::tsmsim()?, need::device(Path::new("/dev/fuse"))?);
    let mut command = Command::new(tsmsim);
    command.arg("run").args(options.split_whitespace()).arg("--").stdin(Stdio::null());
    Some(command)
}

/// What a program printed, which must have succeeded.
#[track_caller]
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{}\n{}", said[0], said[1]);
    said[0].clone()
}

/// That a program failed; what it said.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!status.success(), "{command:?} was to fail: {said}");
    said
}

/// `tsmsim verify` with these arguments, which must accept.
#[track_caller]
fn verify<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) {
    let tsmsim = need::tsmsim().expect("the calling test found it before");
    output(Command::new(tsmsim).arg("verify").args(arguments));
}

/// Flips a bit of a file.
fn flip(file: &Path, byte: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[byte] ^= 1;
    std::fs::write(file, bytes).unwrap();
}
