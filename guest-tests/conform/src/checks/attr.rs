//! `attr/…`: owner, mode and times of attributes, reading text, and system calls that configfs does not offer.

use std::os::fd::AsFd as _;

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat},
        time::TimeSpec,
    },
    unistd::{AccessFlags, Gid, Uid, Whence, lseek},
};

use super::open::{read_only, write_only};
use crate::{
    check::{Check, ROOT},
    context::nonce,
    outcome::{equal, gives, holds, ok, refused, skipped},
    sys,
};

/// Why some checks are left out on FUSE: what its own kernel part answers without asking the server.
const EMPTY_READ: &str = "fuse_direct_io answers an empty read itself, with 0";
const PRIVATE_MAP: &str = "fuse_file_mmap allows private mappings of files with direct I/O";
const EPOLL: &str = "every FUSE file has a poll operation, so epoll takes it";
const SEEK: &str = "a FUSE file that takes pread also takes lseek (nonseekable_open refuses both)";
const SPLICE: &str = "FUSE files have a splice_read operation";
const SETATTR: &str = "configfs_setattr, simple_setattr";

pub(super) const CHECKS: &[Check] = &[
    Check::new("attr/chmod", "a new mode stays", SETATTR, |context| {
        let entry = context.entry()?;
        for (name, mode) in [("generation", 0o640), ("inblob", 0o622), ("", 0o711)] {
            let path = if name.is_empty() { entry.path.clone() } else { entry.at(name) };
            let bits = Mode::from_bits_truncate(mode);
            ok(format!("chmod of {name:?}"), fchmodat(AT_FDCWD, &path, bits, FchmodatFlags::FollowSymlink))?;
            let stat = ok("stat", sys::lstat(&path))?;
            equal(format!("mode of {name:?}"), format!("{:o}", stat.st_mode & 0o7777), format!("{mode:o}"))?;
        }
        entry.generation_is("after chmod", 0)
    }),
    Check::new("attr/chown", "a new owner stays", SETATTR, |context| {
        let entry = context.entry()?;
        for path in [entry.at("generation"), entry.at("inblob"), entry.path.clone()] {
            let changed = nix::unistd::chown(&path, Some(Uid::from_raw(1)), Some(Gid::from_raw(2)));
            if changed == Err(Errno::EINVAL) {
                return skipped("this user namespace has no other users");
            }
            ok("chown", changed)?;
            let stat = ok("stat", sys::lstat(&path))?;
            equal(format!("owner of {}", path.display()), (stat.st_uid, stat.st_gid), (1, 2))?;
        }
        Ok(())
    })
    .needs(ROOT),
    Check::new("attr/utimes", "new times stay", SETATTR, |context| {
        let entry = context.entry()?;
        for path in [entry.at("inblob"), entry.at("outblob"), entry.path.clone()] {
            let (access, change) = (TimeSpec::new(1_234_567, 0), TimeSpec::new(7_654_321, 0));
            let changed = utimensat(AT_FDCWD, &path, &access, &change, UtimensatFlags::FollowSymlink);
            ok("utimensat", changed)?;
            let stat = ok("stat", sys::lstat(&path))?;
            equal(
                format!("times of {}", path.display()),
                (stat.st_atime, stat.st_mtime),
                (1_234_567, 7_654_321),
            )?;
        }
        Ok(())
    }),
    Check::new("attr/truncate", "truncation works and does nothing", SETATTR, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        for name in write_only(context) {
            ok(format!("truncate {name} to nothing"), nix::unistd::truncate(&entry.at(name), 0))?;
            ok(format!("truncate {name} to 100 bytes"), nix::unistd::truncate(&entry.at(name), 100))?;
            let fd = entry.writer(name)?;
            ok(format!("ftruncate {name}"), nix::unistd::ftruncate(&fd, 10))?;
        }
        entry.generation_is("after truncation", 1)?;
        ok("read outblob, whose inblob is still there", entry.read("outblob"))?;
        Ok(())
    }),
    Check::new(
        "attr/truncate-refused",
        "what is open for reading is not truncated",
        "do_sys_ftruncate",
        |context| {
            let entry = context.entry()?;
            refused(
                "ftruncate of outblob",
                nix::unistd::ftruncate(entry.reader("outblob")?, 0),
                Errno::EINVAL,
            )?;
            refused(
                "truncate to less than nothing",
                nix::unistd::truncate(&entry.at("inblob"), -1),
                Errno::EINVAL,
            )
        },
    ),
    Check::new(
        "attr/not-executable",
        "attributes are not executed, by root neither",
        "generic_permission",
        |context| {
            let entry = context.entry()?;
            for name in read_only(context) {
                let may = nix::unistd::access(&entry.at(name), AccessFlags::X_OK);
                refused(format!("access of {name} for executing"), may, Errno::EACCES)?;
                ok(format!("access of {name}"), nix::unistd::access(&entry.at(name), AccessFlags::F_OK))?;
            }
            Ok(())
        },
    ),
    Check::new("attr/mmap-shared", "attributes are not mapped", "do_mmap: no mmap", |context| {
        let entry = context.entry()?;
        for name in read_only(context) {
            let fd = entry.reader(name)?;
            refused(format!("shared mapping of {name}"), sys::mmap(&fd, libc::MAP_SHARED), Errno::ENODEV)?;
        }
        Ok(())
    }),
    Check::new(
        "attr/mmap-private",
        "attributes are not mapped privately either",
        "do_mmap: no mmap",
        |context| {
            let entry = context.entry()?;
            let fd = entry.reader("outblob")?;
            refused("private mapping of outblob", sys::mmap(&fd, libc::MAP_PRIVATE), Errno::ENODEV)
        },
    )
    .not_on_fuse(PRIVATE_MAP),
    Check::new("attr/poll", "attributes are always ready", "vfs_poll: DEFAULT_POLLMASK", |context| {
        let entry = context.entry()?;
        for fd in [entry.reader("generation")?, entry.reader("outblob")?, entry.writer("inblob")?] {
            let all = PollFlags::POLLIN | PollFlags::POLLOUT;
            let mut polled = [PollFd::new(fd.as_fd(), all | PollFlags::POLLPRI)];
            gives("poll", poll(&mut polled, PollTimeout::ZERO), 1)?;
            equal("events", polled[0].revents(), Some(all))?;
        }
        Ok(())
    }),
    Check::new("attr/epoll", "attributes are not for epoll", "do_epoll_ctl: file_can_poll", |context| {
        let entry = context.entry()?;
        let epoll = ok("epoll_create", Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC))?;
        let added = epoll.add(entry.reader("outblob")?, EpollEvent::new(EpollFlags::EPOLLIN, 0));
        refused("epoll_ctl", added, Errno::EPERM)
    })
    .not_on_fuse(EPOLL),
    Check::new("attr/fsync", "attributes have no fsync", "vfs_fsync_range", |context| {
        let entry = context.entry()?;
        for fd in [entry.reader("generation")?, entry.reader("outblob")?, entry.writer("inblob")?] {
            refused("fsync", nix::unistd::fsync(&fd), Errno::EINVAL)?;
            refused("fdatasync", nix::unistd::fdatasync(&fd), Errno::EINVAL)?;
        }
        Ok(())
    }),
    Check::new(
        "attr/flock",
        "attributes can be locked, as libtdx_attest does",
        "flock_lock_inode",
        |context| {
            let entry = context.entry()?;
            let (one, other) = (entry.writer("inblob")?, entry.writer("inblob")?);
            ok("lock", sys::flock(&one, libc::LOCK_EX | libc::LOCK_NB))?;
            refused("a second lock", sys::flock(&other, libc::LOCK_EX | libc::LOCK_NB), Errno::EWOULDBLOCK)?;
            gives("write while locked", nix::unistd::write(&one, &nonce()), 64)?;
            ok("unlock", sys::flock(&one, libc::LOCK_UN))?;
            ok("the second lock after that", sys::flock(&other, libc::LOCK_EX | libc::LOCK_NB))?;
            drop(one);
            entry.generation_is("after the locked write", 1)
        },
    ),
    Check::new("attr/fcntl-lock", "attributes take record locks", "fcntl_setlk", |context| {
        let entry = context.entry()?;
        ok("lock the whole of inblob", sys::lock_range(entry.writer("inblob")?))?;
        Ok(())
    }),
    Check::new("attr/ioctl", "attributes have no ioctls", "vfs_ioctl", |context| {
        let entry = context.entry()?;
        for request in [0x5401_u32, 0xc020_5300, 0x0000_5390] {
            let zeros = [0_u8; 64];
            let asked = sys::ioctl(entry.reader("outblob")?, request, zeros.as_ptr().addr());
            refused(format!("ioctl {request:#x}"), asked, Errno::ENOTTY)?;
        }
        Ok(())
    }),
    Check::new("attr/fallocate", "attributes have no fallocate", "vfs_fallocate", |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        let allocated = nix::fcntl::fallocate(&fd, FallocateFlags::empty(), 0, 64);
        refused("fallocate", allocated, Errno::EOPNOTSUPP)
    }),
    Check::new("attr/xattr", "attributes have no extended attributes", "xattr_resolve_name", |context| {
        let entry = context.entry()?;
        refused("setxattr on inblob", sys::setxattr(&entry.at("inblob"), "user.x"), Errno::EOPNOTSUPP)?;
        refused("setxattr on the entry", sys::setxattr(&entry.path, "user.x"), Errno::EOPNOTSUPP)
    }),
    Check::new("attr/sendfile", "attributes are not spliced", "do_splice_read: no splice_read", |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let (_read, write) = ok("pipe", nix::unistd::pipe())?;
        let sent = sys::sendfile(&write, entry.reader("outblob")?);
        refused("sendfile from outblob", sent, Errno::EINVAL)
    })
    .not_on_fuse(SPLICE),
    Check::new(
        "attr/seek-binary",
        "binary attributes are not seekable",
        "configfs_bin_file_operations",
        |context| {
            let entry = context.entry()?;
            refused("lseek of outblob", lseek(entry.reader("outblob")?, 0, Whence::SeekSet), Errno::ESPIPE)?;
            refused("lseek of inblob", lseek(entry.writer("inblob")?, 0, Whence::SeekCur), Errno::ESPIPE)
        },
    )
    .not_on_fuse(SEEK),
    Check::new(
        "attr/seek-text",
        "text attributes are seekable within a page",
        "generic_file_llseek",
        |context| {
            let entry = context.entry()?;
            let fd = entry.reader("provider")?;
            let whole = ok("read", sys::read_pieces(&fd, 64))?;
            gives("seek to 4", lseek(&fd, 4, Whence::SeekSet), 4)?;
            gives("read from 4", sys::read(&fd, 64), whole.get(4..).unwrap_or_default().to_vec())?;
            gives("seek to the end", lseek(&fd, 0, Whence::SeekEnd), 4096)?;
            gives("read at the end", sys::read(&fd, 64), Vec::new())?;
            refused("seek before the start", lseek(&fd, -1, Whence::SeekSet), Errno::EINVAL)
        },
    ),
    Check::new("attr/small-reads", "text is read in pieces of any size", "configfs_read_iter", |context| {
        let entry = context.entry()?;
        for name in ["provider", "generation"] {
            let whole = ok("read at once", entry.read(name))?;
            for piece in [1, 2, 3, 7] {
                gives(
                    format!("{name} by {piece}"),
                    sys::read_pieces(entry.reader(name)?, piece),
                    whole.clone(),
                )?;
            }
        }
        Ok(())
    }),
    Check::new("attr/pread", "text is read at any offset", "configfs_read_iter", |context| {
        let entry = context.entry()?;
        let fd = entry.reader("provider")?;
        let whole = ok("read at once", entry.read("provider"))?;
        for offset in [5_usize, 0, 9, 3] {
            let expected = whole.get(offset..(offset + 4).min(whole.len())).unwrap_or_default();
            let at = i64::try_from(offset).unwrap_or(0);
            gives(format!("4 bytes at {offset}"), sys::pread(&fd, 4, at), expected.to_vec())?;
        }
        gives("beyond the end", sys::pread(&fd, 4, 100), Vec::new())?;
        gives("far beyond the end", sys::pread(&fd, 4, 1 << 30), Vec::new())?;
        refused("before the start", sys::pread(&fd, 4, -1), Errno::EINVAL)
    }),
    Check::new("attr/read-after-end", "after the end comes the end", "configfs_read_iter", |context| {
        let entry = context.entry()?;
        let fd = entry.reader("provider")?;
        ok("read", sys::read_pieces(&fd, 64))?;
        gives("read at the end", sys::read(&fd, 64), Vec::new())?;
        gives("read at the end again", sys::read(&fd, 64), Vec::new())
    }),
    Check::new(
        "attr/text-is-kept",
        "an open file keeps the text that it read first",
        "fill_read_buffer",
        |context| {
            let entry = context.entry()?;
            let (early, unread) = (entry.reader("generation")?, entry.reader("generation")?);
            gives("read", sys::pread(&early, 64, 0), b"0\n".to_vec())?;
            entry.inblob(&nonce())?;
            gives("read again", sys::pread(&early, 64, 0), b"0\n".to_vec())?;
            gives("first read of another", sys::pread(&unread, 64, 0), b"1\n".to_vec())?;
            entry.generation_is("of a new open file", 1)
        },
    ),
    Check::new(
        "attr/read-to-nowhere",
        "a bad buffer is refused and nothing is lost",
        "configfs_read_iter",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            for name in ["generation", "outblob"] {
                let fd = entry.reader(name)?;
                refused(format!("read of {name}"), sys::read_to_nowhere(&fd, 64), Errno::EFAULT)?;
                let rest = ok("read after that", sys::read_pieces(&fd, 65_536))?;
                equal("what is read after that", rest, ok("read", entry.read(name))?)?;
            }
            Ok(())
        },
    ),
    Check::new(
        "attr/read-nothing",
        "an empty read before the end is a fault",
        "configfs_read_iter",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            refused("empty read of generation", sys::read(entry.reader("generation")?, 0), Errno::EFAULT)?;
            refused("empty read of outblob", sys::read(entry.reader("outblob")?, 0), Errno::EFAULT)
        },
    )
    .not_on_fuse(EMPTY_READ),
    Check::new(
        "attr/stat-while-open",
        "an open attribute looks as it does closed",
        "configfs_lookup",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let fd = entry.reader("outblob")?;
            let blob = ok("read outblob", sys::read_pieces(&fd, 65_536))?;
            holds(!blob.is_empty(), "outblob", "some bytes", "none")?;
            equal("size of outblob after reading", ok("fstat", nix::sys::stat::fstat(&fd))?.st_size, 0)
        },
    ),
    Check::new(
        "attr/inode-while-open",
        "an open attribute keeps its inode number",
        "configfs_readdir",
        |context| {
            let entry = context.entry()?;
            let fd = ok("open", entry.open("generation", OFlag::O_RDONLY))?;
            let number = ok("fstat", nix::sys::stat::fstat(&fd))?.st_ino;
            equal("inode number by path", ok("stat", sys::lstat(&entry.at("generation")))?.st_ino, number)?;
            let followed =
                nix::sys::stat::fstatat(AT_FDCWD, &entry.at("generation"), AtFlags::AT_SYMLINK_NOFOLLOW);
            equal("inode number by fstatat", ok("fstatat", followed)?.st_ino, number)
        },
    ),
];
