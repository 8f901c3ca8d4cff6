//! The SNP firmware through its public interface: commands, the envelope of guest messages, every message, and whether
//! others accept the reports. The guest's side of the cryptography is another implementation than the firmware's.

#![expect(clippy::unwrap_used, reason = "in a test, a step that fails is to fail the test")]

mod commands;
mod digest;
mod envelope;
mod keys;
mod messages;
mod migration;
mod reports;
mod support;
