//! The engine: runs QEMU to its next stop, and makes an exit of it.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ops::Range,
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    delivery::{self, HaltStub},
    process::{QemuConfig, QemuProcess},
    protocol::{Client, ProtocolError, Stop},
    registers::RegisterFile,
    watch::{Until, Watch, Watched, Watches},
};
use crate::{
    engine::{
        Engine, EngineError, EngineInfo, Exception, Exit, GeneralProtection, InitialState, Pending,
        Registers, Speed, SystemRegisters, cpuid::CpuidTable,
    },
    memory::GuestRam,
    paging::Walk,
};

/// How long the firmware may take to the guest's entry.
const FIRMWARE_TIME: Duration = Duration::from_secs(60);
/// How long a guest may take to stop when it is asked to.
const STOP_TIME: Duration = Duration::from_secs(20);
/// How often a flag is looked at while the guest runs.
const ATTENTION_TIME: Duration = Duration::from_millis(20);
/// How many stops in a row may be at places where nothing is watched.
const MAX_STRAY_STOPS: u32 = 16;
/// CR4: machine-check exceptions.
const CR4_MCE: u64 = 1 << 6;
/// QEMU's signal for a stop that was asked for.
const SIGINT: u8 = 2;

/// What an engine is made from.
#[derive(Debug)]
pub struct QemuSetup {
    /// The machine.
    pub config: QemuConfig,
    /// Its RAM, in a file.
    pub ram: GuestRam,
    /// The instructions to watch.
    pub watches: Vec<Watch>,
    /// Of which registers RDMSR and WRMSR exit.
    pub msrs: Range<u32>,
    /// What watched CPUID instructions answer; QEMU answers what is not in it.
    pub cpuid: CpuidTable,
    /// How the guest can be made to halt.
    pub halt: Option<HaltStub>,
}

/// One virtual CPU, executed by QEMU. It belongs to the thread that made it: with that thread it ends.
#[derive(Debug)]
pub struct QemuEngine {
    info: EngineInfo,
    setup: QemuSetup,
    watches: Watches,
    machine: Option<Running>,
    file: RegisterFile,
    /// The general registers were changed and QEMU does not know.
    changed: bool,
    /// Where the instruction of the last exit is.
    site: u64,
    pending: Pending,
    ended: bool,
    attention: Arc<AtomicBool>,
    stops: BTreeMap<&'static str, u64>,
    stopped_time: Duration,
    /// Since when the guest is stopped.
    stopped: Instant,
    // The kernel ends QEMU when the thread ends that started it.
    thread: PhantomData<Rc<()>>,
}

#[derive(Debug)]
struct Running {
    client: Client,
    process: QemuProcess,
}

impl QemuEngine {
    /// An engine whose QEMU starts with [`Engine::set_initial_state`].
    #[must_use]
    pub fn new(mut setup: QemuSetup) -> Self {
        let watches = Watches::new(std::mem::take(&mut setup.watches));
        Self {
            info: EngineInfo { name: "qemu", speed: Speed::Translated, physical_bits: 52 },
            setup,
            watches,
            machine: None,
            file: RegisterFile {
                general: Registers::default(),
                system: SystemRegisters::default(),
                cs: 0,
                ss: 0,
            },
            changed: false,
            site: 0,
            pending: Pending::None,
            ended: false,
            attention: Arc::default(),
            stops: BTreeMap::new(),
            stopped_time: Duration::ZERO,
            stopped: Instant::now(),
            thread: PhantomData,
        }
    }

    /// The guest's first two serial ports: what it writes can be read, and what is written it can read. Each can be taken
    /// once, after [`Engine::set_initial_state`]. Someone has to read, or the guest waits.
    pub fn take_serial(&self, number: usize) -> Option<UnixStream> {
        self.machine.as_ref()?.process.serial.borrow_mut().get_mut(number)?.take()
    }

    /// A flag that, raised by another thread, ends [`Engine::run`] with [`Exit::Deadline`] before its time.
    #[must_use]
    pub fn attention(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.attention)
    }

    /// How often the guest was stopped, by the name of the instruction.
    #[must_use]
    pub const fn stops(&self) -> &BTreeMap<&'static str, u64> {
        &self.stops
    }

    /// How long it was stopped in all.
    #[must_use]
    pub const fn stopped_time(&self) -> Duration {
        self.stopped_time
    }

    fn running(&mut self) -> Result<&mut Running, EngineError> {
        self.machine.as_mut().ok_or(EngineError::Unanswered("the initial state"))
    }

    fn client(&mut self) -> Result<&mut Client, EngineError> {
        Ok(&mut self.running()?.client)
    }

    fn fetch(&mut self) -> Result<(), EngineError> {
        self.file = self.client()?.registers()?;
        self.changed = false;
        Ok(())
    }

    /// The exit at RIP, if there is one; answers what needs no exit.
    fn exit_here(&mut self) -> Result<Option<Exit>, EngineError> {
        while let Some(watched) = self.watches.at(self.file.general.rip) {
            let rip = self.file.general.rip;
            *self.stops.entry(watched.name()).or_default() += 1;
            // A kernel patches itself; and ring 3 gets what this processor does.
            let ours = self.file.system.cpl == 0 && self.is_at(rip, watched);
            let index = low(self.file.general.rcx);
            match watched {
                Watched::Confidential(instruction) if ours => {
                    let [al, ..] = self.file.general.rax.to_le_bytes();
                    self.leave(rip, watched);
                    return Ok(Some(Exit::IoOut { port: instruction.port(), size: 1, data: vec![al] }));
                }
                Watched::Cpuid if ours && self.cpuid() => self.leave(rip, watched),
                Watched::Rdmsr if ours && self.setup.msrs.contains(&index) => {
                    self.site = rip;
                    return Ok(Some(Exit::MsrRead { index }));
                }
                Watched::Wrmsr if ours && self.setup.msrs.contains(&index) => {
                    self.site = rip;
                    let registers = &self.file.general;
                    let value = u64::from(low(registers.rdx)) << 32 | u64::from(low(registers.rax));
                    self.watches.drop_until(Until::Request(request(value)));
                    return Ok(Some(Exit::MsrWrite { index, value }));
                }
                _ => self.step_over(rip)?,
            }
        }
        Ok(None)
    }

    fn is_at(&self, address: u64, watched: Watched) -> bool {
        let QemuSetup { ram, config, .. } = &self.setup;
        let mut bytes = [0; 4];
        let expected = watched.bytes();
        let bytes = &mut bytes[..expected.len()];
        let page = Walk::new(ram, &self.file.system, config.alias_bit).translate(address);
        page.is_ok_and(|page| ram.read(page.gpa, bytes).is_ok() && bytes == expected)
    }

    /// Goes on behind the instruction.
    fn leave(&mut self, rip: u64, watched: Watched) {
        self.site = rip;
        self.file.general.rip = rip.wrapping_add(watched.length());
        self.changed = true;
    }

    /// CPUID from the table, if it has the leaf.
    fn cpuid(&mut self) -> bool {
        let registers = &mut self.file.general;
        let (leaf, index) = (low(registers.rax), low(registers.rcx));
        let Some(entry) = self.setup.cpuid.get(leaf, index) else { return false };
        registers.rax = entry.eax.into();
        registers.rbx = entry.ebx.into();
        registers.rcx = entry.ecx.into();
        registers.rdx = entry.edx.into();
        self.watches.drop_until(Until::Leaf(leaf));
        true
    }

    /// Lets the processor execute the instruction itself.
    fn step_over(&mut self, rip: u64) -> Result<(), EngineError> {
        self.flush()?;
        let client = self.client()?;
        client.remove_breakpoint(rip)?;
        let stop = client.step()?;
        if stop == Stop::Exited {
            self.ended = true;
            return Ok(());
        }
        client.insert_breakpoint(rip)?;
        self.fetch()
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        if self.changed {
            let registers = self.file.general;
            self.client()?.set_registers(&registers)?;
            self.changed = false;
        }
        Ok(())
    }

    /// Runs to the next stop. An exit if it is none of a watch's.
    fn run_to_stop(&mut self, deadline: Instant) -> Result<Option<Exit>, EngineError> {
        let registers = self.changed.then_some(self.file.general);
        let running = self.machine.as_mut().ok_or(EngineError::Unanswered("the initial state"))?;
        self.watches.disarm(&mut running.client)?;
        running.client.resume(registers.as_ref())?;
        self.changed = false;
        self.stopped_time += self.stopped.elapsed();
        let stop = self.wait(deadline)?;
        self.stopped = Instant::now();
        if stop == Stop::Exited {
            return self.end().map(Some);
        }
        self.fetch()?;
        if self.file.general.rip >> 63 != 0 {
            self.watches.drop_until(Until::UpperHalf);
        }
        Ok((stop == Stop::Signal(SIGINT)).then_some(Exit::Deadline))
    }

    /// Runs to the next exit.
    fn run_on(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        let mut stray = 0;
        loop {
            if self.ended {
                return Ok(Exit::Shutdown);
            }
            if let Some(exit) = self.exit_here()? {
                self.pending = Pending::of(&exit);
                return Ok(exit);
            }
            if Instant::now() >= deadline || stray > MAX_STRAY_STOPS {
                break;
            }
            if let Some(exit) = self.run_to_stop(deadline)? {
                return Ok(exit);
            }
            stray = if self.watches.at(self.file.general.rip).is_some() { 0 } else { stray + 1 };
        }
        if stray > MAX_STRAY_STOPS {
            let rip = self.file.general.rip;
            return Err(EngineError::Qemu(format!("it stops again and again at {rip:#x}")));
        }
        Ok(Exit::Deadline)
    }

    /// Waits for a stop, and asks for one at the deadline.
    fn wait(&mut self, deadline: Instant) -> Result<Stop, EngineError> {
        let attention = Arc::clone(&self.attention);
        let client = self.client()?;
        loop {
            let now = Instant::now();
            if now >= deadline || attention.load(Ordering::Relaxed) {
                client.interrupt()?;
                let stop = client.wait(now + STOP_TIME)?;
                return stop.ok_or_else(|| ProtocolError::Timeout("an interrupt".to_owned()).into());
            }
            if let Some(stop) = client.wait(deadline.min(now + ATTENTION_TIME))? {
                return Ok(stop);
            }
        }
    }

    /// What follows when QEMU is gone.
    fn end(&mut self) -> Result<Exit, EngineError> {
        self.ended = true;
        let process = &mut self.running()?.process;
        if process.child.ended().is_some_and(|status| status.success()) {
            Ok(Exit::Shutdown)
        } else {
            Err(EngineError::Qemu(format!("it ended: {}", process.child.complaints())))
        }
    }

    /// Delivers an exception with RIP at `rip`.
    fn deliver(&mut self, exception: Exception, rip: u64) -> Result<(), EngineError> {
        self.file.general.rip = rip;
        let running = self.machine.as_mut().ok_or(EngineError::Unanswered("the initial state"))?;
        let delivered = delivery::deliver(&mut running.client, &mut self.file, exception)?;
        self.changed = true;
        self.ended |= !delivered;
        Ok(())
    }
}

fn low(register: u64) -> u32 {
    u32::try_from(register & 0xffff_ffff).unwrap_or_default()
}

/// The low 12 bits of a value for the GHCB MSR.
fn request(value: u64) -> u16 {
    u16::try_from(value & 0xfff).unwrap_or_default()
}

impl From<ProtocolError> for EngineError {
    fn from(error: ProtocolError) -> Self {
        Self::Qemu(error.to_string())
    }
}

impl Engine for QemuEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Starts QEMU and lets its firmware lead the processor to the entry, where the general registers are set. The
    /// firmware has to set up control registers and segments as `state` has them.
    fn set_initial_state(&mut self, state: &InitialState) -> Result<(), EngineError> {
        let mut process = QemuProcess::spawn(&self.setup.config, &self.setup.ram)?;
        let stream = process.gdb.take().ok_or(EngineError::Unanswered("the initial state"))?;
        let mut client = Client::new(stream)?;
        let entry = state.registers.rip;
        client.insert_breakpoint(entry)?;
        client.resume(None)?;
        let stop = client.wait(Instant::now() + FIRMWARE_TIME)?;
        if stop.is_none() || stop == Some(Stop::Exited) {
            let complaints = process.child.complaints();
            return Err(EngineError::Qemu(format!("its firmware did not reach the guest: {complaints}")));
        }
        process.child.leave_no_trace();
        client.remove_breakpoint(entry)?;
        self.file = client.registers()?;
        let SystemRegisters { cr0, cr3, cr4, efer, cpl } = self.file.system;
        // A VMSA has machine checks enabled as its hypervisor does; the guest will see to it.
        let wanted = (state.cr0, state.cr3, state.cr4 & !CR4_MCE, state.efer, state.privilege.level());
        if (cr0, cr3, cr4 & !CR4_MCE, efer, cpl) != wanted || self.file.general.rip != entry {
            let found = format!("rip {:#x}, {:x?}", self.file.general.rip, self.file.system);
            return Err(EngineError::Qemu(format!("its firmware left the processor otherwise: {found}")));
        }
        self.watches.arm(&mut client)?;
        self.file.general = state.registers;
        self.changed = true;
        self.stopped = Instant::now();
        self.machine = Some(Running { client, process });
        Ok(())
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        self.pending.check_answered()?;
        match self.run_on(deadline) {
            // The machine may be gone while something is asked of it.
            Err(_) if self.client().is_ok_and(|client| client.is_gone()) => self.end(),
            outcome => outcome,
        }
    }

    fn registers(&self) -> Result<Registers, EngineError> {
        Ok(self.file.general)
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), EngineError> {
        self.file.general = *registers;
        self.changed = true;
        Ok(())
    }

    fn system_registers(&self) -> Result<SystemRegisters, EngineError> {
        Ok(self.file.system)
    }

    fn complete_io_in(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::IoIn(data.len()))
    }

    fn complete_mmio_read(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::MmioRead(data.len()))
    }

    fn complete_msr_read(&mut self, outcome: Result<u64, GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrRead)?;
        let Ok(value) = outcome else {
            return self.deliver(Exception::general_protection(0), self.site);
        };
        self.file.general.rax = value & 0xffff_ffff;
        self.file.general.rdx = value >> 32;
        self.leave(self.site, Watched::Rdmsr);
        Ok(())
    }

    fn complete_msr_write(&mut self, outcome: Result<(), GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrWrite)?;
        match outcome {
            Ok(()) => self.leave(self.site, Watched::Wrmsr),
            Err(GeneralProtection) => self.deliver(Exception::general_protection(0), self.site)?,
        }
        Ok(())
    }

    fn inject_exception(&mut self, exception: Exception) -> Result<(), EngineError> {
        self.deliver(exception, self.file.general.rip)
    }

    fn inject_fault(&mut self, exception: Exception, _length: u8) -> Result<(), EngineError> {
        self.pending = Pending::None;
        self.deliver(exception, self.site)
    }

    fn inject_interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        Ok(delivery::interrupt(self.client()?, vector)?)
    }

    fn interrupt_waits(&self) -> bool {
        // QEMU's local APIC has them, and wakes the processor.
        false
    }

    fn halt(&mut self) -> Result<bool, EngineError> {
        let Some(stub) = self.setup.halt else { return Ok(false) };
        let running = self.machine.as_mut().ok_or(EngineError::Unanswered("the initial state"))?;
        stub.enter(&mut running.client, &mut self.file.general)?;
        self.changed = true;
        Ok(true)
    }
}
