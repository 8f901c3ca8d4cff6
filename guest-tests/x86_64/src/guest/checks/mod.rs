//! What the guest checks, grouped by what it needs; each line is named after the specification's term.

pub(super) mod exits;
pub(super) mod extended;
pub(super) mod key;
pub(super) mod migration;
pub(super) mod negotiation;
pub(super) mod pages;
pub(super) mod platform;
pub(super) mod psc;
pub(super) mod refusals;
pub(super) mod report;

use super::{machine::Machine, tap::Tap};

/// Everything that needs a machine which is set up.
pub(super) fn all(machine: &mut Machine, tap: &mut Tap) {
    exits::run(machine, tap);
    pages::run(tap);
    psc::run(machine, tap);
    report::run(machine, tap);
    report::refusals(machine, tap);
    key::run(machine, tap);
    platform::run(machine, tap);
    migration::run(machine, tap);
    extended::run(machine, tap);
    refusals::run(machine, tap);
}
