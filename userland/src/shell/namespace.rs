//! The private mount namespace, and the FUSE mount in it.
//!
//! As root a mount namespace is enough. Anybody else makes a user namespace around it, in which they are who they were
//! (`id -u` is unchanged) and own what is mounted there. Everything goes away with the last process inside: nothing has to
//! be cleaned up, however tsmsim ends.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

use super::error::ShellError;

/// The mount source that `/proc/mounts` shows.
const SOURCE: &str = "tsmsim";

/// Directories on which the tree is mounted for as long as its parts are being bound to their places. Nothing else runs in
/// the namespace then, so nothing misses what is below.
const STAGING: [&str; 5] = ["/sys/fs", "/sys/bus", "/proc/sys", "/mnt", "/tmp"];

/// Enters a mount namespace of our own. Must be called while the process has one thread.
pub(super) fn enter() -> Result<(), ShellError> {
    let (uid, gid) = (geteuid(), getegid());
    let alone = if uid.is_root() { unshare(CloneFlags::CLONE_NEWNS) } else { Err(Errno::EPERM) };
    if let Err(refused) = alone {
        // Root of a container may lack CAP_SYS_ADMIN and yet be allowed a user namespace.
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
            let errno = if uid.is_root() { refused } else { errno };
            ShellError::no_namespace(errno, !uid.is_root())
        })?;
        let map = |file: &str, text: String| {
            fs::write(file, text).map_err(ShellError::failed(format!("writing {file}")))
        };
        map("/proc/self/setgroups", "deny".to_owned())?;
        map("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        map("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| ShellError::no_mount("/ privately", errno, !uid.is_root()))
}

/// Opens `/dev/fuse`. The kernel wants it opened in the user namespace that mounts.
pub(super) fn open_fuse() -> Result<File, ShellError> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| ShellError::no_fuse(&error))
}

/// The tree, mounted where it is in nobody's way.
pub(super) struct Staging {
    /// Where.
    pub(super) path: PathBuf,
}

impl Staging {
    /// Mounts the file system that is served through `/dev/fuse`, and gives the file to serve it.
    pub(super) fn mount() -> Result<(Self, OwnedFd), ShellError> {
        let fuse = open_fuse()?;
        let path = STAGING
            .iter()
            .map(Path::new)
            .find(|path| path.is_dir())
            .ok_or_else(|| ShellError::Lacking(format!("none of {} exists", STAGING.join(", "))))?;
        let (uid, gid) = (geteuid(), getegid());
        let options = format!(
            "fd={},rootmode=40755,user_id={uid},group_id={gid},allow_other,default_permissions",
            fuse.as_raw_fd()
        );
        // As configfs is mounted.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
        mount(Some(SOURCE), path, Some("fuse.tsmsim"), flags, Some(options.as_str()))
            .map_err(|errno| ShellError::no_mount("FUSE", errno, !uid.is_root()))?;
        Ok((Self { path: path.to_owned() }, fuse.into()))
    }

    /// Takes the mount away; what was bound out of it stays.
    pub(super) fn unmount(self) -> Result<(), ShellError> {
        umount2(&self.path, MntFlags::MNT_DETACH)
            .map_err(ShellError::failed_with(format!("unmounting {}", self.path.display())))
    }
}
