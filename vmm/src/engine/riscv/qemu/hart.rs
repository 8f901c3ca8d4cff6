//! The hart: QEMU runs until the firmware asks something.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    os::unix::net::UnixStream,
    process::ExitStatus,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    firmware::{Firmware, SIZE, guest_range, overwritten},
    mailbox::{ECALL_FROM_S, Mailbox},
    monitor::Outcome,
    process::Process,
};
use crate::{
    engine::{
        EngineError, EngineInfo, Speed,
        riscv::{Entry, Exit, Hart},
    },
    memory::GuestRam,
};

/// How long a guest may run before this program gives the processor away between two looks at the mailbox: guests that ask once
/// ask again soon.
const SPIN_TIME: Duration = Duration::from_micros(100);
/// The first pause between looks, and the longest: pauses double.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// One hart, executed by QEMU. It belongs to the thread that started it: with that thread it ends.
#[derive(Debug)]
pub struct QemuHart {
    info: EngineInfo,
    firmware: Firmware,
    ram: GuestRam,
    machine: Option<Machine>,
    attention: Arc<AtomicBool>,
    stops: BTreeMap<&'static str, u64>,
    // The kernel ends QEMU when the thread ends that started it.
    thread: PhantomData<Rc<()>>,
}

#[derive(Debug)]
struct Machine {
    process: Process,
    mailboxes: Vec<Mailbox>,
    /// The mailbox that waits for an answer.
    asked: Option<usize>,
    /// The hart has trapped, and nobody will handle that.
    trapped: bool,
    /// QEMU runs the hart; else it is stopped.
    goes: bool,
    ended: bool,
}

impl QemuHart {
    /// A hart whose QEMU starts with [`Hart::start`]. `ram` is all of the guest's memory, from
    /// [`RAM_BASE`](crate::engine::riscv::RAM_BASE) on; it has to be in a file ([`GuestRam::new_shared`]).
    #[must_use]
    pub fn new(firmware: Firmware, ram: GuestRam) -> Self {
        Self {
            info: EngineInfo { name: "qemu", speed: Speed::Translated, physical_bits: 56 },
            firmware,
            ram,
            machine: None,
            attention: Arc::default(),
            stops: BTreeMap::new(),
            thread: PhantomData,
        }
    }

    /// The serial ports of a guest with OpenSBI, the board's own and one on PCI: what it writes can be read, and what is
    /// written it can read. Each can be taken once, after [`Hart::start`]. Someone has to read, or the guest waits.
    pub fn take_serial(&self, number: usize) -> Option<UnixStream> {
        self.machine.as_ref()?.process.serial.borrow_mut().get_mut(number)?.take()
    }

    /// A flag that, raised by another thread, ends [`Hart::run`] with [`Exit::Deadline`] before its time. The guest is not
    /// stopped then: it may be about to end, and a QEMU that ends need not answer.
    #[must_use]
    pub fn attention(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.attention)
    }

    /// How often the guest was stopped, by the name of what it did.
    #[must_use]
    pub const fn stops(&self) -> &BTreeMap<&'static str, u64> {
        &self.stops
    }

    fn machine(&mut self) -> Result<&mut Machine, EngineError> {
        self.machine.as_mut().ok_or(EngineError::Unanswered("the entry"))
    }

    /// Whether the run ends here; at the deadline it does so with the guest stopped.
    fn is_due(&mut self, deadline: Instant) -> Result<bool, EngineError> {
        if self.attention.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let due = Instant::now() >= deadline;
        if due {
            self.machine()?.stop()?;
        }
        Ok(due)
    }
}

impl Machine {
    /// Has the guest go on, if it is stopped.
    fn go(&mut self) -> Result<(), EngineError> {
        if !self.goes && !self.ended {
            self.goes = self.process.monitor.command("cont")? == Outcome::Done;
        }
        Ok(())
    }

    /// Stops the guest where it is.
    fn stop(&mut self) -> Result<(), EngineError> {
        if self.goes {
            // A QEMU that is gone is stopped too; the next run tells.
            let _: Outcome = self.process.monitor.command("stop")?;
            self.goes = false;
        }
        Ok(())
    }

    /// What the firmware asks, if it does.
    fn asked(&mut self) -> Result<Option<Exit>, EngineError> {
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            if !mailbox.is_asked()? {
                continue;
            }
            let message = mailbox.message()?;
            if message.trap.cause == ECALL_FROM_S {
                self.asked = Some(number);
                return Ok(Some(Exit::Ecall { arguments: message.arguments }));
            }
            self.trapped = true;
            return Ok(Some(Exit::Trap(message.trap)));
        }
        Ok(None)
    }

    /// The guest has switched itself off, so QEMU ends. If it does not, it is ended with this value.
    fn shut_down(&mut self) -> Result<Exit, EngineError> {
        if let Some(status) = self.process.child.ended() {
            return self.ended(status);
        }
        self.goes = false;
        self.ended = true;
        Ok(Exit::PoweredOff)
    }

    /// What the end of the process means.
    fn ended(&mut self, status: ExitStatus) -> Result<Exit, EngineError> {
        self.goes = false;
        let complaints = self.process.child.complaints();
        // The guest's test device chooses the exit code.
        if status.code().is_some() && complaints.is_empty() {
            self.ended = true;
            return Ok(Exit::PoweredOff);
        }
        Err(EngineError::Qemu(format!("it ended ({status}): {complaints}")))
    }
}

impl Hart for QemuHart {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn start(&mut self, entry: Entry) -> Result<(), EngineError> {
        if self.machine.is_some() {
            return Err(EngineError::WrongAnswer("the hart has started"));
        }
        let text = |error: &dyn std::fmt::Display| EngineError::Configuration(error.to_string());
        self.firmware.check(&self.ram)?;
        let no_file = || EngineError::Configuration("guest RAM for QEMU has to be in a file".to_owned());
        let memory = self.ram.behind(SIZE).map_err(|error| text(&error))?.ok_or_else(no_file)?;
        let guest = guest_range(&self.ram);
        let placed = self.firmware.place(&memory, &guest, entry)?;
        // QEMU writes to memory while it starts, and then no more.
        let kept = overwritten(&self.ram);
        let mut before = vec![0; usize::try_from(kept.end - kept.start).unwrap_or(0)];
        self.ram.read(kept.start, &mut before).map_err(|error| text(&error))?;
        let process = Process::spawn(&self.firmware, &self.ram, placed.start)?;
        self.ram.write(kept.start, &before).map_err(|error| text(&error))?;
        self.firmware.place(&memory, &guest, entry)?;
        let mailboxes = placed.mailboxes.iter().map(|offset| Mailbox::new(memory.clone(), *offset)).collect();
        self.machine =
            Some(Machine { process, mailboxes, asked: None, trapped: false, goes: false, ended: false });
        Ok(())
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        let machine = self.machine()?;
        if machine.asked.is_some() {
            return Err(EngineError::Unanswered("an ecall"));
        }
        if machine.trapped {
            return Err(EngineError::Unanswered("a trap, after which a hart cannot run on"));
        }
        if machine.ended {
            return Ok(Exit::PoweredOff);
        }
        if self.is_due(deadline)? {
            return Ok(Exit::Deadline);
        }
        let machine = self.machine()?;
        machine.go()?;
        if machine.process.monitor.shut_down() {
            return machine.shut_down();
        }
        let mut pause = FIRST_PAUSE;
        let spin_end = Instant::now() + SPIN_TIME;
        loop {
            let machine = self.machine()?;
            if let Some(exit) = machine.asked()? {
                if matches!(exit, Exit::Trap(_)) {
                    machine.stop()?;
                }
                let name = if matches!(exit, Exit::Trap(_)) { "trap" } else { "ecall" };
                *self.stops.entry(name).or_default() += 1;
                return Ok(exit);
            }
            if self.is_due(deadline)? {
                return Ok(Exit::Deadline);
            }
            if Instant::now() < spin_end {
                std::hint::spin_loop();
                continue;
            }
            let machine = self.machine()?;
            if let Some(status) = machine.process.child.status() {
                return machine.ended(status);
            }
            std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn complete_ecall(&mut self, error: i64, value: u64) -> Result<(), EngineError> {
        let machine = self.machine()?;
        let number = machine.asked.take().ok_or(EngineError::WrongAnswer("no ecall waits for one"))?;
        let mailbox = machine.mailboxes.get(number);
        mailbox.ok_or(EngineError::WrongAnswer("no such mailbox"))?.answer(error, value)
    }
}
