//! A Linux guest while it runs, and how it ends.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use tsmsim_simulator::{env::OutOfRange, journal::Journal};

use super::line::{Line, Sink};
use crate::{
    cc::{
        cove::{TvmMachine, TvmMachineError},
        end::End,
        snp::{SnpMachine, SnpMachineError},
        tdx::{TdMachine, TdMachineError},
    },
    engine::{
        Engine, EngineError,
        qemu::QemuEngine,
        riscv::{Hart, qemu::QemuHart},
    },
    loader::linux::{
        boot::{self, LinuxLoadError, LoadedLinux, Tee, load},
        image::KernelImage,
        riscv_boot::TvmLoadError,
    },
    memory::{GuestRam, RamError},
};

/// What an x86-64 kernel has to be told on this engine: where its console is; that there is one processor; and how it restarts,
/// at once after a panic too, without firmware.
const COMMAND_LINE: &str = "console=ttyS0 nr_cpus=1 panic=-1 reboot=t";
/// Console output that is kept.
const CONSOLE_LIMIT: usize = 1 << 20;
/// Output of the second serial port that is kept; a sink has all of it.
const CHANNEL_LIMIT: usize = 16 << 20;
/// How long output may take to arrive after the guest's end.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// What Linux prints last (`kernel/reboot.c`, `kernel/panic.c`).
const POWER_DOWN: &[u8] = b"reboot: Power down";
const HALTED: &[u8] = b"reboot: System halted";
const RESTARTING: &[u8] = b"reboot: Restarting system";
const PANIC: &str = "Kernel panic - not syncing";

/// What to boot, whatever kind of guest it becomes. `K` is the kernel: a [`KernelImage`] for x86-64, or a
/// [`RiscvKernel`](crate::loader::linux::riscv_image::RiscvKernel).
pub struct LinuxBoot<'a, K = KernelImage> {
    /// The kernel.
    pub kernel: &'a K,
    /// The initial RAM disk; empty: none.
    pub initrd: &'a [u8],
    /// What is added to the command line that a guest on this engine needs.
    pub append: &'a str,
    /// Bytes of RAM.
    pub ram_size: u64,
    /// For the init program, not measured: [`tsmsim_abi::linux_guest::Task`] or nothing.
    pub task: &'a [u8],
    /// Where the console goes besides being kept.
    pub console: Option<Box<dyn Write + Send>>,
    /// What gets the output of the second serial port besides its being kept.
    pub channel: Option<Sink>,
    /// Whether RAM is there a second time, at the C-bit or shared bit. A guest without fails, as one on a host that does
    /// not know of such a bit would. Without meaning for RISC-V.
    pub alias: bool,
}

impl<'a, K> LinuxBoot<'a, K> {
    /// A kernel and its RAM disk, and nothing special.
    #[must_use]
    pub fn new(kernel: &'a K, initrd: &'a [u8], ram_size: u64) -> Self {
        Self { kernel, initrd, append: "", ram_size, task: &[], console: None, channel: None, alias: true }
    }
}

impl LinuxBoot<'_> {
    /// Puts the guest into RAM.
    pub(super) fn load(&self, ram: &GuestRam, tee: Tee<'_>) -> Result<LoadedLinux, LinuxLoadError> {
        let command_line = format!("{COMMAND_LINE} {}", self.append);
        load(
            ram,
            &boot::LinuxGuest {
                kernel: self.kernel,
                initrd: self.initrd,
                command_line: command_line.trim_end(),
                tee,
                acpi: true,
                task: self.task,
            },
        )
    }
}

/// Why a guest could not be booted.
#[derive(Debug, thiserror::Error)]
pub enum LinuxBootError {
    /// No RAM.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The guest could not be put into RAM.
    #[error(transparent)]
    Load(#[from] LinuxLoadError),
    /// A TVM could not be put into RAM.
    #[error(transparent)]
    LoadTvm(#[from] TvmLoadError),
    /// Something lies outside RAM.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The kernel is not built for it.
    #[error("the kernel cannot be such a guest: {0}")]
    Kernel(String),
    /// The launch of an SNP guest, or the engine.
    #[error(transparent)]
    Snp(#[from] SnpMachineError),
    /// The launch of a TD, or the engine.
    #[error(transparent)]
    Tdx(#[from] TdMachineError),
    /// The launch of a TVM, or the engine.
    #[error(transparent)]
    Cove(#[from] TvmMachineError),
    /// A thread could not be started.
    #[error("cannot read the guest's serial lines: {0}")]
    Line(#[from] io::Error),
}

/// How a guest ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinuxEnd {
    /// The sink of the channel had all that it wanted.
    Done,
    /// The guest powered off, or halted for good.
    PowerOff,
    /// The guest restarted.
    Restart,
    /// The kernel panicked, and said this.
    Panic(String),
    /// The processor was reset, and the console does not tell why.
    Reset,
    /// The time is up.
    TimeOut,
    /// The machine ended it.
    Machine(End),
}

impl std::fmt::Display for LinuxEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("the guest is done"),
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Restart => f.write_str("the guest restarted"),
            Self::Panic(line) => write!(f, "the guest's kernel panicked: {line}"),
            Self::Reset => f.write_str("the guest's processor was reset (a triple fault, mostly)"),
            Self::TimeOut => f.write_str("the guest did not end in the time it was given"),
            Self::Machine(end) => write!(f, "{end}"),
        }
    }
}

/// An engine that Linux guests run on.
pub trait LinuxEngine {
    /// How often the guest was stopped, by the name of the instruction.
    fn stops(&self) -> &BTreeMap<&'static str, u64>;
}

impl LinuxEngine for QemuEngine {
    fn stops(&self) -> &BTreeMap<&'static str, u64> {
        Self::stops(self)
    }
}

impl LinuxEngine for QemuHart {
    fn stops(&self) -> &BTreeMap<&'static str, u64> {
        Self::stops(self)
    }
}

/// A machine with a confidential guest.
pub trait ConfidentialMachine {
    /// What runs the guest.
    type Engine: LinuxEngine;

    /// Runs the guest until it ends or the deadline passes.
    ///
    /// # Errors
    /// If the engine fails.
    fn run(&mut self, deadline: Instant) -> Result<End, EngineError>;
    /// The engine.
    fn engine(&self) -> &Self::Engine;
    /// What happened so far.
    fn journal(&self) -> &Journal;
}

impl<E: Engine + LinuxEngine> ConfidentialMachine for SnpMachine<E> {
    type Engine = E;

    fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        Self::run(self, deadline)
    }

    fn engine(&self) -> &E {
        Self::engine(self)
    }

    fn journal(&self) -> &Journal {
        Self::journal(self)
    }
}

impl<E: Engine + LinuxEngine> ConfidentialMachine for TdMachine<E> {
    type Engine = E;

    fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        Self::run(self, deadline)
    }

    fn engine(&self) -> &E {
        Self::engine(self)
    }

    fn journal(&self) -> &Journal {
        Self::journal(self)
    }
}

impl<H: Hart + LinuxEngine> ConfidentialMachine for TvmMachine<H> {
    type Engine = H;

    fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        Self::run(self, deadline)
    }

    fn engine(&self) -> &H {
        self.hart()
    }

    fn journal(&self) -> &Journal {
        Self::journal(self)
    }
}

/// Where the host has a guest's two serial lines.
pub(super) struct Lines {
    /// What the guest writes comes out here.
    pub(super) host: [UnixStream; 2],
    /// Ends the engine's run.
    pub(super) attention: Arc<AtomicBool>,
    /// The guest's ends, if they are in this process: to be closed when the guest has ended.
    pub(super) guest: Vec<UnixStream>,
}

impl Lines {
    /// Those of a running QEMU, which closes its ends when it ends.
    pub(super) fn of(engine: &QemuEngine) -> io::Result<Self> {
        Self::taken(|number| engine.take_serial(number), engine.attention())
    }

    /// Those of a running QEMU for RISC-V.
    pub(super) fn of_hart(hart: &QemuHart) -> io::Result<Self> {
        Self::taken(|number| hart.take_serial(number), hart.attention())
    }

    fn taken(serial: impl Fn(usize) -> Option<UnixStream>, attention: Arc<AtomicBool>) -> io::Result<Self> {
        let take = |number| serial(number).ok_or_else(|| io::Error::other("the machine has no such line"));
        Ok(Self { host: [take(0)?, take(1)?], attention, guest: Vec::new() })
    }
}

/// A guest that was booted, at its first instruction.
#[derive(Debug)]
pub struct LinuxGuest<M> {
    machine: M,
    console: Line,
    channel: Line,
    /// The guest's ends of the lines.
    ends: Vec<UnixStream>,
}

impl<M: ConfidentialMachine> LinuxGuest<M> {
    /// Connects the serial lines of a launched machine.
    pub(super) fn new(
        machine: M,
        lines: Lines,
        console: Option<Box<dyn Write + Send>>,
        channel: Option<Sink>,
    ) -> Result<Self, LinuxBootError> {
        let Lines { host: [first, second], attention, guest } = lines;
        let console = Line::read(first, CONSOLE_LIMIT, console_sink(console), Arc::clone(&attention))?;
        let channel = channel.unwrap_or_else(|| Box::new(|_| false));
        let channel = Line::read(second, CHANNEL_LIMIT, channel, attention)?;
        Ok(Self { machine, console, channel, ends: guest })
    }

    /// Runs the guest until it ends or the deadline passes. What it wrote is all there then.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn run(&mut self, deadline: Instant) -> Result<LinuxEnd, EngineError> {
        let end = self.machine.run(deadline)?;
        if matches!(end, End::Shutdown | End::PoweredOff) {
            for stream in self.ends.drain(..) {
                // One that is closed already is just as good.
                drop(stream.shutdown(Shutdown::Write));
            }
            self.console.wait_closed(DRAIN_TIME);
            self.channel.wait_closed(DRAIN_TIME);
        }
        let end = match end {
            _ if self.channel.is_done() => LinuxEnd::Done,
            End::Deadline if self.console.is_done() => LinuxEnd::PowerOff,
            End::Deadline => LinuxEnd::TimeOut,
            End::Shutdown | End::PoweredOff => ended(&self.console()),
            other => LinuxEnd::Machine(other),
        };
        tracing::info!(%end, stops = ?self.stops(), "Linux ended");
        Ok(end)
    }

    /// What the console showed; of much, the end.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.bytes()).replace('\r', "")
    }

    /// The last lines of the console.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let console = self.console();
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        let first = lines.len().saturating_sub(count);
        lines[first..].iter().map(|&line| line.to_owned()).collect()
    }

    /// What came over the second serial port; of much, the end.
    #[must_use]
    pub fn channel(&self) -> Vec<u8> {
        self.channel.bytes()
    }

    /// How often the guest was stopped, by the name of the instruction.
    #[must_use]
    pub fn stops(&self) -> &BTreeMap<&'static str, u64> {
        self.machine.engine().stops()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }
}

/// Passes the console on, and is content when Linux has powered off: without firmware it waits for the plug then.
fn console_sink(mut copy: Option<Box<dyn Write + Send>>) -> Sink {
    let mut recent = Vec::new();
    Box::new(move |bytes| {
        // A terminal that is gone does not end the guest.
        let failed =
            copy.as_mut().is_some_and(|copy| copy.write_all(bytes).and_then(|()| copy.flush()).is_err());
        if failed {
            copy = None;
        }
        recent.extend_from_slice(bytes);
        let done = [POWER_DOWN, HALTED].iter().any(|text| memchr::memmem::find(&recent, text).is_some());
        let surplus = recent.len().saturating_sub(POWER_DOWN.len().max(HALTED.len()));
        recent.drain(..surplus);
        done
    })
}

/// Why the processor was reset, by what the console shows.
fn ended(console: &str) -> LinuxEnd {
    if let Some(line) = console.lines().find(|line| line.contains(PANIC)) {
        return LinuxEnd::Panic(line.trim().to_owned());
    }
    let shows = |text| memchr::memmem::find(console.as_bytes(), text).is_some();
    match () {
        () if shows(POWER_DOWN) => LinuxEnd::PowerOff,
        () if shows(RESTARTING) => LinuxEnd::Restart,
        () => LinuxEnd::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("[ 1.0] reboot: Restarting system\n", LinuxEnd::Restart)]
    #[case("[ 1.0] Kernel panic - not syncing: VFS\n[ 1.1] reboot: Restarting system\n",
        LinuxEnd::Panic("[ 1.0] Kernel panic - not syncing: VFS".to_owned()))]
    #[case("[ 1.0] reboot: Power down\n", LinuxEnd::PowerOff)]
    #[case("", LinuxEnd::Reset)]
    fn the_console_tells_why(#[case] console: &str, #[case] end: LinuxEnd) {
        assert_eq!(ended(console), end);
    }

    #[test]
    fn powering_off_is_seen_across_reads() {
        let mut sink = console_sink(None);
        assert!(!sink(b"[ 2.0] reboot: Pow"));
        assert!(sink(b"er down\n"));
        let mut sink = console_sink(None);
        assert!(!sink(b"reboot: Restarting system"));
    }
}
