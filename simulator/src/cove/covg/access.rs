//! How functions reach guest memory: where a buffer may lie, and what happens when a page is not mapped.

use std::ops::Range;

use tsmsim_abi::cove::sbi::SbiError;

use super::{Call, Outcome};
use crate::cove::{
    build::violation,
    event::Violation,
    regions::{RegionKind, is_aligned, range},
};

/// Why a function did not do its work.
pub(super) enum Refusal {
    /// It ends with this error.
    Error(SbiError),
    /// It did not end.
    Outcome(Outcome),
}

impl From<SbiError> for Refusal {
    fn from(error: SbiError) -> Self {
        Self::Error(error)
    }
}

/// Where a buffer may lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Confidential memory; this error otherwise.
    Confidential(SbiError),
    /// Confidential or shared memory.
    Memory,
}

pub(super) fn aligned(address: u64) -> Result<(), Refusal> {
    if is_aligned(address) { Ok(()) } else { Err(Refusal::Error(SbiError::INVALID_ADDRESS)) }
}

impl Call<'_, '_> {
    /// The range of a buffer, if it may lie there.
    pub(super) fn buffer(&mut self, gpa: u64, len: u64, allowed: Allowed) -> Result<Range<u64>, Refusal> {
        let buffer = self.address_range(gpa, len)?;
        // An empty buffer still has an address.
        let occupied = buffer.start..buffer.end.max(buffer.start.saturating_add(1));
        let regions = self.tvm.regions();
        let (violation, error) = match (allowed, regions.kind(&occupied)) {
            (_, Some(RegionKind::Confidential)) | (Allowed::Memory, Some(RegionKind::Shared)) => {
                return Ok(buffer);
            }
            (Allowed::Memory, None) if regions.is_memory(&occupied) => return Ok(buffer),
            (Allowed::Confidential(error), None) if regions.overlaps(&occupied) => {
                (Violation::NotConfidential, error)
            }
            (_, None) => (Violation::NoRegion, SbiError::INVALID_ADDRESS),
            (Allowed::Confidential(error), Some(RegionKind::Shared)) => (Violation::NotConfidential, error),
            (Allowed::Confidential(error), Some(RegionKind::Mmio)) => (Violation::Mmio, error),
            (Allowed::Memory, Some(_)) => (Violation::Mmio, SbiError::INVALID_ADDRESS),
        };
        self.violation(gpa, violation);
        Err(Refusal::Error(error))
    }

    /// A range within the address space.
    pub(super) fn address_range(&mut self, gpa: u64, len: u64) -> Result<Range<u64>, Refusal> {
        range(gpa, len).ok_or_else(|| {
            self.violation(gpa, Violation::OutOfAddressSpace);
            Refusal::Error(SbiError::INVALID_ADDRESS)
        })
    }

    /// All pages of the range are mapped.
    pub(super) fn mapped(&self, range: &Range<u64>) -> Result<(), Refusal> {
        match self.tvm.regions().unmapped(range) {
            Some(gpa) => Err(Refusal::Outcome(Outcome::PageFault { gpa })),
            None => Ok(()),
        }
    }

    /// Copies in.
    pub(super) fn read(&mut self, range: &Range<u64>, buf: &mut [u8]) -> Result<(), Refusal> {
        self.mapped(range)?;
        self.env.memory.read(range.start, buf).map_err(|_| self.outside(range.start))
    }

    /// Copies out, to the start of a buffer.
    pub(super) fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<u64, Refusal> {
        let len = bytes.len() as u64;
        let range = self.address_range(gpa, len)?;
        self.mapped(&range)?;
        self.env.memory.write(gpa, bytes).map_err(|_| self.outside(gpa))?;
        Ok(len)
    }

    fn outside(&mut self, gpa: u64) -> Refusal {
        self.violation(gpa, Violation::OutOfRange);
        Refusal::Error(SbiError::INVALID_ADDRESS)
    }

    pub(super) fn violation(&mut self, gpa: u64, what: Violation) {
        violation(self.env.journal, gpa, what);
    }
}
