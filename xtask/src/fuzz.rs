//! Fuzzing with stable Rust: libFuzzer's coverage instrumentation without a sanitizer.
//!
//! The folder has cargo-fuzz's layout, so `cargo +nightly fuzz run TARGET` works in it too, with AddressSanitizer.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::context::Context;
use crate::failure::Failure;
use crate::process;
use crate::summary::Counts;

/// What cargo-fuzz passes, less the sanitizer, which stable Rust has not; overflows and debug assertions panic.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

/// Runs per target where nothing else is asked for: a smoke test of some seconds.
const SMOKE_RUNS: u64 = 20_000;
/// The most seconds of a smoke test, for targets that verify signatures.
const SMOKE_SECONDS: u64 = 5;

/// How long to fuzz.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    /// [`SMOKE_RUNS`], in [`SMOKE_SECONDS`] at most.
    Smoke,
    Runs(u64),
    Seconds(u64),
}

/// What `cargo xtask fuzz` was asked to do.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    target: Option<String>,
    limit: Limit,
}

impl Options {
    /// Every target, briefly, from its seeds alone, with the same random numbers each time.
    pub(crate) const SMOKE: Self = Self { target: None, limit: Limit::Smoke };

    /// From the command line.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self::SMOKE;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => options.limit = Limit::Seconds(number(word, words.next())?),
                "--runs" => options.limit = Limit::Runs(number(word, words.next())?),
                option if option.starts_with('-') => {
                    return Err(Failure::usage(format!("`fuzz` has no option `{option}`")));
                }
                target if options.target.is_none() => options.target = Some(target.to_owned()),
                extra => {
                    return Err(Failure::usage(format!(
                        "`fuzz` takes one target, but `{extra}` was given too"
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn number(option: &str, word: Option<&String>) -> Result<u64, Failure> {
    word.and_then(|word| word.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::usage(format!("`{option}` needs a positive number")))
}

/// `cargo xtask fuzz`: what is found is kept in `fuzz/corpus`.
pub(crate) fn run(context: &Context, options: &Options) -> Result<(), Failure> {
    let mut counts = Counts::default();
    run_counted(context, options, &mut counts)
}

/// Clippy for the targets, with the flags and the directory of their build.
pub(crate) fn lint(context: &Context) -> Result<(), Failure> {
    process::run(cargo(context, "clippy", &host(context)?).args(["--", "-D", "warnings"]))
}

/// Builds the targets, runs those asked for, and counts each as a test. All are run even if one fails.
pub(crate) fn run_counted(context: &Context, options: &Options, counts: &mut Counts) -> Result<(), Failure> {
    let manifest = context.root.join("fuzz/Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .map_err(|error| Failure::new(format!("{}: {error}", manifest.display())))?;
    let targets = chosen(targets(&text), options.target.as_deref())?;
    let host = host(context)?;
    process::run(&mut cargo(context, "build", &host))?;
    let mut failed = Vec::new();
    for target in &targets {
        println!("\nxtask: fuzzing {target}");
        match fuzz(context, &host, target, options) {
            Ok(()) => counts.passed += 1,
            Err(failure) => {
                eprintln!("{failure}");
                counts.failed += 1;
                failed.push(target.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("fuzzing failed: {}", failed.join(", ")))
        .advise("see above, at the end of each one's output"))
}

/// The names of the `[[bin]]` entries in a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let mut in_program = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_program = line == "[[bin]]";
        } else if let Some(("name", value)) =
            line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
            && in_program
        {
            names.push(value.trim_matches('"').to_owned());
        }
    }
    names
}

/// All targets, or the one that was named.
fn chosen(known: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
    match wanted {
        None if known.is_empty() => Err(Failure::new("fuzz/Cargo.toml has no [[bin]] entry")),
        None => Ok(known),
        Some(name) if known.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            Err(Failure::usage(format!("there is no fuzz target `{name}`, but: {}", known.join(", "))))
        }
    }
}

/// This machine's target triple: naming it keeps the instrumentation out of build scripts and derive macros.
fn host(context: &Context) -> Result<String, Failure> {
    let version = process::output(context.command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host"))
}

fn cargo(context: &Context, subcommand: &str, host: &str) -> Command {
    let mut command = context.cargo(subcommand, &context.target.join("fuzz"));
    command.args(["--manifest-path", "fuzz/Cargo.toml", "--release", "--bins", "--target", host]);
    command.env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Runs one target. A smoke run begins with the seeds alone and a fixed random seed.
fn fuzz(context: &Context, host: &str, target: &str, options: &Options) -> Result<(), Failure> {
    let smoke = !matches!(options.limit, Limit::Seconds(_));
    let corpus = if smoke {
        context.target.join("fuzz/smoke").join(target)
    } else {
        context.root.join("fuzz/corpus").join(target)
    };
    if smoke && corpus.is_dir() {
        fs::remove_dir_all(&corpus)
            .map_err(|error| Failure::new(format!("{}: {error}", corpus.display())))?;
    }
    let artifacts = context.root.join("fuzz/artifacts").join(target);
    let mut command = context.command(context.target.join("fuzz").join(host).join("release").join(target));
    command.args([
        "-max_len=8192",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
        "-print_final_stats=1",
    ]);
    match options.limit {
        Limit::Smoke => command
            .arg(format!("-runs={SMOKE_RUNS}"))
            .arg(format!("-max_total_time={SMOKE_SECONDS}"))
            .arg("-seed=1"),
        Limit::Runs(runs) => command.arg(format!("-runs={runs}")).arg("-seed=1"),
        Limit::Seconds(seconds) => command.arg(format!("-max_total_time={seconds}")),
    };
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory)
            .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))?;
    }
    command.arg(&corpus);
    let seeds = context.root.join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    process::run(&mut command).map_err(|failure| crash(&failure, target, &artifacts))
}

/// A failure of the target itself: where the input is, and how to see it again.
fn crash(failure: &Failure, target: &str, artifacts: &Path) -> Failure {
    Failure::new(format!("the fuzz target {target} failed")).command(failure.command_line()).advise(format!(
        "the input is the newest file in {}; run the program with that file as its only argument to see it again; \
         once repaired, keep the input in fuzz/seeds/{target}",
        artifacts.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn reads_options() {
        assert_eq!(Options::parse(&[]).expect("nothing is fine"), Options::SMOKE);
        let options = Options::parse(&words("ghcb --seconds 60")).expect("well formed");
        assert_eq!(options, Options { target: Some("ghcb".to_owned()), limit: Limit::Seconds(60) });
        for wrong in ["--seconds", "--seconds x", "--runs 0", "--what", "a b"] {
            assert_eq!(Options::parse(&words(wrong)).expect_err(wrong).status, crate::failure::USAGE);
        }
    }

    #[test]
    fn finds_targets_in_the_manifest() {
        let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"one\"\npath = \"x\"\n\n[[bin]]\nname=\"two\"\n[dependencies]\nname = \"no\"\n";
        assert_eq!(targets(manifest), ["one", "two"]);
        assert!(chosen(targets(""), None).is_err());
        assert_eq!(chosen(targets(manifest), Some("two")).expect("it is there"), ["two"]);
        assert!(chosen(targets(manifest), Some("three")).is_err());
    }
}
