//! Shows configfs, device files and sysfs files to unmodified programs.
//!
//! One FUSE file system holds the whole tree, as the root directory of a confidential guest has it. [`Namespace`] binds its
//! parts to the places where programs look, in a mount namespace that only they see; [`Directory`] serves the tree as
//! a plain directory.
//!
//! | file | what |
//! |---|---|
//! | `namespace.rs`, `graft.rs` | the mount namespace, and names in directories that take none |
//! | `requests.rs`, `server.rs`, `worker.rs` | FUSE requests to calls of [`Configfs`](crate::configfs::Configfs) and of the drivers, in order |
//! | `tree.rs`, `device.rs` | sysfs files, device files and the memory of their callers |
//! | `guest.rs` | what SEV-SNP guests, TDs and TVMs show |
//! | `qgs.rs` | the quote generation service on a Unix socket or vsock |
//! | `session.rs`, `command.rs`, `watch.rs` | the life of a session and of the program that it is for, and what is done when it is killed |
//!
//! What differs from a kernel: `statfs` says FUSE, not configfs; the device files are regular files; files can be sought
//! in. A program that is killed while its request sleeps in a driver ends when the request does, not at once.

mod command;
mod device;
mod error;
mod graft;
mod guest;
mod namespace;
mod qgs;
mod real;
mod requests;
mod server;
mod session;
mod tree;
mod watch;
mod worker;

pub use self::{
    command::{EXEC_ARGUMENT, Ended, exec_command},
    device::Device,
    error::ShellError,
    qgs::{Qgs, QgsAddress},
    real::find_real_tee,
    session::{CONFIGFS, Directory, Namespace, Served},
    tree::{FixedFile, SysfsFile, Tree, slice},
};
