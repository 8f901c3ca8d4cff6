//! `name/…`: which names an entry may have.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use nix::errno::Errno;

use crate::{
    check::Check,
    context::Context,
    outcome::{Outcome, equal, gives, holds, ok, refused},
    sys,
};

const RULE: &str = "an entry may have any name that a directory may have";
const MKDIR: &str = "configfs_mkdir, config_item_set_name";

pub(super) const CHECKS: &[Check] = &[
    Check::new("name/plain", RULE, MKDIR, |context| named(context, b"")),
    Check::new("name/space", RULE, MKDIR, |context| named(context, b" a b ")),
    Check::new("name/dots", RULE, MKDIR, |context| named(context, b".a..b...")),
    Check::new("name/leading-dot", RULE, MKDIR, |context| exactly(context, &prefixed(b".tsmsim-conform-"))),
    Check::new("name/leading-dash", RULE, MKDIR, |context| exactly(context, &prefixed(b"--tsmsim-conform-"))),
    Check::new("name/three-dots", RULE, MKDIR, |context| exactly(context, b"...")),
    Check::new("name/utf-8", RULE, MKDIR, |context| named(context, "häß·日本語·🔑".as_bytes())),
    Check::new("name/invalid-utf-8", RULE, MKDIR, |context| named(context, b"\xff\xfe\x80\xc3")),
    Check::new("name/newline-and-control", RULE, MKDIR, |context| named(context, b"\n\t\x01\x7f\x1b[0m")),
    Check::new("name/percent", "a name is no format string", MKDIR, |context| named(context, b"%s%n%d%%")),
    Check::new("name/backslash-and-quotes", RULE, MKDIR, |context| named(context, br#"\"'`$*?[]"#)),
    Check::new("name/of-an-attribute", RULE, MKDIR, |context| exactly(context, b"inblob")),
    Check::new("name/upper-and-lower-case-differ", "names are bytes", "configfs_dirent_exists", |context| {
        let lower = context.fresh(b"-case");
        let upper = OsStr::from_bytes(&lower.as_bytes().to_ascii_uppercase()).to_owned();
        let _lower = context.named(&lower)?;
        let _upper = context.named(&upper)?;
        Ok(())
    }),
    Check::new("name/255-bytes", "a name may have NAME_MAX bytes", MKDIR, |context| {
        exactly(context, &padded(context, 255))
    }),
    Check::new(
        "name/256-bytes",
        "a name of more than NAME_MAX bytes is refused",
        "configfs_lookup",
        |context| {
            let path = context.report.join(OsStr::from_bytes(&padded(context, 256)));
            refused("mkdir with 256 bytes", sys::mkdir(&path), Errno::ENAMETOOLONG)?;
            refused("stat of 256 bytes", sys::lstat(&path).map(|_| ()), Errno::ENAMETOOLONG)?;
            refused("rmdir of 256 bytes", sys::rmdir(&path), Errno::ENAMETOOLONG)
        },
    ),
    Check::new(
        "name/5000-bytes",
        "a path of more than PATH_MAX bytes is refused",
        "getname_flags",
        |context| {
            let path = context.report.join(OsStr::from_bytes(&padded(context, 5000)));
            refused("mkdir with 5000 bytes", sys::mkdir(&path), Errno::ENAMETOOLONG)
        },
    ),
    Check::new("name/empty", "an empty path names nothing", "getname_flags", |_| {
        refused("mkdir of an empty path", sys::mkdir(std::path::Path::new("")), Errno::ENOENT)
    }),
    Check::new("name/dot", "the directory itself exists", "filename_create", |context| {
        let mut path = context.report.clone().into_os_string();
        path.push("/.");
        refused("mkdir report/.", sys::mkdir(path.as_ref()), Errno::EEXIST)
    }),
    Check::new(
        "name/trailing-slash",
        "a slash at the end is not part of the name",
        "filename_create",
        |context| {
            let name = context.fresh(b"");
            let mut path = context.report.join(&name).into_os_string();
            path.push("//");
            ok("mkdir with slashes at the end", sys::mkdir(path.as_ref()))?;
            ok("rmdir with slashes at the end", sys::rmdir(path.as_ref()))
        },
    ),
];

/// A name of the check's own with something added.
fn named(context: &Context, suffix: &[u8]) -> Outcome {
    let name = context.fresh(suffix);
    exactly(context, name.as_bytes())
}

/// Makes the entry, finds it, uses it, removes it.
fn exactly(context: &Context, name: &[u8]) -> Outcome {
    let name = OsStr::from_bytes(name);
    let entry = context.named(name)?;
    let listed = ok("list the entries", sys::names(&context.report))?;
    holds(
        listed.iter().any(|(other, _)| other == name),
        "the list of entries",
        "this very name",
        "it is not there",
    )?;
    gives("read generation", entry.read("generation"), b"0\n".to_vec())?;
    entry.remove()?;
    let listed = ok("list the entries", sys::names(&context.report))?;
    equal("names in the list after rmdir", listed.iter().filter(|(other, _)| other == name).count(), 0)?;
    refused("stat after rmdir", sys::lstat(&entry.path).map(|_| ()), Errno::ENOENT)
}

fn prefixed(prefix: &[u8]) -> Vec<u8> {
    [prefix, std::process::id().to_string().as_bytes()].concat()
}

fn padded(context: &Context, length: usize) -> Vec<u8> {
    let mut name = context.fresh(b".").as_bytes().to_vec();
    name.resize(length, b'x');
    name
}
