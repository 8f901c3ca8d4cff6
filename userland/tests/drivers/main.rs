//! The drivers over their simulated guests: every error number, the state of the key, and what the next call gives.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod cove_guest;
mod sev_guest;
mod sev_guest_faults;
mod support;
mod tdx_guest;
mod tdx_guest_faults;
