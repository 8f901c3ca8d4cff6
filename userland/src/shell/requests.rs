//! FUSE requests.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::{errno::Errno, fcntl::OFlag, unistd::Pid};

use super::{
    device,
    server::{Server, Shared, TTL, Target},
    tree::Entry,
};
use crate::configfs::{Access, Configfs, Handle, NAME_MAX, Node, Operation, SetAttributes};

/// The largest write that the kernel hands over in one piece.
const MAX_WRITE: u32 = 128 * 1024;

/// Inodes are never used again, so one generation of them does.
const GENERATION: Generation = Generation(0);

fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

/// Answers with an entry.
fn reply_entry(shared: &Shared, found: Result<Target, Errno>, reply: ReplyEntry) {
    match found.and_then(|target| shared.attributes(target)) {
        Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_data(read: Result<Vec<u8>, Errno>, reply: ReplyData) {
    match read {
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_written(written: Result<usize, Errno>, reply: ReplyWrite) {
    match written.and_then(|len| u32::try_from(len).map_err(|_| Errno::EIO)) {
        Ok(len) => reply.written(len),
        Err(error) => reply.error(errno(error)),
    }
}

/// A moment that `utimensat` names.
fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Server {
    /// The node of configfs behind an inode; nothing is made or removed in the rest of the tree.
    fn directory(parent: INodeNo) -> Result<Node, Errno> {
        match Target::from_ino(parent)? {
            Target::Configfs(node) => Ok(node),
            Target::Tree(_) => Err(Errno::EPERM),
        }
    }

    /// What an operation is answered that never works.
    fn refusal(&self, parent: INodeNo, how: impl FnOnce(&Configfs, Node) -> Errno) -> fuser::Errno {
        errno(Self::directory(parent).map_or_else(|error| error, |node| how(&self.shared.configfs, node)))
    }

    fn open_target(&self, ino: INodeNo, flags: OpenFlags) -> Result<FileHandle, Errno> {
        match Target::from_ino(ino)? {
            Target::Configfs(node) => {
                self.shared.configfs.open(node, flags.0).map(|handle| FileHandle(handle.number()))
            }
            Target::Tree(number) => match self.shared.entry(number)? {
                // kernfs_fop_open: root too cannot write what has no store method.
                Entry::File(file)
                    if flags.acc_mode() != OpenAccMode::O_RDONLY && file.mode() & 0o222 == 0 =>
                {
                    Err(Errno::EINVAL)
                }
                Entry::File(_) | Entry::Device(..) => Ok(FileHandle(0)),
                Entry::Symlink(_) => Err(Errno::ELOOP),
                Entry::Directory(_) | Entry::Configfs => Err(Errno::EISDIR),
            },
        }
    }

    fn set_attributes(&self, ino: INodeNo, new: &SetAttributes) -> Result<fuser::FileAttr, Errno> {
        match Target::from_ino(ino)? {
            Target::Configfs(node) => {
                let stat = self.shared.configfs.set_attributes(node, new)?;
                Ok(self.shared.configfs_attributes(&stat))
            }
            // Opening with O_TRUNC has no effect, as in sysfs.
            target if new.mode.is_none() && new.uid.is_none() && new.gid.is_none() => {
                self.shared.attributes(target)
            }
            Target::Tree(_) => Err(Errno::EPERM),
        }
    }

    fn read_names(&self, ino: INodeNo, behind: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        for name in self.shared.names(Target::from_ino(ino)?, behind)? {
            if reply.add(name.target.ino(), name.cookie, name.kind, OsStr::from_bytes(&name.name)) {
                break;
            }
        }
        Ok(())
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Kernels without these do with more requests; smaller writes than asked for are granted.
        for capability in [InitFlags::FUSE_ATOMIC_O_TRUNC, InitFlags::FUSE_PARALLEL_DIROPS] {
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_write(MAX_WRITE);
        // The kernel counts RELEASE as background work. Held back, it would be overtaken by the request after it.
        let _ = config.set_max_background(u16::MAX);
        let _ = config.set_congestion_threshold(u16::MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = Target::from_ino(parent).and_then(|parent| self.shared.lookup(parent, name.as_bytes()));
        reply_entry(&self.shared, found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match Target::from_ino(ino).and_then(|target| self.shared.attributes(target)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(moment), mtime.map(moment));
        let new = SetAttributes { mode, uid, gid, size, atime, mtime, ctime };
        match self.set_attributes(ino, &new) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let entry = match Target::from_ino(ino) {
            Ok(Target::Tree(number)) => self.shared.entry(number),
            Ok(Target::Configfs(_)) => Err(Configfs::refuse(Operation::Readlink)),
            Err(error) => Err(error),
        };
        match entry {
            Ok(Entry::Symlink(target)) => reply.data(target.as_os_str().as_bytes()),
            Ok(_) => reply.error(errno(Errno::EINVAL)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.in_order(self.shared.configfs.mkdir_would_wait(), move |shared| {
            let made = Self::directory(parent).and_then(|node| shared.configfs.mkdir(node, &name));
            reply_entry(shared, made.map(Target::Configfs), reply);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        let may_wait =
            Self::directory(parent).is_ok_and(|node| self.shared.configfs.rmdir_would_wait(node, &name));
        self.in_order(may_wait, move |shared| {
            let removed = Self::directory(parent).and_then(|node| shared.remove(node, &name));
            reply_empty(removed, reply);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        self.in_order(false, move |shared| {
            let nodes = Self::directory(parent).and_then(|node| Ok((node, Self::directory(new_parent)?)));
            let renamed =
                nodes.and_then(|(old, new)| shared.configfs.rename(old, &name, new, &new_name, no_replace));
            reply_empty(renamed, reply);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refusal(parent, |configfs, node| configfs.unlink(node, name.as_bytes())));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(self.refusal(parent, |configfs, node| configfs.symlink(node, name.as_bytes())));
    }

    fn link(&self, _: &Request, _: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply.error(self.refusal(parent, |configfs, node| configfs.link(node, name.as_bytes())));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        const S_IFMT: u32 = 0o170_000;
        const S_IFREG: u32 = 0o100_000;
        reply.error(self.refusal(parent, |configfs, node| match mode & S_IFMT {
            0 | S_IFREG => configfs.create(node, name.as_bytes()),
            _ => configfs.mknod(node, name.as_bytes()),
        }));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        // A file system that cannot create files answers EACCES (`lookup_open`).
        let refusal = match Self::directory(parent) {
            Ok(node) => self.shared.configfs.create(node, name.as_bytes()),
            Err(_) => Errno::EACCES,
        };
        reply.error(errno(refusal));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_target(ino, flags) {
            // do_dentry_open: none of these files has direct I/O, which is found once they are open.
            Ok(handle) if flags.0 & OFlag::O_DIRECT.bits() != 0 => {
                if matches!(Target::from_ino(ino), Ok(Target::Configfs(_))) {
                    self.shared.configfs.release(Handle::from_number(handle.0));
                }
                reply.error(fuser::Errno::EINVAL);
            }
            Ok(handle) => {
                reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        match Target::from_ino(ino) {
            Ok(Target::Configfs(_)) => {
                let handle = Handle::from_number(handle.0);
                let may_wait = self.shared.configfs.would_wait(handle, Access::Read);
                self.in_order(may_wait, move |shared| {
                    reply_data(shared.configfs.read(handle, offset, len), reply);
                });
            }
            Ok(Target::Tree(number)) => self.with_driver(move |shared| {
                let read = match shared.entry(number) {
                    Ok(Entry::File(file)) => file.read(offset, len),
                    Ok(_) => Err(Errno::EINVAL),
                    Err(error) => Err(error),
                };
                reply_data(read, reply);
            }),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        match Target::from_ino(ino) {
            Ok(Target::Configfs(_)) => {
                let handle = Handle::from_number(handle.0);
                let may_wait = self.shared.configfs.would_wait(handle, Access::Write);
                self.in_order(may_wait, move |shared| {
                    reply_written(shared.configfs.write(handle, offset, &data), reply);
                });
            }
            Ok(Target::Tree(number)) => self.with_driver(move |shared| {
                let written = match shared.entry(number) {
                    Ok(Entry::File(file)) => file.write(offset, &data),
                    Ok(_) => Err(Errno::EINVAL),
                    Err(error) => Err(error),
                };
                reply_written(written, reply);
            }),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if !matches!(Target::from_ino(ino), Ok(Target::Configfs(_))) {
            reply.ok();
            return;
        }
        let handle = Handle::from_number(handle.0);
        self.in_order(self.shared.configfs.would_wait(handle, Access::Release), move |shared| {
            shared.configfs.release(handle);
            reply.ok();
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The kernel does not ask again.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(errno(Configfs::refuse(Operation::Fsync)));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(errno(Configfs::refuse(Operation::Fsync)));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // configfs_dir_open: what was removed is not opened again.
        match Target::from_ino(ino).and_then(|target| self.shared.attributes(target)) {
            Ok(attr) if attr.nlink > 0 => reply.opened(FileHandle(0), FopenFlags::empty()),
            Ok(_) => reply.error(fuser::Errno::ENOENT),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.read_names(ino, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, u32::try_from(NAME_MAX).unwrap_or(255), 4096);
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        flags: IoctlFlags,
        command: u32,
        argument: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let caller = i32::try_from(request.pid()).map(Pid::from_raw);
        let (Ok(Target::Tree(number)), Ok(caller)) = (Target::from_ino(ino), caller) else {
            reply.error(errno(Configfs::refuse(Operation::Ioctl)));
            return;
        };
        // The drivers have no `compat_ioctl`.
        if flags.contains(IoctlFlags::FUSE_IOCTL_COMPAT) {
            reply.error(fuser::Errno::ENOTTY);
            return;
        }
        let argument = argument.to_vec();
        self.with_driver(move |shared| match device::answer(shared, number, caller, command, argument) {
            Ok((result, argument)) => reply.ioctl(result, &argument),
            Err(error) => reply.error(errno(error)),
        });
    }

    // What follows is answered with ENOSYS: the kernel then does what it does for file systems without the operation, and
    // does not ask again.

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }
}
