use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// One entry as a reader of the format sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    path: String,
    mode: u32,
    device: (u32, u32),
    contents: Vec<u8>,
}

/// Reads an archive by the format's own description, up to its last entry; gives what follows, too.
fn read_archive(mut bytes: &[u8]) -> (Vec<Entry>, &[u8]) {
    let mut entries = Vec::new();
    let mut inodes = BTreeSet::new();
    loop {
        assert_eq!(&bytes[..6], b"070701");
        let number = |index: usize| {
            let digits = std::str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).unwrap();
            u32::from_str_radix(digits, 16).unwrap()
        };
        let (size, name) = (usize::try_from(number(6)).unwrap(), usize::try_from(number(11)).unwrap());
        let path = &bytes[110..110 + name - 1];
        assert_eq!(bytes[110 + name - 1], 0);
        assert!(inodes.insert(number(0)), "an inode twice would be a hard link");
        let start = (110 + name).next_multiple_of(4);
        let contents = bytes[start..start + size].to_vec();
        let entry = Entry {
            path: String::from_utf8(path.to_vec()).unwrap(),
            mode: number(1),
            device: (number(9), number(10)),
            contents,
        };
        bytes = &bytes[(start + size).next_multiple_of(4)..];
        if entry.path == "TRAILER!!!" {
            return (entries, bytes);
        }
        entries.push(entry);
    }
}

fn entries(archive: Initramfs) -> Vec<Entry> {
    let bytes = archive.finish();
    let (entries, rest) = read_archive(&bytes);
    assert!(rest.is_empty());
    entries
}

#[test]
fn parents_come_first_and_once() {
    let mut archive = Initramfs::new();
    archive.file("/a/b/c", 0o100_755, b"one").unwrap();
    archive.file("a/./b//d", 0o4755, b"").unwrap();
    archive.symlink("a/link", b"b/c").unwrap();
    archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
    archive.directory("a/b", 0o700).unwrap();
    let found = entries(archive);
    let shown: Vec<_> = found.iter().map(|entry| (entry.path.as_str(), entry.mode)).collect();
    let expected = [
        ("a", 0o04_0755),
        ("a/b", 0o04_0755),
        ("a/b/c", 0o10_0755),
        ("a/b/d", 0o10_4755),
        ("a/link", 0o12_0777),
        ("dev", 0o04_0755),
        ("dev/console", 0o02_0600),
    ];
    assert_eq!(shown, expected);
    assert_eq!((found[2].contents.as_slice(), found[4].contents.as_slice()), (&b"one"[..], &b"b/c"[..]));
    assert_eq!(found[6].device, (5, 1));
}

#[rstest]
#[case::root("/")]
#[case::empty("")]
#[case::upwards("a/../../b")]
#[case::zero("a\0b")]
#[case::trailer("TRAILER!!!")]
#[case::long(&"x".repeat(4095))]
fn bad_paths(#[case] path: &str) {
    let mut archive = Initramfs::new();
    assert!(matches!(archive.file(path, 0o644, b""), Err(InitramfsError::Path { .. })));
    assert!(matches!(archive.symlink("good", b""), Err(InitramfsError::Path { .. })));
    assert_eq!(entries(archive), []);
}

#[test]
fn a_tree_of_the_host_is_copied() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("bin")).unwrap();
    fs::write(host.path().join("bin/tool"), b"ELF").unwrap();
    fs::set_permissions(host.path().join("bin/tool"), fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::symlink("tool", host.path().join("bin/alias")).unwrap();
    let mut archive = Initramfs::new();
    archive.host(host.path(), "opt/x").unwrap();
    archive.host(&host.path().join("bin/alias"), "usr/bin/tool").unwrap();
    let found: BTreeMap<String, Entry> =
        entries(archive).into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    assert_eq!(
        (found["opt/x/bin/tool"].mode, found["opt/x/bin/tool"].contents.as_slice()),
        (0o10_0751, &b"ELF"[..])
    );
    assert_eq!(found["opt/x/bin/alias"].contents, b"tool");
    // Named itself, a link stands for what it leads to.
    assert_eq!(found["usr/bin/tool"].mode, 0o10_0751);
}

#[test]
fn what_the_host_lacks_is_named() {
    let mut archive = Initramfs::new();
    let error = archive.host(Path::new("/no/such/file"), "x").unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    assert!(matches!(archive.host(Path::new("/dev/null"), "x"), Err(InitramfsError::Kind(_))));
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(6)]
fn behind_an_archive_of_the_users(#[case] length: usize) {
    let mut archive = Initramfs::new();
    archive.file("init", 0o755, b"ours").unwrap();
    let whole = archive.finish_behind(vec![0x1f; length]).unwrap();
    let start = length.next_multiple_of(4);
    assert!(whole[length..start].iter().all(|byte| *byte == 0));
    assert_eq!(read_archive(&whole[start..]).0[0].contents, b"ours");
}

#[test]
fn the_init_program_finds_its_configuration() {
    let module = |name: &str, optional| Module { name: name.to_owned(), bytes: b"ko".to_vec(), optional };
    let files = GuestFiles {
        init: b"init",
        modules: &[module("gcm", true), module("tsm", false)],
        command: &[b"/bin/x".to_vec(), b"a b".to_vec()],
        environment: &[b"A=b".to_vec()],
        directory: Some(b"/tmp"),
        added: &[],
    };
    let found = entries(files.archive().unwrap());
    let get = |path: &str| found.iter().find(|entry| entry.path == path).unwrap();
    assert_eq!((get("init").mode, get("tsmsim/modules/tsm.ko").contents.as_slice()), (0o10_0755, &b"ko"[..]));
    let records: Vec<_> =
        get("tsmsim/configuration").contents.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let parsed: Vec<_> =
        records.iter().filter(|r| !r.is_empty()).map(|record| Record::parse(record).unwrap()).collect();
    let expected = [
        Record::Optional(b"gcm.ko"),
        Record::Module(b"tsm.ko"),
        Record::Argument(b"/bin/x"),
        Record::Argument(b"a b"),
        Record::Environment(b"A=b"),
        Record::Directory(b"/tmp"),
    ];
    assert_eq!(parsed, expected);
}

#[test]
fn a_command_with_a_zero_is_refused() {
    let files = GuestFiles { command: &[b"a\0b".to_vec()], ..GuestFiles::default() };
    assert!(matches!(files.archive(), Err(InitramfsError::Zero)));
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let make = || {
        let files = GuestFiles { init: b"init", command: &[b"x".to_vec()], ..GuestFiles::default() };
        files.archive().unwrap().finish()
    };
    assert_eq!(make(), make());
}

proptest! {
    #[test]
    fn what_is_written_is_read(files in proptest::collection::btree_map("[a-z]{1,9}", (0_u32..0o10000, proptest::collection::vec(any::<u8>(), 0..50)), 0..20)) {
        let mut archive = Initramfs::new();
        for (path, (mode, contents)) in &files {
            archive.file(path, *mode, contents).unwrap();
        }
        let found: Vec<_> = entries(archive).into_iter().map(|entry| (entry.path, (entry.mode & 0o7777, entry.contents))).collect();
        let expected: Vec<_> = files.into_iter().collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_path_is_answered(path: Vec<u8>, contents: Vec<u8>) {
        let mut archive = Initramfs::new();
        let _ = archive.file(&path, 0o644, &contents);
        let _ = archive.symlink(&path, &contents);
        prop_assert!(archive.finish().len().is_multiple_of(4));
    }
}
