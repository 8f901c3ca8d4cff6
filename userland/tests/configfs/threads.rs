//! Many threads on many entries, and on one.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use tsmsim_userland::configfs::{Access, KernelStyle, Node};
use tsmsim_userland::provider::Attribute;

use crate::fake::{NAME, World, generation, node, read, sev, write};

const THREADS: u64 = 32;
const ROUNDS: u64 = 50;

#[test]
fn threads_on_entries_of_their_own_never_see_each_other() {
    let world = World::new(KernelStyle::V6_12, sev);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let fs = &world.fs;
            scope.spawn(move || {
                let name = format!("of thread {number}").into_bytes();
                let entry = fs.mkdir(Node::Report, &name).unwrap();
                for round in 0..ROUNDS {
                    let inblob = format!("{number} {round}").into_bytes();
                    write(fs, entry, Attribute::Inblob, &inblob).unwrap();
                    assert_eq!(read(fs, entry, Attribute::Auxblob).unwrap(), inblob);
                    assert_eq!(generation(fs, entry), round + 1);
                }
                fs.rmdir(Node::Report, &name).unwrap();
            });
        }
    });
    assert_eq!(u64::try_from(world.fake.asked()).unwrap(), THREADS * ROUNDS);
    assert_eq!(world.fs.list(Node::Report).unwrap().len(), 1);
}

#[test]
fn every_write_of_threads_on_one_entry_counts() {
    let world = World::new(KernelStyle::V6_12, sev);
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (world, barrier) = (&world, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..ROUNDS {
                    let inblob = format!("{number} {round}").into_bytes();
                    let before = world.generation();
                    world.write(Attribute::Inblob, &inblob).unwrap();
                    let auxblob = world.read(Attribute::Auxblob).unwrap();
                    let after = world.generation();
                    assert!(after > before);
                    // The generation moved by the own write only: then the report is the own one.
                    if after == before + 1 {
                        assert_eq!(auxblob, inblob);
                    }
                }
            });
        }
    });
    assert_eq!(world.generation(), THREADS * ROUNDS);
}

#[test]
fn threads_that_make_and_remove_one_entry() {
    let world = World::new(KernelStyle::V6_12, sev);
    let made: i64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                let fs = &world.fs;
                scope.spawn(move || {
                    let mut balance = 0_i64;
                    for _ in 0..ROUNDS {
                        match fs.mkdir(Node::Report, b"contended") {
                            Ok(entry) => {
                                // Another thread may already have removed it.
                                let written = write(fs, entry, Attribute::Inblob, b"x");
                                assert!(matches!(written, Ok(1) | Err(Errno::ENOENT)), "{written:?}");
                                balance += 1;
                            }
                            Err(errno) => assert_eq!(errno, Errno::EEXIST),
                        }
                        match fs.rmdir(Node::Report, b"contended") {
                            Ok(()) => balance -= 1,
                            Err(errno) => assert_eq!(errno, Errno::ENOENT),
                        }
                    }
                    balance
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(made, 0, "each that was made was removed once");
    assert_eq!(world.fs.list(Node::Report).unwrap().len(), 1);
}

/// `configfs_bin_read_iter` asks for the size and for the bytes, and the report may change in between: the size stays.
#[test]
fn a_report_that_changes_between_size_and_bytes() {
    let world = World::new(KernelStyle::V6_12, sev);
    let (short, long) = ([b's'; 10], [b'l'; 60]);
    world.write(Attribute::Inblob, &short).unwrap();
    let running = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                world.write(Attribute::Inblob, &long).unwrap();
                world.write(Attribute::Inblob, &short).unwrap();
            }
        });
        for _ in 0..2000 {
            let blob = world.read(Attribute::Auxblob).unwrap();
            let cut = [&short[..], &[0; 50]].concat();
            assert!([&short[..], &long, &long[..10], &cut].contains(&&blob[..]), "{blob:?}");
        }
        running.store(false, Ordering::Relaxed);
    });
}

/// While the provider sleeps in `report_new`, `tsm_rwsem` and the entry's `frag_sem` are held, and nothing else.
#[test]
fn the_tree_is_free_while_a_report_is_being_made() {
    let world = World::new(KernelStyle::V6_12, sev);
    let other = world.fs.mkdir(Node::Report, b"other").unwrap();
    world.write(Attribute::Inblob, b"x").unwrap();
    let inblob = world.open(Attribute::Inblob, OFlag::O_WRONLY);
    let sleeping = world.open(Attribute::Outblob, OFlag::O_RDONLY);
    thread::scope(|scope| {
        let gate = world.fake.gate.lock().unwrap();
        let reader = scope.spawn(|| world.fs.read(sleeping, 0, 1 << 20));
        while world.fake.asked() == 0 {
            thread::yield_now();
        }
        assert_eq!(world.fs.lookup(Node::Report, NAME), Ok(world.entry));
        assert_eq!(world.fs.list(world.entry).unwrap().len(), 7);
        assert!(world.fs.stat(world.node(Attribute::Outblob)).is_ok());
        assert_eq!(world.fs.write(inblob, 0, b"y"), Ok(1), "collecting takes no lock of tsm");
        let text = world.fs.open(node(other, Attribute::Generation), 0).unwrap();
        let privlevel = world.open(Attribute::Privlevel, OFlag::O_WRONLY);
        for (handle, access) in [
            (sleeping, Access::Read),
            (sleeping, Access::Release),
            (text, Access::Read),
            (privlevel, Access::Write),
            (inblob, Access::Release),
        ] {
            assert!(world.fs.would_wait(handle, access), "{access:?}");
        }
        assert!(!world.fs.would_wait(inblob, Access::Write));
        assert!(!world.fs.would_wait(text, Access::Release));
        assert!(world.fs.mkdir_would_wait());
        assert!(world.fs.rmdir_would_wait(Node::Report, NAME));
        assert!(!world.fs.rmdir_would_wait(Node::Report, b"other"));
        assert_eq!(world.fs.rmdir(Node::Report, b"other"), Ok(()), "frag_sem is the other entry's own");
        // `rmdir` of the entry itself waits until the report is made.
        let remover = scope.spawn(|| world.fs.rmdir(Node::Report, NAME));
        drop(gate);
        let outcome = reader.join().unwrap();
        assert!(matches!(outcome, Ok(_) | Err(Errno::ENOENT)), "{outcome:?}");
        assert_eq!(remover.join().unwrap(), Ok(()));
    });
}
