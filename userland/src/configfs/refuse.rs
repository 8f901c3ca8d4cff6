//! What configfs does not have, and what the VFS answers for it (`fs/namei.c`, `fs/configfs/symlink.c`).

use nix::errno::Errno;

use super::core::lock;
use super::node::Node;
use super::tree::Tree;
use super::{Configfs, NAME_MAX};

/// An operation that always fails, on whatever node.
///
/// `listxattr` is not among them: it gives an empty list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `getxattr`: no handlers for extended attributes.
    GetXattr,
    /// `setxattr`.
    SetXattr,
    /// `removexattr`.
    RemoveXattr,
    /// `fallocate`.
    Fallocate,
    /// `fsync`, `fdatasync`.
    Fsync,
    /// `ioctl` with a request that the VFS itself does not know.
    Ioctl,
    /// `mmap`.
    Mmap,
    /// `lseek` in a binary attribute, which has no `llseek`. `pread` and `pwrite` work.
    SeekBinary,
    /// `readlink`: there are no symbolic links.
    Readlink,
}

impl Tree {
    /// Makes sure that a name can be made in a directory: `filename_create`, `may_create`.
    ///
    /// # Errors
    /// ENOTDIR, ENAMETOOLONG, ENOENT if the directory was removed, EEXIST, EINVAL for what is not a name.
    pub(super) fn absent(&self, parent: Node, name: &[u8]) -> Result<(), Errno> {
        match self.lookup(parent, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {
                if let Node::Entry(_) = parent {
                    self.list(parent)?;
                }
                let is_name = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
                if is_name { Ok(()) } else { Err(Errno::EINVAL) }
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Configfs {
    /// What an operation that configfs does not have answers.
    pub const fn refuse(operation: Operation) -> Errno {
        match operation {
            Operation::GetXattr | Operation::SetXattr | Operation::RemoveXattr | Operation::Fallocate => {
                Errno::EOPNOTSUPP
            }
            Operation::Fsync | Operation::Readlink => Errno::EINVAL,
            Operation::Ioctl => Errno::ENOTTY,
            Operation::Mmap => Errno::ENODEV,
            Operation::SeekBinary => Errno::ESPIPE,
        }
    }

    /// What making something other than a directory answers.
    fn refuse_new(&self, parent: Node, name: &[u8], refusal: Errno) -> Errno {
        lock(&self.tree).absent(parent, name).err().unwrap_or(refusal)
    }

    /// `unlink` (`configfs_unlink`): EISDIR for a directory, EPERM for an attribute, or what the lookup answers.
    pub fn unlink(&self, parent: Node, name: &[u8]) -> Errno {
        match self.lookup(parent, name) {
            Ok(node) if node.is_directory() => Errno::EISDIR,
            Ok(_) => Errno::EPERM,
            Err(errno) => errno,
        }
    }

    /// `symlink` (`configfs_symlink`): EPERM, as `tsm` has no `allow_link`; EEXIST if there is such a name.
    pub fn symlink(&self, parent: Node, name: &[u8]) -> Errno {
        self.refuse_new(parent, name, Errno::EPERM)
    }

    /// `link` (`vfs_link`): EPERM; EEXIST if there is such a name.
    pub fn link(&self, parent: Node, name: &[u8]) -> Errno {
        self.refuse_new(parent, name, Errno::EPERM)
    }

    /// `mknod` of a device, a pipe or a socket (`vfs_mknod`): EPERM; EEXIST if there is such a name.
    pub fn mknod(&self, parent: Node, name: &[u8]) -> Errno {
        self.refuse_new(parent, name, Errno::EPERM)
    }

    /// Making a regular file (`lookup_open`, `vfs_create`): EACCES; EEXIST if there is such a name.
    pub fn create(&self, parent: Node, name: &[u8]) -> Errno {
        self.refuse_new(parent, name, Errno::EACCES)
    }

    /// `renameat2` (`vfs_rename`): succeeds only where it changes nothing, from a node to itself.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG as the lookups; EEXIST with `no_replace` (`RENAME_NOREPLACE`) if the new name exists;
    /// ENOTDIR or EISDIR if one is a directory and the other is not; EBUSY for `.` and `..`; else EPERM.
    pub fn rename(
        &self,
        old_parent: Node,
        old_name: &[u8],
        new_parent: Node,
        new_name: &[u8],
        no_replace: bool,
    ) -> Result<(), Errno> {
        if [old_name, new_name].iter().any(|&name| name == b"." || name == b"..") {
            return Err(Errno::EBUSY);
        }
        let tree = lock(&self.tree);
        let source = tree.lookup(old_parent, old_name)?;
        let target = match tree.lookup(new_parent, new_name) {
            Ok(target) => target,
            Err(Errno::ENOENT) if new_name.len() <= NAME_MAX => return Err(Errno::EPERM),
            Err(errno) => return Err(errno),
        };
        match (source.is_directory(), target.is_directory()) {
            _ if no_replace => Err(Errno::EEXIST),
            _ if source == target => Ok(()),
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            _ => Err(Errno::EPERM),
        }
    }
}
