//! `entry/…`: which attributes an entry has and what they look like; entries do not know each other.

use std::collections::BTreeSet;

use nix::{errno::Errno, fcntl::OFlag, mount::MsFlags, sched::CloneFlags};

use crate::{
    check::{Check, REPORT_DATA, ROOT},
    context::{Context, Entry, Provider, nonce},
    outcome::{Outcome, equal, failed, gives, ok, refused, skipped},
    sys::{self, Type},
};

/// Attributes with mode and size: a page for text, nothing for binary ones (`configfs_lookup`).
const ATTRIBUTES: [(&str, u32, i64); 11] = [
    ("generation", 0o444, 4096),
    ("provider", 0o444, 4096),
    ("privlevel", 0o200, 4096),
    ("privlevel_floor", 0o444, 4096),
    ("service_provider", 0o200, 4096),
    ("service_guid", 0o200, 4096),
    ("service_manifest_version", 0o200, 4096),
    ("inblob", 0o200, 0),
    ("outblob", 0o444, 0),
    ("auxblob", 0o444, 0),
    ("manifestblob", 0o444, 0),
];
const SERVICE: [&str; 4] = ["service_provider", "service_guid", "service_manifest_version", "manifestblob"];
const VISIBLE: &str = "tsm_report_is_visible, sev_report_attr_visible, tdx_report_attr_visible";

pub(super) const CHECKS: &[Check] = &[
    Check::new("entry/attributes", "the provider decides which attributes there are", VISIBLE, |context| {
        let entry = context.entry()?;
        let listed: BTreeSet<String> =
            attributes(&entry)?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let expected: BTreeSet<String> = expected(context).into_iter().map(str::to_owned).collect();
        equal("attributes", listed, expected)
    }),
    Check::new("entry/hidden-attributes", "hidden attributes are not there at all", VISIBLE, |context| {
        let entry = context.entry()?;
        let expected = expected(context);
        for (name, ..) in ATTRIBUTES.iter().filter(|(name, ..)| !expected.contains(name)) {
            refused(format!("stat of {name}"), sys::lstat(&entry.at(name)).map(|_| ()), Errno::ENOENT)?;
            refused(format!("open of {name}"), entry.open(name, OFlag::O_RDONLY), Errno::ENOENT)?;
        }
        refused("open of what no kernel has", entry.open("certs", OFlag::O_RDONLY), Errno::ENOENT)
    }),
    Check::new(
        "entry/modes",
        "modes say what an attribute is for",
        "CONFIGFS_ATTR_RO, CONFIGFS_BIN_ATTR_WO",
        |context| {
            let entry = context.entry()?;
            each(context, |name, mode, _| {
                let stat = ok(format!("stat of {name}"), sys::lstat(&entry.at(name)))?;
                equal(
                    format!("mode of {name}"),
                    format!("{:o}", stat.st_mode),
                    format!("{:o}", 0o100_000 | mode),
                )
            })
        },
    ),
    Check::new(
        "entry/sizes",
        "text attributes show a page, binary ones nothing",
        "configfs_lookup",
        |context| {
            let entry = context.entry()?;
            each(context, |name, _, size| {
                let stat = ok(format!("stat of {name}"), sys::lstat(&entry.at(name)))?;
                equal(format!("size of {name}"), stat.st_size, size)?;
                equal(format!("blocks of {name}"), stat.st_blocks, 0)
            })
        },
    ),
    Check::new("entry/links", "an attribute has one link", "configfs_create", |context| {
        let entry = context.entry()?;
        each(context, |name, _, _| {
            let stat = ok(format!("stat of {name}"), sys::lstat(&entry.at(name)))?;
            equal(format!("links of {name}"), i128::from(stat.st_nlink), 1)
        })
    }),
    Check::new("entry/owner", "attributes belong to root", "configfs_new_inode", |context| {
        let entry = context.entry()?;
        each(context, |name, _, _| {
            let stat = ok(format!("stat of {name}"), sys::lstat(&entry.at(name)))?;
            equal(format!("owner and group of {name}"), (stat.st_uid, stat.st_gid), (0, 0))
        })
    })
    .needs(ROOT),
    Check::new(
        "entry/types-in-list",
        "attributes are listed as regular files",
        "configfs_readdir",
        |context| {
            let entry = context.entry()?;
            let listed = ok("list the attributes", sys::names(&entry.path))?;
            for (name, kind) in listed {
                equal(format!("d_type of {}", name.display()), kind, Type::File)?;
            }
            Ok(())
        },
    ),
    Check::new(
        "entry/state-is-its-own",
        "writing to one entry changes no other",
        "tsm_report_make_item",
        |context| {
            let (one, other) = (context.entry()?, context.entry()?);
            one.inblob(&nonce())?;
            one.inblob(&nonce())?;
            one.generation_is("of the written entry", 2)?;
            other.generation_is("of the other entry", 0)?;
            refused("outblob of the other entry", other.read("outblob"), Errno::EINVAL)
        },
    ),
    Check::new(
        "entry/data-is-its-own",
        "each entry reports what was written to it",
        "tsm_report_read",
        |context| {
            let (one, other) = (context.entry()?, context.entry()?);
            let (first, second) = (nonce(), nonce());
            one.inblob(&first)?;
            other.inblob(&second)?;
            one.carries(context, &first)?;
            other.carries(context, &second)?;
            one.carries(context, &first)
        },
    )
    .needs(REPORT_DATA),
    Check::new(
        "entry/made-again-is-new",
        "an entry made again remembers nothing",
        "tsm_report_item_release",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            ok("read outblob", entry.read("outblob"))?;
            entry.remove()?;
            let again = context.named(entry.path.file_name().unwrap_or_default())?;
            again.generation_is("of the new entry", 0)?;
            refused("outblob of the new entry", again.read("outblob"), Errno::EINVAL)
        },
    ),
    Check::new(
        "entry/openat",
        "attributes are found relative to an open directory",
        "configfs_lookup",
        |context| {
            let entry = context.entry()?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let dir = ok("open the entry", sys::open(&entry.path, flags))?;
            let inblob = ok("openat inblob", sys::openat(as_fd(&dir), "inblob", OFlag::O_WRONLY))?;
            gives("write inblob", nix::unistd::write(&inblob, &nonce()), 64)?;
            drop(inblob);
            let generation =
                ok("openat generation", sys::openat(as_fd(&dir), "generation", OFlag::O_RDONLY))?;
            gives("read generation", sys::read(&generation, 64), b"1\n".to_vec())
        },
    ),
    Check::new("entry/current-directory", "attributes are found from within", "configfs_lookup", |context| {
        let entry = context.entry()?;
        ok("chdir", nix::unistd::chdir(&entry.path))?;
        ok("write inblob", sys::write_file("inblob".as_ref(), &nonce()))?;
        gives("read ./generation", sys::read_file("./generation".as_ref()), b"1\n".to_vec())?;
        let through = format!("../{}/generation", entry.path.file_name().unwrap_or_default().display());
        gives("read through the parent", sys::read_file(through.as_ref()), b"1\n".to_vec())?;
        ok("chdir /", nix::unistd::chdir("/"))
    }),
    Check::new(
        "entry/bind-mount",
        "a bind mount shows the same entry",
        "tsm_report_inblob_write",
        bind_mount,
    )
    .needs(ROOT),
    Check::new(
        "entry/provider",
        "the provider names itself, with a newline",
        "tsm_report_provider_show",
        |context| {
            let entry = context.entry()?;
            let name: &[u8] = match &context.provider {
                Provider::Snp => b"sev_guest\n",
                Provider::Tdx => b"tdx_guest\n",
                Provider::Cove => b"cove_guest\n",
                Provider::Other(name) if name == "arm_cca_guest" => b"arm_cca_guest\n",
                Provider::Other(name) => {
                    return failed("provider", "a provider that Linux has", name.clone());
                }
            };
            gives("read provider", entry.read("provider"), name.to_vec())
        },
    ),
];

fn as_fd(fd: &std::os::fd::OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

fn attributes(entry: &Entry) -> Outcome<Vec<std::ffi::OsString>> {
    let listed = ok("list the attributes", sys::names(&entry.path))?;
    Ok(listed.into_iter().map(|(name, _)| name).collect())
}

/// What `report_attr_visible` and `report_bin_attr_visible` of the provider let through.
fn expected(context: &Context) -> Vec<&'static str> {
    let mut all = vec!["generation", "provider", "inblob", "outblob"];
    if context.provider == Provider::Snp {
        all.extend(["privlevel", "privlevel_floor", "auxblob"]);
        if context.service {
            all.extend(SERVICE);
        }
    }
    all
}

/// Each attribute that is expected, with its mode and size.
fn each(context: &Context, mut look: impl FnMut(&str, u32, i64) -> Outcome) -> Outcome {
    let expected = expected(context);
    for (name, mode, size) in ATTRIBUTES.iter().filter(|(name, ..)| expected.contains(name)) {
        look(name, *mode, *size)?;
    }
    Ok(())
}

/// As container runtimes hand one entry to one container.
fn bind_mount(context: &Context) -> Outcome {
    let (entry, place) = (context.entry()?, context.entry()?);
    if let Err(errno) = nix::sched::unshare(CloneFlags::CLONE_NEWNS) {
        return skipped(format!("no mount namespace of one's own: {}", errno.desc()));
    }
    let none = None::<&str>;
    ok(
        "make mounts private",
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none),
    )?;
    let bind = nix::mount::mount(Some(&entry.path), &place.path, none, MsFlags::MS_BIND, none);
    ok("bind the entry", bind)?;
    gives("write inblob through the mount", place.write("inblob", &nonce()), 64)?;
    entry.generation_is("of the entry itself", 1)?;
    ok("read outblob through the mount", place.read("outblob"))?;
    refused("rmdir of the mount point", sys::rmdir(&place.path), Errno::EBUSY)?;
    entry.remove()?;
    refused("read through the mount after rmdir", place.read("generation"), Errno::ENOENT)?;
    let listed = sys::open(&place.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).and_then(sys::entries_of);
    refused("list through the mount after rmdir", listed.map(|_| ()), Errno::ENOENT)?;
    ok("unmount", nix::mount::umount(&place.path))?;
    place.generation_is("of the entry beneath", 0)
}
