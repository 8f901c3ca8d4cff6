//! `service/…`: services of an SVSM, where entries have their attributes; and `user/…`: who is not root.

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag},
    sys::stat::{FchmodatFlags, Mode, fchmodat},
    unistd::{Gid, Uid},
};

use crate::{
    check::{Check, ROOT, SERVICE},
    context::{Context, nonce},
    outcome::{Outcome, equal, gives, ok, refused, skipped},
    sys,
};

const GUID: &str = "tsm_report_service_guid_store, guid_parse";

pub(super) const CHECKS: &[Check] = &[
    Check::new(
        "service/provider-any-text",
        "any name is taken and counts",
        "tsm_report_service_provider_store",
        |context| {
            let entry = context.entry()?;
            for (text, count) in [b"svsm".as_slice(), b"svsm\n", b"other", b"\n", b"\0", b" "].iter().zip(1..)
            {
                gives(
                    format!("write {}", text.escape_ascii()),
                    entry.write("service_provider", text),
                    text.len(),
                )?;
                entry.generation_is("after it", count)?;
            }
            Ok(())
        },
    )
    .needs(SERVICE),
    Check::new(
        "service/provider-unknown",
        "an unknown provider shows at the report",
        "sev_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            for text in [b"other".as_slice(), b"SVSM", b"svsm\n\n", b"\n"] {
                ok("write service_provider", entry.write("service_provider", text))?;
                refused(
                    format!("outblob with {}", text.escape_ascii()),
                    entry.read("outblob"),
                    Errno::EINVAL,
                )?;
            }
            Ok(())
        },
    )
    .needs(SERVICE),
    Check::new(
        "service/guid",
        "a GUID is text of 36 characters, upper or lower case; what follows is not read",
        GUID,
        |context| {
            let entry = context.entry()?;
            let plain = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
            let texts =
                [plain.to_owned(), format!("{plain}\n"), plain.to_uppercase(), format!("{plain} and more")];
            for (text, count) in texts.iter().zip(1..) {
                gives(format!("write {text:?}"), entry.write("service_guid", text.as_bytes()), text.len())?;
                entry.generation_is("after it", count)?;
            }
            Ok(())
        },
    )
    .needs(SERVICE),
    Check::new(
        "service/bad-guid-counts",
        "a GUID that is refused moves the generation all the same",
        GUID,
        |context| {
            let entry = context.entry()?;
            let texts =
                ["x", "c476f1eb012345a59641b4e7dde5bfe3", "{c476f1eb-0123-45a5-9641-b4e7dde5bfe3}", "\n"];
            for (text, count) in texts.iter().zip(1..) {
                refused(
                    format!("write {text:?}"),
                    entry.write("service_guid", text.as_bytes()),
                    Errno::EINVAL,
                )?;
                entry.generation_is("after it", count)?;
            }
            Ok(())
        },
    )
    .needs(SERVICE),
    Check::new(
        "service/manifest-version",
        "a version is an unsigned int",
        "tsm_report_service_manifest_version_store",
        |context| {
            let entry = context.entry()?;
            for (text, count) in [b"0".as_slice(), b"1\n", b"4294967295", b"0xffffffff"].iter().zip(1..) {
                gives("write the version", entry.write("service_manifest_version", text), text.len())?;
                entry.generation_is("after it", count)?;
            }
            refused("write a sign", entry.write("service_manifest_version", b"-1"), Errno::EINVAL)?;
            refused("write too much", entry.write("service_manifest_version", b"4294967296"), Errno::ERANGE)?;
            entry.generation_is("after what was refused", 4)
        },
    )
    .needs(SERVICE),
    Check::new(
        "service/manifestblob",
        "without inblob there is no manifest",
        "read_cached_report",
        |context| refused("manifestblob", context.entry()?.read("manifestblob"), Errno::EINVAL),
    )
    .needs(SERVICE),
    Check::new(
        "user/reads-what-all-may",
        "others may read what has mode 0444",
        "generic_permission",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let whole = entry.outblob()?;
            become_nobody()?;
            gives("read generation", entry.read("generation"), b"1\n".to_vec())?;
            equal("outblob is the same", entry.outblob()? == whole, true)?;
            ok("list the attributes", sys::names(&entry.path))?;
            Ok(())
        },
    )
    .needs(ROOT),
    Check::new("user/writes-nothing", "others may not write", "generic_permission", |context| {
        let entry = context.entry()?;
        become_nobody()?;
        refused("open inblob", entry.open("inblob", OFlag::O_WRONLY), Errno::EACCES)?;
        refused(
            "open outblob with O_TRUNC",
            entry.open("outblob", OFlag::O_RDONLY | OFlag::O_TRUNC),
            Errno::EACCES,
        )?;
        refused("truncate inblob", nix::unistd::truncate(&entry.at("inblob"), 0), Errno::EACCES)?;
        entry.generation_is("after that", 0)
    })
    .needs(ROOT),
    Check::new(
        "user/makes-nothing",
        "others may not make or remove entries",
        "may_create, may_delete",
        |context| {
            let entry = context.entry()?;
            become_nobody()?;
            refused("mkdir", sys::mkdir(&context.report.join(context.fresh(b""))), Errno::EACCES)?;
            refused("rmdir", sys::rmdir(&entry.path), Errno::EACCES)?;
            refused("unlink", nix::unistd::unlink(&entry.at("inblob")), Errno::EACCES)?;
            let file = sys::open(&entry.at("new"), OFlag::O_CREAT | OFlag::O_WRONLY);
            refused("create a file", file, Errno::EACCES)
        },
    )
    .needs(ROOT),
    Check::new(
        "user/changes-nothing",
        "others may not change mode, owner or times",
        "setattr_prepare",
        |context| {
            let entry = context.entry()?;
            become_nobody()?;
            let path = entry.at("generation");
            let mode = Mode::from_bits_truncate(0o666);
            refused("chmod", fchmodat(AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink), Errno::EPERM)?;
            refused("chown", nix::unistd::chown(&path, Some(Uid::from_raw(NOBODY)), None), Errno::EPERM)
        },
    )
    .needs(ROOT),
    Check::new("user/given-an-entry", "root can give an entry away", "configfs_setattr", |context| {
        let entry = context.entry()?;
        let everyone = Mode::from_bits_truncate(0o666);
        let inblob = entry.at("inblob");
        ok("chmod of inblob", fchmodat(AT_FDCWD, &inblob, everyone, FchmodatFlags::FollowSymlink))?;
        become_nobody()?;
        entry.inblob(&nonce())?;
        entry.generation_is("after another user's write", 1)?;
        ok("read outblob", entry.read("outblob"))?;
        Ok(())
    })
    .needs(ROOT),
    Check::new(
        "user/open-file-stays",
        "what root opened another user may go on using",
        "configfs_bin_write_iter",
        |context: &Context| {
            let entry = context.entry()?;
            let fd = entry.writer("inblob")?;
            become_nobody()?;
            gives("write inblob", nix::unistd::write(&fd, &nonce()), 64)?;
            drop(fd);
            entry.generation_is("after close", 1)
        },
    )
    .needs(ROOT),
];

/// A user and group without rights.
const NOBODY: u32 = 65_534;

/// Gives up root for good: each check has a process of its own.
fn become_nobody() -> Outcome {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    // In a user namespace without further groups this is refused, and there is nothing to drop.
    let _kept = nix::unistd::setgroups(&[]);
    let dropped =
        nix::unistd::setresgid(group, group, group).and_then(|()| nix::unistd::setresuid(user, user, user));
    match dropped {
        Ok(()) => Ok(()),
        Err(errno) => skipped(format!("cannot become another user: {}", errno.desc())),
    }
}
