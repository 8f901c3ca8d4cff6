//! Open attributes: `fs/configfs/file.c`.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::core::{Core, Report, lock};
use super::limits::{Budget, Charge};
use super::node::{Description, EntryId};
use crate::provider::Attribute;

/// The most that one write of a text attribute takes, in bytes: `SIMPLE_ATTR_SIZE - 1`.
const SIMPLE_ATTR_MAX: usize = 4095;

/// An entry, shared by the tree and the open files.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) name: Vec<u8>,
    /// The attributes that configfs made for it, in the order in which it made them.
    pub(super) attributes: Vec<Attribute>,
    /// `frag_dead` under `frag_sem`: held for reading while a method of the entry runs, so `rmdir` waits for that.
    dead: RwLock<bool>,
    report: Mutex<Report>,
}

impl Entry {
    /// A new entry, of which nothing is written yet.
    pub(super) fn new(id: EntryId, name: Vec<u8>, attributes: Vec<Attribute>) -> Self {
        Self { id, name, attributes, dead: RwLock::new(false), report: Mutex::default() }
    }

    /// `frag_dead = true`: waits for the methods that run now; none runs afterwards.
    pub(super) fn kill(&self) {
        *self.dead.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether [`Self::kill`] would wait now.
    pub(super) fn kill_would_wait(&self) -> bool {
        matches!(self.dead.try_write(), Err(TryLockError::WouldBlock))
    }

    /// Holds off `rmdir`, or says that it has been.
    fn alive(&self) -> Result<RwLockReadGuard<'_, bool>, Errno> {
        let dead = self.dead.read().unwrap_or_else(PoisonError::into_inner);
        if *dead { Err(Errno::ENOENT) } else { Ok(dead) }
    }
}

/// An open attribute.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) entry: Arc<Entry>,
    attribute: Attribute,
    readable: bool,
    writable: bool,
    buffer: Mutex<Buffer>,
}

/// `struct configfs_buffer`.
#[derive(Debug, Default)]
struct Buffer {
    /// Not `needs_read_fill`: `data` is what reads serve.
    filled: bool,
    read_in_progress: bool,
    write_in_progress: bool,
    data: Vec<u8>,
    charge: Option<Charge>,
}

impl Buffer {
    /// Serves a read. To read nothing where something is there is EFAULT, as `copy_to_iter` copied nothing.
    fn serve(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.data.get(offset..)).unwrap_or_default();
        match (rest.len(), len) {
            (0, _) => Ok(Vec::new()),
            (_, 0) => Err(Errno::EFAULT),
            (have, want) => Ok(rest[..have.min(want)].to_vec()),
        }
    }

    /// `configfs_bin_write_iter`: collects what is written; a hole is filled with zeros.
    fn collect(&mut self, offset: u64, data: &[u8], max_size: usize) -> Result<usize, Errno> {
        if self.read_in_progress {
            return Err(Errno::ETXTBSY);
        }
        self.write_in_progress = true;
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = start.checked_add(data.len()).ok_or(Errno::EFBIG)?;
        if end > self.data.len() {
            if end > max_size {
                return Err(Errno::EFBIG);
            }
            self.data.resize(end, 0);
        }
        if data.is_empty() {
            return Err(Errno::EFAULT);
        }
        self.data[start..end].copy_from_slice(data);
        Ok(data.len())
    }
}

/// `rw_verify_area`: positions are signed 64-bit numbers.
fn verify_area(offset: u64, len: usize) -> Result<(), Errno> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    match end {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl OpenFile {
    /// `__configfs_open_file`, for an attribute with the permission bits `mode`.
    ///
    /// EACCES when it is to be written and either nobody may write or it has no `store`, and likewise for reading. So
    /// the superuser is refused too.
    pub(super) fn new(entry: Arc<Entry>, attribute: Attribute, mode: u32, flags: i32) -> Result<Self, Errno> {
        let access = OFlag::from_bits_retain(flags & OFlag::O_ACCMODE.bits());
        let readable = access == OFlag::O_RDONLY || access == OFlag::O_RDWR;
        let writable = access == OFlag::O_WRONLY || access == OFlag::O_RDWR;
        let written = Description::of(attribute).written;
        if (writable && (mode & 0o222 == 0 || !written)) || (readable && (mode & 0o444 == 0 || written)) {
            return Err(Errno::EACCES);
        }
        Ok(Self { entry, attribute, readable, writable, buffer: Mutex::default() })
    }

    /// `vfs_read`, then `configfs_read_iter` or `configfs_bin_read_iter`.
    pub(super) fn read(
        &self,
        core: &Core,
        budget: &Arc<Budget>,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Errno> {
        if !self.readable {
            return Err(Errno::EBADF);
        }
        verify_area(offset, len)?;
        let mut buffer = lock(&self.buffer);
        let binary = Description::of(self.attribute).binary;
        if binary && buffer.write_in_progress {
            return Err(Errno::ETXTBSY);
        }
        buffer.read_in_progress = true;
        if !buffer.filled {
            let (data, charge) = if binary {
                match self.fill_binary(core, budget)? {
                    Some(filled) => filled,
                    None => return Ok(Vec::new()),
                }
            } else {
                let _alive = self.entry.alive()?;
                let text = core.show(&self.entry.report, self.attribute)?;
                let charge = budget.charge(text.len())?;
                (text, charge)
            };
            buffer.data = data;
            buffer.charge = Some(charge);
            buffer.filled = true;
        }
        buffer.serve(offset, len)
    }

    /// The two calls of a binary attribute's `read`: one for the size, one for the bytes; `None` if the size is 0.
    ///
    /// Between them the report may change: a longer one is then cut, a shorter one is followed by zeros (Linux leaves
    /// there what the memory held before).
    fn fill_binary(&self, core: &Core, budget: &Arc<Budget>) -> Result<Option<(Vec<u8>, Charge)>, Errno> {
        let size = {
            let _alive = self.entry.alive()?;
            core.read_blob(&self.entry.report, self.attribute, <[u8]>::len)?
        };
        if size == 0 {
            return Ok(None);
        }
        if size > Description::of(self.attribute).max_size(core.style().outblob_max()) {
            return Err(Errno::EFBIG);
        }
        let charge = budget.charge(size)?;
        let mut data = vec![0; size];
        let _alive = self.entry.alive()?;
        core.read_blob(&self.entry.report, self.attribute, |blob| {
            let common = blob.len().min(size);
            data[..common].copy_from_slice(&blob[..common]);
        })?;
        Ok(Some((data, charge)))
    }

    /// `vfs_write`, then `configfs_write_iter` or `configfs_bin_write_iter`.
    pub(super) fn write(&self, core: &Core, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        if !self.writable {
            return Err(Errno::EBADF);
        }
        verify_area(offset, data.len())?;
        let mut buffer = lock(&self.buffer);
        let description = Description::of(self.attribute);
        if description.binary {
            return buffer.collect(offset, data, description.max_size(core.style().outblob_max()));
        }
        // Text is stored at once, whatever the offset, and what does not fit into a page is left to the next write.
        let data = &data[..data.len().min(SIMPLE_ATTR_MAX)];
        buffer.filled = false;
        if data.is_empty() {
            return Err(Errno::EFAULT);
        }
        let _alive = self.entry.alive()?;
        core.store(&self.entry.report, self.attribute, data)?;
        Ok(data.len())
    }

    /// `configfs_release_bin_file`: what was collected goes to the attribute, unless the entry was removed; what the
    /// attribute says to it is lost. Any write begins the collection, also one of nothing and one that was refused.
    pub(super) fn release(&self, core: &Core) {
        let buffer = lock(&self.buffer);
        if !buffer.write_in_progress {
            return;
        }
        if let Ok(_alive) = self.entry.alive()
            && let Err(errno) = core.store(&self.entry.report, self.attribute, &buffer.data)
        {
            tracing::debug!(%errno, attribute = ?self.attribute, "the result of the last close is lost");
        }
    }

    /// Whether a read would make a report now, or wait.
    pub(super) fn read_would_wait(&self, core: &Core) -> bool {
        let buffer = match self.buffer.try_lock() {
            Ok(buffer) => buffer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        if !self.readable || buffer.filled || buffer.write_in_progress {
            return false;
        }
        if Description::of(self.attribute).binary {
            core.would_wait_for_blob(&self.entry.report)
        } else {
            core.would_wait_to_read()
        }
    }

    /// Whether a write would wait now. Binary attributes are only collected.
    pub(super) fn write_would_wait(&self, core: &Core) -> bool {
        self.writable && !Description::of(self.attribute).binary && core.would_wait_to_write()
    }

    /// Whether the release would wait now.
    pub(super) fn release_would_wait(&self, core: &Core) -> bool {
        match self.buffer.try_lock() {
            Ok(buffer) => buffer.write_in_progress && core.would_wait_to_write(),
            Err(TryLockError::Poisoned(_)) => core.would_wait_to_write(),
            Err(TryLockError::WouldBlock) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No attribute of `tsm` has both methods, so only a buffer by itself can show this rule.
    #[test]
    fn reading_and_writing_through_one_open_file_do_not_mix() {
        let mut buffer = Buffer { read_in_progress: true, ..Buffer::default() };
        assert_eq!(buffer.collect(0, b"x", 64), Err(Errno::ETXTBSY));
        assert!(!buffer.write_in_progress);
        buffer.read_in_progress = false;
        assert_eq!(buffer.collect(0, b"x", 64), Ok(1));
    }
}
