//! COVH: `promote_to_tvm`, which makes a TVM of a virtual machine in a single step.

use std::{ops::Range, sync::Arc};

use tsmsim_abi::cove::{
    covh::{CovhFid, PROMOTE_ALIGNMENT, TVM_IDENTITY_SIZE},
    sbi::SbiError,
};

use super::{
    PAGE_SIZE,
    build::{covh, ensure},
    measure::InitialRegisters,
    platform::CovePlatform,
    regions::{PageState, RegionKind, is_aligned, range},
    tap::Tap,
    tvm::{Tvm, Vcpu},
};
use crate::env::{Env, GuestMemory, OutOfRange};

/// The virtual machine to be promoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromotePlan {
    /// Its memory: page-aligned, ranges do not overlap. All of it is measured; the TAP's bytes are measured as zeros, and are
    /// zeros in the TVM.
    pub ram: Vec<Range<u64>>,
    /// Its vCPUs.
    pub vcpus: u16,
    /// Guest-physical address of the FDT.
    pub fdt_addr: u64,
    /// Guest-physical address of the TAP, or 0.
    pub tap_addr: u64,
    /// Where the boot vCPU goes on.
    pub entry_sepc: u64,
    /// What the host calls it.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
}

impl PromotePlan {
    /// The initial registers that the TVM will have, whatever its TAP. `registers` are those that the platform gives every
    /// TVM ([`CovePlatform::initial_registers`]).
    ///
    /// # Errors
    /// If there is less memory than the plan says.
    pub fn measure(
        &self,
        memory: &dyn GuestMemory,
        mut registers: InitialRegisters,
    ) -> Result<InitialRegisters, OutOfRange> {
        let tap = Some(self.tap_addr).filter(|gpa| *gpa != 0).and_then(|gpa| Tap::read(gpa, memory));
        for gpa in self.ram.iter().flat_map(|ram| ram.clone().step_by(PAGE_SIZE)) {
            measure_page(gpa, tap.as_ref(), memory, &mut registers)?;
        }
        registers.entry(self.entry_sepc, self.fdt_addr);
        Ok(registers)
    }

    /// The TAP, wholly in memory of the TVM.
    fn tap(&self, platform: &CovePlatform, env: &Env<'_>) -> Result<Option<Tap>, SbiError> {
        if self.tap_addr == 0 {
            return Ok(None);
        }
        let tap = Tap::read(self.tap_addr, env.memory).ok_or(platform.config().errors.auth)?;
        let Range { start, end } = *tap.range();
        let inside = self.ram.iter().any(|ram| ram.start <= start && end <= ram.end);
        ensure(inside, SbiError::INVALID_ADDRESS)?;
        Ok(Some(tap))
    }
}

/// Measures a page as it will be in the TVM.
fn measure_page(
    gpa: u64,
    tap: Option<&Tap>,
    memory: &dyn GuestMemory,
    registers: &mut InitialRegisters,
) -> Result<(), OutOfRange> {
    let mut contents = [0; PAGE_SIZE];
    memory.read(gpa, &mut contents)?;
    if let Some(tap) = tap {
        tap.leave_out(gpa, &mut contents);
    }
    registers.measured_page(gpa, &contents);
    Ok(())
}

impl Tvm {
    /// `sbi_covh_promote_to_tvm`.
    ///
    /// # Errors
    /// `INVALID_ADDRESS` for an FDT or TAP that is not aligned or not in memory; the platform's `AUTH` if the TAP is not for
    /// this TSM or not for this TVM; its `OUT_OF_MEMORY` for memory that is not there; `FAILED` for memory that is not whole
    /// pages, or vCPUs that there cannot be.
    pub fn promote(platform: &CovePlatform, plan: &PromotePlan, env: &mut Env<'_>) -> Result<Self, SbiError> {
        covh(env, CovhFid::PROMOTE_TO_TVM, |env| {
            let errors = platform.config().errors;
            let vcpus = plan.vcpus != 0 && plan.vcpus <= platform.config().max_vcpus;
            ensure(vcpus, SbiError::FAILED)?;
            let inside = |gpa: u64| plan.ram.iter().any(|ram| ram.contains(&gpa));
            let placed = |gpa: u64| gpa.is_multiple_of(PROMOTE_ALIGNMENT) && inside(gpa);
            ensure(placed(plan.fdt_addr), SbiError::INVALID_ADDRESS)?;
            ensure(plan.tap_addr == 0 || placed(plan.tap_addr), SbiError::INVALID_ADDRESS)?;
            let mut tvm = Self::initializing(platform);
            tvm.vcpus = (0..plan.vcpus).map(|id| Vcpu::new(id.into())).collect();
            let tap = plan.tap(platform, env)?;
            for ram in &plan.ram {
                tvm.measure_memory(ram, tap.as_ref(), platform, env)?;
            }
            let entry = [plan.entry_sepc, plan.fdt_addr];
            tvm.complete(platform, entry, plan.identity.as_ref())?;
            if let Some(tap) = tap {
                let secret = tap.open(platform, &tvm.initial.local_measurement()).ok_or(errors.auth)?;
                tap.clear(env.memory).map_err(|_| errors.out_of_memory)?;
                tvm.secret = Some(Arc::new(secret));
            }
            Ok(tvm)
        })
    }

    fn measure_memory(
        &mut self,
        ram: &Range<u64>,
        tap: Option<&Tap>,
        platform: &CovePlatform,
        env: &mut Env<'_>,
    ) -> Result<(), SbiError> {
        let whole = is_aligned(ram.start) && is_aligned(ram.end) && ram.start < ram.end;
        let range = range(ram.start, ram.end.saturating_sub(ram.start)).filter(|_| whole);
        let range = range.filter(|range| !self.regions.overlaps(range)).ok_or(SbiError::FAILED)?;
        self.regions.define(&range, RegionKind::Confidential);
        for gpa in range.step_by(PAGE_SIZE) {
            let measured = measure_page(gpa, tap, env.memory, &mut self.initial);
            measured.map_err(|_| platform.config().errors.out_of_memory)?;
            self.regions.set_page(gpa, PageState::Mapped);
        }
        Ok(())
    }
}
