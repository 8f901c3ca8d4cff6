//! `tsmsim conform`: the conformance suite of configfs-tsm, against an imitation or a real kernel.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use tsmsim_conform::{DEFAULT_PATH, Error, Format, Options, Style, list, run as check};

use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct ConformArgs {
    /// The directory of the entries.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PATH)]
    pub(crate) path: PathBuf,
    /// Which generation of the kernel's interface is expected.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) style: ConformStyle,
    /// Only checks whose name contains this.
    #[arg(long, value_name = "SUBSTR")]
    pub(crate) filter: Option<String>,
    /// Show the checks and run none.
    #[arg(long)]
    pub(crate) list: bool,
    /// How the results are written.
    #[arg(long, value_enum, default_value = "tap")]
    pub(crate) format: ConformFormat,
    /// The results as JUnit XML, besides.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// The provider's device file. Without it, /dev/sev-guest or /dev/tdx_guest.
    #[arg(long, value_name = "PATH")]
    pub(crate) device: Option<PathBuf>,
    /// How many threads race.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: u32,
    /// Also checks that take minutes.
    #[arg(long)]
    pub(crate) slow: bool,
    /// Also extend a measurement register, which cannot be undone.
    #[arg(long)]
    pub(crate) extend: bool,
}

/// Generations of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConformStyle {
    /// By the kernel's release, or, of an imitation, by what is there.
    Auto,
    /// Linux 6.7 to 6.10.
    #[value(name = "6.7")]
    V6_7,
    /// Linux 6.11 to 6.15.
    #[value(name = "6.12")]
    V6_12,
    /// Linux 6.16 and later.
    #[value(name = "6.16")]
    V6_16,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConformFormat {
    /// The Test Anything Protocol, version 14.
    Tap,
    /// JUnit XML.
    Junit,
    /// One JSON object a line.
    Json,
}

/// Runs the command.
pub(crate) fn run(args: &ConformArgs) -> Result<(), Failure> {
    let options = options(args);
    // Not locked: a check that says something on standard output must not wait for it.
    let mut out = io::stdout();
    if args.list {
        list(&options, &mut out).map_err(failure)?;
        return out.flush().map_err(|error| Failure::because("standard output", error));
    }
    let report = check(&options, &mut out).map_err(failure)?;
    if report.failed() == 0 { Ok(()) } else { Err(Failure::Refused) }
}

fn options(args: &ConformArgs) -> Options {
    Options {
        path: args.path.clone(),
        style: match args.style {
            ConformStyle::Auto => None,
            ConformStyle::V6_7 => Some(Style::V6_7),
            ConformStyle::V6_12 => Some(Style::V6_12),
            ConformStyle::V6_16 => Some(Style::V6_16),
        },
        filter: args.filter.clone(),
        format: match args.format {
            ConformFormat::Tap => Format::Tap,
            ConformFormat::Junit => Format::Junit,
            ConformFormat::Json => Format::Json,
        },
        junit: args.junit.clone(),
        device: args.device.clone(),
        threads: args.threads,
        slow: args.slow,
        extend: args.extend,
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Lacking(lacking) => Failure::Lacking(lacking.0),
        Error::NoSuchCheck(_) => Failure::Usage(error.to_string()),
        Error::Output(error) => Failure::because("writing the results", error),
    }
}
