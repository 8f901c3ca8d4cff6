//! What the TD checks, grouped by function; each line is named after the specification's term.

pub(super) mod end;
mod exceptions;
mod host;
mod identity;
mod memory;
mod metadata;
pub(super) mod quote;
mod refusals;
mod report;
mod rtmr;
mod service;

use super::td::Td;
use crate::guest::tap::Tap;

/// Everything.
pub(super) fn all(td: &mut Td, tap: &mut Tap) {
    identity::run(td, tap);
    metadata::run(td, tap);
    memory::run(td, tap);
    rtmr::run(td, tap);
    report::run(td, tap);
    host::run(td, tap);
    service::run(td, tap);
    exceptions::run(td, tap);
    quote::wanted(td, tap);
    quote::run(td, tap);
    refusals::run(td, tap);
}
