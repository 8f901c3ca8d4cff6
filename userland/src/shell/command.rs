//! CMD: started, signalled, waited for.
//!
//! CMD stays in tsmsim's process group, so the terminal treats both alike. It is started through
//! [`exec_command`], a second life of the tsmsim program that asks the kernel to be killed when tsmsim dies and then
//! becomes CMD: what other programs do between `fork` and `exec`, without unsafe code.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask, raise},
        signalfd::SignalFd,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getppid},
};

use super::{
    error::ShellError,
    watch::{WATCH_ARGUMENT, watch},
};

/// The first argument that makes tsmsim the second life of itself.
pub const EXEC_ARGUMENT: &str = "__exec";

/// Where CMD finds what is served, unless it is at its own place.
const ROOT_VARIABLE: &str = "TSMSIM_ROOT";

/// `si_code` of signals that the kernel sends of its own accord, such as those of a terminal (`asm-generic/siginfo.h`).
const SI_KERNEL: i32 = 0x80;

/// Signals that are passed on to CMD.
const FORWARDED: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// The signals of this process, taken one by one instead of interrupting it.
pub(super) struct Signals {
    file: SignalFd,
    /// What was blocked before, and is for CMD.
    before: SigSet,
}

/// How CMD ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(Signal),
}

impl Signals {
    /// Blocks the signals for this thread and those that it starts. CMD gets the mask that was.
    ///
    /// # Errors
    /// The system refuses a file for them.
    pub(super) fn block() -> Result<Self, ShellError> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGTSTP);
        let mut before = SigSet::empty();
        let file = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))
            .and_then(|()| SignalFd::new(&set))
            .map_err(ShellError::failed_with("taking over signals"))?;
        Ok(Self { file, before })
    }

    /// The next signal, and whether a process sent it (not the kernel for a terminal, which tells CMD as well).
    fn next(&self) -> Result<(Signal, bool), ShellError> {
        let failed = || ShellError::failed_with("waiting for signals");
        loop {
            match self.file.read_signal() {
                Ok(Some(info)) => {
                    let number = i32::try_from(info.ssi_signo).map_err(|_| failed()(Errno::EINVAL))?;
                    let signal = Signal::try_from(number).map_err(failed())?;
                    return Ok((signal, info.ssi_code != SI_KERNEL));
                }
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed()(errno)),
            }
        }
    }

    /// Waits until somebody wants this process to end.
    ///
    /// # Errors
    /// Signals cannot be waited for.
    pub(super) fn wait_for_end(&self) -> Result<(), ShellError> {
        const END: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
        while !END.contains(&self.next()?.0) {}
        Ok(())
    }

    /// Starts CMD and waits for its end, passing signals on.
    ///
    /// # Errors
    /// This program cannot be started a second time. If CMD cannot be started, it ends with 127 or 126 as a shell says it.
    pub(super) fn run(&self, command: &[OsString], root: Option<&OsStr>) -> Result<Ended, ShellError> {
        let child = spawn(command, root, &self.before)?;
        let pid = i32::try_from(child.id()).map_or(Pid::this(), Pid::from_raw);
        loop {
            match self.next()? {
                (Signal::SIGCHLD, _) => {
                    if let Some(ended) = reap(pid)? {
                        return Ok(ended);
                    }
                }
                // CMD's stop is followed, whoever caused it.
                (Signal::SIGTSTP, _) | (_, false) => {}
                // An error means that CMD has just ended.
                (signal, true) => drop(kill(pid, signal)),
            }
        }
    }
}

fn spawn(command: &[OsString], root: Option<&OsStr>, mask: &SigSet) -> Result<Child, ShellError> {
    let mut child = Command::new("/proc/self/exe");
    let blocked: Vec<String> =
        Signal::iterator().filter(|signal| mask.contains(*signal)).map(|signal| signal.to_string()).collect();
    child.arg0("tsmsim").arg(EXEC_ARGUMENT).arg(Pid::this().to_string()).arg(blocked.join(",")).args(command);
    if let Some(root) = root {
        child.env(ROOT_VARIABLE, root);
    }
    child.spawn().map_err(ShellError::failed("starting the command"))
}

/// Looks what became of CMD. If it was stopped, so is this process: whoever waits for the job waits for this process.
fn reap(pid: Pid) -> Result<Option<Ended>, ShellError> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, status)) => {
                return Ok(Some(Ended::Exited(u8::try_from(status & 0xff).unwrap_or(u8::MAX))));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Some(Ended::Killed(signal))),
            Ok(WaitStatus::Stopped(..)) => drop(raise(Signal::SIGSTOP)),
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ShellError::failed_with("waiting for the command")(errno)),
        }
    }
}

impl Ended {
    /// What this process is to end with: the same status, or by the same signal (without a second core file), so that a
    /// shell says of tsmsim what it would say of CMD.
    #[must_use]
    pub fn pass_on(self) -> ExitCode {
        match self {
            Self::Exited(status) => ExitCode::from(status),
            Self::Killed(signal) => {
                let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(signal)), None);
                // Twice: Rust's handlers of SIGSEGV and SIGBUS reset themselves when the first is not a stack overflow.
                let _ = raise(signal).and_then(|()| raise(signal));
                // Ignored by whoever started tsmsim, and so by tsmsim: say it as a shell does.
                ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
            }
        }
    }
}

/// The second life of tsmsim: becomes CMD. The arguments are the number of the process that starts it, the signals that CMD
/// is to have blocked, and CMD. Or it waits for the end of the first life, to unmount a directory.
///
/// Becoming CMD, returns only if that could not be started: 127 if there is no such program, else 126, as shells have it.
#[must_use]
pub fn exec_command(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let first = arguments.next();
    if first.as_ref().is_some_and(|first| first == WATCH_ARGUMENT) {
        return watch(arguments);
    }
    let parent = first.and_then(|number| number.to_str()?.parse().ok()).map(Pid::from_raw);
    let mask = arguments.next().and_then(|names| read_mask(names.to_str()?));
    let (Some(parent), Some(mask), Some(program)) = (parent, mask, arguments.next()) else {
        eprintln!("tsmsim: {EXEC_ARGUMENT} is for tsmsim itself");
        return ExitCode::from(2);
    };
    let bound = prctl::set_pdeathsig(Signal::SIGKILL)
        .and_then(|()| pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None));
    // A parent that died between `fork` and the first of these calls is no longer the parent.
    if bound.is_err() || getppid() != parent {
        return ExitCode::from(126);
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("tsmsim: {}: {error}", program.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// A signal mask from names between commas.
fn read_mask(names: &str) -> Option<SigSet> {
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.parse::<Signal>().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read() {
        let some: SigSet = [Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
        assert_eq!(read_mask("SIGTERM,SIGCHLD"), Some(some));
        assert_eq!(read_mask(""), Some(SigSet::empty()));
        assert_eq!(read_mask("SIGNOTHING"), None);
    }

    #[test]
    fn the_second_life_takes_no_nonsense() {
        let exec = |arguments: &[&str]| exec_command(arguments.iter().map(OsString::from));
        for arguments in
            [&[][..], &["1"], &["1", ""], &["x", "", "true"], &["1", "SIGX", "true"], &["unmount"]]
        {
            assert_eq!(exec(arguments), ExitCode::from(2), "{arguments:?}");
        }
    }
}
