//! `cargo xtask test`: every check there is, in order, and a table of what came of each.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::build;
use crate::context::Context;
use crate::failure::{FAILED, Failure};
use crate::fuzz;
use crate::kernel;
use crate::process;
use crate::setup::{self, clients::CLIENTS, cove_module, kernels};
use crate::summary::{self, Counts, Outcome, Verdict};

/// The variable that names the file to which skipped tests add a line.
const SKIP_VARIABLE: &str = "TSMSIM_SKIP_LOG";
/// The variable that gives tests the `tsmsim` program.
const PROGRAM_VARIABLE: &str = "TSMSIM_PROGRAM";

/// A step: what it is called, which steps must have passed for it to make sense, and what it does.
struct Step {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&Context, &mut Counts) -> Result<(), Failure>,
}

/// The step that is not always taken.
const KERNEL: &str = "kernel";

const STEPS: [Step; 9] = [
    Step { name: "setup", needs: &[], run: |context, _| setup::everything(context) },
    Step { name: KERNEL, needs: &["setup"], run: |context, _| kernel::build(context) },
    Step { name: "format", needs: &[], run: |context, _| format(context) },
    Step { name: "lint", needs: &["setup"], run: |context, _| lint(context) },
    Step { name: "docs", needs: &["setup"], run: |context, _| docs(context) },
    Step { name: "build", needs: &["setup"], run: |context, _| build::everything(context) },
    Step {
        name: "tests",
        needs: &["setup", "build"],
        run: |context, counts| tests(context, "--all-targets", counts),
    },
    Step { name: "doctests", needs: &["setup"], run: |context, counts| tests(context, "--doc", counts) },
    Step {
        name: "fuzz",
        needs: &["setup"],
        run: |context, counts| fuzz::run_counted(context, &fuzz::Options::SMOKE, counts),
    },
];

/// The names of the steps, in order.
pub(crate) fn names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// Runs the steps that were named, or all; gives the exit status.
pub(crate) fn run(context: &Context, arguments: &[String]) -> Result<u8, Failure> {
    let (options, wanted): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| *argument == "--kvm-linux");
    let with_kernel = !options.is_empty() || wanted.contains(&KERNEL) || context.ci && has_kvm();
    if let Some(unknown) = wanted.iter().find(|name| !names().contains(name)) {
        return Err(Failure::usage(format!("there is no step `{unknown}`, but: {}", names().join(", "))));
    }
    let steps = STEPS.iter().filter(|step| {
        let asked =
            wanted.is_empty() || wanted.contains(&step.name) || step.name == KERNEL && !options.is_empty();
        asked && (step.name != KERNEL || with_kernel)
    });
    let mut outcomes = Vec::new();
    let mut failures = Vec::new();
    for step in steps {
        let (outcome, failure) = run_step(context, step, &outcomes);
        outcomes.push(outcome);
        failures.extend(failure.map(|failure| (step.name, failure)));
    }
    for (step, failure) in &failures {
        println!("\nstep {step}: {failure}");
    }
    println!("\n{}", summary::table(&outcomes).trim_end());
    Ok(if outcomes.iter().all(|outcome| outcome.verdict == Verdict::Passed) { 0 } else { worst(&failures) })
}

/// Whether tests that need the small kernel could run.
fn has_kvm() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Lacking something is told apart from failing only if nothing else went wrong.
fn worst(failures: &[(&str, Failure)]) -> u8 {
    failures.iter().map(|(_, failure)| failure.status).min().unwrap_or(FAILED)
}

fn run_step(context: &Context, step: &Step, before: &[Outcome]) -> (Outcome, Option<Failure>) {
    let blocked = before
        .iter()
        .find(|outcome| step.needs.contains(&outcome.step) && outcome.verdict != Verdict::Passed);
    let mut counts = Counts::default();
    if let Some(cause) = blocked {
        println!("\n=== {}: not run, because {} did not pass", step.name, cause.step);
        counts.failed = 1;
        return (Outcome { step: step.name, verdict: Verdict::NotRun, seconds: 0.0, counts }, None);
    }
    println!("\n=== {}", step.name);
    let start = Instant::now();
    let result = (step.run)(context, &mut counts);
    let seconds = start.elapsed().as_secs_f64();
    let (verdict, word) =
        if result.is_ok() { (Verdict::Passed, "passed") } else { (Verdict::Failed, "FAILED") };
    println!("=== {}: {word} after {seconds:.1} s", step.name);
    match verdict {
        Verdict::Passed if counts == Counts::default() => counts.passed = 1,
        Verdict::Failed if counts.failed == 0 => counts.failed = 1,
        _ => {}
    }
    (Outcome { step: step.name, verdict, seconds, counts }, result.err())
}

fn format(context: &Context) -> Result<(), Failure> {
    let cargo = || context.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).as_os_str());
    let advice = |failure: Failure| {
        failure.advise("`cargo fmt --all`, and the same with `--manifest-path fuzz/Cargo.toml`")
    };
    process::run(cargo().args(["fmt", "--all", "--check"])).map_err(advice)?;
    process::run(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])).map_err(advice)
}

fn lint(context: &Context) -> Result<(), Failure> {
    process::run(context.cargo_host("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    for mut command in [context.cargo_guest("clippy"), context.cargo_guest_riscv64("clippy")] {
        process::run(command.args(["--", "-D", "warnings"]))?;
    }
    fuzz::lint(context)
}

fn docs(context: &Context) -> Result<(), Failure> {
    let guests = [context.cargo_guest("doc"), context.cargo_guest_riscv64("doc")];
    for mut command in [context.cargo_host("doc")].into_iter().chain(guests) {
        process::run(command.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}

/// Runs tests of one sort in every member, benchmarks among them (each once, to see that it runs).
fn tests(context: &Context, sort: &str, counts: &mut Counts) -> Result<(), Failure> {
    let record = context.target.join(format!("skipped{sort}.txt"));
    fs::write(&record, "").map_err(|error| Failure::new(format!("{}: {error}", record.display())))?;
    let mut command = context.cargo_host("test");
    command.args(["--no-fail-fast", sort]).env(SKIP_VARIABLE, &record);
    pass_on(context, &mut command);
    let result = process::run_and_read(&mut command, |line| counts.read(line));
    let ignored = counts.skipped;
    let skips = summary::skips(&fs::read_to_string(&record).unwrap_or_default());
    let mut unexcused = if context.ci { ignored } else { 0 };
    for skip in &skips {
        println!("SKIPPED: {}: {}", skip.test, skip.reason);
        // The test program took it for passed.
        counts.passed = counts.passed.saturating_sub(1);
        counts.skipped += 1;
        unexcused += usize::from(context.ci && !skip.hardware);
    }
    counts.skipped -= unexcused;
    counts.failed += unexcused;
    result?;
    if unexcused == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{unexcused} tests were skipped or ignored, which counts as a failure under CI"
    ))
    .advise("have `cargo xtask setup` install what they need; only hardware is excused"))
}

/// Gives tests what `setup` and `build` made, as far as it is there.
fn pass_on(context: &Context, command: &mut Command) {
    let clients = CLIENTS.iter().map(|client| (client.variable, client.program(context)));
    let files = [
        (PROGRAM_VARIABLE, Some(context.program())),
        (kernel::VARIABLE, kernel::file(context)),
        (kernels::RISCV64.variable, cove_module::kernel(context)),
        (setup::OVMF_VARIABLE, setup::ovmf_file(context)),
        (setup::MEASURE_VARIABLE, setup::measure_program(context)),
        (setup::PYTHON_VARIABLE, setup::python(context)),
    ];
    let stock = kernels::KERNELS.iter().map(|kernel| (kernel.variable, kernel.directory(context)));
    for (variable, file) in files.into_iter().chain(clients).chain(stock) {
        if let Some(file) = file.filter(|file| file.exists()) {
            command.env(variable, file);
        }
    }
    command.envs(build::guest_files(context));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::find().expect("the tests run inside the workspace")
    }

    #[test]
    fn a_step_waits_for_what_it_needs() {
        let failed =
            Outcome { step: "setup", verdict: Verdict::Failed, seconds: 0.0, counts: Counts::default() };
        let step = Step { name: "lint", needs: &["setup"], run: |_, _| Err(Failure::new("it must not run")) };
        let (outcome, failure) = run_step(&context(), &step, &[failed]);
        assert_eq!((outcome.verdict, outcome.counts.failed), (Verdict::NotRun, 1));
        assert!(failure.is_none());
    }

    #[test]
    fn a_step_without_tests_counts_as_one() {
        let passes = Step { name: "docs", needs: &[], run: |_, _| Ok(()) };
        let fails = Step { name: "docs", needs: &[], run: |_, _| Err(Failure::new("broken")) };
        assert_eq!(run_step(&context(), &passes, &[]).0.counts, Counts { passed: 1, failed: 0, skipped: 0 });
        assert_eq!(run_step(&context(), &fails, &[]).0.counts, Counts { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn only_steps_that_exist_are_needed() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(step.needs.iter().all(|need| names()[..index].contains(need)), "{}", step.name);
        }
    }
}
