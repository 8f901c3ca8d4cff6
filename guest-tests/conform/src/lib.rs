//! The conformance suite of configfs-tsm: every rule of the ABI as a named check.
//!
//! It drives a mounted configfs-tsm through ordinary system calls and compares what it sees with what the kernel's source
//! says: `drivers/virt/coco/tsm.c` (`guest/report.c` since Linux 6.16), `fs/configfs/`, the drivers `sev-guest` and
//! `tdx-guest`, and the VFS above them; for CoVE, which Linux has no driver for, what this project's module says. Each check
//! names the function of the kernel that decides it. So the same program judges a real kernel and any imitation of one.
//!
//! Each check runs in a process of its own: it may change user or mount namespace, and if it hangs it is killed and the
//! suite goes on. Entries that a check makes are removed whatever happens.
//!
//! Where the file system is FUSE, a few checks are left out, each with its reason: there the kernel's part of FUSE answers
//! before a server is asked.
//!
//! ```no_run
//! let options = tsmsim_conform::Options::default();
//! match tsmsim_conform::run(&options, &mut std::io::stdout()) {
//!     Ok(report) => println!("{} checks failed", report.failed()),
//!     Err(error) => eprintln!("{error}"),
//! }
//! ```

mod check;
mod checks;
mod context;
mod outcome;
mod output;
mod probe;
mod runner;
mod sys;
#[cfg(test)]
mod tests;

use std::{
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

pub use context::Style;

/// Where the kernel has configfs-tsm.
pub const DEFAULT_PATH: &str = "/sys/kernel/config/tsm/report";

/// What to test and how to say it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the entries.
    pub path: PathBuf,
    /// Which generation of the kernel's interface is expected; `None`: by the kernel's release, or, of an imitation, by
    /// what is there.
    pub style: Option<Style>,
    /// Only checks whose name contains this.
    pub filter: Option<String>,
    /// How the results are written.
    pub format: Format,
    /// Where the results go as JUnit XML, besides.
    pub junit: Option<PathBuf>,
    /// The provider's device file; `None`: the usual one.
    pub device: Option<PathBuf>,
    /// How many threads race.
    pub threads: u32,
    /// Whether checks may take minutes.
    pub slow: bool,
    /// Whether a measurement register of a TD may be extended, which cannot be undone.
    pub extend: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: PathBuf::from(DEFAULT_PATH),
            style: None,
            filter: None,
            format: Format::Tap,
            junit: None,
            device: None,
            threads: 32,
            slow: false,
            extend: false,
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The Test Anything Protocol, version 14, as the checks run.
    Tap,
    /// JUnit XML, at the end.
    Junit,
    /// One JSON object a line, as the checks run.
    Json,
}

/// How a check ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// The rule holds.
    Passed,
    /// The rule does not hold, or the check did not come to an end.
    Failed {
        /// What was looked at.
        what: String,
        /// What the kernel's source says.
        expected: String,
        /// What was seen.
        got: String,
    },
    /// It cannot be told here, for this reason.
    Skipped(String),
}

/// One check and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckResult {
    /// `group/name`.
    pub name: &'static str,
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// The function of the kernel that decides it.
    pub source: &'static str,
    /// How it ended.
    pub status: Status,
    /// How long it took.
    pub took: Duration,
}

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Each check that was asked for, in the order in which they ran.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// How many checks passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.results.iter().filter(|result| result.status == Status::Passed).count()
    }

    /// How many checks failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| matches!(result.status, Status::Failed { .. })).count()
    }

    /// How many checks could not be told.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.results.iter().filter(|result| matches!(result.status, Status::Skipped(_))).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, passed) = (self.results.len(), self.passed());
        write!(f, "{all} checks: {passed} ok, {} not ok, {} skipped", self.failed(), self.skipped())
    }
}

/// There is no configfs-tsm that could be tested; the text says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lacking(pub String);

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum Error {
    /// There is nothing to test.
    Lacking(Lacking),
    /// No check has the name that was asked for.
    NoSuchCheck(String),
    /// The results cannot be written.
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacking(lacking) => lacking.fmt(f),
            Self::NoSuchCheck(filter) => write!(f, "no check has {filter:?} in its name; --list shows them"),
            Self::Output(error) => write!(f, "the results cannot be written: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs the checks that were asked for, one after the other, and writes what comes out to `out`.
///
/// The calling process forks for each check, so it should have no other threads at work.
///
/// # Errors
/// If there is no configfs-tsm at the path, if no check has the name that was asked for, or if `out` or the JUnit file
/// cannot be written.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Report, Error> {
    let chosen = chosen(options)?;
    let context = probe::probe(options).map_err(Error::Lacking)?;
    let mut report = Report { results: Vec::new() };
    output::start(out, options.format, chosen.len())?;
    for (number, check) in (1..).zip(chosen) {
        let began = Instant::now();
        let status = runner::run(&context, check);
        let (name, rule, source) = (check.name, check.rule, check.source);
        let result = CheckResult { name, rule, source, status, took: began.elapsed() };
        output::result(out, options.format, number, &result)?;
        report.results.push(result);
    }
    output::end(out, options.format, &report)?;
    if let Some(path) = &options.junit {
        fs::write(path, output::junit(&report))?;
    }
    Ok(report)
}

/// Writes name, rule and place in the kernel of each check that was asked for.
///
/// # Errors
/// If no check has the name that was asked for, or if `out` cannot be written.
pub fn list(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    for check in chosen(options)? {
        writeln!(out, "{}: {} ({})", check.name, check.rule, check.source)?;
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<&'static check::Check>, Error> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let chosen: Vec<_> = checks::all().filter(|check| check.name.contains(filter)).collect();
    if chosen.is_empty() { Err(Error::NoSuchCheck(filter.to_owned())) } else { Ok(chosen) }
}
