use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::loader::linux::decompress::tests::compress;

/// An object file with a `.modinfo` section: null, `.modinfo`, `.shstrtab`.
fn module(information: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let (information_at, names_at) = (64, 64 + information.len());
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = vec![0; sections_at];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16] = 1; // ET_REL
    file[18] = 62; // x86-64
    file[20] = 1;
    let mut put = |at: usize, value: usize, size: usize| {
        file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    };
    put(40, sections_at, 8); // e_shoff
    put(52, 64, 2); // e_ehsize
    put(58, 64, 2); // e_shentsize
    put(60, 3, 2); // e_shnum
    put(62, 2, 2); // e_shstrndx
    file[information_at..names_at].copy_from_slice(information);
    file[names_at..names_at + names.len()].copy_from_slice(names);
    file.extend([0; 64]);
    for (name, kind, at, size) in [(1, 1, information_at, information.len()), (10, 3, names_at, names.len())]
    {
        let mut header = [0; 64];
        for (offset, value, length) in [(0, name, 4), (4, kind, 4), (24, at, 8), (32, size, 8), (48, 1, 8)] {
            let value: usize = value;
            header[offset..offset + length].copy_from_slice(&value.to_le_bytes()[..length]);
        }
        file.extend(header);
    }
    file
}

fn needing(modules: &str) -> Vec<u8> {
    module(format!("license=GPL\0depends={modules}\0name=x\0").as_bytes())
}

/// A directory with these files, lists among them.
fn directory(files: &[(&str, Vec<u8>)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, contents) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    root
}

fn order(root: &TempDir, wanted: &[Wanted<'_>]) -> Result<Vec<(String, bool)>, ModuleError> {
    let modules = ModuleDirectory::open(root.path())?.load(wanted)?;
    Ok(modules.into_iter().map(|module| (module.name, module.optional)).collect())
}

fn names(root: &TempDir, wanted: &[Wanted<'_>]) -> Vec<String> {
    order(root, wanted).unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn without_a_list_modules_say_what_they_need() {
    let root = directory(&[
        ("kernel/virt/sev-guest.ko.xz", compress(Compression::Xz, &needing("tsm"))),
        ("kernel/virt/tsm.ko.zst", compress(Compression::Zstd, &needing("configfs,built-in"))),
        ("kernel/fs/configfs.ko.gz", compress(Compression::Gzip, &needing(""))),
        ("kernel/other.ko", needing("nothing_of_the_sort")),
        ("modules.builtin", b"kernel/built-in.ko\n".to_vec()),
    ]);
    assert_eq!(names(&root, &[required("sev_guest")]), ["configfs", "tsm", "sev_guest"]);
    let modules = ModuleDirectory::open(root.path()).unwrap().load(&[required("sev-guest")]).unwrap();
    assert!(modules.iter().all(|module| module.bytes.starts_with(b"\x7fELF")), "all are decompressed");
}

/// A list that a distribution made knows nothing of modules that were added.
#[test]
fn added_modules_say_what_they_need() {
    let root = directory(&[
        ("updates/cove_guest.ko", needing("tsm")),
        ("updates/tsm.ko", needing("configfs")),
        ("kernel/fs/configfs.ko.xz", compress(Compression::Xz, &needing(""))),
        ("modules.dep", b"kernel/fs/configfs.ko.xz:\n".to_vec()),
    ]);
    assert_eq!(names(&root, &COVE_MODULES), ["configfs", "tsm", "cove_guest"]);
    fs::remove_file(root.path().join("updates/tsm.ko")).unwrap();
    let error = order(&root, &COVE_MODULES).unwrap_err().to_string();
    assert!(error.contains("module tsm") && error.contains("cove_guest needs it"), "{error}");
}

#[test]
fn a_list_is_believed() {
    let root = directory(&[
        ("kernel/a.ko", needing("not_asked")),
        ("kernel/b.ko", b"not even a module".to_vec()),
        ("kernel/c.ko", b"nor this".to_vec()),
        (
            "modules.dep",
            b"kernel/a.ko: kernel/c.ko kernel/b.ko\nkernel/b.ko:\nkernel/c.ko: kernel/b.ko\n".to_vec(),
        ),
    ]);
    assert_eq!(names(&root, &[required("a")]), ["b", "c", "a"]);
}

#[test]
fn what_may_be_missing() {
    let root = directory(&[
        ("kernel/gcm.ko", needing("ghash")),
        ("kernel/ghash.ko", needing("")),
        ("kernel/a.ko", needing("ghash")),
    ]);
    let wanted = [optional("no-such"), optional("gcm"), required("a")];
    let expected = [("ghash", false), ("gcm", true), ("a", false)].map(|(name, may)| (name.to_owned(), may));
    assert_eq!(order(&root, &wanted).unwrap(), expected);
}

#[rstest]
#[case::itself(&[("kernel/other.ko", "")], "tdx_guest", None)]
#[case::needed(&[("kernel/tdx-guest.ko", "tsm")], "tsm", Some("tdx_guest"))]
fn a_missing_module_is_named(
    #[case] files: &[(&str, &str)],
    #[case] missing: &str,
    #[case] needed_by: Option<&str>,
) {
    let files: Vec<_> = files.iter().map(|(path, needs)| (*path, needing(needs))).collect();
    let root = directory(&files);
    let error = order(&root, &TDX_MODULES).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(&error, ModuleError::Missing { name, by, .. } if name == missing && by.as_deref() == needed_by)
    );
    assert!(text.contains(missing) && text.contains(&root.path().display().to_string()), "{text}");
}

#[test]
fn a_circle_ends() {
    let root = directory(&[("a.ko", needing("b")), ("b.ko", needing("a"))]);
    assert_eq!(names(&root, &[required("a")]), ["b", "a"]);
}

#[rstest]
#[case::no_module(b"hello".to_vec())]
#[case::no_information({ let mut file = module(b"x"); file[60] = 0; file })]
#[case::compressed_rubbish(compress(Compression::Xz, b"hello"))]
#[case::damaged(compress(Compression::Xz, &needing(""))[..40].to_vec())]
fn rubbish_is_named(#[case] contents: Vec<u8>) {
    let root = directory(&[("kernel/tdx-guest.ko.xz", contents)]);
    let error = order(&root, &TDX_MODULES).unwrap_err().to_string();
    assert!(error.contains("tdx-guest.ko.xz"), "{error}");
}

#[test]
fn a_directory_that_is_not_there() {
    let error = ModuleDirectory::open(Path::new("/no/such/directory")).unwrap_err().to_string();
    assert!(error.contains("/no/such/directory"), "{error}");
}

#[test]
fn links_are_not_followed() {
    let root = directory(&[("a.ko", needing(""))]);
    std::os::unix::fs::symlink(root.path(), root.path().join("build")).unwrap();
    assert!(ModuleDirectory::open(root.path()).unwrap().has("a"));
}

#[rstest]
#[case("kernel/fs/configfs/configfs.ko.xz", Some("configfs"))]
#[case("sev-guest.ko", Some("sev_guest"))]
#[case("vmlinuz", None)]
#[case("a.ko.bak", None)]
fn file_names(#[case] path: &str, #[case] name: Option<&str>) {
    assert_eq!(module_name(path).as_deref(), name);
}
