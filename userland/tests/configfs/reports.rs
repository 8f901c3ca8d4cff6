//! The rules of the `tsm` core; each test names the function of `drivers/virt/coco/tsm.c`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rstest::rstest;
use tsmsim_userland::configfs::{Configfs, KernelStyle, MAX_HELD_BYTES, Node};
use tsmsim_userland::provider::{Attribute, ReportRequest};

use crate::fake::{Answer, Fake, World, blobs_of, read, sev, svsm, write};

const STYLES: [KernelStyle; 3] = [KernelStyle::V6_7, KernelStyle::V6_12, KernelStyle::V6_16];

fn request(inblob: &[u8]) -> ReportRequest {
    ReportRequest { inblob: inblob.to_vec(), ..ReportRequest::default() }
}

/// `tsm_report_make_item`.
#[test]
fn an_entry_needs_a_provider() {
    let fs = Configfs::new(KernelStyle::V6_12);
    assert_eq!(fs.mkdir(Node::Report, b"a"), Err(Errno::ENXIO));
    fs.register(Box::new(Fake::new(sev, 0))).unwrap();
    assert!(fs.mkdir(Node::Report, b"a").is_ok());
    fs.unregister().unwrap();
    assert_eq!(fs.mkdir(Node::Report, b"b"), Err(Errno::ENXIO));
}

/// `tsm_register`, `tsm_unregister`, `tsm_report_drop_item`.
#[rstest]
#[case(KernelStyle::V6_7, Ok(()))]
#[case(KernelStyle::V6_12, Err(Errno::EBUSY))]
#[case(KernelStyle::V6_16, Err(Errno::EBUSY))]
fn registering(#[case] style: KernelStyle, #[case] beside_entries: Result<(), Errno>) {
    let world = World::new(style, sev);
    assert_eq!(world.fs.register(Box::new(world.fake.clone())), Err(Errno::EBUSY));
    assert!(world.fs.unregister().is_some());
    assert!(world.fs.unregister().is_none());
    assert_eq!(world.fs.register(Box::new(world.fake.clone())), beside_entries);
    world.fs.unregister();
    world.fs.rmdir(Node::Report, crate::fake::NAME).unwrap();
    assert_eq!(world.fs.register(Box::new(world.fake.clone())), Ok(()));
}

/// `try_advance_write_generation`, `tsm_report_generation_show`.
#[test]
fn the_generation_counts_what_was_written() {
    let world = World::new(KernelStyle::V6_12, svsm);
    assert_eq!(world.read(Attribute::Generation).unwrap(), b"0\n");
    let writes: [(Attribute, &[u8]); 5] = [
        (Attribute::Inblob, b"x"),
        (Attribute::Privlevel, b"1"),
        (Attribute::ServiceProvider, b"svsm"),
        (Attribute::ServiceGuid, b"00112233-4455-6677-8899-aabbccddeeff"),
        (Attribute::ServiceManifestVersion, b"7"),
    ];
    for (count, (attribute, value)) in (1..).zip(writes) {
        assert_eq!(world.write(attribute, value), Ok(value.len()));
        assert_eq!(world.generation(), count, "{attribute:?}");
    }
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.generation(), 5, "reading moves nothing");
}

/// `read_cached_report`, `tsm_report_read`.
#[test]
fn a_report_is_made_once_for_each_configuration() {
    let world = World::new(KernelStyle::V6_12, svsm);
    world.write(Attribute::Inblob, b"one").unwrap();
    assert_eq!(world.fake.asked(), 0, "writing makes none");
    for attribute in [Attribute::Outblob, Attribute::Auxblob, Attribute::Manifestblob, Attribute::Outblob] {
        world.read(attribute).unwrap();
    }
    assert_eq!(world.fake.asked(), 1);
    assert_eq!(world.read(Attribute::Outblob).unwrap(), blobs_of(&request(b"one")).outblob.unwrap());
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"one");
    assert_eq!(world.read(Attribute::Manifestblob).unwrap(), b"", "a blob that was not made is empty");
    world.write(Attribute::Inblob, b"one").unwrap();
    world.read(Attribute::Auxblob).unwrap();
    assert_eq!(world.fake.asked(), 2, "the same value counts as a change");
}

/// `tsm_report_read`: `read_generation` moves only after success.
#[test]
fn a_failure_leaves_the_entry_stale() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"one").unwrap();
    world.read(Attribute::Outblob).unwrap();
    world.write(Attribute::Inblob, b"two").unwrap();
    for errno in [Errno::EIO, Errno::ETIMEDOUT, Errno::EWOULDBLOCK] {
        world.fake.answer(Answer::Fail(errno));
        assert_eq!(world.read(Attribute::Outblob), Err(errno));
    }
    assert_eq!(world.fake.asked(), 4, "each read tries again");
    world.fake.answer(Answer::Request);
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"two");
    assert_eq!(world.generation(), 2);
}

/// `read_cached_report`: an `outblob` that is a null pointer is no report, one of no bytes is.
#[test]
fn success_without_a_report_is_not_kept() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"one").unwrap();
    world.fake.answer(Answer::Nothing);
    for asked in 1..4 {
        assert_eq!(world.read(Attribute::Outblob), Ok(Vec::new()));
        assert_eq!(world.fake.asked(), asked);
    }
    world.fake.answer(Answer::Bytes(0));
    for _ in 0..3 {
        assert_eq!(world.read(Attribute::Outblob), Ok(Vec::new()));
        assert_eq!(world.fake.asked(), 4);
    }
}

/// `tsm_report_read`: what is checked first.
#[rstest]
fn without_inblob_or_provider(
    #[values(Attribute::Outblob, Attribute::Auxblob)] blob: Attribute,
    #[values(0, 1, 2)] style: usize,
) {
    let style = STYLES[style];
    let world = World::new(style, sev);
    assert_eq!(world.read(blob), Err(Errno::EINVAL));
    world.write(Attribute::Privlevel, b"2").unwrap();
    assert_eq!(world.read(blob), Err(Errno::EINVAL), "another attribute does not help");
    world.fs.unregister().unwrap();
    assert_eq!(world.read(blob), Err(Errno::EINVAL), "the missing inblob is found first");
    world.write(Attribute::Inblob, b"x").unwrap();
    let gone = if style == KernelStyle::V6_7 { Errno::ENOTTY } else { Errno::ENXIO };
    assert_eq!(world.read(blob), Err(gone));
}

/// `read_cached_report` does not ask for a provider.
#[test]
fn a_fresh_report_outlives_its_provider() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"x").unwrap();
    let outblob = world.read(Attribute::Outblob).unwrap();
    world.fs.unregister().unwrap();
    assert_eq!(world.read(Attribute::Outblob).unwrap(), outblob);
    assert_eq!(world.read(Attribute::Provider), Err(Errno::ENXIO));
    assert_eq!(world.read(Attribute::PrivlevelFloor), Err(Errno::ENXIO));
    assert_eq!(world.write(Attribute::Privlevel, b"1"), Err(Errno::ENXIO));
    assert_eq!(world.write(Attribute::Privlevel, b"one"), Err(Errno::EINVAL), "the text is parsed first");
    assert_eq!(world.generation(), 1);
}

/// `tsm_report_inblob_write` with a count of 0.
#[test]
fn an_empty_inblob_is_none() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"x").unwrap();
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.write(Attribute::Inblob, b""), Err(Errno::EFAULT), "as copy_from_iter copied nothing");
    assert_eq!(world.generation(), 2, "the close stored nothing, and counted");
    assert_eq!(world.read(Attribute::Outblob), Err(Errno::EINVAL));
}

/// `tsm_report_privlevel_store`, `tsm_report_privlevel_floor_show`. The floor is 1.
#[rstest]
#[case(b"1", Ok(1))]
#[case(b"0x3\n", Ok(3))]
#[case(b"+02", Ok(2))]
#[case(b"3\0garbage", Ok(3))]
#[case(b"0", Err(Errno::EINVAL))]
#[case(b"4", Err(Errno::EINVAL))]
#[case(b"-1", Err(Errno::EINVAL))]
#[case(b"two", Err(Errno::EINVAL))]
#[case(b"2 ", Err(Errno::EINVAL))]
#[case(b"\n", Err(Errno::EINVAL))]
#[case(b"4294967297", Err(Errno::ERANGE))]
#[case(b"99999999999999999999", Err(Errno::ERANGE))]
fn privlevel(#[case] text: &[u8], #[case] expected: Result<u32, Errno>) {
    let world = World::new(KernelStyle::V6_12, sev);
    assert_eq!(world.read(Attribute::PrivlevelFloor).unwrap(), b"1\n");
    assert_eq!(world.write(Attribute::Privlevel, text), expected.map(|_| text.len()));
    assert_eq!(world.generation(), u64::from(expected.is_ok()), "a refused value does not count");
    world.write(Attribute::Inblob, b"x").unwrap();
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().privlevel, expected.unwrap_or(0));
}

/// `tsm_report_service_provider_store`.
#[rstest]
#[case(b"svsm", b"svsm")]
#[case(b"svsm\n", b"svsm")]
#[case(b"svsm\n\n", b"svsm\n")]
#[case(b"\n", b"")]
#[case(b"sv\0sm\n", b"sv")]
#[case(b"\xff\n", b"\xff")]
fn service_provider(#[case] text: &[u8], #[case] expected: &[u8]) {
    let world = World::new(KernelStyle::V6_12, svsm);
    assert_eq!(world.write(Attribute::ServiceProvider, text), Ok(text.len()));
    world.write(Attribute::Inblob, b"x").unwrap();
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().service_provider.as_deref(), Some(expected));
}

/// `tsm_report_service_guid_store`.
#[test]
fn a_wrong_guid_resets_it_and_counts() {
    let world = World::new(KernelStyle::V6_12, svsm);
    world.write(Attribute::Inblob, b"x").unwrap();
    world.write(Attribute::ServiceGuid, b"c476f1eb-0123-45a5-9641-b4e7dde5bfe3\n").unwrap();
    world.read(Attribute::Outblob).unwrap();
    let guid =
        [0xeb, 0xf1, 0x76, 0xc4, 0x23, 0x01, 0xa5, 0x45, 0x96, 0x41, 0xb4, 0xe7, 0xdd, 0xe5, 0xbf, 0xe3];
    assert_eq!(world.fake.last().service_guid, guid);
    assert_eq!(world.write(Attribute::ServiceGuid, b"c476f1eb"), Err(Errno::EINVAL));
    assert_eq!(world.generation(), 3);
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().service_guid, [0; 16]);
}

/// `tsm_report_service_manifest_version_store`: no bounds but those of the type, and no provider needed.
#[test]
fn service_manifest_version() {
    let world = World::new(KernelStyle::V6_12, svsm);
    world.write(Attribute::Inblob, b"x").unwrap();
    world.write(Attribute::ServiceManifestVersion, b"0xffffffff").unwrap();
    assert_eq!(world.write(Attribute::ServiceManifestVersion, b"4294967296"), Err(Errno::ERANGE));
    assert_eq!(world.write(Attribute::ServiceManifestVersion, b"x"), Err(Errno::EINVAL));
    assert_eq!(world.generation(), 2);
    world.read(Attribute::Outblob).unwrap();
    assert_eq!(world.fake.last().service_manifest_version, u32::MAX);
    world.fs.unregister();
    assert_eq!(world.write(Attribute::ServiceManifestVersion, b"1"), Ok(1));
}

/// `tsm_report_provider_show`.
#[test]
fn provider() {
    let world = World::new(KernelStyle::V6_12, sev);
    assert_eq!(world.read(Attribute::Provider).unwrap(), b"fake_guest\n");
}

/// `read_cached_report`: an empty outblob is a report all the same.
#[test]
fn an_empty_outblob_is_cached() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.fake.answer(Answer::Bytes(0));
    world.write(Attribute::Inblob, b"x").unwrap();
    assert_eq!(world.read(Attribute::Outblob).unwrap(), b"");
    assert_eq!(world.read(Attribute::Outblob).unwrap(), b"");
    assert_eq!(world.fake.asked(), 1);
}

/// `struct tsm_report_state` is one entry's own.
#[test]
fn entries_do_not_share_state() {
    let world = World::new(KernelStyle::V6_12, sev);
    let other = world.fs.mkdir(Node::Report, b"other").unwrap();
    world.write(Attribute::Inblob, b"one").unwrap();
    assert_eq!(read(&world.fs, other, Attribute::Outblob), Err(Errno::EINVAL));
    assert_eq!(read(&world.fs, other, Attribute::Generation).unwrap(), b"0\n");
    write(&world.fs, other, Attribute::Inblob, b"two").unwrap();
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"one");
    assert_eq!(read(&world.fs, other, Attribute::Auxblob).unwrap(), b"two");
    world.fs.rmdir(Node::Report, b"other").unwrap();
    let again = world.fs.mkdir(Node::Report, b"other").unwrap();
    assert_ne!(again, other);
    assert_eq!(read(&world.fs, again, Attribute::Outblob), Err(Errno::EINVAL), "a new entry begins anew");
}

/// The limit that Linux does not have: too much is ENOMEM, and the entry stays stale.
#[test]
fn what_is_held_is_limited() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"x").unwrap();
    world.fake.answer(Answer::Bytes(MAX_HELD_BYTES + 1));
    assert_eq!(world.read(Attribute::Outblob), Err(Errno::ENOMEM));
    world.fake.answer(Answer::Bytes(MAX_HELD_BYTES));
    assert_eq!(
        world.read(Attribute::Outblob),
        Err(Errno::EFBIG),
        "made and held, but larger than configfs reads"
    );
    let other = world.fs.mkdir(Node::Report, b"other").unwrap();
    write(&world.fs, other, Attribute::Inblob, b"x").unwrap();
    world.fake.answer(Answer::Request);
    assert_eq!(read(&world.fs, other, Attribute::Outblob), Err(Errno::ENOMEM));
    assert_eq!(read(&world.fs, other, Attribute::Generation), Err(Errno::ENOMEM), "buffers count too");
    world.fs.rmdir(Node::Report, crate::fake::NAME).unwrap();
    assert!(read(&world.fs, other, Attribute::Outblob).is_ok(), "the entry's memory came back");
}

/// `tsm_report_read` frees the old report before the new one is made.
#[test]
fn a_new_report_takes_the_place_of_the_old_one() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.fake.answer(Answer::Bytes(MAX_HELD_BYTES));
    for _ in 0..3 {
        world.write(Attribute::Inblob, b"x").unwrap();
        assert_eq!(world.read(Attribute::Outblob), Err(Errno::EFBIG));
    }
}

/// Of ten thousand reports, their files and their entries, nothing stays.
#[test]
fn memory_is_given_back() {
    let world = World::new(KernelStyle::V6_12, sev);
    for number in 0..10_000_u64 {
        let entry = world.fs.mkdir(Node::Report, b"again").unwrap();
        write(&world.fs, entry, Attribute::Inblob, &number.to_le_bytes()).unwrap();
        assert_eq!(read(&world.fs, entry, Attribute::Auxblob).unwrap(), number.to_le_bytes());
        world.fs.rmdir(Node::Report, b"again").unwrap();
    }
    assert_eq!(world.fake.asked(), 10_000);
    assert_eq!(format!("{:?}", world.fs), "Configfs { style: V6_12, held: 0, .. }");
}

/// A provider that panics poisons no lock.
#[test]
fn a_panic_of_the_provider_does_not_spread() {
    let world = World::new(KernelStyle::V6_12, sev);
    world.write(Attribute::Inblob, b"x").unwrap();
    let gate = world.fake.gate.clone();
    let poisoned = std::panic::catch_unwind(move || {
        let _guard = gate.lock().unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(poisoned.is_err());
    let handle = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.fs.read(handle, 0, 10)));
    assert!(panicked.is_err());
    world.fs.release(handle);
    world.fake.gate.clear_poison();
    assert_eq!(world.read(Attribute::Auxblob).unwrap(), b"x");
    assert!(!world.fs.mkdir_would_wait());
}
