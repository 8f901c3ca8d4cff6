//! A machine with one TD: an exit and the machine in, what follows out.
//!
//! TDCALL goes to the module's model. HLT, and accesses to MSRs that KVM leaves to this program, raise #VE, as they do in
//! a TD; the TD asks `TDG.VP.VEINFO.GET` what it was and makes a TDVMCALL of it. CPUID is answered by the engine's own
//! table, and IN and OUT by the devices, without #VE: an engine does not tell how long such an instruction was, and CPUID
//! does not exit.
//!
//! Quotes that the host delays are completed when they are due by the machine's clock, whether the TD runs or halts, and
//! their interrupt is injected then.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use tsmsim_abi::tdx::leaf::{VeInstruction, exit_reason};
use tsmsim_simulator::{
    journal::Journal,
    tdx::{
        guest::World,
        machine::{Action, LaunchError, LaunchPlan, Machine},
        platform::TdxPlatform,
        registers::{Gpr, Registers as TdRegisters},
        td::VeInfo,
        vmcall::HostConfig,
    },
};

use super::devices::{Devices, ExitPort, port_input, port_output};
pub use super::{end::End, surroundings::Surroundings};
use crate::{
    bus::{BusError, PortBus},
    engine::{Engine, EngineError, Exception, Exit, InitialState, Registers, cpuid::CpuidTable},
    loader::patch::PatchedInstruction,
    memory::GuestRam,
};

/// `IA32_MISC_ENABLE`, of which the CPU model has bit 0, fast string operations. Read-only to a TD.
pub const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE: u64 = 1;
/// The one VCPU.
const VCPU: usize = 0;
/// Bytes of HLT.
const HLT_LENGTH: u8 = 1;
/// Bytes of RDMSR and of WRMSR.
const MSR_ACCESS_LENGTH: u8 = 2;

/// A machine with one VCPU that runs a TD.
pub struct TdMachine<E> {
    engine: E,
    machine: Machine,
    world: World<Box<Devices>>,
    ram_size: u64,
    /// The VCPU waits for an interrupt.
    halted: bool,
    /// What the guest wrote to the exit port.
    exit_code: Rc<Cell<Option<u8>>>,
}

/// What a machine consists of.
pub struct TdMachineParts<E> {
    /// What runs the TD; not yet started.
    pub engine: E,
    /// Its RAM, with the TD in it.
    pub ram: GuestRam,
    /// Devices at ports; the exit port is added.
    pub bus: PortBus,
    /// The CPU model.
    pub cpuid: CpuidTable,
    /// The processor with its module.
    pub platform: TdxPlatform,
    /// What the host offers.
    pub host: HostConfig,
    /// The launch.
    pub plan: LaunchPlan,
    /// How the VCPU begins.
    pub state: InitialState,
}

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TdMachineError {
    /// A device of the caller's has the exit port.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The launch failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl<E: Engine> TdMachine<E> {
    /// Builds the TD and puts the VCPU into its initial state.
    ///
    /// # Errors
    /// What could not be launched.
    pub fn launch(parts: TdMachineParts<E>, surroundings: Surroundings) -> Result<Self, TdMachineError> {
        let TdMachineParts { mut engine, ram, mut bus, cpuid, platform, host, plan, state } = parts;
        let Surroundings { clock, entropy, faults } = surroundings;
        let exit_code = ExitPort::insert(&mut bus)?;
        let ram_size = ram.size();
        let read_only_msrs = BTreeMap::from([(MSR_MISC_ENABLE, MISC_ENABLE)]);
        let mut world = World {
            memory: Box::new(ram),
            clock,
            entropy,
            journal: Journal::new(),
            faults,
            devices: Box::new(Devices { bus, cpuid, read_only_msrs }),
        };
        let (mut env, _) = world.env();
        let machine = Machine::launch(platform, host, &plan, &mut env)?;
        engine.set_initial_state(&state)?;
        Ok(Self { engine, machine, world, ram_size, halted: false, exit_code })
    }

    /// Runs the TD until it ends or the deadline passes. After [`End::Deadline`] it can be run on.
    ///
    /// # Errors
    /// If the engine fails, which no guest can bring about.
    pub fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        loop {
            if let Some(end) = self.step(deadline)? {
                tracing::info!(%end, "TD ended");
                return Ok(end);
            }
        }
    }

    /// Runs the TD to its next exit, at most until a quote is due, or waits with it while it halts.
    fn step(&mut self, deadline: Instant) -> Result<Option<End>, EngineError> {
        self.poll()?;
        let due = self.next_due();
        if self.halted {
            return Ok(wait(due, deadline));
        }
        match due.map_or(deadline, |due| due.min(deadline)) {
            until if until < deadline => match self.engine.run(until)? {
                Exit::Deadline => Ok(None),
                exit => self.dispatch(exit),
            },
            _ => {
                let exit = self.engine.run(deadline)?;
                self.dispatch(exit)
            }
        }
    }

    /// When the next quote is due; late rather than early.
    fn next_due(&self) -> Option<Instant> {
        let due = self.machine.host().next_due_ns()?;
        Instant::now().checked_add(Duration::from_nanos(due.saturating_sub(self.world.clock.now_ns())))
    }

    /// Completes quotes that are due and injects their interrupts, which end a halt.
    fn poll(&mut self) -> Result<(), EngineError> {
        let (mut env, _) = self.world.env();
        for interrupt in self.machine.poll(&mut env) {
            self.engine.inject_interrupt(interrupt.vector)?;
            self.halted = false;
        }
        Ok(())
    }

    /// Does what follows from an exit; says so if it was the last.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn dispatch(&mut self, exit: Exit) -> Result<Option<End>, EngineError> {
        match exit {
            Exit::IoOut { port, .. } if port == PatchedInstruction::Tdcall.port() => self.tdcall(),
            Exit::IoOut { port, size, data } => {
                port_output(&mut *self.world.devices, port, size, &data);
                Ok(self.done())
            }
            Exit::IoIn { port, size, count } => {
                let data = port_input(&mut *self.world.devices, port, size, count);
                self.engine.complete_io_in(&data)?;
                Ok(None)
            }
            Exit::MmioRead { gpa, size } => {
                let end = self.fault_at(gpa);
                self.engine.complete_mmio_read(&[0xff; 8][..usize::from(size).min(8)])?;
                Ok(end)
            }
            Exit::MmioWrite { gpa, .. } => Ok(self.fault_at(gpa)),
            Exit::MsrRead { .. } => self.virtualization_exception(exit_reason::MSR_READ, MSR_ACCESS_LENGTH),
            Exit::MsrWrite { .. } => self.virtualization_exception(exit_reason::MSR_WRITE, MSR_ACCESS_LENGTH),
            Exit::Hlt => self.virtualization_exception(exit_reason::HLT, HLT_LENGTH),
            Exit::Shutdown | Exit::SystemEvent { .. } => Ok(Some(End::Shutdown)),
            Exit::Deadline => Ok(Some(End::Deadline)),
            Exit::InternalError { instruction, .. } => {
                Ok(Some(End::Unrunnable { rip: self.engine.registers()?.rip, instruction }))
            }
        }
    }

    /// What comes of an access to an address that the engine has no memory for. Shared addresses outside RAM are those of
    /// devices: none is there, reads float and writes go nowhere. A private one could not be mapped, and a shared one of
    /// RAM would have to be there: the host stops the machine.
    fn fault_at(&self, gpa: u64) -> Option<End> {
        let device = matches!(self.machine.td().split_gpa(gpa), Some((at, true)) if at >= self.ram_size);
        (!device).then_some(End::MemoryFault { gpa })
    }

    /// Whether the guest said that it is done.
    fn done(&self) -> Option<End> {
        self.exit_code.get().map(End::Done)
    }

    /// TDCALL; above CPL 0, #GP (Intel SDM volume 2, "TDCALL").
    fn tdcall(&mut self) -> Result<Option<End>, EngineError> {
        if self.engine.system_registers()?.cpl != 0 {
            return self.fault(Exception::general_protection(0), PatchedInstruction::OUT_LENGTH);
        }
        let before = self.engine.registers()?;
        let mut registers = to_td(&before);
        let (mut env, devices) = self.world.env();
        let action = self.machine.tdcall(VCPU, &mut registers, &mut env, devices);
        match action {
            Action::Resume | Action::Halted { .. } => {
                self.engine.set_registers(&from_td(&registers, &before))?;
            }
            Action::InjectVe => return self.fault(Exception::VIRTUALIZATION, PatchedInstruction::OUT_LENGTH),
            Action::InjectGp => {
                return self.fault(Exception::general_protection(0), PatchedInstruction::OUT_LENGTH);
            }
            Action::MemoryFault { gpa } => return Ok(Some(End::MemoryFault { gpa })),
            Action::Terminated(report) => return Ok(Some(End::Fatal(report))),
        }
        if let Action::Halted { interrupts_blocked } = action {
            if interrupts_blocked {
                return Ok(Some(End::Halted));
            }
            if self.engine.halt()? {
                return Ok(self.done());
            }
            self.halted = !self.engine.interrupt_waits();
        }
        Ok(self.done())
    }

    fn fault(&mut self, exception: Exception, length: u8) -> Result<Option<End>, EngineError> {
        self.engine.inject_fault(exception, length)?;
        Ok(None)
    }

    /// #VE for an instruction that a TD cannot execute; #GP if the TD has not asked about the one before.
    fn virtualization_exception(&mut self, reason: u64, length: u8) -> Result<Option<End>, EngineError> {
        let info = VeInfo {
            exit_reason: u32::try_from(reason).unwrap_or_default(),
            instruction: VeInstruction::new().with_length(length.into()),
            ..VeInfo::default()
        };
        let raised = self.machine.td_mut().raise_ve(VCPU, info);
        let exception = if raised { Exception::VIRTUALIZATION } else { Exception::general_protection(0) };
        self.fault(exception, length)
    }

    /// What happened so far.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.world.journal
    }

    /// The TD with its module and host.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &E {
        &self.engine
    }
}

/// Waits while the TD halts: until a quote is due, or the deadline. Without a quote in flight nothing will wake it.
fn wait(due: Option<Instant>, deadline: Instant) -> Option<End> {
    let Some(due) = due else { return Some(End::Halted) };
    let until = due.min(deadline);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    (Instant::now() >= deadline).then_some(End::Deadline)
}

fn to_td(registers: &Registers) -> TdRegisters {
    let Registers { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
        *registers;
    TdRegisters([rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15])
}

fn from_td(registers: &TdRegisters, before: &Registers) -> Registers {
    let [rax, rcx, rdx, rbx, _, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = registers.0;
    let rsp = registers[Gpr::Rsp];
    let Registers { rip, rflags, .. } = *before;
    Registers { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}
