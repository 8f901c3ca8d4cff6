//! `open/…`: what the flags of `open` do to attributes.

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{FchmodatFlags, Mode, fchmodat},
};

use crate::{
    check::{Check, ROOT, SNP},
    context::{Context, Entry, Provider, nonce},
    outcome::{Outcome, equal, gives, ok, refused},
    sys,
};

const OPEN: &str = "__configfs_open_file";

pub(super) const CHECKS: &[Check] = &[
    Check::new(
        "open/write-only-for-reading",
        "what has no show method is not read, by root neither",
        OPEN,
        |context| {
            let entry = context.entry()?;
            for name in write_only(context) {
                refused(
                    format!("open {name} for reading"),
                    entry.open(name, OFlag::O_RDONLY),
                    Errno::EACCES,
                )?;
            }
            Ok(())
        },
    ),
    Check::new(
        "open/read-only-for-writing",
        "what has no store method is not written, by root neither",
        OPEN,
        |context| {
            let entry = context.entry()?;
            for name in read_only(context) {
                refused(
                    format!("open {name} for writing"),
                    entry.open(name, OFlag::O_WRONLY),
                    Errno::EACCES,
                )?;
            }
            Ok(())
        },
    ),
    Check::new(
        "open/both-ways",
        "no attribute is both read and written, so none answers ETXTBSY",
        OPEN,
        |context| {
            let entry = context.entry()?;
            for name in write_only(context).into_iter().chain(read_only(context)) {
                refused(format!("open {name} both ways"), entry.open(name, OFlag::O_RDWR), Errno::EACCES)?;
            }
            Ok(())
        },
    ),
    Check::new("open/mode-adds-no-method", "chmod does not add what the kernel lacks", OPEN, |context| {
        let entry = context.entry()?;
        for name in write_only(context) {
            chmod(&entry, name, 0o666)?;
            refused(format!("open {name} for reading"), entry.open(name, OFlag::O_RDONLY), Errno::EACCES)?;
            refused(format!("open {name} both ways"), entry.open(name, OFlag::O_RDWR), Errno::EACCES)?;
            ok(format!("open {name} for writing"), entry.open(name, OFlag::O_WRONLY))?;
        }
        for name in read_only(context) {
            chmod(&entry, name, 0o666)?;
            refused(format!("open {name} for writing"), entry.open(name, OFlag::O_WRONLY), Errno::EACCES)?;
            ok(format!("open {name} for reading"), entry.open(name, OFlag::O_RDONLY))?;
        }
        Ok(())
    }),
    Check::new("open/mode-binds-root", "without any permission bit root is refused too", OPEN, |context| {
        let entry = context.entry()?;
        chmod(&entry, "generation", 0o222)?;
        refused("open generation of mode 0222", entry.open("generation", OFlag::O_RDONLY), Errno::EACCES)?;
        chmod(&entry, "inblob", 0o444)?;
        refused("open inblob of mode 0444", entry.open("inblob", OFlag::O_WRONLY), Errno::EACCES)?;
        chmod(&entry, "generation", 0o004)?;
        ok("open generation of mode 0004", entry.open("generation", OFlag::O_RDONLY))?;
        chmod(&entry, "inblob", 0o002)?;
        ok("open inblob of mode 0002", entry.open("inblob", OFlag::O_WRONLY))?;
        Ok(())
    })
    .needs(ROOT),
    Check::new(
        "open/truncate-writable",
        "O_TRUNC on what is written works and does nothing",
        "configfs_setattr",
        |context| {
            let entry = context.entry()?;
            for name in write_only(context) {
                ok(format!("open {name} with O_TRUNC"), entry.open(name, OFlag::O_WRONLY | OFlag::O_TRUNC))?;
            }
            entry.generation_is("after opening alone", 0)?;
            entry.inblob(&nonce())?;
            ok("open inblob with O_TRUNC", entry.open("inblob", OFlag::O_WRONLY | OFlag::O_TRUNC))?;
            entry.generation_is("after O_TRUNC", 1)?;
            ok("read outblob, whose inblob is still there", entry.read("outblob"))?;
            Ok(())
        },
    ),
    Check::new(
        "open/truncate-readable",
        "O_TRUNC on what is read works for root and does nothing",
        "do_open",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let before = entry.outblob()?;
            for name in read_only(context) {
                let fd = ok(
                    format!("open {name} with O_TRUNC"),
                    entry.open(name, OFlag::O_RDONLY | OFlag::O_TRUNC),
                )?;
                ok(format!("read {name} opened with O_TRUNC"), sys::read_pieces(&fd, 65_536))?;
            }
            equal("outblob after O_TRUNC is the same", entry.outblob()? == before, true)?;
            entry.generation_is("after O_TRUNC", 1)
        },
    )
    .needs(ROOT),
    Check::new("open/create-existing", "O_CREAT on an attribute opens it", "do_open", |context| {
        let entry = context.entry()?;
        // What `echo … > file` of a shell does.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let fd = ok("open inblob with O_CREAT and O_TRUNC", entry.open("inblob", flags))?;
        gives("write inblob", nix::unistd::write(&fd, &nonce()), 64)?;
        drop(fd);
        entry.generation_is("after that write", 1)?;
        ok("open outblob with O_CREAT", entry.open("outblob", OFlag::O_RDONLY | OFlag::O_CREAT))?;
        Ok(())
    }),
    Check::new("open/create-exclusively", "O_EXCL finds the attribute there", "do_open", |context| {
        let entry = context.entry()?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        refused("open inblob with O_EXCL", entry.open("inblob", flags), Errno::EEXIST)
    }),
    Check::new(
        "open/append",
        "O_APPEND joins what is written, as without",
        "configfs_bin_write_iter",
        |context| {
            let entry = context.entry()?;
            let nonce = nonce();
            let fd =
                ok("open inblob with O_APPEND", entry.open("inblob", OFlag::O_WRONLY | OFlag::O_APPEND))?;
            gives("write the first half", nix::unistd::write(&fd, &nonce[..32]), 32)?;
            gives("write the second half", nix::unistd::write(&fd, &nonce[32..]), 32)?;
            drop(fd);
            entry.generation_is("after one open file", 1)?;
            ok("read outblob", entry.read("outblob"))?;
            Ok(())
        },
    ),
    Check::new("open/append-text", "O_APPEND does nothing to text", "configfs_write_iter", |context| {
        let entry = context.entry()?;
        let fd =
            ok("open privlevel with O_APPEND", entry.open("privlevel", OFlag::O_WRONLY | OFlag::O_APPEND))?;
        gives("write a level", nix::unistd::write(&fd, b"3\n"), 2)?;
        gives("write another", nix::unistd::write(&fd, b"3\n"), 2)?;
        entry.generation_is("after two writes", 2)
    })
    .needs(SNP),
    Check::new("open/nonblock", "O_NONBLOCK changes nothing", "configfs_read_iter", |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let fd =
            ok("open outblob with O_NONBLOCK", entry.open("outblob", OFlag::O_RDONLY | OFlag::O_NONBLOCK))?;
        let blob = ok("read outblob", sys::read_pieces(&fd, 65_536))?;
        equal("outblob is the same", entry.outblob()? == blob, true)
    }),
    Check::new("open/directory", "an attribute is no directory", "do_open", |context| {
        let entry = context.entry()?;
        refused(
            "O_DIRECTORY",
            entry.open("generation", OFlag::O_RDONLY | OFlag::O_DIRECTORY),
            Errno::ENOTDIR,
        )?;
        refused("a slash at the end", entry.open("generation/", OFlag::O_RDONLY), Errno::ENOTDIR)?;
        refused("a path through it", entry.open("generation/x", OFlag::O_RDONLY), Errno::ENOTDIR)
    }),
    Check::new("open/direct", "attributes have no direct I/O", "do_dentry_open: no direct_IO", |context| {
        let entry = context.entry()?;
        refused(
            "outblob with O_DIRECT",
            entry.open("outblob", OFlag::O_RDONLY | OFlag::O_DIRECT),
            Errno::EINVAL,
        )?;
        refused(
            "inblob with O_DIRECT",
            entry.open("inblob", OFlag::O_WRONLY | OFlag::O_DIRECT),
            Errno::EINVAL,
        )
    }),
    Check::new("open/path-only", "O_PATH names an attribute without opening it", "do_o_path", |context| {
        let entry = context.entry()?;
        let fd = ok("open inblob with O_PATH", entry.open("inblob", OFlag::O_PATH))?;
        ok("fstat", nix::sys::stat::fstat(&fd))?;
        refused("write", nix::unistd::write(&fd, b"x"), Errno::EBADF)
    }),
    Check::new("open/wrong-direction", "an open file goes one way", "vfs_read, vfs_write", |context| {
        let entry = context.entry()?;
        refused("read of inblob", sys::read(entry.writer("inblob")?, 64), Errno::EBADF)?;
        refused("write of outblob", nix::unistd::write(entry.reader("outblob")?, b"x"), Errno::EBADF)?;
        refused("write of generation", nix::unistd::write(entry.reader("generation")?, b"1"), Errno::EBADF)
    }),
];

/// The attributes that are written.
pub(super) fn write_only(context: &Context) -> Vec<&'static str> {
    if context.provider == Provider::Snp { vec!["inblob", "privlevel"] } else { vec!["inblob"] }
}

/// The attributes that are read.
pub(super) fn read_only(context: &Context) -> Vec<&'static str> {
    let mut all = vec!["generation", "provider", "outblob"];
    if context.provider == Provider::Snp {
        all.extend(["privlevel_floor", "auxblob"]);
    }
    all
}

fn chmod(entry: &Entry, name: &str, mode: u32) -> Outcome {
    let mode = Mode::from_bits_truncate(mode);
    let changed = fchmodat(nix::fcntl::AT_FDCWD, &entry.at(name), mode, FchmodatFlags::FollowSymlink);
    ok(format!("chmod of {name}"), changed)
}
