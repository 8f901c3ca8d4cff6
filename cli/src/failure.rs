//! How a command ends when it does not succeed: what to say, and the exit status.

use std::{fmt, path::Path, process::ExitCode};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Evidence was refused, or a check failed; it was already said.
    Refused,
    /// The arguments do not make sense together, or name something that cannot be read.
    Usage(String),
    /// This machine lacks something; the text says what to do.
    Lacking(String),
    /// Something failed that the user did not cause.
    Failed(String),
}

impl Failure {
    /// A file that could not be read or written.
    pub(crate) fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::Usage(format!("cannot {action} {}: {error}", path.display()))
    }

    /// Any other error, with what was being done.
    pub(crate) fn because(doing: &str, error: impl fmt::Display) -> Self {
        Self::Failed(format!("{doing}: {error}"))
    }

    /// Says it on standard error; the exit status is the contract of the command line.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Refused => ExitCode::from(1),
            Self::Usage(text) => say(text, 2),
            Self::Lacking(text) => say(text, 3),
            Self::Failed(text) => say(text, 1),
        }
    }
}

fn say(text: &str, status: u8) -> ExitCode {
    eprintln!("tsmsim: {text}");
    ExitCode::from(status)
}
