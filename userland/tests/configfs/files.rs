//! The rules of open attributes; each test names the function of `fs/configfs/file.c`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rstest::rstest;
use tsmsim_userland::configfs::{Access, Handle, KernelStyle, Node, SetAttributes};
use tsmsim_userland::provider::Attribute;

use crate::fake::{Answer, NAME, World, sev, svsm};

/// `__configfs_open_file`: the attribute's method and mode decide, for the superuser too.
#[rstest]
#[case(Attribute::Generation, true)]
#[case(Attribute::Provider, true)]
#[case(Attribute::PrivlevelFloor, true)]
#[case(Attribute::Outblob, true)]
#[case(Attribute::Auxblob, true)]
#[case(Attribute::Manifestblob, true)]
#[case(Attribute::Privlevel, false)]
#[case(Attribute::ServiceProvider, false)]
#[case(Attribute::ServiceGuid, false)]
#[case(Attribute::ServiceManifestVersion, false)]
#[case(Attribute::Inblob, false)]
fn an_attribute_is_read_or_written(#[case] attribute: Attribute, #[case] read: bool) {
    let world = World::new(KernelStyle::V6_12, svsm);
    let open = |flags: OFlag| world.fs.open(world.node(attribute), flags.bits()).map(|_| ());
    let (right, wrong) =
        if read { (OFlag::O_RDONLY, OFlag::O_WRONLY) } else { (OFlag::O_WRONLY, OFlag::O_RDONLY) };
    assert_eq!(open(right), Ok(()));
    assert_eq!(open(right | OFlag::O_TRUNC | OFlag::O_CREAT | OFlag::O_APPEND), Ok(()));
    assert_eq!(open(wrong), Err(Errno::EACCES));
    assert_eq!(open(OFlag::O_RDWR), Err(Errno::EACCES));
    // The access mode 3 gives a file that can neither be read nor written.
    let neither = world.open(attribute, OFlag::O_ACCMODE);
    assert_eq!(world.fs.read(neither, 0, 1), Err(Errno::EBADF));
    assert_eq!(world.fs.write(neither, 0, b"x"), Err(Errno::EBADF));
    // A mode that allows something does not make a method.
    world
        .fs
        .set_attributes(
            world.node(attribute),
            &SetAttributes { mode: Some(0o666), ..SetAttributes::default() },
        )
        .unwrap();
    assert_eq!(open(OFlag::O_RDWR), Err(Errno::EACCES));
    world
        .fs
        .set_attributes(world.node(attribute), &SetAttributes { mode: Some(0), ..SetAttributes::default() })
        .unwrap();
    assert_eq!(open(right), Err(Errno::EACCES));
}

/// `vfs_read`, `vfs_write`: `FMODE_READ`, `FMODE_WRITE`; `rw_verify_area`.
#[test]
fn the_wrong_direction_position_or_handle() {
    let world = World::new(KernelStyle::V6_12, sev);
    let reader = world.open(Attribute::Generation, OFlag::O_RDONLY);
    let writer = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    assert_eq!(world.fs.write(reader, 0, b"1"), Err(Errno::EBADF));
    assert_eq!(world.fs.read(writer, 0, 1), Err(Errno::EBADF));
    let past = u64::try_from(i64::MAX).unwrap();
    for offset in [past, u64::MAX, past + 1] {
        assert_eq!(world.fs.read(reader, offset, 1), Err(Errno::EINVAL));
        assert_eq!(world.fs.write(writer, offset, b"x"), Err(Errno::EINVAL));
    }
    assert_eq!(world.fs.read(reader, past - 1, 1), Ok(vec![]));
    assert_eq!(world.fs.write(writer, past - 1, b"x"), Err(Errno::EFBIG));
    assert_eq!(world.fs.read(reader, 0, usize::MAX), Err(Errno::EINVAL));
    world.fs.release(reader);
    for handle in [reader, Handle::from_number(0), Handle::from_number(u64::MAX)] {
        assert_eq!(world.fs.read(handle, 0, 1), Err(Errno::EBADF));
        assert_eq!(world.fs.write(handle, 0, b"x"), Err(Errno::EBADF));
        assert!(!world.fs.would_wait(handle, Access::Read));
        world.fs.release(handle);
    }
    assert_eq!(world.fs.open(world.entry, 0), Err(Errno::EISDIR));
}

/// `configfs_read_iter`, `fill_read_buffer`: the first read fills the buffer, and nothing fills it again.
#[test]
fn an_open_text_attribute_keeps_its_text() {
    let world = World::new(KernelStyle::V6_12, sev);
    let handle = world.open(Attribute::Generation, OFlag::O_RDONLY);
    world.write(Attribute::Inblob, b"x").unwrap();
    assert_eq!(world.fs.read(handle, 0, 4096).unwrap(), b"1\n", "filled at the first read, not when opened");
    world.write(Attribute::Inblob, b"x").unwrap();
    assert_eq!(world.fs.read(handle, 0, 4096).unwrap(), b"1\n", "position 0 does not fill it again");
    assert_eq!(world.generation(), 2);
    assert_eq!(world.fs.read(handle, 0, 1).unwrap(), b"1");
    assert_eq!(world.fs.read(handle, 1, 9).unwrap(), b"\n");
    assert_eq!(world.fs.read(handle, 2, 9).unwrap(), b"");
    assert_eq!(world.fs.read(handle, 1 << 40, 9).unwrap(), b"");
    assert_eq!(world.fs.read(handle, 0, 0), Err(Errno::EFAULT), "copy_to_iter copied nothing");
    assert_eq!(world.fs.read(handle, 2, 0).unwrap(), b"");
}

/// `fill_write_buffer`, `configfs_write_iter`: each write is a whole value, at any offset, of at most 4095 bytes.
#[test]
fn text_is_stored_write_by_write() {
    let world = World::new(KernelStyle::V6_12, svsm);
    let handle = world.open(Attribute::ServiceProvider, OFlag::O_WRONLY);
    assert_eq!(world.fs.write(handle, 0, b"sv"), Ok(2));
    assert_eq!(world.fs.write(handle, 2, b"sm"), Ok(2));
    assert_eq!(world.fs.write(handle, 0, b""), Err(Errno::EFAULT));
    assert_eq!(world.generation(), 2, "stored at once");
    world.write(Attribute::Inblob, b"x").unwrap();
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().service_provider.unwrap(), b"sm");
    assert_eq!(world.fs.write(handle, 1 << 40, &[b'y'; 5000]), Ok(4095));
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().service_provider.unwrap(), [b'y'; 4095]);
    let before = world.generation();
    world.fs.release(handle);
    assert_eq!(world.generation(), before, "the close stores nothing");
}

/// `configfs_bin_write_iter`, `configfs_release_bin_file`.
#[test]
fn a_binary_value_is_collected_and_stored_at_the_close() {
    let world = World::new(KernelStyle::V6_12, sev);
    let handle = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    assert_eq!(world.fs.write(handle, 4, b"ef"), Ok(2));
    assert_eq!(world.fs.write(handle, 0, b"ab"), Ok(2));
    assert_eq!(world.fs.write(handle, 5, b"FG"), Ok(2));
    assert_eq!(world.generation(), 0);
    assert_eq!(world.read(Attribute::Outblob), Err(Errno::EINVAL));
    world.fs.release(handle);
    assert_eq!(world.generation(), 1, "one close, one store");
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().inblob, b"ab\0\0eFG");
    let unwritten = world.open(Attribute::Inblob, OFlag::O_WRONLY | OFlag::O_TRUNC);
    world.fs.release(unwritten);
    assert_eq!(world.generation(), 1, "an open file that was not written stores nothing");
}

/// `configfs_bin_write_iter`: `cb_max_size`, and that a refused write begins the collection too.
#[rstest]
#[case(0, 64, Ok(64))]
#[case(63, 1, Ok(1))]
#[case(64, 0, Err(Errno::EFAULT))]
#[case(0, 65, Err(Errno::EFBIG))]
#[case(64, 1, Err(Errno::EFBIG))]
#[case(65, 0, Err(Errno::EFBIG))]
#[case(1 << 40, 1, Err(Errno::EFBIG))]
fn an_inblob_has_at_most_64_bytes(
    #[case] offset: u64,
    #[case] len: usize,
    #[case] expected: Result<usize, Errno>,
) {
    let world = World::new(KernelStyle::V6_12, sev);
    let handle = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    assert_eq!(world.fs.write(handle, offset, &vec![7; len]), expected);
    world.fs.release(handle);
    assert_eq!(world.generation(), 1);
    let stored = expected != Err(Errno::EFBIG);
    assert_eq!(world.read(Attribute::Outblob).is_ok(), stored, "a refused write leaves an empty inblob");
    if stored {
        assert_eq!(world.fake.last().inblob.len(), 64);
    }
}

/// `configfs_bin_read_iter`: the first read fills the buffer, all others serve it.
#[test]
fn an_open_blob_keeps_its_bytes() {
    let world = World::new(KernelStyle::V6_12, sev);
    let handle = world.open(Attribute::Auxblob, OFlag::O_RDONLY);
    assert_eq!(world.fs.read(handle, 0, 9), Err(Errno::EINVAL), "a failure leaves it unfilled");
    world.write(Attribute::Inblob, b"first").unwrap();
    assert_eq!(world.fs.read(handle, 3, 9).unwrap(), b"st", "the first read may be anywhere");
    world.write(Attribute::Inblob, b"second").unwrap();
    assert_eq!(world.fs.read(handle, 0, 9).unwrap(), b"first");
    assert_eq!(world.fs.read(handle, 5, 9).unwrap(), b"");
    assert_eq!(world.fs.read(handle, 0, 0), Err(Errno::EFAULT));
    assert_eq!(world.fake.asked(), 1);
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"second");
}

/// `configfs_bin_read_iter`: a size of 0 is the end of the file and leaves the buffer unfilled.
#[test]
fn an_empty_blob_is_asked_for_again() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.fake.answer(Answer::Bytes(0));
    world.write(Attribute::Inblob, b"x").unwrap();
    let handle = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    assert_eq!(world.fs.read(handle, 0, 9).unwrap(), b"");
    world.fake.answer(Answer::Bytes(3));
    assert_eq!(world.fs.read(handle, 0, 9).unwrap(), b"", "the report is cached");
    world.write(Attribute::Inblob, b"y").unwrap();
    assert_eq!(world.fs.read(handle, 0, 9).unwrap(), [0; 3]);
}

/// `configfs_bin_read_iter`: `cb_max_size` is `TSM_OUTBLOB_MAX`.
#[rstest]
#[case(KernelStyle::V6_7)]
#[case(KernelStyle::V6_12)]
#[case(KernelStyle::V6_16)]
fn a_blob_has_at_most_32_kib(#[case] style: KernelStyle) {
    let world = World::new(style, sev);
    world.fake.answer(Answer::Bytes(style.outblob_max()));
    world.write(Attribute::Inblob, b"x").unwrap();
    assert_eq!(world.read(Attribute::Outblob).unwrap().len(), 32768);
    world.fake.answer(Answer::Bytes(style.outblob_max() + 1));
    world.write(Attribute::Inblob, b"x").unwrap();
    let handle = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    assert_eq!(world.fs.read(handle, 0, 9), Err(Errno::EFBIG));
    assert_eq!(world.fs.read(handle, 0, 9), Err(Errno::EFBIG));
    assert_eq!(world.fake.asked(), 2, "the report is cached all the same");
}

/// `frag_dead`: in `__configfs_open_file`, the filling of buffers, `flush_write_buffer`, `configfs_release_bin_file`.
#[test]
fn open_files_of_a_removed_entry() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"x").unwrap();
    let filled = world.open(Attribute::Auxblob, OFlag::O_RDONLY);
    world.fs.read(filled, 0, 9).unwrap();
    let unfilled = [Attribute::Outblob, Attribute::Generation, Attribute::Provider];
    let unfilled = unfilled.map(|attribute| world.open(attribute, OFlag::O_RDONLY));
    let text = world.open(Attribute::Privlevel, OFlag::O_WRONLY);
    let inblob = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    world.fs.write(inblob, 0, b"lost").unwrap();
    world.fs.rmdir(Node::Report, NAME).unwrap();

    assert_eq!(world.fs.open(world.node(Attribute::Outblob), 0), Err(Errno::ENOENT));
    for handle in unfilled {
        assert_eq!(world.fs.read(handle, 0, 9), Err(Errno::ENOENT));
        assert!(!world.fs.would_wait(handle, Access::Release));
    }
    assert_eq!(world.fs.write(text, 0, b"1"), Err(Errno::ENOENT));
    assert_eq!(world.fs.read(filled, 0, 9).unwrap(), b"x", "a filled buffer needs no method");
    assert_eq!(world.fs.write(inblob, 4, b"x"), Ok(1), "collecting needs no method");
    let asked = world.fake.asked();
    for handle in unfilled.into_iter().chain([filled, text, inblob]) {
        assert_eq!(world.fs.stat(world.entry).unwrap().nlink, 0);
        assert_eq!(world.fs.stat(world.node(Attribute::Outblob)).unwrap().nlink, 0);
        world.fs.release(handle);
    }
    assert_eq!(world.fs.stat(world.entry), Err(Errno::ENOENT), "the last close frees the entry");
    assert_eq!(world.fs.stat(world.node(Attribute::Outblob)), Err(Errno::ENOENT));
    assert_eq!(world.fake.asked(), asked);
}

/// The advice on waiting, while nothing is under way.
#[test]
fn what_could_make_a_report() {
    let world = World::new(KernelStyle::V6_12, sev);
    let outblob = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    let inblob = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    assert!(!world.fs.would_wait(outblob, Access::Read), "EINVAL comes at once");
    world.write(Attribute::Inblob, b"x").unwrap();
    assert!(world.fs.would_wait(outblob, Access::Read));
    assert!(!world.fs.would_wait(inblob, Access::Write));
    world.fs.read(outblob, 0, 1).unwrap();
    assert!(!world.fs.would_wait(outblob, Access::Read), "the buffer is filled");
    let other = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    assert!(!world.fs.would_wait(other, Access::Read), "the report is fresh");
    world.fs.write(inblob, 0, b"y").unwrap();
    assert!(!world.fs.would_wait(inblob, Access::Release));
    world.fs.release(inblob);
    assert!(world.fs.would_wait(other, Access::Read));
    world.fs.unregister();
    assert!(!world.fs.would_wait(other, Access::Read), "ENXIO comes at once");
}
