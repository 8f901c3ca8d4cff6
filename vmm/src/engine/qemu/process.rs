//! A QEMU of the distribution's as a child process: an ordinary user's, without a disk, a network or a display.
//!
//! Its RAM is a file without a name that this process has mapped ([`GuestRam::new_shared`]), there a second time at
//! `1 << alias_bit` if the configuration says so. It connects to three sockets in a private directory: its gdb stub and
//! two serial ports. It is killed when [`QemuProcess`] is dropped and, by the kernel, when the thread that started it ends.

use std::{
    cell::RefCell,
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
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{engine::EngineError, memory::GuestRam};

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";
/// It has to know `Qqemu.PhyMemMode` and to keep its gdb stub apart from its processors.
const OLDEST: (u32, u32) = (7, 2);
/// How long QEMU may take to connect.
const START_TIME: Duration = Duration::from_secs(30);
const POLL_TIME: Duration = Duration::from_millis(2);

/// A machine for QEMU to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuConfig {
    /// The model of the board and its options: `pc`, `q35,hpet=off`.
    pub machine: String,
    /// The model of the processor and its options, as `-cpu` takes them.
    pub cpu: String,
    /// RAM is there a second time, at this bit of guest-physical addresses.
    pub alias_bit: Option<u8>,
    /// The firmware at the end of the first 4 GiB: a multiple of 64 KiB, with the reset vector 16 bytes before its end.
    pub firmware: Vec<u8>,
}

/// A running QEMU whose processor has not started.
#[derive(Debug)]
pub(super) struct QemuProcess {
    child: Child,
    directory: Option<PrivateDirectory>,
    log: File,
    pub(super) gdb: Option<UnixStream>,
    /// What the guest writes to its first two serial ports.
    pub(super) serial: RefCell<[Option<UnixStream>; 2]>,
}

impl QemuProcess {
    pub(super) fn spawn(config: &QemuConfig, ram: &GuestRam) -> Result<Self, EngineError> {
        let directory = PrivateDirectory::new()?;
        let firmware = directory.path("firmware");
        fs::write(&firmware, &config.firmware).map_err(|error| cannot("write QEMU's firmware", &error))?;
        let listen = |name| {
            let listener = UnixListener::bind(directory.path(name));
            let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
            listener.map_err(|error| cannot("make a socket for QEMU", &error))
        };
        let listeners = [listen("gdb")?, listen("serial0")?, listen("serial1")?];
        let log = File::options().read(true).write(true).create_new(true).open(directory.path("log"));
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (theirs, log) = log.map_err(|error| cannot("make QEMU's log", &error))?;
        let mut command = command(config, ram, &directory)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs);
        let child = command.spawn().map_err(|error| not_started(&error))?;
        let mut process =
            Self { child, directory: Some(directory), log, gdb: None, serial: RefCell::default() };
        let deadline = Instant::now() + START_TIME;
        let [gdb, first, second] = listeners;
        let serial = [Some(process.accept(&first, deadline)?), Some(process.accept(&second, deadline)?)];
        process.serial = RefCell::new(serial);
        process.gdb = Some(process.accept(&gdb, deadline)?);
        Ok(process)
    }

    /// Waits for QEMU to connect.
    fn accept(&mut self, listener: &UnixListener, deadline: Instant) -> Result<UnixStream, EngineError> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let outcome = stream.set_nonblocking(false).map(|()| stream);
                    return outcome.map_err(|error| cannot("use QEMU's connection", &error));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(cannot("wait for QEMU", &error)),
            }
            if !self.runs() {
                return Err(self.start_failure());
            }
            if Instant::now() >= deadline {
                return Err(EngineError::Qemu(format!("it did not start in {} s", START_TIME.as_secs())));
            }
            std::thread::sleep(POLL_TIME);
        }
    }

    fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Why it ended before it began: too old, or what it said.
    fn start_failure(&self) -> EngineError {
        match version() {
            Ok(version) if version < OLDEST => EngineError::Configuration(format!(
                "QEMU {}.{} is too old: {}.{} or later is needed",
                version.0, version.1, OLDEST.0, OLDEST.1
            )),
            Ok(_) => EngineError::Qemu(format!("it did not start: {}", self.complaints())),
            Err(error) => error,
        }
    }

    /// Removes the directory: QEMU has opened all that it needs. So nothing is left however this process ends.
    pub(super) fn leave_no_trace(&mut self) {
        self.directory = None;
    }

    /// Waits for QEMU to end, and says whether it did so by itself and without complaint.
    pub(super) fn ended_well(&mut self) -> bool {
        /// From closing its connections to its end.
        const END_TIME: Duration = Duration::from_secs(5);
        let deadline = Instant::now() + END_TIME;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_TIME),
                _ => return false,
            }
        }
    }

    /// What QEMU printed, without its warnings about features of the processor that it does not emulate.
    pub(super) fn complaints(&self) -> String {
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

impl Drop for QemuProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The version of the QEMU that would be started, major and minor.
///
/// # Errors
/// If there is none, with what to install.
pub fn version() -> Result<(u32, u32), EngineError> {
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| not_started(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    let mut parts = number.unwrap_or_default().split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(EngineError::Qemu(format!("{QEMU} --version says nothing useful: {text}"))),
    }
}

fn command(
    config: &QemuConfig,
    ram: &GuestRam,
    directory: &PrivateDirectory,
) -> Result<Command, EngineError> {
    let no_file = || EngineError::Configuration("guest RAM for QEMU has to be in a file".to_owned());
    let file = ram.shared_file().ok_or_else(no_file)?;
    let ram_path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let backend =
        |id| format!("memory-backend-file,id={id},size={},mem-path={ram_path},share=on", ram.size());
    let socket = |id: &str| format!("socket,id={id},path={},server=off", directory.path(id).display());
    // setpriv (util-linux) arranges for the kernel's signal at our end, and then becomes QEMU.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", QEMU]);
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-S"]);
    command.args(["-accel", "tcg", "-smp", "1", "-cpu", &config.cpu]);
    command.args(["-machine", &format!("{},memory-backend=ram", config.machine)]);
    command.args(["-object", &backend("ram")]);
    command.arg("-m").arg(match config.alias_bit {
        Some(bit) => format!("size={}k,slots=1,maxmem={}k", ram.size() >> 10, maximum(bit, ram)? >> 10),
        None => format!("size={}k", ram.size() >> 10),
    });
    if let Some(bit) = config.alias_bit {
        command.args(["-object", &backend("alias")]);
        command.args(["-device", &format!("pc-dimm,memdev=alias,addr={:#x}", 1u64 << bit)]);
    }
    for id in ["serial0", "serial1"] {
        command.args(["-chardev", &socket(id), "-serial", &format!("chardev:{id}")]);
    }
    command.args(["-chardev", &socket("gdb"), "-gdb", "chardev:gdb"]);
    command.arg("-bios").arg(directory.path("firmware"));
    Ok(command)
}

/// The greatest size of memory that leaves room for RAM's second place.
fn maximum(alias_bit: u8, ram: &GuestRam) -> Result<u64, EngineError> {
    /// RAM above 4 GiB, of which there is none, and the slots behind it begin at multiples of this.
    const GIB: u64 = 1 << 30;
    let wrong = || EngineError::Configuration(format!("RAM cannot be at bit {alias_bit} too"));
    let alias = (32..52).contains(&alias_bit).then(|| 1u64 << alias_bit).ok_or_else(wrong)?;
    Ok((alias + 2 * ram.size()).next_multiple_of(GIB))
}

fn not_started(error: &io::Error) -> EngineError {
    let in_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
    };
    if !in_path(QEMU) {
        let hint = "install it (Debian, Ubuntu: package qemu-system-x86)";
        return EngineError::Missing(format!("there is no {QEMU} on this machine: {hint}"));
    }
    if !in_path("setpriv") {
        return EngineError::Missing("there is no setpriv on this machine: install util-linux".to_owned());
    }
    cannot("start QEMU", error)
}

fn cannot(what: &str, error: &io::Error) -> EngineError {
    EngineError::Qemu(format!("cannot {what}: {error}"))
}

/// A directory for this user only, removed when dropped.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> Result<Self, EngineError> {
        let mut random = [0; 8];
        let no_random = |error: getrandom::Error| EngineError::Configuration(error.to_string());
        getrandom::fill(&mut random).map_err(no_random)?;
        let name = format!("tsmsim-qemu-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| cannot("make a temporary directory", &error))?;
        Ok(Self(path))
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
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
    use crate::memory::GuestRam;

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
    fn ram_has_to_be_in_a_file_and_its_second_place_above_4_gib() {
        let config =
            |alias_bit| QemuConfig { machine: "pc".into(), cpu: "max".into(), alias_bit, firmware: vec![] };
        let directory = PrivateDirectory::new().unwrap();
        assert!(command(&config(None), &GuestRam::new(4096).unwrap(), &directory).is_err());
        let ram = GuestRam::new_shared(4096).unwrap();
        assert!(command(&config(None), &ram, &directory).is_ok());
        assert!(command(&config(Some(51)), &ram, &directory).is_ok());
        assert!(command(&config(Some(31)), &ram, &directory).is_err());
        assert!(command(&config(Some(52)), &ram, &directory).is_err());
    }
}
