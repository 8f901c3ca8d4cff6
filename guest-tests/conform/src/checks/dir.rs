//! `dir/…`: making and removing entries, and everything else that directories refuse.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag},
    sys::stat::{Mode, SFlag},
};

use crate::{
    check::{Check, ROOT, SLOW, TREE},
    context::Context,
    outcome::{Outcome, equal, holds, ok, refused},
    sys::{self, Type},
};

pub(super) const CHECKS: &[Check] = &[
    Check::new("dir/mkdir-twice", "a name that is taken is refused", "configfs_dirent_exists", |context| {
        let entry = context.entry()?;
        refused("a second mkdir", sys::mkdir(&entry.path), Errno::EEXIST)
    }),
    Check::new("dir/rmdir-missing", "what is not there cannot be removed", "do_rmdir", |context| {
        refused("rmdir", sys::rmdir(&context.report.join(context.fresh(b""))), Errno::ENOENT)
    }),
    Check::new("dir/rmdir-twice", "an entry is removed once", "configfs_rmdir", |context| {
        let entry = context.entry()?;
        entry.remove()?;
        refused("a second rmdir", entry.rmdir(), Errno::ENOENT)
    }),
    Check::new("dir/rmdir-dot", "`.` and `..` are not removed", "do_rmdir", |context| {
        let entry = context.entry()?;
        refused("rmdir entry/.", sys::rmdir(&slashed(&entry.path, ".")), Errno::EINVAL)?;
        refused("rmdir entry/..", sys::rmdir(&slashed(&entry.path, "..")), Errno::ENOTEMPTY)
    }),
    Check::new(
        "dir/rmdir-with-attributes",
        "attributes do not keep an entry",
        "configfs_detach_prep",
        |context| {
            let entry = context.entry()?;
            ok("write inblob", entry.write("inblob", &[1; 64]))?;
            ok("rmdir", sys::rmdir(&entry.path))
        },
    ),
    Check::new("dir/rmdir-attribute", "an attribute is no directory", "may_delete", |context| {
        let entry = context.entry()?;
        refused("rmdir of inblob", sys::rmdir(&entry.at("inblob")), Errno::ENOTDIR)
    }),
    Check::new("dir/unlink-entry", "a directory is not unlinked", "may_delete", |context| {
        let entry = context.entry()?;
        refused("unlink", nix::unistd::unlink(&entry.path), Errno::EISDIR)
    }),
    Check::new("dir/unlink-attribute", "attributes cannot be removed", "configfs_unlink", |context| {
        let entry = context.entry()?;
        for (name, _) in ok("list the attributes", sys::names(&entry.path))? {
            let what = format!("unlink of {}", name.display());
            refused(what, nix::unistd::unlink(&entry.path.join(&name)), Errno::EPERM)?;
        }
        refused("unlink of what is not there", nix::unistd::unlink(&entry.at("no-such")), Errno::ENOENT)
    }),
    Check::new(
        "dir/mkdir-in-entry",
        "an entry is no group",
        "configfs_mkdir: no CONFIGFS_USET_DIR",
        |context| {
            let entry = context.entry()?;
            refused("mkdir in an entry", sys::mkdir(&entry.at("sub")), Errno::EPERM)?;
            refused("mkdir with an attribute's name", sys::mkdir(&entry.at("inblob")), Errno::EEXIST)?;
            refused("mkdir under an attribute", sys::mkdir(&entry.at("inblob/sub")), Errno::ENOTDIR)
        },
    ),
    Check::new(
        "dir/mkdir-in-tsm",
        "the group tsm makes no items",
        "configfs_mkdir: no make_item",
        |context| {
            let path = context.report.join("..").join(context.fresh(b""));
            refused("mkdir in tsm", sys::mkdir(&path), Errno::EPERM)
        },
    )
    .needs(TREE),
    Check::new("dir/mkdir-in-root", "the root of configfs has no mkdir", "vfs_mkdir", |context| {
        let path = context.report.join("../..").join(context.fresh(b""));
        refused("mkdir in configfs", sys::mkdir(&path), Errno::EPERM)
    })
    .needs(TREE),
    Check::new(
        "dir/rmdir-report",
        "a default group stays",
        "configfs_rmdir: CONFIGFS_USET_DEFAULT",
        |context| {
            let _entry = context.entry()?;
            refused("rmdir of report", sys::rmdir(&context.report), Errno::EPERM)
        },
    )
    .needs(TREE),
    Check::new("dir/rmdir-tsm", "the root of configfs has no rmdir", "vfs_rmdir", |context| {
        let _entry = context.entry()?;
        let Some(tsm) = context.report.parent() else { return Ok(()) };
        refused("rmdir of tsm", sys::rmdir(tsm), Errno::EPERM)
    })
    .needs(TREE),
    Check::new("dir/create-file", "no file can be created", "lookup_open: no create", |context| {
        let entry = context.entry()?;
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        for path in [entry.at("new"), context.report.join(context.fresh(b".file"))] {
            refused("open with O_CREAT", sys::open(&path, flags), Errno::EACCES)?;
            refused("stat of what was refused", sys::lstat(&path).map(|_| ()), Errno::ENOENT)?;
        }
        Ok(())
    }),
    Check::new("dir/temporary-file", "no unnamed file can be created", "vfs_tmpfile", |context| {
        let entry = context.entry()?;
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY;
        refused("open with O_TMPFILE in an entry", sys::open(&entry.path, flags), Errno::EOPNOTSUPP)?;
        refused("open with O_TMPFILE in report", sys::open(&context.report, flags), Errno::EOPNOTSUPP)
    }),
    Check::new("dir/mknod", "no node can be made", "vfs_create, vfs_mknod", |context| {
        let entry = context.entry()?;
        let mode = Mode::from_bits_truncate(0o644);
        let make = |kind| nix::sys::stat::mknod(&entry.at("node"), kind, mode, 0);
        refused("mknod of a regular file", make(SFlag::S_IFREG), Errno::EACCES)?;
        refused("mknod of a FIFO", make(SFlag::S_IFIFO), Errno::EPERM)?;
        refused("mknod of a socket", make(SFlag::S_IFSOCK), Errno::EPERM)
    }),
    Check::new("dir/symlink", "items here allow no links", "configfs_symlink: no allow_link", |context| {
        let entry = context.entry()?;
        let link = |at: &Path| nix::unistd::symlinkat(&entry.path, AT_FDCWD, at);
        refused("symlink in report", link(&context.report.join(context.fresh(b".link"))), Errno::EPERM)?;
        refused("symlink in an entry", link(&entry.at("link")), Errno::EPERM)
    }),
    Check::new("dir/hard-link", "there are no hard links", "vfs_link: no link", |context| {
        let (one, other) = (context.entry()?, context.entry()?);
        let link =
            |to: &Path| nix::unistd::linkat(AT_FDCWD, &one.at("generation"), AT_FDCWD, to, AtFlags::empty());
        refused("link within an entry", link(&one.at("link")), Errno::EPERM)?;
        refused("link into another entry", link(&other.at("link")), Errno::EPERM)?;
        refused("link over an attribute", link(&other.at("generation")), Errno::EEXIST)
    }),
    Check::new("dir/rename-entry", "an entry keeps its name", "vfs_rename: no rename", |context| {
        let entry = context.entry()?;
        let to = context.report.join(context.fresh(b".renamed"));
        refused("rename of an entry", sys::rename(&entry.path, &to), Errno::EPERM)?;
        ok("stat under the old name", sys::lstat(&entry.path))?;
        refused("rename of what is not there", sys::rename(&to, &entry.path), Errno::ENOENT)
    }),
    Check::new("dir/rename-attribute", "an attribute keeps its name", "vfs_rename: no rename", |context| {
        let (one, other) = (context.entry()?, context.entry()?);
        refused("rename in its entry", sys::rename(&one.at("inblob"), &one.at("blob")), Errno::EPERM)?;
        refused("rename to another entry", sys::rename(&one.at("inblob"), &other.at("blob")), Errno::EPERM)?;
        refused("rename over another", sys::rename(&one.at("inblob"), &other.at("inblob")), Errno::EPERM)
    }),
    Check::new(
        "dir/rename-elsewhere",
        "an entry stays on its file system",
        "filename_renameat2",
        |context| {
            let entry = context.entry()?;
            let to = Path::new("/proc/tsmsim-conform");
            refused("rename to another file system", sys::rename(&entry.path, to), Errno::EXDEV)
        },
    ),
    Check::new(
        "dir/mode-is-fixed",
        "a new entry has mode 0755 whatever was asked",
        "configfs_create_dir",
        |context| {
            let name = context.fresh(b"");
            let path = context.report.join(&name);
            ok("mkdir with mode 0", nix::unistd::mkdir(&path, Mode::empty()))?;
            let stat = ok("stat", sys::lstat(&path))?;
            equal("mode", format!("{:o}", stat.st_mode), format!("{:o}", 0o040_755))?;
            ok("rmdir", sys::rmdir(&path))
        },
    ),
    Check::new("dir/owner", "a new entry belongs to root", "configfs_new_inode", |context| {
        let entry = context.entry()?;
        let stat = ok("stat", sys::lstat(&entry.path))?;
        equal("owner and group", (stat.st_uid, stat.st_gid), (0, 0))
    })
    .needs(ROOT),
    Check::new("dir/size-and-links", "an entry has size 0 and two links", "configfs_create_dir", |context| {
        let entry = context.entry()?;
        let stat = ok("stat", sys::lstat(&entry.path))?;
        equal("size and links", (stat.st_size, i128::from(stat.st_nlink)), (0, 2))
    }),
    Check::new(
        "dir/links-of-report",
        "each entry is one more link of report",
        "configfs_create_dir",
        |context| {
            let before = i128::from(ok("stat of report", sys::lstat(&context.report))?.st_nlink);
            let entry = context.entry()?;
            let with = i128::from(ok("stat of report", sys::lstat(&context.report))?.st_nlink);
            equal("links after mkdir", with, before + 1)?;
            entry.remove()?;
            let after = i128::from(ok("stat of report", sys::lstat(&context.report))?.st_nlink);
            equal("links after rmdir", after, before)
        },
    ),
    Check::new("dir/types-in-list", "entries are listed as directories", "configfs_readdir", |context| {
        let entry = context.entry()?;
        let kinds = ok("list the entries", sys::names(&context.report))?;
        let own = kinds.iter().find(|(name, _)| Some(name.as_os_str()) == entry.path.file_name());
        equal("d_type of the entry", own.map(|(_, kind)| *kind), Some(Type::Directory))?;
        holds(
            kinds.iter().all(|(_, kind)| *kind == Type::Directory),
            "d_type in report",
            "directories alone",
            format!("{kinds:?}"),
        )
    }),
    Check::new("dir/open-for-writing", "a directory is not opened for writing", "do_open", |context| {
        let entry = context.entry()?;
        refused("open for writing", sys::open(&entry.path, OFlag::O_WRONLY), Errno::EISDIR)?;
        let fd = ok("open for reading", sys::open(&entry.path, OFlag::O_RDONLY))?;
        refused("read of a directory", sys::read(&fd, 64), Errno::EISDIR)
    }),
    Check::new("dir/fsync", "directories have no fsync", "vfs_fsync_range", |context| {
        let entry = context.entry()?;
        let fd = ok("open", sys::open(&entry.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
        refused("fsync of an entry", nix::unistd::fsync(&fd), Errno::EINVAL)
    }),
    Check::new("dir/200-entries", "many entries live side by side", "configfs_mkdir", |context| {
        many(context, 200)
    }),
    Check::new("dir/5000-entries", "very many entries live side by side", "configfs_mkdir", |context| {
        many(context, 5000)
    })
    .needs(SLOW)
    .seconds(600),
];

fn slashed(path: &Path, last: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push("/");
    text.push(last);
    PathBuf::from(text)
}

/// All are listed, each once, each with a state of its own, and all go away.
fn many(context: &Context, count: u64) -> Outcome {
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(context.entry()?);
    }
    let listed = ok("list the entries", sys::names(&context.report))?;
    let distinct: BTreeSet<_> = listed.iter().map(|(name, _)| name.clone()).collect();
    equal("names in the list that are there twice", listed.len() - distinct.len(), 0)?;
    for (index, entry) in (0..).zip(&entries) {
        let there = entry.path.file_name().is_some_and(|name| distinct.contains(name));
        holds(there, format!("entry {index} in the list"), "there", "missing")?;
        if index % 3 == 0 {
            entry.inblob(&[1; 64])?;
        }
    }
    for (index, entry) in (0_u64..).zip(&entries) {
        entry.generation_is(&format!("of entry {index}"), u64::from(index % 3 == 0))?;
        entry.remove()?;
    }
    Ok(())
}
