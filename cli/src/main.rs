//! The `tsmsim` program: arguments and output; what it does is in the libraries.

mod args;
mod commands;
mod console;
mod cove;
mod failure;
mod guest;
mod linux;
mod output;
mod scenario;
mod snp;
mod tdx;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tsmsim_userland::shell::{EXEC_ARGUMENT, Ended, exec_command};

use crate::{
    args::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == EXEC_ARGUMENT) {
        return exec_command(arguments);
    }
    let cli = Cli::parse();
    // What the FUSE library warns of (a caller that died, say) is not for the reader of CMD's output.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,fuser=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    run(&cli.command).unwrap_or_else(|failure| failure.report())
}

fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => return commands::run::run(args).map(Ended::pass_on),
        Command::Boot(args) => return commands::boot::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Report(args) => commands::report::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Show(args) => commands::show::run(args),
        Command::Measure(args) => commands::measure::run(args),
        Command::Keys(args) => commands::keys::run(&args.action),
        Command::Conform(args) => commands::conform::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
