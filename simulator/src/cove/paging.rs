//! COVH: the functions that change a TVM's memory while it runs.

use std::ops::Range;

use tsmsim_abi::cove::{
    covh::{CovhFid, TvmState},
    sbi::SbiError,
};

use super::{
    PAGE_SIZE,
    build::{PAGE, covh, ensure, violation},
    event::{CoveEvent, Violation},
    regions::{PageState, RegionKind, is_aligned, range},
    tvm::Tvm,
};
use crate::{env::Env, journal::Event};

/// Makes pages zero. A region may reach beyond memory; nothing is lost there.
fn clear(range: Range<u64>, env: &mut Env<'_>) {
    for gpa in range.step_by(PAGE_SIZE) {
        if env.memory.write(gpa, &[0; PAGE_SIZE]).is_err() {
            break;
        }
    }
}

impl Tvm {
    /// `sbi_covh_add_tvm_zero_pages`, one page of 4 KiB. What lies there stays: memory is zero before a TVM runs, and is zeroed
    /// when it is removed or converted.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is not final; `INVALID_ADDRESS` for an address that is not aligned, not in a confidential
    /// region, mapped already, or without memory.
    pub fn add_zero_page(&mut self, gpa: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::ADD_TVM_ZERO_PAGES, |env| self.map(gpa, RegionKind::Confidential, env))
    }

    /// `sbi_covh_add_tvm_shared_pages`, one page of 4 KiB.
    ///
    /// # Errors
    /// As [`add_zero_page`](Self::add_zero_page), for a shared region.
    pub fn add_shared_page(&mut self, gpa: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::ADD_TVM_SHARED_PAGES, |env| self.map(gpa, RegionKind::Shared, env))
    }

    fn map(&mut self, gpa: u64, kind: RegionKind, env: &mut Env<'_>) -> Result<(), SbiError> {
        self.expect_state(TvmState::RUNNABLE)?;
        self.expect_absent(gpa, kind, env)?;
        let last = gpa + PAGE - 1;
        if env.memory.read(gpa, &mut [0]).and(env.memory.read(last, &mut [0])).is_err() {
            violation(env.journal, gpa, Violation::OutOfRange);
            return Err(SbiError::INVALID_ADDRESS);
        }
        self.regions.set_page(gpa, PageState::Mapped);
        Ok(())
    }

    /// Moves every page that is there from one of these states to another.
    fn transition(
        &mut self,
        [gpa, len]: [u64; 2],
        from: &[PageState],
        to: PageState,
        env: &mut Env<'_>,
    ) -> Result<(), SbiError> {
        ensure(!self.destroyed, SbiError::INVALID_PARAM)?;
        ensure(is_aligned(gpa), SbiError::INVALID_ADDRESS)?;
        ensure(is_aligned(len) && len != 0, SbiError::INVALID_PARAM)?;
        let range = range(gpa, len).ok_or(SbiError::INVALID_ADDRESS)?;
        let present = self.regions.present(&range);
        let wrong = |gpa: &u64| !from.contains(&self.regions.page(*gpa));
        let all = u64::try_from(present.len()).is_ok_and(|count| count == len / PAGE);
        if let Some(gpa) = present.iter().copied().find(wrong).or((!all).then_some(gpa)) {
            violation(env.journal, gpa, Violation::PageState);
            return Err(SbiError::INVALID_ADDRESS);
        }
        present.iter().for_each(|gpa| self.regions.set_page(*gpa, to));
        Ok(())
    }

    /// `sbi_covh_tvm_invalidate_pages`.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a length that is zero or not whole pages; `INVALID_ADDRESS` if any page is not mapped.
    pub fn invalidate_pages(&mut self, gpa: u64, len: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::TVM_INVALIDATE_PAGES, |env| {
            self.transition([gpa, len], &[PageState::Mapped], PageState::Invalidated, env)
        })
    }

    /// `sbi_covh_tvm_validate_pages`.
    ///
    /// # Errors
    /// As [`invalidate_pages`](Self::invalidate_pages), if any page is not invalidated.
    pub fn validate_pages(&mut self, gpa: u64, len: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::TVM_VALIDATE_PAGES, |env| {
            let from = [PageState::Invalidated, PageState::Fenced];
            self.transition([gpa, len], &from, PageState::Mapped, env)
        })
    }

    /// `sbi_covh_tvm_fence`; complete at once, because all vCPUs are in the TSM's hands.
    ///
    /// # Errors
    /// `FAILED` for a TVM that is gone.
    pub fn fence(&mut self, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::TVM_FENCE, |_| {
            ensure(!self.destroyed, SbiError::FAILED)?;
            self.regions.fence();
            Ok(())
        })
    }

    /// `sbi_covh_tvm_remove_pages`. What was in the TVM's own pages is lost: what takes their place is other memory.
    ///
    /// # Errors
    /// As [`invalidate_pages`](Self::invalidate_pages), if any page is not invalidated and fenced.
    pub fn remove_pages(&mut self, gpa: u64, len: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::TVM_REMOVE_PAGES, |env| {
            self.transition([gpa, len], &[PageState::Fenced], PageState::Absent, env)?;
            for page in (gpa..gpa.saturating_add(len)).step_by(PAGE_SIZE) {
                if self.regions.kind(&(page..page + PAGE)) == Some(RegionKind::Confidential) {
                    clear(page..page + PAGE, env);
                }
            }
            Ok(())
        })
    }

    /// The end of share or unshare: the kind changes, what was there is lost, the vCPU can run.
    ///
    /// # Errors
    /// `FAILED` if the vCPU waits for nothing, pages are still mapped, or the TVM is gone.
    pub fn complete_conversion(&mut self, vcpu: usize, env: &mut Env<'_>) -> Result<(), SbiError> {
        ensure(!self.destroyed, SbiError::FAILED)?;
        let vcpu = self.vcpus.get_mut(vcpu).ok_or(SbiError::FAILED)?;
        let conversion = vcpu.conversion.as_ref().ok_or(SbiError::FAILED)?;
        ensure(self.regions.present(&conversion.range).is_empty(), SbiError::FAILED)?;
        let (range, to) = (conversion.range.clone(), conversion.to);
        vcpu.conversion = None;
        clear(range.clone(), env);
        self.regions.define(&range, to);
        env.journal.record(Event::Cove(CoveEvent::Converted { range, to }));
        Ok(())
    }

    /// Share or unshare came to nothing: all stays as it was, and the vCPU can run.
    pub fn abandon_conversion(&mut self, vcpu: usize) {
        if let Some(vcpu) = self.vcpus.get_mut(vcpu) {
            vcpu.conversion = None;
        }
    }
}
