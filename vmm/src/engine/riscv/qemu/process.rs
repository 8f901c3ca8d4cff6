//! The child process: its arguments and its sockets.

use std::{cell::RefCell, os::unix::net::UnixStream, process::Command, time::Instant};

use super::{
    firmware::{Firmware, SIZE},
    monitor::Monitor,
};
use crate::{
    engine::{
        EngineError,
        qemu::child::{PrivateDirectory, Program, QemuChild, START_TIME, memory_backend},
    },
    memory::GuestRam,
};

/// The program.
pub const QEMU: &str = PROGRAM.name;
/// The oldest version that this was tried with.
const PROGRAM: Program = Program { name: "qemu-system-riscv64", package: "qemu-system-misc", oldest: (7, 2) };
/// Names of the sockets of the guest's serial ports: the board's own, and one on PCI.
const SERIAL: [&str; 2] = ["serial0", "serial1"];
const MONITOR: &str = "monitor";

/// The version of the QEMU that would be started, major and minor.
///
/// # Errors
/// If there is none, with what to install.
pub fn version() -> Result<(u32, u32), EngineError> {
    PROGRAM.version()
}

/// A running QEMU whose hart has not started.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: QemuChild,
    pub(super) monitor: Monitor,
    /// What the guest writes to its serial ports, if it has any.
    pub(super) serial: RefCell<[Option<UnixStream>; 2]>,
}

impl Process {
    /// Starts a QEMU that has `ram` and the firmware's memory behind it, and whose hart is to begin at `start`.
    pub(super) fn spawn(firmware: &Firmware, ram: &GuestRam, start: u64) -> Result<Self, EngineError> {
        let directory = PrivateDirectory::new()?;
        let monitor = directory.listen(MONITOR)?;
        let ports = match firmware {
            Firmware::BareMetal => &[],
            Firmware::OpenSbi(_) => &SERIAL[..],
        };
        let listeners =
            ports.iter().map(|name| directory.listen(name)).collect::<Result<Vec<_>, EngineError>>()?;
        let command = command(ports, ram, start, &directory)?;
        let mut child = QemuChild::spawn(PROGRAM, command, directory)?;
        let deadline = Instant::now() + START_TIME;
        let mut serial = [None, None];
        for (place, listener) in serial.iter_mut().zip(&listeners) {
            *place = Some(child.accept(listener, deadline)?);
        }
        let stream = child.accept(&monitor, deadline)?;
        let monitor = Monitor::new(stream).map_err(|error| match child.ended() {
            Some(_) => child.start_failure(),
            None => error,
        })?;
        child.leave_no_trace();
        Ok(Self { child, monitor, serial: RefCell::new(serial) })
    }
}

fn command(
    ports: &[&str],
    ram: &GuestRam,
    start: u64,
    directory: &PrivateDirectory,
) -> Result<Command, EngineError> {
    let size = ram.size().saturating_add(SIZE);
    let mut command = PROGRAM.command();
    command.args(["-accel", "tcg", "-smp", "1", "-cpu", "rv64"]);
    command.args(["-machine", "virt,memory-backend=ram"]);
    command.args(["-object", &memory_backend("ram", ram, size)?]);
    command.arg("-m").arg(format!("size={}k", size >> 10));
    for (number, name) in ports.iter().enumerate() {
        command.args(["-chardev", &directory.socket(name)]);
        if number == 0 {
            command.args(["-serial", &format!("chardev:{name}")]);
        } else {
            command.args(["-device", &format!("pci-serial,chardev={name},addr={number}")]);
        }
    }
    command.args(["-chardev", &directory.socket(MONITOR)]);
    command.args(["-mon", &format!("chardev={MONITOR},mode=control")]);
    // No firmware of QEMU's: the hart begins with ours, which is in its memory already.
    command.args(["-bios", "none"]);
    command.args(["-device", &format!("loader,addr={start:#x},cpu-num=0")]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_has_to_be_in_a_file() {
        let directory = PrivateDirectory::new().unwrap();
        assert!(command(&SERIAL, &GuestRam::new(4096).unwrap(), 0, &directory).is_err());
        let command =
            command(&SERIAL, &GuestRam::new_shared(4096).unwrap(), 0x8000_1000, &directory).unwrap();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert!(arguments.iter().any(|argument| argument == "size=32772k"), "{arguments:?}");
        assert!(arguments.iter().any(|argument| argument == "loader,addr=0x80001000,cpu-num=0"));
    }
}
