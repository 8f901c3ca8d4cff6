//! What went wrong, told to a person: what was attempted, the command, and what to do about it.

use std::fmt;

/// Exit status: a step failed.
pub(crate) const FAILED: u8 = 1;
/// Exit status: the command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Exit status: this machine lacks something that we cannot install ourselves.
pub(crate) const LACKING: u8 = 3;

/// An error for people.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    command: Option<String>,
    advice: Option<String>,
    /// The exit status of the whole program.
    pub(crate) status: u8,
}

impl Failure {
    /// A step failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), command: None, advice: None, status: FAILED }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { status: USAGE, ..Self::new(what) }.advise("`cargo xtask help` shows every command")
    }

    /// This machine lacks something; `advice` says how a person gets it.
    pub(crate) fn lacking(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: LACKING, ..Self::new(what) }.advise(advice)
    }

    /// The command that failed, as one would type it.
    pub(crate) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// What to do about it; replaces earlier advice.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The command that failed, or nothing.
    pub(crate) fn command_line(&self) -> &str {
        self.command.as_deref().unwrap_or_default()
    }

    /// What went wrong, in one line.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(command) = &self.command {
            write!(f, "\n  command:    {command}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n  what to do: {advice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_only_what_is_known() {
        assert_eq!(Failure::new("it broke").to_string(), "error: it broke");
        let full = Failure::lacking("no compiler", "install one").command("cc -v");
        assert_eq!(full.to_string(), "error: no compiler\n  command:    cc -v\n  what to do: install one");
        assert_eq!(full.status, LACKING);
    }
}
