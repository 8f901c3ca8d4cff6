//! TSM and host together: what a monitor calls.

use std::ops::Range;

use tsmsim_abi::cove::{
    covg::CovgFid,
    covh::TVM_IDENTITY_SIZE,
    sbi::{FunctionId, SbiError},
};

use super::{
    PAGE_SIZE,
    build::faulted,
    covg::Outcome,
    event::CoveEvent,
    platform::CovePlatform,
    promote::PromotePlan,
    regions::{PageState, RegionKind},
    registers::Registers,
    tvm::{Conversion, Tvm},
};
use crate::{env::Env, fault::FaultPoint, journal::Event};

/// How often the host maps pages for one call: beyond this many something goes in circles.
const MAX_FAULTS: usize = 64;

/// A page to be launched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedPage {
    /// Guest-physical address, page-aligned.
    pub gpa: u64,
    /// What is to be put there; `None`: what lies there.
    pub contents: Option<Box<[u8; PAGE_SIZE]>>,
}

/// A TVM to be launched in steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchPlan {
    /// Guest-physical addresses of its memory: page-aligned. All of it is confidential at first.
    pub ram: Vec<Range<u64>>,
    /// vCPUs.
    pub vcpus: u16,
    /// Measured pages, in the order in which they are added.
    pub pages: Vec<PlannedPage>,
    /// Entry point.
    pub entry_sepc: u64,
    /// Argument of the boot vCPU: address of the FDT.
    pub entry_arg: u64,
    /// What the host calls it.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
}

/// How the host behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostConfig {
    /// Bytes that it converts for one share or unshare at most, as a host without dynamic page conversion whose memory is
    /// fragmented; more fails. `None`: no limit.
    pub max_conversion: Option<u64>,
}

/// Why a TVM could not be launched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct LaunchError {
    /// The function.
    pub step: &'static str,
    /// What it returned.
    pub error: SbiError,
}

/// What the monitor is to do after an `ecall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Run the vCPU on behind the instruction: `a0` and `a1` are set.
    Resume,
    /// The call is not for the TSM: the registers are as they were, and another SBI implementation is to answer. Where there
    /// is none, [`Registers::set`] with `NOT_SUPPORTED` does.
    Forward,
}

/// A TVM with its TSM and host.
#[derive(Clone)]
pub struct Machine {
    platform: CovePlatform,
    config: HostConfig,
    tvm: Tvm,
}

impl Machine {
    /// Builds a TVM in steps, as hosts do.
    ///
    /// # Errors
    /// [`LaunchError`]: which step failed.
    pub fn launch(
        platform: CovePlatform,
        config: HostConfig,
        plan: &LaunchPlan,
        env: &mut Env<'_>,
    ) -> Result<Self, LaunchError> {
        let at = |step| move |error| LaunchError { step, error };
        let mut tvm = Tvm::create(&platform, env).map_err(at("create_tvm"))?;
        for ram in &plan.ram {
            tvm.add_memory_region(ram.start, ram.end.saturating_sub(ram.start), env)
                .map_err(at("add_tvm_memory_region"))?;
        }
        for page in &plan.pages {
            tvm.add_measured_page(page.gpa, page.contents.as_deref(), env)
                .map_err(at("add_tvm_measured_pages"))?;
        }
        for id in 0..plan.vcpus {
            tvm.create_vcpu(id.into(), env).map_err(at("create_tvm_vcpu"))?;
        }
        let entry = [plan.entry_sepc, plan.entry_arg];
        tvm.finalize(&platform, entry, plan.identity.as_ref(), env).map_err(at("finalize_tvm"))?;
        Ok(Self { platform, config, tvm })
    }

    /// Makes a TVM of a virtual machine in a single step.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn promote(
        platform: CovePlatform,
        config: HostConfig,
        plan: &PromotePlan,
        env: &mut Env<'_>,
    ) -> Result<Self, LaunchError> {
        let step = "promote_to_tvm";
        let tvm = Tvm::promote(&platform, plan, env).map_err(|error| LaunchError { step, error })?;
        Ok(Self { platform, config, tvm })
    }

    /// An `ecall` of a vCPU. The host maps pages that are not there yet and converts memory, and the call ends; that is not
    /// seen from outside.
    pub fn ecall(&mut self, vcpu: usize, registers: &mut Registers, env: &mut Env<'_>) -> Action {
        for _ in 0..MAX_FAULTS {
            match self.tvm.ecall(&self.platform, vcpu, registers, env) {
                Outcome::Done => return Action::Resume,
                Outcome::Forward => return Action::Forward,
                Outcome::Convert(conversion) => {
                    let result = self.convert(vcpu, &conversion, env);
                    return end(vcpu, registers, result, env);
                }
                Outcome::PageFault { gpa } => {
                    if self.map(gpa, env).is_err() {
                        break;
                    }
                }
            }
        }
        self.tvm.abandon_call(vcpu);
        end(vcpu, registers, Err(SbiError::INVALID_ADDRESS), env)
    }

    /// The host maps a page that the TVM uses.
    fn map(&mut self, gpa: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        let page = PAGE_SIZE as u64;
        let regions = self.tvm.regions();
        match (regions.page(gpa), regions.kind(&(gpa..gpa + 1))) {
            (PageState::Absent, Some(RegionKind::Confidential)) => self.tvm.add_zero_page(gpa, env),
            (PageState::Absent, Some(RegionKind::Shared)) => self.tvm.add_shared_page(gpa, env),
            (PageState::Invalidated | PageState::Fenced, _) => self.tvm.validate_pages(gpa, page, env),
            _ => Err(SbiError::INVALID_ADDRESS),
        }
    }

    /// The host's part of share and unshare: it takes the pages that are there away.
    fn convert(&mut self, vcpu: usize, conversion: &Conversion, env: &mut Env<'_>) -> Result<u64, SbiError> {
        let range = &conversion.range;
        let too_large = self.config.max_conversion.is_some_and(|max| range.end - range.start > max);
        let refused = faulted(env, FaultPoint::COVE_CONVERSION).or(too_large.then_some(SbiError::FAILED));
        let result = match refused {
            Some(error) => Err(error),
            None => self.take_away(range, env).and_then(|()| self.tvm.complete_conversion(vcpu, env)),
        };
        if result.is_err() {
            self.tvm.abandon_conversion(vcpu);
        }
        result.map(|()| 0)
    }

    fn take_away(&mut self, range: &Range<u64>, env: &mut Env<'_>) -> Result<(), SbiError> {
        let page = PAGE_SIZE as u64;
        let present = self.tvm.regions().present(range);
        for gpa in &present {
            if self.tvm.regions().page(*gpa) == PageState::Mapped {
                self.tvm.invalidate_pages(*gpa, page, env)?;
            }
        }
        if !present.is_empty() {
            self.tvm.fence(env)?;
        }
        present.iter().try_for_each(|gpa| self.tvm.remove_pages(*gpa, page, env))
    }

    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> &CovePlatform {
        &self.platform
    }

    /// The TVM.
    #[must_use]
    pub const fn tvm(&self) -> &Tvm {
        &self.tvm
    }

    /// The TVM, for what a host does of its own accord.
    pub const fn tvm_mut(&mut self) -> &mut Tvm {
        &mut self.tvm
    }
}

/// The end of a COVG call to which the host contributed.
fn end(vcpu: usize, registers: &mut Registers, result: Result<u64, SbiError>, env: &mut Env<'_>) -> Action {
    let [.., a6, _] = registers.0;
    registers.set(result);
    let fid = CovgFid(FunctionId::from(a6).fid());
    let error = registers.error();
    env.journal.record(Event::Cove(CoveEvent::Covg { vcpu, fid, error }));
    Action::Resume
}
