//! COVH: the functions that build a TVM in steps (`sbi_cove.adoc`, "COVE Host Extension"). [`paging`](super::paging) has those
//! that change its memory later, [`promote`](super::promote) the one that does it in a single step.

use std::sync::Arc;

use tsmsim_abi::cove::{
    covh::{CovhFid, TVM_IDENTITY_SIZE, TsmCapabilities, TsmInfo, TsmState, TvmState},
    sbi::SbiError,
};
use tsmsim_keys::cove::KeyAlgorithm;
use zerocopy::FromZeros;

use super::{
    PAGE_SIZE,
    event::{CoveEvent, Violation},
    platform::CovePlatform,
    regions::{PageState, RegionKind, Regions, is_aligned, range},
    tvm::{Tvm, Vcpu},
};
use crate::{
    env::Env,
    fault::{self, FaultAction, FaultPoint},
    journal::{Event, Journal},
};

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// An error that a plan wants of a call.
pub(super) fn faulted(env: &mut Env<'_>, point: FaultPoint) -> Option<SbiError> {
    match fault::consult(env.faults, env.journal, point)? {
        FaultAction::Status(status) => Some(SbiError::from_register(status)),
        action => {
            fault::ignored(env.journal, point, &action);
            None
        }
    }
}

pub(super) fn violation(journal: &mut Journal, gpa: u64, violation: Violation) {
    journal.record(Event::Cove(CoveEvent::Violation { gpa, violation }));
}

pub(super) const fn ensure(condition: bool, error: SbiError) -> Result<(), SbiError> {
    if condition { Ok(()) } else { Err(error) }
}

/// Runs a host's call: the fault point before it, the journal after it.
pub(super) fn covh<T>(
    env: &mut Env<'_>,
    fid: CovhFid,
    call: impl FnOnce(&mut Env<'_>) -> Result<T, SbiError>,
) -> Result<T, SbiError> {
    let result = match faulted(env, FaultPoint::COVE_COVH) {
        Some(error) => Err(error),
        None => call(env),
    };
    let error = result.as_ref().err().copied().unwrap_or(SbiError::SUCCESS);
    env.journal.record(Event::Cove(CoveEvent::Covh { fid, error }));
    result
}

/// `sbi_covh_get_tsm_info`: what the TSM says of itself. The implementation ID is none of the reserved ones. AIA is not
/// among the capabilities: COVI has no model.
#[must_use]
pub fn tsm_info(platform: &CovePlatform) -> TsmInfo {
    let capabilities = TsmCapabilities::new()
        .with_promote_tvm(true)
        .with_attestation_local(true)
        .with_attestation_remote(true);
    TsmInfo {
        tsm_state: TsmState::READY.0.into(),
        tsm_impl_id: u32::from_le_bytes(*b"tsms").into(),
        tsm_version: 1.into(),
        tsm_capabilities: u64::from(capabilities).into(),
        tvm_max_vcpus: u64::from(platform.config().max_vcpus).into(),
        ..TsmInfo::new_zeroed()
    }
}

impl Tvm {
    /// `sbi_covh_create_tvm`.
    ///
    /// # Errors
    /// Only what a fault plan wants.
    pub fn create(platform: &CovePlatform, env: &mut Env<'_>) -> Result<Self, SbiError> {
        covh(env, CovhFid::CREATE_TVM, |_| Ok(Self::initializing(platform)))
    }

    pub(super) fn initializing(platform: &CovePlatform) -> Self {
        let config = platform.config();
        Self {
            state: TvmState::INITIALIZING,
            destroyed: false,
            regions: Regions::default(),
            vcpus: Vec::new(),
            max_vcpus: config.max_vcpus,
            page_table_pages: 0,
            initial: platform.initial_registers().clone(),
            runtime: vec![platform.hash().zeros(); config.runtime_measurements.into()],
            identity: None,
            keys: None,
            secret: None,
        }
    }

    pub(super) fn expect_state(&self, state: TvmState) -> Result<(), SbiError> {
        ensure(self.state == state && !self.destroyed, SbiError::INVALID_PARAM)
    }

    /// `sbi_covh_add_tvm_memory_region`.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is final, or for a length that is zero or not whole pages; `INVALID_ADDRESS` for an
    /// address that is not aligned, beyond the address space, or in a region.
    pub fn add_memory_region(&mut self, gpa: u64, len: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::ADD_TVM_MEMORY_REGION, |env| {
            self.expect_state(TvmState::INITIALIZING)?;
            ensure(is_aligned(gpa), SbiError::INVALID_ADDRESS)?;
            ensure(is_aligned(len) && len != 0, SbiError::INVALID_PARAM)?;
            let range = range(gpa, len).ok_or(SbiError::INVALID_ADDRESS)?;
            if self.regions.overlaps(&range) {
                violation(env.journal, gpa, Violation::Overlap);
                return Err(SbiError::INVALID_ADDRESS);
            }
            self.regions.define(&range, RegionKind::Confidential);
            Ok(())
        })
    }

    /// `sbi_covh_add_tvm_page_table_pages`.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is gone.
    pub fn add_page_table_pages(&mut self, pages: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::ADD_TVM_PAGE_TABLE_PAGES, |_| {
            ensure(!self.destroyed, SbiError::INVALID_PARAM)?;
            self.page_table_pages = self.page_table_pages.saturating_add(pages);
            Ok(())
        })
    }

    /// `sbi_covh_add_tvm_measured_pages`, one page of 4 KiB. `None`: what lies there already.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is final; `INVALID_ADDRESS` for an address that is not aligned, not in a confidential
    /// region, mapped already, or without memory.
    pub fn add_measured_page(
        &mut self,
        gpa: u64,
        source: Option<&[u8; PAGE_SIZE]>,
        env: &mut Env<'_>,
    ) -> Result<(), SbiError> {
        covh(env, CovhFid::ADD_TVM_MEASURED_PAGES, |env| {
            self.expect_state(TvmState::INITIALIZING)?;
            self.expect_absent(gpa, RegionKind::Confidential, env)?;
            let mut contents = [0; PAGE_SIZE];
            let copied = match source {
                Some(source) => {
                    contents = *source;
                    env.memory.write(gpa, source)
                }
                None => env.memory.read(gpa, &mut contents),
            };
            copied.map_err(|_| {
                violation(env.journal, gpa, Violation::OutOfRange);
                SbiError::INVALID_ADDRESS
            })?;
            self.regions.set_page(gpa, PageState::Mapped);
            self.initial.measured_page(gpa, &contents);
            Ok(())
        })
    }

    /// Whether a page can be mapped: aligned, in a region of this kind, and not mapped yet.
    pub(super) fn expect_absent(
        &self,
        gpa: u64,
        kind: RegionKind,
        env: &mut Env<'_>,
    ) -> Result<(), SbiError> {
        ensure(is_aligned(gpa), SbiError::INVALID_ADDRESS)?;
        let range = range(gpa, PAGE).ok_or(SbiError::INVALID_ADDRESS)?;
        ensure(self.regions.kind(&range) == Some(kind), SbiError::INVALID_ADDRESS)?;
        if self.regions.page(gpa) != PageState::Absent {
            violation(env.journal, gpa, Violation::PageState);
            return Err(SbiError::INVALID_ADDRESS);
        }
        Ok(())
    }

    /// `sbi_covh_create_tvm_vcpu`.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is final, for an ID that there is or cannot be, and beyond the last vCPU.
    pub fn create_vcpu(&mut self, id: u64, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::CREATE_TVM_VCPU, |_| {
            self.expect_state(TvmState::INITIALIZING)?;
            let fresh = id < self.max_vcpus.into() && self.vcpus.iter().all(|vcpu| vcpu.id != id);
            ensure(fresh, SbiError::INVALID_PARAM)?;
            self.vcpus.push(Vcpu::new(id));
            Ok(())
        })
    }

    /// `sbi_covh_finalize_tvm`: the measurements are final, and the TVM can run.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is final; `FAILED` without a vCPU, or if a key cannot be derived.
    pub fn finalize(
        &mut self,
        platform: &CovePlatform,
        [entry_sepc, entry_arg]: [u64; 2],
        identity: Option<&[u8; TVM_IDENTITY_SIZE]>,
        env: &mut Env<'_>,
    ) -> Result<(), SbiError> {
        covh(env, CovhFid::FINALIZE_TVM, |_| {
            self.expect_state(TvmState::INITIALIZING)?;
            ensure(!self.vcpus.is_empty(), SbiError::FAILED)?;
            self.complete(platform, [entry_sepc, entry_arg], identity)
        })
    }

    /// Measures the entry and derives the TVM's layer.
    pub(super) fn complete(
        &mut self,
        platform: &CovePlatform,
        [entry_sepc, entry_arg]: [u64; 2],
        identity: Option<&[u8; TVM_IDENTITY_SIZE]>,
    ) -> Result<(), SbiError> {
        let mut initial = self.initial.clone();
        initial.entry(entry_sepc, entry_arg);
        let cdi = platform.device().tsm().next(&initial.layer());
        let key = |algorithm| cdi.key(algorithm).map_err(|_| SbiError::FAILED);
        self.keys = Some(Arc::new([key(KeyAlgorithm::Ed25519)?, key(KeyAlgorithm::P256)?]));
        self.initial = initial;
        self.identity = identity.copied();
        self.state = TvmState::RUNNABLE;
        Ok(())
    }

    /// `sbi_covh_destroy_tvm`. Nothing can be done with it afterwards.
    ///
    /// # Errors
    /// `INVALID_PARAM` for a TVM that is gone.
    pub fn destroy(&mut self, env: &mut Env<'_>) -> Result<(), SbiError> {
        covh(env, CovhFid::DESTROY_TVM, |_| {
            ensure(!self.destroyed, SbiError::INVALID_PARAM)?;
            self.destroyed = true;
            (self.keys, self.secret) = (None, None);
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
