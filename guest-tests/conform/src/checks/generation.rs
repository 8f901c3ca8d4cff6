//! `generation/…` and `removed/…`: counting writes, and what is left of an entry after `rmdir`.

use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::{errno::Errno, fcntl::OFlag, sys::stat::fstat, unistd::write};

use crate::{
    check::{Check, REPORT_DATA, SNP},
    context::{nonce, write_all},
    outcome::{equal, gives, ok, refused},
    sys,
};

const SHOW: &str = "tsm_report_generation_show";
const ADVANCE: &str = "try_advance_write_generation";
const DEAD: &str = "configfs_rmdir: frag_dead";

pub(super) const CHECKS: &[Check] = &[
    Check::new("generation/starts-at-zero", "a new entry counts from 0", SHOW, |context| {
        gives("read generation", context.entry()?.read("generation"), b"0\n".to_vec())
    }),
    Check::new("generation/counts-writes", "each write moves it by one", ADVANCE, |context| {
        let entry = context.entry()?;
        for count in 1..=12 {
            entry.inblob(&nonce())?;
            entry.generation_is("after a write", count)?;
        }
        gives("read generation", entry.read("generation"), b"12\n".to_vec())
    }),
    Check::new("generation/reads-do-not-count", "reading anything does not move it", ADVANCE, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        for name in super::open::read_only(context) {
            ok(format!("read {name}"), entry.read(name))?;
            ok(format!("read {name} again"), entry.read(name))?;
        }
        entry.generation_is("after reading everything", 1)
    }),
    Check::new("generation/any-attribute", "writes to all attributes count together", ADVANCE, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        gives("write privlevel", entry.write("privlevel", b"3"), 1)?;
        entry.generation_is("after two attributes", 2)?;
        entry.inblob(&nonce())?;
        entry.generation_is("after a third write", 3)
    })
    .needs(SNP),
    Check::new(
        "generation/race-is-seen",
        "a foreign write between one's own and the report shows",
        SHOW,
        |context| {
            let entry = context.entry()?;
            let (own, foreign) = (nonce(), nonce());
            let before = entry.generation()?;
            entry.inblob(&own)?;
            entry.inblob(&foreign)?;
            entry.carries(context, &foreign)?;
            entry.generation_is("with a foreign write", before + 2)?;
            let before = entry.generation()?;
            entry.inblob(&own)?;
            entry.carries(context, &own)?;
            entry.generation_is("without one", before + 1)
        },
    )
    .needs(REPORT_DATA),
    Check::new(
        "generation/failed-report",
        "a failed report does not move it",
        "tsm_report_read",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&[1; 3])?;
            refused("outblob", entry.read("outblob"), Errno::EINVAL)?;
            entry.generation_is("after the failure", 1)
        },
    )
    .needs(REPORT_DATA),
    Check::new(
        "removed/unread-text",
        "text that was not read before is gone",
        "fill_read_buffer",
        |context| {
            let entry = context.entry()?;
            let fds = [entry.reader("generation")?, entry.reader("provider")?];
            entry.remove()?;
            for fd in &fds {
                refused("read", sys::read(fd, 64), Errno::ENOENT)?;
                refused("read again", sys::read(fd, 64), Errno::ENOENT)?;
            }
            Ok(())
        },
    ),
    Check::new(
        "removed/read-text",
        "text that was read before stays in the open file",
        "configfs_read_iter",
        |context| {
            let entry = context.entry()?;
            let fd = entry.reader("generation")?;
            gives("read", sys::pread(&fd, 64, 0), b"0\n".to_vec())?;
            entry.remove()?;
            gives("read after rmdir", sys::pread(&fd, 64, 0), b"0\n".to_vec())
        },
    ),
    Check::new(
        "removed/unread-blob",
        "a blob that was not read before is gone",
        "configfs_bin_read_iter",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            ok("read outblob", entry.read("outblob"))?;
            let fd = entry.reader("outblob")?;
            entry.remove()?;
            refused("read", sys::read(&fd, 64), Errno::ENOENT)?;
            refused("read again", sys::read(&fd, 64), Errno::ENOENT)
        },
    ),
    Check::new(
        "removed/read-blob",
        "a blob that was read before stays in the open file",
        "configfs_bin_read_iter",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let whole = entry.outblob()?;
            let fd = entry.reader("outblob")?;
            gives("read the start", sys::read(&fd, 100), whole.get(..100).unwrap_or_default().to_vec())?;
            entry.remove()?;
            let rest = ok("read the rest after rmdir", sys::read_pieces(&fd, 4096))?;
            equal("the rest is the same", Some(rest.as_slice()) == whole.get(100..), true)
        },
    ),
    Check::new("removed/text-write", "text is not stored any more", "flush_write_buffer", |context| {
        let entry = context.entry()?;
        let fd = entry.writer("privlevel")?;
        gives("write", write(&fd, b"3"), 1)?;
        entry.remove()?;
        refused("write after rmdir", write(&fd, b"3"), Errno::ENOENT)?;
        refused("nonsense after rmdir", write(&fd, b"nonsense"), Errno::ENOENT)
    })
    .needs(SNP),
    Check::new(
        "removed/blob-write",
        "a blob is still taken, and dropped at close",
        "configfs_release_bin_file",
        |context| {
            let entry = context.entry()?;
            let fd = entry.writer("inblob")?;
            write_all("half of inblob", fd.as_fd(), &[1; 32])?;
            entry.remove()?;
            write_all("the other half after rmdir", fd.as_fd(), &[2; 32])?;
            refused("one byte more", write(&fd, b"x"), Errno::EFBIG)?;
            let again = context.named(entry.path.file_name().unwrap_or_default())?;
            drop(fd);
            again.generation_is("of the new entry of that name", 0)
        },
    ),
    Check::new("removed/made-again", "open files of the old entry do not see the new one", DEAD, |context| {
        let entry = context.entry()?;
        let fd = entry.reader("generation")?;
        entry.remove()?;
        let again = context.named(entry.path.file_name().unwrap_or_default())?;
        refused("read of the old entry", sys::read(&fd, 64), Errno::ENOENT)?;
        gives("read of the new entry", again.read("generation"), b"0\n".to_vec())
    }),
    Check::new(
        "removed/opened-again",
        "an attribute of a removed entry is not opened again",
        "__configfs_open_file",
        |context| {
            let entry = context.entry()?;
            let fd = entry.reader("generation")?;
            entry.remove()?;
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            refused("open through /proc", sys::open(path.as_ref(), OFlag::O_RDONLY), Errno::ENOENT)
        },
    ),
    Check::new(
        "removed/open-directory",
        "an open directory is empty of everything",
        "iterate_dir, configfs_dir_open",
        |context| {
            let entry = context.entry()?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let dir = ok("open the entry", sys::open(&entry.path, flags))?;
            ok("openat generation", sys::openat(dir.as_fd(), "generation", OFlag::O_RDONLY))?;
            entry.remove()?;
            let found = sys::openat(dir.as_fd(), "generation", OFlag::O_RDONLY);
            refused("openat after rmdir", found, Errno::ENOENT)?;
            refused("list after rmdir", sys::entries_of(dir).map(|_| ()), Errno::ENOENT)
        },
    ),
    Check::new(
        "removed/stat",
        "what is open has a status still, with no link left",
        "simple_rmdir",
        |context| {
            let entry = context.entry()?;
            let dir = ok("open the entry", sys::open(&entry.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
            let fd = entry.reader("generation")?;
            let before = ok("fstat of the entry", fstat(&dir))?.st_ino;
            entry.remove()?;
            let stat = ok("fstat of the entry after rmdir", fstat(&dir))?;
            equal(
                "inode number and links of the entry",
                (stat.st_ino, i128::from(stat.st_nlink)),
                (before, 0),
            )?;
            let stat = ok("fstat of generation after rmdir", fstat(&fd))?;
            equal("links and size of generation", (i128::from(stat.st_nlink), stat.st_size), (0, 4096))
        },
    ),
    Check::new(
        "removed/opened-through-itself",
        "a removed entry is not opened again",
        "configfs_dir_open",
        |context| {
            let entry = context.entry()?;
            let dir = ok("open the entry", sys::open(&entry.path, OFlag::O_PATH | OFlag::O_DIRECTORY))?;
            entry.remove()?;
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let again = sys::open(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
            refused("open of the directory", again, Errno::ENOENT)
        },
    ),
    Check::new(
        "removed/current-directory",
        "an entry can be removed from within",
        "configfs_rmdir",
        |context| {
            let entry = context.entry()?;
            ok("chdir", nix::unistd::chdir(&entry.path))?;
            entry.remove()?;
            refused("open from within", sys::open("generation".as_ref(), OFlag::O_RDONLY), Errno::ENOENT)?;
            refused("getcwd", nix::unistd::getcwd().map(|_| ()), Errno::ENOENT)?;
            ok("chdir /", nix::unistd::chdir("/"))
        },
    ),
    Check::new("removed/others-go-on", "other entries do not notice", "configfs_rmdir", |context| {
        let (one, other) = (context.entry()?, context.entry()?);
        other.inblob(&nonce())?;
        let before = other.outblob()?;
        one.inblob(&nonce())?;
        one.remove()?;
        other.generation_is("of the other entry", 1)?;
        equal("outblob of the other entry is the same", other.outblob()? == before, true)
    }),
];
