//! A QEMU of the distribution's as a child process: an ordinary user's, without a disk, a network or a display.
//!
//! Its RAM is a file without a name that this process has mapped ([`GuestRam::new_shared`]), there a second time at
//! `1 << alias_bit` if the configuration says so. It connects to three sockets in a private directory: its gdb stub and
//! two serial ports. It ends with its [`QemuChild`].

use std::{cell::RefCell, fs, os::unix::net::UnixStream, process::Command, time::Instant};

use super::child::{PrivateDirectory, Program, QemuChild, START_TIME, cannot, memory_backend};
use crate::{engine::EngineError, memory::GuestRam};

/// The program.
pub const QEMU: &str = PROGRAM.name;
/// It has to know `Qqemu.PhyMemMode` and to keep its gdb stub apart from its processors.
const PROGRAM: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86", oldest: (7, 2) };

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
    pub(super) child: QemuChild,
    pub(super) gdb: Option<UnixStream>,
    /// What the guest writes to its first two serial ports.
    pub(super) serial: RefCell<[Option<UnixStream>; 2]>,
}

impl QemuProcess {
    pub(super) fn spawn(config: &QemuConfig, ram: &GuestRam) -> Result<Self, EngineError> {
        let directory = PrivateDirectory::new()?;
        let firmware = directory.path("firmware");
        fs::write(&firmware, &config.firmware).map_err(|error| cannot("write QEMU's firmware", &error))?;
        let gdb = directory.listen("gdb")?;
        let [first, second] = [directory.listen("serial0")?, directory.listen("serial1")?];
        let command = command(config, ram, &directory)?;
        let mut child = QemuChild::spawn(PROGRAM, command, directory)?;
        let deadline = Instant::now() + START_TIME;
        let serial = [Some(child.accept(&first, deadline)?), Some(child.accept(&second, deadline)?)];
        let gdb = Some(child.accept(&gdb, deadline)?);
        Ok(Self { child, gdb, serial: RefCell::new(serial) })
    }
}

/// The version of the QEMU that would be started, major and minor.
///
/// # Errors
/// If there is none, with what to install.
pub fn version() -> Result<(u32, u32), EngineError> {
    PROGRAM.version()
}

fn command(
    config: &QemuConfig,
    ram: &GuestRam,
    directory: &PrivateDirectory,
) -> Result<Command, EngineError> {
    let backend = |id| memory_backend(id, ram, ram.size());
    let mut command = PROGRAM.command();
    command.args(["-accel", "tcg", "-smp", "1", "-cpu", &config.cpu]);
    command.args(["-machine", &format!("{},memory-backend=ram", config.machine)]);
    command.args(["-object", &backend("ram")?]);
    command.arg("-m").arg(match config.alias_bit {
        Some(bit) => format!("size={}k,slots=1,maxmem={}k", ram.size() >> 10, maximum(bit, ram)? >> 10),
        None => format!("size={}k", ram.size() >> 10),
    });
    if let Some(bit) = config.alias_bit {
        command.args(["-object", &backend("alias")?]);
        command.args(["-device", &format!("pc-dimm,memdev=alias,addr={:#x}", 1u64 << bit)]);
    }
    for id in ["serial0", "serial1"] {
        command.args(["-chardev", &directory.socket(id), "-serial", &format!("chardev:{id}")]);
    }
    command.args(["-chardev", &directory.socket("gdb"), "-gdb", "chardev:gdb"]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;

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
