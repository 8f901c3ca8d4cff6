//! A machine with one SNP guest: an exit and the machine in, what follows out.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Instant};

use tsmsim_abi::snp::{
    msr::{GhcbMsr, MSR_GHCB, MSR_SEV_STATUS, SEV_STATUS_SNP_ACTIVE},
    vmsa::Vmsa,
};
use tsmsim_simulator::{
    env::Env,
    journal::Journal,
    snp::{
        firmware::Firmware,
        guest::World,
        host::{Action, HostConfig, Hypervisor, LaunchError, LaunchPlan, WalkedPage},
        rmp::{PageSize, RmpOutcome},
    },
};

use super::devices::{Devices, ExitPort, port_input, port_output};
pub use super::{end::End, surroundings::Surroundings};
use crate::{
    bus::{BusError, PortBus},
    engine::{
        Engine, EngineError, Exception, Exit, GeneralProtection, InitialState, Privilege, Registers,
        cpuid::CpuidTable, rflags,
    },
    loader::patch::PatchedInstruction,
    memory::GuestRam,
    paging::{self, Walk},
};

/// MSRs whose accesses must exit to [`SnpMachine`]: first and count.
pub const INTERCEPTED_MSRS: (u32, u32) = (MSR_GHCB, 2);

/// A machine with one vCPU that runs an SNP guest.
pub struct SnpMachine<E> {
    engine: E,
    hypervisor: Hypervisor,
    /// MSR C001_0130h.
    ghcb_msr: GhcbMsr,
    world: World<Box<Devices>>,
    /// What the guest wrote to the exit port.
    exit_code: Rc<Cell<Option<u8>>>,
}

/// What a machine consists of.
pub struct SnpMachineParts<E> {
    /// What runs the guest; not yet started.
    pub engine: E,
    /// Guest RAM, with the guest in it.
    pub ram: GuestRam,
    /// Devices at ports; the exit port is added.
    pub bus: PortBus,
    /// The guest's CPU model.
    pub cpuid: CpuidTable,
    /// Secure processor.
    pub firmware: Firmware,
    /// What the hypervisor offers.
    pub host: HostConfig,
    /// The launch.
    pub plan: LaunchPlan,
    /// The initial state of the vCPU, as the plan measures it.
    pub vmsa: Box<Vmsa>,
}

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SnpMachineError {
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

impl<E: Engine> SnpMachine<E> {
    /// Launches the guest and puts the vCPU into its initial state. Time and randomness are the host's, and no faults are
    /// planned; see the `with_…` methods.
    ///
    /// # Errors
    /// What could not be launched.
    pub fn launch(parts: SnpMachineParts<E>) -> Result<Self, SnpMachineError> {
        Self::launch_with(parts, Surroundings::default())
    }

    /// [`Self::launch`] with time, randomness and faults of the caller's.
    ///
    /// # Errors
    /// What could not be launched.
    pub fn launch_with(
        parts: SnpMachineParts<E>,
        surroundings: Surroundings,
    ) -> Result<Self, SnpMachineError> {
        let SnpMachineParts { mut engine, ram, mut bus, cpuid, firmware, host, plan, vmsa } = parts;
        let Surroundings { clock, entropy, faults } = surroundings;
        let exit_code = ExitPort::insert(&mut bus)?;
        let msrs = BTreeMap::from([(MSR_SEV_STATUS, SEV_STATUS_SNP_ACTIVE)]);
        let mut world = World {
            memory: Box::new(ram),
            clock,
            entropy,
            journal: Journal::new(),
            faults,
            devices: Box::new(Devices { bus, cpuid, read_only_msrs: msrs }),
        };
        let (mut env, _) = world.env();
        let hypervisor = Hypervisor::launch(firmware, host, &plan, &mut env)?;
        engine.set_initial_state(&initial_state(&vmsa))?;
        Ok(Self { engine, hypervisor, ghcb_msr: GhcbMsr::default(), world, exit_code })
    }

    /// Runs the guest until it ends or the deadline passes. After [`End::Deadline`] it can be run on.
    ///
    /// # Errors
    /// If the engine fails, which no guest can bring about.
    pub fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        loop {
            let exit = self.engine.run(deadline)?;
            if let Some(end) = self.dispatch(exit)? {
                tracing::info!(%end, "guest ended");
                return Ok(end);
            }
        }
    }

    /// Does what follows from an exit; says so if it was the last.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn dispatch(&mut self, exit: Exit) -> Result<Option<End>, EngineError> {
        match exit {
            Exit::IoOut { port, size, data } => match PatchedInstruction::from_port(port) {
                Some(PatchedInstruction::Vmgexit) => Ok(self.vmgexit()),
                Some(PatchedInstruction::Pvalidate) => self.page_instruction(Hypervisor::pvalidate),
                Some(PatchedInstruction::Rmpadjust) => self.page_instruction(Hypervisor::rmpadjust),
                Some(PatchedInstruction::Tdcall) | None => {
                    port_output(&mut *self.world.devices, port, size, &data);
                    Ok(self.done())
                }
            },
            Exit::IoIn { port, size, count } => {
                let data = port_input(&mut *self.world.devices, port, size, count);
                self.engine.complete_io_in(&data)?;
                Ok(None)
            }
            // Nothing lies outside RAM: reads float, writes go nowhere.
            Exit::MmioRead { size, .. } => {
                self.engine.complete_mmio_read(&[0xff; 8][..usize::from(size).min(8)])?;
                Ok(None)
            }
            Exit::MmioWrite { .. } => Ok(None),
            Exit::MsrRead { index } => {
                let value = match index {
                    MSR_GHCB => Ok(self.ghcb_msr.0),
                    MSR_SEV_STATUS => Ok(SEV_STATUS_SNP_ACTIVE),
                    _ => Err(GeneralProtection),
                };
                self.engine.complete_msr_read(value)?;
                Ok(None)
            }
            Exit::MsrWrite { index: MSR_GHCB, value } => {
                self.ghcb_msr = GhcbMsr(value);
                self.engine.complete_msr_write(Ok(()))?;
                Ok(None)
            }
            Exit::MsrWrite { .. } => {
                self.engine.complete_msr_write(Err(GeneralProtection))?;
                Ok(None)
            }
            Exit::Hlt => Ok(Some(End::Halted)),
            Exit::Shutdown | Exit::SystemEvent { .. } => Ok(Some(End::Shutdown)),
            Exit::Deadline => Ok(Some(End::Deadline)),
            Exit::InternalError { instruction, .. } => {
                Ok(Some(End::Unrunnable { rip: self.engine.registers()?.rip, instruction }))
            }
        }
    }

    /// Whether the guest said that it is done.
    fn done(&self) -> Option<End> {
        self.exit_code.get().map(End::Done)
    }

    /// VMGEXIT: the value of the GHCB MSR says what the guest wants.
    fn vmgexit(&mut self) -> Option<End> {
        let (mut env, devices) = self.world.env();
        let outcome = self.hypervisor.vmgexit(0, self.ghcb_msr, &mut env, devices);
        self.ghcb_msr = outcome.msr;
        match outcome.action {
            // A vCPU that is not there cannot be started; there is one vCPU, and it runs on.
            Action::Resume | Action::StartVcpu { .. } => self.done(),
            Action::Halted | Action::ResetHold | Action::StopVcpu { .. } => Some(End::Halted),
            Action::Terminated(termination) => Some(End::Terminated(termination)),
        }
    }

    /// PVALIDATE and RMPADJUST: RAX is a virtual address, RCX a page size, RDX what is to be done (APM volume 3). EAX
    /// and the flags hold the result; at CPL above zero, #GP.
    fn page_instruction(
        &mut self,
        instruction: fn(&mut Hypervisor, WalkedPage, u64, u64, &mut Env<'_>) -> RmpOutcome,
    ) -> Result<Option<End>, EngineError> {
        let system = self.engine.system_registers()?;
        if system.cpl != 0 {
            self.engine.inject_exception(Exception::general_protection(0))?;
            return Ok(None);
        }
        let mut registers = self.engine.registers()?;
        let c_bit = self.hypervisor.config().c_bit;
        let Ok(walked) = Walk::new(&*self.world.memory, &system, Some(c_bit)).translate(registers.rax) else {
            self.engine.inject_exception(Exception::general_protection(0))?;
            return Ok(None);
        };
        let page = WalkedPage {
            gpa: walked.gpa & !0xfff,
            c_bit: walked.encrypted,
            size: if walked.size == paging::PageSize::Size4KiB { PageSize::Size4K } else { PageSize::Size2M },
        };
        let (mut env, _) = self.world.env();
        let outcome =
            instruction(&mut self.hypervisor, page, registers.rcx & 0xffff_ffff, registers.rdx, &mut env);
        set_result(&mut registers, outcome);
        self.engine.set_registers(&registers)?;
        Ok(None)
    }

    /// What happened so far.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.world.journal
    }

    /// The host's side of the guest.
    #[must_use]
    pub const fn hypervisor(&self) -> &Hypervisor {
        &self.hypervisor
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &E {
        &self.engine
    }
}

/// EAX is the instruction's return code, CF says "no change", ZF that the code is zero; the other flags are cleared.
fn set_result(registers: &mut Registers, outcome: RmpOutcome) {
    /// OF, SF, AF, PF.
    const OTHERS: u64 = 0x894;
    registers.rax = u64::from(outcome.result.0);
    registers.rflags &= !(OTHERS | rflags::CF | rflags::ZF);
    if outcome.carry {
        registers.rflags |= rflags::CF;
    }
    if outcome.result.0 == 0 {
        registers.rflags |= rflags::ZF;
    }
}

/// The engine's initial state as a VMSA holds it. Of EFER, what an engine without SVM knows.
fn initial_state(vmsa: &Vmsa) -> InitialState {
    /// SCE, LME, LMA, NXE.
    const EFER_MASK: u64 = 0xd01;
    let [r8, r9, r10, r11, r12, r13, r14, r15] = vmsa.r8_r15.map(zerocopy::little_endian::U64::get);
    let registers = Registers {
        rax: vmsa.rax.get(),
        rbx: vmsa.rbx.get(),
        rcx: vmsa.rcx.get(),
        rdx: vmsa.rdx.get(),
        rsi: vmsa.rsi.get(),
        rdi: vmsa.rdi.get(),
        rsp: vmsa.rsp.get(),
        rbp: vmsa.rbp.get(),
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: vmsa.rip.get(),
        rflags: vmsa.rflags.get(),
    };
    InitialState {
        registers,
        cr0: vmsa.cr0.get(),
        cr3: vmsa.cr3.get(),
        cr4: vmsa.cr4.get(),
        efer: vmsa.efer.get() & EFER_MASK,
        privilege: if vmsa.cpl == 3 { Privilege::User } else { Privilege::Kernel },
    }
}
