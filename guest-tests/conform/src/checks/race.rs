//! `race/…`: many threads and processes on one entry and on many.

use std::{
    any::Any,
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
};

use crate::{
    check::{Check, REPORT_DATA},
    context::{Context, Entry, nonce_of, seed},
    outcome::{Outcome, equal, failed, holds, name, ok},
    sys,
};

const LOCK: &str = "tsm_rwsem";

pub(super) const CHECKS: &[Check] = &[
    Check::new("race/own-entries", "threads on entries of their own do not meet", LOCK, own_entries)
        .needs(REPORT_DATA)
        .seconds(300),
    Check::new("race/no-lost-write", "threads write one entry: each write counts", LOCK, no_lost_write)
        .seconds(300),
    Check::new(
        "race/no-torn-report",
        "threads write and read one entry: each report carries what one of them wrote",
        LOCK,
        no_torn_report,
    )
    .needs(REPORT_DATA)
    .seconds(300),
    Check::new(
        "race/generation-tells",
        "whoever sees the expected generation has the own report",
        LOCK,
        generation_tells,
    )
    .needs(REPORT_DATA)
    .seconds(300),
    Check::new(
        "race/one-report-for-all",
        "threads that read after one write read the same report",
        "tsm_report_read",
        one_report,
    )
    .seconds(300),
    Check::new("race/processes-one-entry", "processes write one entry: each write counts", LOCK, processes)
        .seconds(300),
    Check::new(
        "race/processes-own-entries",
        "processes on entries of their own do not meet",
        LOCK,
        own_processes,
    )
    .needs(REPORT_DATA)
    .seconds(300),
    Check::new("race/mkdir", "of many that make one name, one does", "configfs_dirent_exists", mkdir)
        .seconds(180),
    Check::new("race/rmdir", "of many that remove one entry, one does", "configfs_rmdir", rmdir).seconds(180),
    Check::new(
        "race/rmdir-in-use",
        "an entry in use can be removed; users see ENOENT",
        "configfs_fragment",
        rmdir_in_use,
    )
    .seconds(180),
    Check::new(
        "race/list",
        "an entry that stays is listed once, whatever comes and goes",
        "configfs_readdir",
        list,
    )
    .seconds(180),
];

/// How often each thread does it.
fn rounds(context: &Context) -> u64 {
    if context.slow { 100 } else { 4 }
}

/// What a thread came to.
pub(super) fn joined(result: Result<Outcome, Box<dyn Any + Send>>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(_) => failed("a thread", "to come to an end", "it panicked"),
    }
}

/// The same work in many threads at once; each gets its number.
fn threads(context: &Context, work: impl Fn(u64) -> Outcome + Sync) -> Outcome {
    thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> =
            (0..u64::from(context.threads)).map(|number| scope.spawn(move || work(number))).collect();
        all.into_iter().try_for_each(|thread| joined(thread.join()))
    })
}

fn salt(thread: u64, round: u64) -> u64 {
    thread << 32 | round
}

fn own_entries(context: &Context) -> Outcome {
    let base = seed();
    threads(context, |thread| {
        let entry = context.entry()?;
        for round in 0..rounds(context) {
            let nonce = nonce_of(base, salt(thread, round));
            entry.inblob(&nonce)?;
            entry.carries(context, &nonce)?;
            entry.generation_is("of a thread's own entry", round + 1)?;
        }
        Ok(())
    })
}

fn no_lost_write(context: &Context) -> Outcome {
    let entry = context.entry()?;
    let (base, rounds) = (seed(), 8 * rounds(context));
    threads(context, |thread| {
        (0..rounds).try_for_each(|round| entry.inblob(&nonce_of(base, salt(thread, round))))
    })?;
    entry.generation_is("after all writes", u64::from(context.threads) * rounds)
}

fn no_torn_report(context: &Context) -> Outcome {
    let entry = context.entry()?;
    let (base, rounds) = (seed(), rounds(context));
    let all: HashSet<[u8; 64]> = (0..u64::from(context.threads))
        .flat_map(|thread| (0..rounds).map(move |round| nonce_of(base, salt(thread, round))))
        .collect();
    threads(context, |thread| {
        for round in 0..rounds {
            entry.inblob(&nonce_of(base, salt(thread, round)))?;
            let data = context.report_data(&entry.outblob()?)?;
            holds(
                all.contains(&data),
                "the caller's data in outblob",
                "one of those that were written",
                "another",
            )?;
        }
        Ok(())
    })?;
    let last = context.report_data(&entry.outblob()?)?;
    holds(all.contains(&last), "the caller's data at last", "one of those that were written", "another")?;
    entry.generation_is("after all writes", u64::from(context.threads) * rounds)
}

/// The protocol of Documentation/ABI/testing/configfs-tsm: generation, inblob, outblob, generation.
fn generation_tells(context: &Context) -> Outcome {
    let entry = context.entry()?;
    let (base, undisturbed) = (seed(), AtomicU64::new(0));
    threads(context, |thread| {
        for round in 0..rounds(context) {
            let nonce = nonce_of(base, salt(thread, round));
            let before = entry.generation()?;
            entry.inblob(&nonce)?;
            let report = entry.outblob()?;
            let after = entry.generation()?;
            holds(
                after > before,
                "generation after one's own write",
                "more than before",
                format!("{after}"),
            )?;
            if after == before + 1 {
                undisturbed.fetch_add(1, Ordering::Relaxed);
                equal(
                    "undisturbed by its generation, the report is one's own",
                    context.report_data(&report)? == nonce,
                    true,
                )?;
            }
        }
        Ok(())
    })?;
    entry.generation_is("after all writes", u64::from(context.threads) * rounds(context))
}

fn one_report(context: &Context) -> Outcome {
    let entry = context.entry()?;
    for round in 0..rounds(context) {
        entry.inblob(&nonce_of(seed(), round))?;
        let read = || entry.read("outblob");
        let reports: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..context.threads).map(|_| scope.spawn(read)).collect();
            all.into_iter().map(|thread| thread.join().unwrap_or(Err(Errno::EIO))).collect()
        });
        let mut distinct = HashSet::new();
        for report in reports {
            distinct.insert(ok("read outblob", report)?);
        }
        equal("different reports of one generation", distinct.len(), 1)?;
    }
    Ok(())
}

/// Runs `work` in as many processes as there are threads, half of what is asked for.
fn in_processes(context: &Context, work: impl Fn(u64) -> Outcome) -> Outcome {
    let mut children = Vec::new();
    for number in 0..u64::from(context.threads.div_ceil(2)) {
        let child = sys::fork(|| work(number).is_ok());
        children.push(ok("fork", child)?);
    }
    for child in children {
        let status = ok("wait", waitpid(child, None))?;
        let fine = matches!(status, WaitStatus::Exited(_, 0));
        holds(fine, "a process", "to find what it expects", format!("{status:?}"))?;
    }
    Ok(())
}

fn processes(context: &Context) -> Outcome {
    let entry = context.entry()?;
    let (base, rounds) = (seed(), 8 * rounds(context));
    in_processes(context, |number| {
        (0..rounds).try_for_each(|round| entry.inblob(&nonce_of(base, salt(number, round))))
    })?;
    entry.generation_is("after all writes", u64::from(context.threads.div_ceil(2)) * rounds)
}

fn own_processes(context: &Context) -> Outcome {
    let base = seed();
    in_processes(context, |number| {
        let entry = context.entry()?;
        for round in 0..rounds(context) {
            let nonce = nonce_of(base, salt(number, round));
            entry.inblob(&nonce)?;
            entry.carries(context, &nonce)?;
            entry.generation_is("of a process's own entry", round + 1)?;
        }
        Ok(())
    })
}

/// Counts who succeeded; all others are to see `errno`.
fn only_one(context: &Context, what: &str, errno: Errno, act: impl Fn() -> sys::Sys<()> + Sync) -> Outcome {
    let succeeded = AtomicU64::new(0);
    threads(context, |_| match act() {
        Ok(()) => {
            succeeded.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(other) if other == errno => Ok(()),
        Err(other) => failed(what, name(errno), name(other)),
    })?;
    equal(format!("{what} that succeeded"), succeeded.into_inner(), 1)
}

fn mkdir(context: &Context) -> Outcome {
    for _ in 0..rounds(context) {
        let path = context.report.join(context.fresh(b""));
        only_one(context, "mkdir", Errno::EEXIST, || sys::mkdir(&path))?;
        ok("rmdir", sys::rmdir(&path))?;
    }
    Ok(())
}

fn rmdir(context: &Context) -> Outcome {
    for _ in 0..rounds(context) {
        let entry = context.entry()?;
        only_one(context, "rmdir", Errno::ENOENT, || sys::rmdir(&entry.path))?;
    }
    Ok(())
}

/// Removes and makes an entry while threads use whatever has its name.
fn rmdir_in_use(context: &Context) -> Outcome {
    let mut entry: Entry = context.entry()?;
    let (path, stop) = (entry.path.clone(), AtomicBool::new(false));
    let users = |number: u64| -> Outcome {
        while !stop.load(Ordering::Relaxed) {
            for step in [
                sys::write_file(&path.join("inblob"), &nonce_of(7, number)).map(|_| ()),
                sys::read_file(&path.join("outblob")).map(|_| ()),
                sys::read_file(&path.join("generation")).map(|_| ()),
            ] {
                match step {
                    // Between a new entry and its first inblob there is no report.
                    Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
                    Err(errno) => {
                        return failed("a step of a user", "success, ENOENT or EINVAL", name(errno));
                    }
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let users = &users;
        let all: Vec<_> =
            (0..u64::from(context.threads.min(8))).map(|number| scope.spawn(move || users(number))).collect();
        let replaced = (0..4 * rounds(context)).try_for_each(|_| {
            entry.remove()?;
            entry = context.named(path.file_name().unwrap_or_default())?;
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        replaced.and(all.into_iter().try_for_each(|thread| joined(thread.join())))
    })?;
    let before = entry.generation()?;
    entry.inblob(&nonce_of(seed(), 0))?;
    entry.generation_is("of the entry that is left, after one more write", before + 1)
}

/// Lists while others make and remove entries.
fn list(context: &Context) -> Outcome {
    let entry = context.entry()?;
    let stop = AtomicBool::new(false);
    let come_and_go = || -> Outcome {
        while !stop.load(Ordering::Relaxed) {
            context.entry()?.remove()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..context.threads.min(8)).map(|_| scope.spawn(come_and_go)).collect();
        let listed = (0..25 * rounds(context)).try_for_each(|_| {
            let names = ok("list the entries", sys::names(&context.report))?;
            let own = names.iter().filter(|(name, _)| Some(name.as_os_str()) == entry.path.file_name());
            equal("times that the entry is listed", own.count(), 1)
        });
        stop.store(true, Ordering::Relaxed);
        listed.and(all.into_iter().try_for_each(|thread| joined(thread.join())))
    })
}
