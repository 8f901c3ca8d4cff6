//! A stock Linux kernel as a TVM on QEMU.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
};

use tsmsim_abi::{cove::covh::TVM_IDENTITY_SIZE, linux_guest::CHANNEL_TASK_MAX};
use tsmsim_simulator::cove::{machine::HostConfig, measure::InitialRegisters, platform::CovePlatform};

use super::{
    guest::{Lines, LinuxBoot, LinuxBootError, LinuxGuest},
    line::Sink,
};
use crate::{
    cc::{
        cove::{TvmMachine, TvmMachineParts},
        surroundings::Surroundings,
    },
    engine::riscv::{
        RAM_BASE,
        qemu::{Firmware, OpenSbi, OpenSbiBoot, QemuHart},
    },
    loader::linux::{
        riscv_boot::{LinuxTvm, LoadedLinuxTvm, TvmLoadError, load},
        riscv_fdt::{Reader, device_tree},
        riscv_image::RiscvKernel,
    },
    memory::{GuestRam, PlacedRam},
};

/// What a kernel has to be told on this engine: where its console is, early too, and to restart at once after a panic.
const COMMAND_LINE: &str = "console=ttyS0 earlycon panic=-1";

/// What a TVM has besides what any Linux has.
pub struct CoveLinux {
    /// Its processor and TSM.
    pub platform: CovePlatform,
    /// How the host behaves.
    pub host: HostConfig,
    /// What the host calls it; attested, not measured.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
    /// Its OpenSBI, which is no part of the TVM and not measured.
    pub firmware: OpenSbi,
    /// Time, randomness, faults.
    pub surroundings: Surroundings,
}

/// The initial registers, before anything runs. Task, console and channel make no difference to them, nor does the firmware.
///
/// # Errors
/// [`LinuxBootError`].
pub fn measure_cove(
    boot: &LinuxBoot<'_, RiscvKernel>,
    platform: &CovePlatform,
) -> Result<InitialRegisters, LinuxBootError> {
    let ram = PlacedRam::new(GuestRam::new(boot.ram_size)?, RAM_BASE)?;
    Ok(loaded(boot, &ram)?.measure(&ram, platform.initial_registers().clone())?)
}

/// Loads and launches the TVM. The guest belongs to the calling thread.
///
/// # Errors
/// [`LinuxBootError`].
pub fn boot_cove(
    boot: LinuxBoot<'_, RiscvKernel>,
    cove: CoveLinux,
) -> Result<LinuxGuest<TvmMachine<QemuHart>>, LinuxBootError> {
    let CoveLinux { platform, host, identity, firmware, surroundings } = cove;
    let task = framed(boot.task)?;
    let shared = GuestRam::new_shared(boot.ram_size)?;
    let ram = PlacedRam::new(shared.clone(), RAM_BASE)?;
    let plan = loaded(&boot, &ram)?.plan(identity);
    let fdt = device_tree(boot.ram_size, Reader::Firmware).map_err(TvmLoadError::from)?;
    let firmware = Firmware::OpenSbi(Box::new(OpenSbiBoot { image: firmware, fdt }));
    let parts = TvmMachineParts {
        hart: QemuHart::new(firmware, shared),
        ram,
        platform,
        host,
        plan: plan.into(),
        hand_over: None,
        // The console is a serial port; OpenSBI answers calls for the debug console.
        console: Box::new(io::sink()),
    };
    let machine = TvmMachine::launch(parts, surroundings)?;
    let lines = Lines::of_hart(machine.hart())?;
    let [_, line] = &lines.host;
    let channel = after_task(line.try_clone()?, task, boot.channel.unwrap_or_else(|| Box::new(|_| false)));
    LinuxGuest::new(machine, lines, boot.console, Some(channel))
}

fn loaded(boot: &LinuxBoot<'_, RiscvKernel>, ram: &PlacedRam) -> Result<LoadedLinuxTvm, TvmLoadError> {
    let command_line = format!("{COMMAND_LINE} {}", boot.append);
    let command_line = command_line.trim_end();
    load(ram, &LinuxTvm { kernel: boot.kernel, initrd: boot.initrd, command_line })
}

/// The task as it goes over the channel: see [`tsmsim_abi::linux_guest`].
fn framed(task: &[u8]) -> Result<Vec<u8>, TvmLoadError> {
    let length = u32::try_from(task.len()).ok().filter(|length| *length <= CHANNEL_TASK_MAX);
    let length = length.ok_or(TvmLoadError::Task(task.len()))?;
    Ok([&length.to_le_bytes(), task].concat())
}

/// Sends the task when the guest says its first word: from then on it listens.
fn after_task(mut line: UnixStream, task: Vec<u8>, mut sink: Sink) -> Sink {
    let mut task = Some(task);
    Box::new(move |bytes| {
        if let Some(task) = task.take() {
            // A guest that is gone needs none.
            drop(line.write_all(&task));
        }
        sink(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_task_follows_the_first_word() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let mut sink = after_task(host, framed(b"abc").unwrap(), Box::new(|bytes| bytes == b"b"));
        assert!(!sink(b"a") && sink(b"b"));
        drop(sink);
        let mut sent = Vec::new();
        guest.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"\x03\0\0\0abc");
    }

    #[test]
    fn a_task_has_an_end() {
        assert_eq!(framed(&[]).unwrap(), [0; 4]);
        assert!(framed(&[0; 4096]).is_ok() && framed(&[0; 4097]).is_err());
    }
}
