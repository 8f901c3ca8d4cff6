//! `cargo xtask`: everything a developer or CI runs, from a fresh clone to a verified report.
//!
//! It depends on the standard library alone, so that it builds in seconds and before anything is installed.

mod build;
mod context;
mod failure;
mod fuzz;
mod kernel;
mod process;
mod setup;
mod suite;
mod summary;

use std::process::ExitCode;

use context::Context;
use failure::Failure;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  setup                  install what the tests need, under target/ where that is possible; cached
  build                  build the guests and the tsmsim program (release)
  demo [ARGS...]         build, then run `tsmsim demo ARGS...` and pass on its exit status
  kernel                 build a small Linux for guests on a slow KVM, from Debian's sources (3 to 10 minutes); cached
  test [--kvm-linux] [STEP...]
                         set up, then run every step (or those named), and print a table of the results;
                         with --kvm-linux, or under CI where there is a KVM, build that kernel as well
  fuzz [TARGET] [--seconds N | --runs N]
                         fuzz one target or all with stable Rust and libFuzzer (default: 20000 runs)
  help                   this text

Steps of `test`: {steps}

Environment: CARGO_TARGET_DIR is honoured. With CI=true Cargo.lock must be up to date, and a skipped test counts as
a failure unless it lacks hardware. TSMSIM_OVMF or TSMSIM_SEV_SNP_MEASURE name files to use instead of installing them.

Exit status: 0 done, 1 a step failed, 2 usage, 3 this machine lacks something (the message says what to install);
`demo`: that of the program.
";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match Context::find().and_then(|context| dispatch(&context, &arguments)) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::from(failure.status)
        }
    }
}

/// Runs the command named by the arguments; gives the exit status.
fn dispatch(context: &Context, arguments: &[String]) -> Result<u8, Failure> {
    let (command, rest) = arguments.split_first().map_or(("help", arguments), |(c, rest)| (c.as_str(), rest));
    match command {
        "setup" => nothing_more(command, rest).and_then(|()| setup::everything(context)).map(|()| 0),
        "build" => nothing_more(command, rest).and_then(|()| build::everything(context)).map(|()| 0),
        "kernel" => nothing_more(command, rest).and_then(|()| kernel::build(context)).map(|()| 0),
        "demo" => build::demo(context, rest),
        "test" => suite::run(context, rest),
        "fuzz" => fuzz::Options::parse(rest).and_then(|options| fuzz::run(context, &options)).map(|()| 0),
        "help" | "--help" | "-h" => {
            print!("{}", USAGE.replace("{steps}", &suite::names().join(", ")));
            Ok(0)
        }
        unknown => Err(Failure::usage(format!("there is no command `{unknown}`"))),
    }
}

/// Refuses arguments to a command that takes none.
fn nothing_more(command: &str, rest: &[String]) -> Result<(), Failure> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => {
            Err(Failure::usage(format!("`{command}` takes no arguments, but `{extra}` was given")))
        }
    }
}
