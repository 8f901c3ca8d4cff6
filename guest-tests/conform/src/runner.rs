//! Runs each check in a process of its own, with a bound in time, and tidies up after it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, pipe2, setpgid},
};

use crate::{
    Status,
    check::{COVE, Check, DEVICE, EXTEND, REPORT_DATA, ROOT, SERVICE, SLOW, SNP, TDX, TREE},
    context::{Context, Provider},
    outcome::{Outcome, Stop},
    sys,
};

/// How long a killed check is waited for; after that it is left behind.
const GRACE: Duration = Duration::from_secs(3);

/// Runs one check, or says why not.
pub(crate) fn run(context: &Context, check: &Check) -> Status {
    match excuse(context, check) {
        Some(reason) => Status::Skipped(reason),
        None => run_apart(context, check).unwrap_or_else(|errno| {
            broken(format!("the check cannot be started: {}", crate::outcome::name(errno)))
        }),
    }
}

/// What the check needs and this system lacks.
fn excuse(context: &Context, check: &Check) -> Option<String> {
    let lacks = |need, condition: bool| check.needs & need != 0 && !condition;
    let snp = context.provider == Provider::Snp;
    let tdx = context.provider == Provider::Tdx;
    let cove = context.provider == Provider::Cove;
    let reason = if lacks(SNP, snp) {
        "of the provider sev_guest".to_owned()
    } else if lacks(TDX, tdx) {
        "of the provider tdx_guest".to_owned()
    } else if lacks(COVE, cove) {
        "of the provider cove_guest".to_owned()
    } else if lacks(REPORT_DATA, snp || tdx || cove) {
        "what this provider reports is not known".to_owned()
    } else if lacks(SERVICE, context.service) {
        "entries have no attributes of a service provider; there is no SVSM".to_owned()
    } else if lacks(ROOT, nix::unistd::geteuid().is_root()) {
        "needs root".to_owned()
    } else if lacks(TREE, context.report.ends_with("tsm/report")) {
        "the path does not end in tsm/report".to_owned()
    } else if lacks(DEVICE, context.device.is_some()) {
        "this provider has no device file".to_owned()
    } else if lacks(DEVICE, sys::lstat(context.device()).is_ok()) {
        format!("there is no {}", context.device().display())
    } else if lacks(SLOW, context.slow) {
        "takes minutes; --slow runs it".to_owned()
    } else if lacks(EXTEND, context.extend) {
        "changes a measurement register for good; --extend runs it".to_owned()
    } else {
        let reason = check.fuse.filter(|_| context.fuse)?;
        format!("on FUSE: {reason}")
    };
    Some(reason)
}

/// What comes out of the pipe from the check's process.
#[derive(Default)]
struct Told {
    /// Names of entries that it made or meant to make.
    names: Vec<Vec<u8>>,
    /// How it ended, if it said so.
    end: Option<Status>,
    /// Of a failure: what was looked at and what was expected; what was seen comes last.
    parts: Vec<String>,
}

fn run_apart(context: &Context, check: &Check) -> sys::Sys<Status> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // The closure owns the write end, so it is closed here once the child is there.
    let child = sys::fork(move || {
        let _own_group = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        body(context, check, write);
        true
    })?;
    // Whoever comes second finds it done.
    let _by_the_child = setpgid(child, child);
    let mut told = Told::default();
    let limit = Duration::from_secs(check.seconds);
    let heard = listen(&read, Instant::now() + limit, &mut told);
    let waited = wait(child, if heard { GRACE } else { Duration::ZERO });
    // Also whatever else the check started.
    let _none_left = killpg(child, Signal::SIGKILL);
    let waited = waited.or_else(|| wait(child, GRACE));
    // What it told last may still be in the pipe.
    let _end = listen(&read, Instant::now(), &mut told);
    tidy(context, &told.names);
    Ok(told.end.unwrap_or_else(|| match waited {
        _ if !heard => broken(format!("timed out after {} s", check.seconds)),
        Some(status) => broken(format!("the check ended without a word: {status:?}")),
        None => broken("the check ended without a word and did not go away".to_owned()),
    }))
}

/// The process of a check.
fn body(context: &Context, check: &Check, write: OwnedFd) {
    let Ok(end) = write.try_clone() else { return };
    if let Ok(mut told) = context.told.lock() {
        *told = Some(File::from(write));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| (check.run)(context))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        crate::outcome::failed("the check", "to come to an end", text)
    });
    let _parent_gone = say(&mut File::from(end), &outcome);
}

fn say(pipe: &mut File, outcome: &Outcome) -> std::io::Result<()> {
    let mut frame = |tag: u8, text: &str| {
        let length = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
        pipe.write_all(&[&[tag], &length[..], text.as_bytes()].concat())
    };
    match outcome {
        Ok(()) => frame(b'p', ""),
        Err(Stop::Skipped(reason)) => frame(b's', reason),
        Err(Stop::Failed { what, expected, got }) => {
            frame(b'w', what)?;
            frame(b'w', expected)?;
            frame(b'f', got)
        }
    }
}

/// Reads frames until the check has said how it ended or is gone: `true`; `false` if time runs out first.
fn listen(pipe: &OwnedFd, deadline: Instant, told: &mut Told) -> bool {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return true,
        }
        match sys::read(pipe, 4096) {
            Ok(more) if more.is_empty() => return true,
            Ok(more) => bytes.extend(more),
            Err(_) => return true,
        }
        while let Some((tag, text)) = frame(&mut bytes) {
            hear(told, tag, text);
        }
        if told.end.is_some() {
            return true;
        }
    }
}

/// Takes one whole frame off the front.
fn frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let tag = *bytes.first()?;
    let length = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?);
    let end = usize::try_from(length).ok()?.checked_add(5)?;
    let text = bytes.get(5..end)?.to_vec();
    bytes.drain(..end);
    Some((tag, text))
}

fn hear(told: &mut Told, tag: u8, text: Vec<u8>) {
    let string = || String::from_utf8_lossy(&text).into_owned();
    match tag {
        b'n' => told.names.push(text),
        b'w' => told.parts.push(string()),
        b'p' => told.end = Some(Status::Passed),
        b's' => told.end = Some(Status::Skipped(string())),
        _ => {
            let mut parts = told.parts.drain(..);
            let (what, expected) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            told.end = Some(Status::Failed { what, expected, got: string() });
        }
    }
}

/// Waits for a process, without ever being stuck with it.
fn wait(child: Pid, limit: Duration) -> Option<WaitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1))
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(status) => return Some(status),
        }
    }
}

/// Removes what a check left behind, also what could only come to be because a rule does not hold.
fn tidy(context: &Context, names: &[Vec<u8>]) {
    for name in names {
        let path = context.report.join(OsStr::from_bytes(name));
        match sys::rmdir(&path) {
            Err(Errno::ENOTDIR) => drop(fs::remove_file(&path)),
            Err(Errno::ENOTEMPTY) => drop(fs::remove_dir_all(&path)),
            _ => {}
        }
    }
}

fn broken(got: String) -> Status {
    Status::Failed { what: "the check".to_owned(), expected: "to come to an end".to_owned(), got }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_or_not_at_all() {
        let mut bytes = vec![b'n', 2, 0, 0, 0, b'a', b'b', b'p', 0, 0, 0];
        assert_eq!(frame(&mut bytes), Some((b'n', b"ab".to_vec())));
        assert_eq!(frame(&mut bytes), None);
        bytes.push(0);
        assert_eq!(frame(&mut bytes), Some((b'p', Vec::new())));
        assert!(bytes.is_empty());
        // A length that no memory has is never whole.
        assert_eq!(frame(&mut vec![b'n', 0xff, 0xff, 0xff, 0xff]), None);
    }
}
