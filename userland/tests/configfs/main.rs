//! What a program sees of configfs-tsm, against a provider whose answers the tests choose.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod fake;
mod files;
mod model;
mod reports;
mod threads;
mod tree;
