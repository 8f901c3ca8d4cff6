//! The conformance suite on a real kernel, in a guest of `tsmsim boot`, and on the host inside `tsmsim run`: the same checks,
//! the same results, check by check.
//!
//! The only difference that is let pass is a check that the suite itself skips on FUSE, where the kernel answers before a
//! server is asked; the suite names the kernel's function each time, and the real kernel must pass these checks.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use rstest::rstest;
use tsmsim_tests::need;

/// What is said of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Ok,
    NotOk,
    Skipped(String),
}

/// How the suite begins the reason why a check is skipped that FUSE makes pointless.
const ON_FUSE: &str = "on FUSE: ";
/// This machine has room for one QEMU at a time.
static QEMU: Mutex<()> = Mutex::new(());

/// The results of a run of the suite, by the names of the checks.
fn results(tap: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (ok, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (Outcome::NotOk, rest),
            None => (Outcome::Ok, line.strip_prefix("ok ")?),
        };
        let (_, rest) = rest.split_once(" - ")?;
        Some(match rest.split_once(" # SKIP ") {
            Some((name, reason)) => (name.to_owned(), Outcome::Skipped(reason.to_owned())),
            None => (rest.to_owned(), ok),
        })
    };
    tap.lines().filter_map(line).collect()
}

/// Differences that nothing explains, each in a sentence.
fn differences(kernel: &BTreeMap<String, Outcome>, ours: &BTreeMap<String, Outcome>) -> Vec<String> {
    let names = kernel.keys().chain(ours.keys().filter(|name| !kernel.contains_key(*name)));
    let differs = |name: &String| {
        let explained = match (kernel.get(name), ours.get(name)) {
            (Some(Outcome::Ok), Some(Outcome::Skipped(reason))) => reason.starts_with(ON_FUSE),
            (Some(Outcome::Skipped(_)), Some(Outcome::Skipped(_))) => true,
            (kernel, ours) => kernel == ours && kernel != Some(&Outcome::NotOk),
        };
        let told =
            || format!("{name}: on the kernel {:?}, in tsmsim run {:?}", kernel.get(name), ours.get(name));
        (!explained).then(told)
    };
    names.filter_map(differs).collect()
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out
}

/// All kernels with their technologies; `style` is what `tsmsim run` is to be like.
#[rstest]
#[case::linux_6_12("snp", need::kernel_6_12, "6.12")]
#[case::linux_6_12("tdx", need::kernel_6_12, "6.12")]
#[case::linux_7("tdx", need::kernel_7, "6.16")]
#[case::linux_6_12("cove", need::kernel_riscv64, "6.12")]
fn the_kernel_and_tsmsim_run_agree(
    #[case] tee: &str,
    #[case] kernel: fn() -> Option<std::path::PathBuf>,
    #[case] style: &str,
) {
    let Some(tsmsim) = need::tsmsim() else { return };
    let Some(kernel) = kernel() else { return };
    let qemu = if tee == "cove" { "qemu-system-riscv64" } else { "qemu-system-x86_64" };
    let (Some(_), Some(_)) = (need::program(qemu), need::device(Path::new("/dev/fuse"))) else { return };
    let release = kernel.file_name().unwrap();
    let boot = {
        let _one = QEMU.lock().unwrap_or_else(PoisonError::into_inner);
        output(
            Command::new(&tsmsim)
                .args(["boot", "--engine", "qemu", "--tee", tee, "--kernel"])
                .arg(kernel.join("vmlinuz"))
                .arg("--modules")
                .arg(kernel.join("lib/modules").join(release))
                .args(["--", "/init", "conform"]),
        )
    };
    let run = output(
        Command::new(&tsmsim).args(["run", "--tee", tee, "--style", style, "--"]).arg(&tsmsim).arg("conform"),
    );
    let (on_kernel, ours) = (results(&boot), results(&run));
    assert!(on_kernel.len() > 200, "the whole suite ran: {boot}");
    assert_eq!(differences(&on_kernel, &ours), Vec::<String>::new());
}

/// The comparison can fail.
#[test]
fn differences_are_found() {
    let tap = "TAP version 14\nok 1 - a/b\nnot ok 2 - a/c\nok 3 - a/d # SKIP on FUSE: why\nok 4 - a/e # SKIP no device\n";
    let results_of = |text: &str| results(&tap.replace("\nok 1 - a/b", text));
    let whole = results(tap);
    assert_eq!(whole.len(), 4);
    assert_eq!(whole["a/d"], Outcome::Skipped("on FUSE: why".to_owned()));
    assert_eq!(differences(&whole, &whole).len(), 1, "a check that fails on both sides is none that agrees");
    assert_eq!(differences(&whole, &results_of("\nnot ok 1 - a/b")).len(), 2);
    assert_eq!(differences(&whole, &results_of("")).len(), 2, "a check that was not run");
    assert_eq!(differences(&whole, &results_of("\nok 1 - a/b # SKIP on FUSE: why")).len(), 1);
    assert_eq!(differences(&whole, &results_of("\nok 1 - a/b # SKIP no device")).len(), 2);
}
