//! Unmounting a directory when tsmsim is killed.
//!
//! Outside a namespace a FUSE mount outlives the process that served it: whatever is done there answers `ENOTCONN` until
//! somebody unmounts it. So a second life of tsmsim waits for the end of the first. fusermount3 has `auto_unmount` for this, but
//! the FUSE library lets users have that only where `/etc/fuse.conf` lets them open their mounts to everybody.

use std::{
    ffi::OsString,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::statfs::{FUSE_SUPER_MAGIC, statfs},
};

use super::{command::EXEC_ARGUMENT, error::ShellError};

/// The argument behind [`EXEC_ARGUMENT`] that makes the second life a watcher.
pub(super) const WATCH_ARGUMENT: &str = "unmount";

/// What the watcher is sent when there is nothing left to do.
const DISMISSED: &[u8] = b".";

/// How often, and how many times, the watcher looks whether the dead process's connection has ended.
const PERIOD: Duration = Duration::from_millis(10);
const LOOKS: usize = 1000;

/// Programs by which users unmount FUSE.
const FUSERMOUNT: [&str; 2] = ["fusermount3", "fusermount"];

/// The process that waits for the end of this one.
pub(super) struct Watcher(Child);

impl Watcher {
    /// Starts it, outside this process's group, so that what is sent to the group does not end it. Nothing needs to be mounted
    /// yet.
    pub(super) fn start(path: &Path) -> Result<Self, ShellError> {
        let mut child = Command::new("/proc/self/exe");
        child.arg0("tsmsim").args([EXEC_ARGUMENT, WATCH_ARGUMENT]).arg(path);
        child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        child.current_dir("/").process_group(0);
        child.spawn().map(Self).map_err(ShellError::failed("starting the process that unmounts"))
    }

    /// Ends it: the directory is unmounted.
    pub(super) fn dismiss(mut self) {
        // If it has ended already, that is as well.
        if let Some(mut line) = self.0.stdin.take() {
            let _ = line.write_all(DISMISSED);
        }
        let _ = self.0.wait();
    }
}

/// The watcher's life: when its standard input ends without a word, the directory is unmounted if its connection is dead.
pub(super) fn watch(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(path), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return ExitCode::from(2);
    };
    let mut said = Vec::new();
    let read = std::io::stdin().read_to_end(&mut said);
    if read.is_err() || said == DISMISSED {
        return ExitCode::SUCCESS;
    }
    for _ in 0..LOOKS {
        // Asked of the server each time, unlike what stat tells.
        match statfs(&path) {
            Err(Errno::ENOTCONN | Errno::ECONNABORTED) => {
                return if unmount(&path).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
            // The kernel is about to find that nobody serves it any more.
            Ok(there) if there.filesystem_type() == FUSE_SUPER_MAGIC => thread::sleep(PERIOD),
            _ => return ExitCode::SUCCESS,
        }
    }
    ExitCode::FAILURE
}

/// Unmounts a directory, also if somebody still has a file open there: they keep it, the name goes away now.
pub(super) fn unmount(path: &Path) -> Result<(), Errno> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Err(Errno::EPERM) => {}
        // Nothing is mounted there: somebody was faster.
        Err(Errno::EINVAL) => return Ok(()),
        done => return done,
    }
    let by = |program: &&str| {
        let mut command = Command::new(program);
        command.args(["-u", "-z", "-q", "--"]).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let is_fuse = || statfs(path).is_ok_and(|there| there.filesystem_type() == FUSE_SUPER_MAGIC);
    if FUSERMOUNT.iter().any(by) || !is_fuse() { Ok(()) } else { Err(Errno::EPERM) }
}
