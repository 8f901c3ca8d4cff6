//! One virtual processor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_HALTED, kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::convert::{
    apply_initial_state, cpuid_from_kvm, cpuid_to_kvm, registers_from_kvm, registers_to_kvm,
};
use super::deadline::DeadlineTimer;
use super::slow::{Assistant, MSR_LSTAR};
use super::{Shared, host_error, sys};
use crate::engine::cpuid::CpuidTable;
use crate::engine::{
    Engine, EngineError, EngineInfo, Exception, Exit, GeneralProtection, InitialState, Pending, Registers,
    SystemRegisters, rflags,
};
use crate::loader::patch::PatchedInstruction;

/// How long another thread's [`KvmVcpu::attention`] may go unseen while the guest does not exit.
const ATTENTION_TIME: Duration = Duration::from_millis(50);

/// How long a guest halts that has its interrupts disabled.
const POLLED_HALT: Duration = Duration::from_millis(1);

/// One virtual processor of a [`KvmVm`](super::KvmVm). It stays in the thread that made it: KVM wants its requests from
/// there, and the deadline's timer signals that thread.
pub struct KvmVcpu {
    // Dropped in this order: the processor before the machine that it belongs to.
    fd: VcpuFd,
    deadline: DeadlineTimer,
    shared: Arc<Shared>,
    pending: Pending,
    /// Vectors of external interrupts that the guest did not take yet.
    interrupts: BTreeSet<u8>,
    /// An exception is to be delivered first; what KVM said of interrupts at the last exit does not hold behind it.
    exception: bool,
    /// On a KVM that interprets ring 0, for a guest that needs it.
    assistant: Option<Assistant>,
    attention: Arc<AtomicBool>,
    /// When the attention is looked at next, if the guest does not exit before.
    look: Instant,
    stops: BTreeMap<&'static str, u64>,
}

impl KvmVcpu {
    pub(super) fn new(shared: Arc<Shared>, index: u64, cpuid: &CpuidTable) -> Result<Self, EngineError> {
        let fd = shared.vm.create_vcpu(index).map_err(|error| host_error("KVM_CREATE_VCPU", error))?;
        fd.set_cpuid2(&cpuid_to_kvm(cpuid)?).map_err(|error| host_error("KVM_SET_CPUID2", error))?;
        let deadline = DeadlineTimer::new(&fd)?;
        let config = &shared.config;
        let assistant = config.assist_linux.then(|| Assistant::new(shared.ram.clone(), config));
        Ok(Self {
            fd,
            deadline,
            shared,
            pending: Pending::None,
            interrupts: BTreeSet::new(),
            exception: false,
            assistant,
            attention: Arc::default(),
            look: Instant::now(),
            stops: BTreeMap::new(),
        })
    }

    /// A flag that, raised by another thread, ends [`Engine::run`] with [`Exit::Deadline`] before its time.
    #[must_use]
    pub fn attention(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.attention)
    }

    /// How often the guest was stopped, by what it did.
    #[must_use]
    pub const fn stops(&self) -> &BTreeMap<&'static str, u64> {
        &self.stops
    }

    /// Thousands of cycles that the guest's time-stamp counter makes in a second.
    pub fn tsc_khz(&self) -> Result<u32, EngineError> {
        self.fd.get_tsc_khz().map_err(|error| host_error("KVM_GET_TSC_KHZ", error))
    }

    /// Does what this KVM's interpreter left undone, if that is what the exit means.
    fn assist(&mut self, exit: &Exit) -> Result<bool, EngineError> {
        let Some(assistant) = &mut self.assistant else { return Ok(false) };
        match *exit {
            Exit::InternalError { suberror: sys::EMULATION, .. } => {
                let Some(name) = assistant.instruction(&self.fd)? else { return Ok(false) };
                *self.stops.entry(name).or_default() += 1;
                Ok(true)
            }
            Exit::MsrWrite { index: MSR_LSTAR, value } => {
                assistant.write_lstar(&self.fd, value)?;
                self.complete_msr_write(Ok(()))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The table that the guest sees: KVM changes some of what it was given.
    pub fn cpuid(&self) -> Result<CpuidTable, EngineError> {
        let cpuid =
            self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(|error| host_error("KVM_GET_CPUID2", error))?;
        Ok(cpuid_from_kvm(&cpuid))
    }

    /// Completes an exit that KVM_RUN just made: what the exit's own data does not say.
    fn complete_exit(&mut self, mut exit: Exit) -> Exit {
        match &mut exit {
            Exit::IoOut { size, .. } => {
                if let Some(access) = sys::io_access(&mut self.fd) {
                    *size = access.size;
                }
            }
            Exit::IoIn { size, count, .. } => {
                if let Some(access) = sys::io_access(&mut self.fd) {
                    (*size, *count) = (access.size, access.count);
                }
            }
            Exit::InternalError { suberror, instruction } => {
                if let Some(error) = sys::internal_error(&mut self.fd) {
                    (*suberror, *instruction) = error;
                }
            }
            _ => {}
        }
        exit
    }

    /// Hands over an interrupt that waits if the guest takes it now; else KVM_RUN is to come back when it does.
    fn offer_interrupt(&mut self) -> Result<(), EngineError> {
        let run = self.fd.get_kvm_run();
        let ready = run.ready_for_interrupt_injection != 0 && run.if_flag != 0;
        if ready
            && !self.exception
            && let Some(vector) = self.interrupts.pop_last()
        {
            sys::interrupt(&self.fd, vector)?;
        }
        self.fd.get_kvm_run().request_interrupt_window = u8::from(!self.interrupts.is_empty());
        Ok(())
    }

    /// Has KVM finish the instruction of the last exit, and no other (`Documentation/virt/kvm/api.rst`, KVM_RUN).
    fn finish_instruction(&mut self) -> Result<(), EngineError> {
        self.fd.set_kvm_immediate_exit(1);
        let outcome = self.fd.run().map(drop);
        self.fd.set_kvm_immediate_exit(0);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(()),
            Err(error) => Err(host_error("KVM_RUN", error)),
        }
    }

    /// Answers what the last exit waits for with zeros, which the caller takes back.
    fn answer_with_zeros(&mut self) -> Result<(), EngineError> {
        match self.pending {
            Pending::None => Ok(()),
            Pending::IoIn(length) => self.complete_io_in(&vec![0; length]),
            Pending::MmioRead(length) => self.complete_mmio_read(&vec![0; length]),
            Pending::MsrRead => self.complete_msr_read(Ok(0)),
            Pending::MsrWrite => self.complete_msr_write(Ok(())),
        }
    }
}

impl Engine for KvmVcpu {
    fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    fn set_initial_state(&mut self, state: &InitialState) -> Result<(), EngineError> {
        let mut sregs = self.fd.get_sregs().map_err(|error| host_error("KVM_GET_SREGS", error))?;
        apply_initial_state(&mut sregs, state);
        self.fd.set_sregs(&sregs).map_err(|error| host_error("KVM_SET_SREGS", error))?;
        self.set_registers(&state.registers)
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        self.pending.check_answered()?;
        loop {
            let now = Instant::now();
            if now >= deadline || self.attention.load(Ordering::Relaxed) {
                return Ok(Exit::Deadline);
            }
            if now >= self.look {
                self.look = now + ATTENTION_TIME;
            }
            self.deadline.arm(deadline.min(self.look))?;
            if !self.interrupts.is_empty() {
                self.offer_interrupt()?;
            }
            let result = self.fd.run();
            self.exception = false;
            let outcome = match result {
                Ok(exit) => translate(exit)?,
                // EAGAIN is what a processor gives that has not been started yet.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => None,
                Err(error) => return Err(host_error("KVM_RUN", error)),
            };
            if let Some(exit) = outcome {
                let exit = self.complete_exit(exit);
                self.pending = Pending::of(&exit);
                if self.assist(&exit)? {
                    continue;
                }
                *self.stops.entry(name(&exit)).or_default() += 1;
                return Ok(exit);
            }
            self.deadline.acknowledge()?;
        }
    }

    fn registers(&self) -> Result<Registers, EngineError> {
        let regs = self.fd.get_regs().map_err(|error| host_error("KVM_GET_REGS", error))?;
        Ok(registers_from_kvm(&regs))
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), EngineError> {
        self.fd.set_regs(&registers_to_kvm(registers)).map_err(|error| host_error("KVM_SET_REGS", error))
    }

    fn system_registers(&self) -> Result<SystemRegisters, EngineError> {
        let sregs = self.fd.get_sregs().map_err(|error| host_error("KVM_GET_SREGS", error))?;
        Ok(SystemRegisters {
            cr0: sregs.cr0,
            cr3: sregs.cr3,
            cr4: sregs.cr4,
            efer: sregs.efer,
            // The privilege level is that of SS, as in the VMCB and in KVM.
            cpl: sregs.ss.dpl,
        })
    }

    fn complete_io_in(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::IoIn(data.len()))?;
        let taken = sys::answer_io_in(&mut self.fd, self.shared.vm.run_size(), data);
        if taken { Ok(()) } else { Err(EngineError::WrongAnswer("data for an IN")) }
    }

    fn complete_mmio_read(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::MmioRead(data.len()))?;
        let taken = sys::answer_mmio_read(&mut self.fd, data);
        if taken { Ok(()) } else { Err(EngineError::WrongAnswer("data for an MMIO read")) }
    }

    fn complete_msr_read(&mut self, outcome: Result<u64, GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrRead)?;
        let taken = sys::answer_msr(&mut self.fd, outcome.ok());
        if taken { Ok(()) } else { Err(EngineError::WrongAnswer("a value for RDMSR")) }
    }

    fn complete_msr_write(&mut self, outcome: Result<(), GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrWrite)?;
        let taken = sys::answer_msr(&mut self.fd, outcome.ok().map(|()| 0));
        if taken { Ok(()) } else { Err(EngineError::WrongAnswer("an outcome for WRMSR")) }
    }

    fn inject_exception(&mut self, exception: Exception) -> Result<(), EngineError> {
        if exception.vector >= 32 {
            return Err(EngineError::Configuration(format!("vector {} is no exception", exception.vector)));
        }
        let mut events: kvm_vcpu_events =
            self.fd.get_vcpu_events().map_err(|error| host_error("KVM_GET_VCPU_EVENTS", error))?;
        events.exception.injected = 1;
        events.exception.pending = 0;
        events.exception.nr = exception.vector;
        events.exception.has_error_code = u8::from(exception.error_code.is_some());
        events.exception.error_code = exception.error_code.unwrap_or(0);
        // The optional parts of the structure stay as they are in the kernel.
        events.flags = 0;
        self.exception = true;
        self.fd.set_vcpu_events(&events).map_err(|error| host_error("KVM_SET_VCPU_EVENTS", error))
    }

    fn inject_fault(&mut self, exception: Exception, length: u8) -> Result<(), EngineError> {
        let before = self.registers()?;
        self.answer_with_zeros()?;
        self.finish_instruction()?;
        // KVM is behind the instruction now, whether it was at the exit or not.
        let rip = self.registers()?.rip.wrapping_sub(length.into());
        self.set_registers(&Registers { rip, ..before })?;
        self.inject_exception(exception)
    }

    fn inject_interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        self.interrupts.insert(vector);
        Ok(())
    }

    fn interrupt_waits(&self) -> bool {
        !self.interrupts.is_empty()
    }

    fn halt(&mut self) -> Result<bool, EngineError> {
        if !self.shared.config.interrupt_controller {
            return Ok(false);
        }
        let before = self.registers()?;
        if before.rflags & rflags::IF == 0 {
            // A TD may halt with interrupts disabled, and wants to be woken by one; KVM would not see that it is there. A halt may
            // end without an interrupt, so this one ends soon.
            std::thread::sleep(POLLED_HALT);
            return Ok(true);
        }
        // What the last exit left undone would undo the halt: KVM finishes it when it next runs.
        self.finish_instruction()?;
        let rip = self.registers()?.rip;
        self.set_registers(&Registers { rip, ..before })?;
        let state = kvm_mp_state { mp_state: KVM_MP_STATE_HALTED };
        self.fd.set_mp_state(state).map_err(|error| host_error("KVM_SET_MP_STATE", error))?;
        Ok(true)
    }
}

/// What an exit is called in [`KvmVcpu::stops`].
fn name(exit: &Exit) -> &'static str {
    match exit {
        Exit::IoOut { port, .. } => match PatchedInstruction::from_port(*port) {
            Some(PatchedInstruction::Vmgexit) => "VMGEXIT",
            Some(PatchedInstruction::Pvalidate) => "PVALIDATE",
            Some(PatchedInstruction::Rmpadjust) => "RMPADJUST",
            Some(PatchedInstruction::Tdcall) => "TDCALL",
            None => "OUT",
        },
        Exit::IoIn { .. } => "IN",
        Exit::MmioRead { .. } | Exit::MmioWrite { .. } => "MMIO",
        Exit::MsrRead { .. } => "RDMSR",
        Exit::MsrWrite { .. } => "WRMSR",
        Exit::Hlt => "HLT",
        Exit::Deadline => "deadline",
        Exit::Shutdown | Exit::SystemEvent { .. } => "shutdown",
        Exit::InternalError { .. } => "internal error",
    }
}

/// KVM's exit as data; `None` for one that only says that a signal came.
///
/// The width of port accesses and the details of an internal error are not in it: [`KvmVcpu::complete_exit`].
fn translate(exit: VcpuExit<'_>) -> Result<Option<Exit>, EngineError> {
    let exit = match exit {
        VcpuExit::IoOut(port, data) => Exit::IoOut { port, size: 1, data: data.to_vec() },
        VcpuExit::IoIn(port, _) => Exit::IoIn { port, size: 1, count: 1 },
        VcpuExit::MmioRead(gpa, data) => {
            Exit::MmioRead { gpa, size: u8::try_from(data.len()).unwrap_or(u8::MAX) }
        }
        VcpuExit::MmioWrite(gpa, data) => Exit::MmioWrite { gpa, data: data.to_vec() },
        VcpuExit::X86Rdmsr(msr) => Exit::MsrRead { index: msr.index },
        VcpuExit::X86Wrmsr(msr) => Exit::MsrWrite { index: msr.index, value: msr.data },
        VcpuExit::Hlt => Exit::Hlt,
        VcpuExit::Shutdown => Exit::Shutdown,
        VcpuExit::SystemEvent(kind, data) => Exit::SystemEvent { kind, data: data.to_vec() },
        VcpuExit::InternalError => Exit::InternalError { suberror: 0, instruction: Vec::new() },
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => return Ok(None),
        VcpuExit::FailEntry(reason, _) => return Err(EngineError::EntryFailed(reason)),
        VcpuExit::Unsupported(number) => {
            return Err(EngineError::UnexpectedExit(format!("KVM exit reason {number}")));
        }
        other => return Err(EngineError::UnexpectedExit(format!("KVM exit {other:?}"))),
    };
    Ok(Some(exit))
}
