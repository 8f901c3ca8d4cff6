//! A machine with one TVM: an `ecall` and the machine in, what follows out.
//!
//! COVG calls go to the TSM's model, and the host does its part of them there; all other calls the host answers itself: base,
//! debug console and system reset (`cove/sbi.rs`). The console reads shared memory only. Accesses of the guest to memory are not watched: the engine gives it all of RAM, whatever is confidential,
//! shared or not mapped in the TSM's eyes. The TSM and the host keep to those states.

mod sbi;

use std::{io::Write, time::Instant};

use tsmsim_abi::cove::{
    covg::CovgFid,
    sbi::{ExtensionId, FunctionId, SbiError},
};
use tsmsim_simulator::{
    cove::{
        machine::{Action, HostConfig, LaunchError, LaunchPlan, Machine},
        platform::CovePlatform,
        promote::PromotePlan,
        registers::Registers,
    },
    env::{Env, OutOfRange},
    journal::Journal,
};

use self::sbi::HostCall;
pub use super::{end::End, surroundings::Surroundings};
use crate::{
    engine::{
        EngineError,
        riscv::{Entry, Exit, Hart},
    },
    memory::PlacedRam,
};

/// The one vCPU.
const VCPU: usize = 0;

/// A machine with one hart that runs a TVM.
pub struct TvmMachine<H> {
    hart: H,
    machine: Machine,
    ram: PlacedRam,
    surroundings: Surroundings,
    journal: Journal,
    handed_over: Option<HandOver>,
    console: Box<dyn Write + Send>,
}

/// What a machine consists of.
pub struct TvmMachineParts<H> {
    /// What runs the TVM; not yet started.
    pub hart: H,
    /// Its RAM, with the TVM in it.
    pub ram: PlacedRam,
    /// The processor with its TSM.
    pub platform: CovePlatform,
    /// How the host behaves.
    pub host: HostConfig,
    /// How it becomes a TVM.
    pub plan: TvmPlan,
    /// What the host tells the guest.
    pub hand_over: Option<HandOver>,
    /// Where the debug console goes. Its errors are no affair of the guest.
    pub console: Box<dyn Write + Send>,
}

/// How a TVM comes to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TvmPlan {
    /// In steps, from `create_tvm` to `finalize_tvm`.
    Steps(LaunchPlan),
    /// By `promote_to_tvm`.
    Promote(PromotePlan),
}

impl From<LaunchPlan> for TvmPlan {
    fn from(plan: LaunchPlan) -> Self {
        Self::Steps(plan)
    }
}

impl From<PromotePlan> for TvmPlan {
    fn from(plan: PromotePlan) -> Self {
        Self::Promote(plan)
    }
}

impl TvmPlan {
    /// Where the boot vCPU begins.
    const fn entry(&self) -> Entry {
        let (pc, argument) = match self {
            Self::Steps(plan) => (plan.entry_sepc, plan.entry_arg),
            Self::Promote(plan) => (plan.entry_sepc, plan.fdt_addr),
        };
        Entry { pc, hart: 0, argument }
    }

    fn carry_out(
        &self,
        platform: CovePlatform,
        host: HostConfig,
        env: &mut Env<'_>,
    ) -> Result<Machine, LaunchError> {
        match self {
            Self::Steps(plan) => Machine::launch(platform, host, plan, env),
            Self::Promote(plan) => Machine::promote(platform, host, plan, env),
        }
    }
}

/// What the host writes into memory of the guest whenever the guest shares all of it: sharing loses the contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandOver {
    /// Guest-physical address.
    pub gpa: u64,
    /// What is put there.
    pub contents: Vec<u8>,
}

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TvmMachineError {
    /// The launch failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// What is to be handed over lies outside RAM.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl<H: Hart> TvmMachine<H> {
    /// Builds the TVM and puts the hart to its entry.
    ///
    /// # Errors
    /// What could not be launched.
    pub fn launch(
        parts: TvmMachineParts<H>,
        mut surroundings: Surroundings,
    ) -> Result<Self, TvmMachineError> {
        let TvmMachineParts { mut hart, ram, platform, host, plan, hand_over, console } = parts;
        if let Some(HandOver { gpa, contents }) = &hand_over {
            let len = contents.len();
            let fits = u64::try_from(len).is_ok_and(|length| ram.contains(*gpa, length));
            if !fits {
                return Err(OutOfRange { gpa: *gpa, len }.into());
            }
        }
        let mut journal = Journal::new();
        let mut env = env(&ram, &mut surroundings, &mut journal);
        let machine = plan.carry_out(platform, host, &mut env)?;
        hart.start(plan.entry())?;
        Ok(Self { hart, machine, ram, surroundings, journal, handed_over: hand_over, console })
    }

    /// Runs the TVM until it ends or the deadline passes. After [`End::Deadline`] it can be run on.
    ///
    /// # Errors
    /// If the engine fails, which no guest can bring about.
    pub fn run(&mut self, deadline: Instant) -> Result<End, EngineError> {
        loop {
            let exit = self.hart.run(deadline)?;
            if let Some(end) = self.dispatch(exit)? {
                tracing::info!(%end, "TVM ended");
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
            Exit::Ecall { arguments } => self.ecall(Registers(arguments)),
            Exit::Trap(trap) => Ok(Some(End::Trap(trap))),
            Exit::PoweredOff => Ok(Some(End::PoweredOff)),
            Exit::Deadline => Ok(Some(End::Deadline)),
        }
    }

    fn ecall(&mut self, mut registers: Registers) -> Result<Option<End>, EngineError> {
        let call = registers;
        let mut env = env(&self.ram, &mut self.surroundings, &mut self.journal);
        match self.machine.ecall(VCPU, &mut registers, &mut env) {
            Action::Resume => self.hand_over(&call, &registers)?,
            Action::Forward => {
                let regions = self.machine.tvm().regions();
                let mut host = HostCall { ram: &self.ram, regions, console: &mut *self.console };
                match host.answer(&call) {
                    Ok(result) => registers.set(result),
                    Err(end) => return Ok(Some(end)),
                }
            }
        }
        self.hart.complete_ecall(registers.error().0, registers.value())?;
        Ok(None)
    }

    /// After a share that covers the place, the host writes what it has to say.
    fn hand_over(&self, call: &Registers, answer: &Registers) -> Result<(), EngineError> {
        let [gpa, len, .., a6, _] = call.0;
        let shares = call.extension() == ExtensionId::COVG
            && FunctionId::from(a6).fid() == CovgFid::SHARE_MEMORY_REGION.0
            && answer.error() == SbiError::SUCCESS;
        match &self.handed_over {
            Some(HandOver { gpa: place, contents }) if shares && covers(gpa, len, *place, contents.len()) => {
                let written = self.ram.write(*place, contents);
                written.map_err(|error| EngineError::Configuration(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What happened so far.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The TVM with its TSM and host.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The engine.
    #[must_use]
    pub const fn hart(&self) -> &H {
        &self.hart
    }
}

fn env<'a>(ram: &'a PlacedRam, surroundings: &'a mut Surroundings, journal: &'a mut Journal) -> Env<'a> {
    Env {
        memory: ram,
        clock: &*surroundings.clock,
        entropy: &mut *surroundings.entropy,
        journal,
        faults: &mut *surroundings.faults,
    }
}

/// Whether a range covers another, of which the host knows that it lies in RAM.
fn covers(gpa: u64, len: u64, place: u64, size: usize) -> bool {
    let end = u64::try_from(size).ok().and_then(|size| place.checked_add(size));
    let shared_end = gpa.checked_add(len);
    gpa <= place && end.zip(shared_end).is_some_and(|(end, shared_end)| end <= shared_end)
}

#[cfg(test)]
mod tests;
