//! What a check says, and the few ways to say it.

use std::fmt::Debug;

use nix::errno::Errno;

use crate::sys::Sys;

/// Why a check did not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The rule does not hold.
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

/// How a check ends; a step of it gives a value or ends it.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// The rule does not hold.
pub(crate) fn failed<T>(
    what: impl Into<String>,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Outcome<T> {
    Err(Stop::Failed { what: what.into(), expected: expected.into(), got: got.into() })
}

/// It cannot be told here.
pub(crate) fn skipped<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skipped(reason.into()))
}

/// Two values are to be equal.
pub(crate) fn equal<T: PartialEq + Debug>(what: impl Into<String>, got: T, expected: T) -> Outcome {
    if got == expected { Ok(()) } else { failed(what, format!("{expected:?}"), format!("{got:?}")) }
}

/// A condition is to hold; `got` says what was seen instead.
pub(crate) fn holds(
    condition: bool,
    what: impl Into<String>,
    expected: &str,
    got: impl Into<String>,
) -> Outcome {
    if condition { Ok(()) } else { failed(what, expected, got) }
}

/// A call is to succeed; gives its value.
pub(crate) fn ok<T>(what: impl Into<String>, result: Sys<T>) -> Outcome<T> {
    match result {
        Ok(value) => Ok(value),
        Err(errno) => failed(what, "success", name(errno)),
    }
}

/// A call is to succeed with this very value.
pub(crate) fn gives<T: PartialEq + Debug>(what: impl Into<String>, result: Sys<T>, expected: T) -> Outcome {
    match result {
        Ok(value) if value == expected => Ok(()),
        Ok(value) => failed(what, format!("{expected:?}"), format!("{value:?}")),
        Err(errno) => failed(what, format!("{expected:?}"), name(errno)),
    }
}

/// A call is to fail with this error.
pub(crate) fn refused<T: Debug>(what: impl Into<String>, result: Sys<T>, expected: Errno) -> Outcome {
    match result {
        Err(errno) if errno == expected => Ok(()),
        Err(errno) => failed(what, name(expected), name(errno)),
        Ok(_) => failed(what, name(expected), "success"),
    }
}

/// The name of an error and what it means.
pub(crate) fn name(errno: Errno) -> String {
    format!("{errno:?} ({})", errno.desc())
}
