//! Booting a bare-metal TVM on any engine for RISC-V: everything put together.

use std::{convert::Infallible, io::Write};

use tsmsim_abi::{
    cove::covh::TVM_IDENTITY_SIZE,
    guest_test::{
        Parameters,
        riscv64::{PARAMETERS_GPA, TAP_GPA},
    },
};
use tsmsim_simulator::cove::{machine::HostConfig, platform::CovePlatform};
use zerocopy::IntoBytes;

use super::cove::{HandOver, Surroundings, TvmMachine, TvmMachineError, TvmMachineParts, TvmPlan};
use crate::{
    device::serial::{SerialOutput, Tee},
    engine::{
        EngineError,
        riscv::{Hart, ckb::CkbHart},
    },
    loader::{
        bare_metal::{GuestTask, LoadError, parameters},
        tvm::{LoadedTvm, load, load_to_promote},
    },
    memory::PlacedRam,
};

/// Console output that is kept at most.
const CONSOLE_LIMIT: usize = 1 << 20;

/// What to boot.
pub struct TvmBootRequest<'a> {
    /// The TVM: an ELF image.
    pub elf: &'a [u8],
    /// Its processor and TSM.
    pub platform: CovePlatform,
    /// How the host behaves.
    pub host: HostConfig,
    /// How it becomes a TVM.
    pub launch: TvmLaunch,
    /// What the host calls the TVM.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
    /// What the guest is to do; `report_data` is the challenge.
    pub task: GuestTask,
    /// Time, randomness, faults.
    pub surroundings: Surroundings,
    /// Where its console goes besides being kept.
    pub console: Option<Box<dyn Write + Send>>,
}

/// How the host makes a TVM.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TvmLaunch {
    /// In steps, from `create_tvm` to `finalize_tvm`.
    #[default]
    Steps,
    /// By `promote_to_tvm`.
    Promote {
        /// The attestation payload, which [`CovePlatform::seal_tap`] makes for
        /// [`measure_promoted`](crate::loader::tvm::measure_promoted); `None`: no local attestation.
        tap: Option<Vec<u8>>,
    },
}

/// A TVM that was booted, at its first instruction.
pub struct BootedTvm<H> {
    /// The machine.
    pub machine: TvmMachine<H>,
    /// What it prints.
    pub console: SerialOutput,
}

/// Why a TVM could not be booted.
#[derive(Debug, thiserror::Error)]
pub enum TvmBootError {
    /// The guest.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The launch.
    #[error(transparent)]
    Machine(#[from] TvmMachineError),
}

impl From<Infallible> for TvmBootError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// [`boot_tvm_on`] the interpreter in this process.
///
/// # Errors
/// [`TvmBootError`].
pub fn boot_tvm(request: TvmBootRequest<'_>) -> Result<BootedTvm<CkbHart>, TvmBootError> {
    boot_tvm_on(request, |ram| Ok::<_, Infallible>(CkbHart::new(ram.clone())))
}

/// Loads and launches a TVM on the hart that `engine` makes for its RAM.
///
/// # Errors
/// [`TvmBootError`].
pub fn boot_tvm_on<H: Hart, E: Into<TvmBootError>>(
    request: TvmBootRequest<'_>,
    engine: impl FnOnce(&PlacedRam) -> Result<H, E>,
) -> Result<BootedTvm<H>, TvmBootError> {
    let TvmBootRequest { elf, platform, host, launch, identity, task, surroundings, console } = request;
    let (ram, plan, secrets_gpa) = match launch {
        TvmLaunch::Steps => {
            let LoadedTvm { ram, plan } = load(elf, identity)?;
            (ram, TvmPlan::from(plan), 0)
        }
        TvmLaunch::Promote { tap } => {
            let LoadedTvm { ram, plan } = load_to_promote(elf, tap.as_deref(), identity)?;
            (ram, plan.into(), if tap.is_some() { TAP_GPA } else { 0 })
        }
    };
    let parameters = Parameters { secrets_gpa: secrets_gpa.into(), ..parameters(task) };
    let (tee, output) = Tee::new(CONSOLE_LIMIT, console);
    let parts = TvmMachineParts {
        hart: engine(&ram).map_err(Into::into)?,
        ram,
        platform,
        host,
        plan,
        hand_over: Some(HandOver { gpa: PARAMETERS_GPA, contents: parameters.as_bytes().to_vec() }),
        console: Box::new(tee),
    };
    Ok(BootedTvm { machine: TvmMachine::launch(parts, surroundings)?, console: output })
}
