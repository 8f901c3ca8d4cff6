//! Running the command and passing on what it prints.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use tsmsim_abi::guest_channel::FrameType;
use tsmsim_abi::linux_guest::{INBLOB, OUT, STATUS_NOT_STARTED};

use crate::channel::Channel;
use crate::configuration::Configuration;

/// What a command has unless the configuration says otherwise.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("TERM", "dumb"),
    ("TSMSIM_INBLOB", INBLOB),
    ("TSMSIM_OUT", OUT),
];

/// Runs the command to its end; gives its exit status as a shell would.
pub(crate) fn command(channel: &Arc<Channel>, configuration: &Configuration) -> u32 {
    let check = [OsString::from("/proc/self/exe"), OsString::from("check")];
    let words = if configuration.command.is_empty() { &check[..] } else { &configuration.command };
    let Some((program, arguments)) = words.split_first() else {
        return STATUS_NOT_STARTED.into();
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(ENVIRONMENT);
    command.envs(configuration.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(configuration.directory.as_deref().unwrap_or("/".as_ref()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            channel.log(&not_started(program, &error));
            return STATUS_NOT_STARTED.into();
        }
    };
    let readers = [
        child.stdout.take().map(|pipe| pass_on(channel, FrameType::STDOUT, pipe)),
        child.stderr.take().map(|pipe| pass_on(channel, FrameType::STDERR, pipe)),
    ];
    let status = wait_for(i32::try_from(child.id()).unwrap_or(-1), wait);
    // Whatever the command left behind would keep the pipes open. To the first process this means: all others.
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => channel.log(&format!("the remaining processes cannot be ended: {error}")),
    }
    for reader in readers.into_iter().flatten() {
        if reader.join().is_err() {
            channel.log("output was lost");
        }
    }
    status
}

fn not_started(program: &OsString, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        // The kernel says the same of a program whose dynamic linker is missing.
        ErrorKind::NotFound => "; it, or the dynamic linker that it wants, is not in the guest",
        _ => "",
    };
    format!("{} cannot be started: {error}{hint}", program.display())
}

/// Sends all that comes out of a pipe.
fn pass_on(channel: &Arc<Channel>, kind: FrameType, mut pipe: impl Read + Send + 'static) -> JoinHandle<()> {
    let channel = Arc::clone(channel);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => channel.output(kind, buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

/// Waits for a child, and for every orphan that ends before it: the first process inherits them. `wait` waits for whatever
/// process ends next.
fn wait_for(child: i32, mut wait: impl FnMut() -> nix::Result<WaitStatus>) -> u32 {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == child => {
                return u32::try_from(status).unwrap_or(u32::from(STATUS_NOT_STARTED));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return 128 + (signal as i32).unsigned_abs();
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return STATUS_NOT_STARTED.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const CHILD: Pid = Pid::from_raw(7);
    const ORPHAN: Pid = Pid::from_raw(8);

    #[rstest]
    #[case::status(&[Ok(WaitStatus::Exited(CHILD, 7))], 7)]
    #[case::signal(&[Ok(WaitStatus::Signaled(CHILD, Signal::SIGKILL, false))], 137)]
    #[case::orphans(&[
        Ok(WaitStatus::Exited(ORPHAN, 1)),
        Err(Errno::EINTR),
        Ok(WaitStatus::Signaled(ORPHAN, Signal::SIGTERM, false)),
        Ok(WaitStatus::Exited(CHILD, 0)),
    ], 0)]
    #[case::nobody(&[Err(Errno::ECHILD)], 127)]
    fn statuses(#[case] ends: &[nix::Result<WaitStatus>], #[case] expected: u32) {
        let mut ends = ends.iter();
        assert_eq!(wait_for(CHILD.as_raw(), || *ends.next().unwrap()), expected);
    }

    #[test]
    fn a_missing_program_is_explained() {
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        let text = not_started(&"/no/such/program".into(), &error);
        assert!(text.contains("/no/such/program") && text.contains("dynamic linker"), "{text}");
    }
}
