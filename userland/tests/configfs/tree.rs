//! The rules of directories, names and metadata; each test names functions of `fs/configfs` or `fs/namei.c`.

use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use rstest::rstest;
use tsmsim_userland::configfs::{
    Configfs, KernelStyle, MAX_ENTRIES, MAX_OPEN_FILES, NAME_MAX, Node, Operation, SetAttributes,
};
use tsmsim_userland::provider::Attribute;

use crate::fake::{Fake, NAME, World, sev, svsm, tdx};

fn names(fs: &Configfs, node: Node) -> Vec<String> {
    fs.list(node).unwrap().into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
}

/// `populate_attrs`, `tsm_report_is_visible`, `configfs_readdir`: what was made last comes first.
#[rstest]
#[case(KernelStyle::V6_12, tdx as fn(_) -> _, "outblob inblob provider generation")]
#[case(KernelStyle::V6_16, tdx, "outblob inblob provider generation")]
#[case(KernelStyle::V6_7, tdx, "outblob inblob provider generation")]
#[case(KernelStyle::V6_12, sev, "auxblob outblob inblob privlevel_floor privlevel provider generation")]
#[case(KernelStyle::V6_7, sev, "auxblob outblob inblob privlevel_floor privlevel provider generation")]
#[case(KernelStyle::V6_7, svsm, "auxblob outblob inblob privlevel_floor privlevel provider generation")]
#[case(
    KernelStyle::V6_16,
    svsm,
    "manifestblob auxblob outblob inblob service_manifest_version service_guid service_provider \
     privlevel_floor privlevel provider generation"
)]
fn attributes_of_an_entry(
    #[case] style: KernelStyle,
    #[case] shows: fn(Attribute) -> bool,
    #[case] expected: &str,
) {
    let world = World::new(style, shows);
    assert_eq!(names(&world.fs, world.entry).join(" "), expected);
    for (name, node) in world.fs.list(world.entry).unwrap() {
        assert_eq!(world.fs.lookup(world.entry, &name), Ok(node));
        assert_eq!(node.parent(), world.entry);
        assert_eq!(Node::from_ino(node.ino()), Some(node));
    }
    let hidden = world.node(Attribute::Manifestblob);
    let shown = expected.contains("manifestblob");
    assert_eq!(world.fs.stat(hidden).is_ok(), shown);
    assert_eq!(world.fs.open(hidden, 0).is_ok(), shown);
    // The provider that was there at `mkdir` decides.
    world.fs.unregister();
    assert_eq!(names(&world.fs, world.entry).join(" "), expected);
}

/// `configfs_lookup`, `configfs_readdir`.
#[test]
fn the_way_down() {
    let world = World::new(KernelStyle::V6_12, tdx);
    assert_eq!(world.fs.lookup(Node::Root, b"tsm"), Ok(Node::Tsm));
    assert_eq!(world.fs.lookup(Node::Tsm, b"report"), Ok(Node::Report));
    assert_eq!(world.fs.lookup(Node::Report, NAME), Ok(world.entry));
    assert_eq!(world.fs.lookup(world.entry, b".."), Ok(Node::Report));
    assert_eq!(world.fs.lookup(Node::Report, b"."), Ok(Node::Report));
    assert_eq!(world.fs.lookup(Node::Root, b".."), Ok(Node::Root));
    for (parent, name) in [(Node::Root, b"report"), (Node::Tsm, b"entry!"), (Node::Report, b"Entry.")] {
        assert_eq!(world.fs.lookup(parent, name), Err(Errno::ENOENT));
    }
    assert_eq!(world.fs.lookup(world.node(Attribute::Inblob), b"x"), Err(Errno::ENOTDIR));
    assert_eq!(world.fs.list(world.node(Attribute::Inblob)), Err(Errno::ENOTDIR));
    world.fs.mkdir(Node::Report, b"later").unwrap();
    assert_eq!(names(&world.fs, Node::Report), ["later", "entry"]);
    assert_eq!(names(&world.fs, Node::Root), ["tsm"]);
    assert_eq!(names(&world.fs, Node::Tsm), ["report"]);
}

/// `configfs_mkdir`, `filename_create`: any name goes.
#[rstest]
#[case(b"a.b-c d", Ok(()))]
#[case(b"%s%n", Ok(()))]
#[case(b"\xff\xfe\x01", Ok(()))]
#[case(b"...", Ok(()))]
#[case(b"generation", Ok(()))]
#[case(&[b'n'; NAME_MAX], Ok(()))]
#[case(&[b'n'; NAME_MAX + 1], Err(Errno::ENAMETOOLONG))]
#[case(NAME, Err(Errno::EEXIST))]
#[case(b".", Err(Errno::EEXIST))]
#[case(b"..", Err(Errno::EEXIST))]
#[case(b"", Err(Errno::EINVAL))]
#[case(b"a/b", Err(Errno::EINVAL))]
#[case(b"a\0b", Err(Errno::EINVAL))]
fn names_of_entries(#[case] name: &[u8], #[case] expected: Result<(), Errno>) {
    let world = World::new(KernelStyle::V6_12, tdx);
    let made = world.fs.mkdir(Node::Report, name);
    assert_eq!(made.map(|_| ()), expected);
    if let Ok(entry) = made {
        assert_eq!(world.fs.lookup(Node::Report, name), Ok(entry));
        assert_eq!(world.fs.rmdir(Node::Report, name), Ok(()));
        assert_eq!(world.fs.lookup(Node::Report, name), Err(Errno::ENOENT));
    }
}

/// `configfs_mkdir`, `configfs_root_inode_operations`: only `report` has `make_item`.
#[test]
fn where_mkdir_and_rmdir_work() {
    let world = World::new(KernelStyle::V6_12, tdx);
    let inblob = world.node(Attribute::Inblob);
    for parent in [Node::Root, Node::Tsm, world.entry] {
        assert_eq!(world.fs.mkdir(parent, b"x"), Err(Errno::EPERM));
        assert_eq!(world.fs.rmdir(parent, b"x"), Err(Errno::ENOENT));
    }
    assert_eq!(world.fs.mkdir(Node::Root, b"tsm"), Err(Errno::EEXIST));
    assert_eq!(world.fs.mkdir(world.entry, b"inblob"), Err(Errno::EEXIST));
    assert_eq!(world.fs.mkdir(inblob, b"x"), Err(Errno::ENOTDIR));
    assert_eq!(world.fs.rmdir(inblob, b"x"), Err(Errno::ENOTDIR));
    assert_eq!(world.fs.rmdir(world.entry, b"inblob"), Err(Errno::ENOTDIR));
    assert_eq!(world.fs.rmdir(Node::Root, b"tsm"), Err(Errno::EPERM));
    assert_eq!(world.fs.rmdir(Node::Tsm, b"report"), Err(Errno::EPERM), "CONFIGFS_USET_DEFAULT");
    assert_eq!(world.fs.rmdir(Node::Report, b"."), Err(Errno::EINVAL));
    assert_eq!(world.fs.rmdir(Node::Report, b".."), Err(Errno::ENOTEMPTY));
    assert_eq!(world.fs.rmdir(Node::Report, b"none"), Err(Errno::ENOENT));
    assert_eq!(world.fs.rmdir(Node::Report, NAME), Ok(()));
    assert_eq!(world.fs.rmdir(Node::Report, NAME), Err(Errno::ENOENT));
    assert_eq!(
        world.fs.mkdir(world.entry, b"x"),
        Err(Errno::ENOENT),
        "nothing is made in a removed directory"
    );
    assert_eq!(world.fs.list(world.entry), Err(Errno::ENOENT));
    assert_eq!(world.fs.lookup(world.entry, b"inblob"), Err(Errno::ENOENT));
}

/// `configfs_unlink`, `configfs_symlink`, `vfs_link`, `vfs_mknod`, `vfs_create`, `vfs_rename`.
#[test]
fn what_configfs_does_not_do() {
    let world = World::new(KernelStyle::V6_12, tdx);
    let (fs, entry) = (&world.fs, world.entry);
    assert_eq!(fs.unlink(entry, b"inblob"), Errno::EPERM);
    assert_eq!(fs.unlink(Node::Report, NAME), Errno::EISDIR);
    assert_eq!(fs.unlink(entry, b"none"), Errno::ENOENT);
    for parent in [Node::Root, Node::Report, entry] {
        assert_eq!(fs.symlink(parent, b"new"), Errno::EPERM);
        assert_eq!(fs.link(parent, b"new"), Errno::EPERM);
        assert_eq!(fs.mknod(parent, b"new"), Errno::EPERM);
        assert_eq!(fs.create(parent, b"new"), Errno::EACCES);
        assert_eq!(fs.create(parent, &[b'n'; NAME_MAX + 1]), Errno::ENAMETOOLONG);
    }
    assert_eq!(fs.create(entry, b"inblob"), Errno::EEXIST);
    assert_eq!(fs.symlink(Node::Report, NAME), Errno::EEXIST);

    let other = fs.mkdir(Node::Report, b"other").unwrap();
    let rename = |from: (Node, &[u8]), to: (Node, &[u8])| fs.rename(from.0, from.1, to.0, to.1, false);
    assert_eq!(rename((Node::Report, NAME), (Node::Report, b"new")), Err(Errno::EPERM));
    assert_eq!(rename((Node::Report, NAME), (Node::Report, b"other")), Err(Errno::EPERM));
    assert_eq!(rename((Node::Report, NAME), (Node::Report, NAME)), Ok(()));
    assert_eq!(rename((Node::Report, b"none"), (Node::Report, b"new")), Err(Errno::ENOENT));
    assert_eq!(rename((entry, b"inblob"), (other, b"inblob")), Err(Errno::EPERM));
    assert_eq!(rename((entry, b"inblob"), (Node::Report, b"other")), Err(Errno::EISDIR));
    assert_eq!(rename((Node::Report, b"other"), (entry, b"inblob")), Err(Errno::ENOTDIR));
    assert_eq!(rename((Node::Report, b"."), (Node::Report, b"x")), Err(Errno::EBUSY));
    assert_eq!(fs.rename(Node::Report, NAME, Node::Report, NAME, true), Err(Errno::EEXIST));
}

#[rstest]
#[case(Operation::GetXattr, Errno::EOPNOTSUPP)]
#[case(Operation::SetXattr, Errno::EOPNOTSUPP)]
#[case(Operation::RemoveXattr, Errno::EOPNOTSUPP)]
#[case(Operation::Fallocate, Errno::EOPNOTSUPP)]
#[case(Operation::Fsync, Errno::EINVAL)]
#[case(Operation::Readlink, Errno::EINVAL)]
#[case(Operation::Ioctl, Errno::ENOTTY)]
#[case(Operation::Mmap, Errno::ENODEV)]
#[case(Operation::SeekBinary, Errno::ESPIPE)]
fn operations_that_always_fail(#[case] operation: Operation, #[case] errno: Errno) {
    assert_eq!(Configfs::refuse(operation), errno);
}

/// `configfs_lookup`, `configfs_create_dir`: modes, sizes and links.
#[test]
fn metadata() {
    let world = World::new(KernelStyle::V6_12, sev);
    let stat = |node| {
        let stat = world.fs.stat(node).unwrap();
        assert_eq!((stat.node, stat.uid, stat.gid), (node, 0, 0));
        (stat.directory, stat.mode, stat.size, stat.nlink)
    };
    assert_eq!(stat(Node::Root), (true, 0o755, 0, 3));
    assert_eq!(stat(Node::Tsm), (true, 0o755, 0, 3));
    assert_eq!(stat(Node::Report), (true, 0o755, 0, 3));
    assert_eq!(stat(world.entry), (true, 0o755, 0, 2));
    assert_eq!(stat(world.node(Attribute::Generation)), (false, 0o444, 4096, 1));
    assert_eq!(stat(world.node(Attribute::Privlevel)), (false, 0o200, 4096, 1));
    assert_eq!(stat(world.node(Attribute::Inblob)), (false, 0o200, 0, 1));
    assert_eq!(stat(world.node(Attribute::Outblob)), (false, 0o444, 0, 1));
    world.fs.mkdir(Node::Report, b"other").unwrap();
    assert_eq!(stat(Node::Report).3, 4);
    world.fs.rmdir(Node::Report, b"other").unwrap();
    assert_eq!(stat(Node::Report).3, 3);
}

/// `configfs_setattr`: what was set stays as long as the entry.
#[test]
fn metadata_can_be_set() {
    let world = World::new(KernelStyle::V6_12, sev);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let new =
        SetAttributes { mode: Some(0o100_640), uid: Some(7), mtime: Some(time), ..SetAttributes::default() };
    for node in [Node::Report, world.entry, world.node(Attribute::Outblob)] {
        let set = world.fs.set_attributes(node, &new).unwrap();
        assert_eq!((set.mode, set.uid, set.gid, set.mtime), (0o640, 7, 0, time));
        assert_eq!(world.fs.stat(node), Ok(set));
        assert_eq!(world.fs.set_attributes(node, &SetAttributes::default()), Ok(set));
    }
    let size = SetAttributes { size: Some(0), ..SetAttributes::default() };
    assert_eq!(world.fs.set_attributes(world.entry, &size), Err(Errno::EISDIR));
    world.write(Attribute::Inblob, b"x").unwrap();
    assert!(world.fs.set_attributes(world.node(Attribute::Inblob), &size).is_ok());
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"x", "a size changes no value");
    world.fs.rmdir(Node::Report, NAME).unwrap();
    assert_eq!(world.fs.set_attributes(world.entry, &new), Err(Errno::ENOENT));
    assert!(world.fs.stat(Node::Report).unwrap().mtime > time, "rmdir changes the directory");
}

#[test]
fn inode_numbers_without_a_node() {
    assert_eq!(Node::Root.ino(), 1);
    for ino in [0, 4, 15, 16 + 12, 16 + 15] {
        assert_eq!(Node::from_ino(ino), None, "{ino}");
    }
    let fs = Configfs::new(KernelStyle::V6_12);
    for ino in [16, 17, u64::MAX - 4] {
        let node = Node::from_ino(ino).unwrap();
        assert_eq!(node.ino(), ino);
        assert_eq!(fs.stat(node), Err(Errno::ENOENT));
    }
}

/// The limits that Linux does not have.
#[test]
fn entries_and_open_files_are_limited() {
    let world = World::new(KernelStyle::V6_12, sev);
    for number in 1..MAX_ENTRIES {
        world.fs.mkdir(Node::Report, number.to_string().as_bytes()).unwrap();
    }
    assert_eq!(world.fs.mkdir(Node::Report, b"more"), Err(Errno::ENOMEM));
    world.fs.rmdir(Node::Report, b"1").unwrap();
    assert!(world.fs.mkdir(Node::Report, b"more").is_ok());

    let node = world.node(Attribute::Generation);
    let handles: Vec<_> = (0..MAX_OPEN_FILES).map(|_| world.fs.open(node, 0).unwrap()).collect();
    assert_eq!(world.fs.open(node, 0), Err(Errno::ENOMEM));
    world.fs.release(handles[0]);
    assert!(world.fs.open(node, 0).is_ok());

    // Every entry counts: a provider comes back only when all are gone.
    world.fs.unregister();
    assert_eq!(world.fs.register(Box::new(Fake::new(sev, 0))), Err(Errno::EBUSY));
    for (name, _) in world.fs.list(Node::Report).unwrap() {
        world.fs.rmdir(Node::Report, &name).unwrap();
    }
    assert_eq!(world.fs.register(Box::new(Fake::new(sev, 0))), Ok(()));
}
