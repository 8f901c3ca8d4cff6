//! configfs and its `tsm` subsystem, as a state machine without file descriptors.
//!
//! [`Configfs`] is what a mount of configfs in a confidential guest shows: `tsm/report`, in it the entries that programs
//! make, in each its attributes. The caller brings names, offsets and bytes and gets bytes or the errno that Linux gives.
//! It is read from `fs/configfs/{dir,file,inode,symlink}.c`, from `drivers/virt/coco/tsm.c` (later
//! `guest/report.c`), and, for what is refused before configfs is asked, from `fs/{namei,read_write,open}.c`.
//!
//! | file | what of Linux |
//! |---|---|
//! | `core.rs` | the `tsm` core: provider, generations, reports |
//! | `file.rs` | open attributes: buffers, offsets, what a close commits |
//! | `tree.rs` | directories, names, metadata |
//! | `refuse.rs` | operations that configfs does not have |
//! | `parse.rs` | numbers and GUIDs as the kernel parses them |
//! | `style.rs` | where kernels differ |
//! | `limits.rs` | what is limited here and not in Linux |
//!
//! # Locks
//! As in Linux, each taken only with those before it held:
//! the inode lock of `report` (`mkdir`, `rmdir`), the mutex of an open file, the entry's `frag_sem` (a method runs; `rmdir` waits),
//! `tsm_rwsem` (the provider and every entry's state; held for writing while the provider makes a report), the entry's
//! state. The tree has a lock of its own that is held for moments only, so that lookups, `stat` and `readdir` go on while
//! a report is being made.
//!
//! # Differences from Linux
//! There are limits ([`MAX_ENTRIES`], [`MAX_OPEN_FILES`], [`MAX_HELD_BYTES`]). A lookup does not wait for an `mkdir` that
//! waits for a report. Looking an attribute up does not change the times of its directory. Permissions of users are not
//! checked: that is done by the VFS before configfs is asked.

mod core;
mod file;
mod limits;
mod node;
mod parse;
mod refuse;
mod style;
mod tree;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, TryLockError};

use nix::errno::Errno;

use self::core::{Core, lock};
use self::file::OpenFile;
use self::limits::Budget;
use self::tree::Tree;
use crate::provider::Provider;

pub use self::limits::{MAX_ENTRIES, MAX_HELD_BYTES, MAX_OPEN_FILES};
pub use self::node::{EntryId, Node, SetAttributes, Stat};
pub use self::refuse::Operation;
pub use self::style::KernelStyle;
pub use self::tree::NAME_MAX;

/// The magic number of configfs: `f_type` of `statfs`.
pub const CONFIGFS_MAGIC: u32 = 0x6265_6570;

/// An open attribute. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(u64);

impl Handle {
    /// The number, for a protocol that carries numbers.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The handle of a number. One that was never given out or is released answers EBADF.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What is to be done with a [`Handle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// [`Configfs::read`].
    Read,
    /// [`Configfs::write`].
    Write,
    /// [`Configfs::release`].
    Release,
}

/// A mount of configfs with the `tsm` subsystem, shared by any number of threads.
pub struct Configfs {
    core: Core,
    budget: Arc<Budget>,
    tree: Mutex<Tree>,
    /// The inode lock of `report`.
    report_inode: Mutex<()>,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    open: HashMap<Handle, Arc<OpenFile>>,
    opened: u64,
}

impl fmt::Debug for Configfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.core.style();
        f.debug_struct("Configfs")
            .field("style", &style)
            .field("held", &self.budget.held())
            .finish_non_exhaustive()
    }
}

impl Configfs {
    /// configfs with an empty `tsm/report` and no provider.
    pub fn new(style: KernelStyle) -> Self {
        let budget = Arc::new(Budget::default());
        Self {
            core: Core::new(style, Arc::clone(&budget)),
            budget,
            tree: Mutex::new(Tree::new()),
            report_inode: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// Which kernel is copied.
    pub const fn style(&self) -> KernelStyle {
        self.core.style()
    }

    /// `tsm_register`: gives the driver that makes reports. Waits while a report is being made.
    ///
    /// # Errors
    /// EBUSY if there is one, or if there are entries (not in [`KernelStyle::V6_7`]).
    pub fn register(&self, provider: Box<dyn Provider>) -> Result<(), Errno> {
        self.core.register(provider)
    }

    /// `tsm_unregister`: takes the driver away, whether there are entries or not. Waits while a report is being made.
    pub fn unregister(&self) -> Option<Box<dyn Provider>> {
        self.core.unregister()
    }

    /// Finds a name in a directory; `.` and `..` too.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR if `parent` is an attribute; ENAMETOOLONG above [`NAME_MAX`] bytes.
    pub fn lookup(&self, parent: Node, name: &[u8]) -> Result<Node, Errno> {
        lock(&self.tree).lookup(parent, name)
    }

    /// The metadata of a node. What was removed still has some, with no links, while a file of the entry is open.
    ///
    /// # Errors
    /// ENOENT.
    pub fn stat(&self, node: Node) -> Result<Stat, Errno> {
        lock(&self.tree).stat(node)
    }

    /// `chmod`, `chown`, `utimensat`, `truncate` (`configfs_setattr`). A size is accepted and changes no value: this is
    /// what makes `O_TRUNC` work.
    ///
    /// # Errors
    /// ENOENT; EISDIR for the size of a directory.
    pub fn set_attributes(&self, node: Node, new: &SetAttributes) -> Result<Stat, Errno> {
        lock(&self.tree).set_attributes(node, new)
    }

    /// The names in a directory without `.` and `..`, what was made last first (`configfs_readdir`).
    ///
    /// # Errors
    /// ENOTDIR for an attribute, ENOENT for a removed entry.
    pub fn list(&self, node: Node) -> Result<Vec<(Vec<u8>, Node)>, Errno> {
        lock(&self.tree).list(node)
    }

    /// Makes an entry (`configfs_mkdir`, `tsm_report_make_item`). It always has mode 0755. Waits while a report is being
    /// made.
    ///
    /// # Errors
    /// In this order: ENOTDIR, ENAMETOOLONG, EEXIST, EINVAL for a name with `/` or zero or an empty one, EPERM anywhere
    /// but in `report`, ENXIO without a provider, ENOMEM at [`MAX_ENTRIES`].
    pub fn mkdir(&self, parent: Node, name: &[u8]) -> Result<Node, Errno> {
        if parent != Node::Report {
            lock(&self.tree).absent(parent, name)?;
            return Err(Errno::EPERM);
        }
        let _inode = lock(&self.report_inode);
        lock(&self.tree).absent(parent, name)?;
        let attributes = self.core.make_item()?;
        let made = lock(&self.tree).insert(name, attributes);
        if made.is_err() {
            self.core.drop_item();
        }
        made
    }

    /// Removes an entry (`configfs_rmdir`). Waits while a report is being made for it, or a value stored. Files that are
    /// open answer ENOENT from then on.
    ///
    /// # Errors
    /// ENOTDIR, ENAMETOOLONG, ENOENT; ENOTDIR for an attribute; EINVAL for `.`, ENOTEMPTY for `..`; EPERM for `tsm` and
    /// `report`.
    pub fn rmdir(&self, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let _inode = (parent == Node::Report).then(|| lock(&self.report_inode));
        let found = lock(&self.tree).lookup(parent, name)?;
        let id = match (name, found) {
            (b".", _) => return Err(Errno::EINVAL),
            (b"..", _) => return Err(Errno::ENOTEMPTY),
            (_, Node::Entry(id)) => id,
            (_, Node::Attribute(..)) => return Err(Errno::ENOTDIR),
            _ => return Err(Errno::EPERM),
        };
        let entry = lock(&self.tree).entry(id)?;
        // The tree is not locked while this waits.
        entry.kill();
        lock(&self.tree).remove(id);
        self.core.drop_item();
        Ok(())
    }

    /// Opens an attribute (`__configfs_open_file`). Of `flags` only `O_ACCMODE` counts; `O_TRUNC` is harmless.
    ///
    /// # Errors
    /// EISDIR for a directory, ENOENT, ENOMEM at [`MAX_OPEN_FILES`]; EACCES, for the superuser too, when an attribute
    /// without `show` is to be read or one without `store` to be written, or the mode allows it to nobody.
    pub fn open(&self, node: Node, flags: i32) -> Result<Handle, Errno> {
        let Node::Attribute(id, attribute) = node else {
            return Err(Errno::EISDIR);
        };
        let (entry, mode) = lock(&self.tree).opening(id, attribute)?;
        match OpenFile::new(entry, attribute, mode, flags) {
            Ok(file) => {
                let mut files = lock(&self.files);
                files.opened += 1;
                let handle = Handle(files.opened);
                files.open.insert(handle, Arc::new(file));
                Ok(handle)
            }
            Err(errno) => {
                lock(&self.tree).closed(id);
                Err(errno)
            }
        }
    }

    /// The file of a handle.
    fn file(&self, handle: Handle) -> Result<Arc<OpenFile>, Errno> {
        lock(&self.files).open.get(&handle).cloned().ok_or(Errno::EBADF)
    }

    /// Reads at most `len` bytes at `offset` (`configfs_read_iter`, `configfs_bin_read_iter`); no bytes at the end.
    ///
    /// The first read of an open file fills its buffer, for blobs by making a report if the entry has no fresh one; all
    /// further reads serve that buffer, at whatever offset. A read that fails or finds an empty blob leaves it unfilled.
    ///
    /// # Errors
    /// EBADF if not open for reading; EINVAL for an offset beyond 2^63 - 1; ETXTBSY after a write (binary); ENOENT after
    /// `rmdir`; EFAULT when `len` is 0 though there are bytes. Blobs: EINVAL without an inblob, ENXIO without a provider
    /// (ENOTTY in [`KernelStyle::V6_7`]), EFBIG above [`KernelStyle::outblob_max`], ENOMEM at [`MAX_HELD_BYTES`], and
    /// what the provider says. `provider` and `privlevel_floor`: ENXIO without a provider.
    pub fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.file(handle)?.read(&self.core, &self.budget, offset, len)
    }

    /// Writes at `offset` and says how many bytes were taken (`configfs_write_iter`, `configfs_bin_write_iter`).
    ///
    /// A text attribute stores up to 4095 bytes at once, whatever the offset. A binary attribute only collects, at the
    /// offset; what lies before it is zeros.
    ///
    /// # Errors
    /// EBADF if not open for writing; EINVAL for an offset beyond 2^63 - 1; EFAULT for no bytes. Binary: ETXTBSY after a
    /// read, EFBIG beyond the attribute's size (64 bytes). Text: ENOENT after `rmdir`; EINVAL and ERANGE for wrong texts;
    /// ENXIO without a provider (`privlevel`); EBUSY when the generations would meet.
    pub fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.file(handle)?.write(&self.core, offset, data)
    }

    /// The last close (`configfs_release`, `configfs_release_bin_file`).
    ///
    /// If a binary attribute was written, even in vain, what was collected is stored now; whether that works cannot be
    /// known. An unknown handle is ignored.
    pub fn release(&self, handle: Handle) {
        let file = lock(&self.files).open.remove(&handle);
        if let Some(file) = file {
            file.release(&self.core);
            lock(&self.tree).closed(file.entry.id);
        }
    }

    /// Whether the operation could make a report now or would wait for another that does. What comes in between cannot be
    /// known, so this is advice: on which thread to do it.
    pub fn would_wait(&self, handle: Handle, access: Access) -> bool {
        self.file(handle).is_ok_and(|file| match access {
            Access::Read => file.read_would_wait(&self.core),
            Access::Write => file.write_would_wait(&self.core),
            Access::Release => file.release_would_wait(&self.core),
        })
    }

    /// Whether another `mkdir` or `rmdir` is under way.
    fn report_inode_is_locked(&self) -> bool {
        matches!(self.report_inode.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Whether [`Self::mkdir`] would wait now, as [`Self::would_wait`].
    pub fn mkdir_would_wait(&self) -> bool {
        self.report_inode_is_locked() || self.core.would_wait_to_read()
    }

    /// Whether [`Self::rmdir`] would wait now, as [`Self::would_wait`].
    pub fn rmdir_would_wait(&self, parent: Node, name: &[u8]) -> bool {
        if parent == Node::Report && self.report_inode_is_locked() {
            return true;
        }
        let tree = lock(&self.tree);
        let Ok(Node::Entry(id)) = tree.lookup(parent, name) else {
            return false;
        };
        tree.entry(id).is_ok_and(|entry| entry.kill_would_wait())
    }
}
