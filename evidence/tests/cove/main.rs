//! CoVE evidence of the simulator's making: sound, with anything changed in it, and any bytes.

#![expect(clippy::unwrap_used, reason = "only tests use this")]

mod certificates;
mod flips;
mod hostile;
mod maker;
mod sound;
mod tokens;

use maker::{Made, NOW};
use tsmsim_evidence::{
    Verdict,
    cove::{Bundle, Policy, verify},
};

/// Judges by the default policy.
fn judge(bundle: &Bundle) -> Verdict {
    verify(bundle, &Policy::at(NOW))
}

/// Refused, and the first failed check is this one.
#[track_caller]
fn refused(verdict: &Verdict, reason: &str) {
    let found = verdict.reason().expect("refused");
    assert!(found.starts_with(reason), "{found}\nwhere {reason} is expected");
}

/// Refused, and this check is among the failed ones.
#[track_caller]
fn fails(verdict: &Verdict, object: &str, field: &str) {
    let failed = |check: &&tsmsim_evidence::Check| check.outcome == tsmsim_evidence::Outcome::Failed;
    let found = verdict.checks.iter().filter(failed).any(|it| it.object == object && it.field == field);
    assert!(found, "no failed {object}: {field} in\n{}", verdict.table());
}

/// Both formats.
fn formats() -> [Made; 2] {
    [Made::cbor(), Made::x509()]
}
