//! `tsmsim run` through the program: what CMD sees, who may run it, how it ends, what is left behind.
//!
//! | module | what is shown |
//! |---|---|
//! | [`reports`] | reports by configfs as root and as an ordinary user, for all technologies; the evidence verifies |
//! | [`view`] | what else CMD sees: devices, sysfs, ACPI tables, and everything that was there before |
//! | [`life`] | exit statuses, signals, sudden death, closed standard streams |
//! | [`hostile`] | random file operations, ioctls with wild pointers and sizes |
//! | [`refusals`] | genuine TEE devices, machines that lack something, arguments |
//! | [`qgs`] | `--qgs SOCKET`, `--qgs vsock:PORT` |
//! | [`memory`] | thousands of reports in one session |
//! | [`directory`] | `--no-namespace --at DIR` |
//!
//! [`session`] helps: it runs the program as root or as somebody else.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod directory;
mod hostile;
mod life;
mod memory;
mod qgs;
mod refusals;
mod reports;
mod session;
mod view;
