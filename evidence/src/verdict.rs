//! What a judge says: every check by name, and under whose root the evidence stands.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Value, json};

use crate::Timestamp;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Refused.
    Failed,
    /// There was nothing to compare with; never a reason to refuse.
    Skipped,
}

impl Outcome {
    /// `ok`, `FAIL` or `-`.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAIL",
            Self::Skipped => "-",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was looked at: `report`, `ARK`, `ASK`, `ASVK`, `VCEK`, `VLEK`, `CRL`, `certificate table`.
    pub object: &'static str,
    /// Which part of it, by the specification's name.
    pub field: Cow<'static, str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, or why it is refused or skipped. One line.
    pub detail: String,
}

/// Whose root the evidence stands under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Root {
    /// The vendor's own, recognised by the fingerprint of its key: `AMD ARK-Milan`.
    Vendor(&'static str),
    /// A synthetic hierarchy: it carries tsmsim's marker. Proof of nothing.
    Synthetic,
    /// The one that the caller gave, neither the vendor's nor marked synthetic.
    Given,
    /// Neither given, nor the vendor's, nor marked synthetic; or there is no root at all.
    Unknown,
}

impl Root {
    /// `vendor`, `synthetic`, `given` or `unknown`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Vendor(_) => "vendor",
            Self::Synthetic => "synthetic",
            Self::Given => "given",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vendor(name) => write!(f, "the vendor's root, {name}"),
            Self::Synthetic => f.write_str("a synthetic root of tsmsim (worth nothing outside of tests)"),
            Self::Given => f.write_str("the given root (not the vendor's)"),
            Self::Unknown => f.write_str("an unknown root"),
        }
    }
}

/// The outcome of judging evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Every check, in the order in which they are to be read: the first failed one is the most telling.
    pub checks: Vec<Check>,
    /// Whose root it is.
    pub root: Root,
    /// Whether that root is the one that the caller gave.
    pub root_given: bool,
    /// The moment for which this was judged.
    pub at: Timestamp,
}

impl Verdict {
    /// No check yet, no root yet.
    pub(crate) const fn new(at: Timestamp) -> Self {
        Self { checks: Vec::new(), root: Root::Unknown, root_given: false, at }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.first_failure().is_none()
    }

    /// The most telling of the failed checks.
    #[must_use]
    pub fn first_failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.outcome == Outcome::Failed)
    }

    /// Why it is refused, on one line: `VCEK: signature: ...`. `None` if accepted.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.first_failure().map(|check| format!("{}: {}: {}", check.object, check.field, check.detail))
    }

    /// The last line of [`Self::table`]: accepted or refused, under which root, and why.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.reason() {
            None => format!("accepted under {}, as of {}", self.root, self.at),
            Some(reason) => format!("refused: {reason}"),
        }
    }

    /// Aligned text, a line for each check, then [`Self::summary`].
    #[must_use]
    pub fn table(&self) -> String {
        let width = |of: fn(&Check) -> &str| {
            self.checks.iter().map(|check| of(check).chars().count()).max().unwrap_or(0)
        };
        let (objects, fields) = (width(|check| check.object), width(|check| &check.field));
        let mut out = String::new();
        for Check { object, field, outcome, detail } in &self.checks {
            let line = format!("{:<4}  {object:<objects$}  {field:<fields$}  {detail}", outcome.mark());
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out + &self.summary() + "\n"
    }

    /// Aligned text, a line for each object (in the order of their first checks) with the number of its checks or what failed first, then
    /// [`Self::summary`].
    #[must_use]
    pub fn overview(&self) -> String {
        let mut objects: Vec<&'static str> = Vec::new();
        for check in &self.checks {
            if !objects.contains(&check.object) {
                objects.push(check.object);
            }
        }
        let width = objects.iter().map(|object| object.len()).max().unwrap_or(0);
        let mut out = String::new();
        for object in objects {
            let own = || self.checks.iter().filter(|check| check.object == object);
            let passed = own().filter(|check| check.outcome == Outcome::Passed).count();
            let failed = own().find(|check| check.outcome == Outcome::Failed);
            let (outcome, text) = match (failed, own().next()) {
                (Some(check), _) => (Outcome::Failed, format!("{}: {}", check.field, check.detail)),
                (None, Some(only)) if passed == 0 => (Outcome::Skipped, only.detail.clone()),
                _ => (Outcome::Passed, format!("{passed} checks")),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<4}  {object:<width$}  {text}", outcome.mark());
        }
        out + &self.summary() + "\n"
    }

    /// For programs: `accepted`, `reason` (or null), `root` (`kind`, `name`, `given`), `at`, `checks` (`object`, `field`,
    /// `outcome`, `detail`).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|Check { object, field, outcome, detail }| {
                json!({ "object": object, "field": field, "outcome": outcome.name(), "detail": detail })
            })
            .collect();
        let name = if let Root::Vendor(name) = self.root { Some(name) } else { None };
        json!({
            "accepted": self.accepted(),
            "reason": self.reason(),
            "root": { "kind": self.root.kind(), "name": name, "given": self.root_given },
            "at": self.at.to_string(),
            "checks": checks,
        })
    }

    pub(crate) fn push(
        &mut self,
        object: &'static str,
        field: impl Into<Cow<'static, str>>,
        outcome: Outcome,
        detail: impl Into<String>,
    ) {
        self.checks.push(Check { object, field: field.into(), outcome, detail: detail.into() });
    }

    /// Passed with what was found, or failed with the reason. True if passed.
    pub(crate) fn judge(
        &mut self,
        object: &'static str,
        field: impl Into<Cow<'static, str>>,
        result: Result<impl Into<String>, impl Into<String>>,
    ) -> bool {
        let passed = result.is_ok();
        match result {
            Ok(found) => self.push(object, field, Outcome::Passed, found),
            Err(reason) => self.push(object, field, Outcome::Failed, reason),
        }
        passed
    }

    pub(crate) fn skip(
        &mut self,
        object: &'static str,
        field: impl Into<Cow<'static, str>>,
        why: impl Into<String>,
    ) {
        self.push(object, field, Outcome::Skipped, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcomes: &[Outcome]) -> Verdict {
        let mut verdict = Verdict::new(Timestamp(0));
        for outcome in outcomes {
            verdict.push("report", "version", *outcome, "2");
        }
        verdict
    }

    #[test]
    fn one_failure_refuses_and_a_skip_does_not() {
        assert!(verdict(&[Outcome::Passed, Outcome::Skipped]).accepted());
        let refused = verdict(&[Outcome::Passed, Outcome::Failed, Outcome::Passed]);
        assert!(!refused.accepted());
        assert_eq!(refused.summary(), "refused: report: version: 2");
        assert_eq!(refused.to_json()["accepted"], false);
    }

    #[test]
    fn a_synthetic_root_is_never_called_the_vendors() {
        let synthetic = Verdict { root: Root::Synthetic, root_given: true, ..verdict(&[Outcome::Passed]) };
        assert!(synthetic.summary().contains("synthetic"));
        assert_eq!(synthetic.to_json()["root"]["kind"], "synthetic");
    }
}
