//! MMIO regions, share and unshare.

use std::ops::Range;

use tsmsim_abi::cove::sbi::SbiError;

use super::{
    Call, Outcome,
    access::{Refusal, aligned},
    refuse,
};
use crate::cove::{
    build::ensure,
    event::Violation,
    regions::{MAX_MMIO_REGIONS, RegionKind, is_aligned},
    tvm::Conversion,
};

impl Call<'_, '_> {
    /// The range of functions 0 to 3: whole pages, at least one.
    fn region(&mut self, length_error: SbiError) -> Result<Range<u64>, Refusal> {
        let [gpa, len, ..] = self.arguments;
        aligned(gpa)?;
        ensure(is_aligned(len) && len != 0, length_error)?;
        self.address_range(gpa, len)
    }

    /// `sbi_covg_add_mmio_region`.
    pub(super) fn add_mmio_region(&mut self) -> Result<u64, Refusal> {
        let range = self.region(SbiError::INVALID_ADDRESS)?;
        if self.tvm.regions.overlaps(&range) {
            self.violation(range.start, Violation::Overlap);
            return refuse(SbiError::INVALID_ADDRESS);
        }
        ensure(self.tvm.regions.mmio_regions() < MAX_MMIO_REGIONS, SbiError::FAILED)?;
        self.tvm.regions.define(&range, RegionKind::Mmio);
        Ok(0)
    }

    /// `sbi_covg_remove_mmio_region`.
    pub(super) fn remove_mmio_region(&mut self) -> Result<u64, Refusal> {
        let range = self.region(SbiError::INVALID_ADDRESS)?;
        self.tvm.regions.remove_mmio(&range);
        Ok(0)
    }

    /// `sbi_covg_share_memory_region`.
    pub(super) fn share_memory_region(&mut self) -> Result<u64, Refusal> {
        self.convert(RegionKind::Confidential, RegionKind::Shared)
    }

    /// `sbi_covg_unshare_memory_region`.
    pub(super) fn unshare_memory_region(&mut self) -> Result<u64, Refusal> {
        self.convert(RegionKind::Shared, RegionKind::Confidential)
    }

    fn convert(&mut self, from: RegionKind, to: RegionKind) -> Result<u64, Refusal> {
        let range = self.region(SbiError::INVALID_PARAM)?;
        if self.tvm.regions.kind(&range) != Some(from) {
            self.violation(range.start, Violation::WrongKind);
            return refuse(SbiError::INVALID_PARAM);
        }
        let busy = |conversion: &Conversion| {
            conversion.range.start < range.end && range.start < conversion.range.end
        };
        let taken = self.tvm.vcpus.iter().filter_map(|vcpu| vcpu.conversion.as_ref()).any(busy);
        ensure(!taken, SbiError::FAILED)?;
        let conversion = Conversion { range, to };
        if let Some(vcpu) = self.tvm.vcpus.get_mut(self.vcpu) {
            vcpu.conversion = Some(conversion.clone());
        }
        Err(Refusal::Outcome(Outcome::Convert(conversion)))
    }
}
