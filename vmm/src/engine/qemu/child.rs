//! A QEMU of the distribution's as a child process that leaves nothing behind.
//!
//! It connects to sockets in a private directory. It is killed when [`QemuChild`] is dropped and, by the kernel, when the thread
//! that started it ends.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::{engine::EngineError, memory::GuestRam};

/// How long QEMU may take to connect.
pub(crate) const START_TIME: Duration = Duration::from_secs(30);
const POLL_TIME: Duration = Duration::from_millis(2);

/// Which QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name in the search path.
    pub(crate) name: &'static str,
    /// Debian's package.
    pub(crate) package: &'static str,
    /// The oldest version that will do.
    pub(crate) oldest: (u32, u32),
}

impl Program {
    /// A command that becomes this program and ends with the thread that starts it.
    pub(crate) fn command(&self) -> Command {
        // setpriv (util-linux) arranges for the kernel's signal at our end, and then becomes QEMU.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", self.name]);
        command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-S"]);
        command
    }

    /// The version of the program that would be started, major and minor.
    pub(crate) fn version(&self) -> Result<(u32, u32), EngineError> {
        let output = Command::new(self.name).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| self.not_started(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
        let mut parts = number.unwrap_or_default().split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
            _ => Err(EngineError::Qemu(format!("{} --version says nothing useful: {text}", self.name))),
        }
    }

    fn not_started(&self, error: &io::Error) -> EngineError {
        let in_path = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
        };
        if !in_path(self.name) {
            let hint = format!("install it (Debian, Ubuntu: package {})", self.package);
            return EngineError::Missing(format!("there is no {} on this machine: {hint}", self.name));
        }
        if !in_path("setpriv") {
            let hint = "there is no setpriv on this machine: install util-linux";
            return EngineError::Missing(hint.to_owned());
        }
        cannot("start QEMU", error)
    }
}

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct QemuChild {
    program: Program,
    child: Child,
    directory: Option<PrivateDirectory>,
    log: File,
}

impl QemuChild {
    /// Starts it, with its sockets and files in `directory`.
    pub(crate) fn spawn(
        program: Program,
        mut command: Command,
        directory: PrivateDirectory,
    ) -> Result<Self, EngineError> {
        let log = File::options().read(true).write(true).create_new(true).open(directory.path("log"));
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (theirs, log) = log.map_err(|error| cannot("make QEMU's log", &error))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs);
        let child = command.spawn().map_err(|error| program.not_started(&error))?;
        Ok(Self { program, child, directory: Some(directory), log })
    }

    /// Waits for QEMU to connect.
    pub(crate) fn accept(
        &mut self,
        listener: &UnixListener,
        deadline: Instant,
    ) -> Result<UnixStream, EngineError> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let outcome = stream.set_nonblocking(false).map(|()| stream);
                    return outcome.map_err(|error| cannot("use QEMU's connection", &error));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(cannot("wait for QEMU", &error)),
            }
            if self.status().is_some() {
                return Err(self.start_failure());
            }
            if Instant::now() >= deadline {
                return Err(EngineError::Qemu(format!("it did not start in {} s", START_TIME.as_secs())));
            }
            std::thread::sleep(POLL_TIME);
        }
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Why it ended before it began: too old, or what it said.
    pub(crate) fn start_failure(&self) -> EngineError {
        let oldest = self.program.oldest;
        match self.program.version() {
            Ok(version) if version < oldest => EngineError::Configuration(format!(
                "QEMU {}.{} is too old: {}.{} or later is needed",
                version.0, version.1, oldest.0, oldest.1
            )),
            Ok(_) => EngineError::Qemu(format!("it did not start: {}", self.complaints())),
            Err(error) => error,
        }
    }

    /// Removes the directory: QEMU has opened all that it needs. So nothing is left however this process ends.
    pub(crate) fn leave_no_trace(&mut self) {
        self.directory = None;
    }

    /// Waits for QEMU to end, and says how it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        /// From closing its connections to its end.
        const END_TIME: Duration = Duration::from_secs(5);
        let deadline = Instant::now() + END_TIME;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_TIME),
                status => return status.ok().flatten(),
            }
        }
    }

    /// What QEMU printed, without its warnings about features of the processor that it does not emulate.
    pub(crate) fn complaints(&self) -> String {
        /// Of more, the beginning is enough.
        const MOST: usize = 64 << 10;
        let mut log = vec![0; MOST];
        let length = self.log.read_at(&mut log, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&log[..length]);
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.contains("doesn't support requested feature")).collect();
        lines.join("; ")
    }
}

impl Drop for QemuChild {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Guest RAM, `size` bytes from its file's beginning, as a value of QEMU's option `-object`.
pub(crate) fn memory_backend(id: &str, ram: &GuestRam, size: u64) -> Result<String, EngineError> {
    let no_file = || EngineError::Configuration("guest RAM for QEMU has to be in a file".to_owned());
    let file = ram.shared_file().ok_or_else(no_file)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok(format!("memory-backend-file,id={id},size={size},mem-path={path},share=on"))
}

pub(crate) fn cannot(what: &str, error: &io::Error) -> EngineError {
    EngineError::Qemu(format!("cannot {what}: {error}"))
}

/// A directory for this user only, removed when dropped.
#[derive(Debug)]
pub(crate) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    pub(crate) fn new() -> Result<Self, EngineError> {
        let mut random = [0; 8];
        let no_random = |error: getrandom::Error| EngineError::Configuration(error.to_string());
        getrandom::fill(&mut random).map_err(no_random)?;
        let name = format!("tsmsim-qemu-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| cannot("make a temporary directory", &error))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// A socket that QEMU is to connect to.
    pub(crate) fn listen(&self, name: &str) -> Result<UnixListener, EngineError> {
        let listener = UnixListener::bind(self.path(name));
        let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        listener.map_err(|error| cannot("make a socket for QEMU", &error))
    }

    /// That socket as a value of QEMU's option `-chardev`, under its own name.
    pub(crate) fn socket(&self, name: &str) -> String {
        format!("socket,id={name},path={},server=off", self.path(name).display())
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_is_gone_afterwards() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = PrivateDirectory::new().unwrap();
        let path = directory.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(directory.path("a"), "b").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_missed() {
        let program = Program { name: "no-such-qemu", package: "qemu", oldest: (7, 2) };
        assert!(
            matches!(program.version(), Err(EngineError::Missing(text)) if text.contains("package qemu"))
        );
    }
}
