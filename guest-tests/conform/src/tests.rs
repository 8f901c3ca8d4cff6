//! The suite judged: on a plain directory that imitates entries, checks fail, and for the reason that they name.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rstest::rstest;

use crate::{
    Error, Options, Status,
    check::Check,
    checks,
    context::{Context, Provider, Style},
    outcome::failed,
    run, runner,
};

/// What passes on any file system, because the VFS alone decides it.
const ANYWHERE: &[&str] = &[
    "name/upper-and-lower-case-differ",
    "name/256-bytes",
    "name/5000-bytes",
    "name/empty",
    "name/dot",
    "name/trailing-slash",
    "dir/mkdir-twice",
    "dir/rmdir-missing",
    "dir/rmdir-twice",
    "dir/rmdir-dot",
    "dir/unlink-entry",
    "dir/rename-elsewhere",
    "dir/owner",
    "dir/links-of-report",
    "dir/types-in-list",
    "dir/open-for-writing",
    "entry/types-in-list",
    "removed/current-directory",
    "race/mkdir",
    "race/list",
];

/// Checks fork; that goes well only while no other thread panics.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No attribute at all.
fn bare(_: &Path) {}

/// Attributes that are there and wrong.
fn wrong(entry: &Path) {
    let names = [
        "generation",
        "provider",
        "privlevel",
        "privlevel_floor",
        "inblob",
        "outblob",
        "auxblob",
        "service_guid",
    ];
    for name in names {
        let _gone = fs::write(entry.join(name), "4\n4\n");
    }
}

/// Files with the right names, modes and first contents, and nothing behind them.
fn furnish(entry: &Path) {
    let files: [(&str, u32, &[u8]); 7] = [
        ("generation", 0o444, b"0\n"),
        ("provider", 0o444, b"sev_guest\n"),
        ("privlevel", 0o200, b""),
        ("privlevel_floor", 0o444, b"0\n"),
        ("inblob", 0o200, b""),
        ("outblob", 0o444, b""),
        ("auxblob", 0o444, b""),
    ];
    for (name, mode, text) in files {
        let path = entry.join(name);
        // A name may be told and the directory gone again, as in the checks of races.
        if fs::write(&path, text).is_ok() {
            let _gone = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        }
    }
}

fn imitation(report: &Path, furnish: fn(&Path)) -> Context {
    Context {
        report: report.to_path_buf(),
        provider: Provider::Snp,
        style: Style::V6_12,
        device: None,
        threads: 4,
        slow: false,
        extend: false,
        fuse: false,
        service: false,
        told: Mutex::new(None),
        furnish: Some(furnish),
    }
}

#[test]
fn each_check_can_fail() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let report = place.path().join("tsm/report");
    fs::create_dir_all(&report).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let imitations = [furnish, bare, wrong].map(|furnish| imitation(&report, furnish));
    let (mut always, mut stuck) = (Vec::new(), Vec::new());
    for check in checks::all() {
        let passes = imitations.iter().filter(|context| match runner::run(context, check) {
            Status::Passed => true,
            Status::Failed { got, .. } if got.contains("timed out") || got.contains("without a word") => {
                stuck.push(check.name);
                false
            }
            _ => false,
        });
        if passes.count() == imitations.len() {
            always.push(check.name);
        }
    }
    assert!(stuck.is_empty(), "these checks did not come to an end: {stuck:#?}");
    always.retain(|name| !ANYWHERE.contains(name));
    assert!(always.is_empty(), "these checks pass where nothing behaves as the kernel does: {always:#?}");
    let left: Vec<_> = fs::read_dir(&report).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[rstest]
#[case("inblob/stored-at-close", "outblob before close", "EINVAL (Invalid argument)", "success")]
#[case("generation/counts-writes", "generation after a write", "1", "0")]
#[case("outblob/before-inblob", "outblob", "EINVAL (Invalid argument)", "success")]
#[case("open/both-ways", "open inblob both ways", "EACCES (Permission denied)", "success")]
#[case("inblob/65-bytes", "write of 65 bytes", "EFBIG (File too large)", "success")]
#[case("dir/unlink-attribute", "unlink of ", "EPERM (Operation not permitted)", "success")]
#[case("entry/sizes", "size of generation", "4096", "2")]
#[case("removed/unread-text", "read", "ENOENT (No such file or directory)", "success")]
#[case("race/no-lost-write", "generation after all writes", "128", "0")]
#[case("privlevel/generation", "generation after a level", "1", "0")]
fn failures_say_what_was_expected_and_what_came(
    #[case] name: &str,
    #[case] at: &str,
    #[case] wanted: &str,
    #[case] seen: &str,
) {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let check = checks::all().find(|check| check.name == name).unwrap();
    match runner::run(&imitation(place.path(), furnish), check) {
        Status::Failed { what, expected, got } => {
            assert!(what.starts_with(at), "{what}");
            assert_eq!((expected.as_str(), got.as_str()), (wanted, seen));
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::hangs(
    Check::new("x/hangs", "", "", |_| loop { std::thread::sleep(Duration::from_secs(1)) }).seconds(1),
    "timed out after 1 s"
)]
#[case::hangs_in_a_child(
    Check::new("x/child", "", "", |context| {
        drop(context.entry()?);
        let child = crate::sys::fork(|| {
            std::thread::sleep(Duration::from_secs(600));
            true
        });
        nix::sys::wait::waitpid(child.unwrap(), None).unwrap();
        Ok(())
    })
    .seconds(1),
    "timed out after 1 s"
)]
#[case::panics(Check::new("x/panics", "", "", |_| panic!("at the disco")), "at the disco")]
#[case::exits(Check::new("x/exits", "", "", |_| std::process::exit(9)), "without a word")]
#[case::aborts(Check::new("x/aborts", "", "", |_| std::process::abort()), "without a word")]
#[case::leaves_an_entry(
    Check::new("x/leaves", "", "", |context| {
        std::mem::forget(context.entry()?);
        failed("it", "to be tidied up after", "an entry is left")
    }),
    "an entry is left"
)]
fn whatever_a_check_does_the_suite_goes_on_and_tidies_up(#[case] check: Check, #[case] part: &str) {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    match runner::run(&imitation(place.path(), furnish), &check) {
        Status::Failed { got, .. } => assert!(got.contains(part), "{got}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn names_are_unique_and_have_a_group() {
    let mut names: Vec<_> = checks::all().map(|check| check.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for check in checks::all() {
        let (group, name) = check.name.split_once('/').unwrap();
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(&byte));
        assert!(plain(group) && plain(name) && !group.is_empty() && !name.is_empty(), "{}", check.name);
        assert!(!check.rule.is_empty() && !check.source.is_empty(), "{}", check.name);
    }
    for name in ANYWHERE {
        assert!(checks::all().any(|check| check.name == *name), "{name}");
    }
}

#[rstest]
#[case::missing("no/such/place", "it is not there")]
#[case::no_configfs("", "no attribute `provider`")]
fn without_configfs_tsm_there_is_no_report(#[case] below: &str, #[case] part: &str) {
    let place = tempfile::tempdir().unwrap();
    let options = Options { path: place.path().join(below), ..Options::default() };
    let mut out = Vec::new();
    match run(&options, &mut out) {
        Err(Error::Lacking(lacking)) => assert!(lacking.0.contains(part), "{lacking}"),
        other => panic!("{other:?}"),
    }
    assert!(out.is_empty());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_filter_that_fits_nothing_is_an_error() {
    let options = Options { filter: Some("no/such".to_owned()), ..Options::default() };
    assert!(matches!(run(&options, &mut Vec::new()), Err(Error::NoSuchCheck(_))));
}
