//! Module and host together: what a monitor calls.

use std::ops::Range;

use tsmsim_abi::tdx::{
    leaf::{PageInfo, PageLevel},
    status::CompletionStatus,
    td_params::{MR_EXTEND_CHUNK, TdParams},
};
use tsmsim_keys::KeysError;

use super::{
    PAGE_SIZE,
    module::Outcome,
    platform::TdxPlatform,
    qgs::QuoteService,
    quoting::QuotingEnclave,
    registers::{Gpr, Registers},
    td::Td,
    vmcall::{FatalReport, Host, HostAction, HostConfig, Interrupt},
};
use crate::env::{Env, HostDevices};

/// How often the host maps pages for one TDCALL: a function reaches two operands, and each may be split and mapped.
const MAX_FAULTS: usize = 8;

/// A page to be launched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedPage {
    /// Guest-physical address, page-aligned.
    pub gpa: u64,
    /// What is to be put there; `None`: what lies there.
    pub contents: Option<Box<[u8; PAGE_SIZE]>>,
    /// Whether the contents are measured; the address always is.
    pub measured: bool,
}

/// A TD to be launched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchPlan {
    /// `TD_PARAMS`.
    pub params: TdParams,
    /// Guest-physical addresses of memory.
    pub ram: Vec<Range<u64>>,
    /// VCPUs; at most `max_vcpus` of the parameters.
    pub vcpus: u16,
    /// Pages, in the order in which they are added and measured.
    pub pages: Vec<PlannedPage>,
}

/// Why a TD could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The module refused a step.
    #[error("{step}: {status}")]
    Module {
        /// The function.
        step: &'static str,
        /// What it returned.
        status: CompletionStatus,
    },
    /// The quoting enclave's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What the monitor is to do after a TDCALL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Run the VCPU on behind the instruction.
    Resume,
    /// The VCPU executed HLT: run it on behind the instruction at the next interrupt.
    Halted {
        /// The TD says that interrupts are blocked, so only an NMI wakes it.
        interrupts_blocked: bool,
    },
    /// Inject #VE at the instruction.
    InjectVe,
    /// Inject #GP(0) at the instruction.
    InjectGp,
    /// The TD used a page that it must not use and the host cannot provide: KVM would stop the machine with a memory fault.
    MemoryFault {
        /// Guest-physical address, without the shared bit.
        gpa: u64,
    },
    /// The TD is over.
    Terminated(FatalReport),
}

/// A TD with its module and host.
#[derive(Clone)]
pub struct Machine {
    platform: TdxPlatform,
    td: Td,
    host: Host,
}

impl Machine {
    /// Builds a TD as hosts do.
    ///
    /// # Errors
    /// [`LaunchError`]: which step failed.
    pub fn launch(
        platform: TdxPlatform,
        config: HostConfig,
        plan: &LaunchPlan,
        env: &mut Env<'_>,
    ) -> Result<Self, LaunchError> {
        let service = QuoteService::new(QuotingEnclave::new(&platform)?);
        let mut td = Td::create(&platform, &plan.ram, env.entropy);
        let at = |step| move |status| LaunchError::Module { step, status };
        td.mng_init(&plan.params, env).map_err(at("TDH.MNG.INIT"))?;
        for _ in 0..plan.vcpus {
            td.vp_init(env).map_err(at("TDH.VP.INIT"))?;
        }
        for page in &plan.pages {
            td.mem_page_add(PageInfo::from(page.gpa), page.contents.as_deref(), env)
                .map_err(at("TDH.MEM.PAGE.ADD"))?;
            if page.measured {
                for gpa in (page.gpa..page.gpa + PAGE_SIZE as u64).step_by(MR_EXTEND_CHUNK) {
                    td.mr_extend(gpa, env).map_err(at("TDH.MR.EXTEND"))?;
                }
            }
        }
        td.mr_finalize(env).map_err(at("TDH.MR.FINALIZE"))?;
        Ok(Self { platform, td, host: Host::new(config, service) })
    }

    /// A TDCALL of a VCPU. The host maps private pages that are not there yet, as KVM does, and the function is executed
    /// again; that is not seen from outside.
    pub fn tdcall(
        &mut self,
        vcpu: usize,
        registers: &mut Registers,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Action {
        let mut fault = 0;
        for _ in 0..MAX_FAULTS {
            match self.td.tdcall(&self.platform, vcpu, registers, env) {
                Outcome::Done => return Action::Resume,
                Outcome::VmCall(control) => {
                    return self.vmcall(vcpu, control.gpr_select(), registers, env, devices);
                }
                Outcome::VirtualizationException => return Action::InjectVe,
                Outcome::GeneralProtection => return Action::InjectGp,
                Outcome::EptViolation { gpa, accept } => {
                    fault = gpa;
                    if !self.td.sept_mut().page_aug(gpa, accept.unwrap_or(PageLevel::PT)) {
                        break;
                    }
                }
            }
        }
        Action::MemoryFault { gpa: fault }
    }

    fn vmcall(
        &mut self,
        vcpu: usize,
        shown: u16,
        registers: &mut Registers,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Action {
        let mut seen = registers.select(shown, &Registers::default());
        let action = self.host.vmcall(&mut self.td, vcpu, &mut seen, env, devices);
        *registers = seen.select(shown, registers).with(Gpr::Rax, CompletionStatus::SUCCESS.0);
        match action {
            HostAction::Resume => Action::Resume,
            HostAction::Halted { interrupts_blocked } => Action::Halted { interrupts_blocked },
            HostAction::Terminated(report) => Action::Terminated(report),
        }
    }

    /// Completes quotes that are due, and gives the interrupts to be injected since the last call.
    pub fn poll(&mut self, env: &mut Env<'_>) -> Vec<Interrupt> {
        self.host.poll(&self.td, env)
    }

    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> &TdxPlatform {
        &self.platform
    }

    /// The TD.
    #[must_use]
    pub const fn td(&self) -> &Td {
        &self.td
    }

    /// The TD, for what a host or an engine does of its own accord.
    pub const fn td_mut(&mut self) -> &mut Td {
        &mut self.td
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }
}
