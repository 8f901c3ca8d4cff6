//! Journal entries of a CoVE machine.

use std::ops::Range;

use tsmsim_abi::cove::{covg::CovgFid, covh::CovhFid, sbi::SbiError};

use super::regions::RegionKind;

/// Something that happened to a TVM, its host or the TSM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoveEvent {
    /// A host-side function ended.
    Covh {
        /// Which.
        fid: CovhFid,
        /// What it returned.
        error: SbiError,
    },
    /// A guest-side function ended.
    Covg {
        /// Which vCPU.
        vcpu: usize,
        /// Which function.
        fid: CovgFid,
        /// What it returned.
        error: SbiError,
    },
    /// The TVM asked whether there is COVG.
    Probe {
        /// Which vCPU.
        vcpu: usize,
    },
    /// Memory changed its kind.
    Converted {
        /// Guest-physical addresses.
        range: Range<u64>,
        /// Its kind now.
        to: RegionKind,
    },
    /// Evidence was made.
    Evidence {
        /// Bytes.
        len: usize,
    },
    /// The TVM or its host did something that the specification forbids.
    Violation {
        /// Guest-physical address concerned.
        gpa: u64,
        /// What.
        violation: Violation,
    },
}

/// What a TVM (or the host on its behalf) did wrong with memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// The range ends beyond the guest-physical address space.
    OutOfAddressSpace,
    /// A buffer lies in no region.
    NoRegion,
    /// A buffer that has to be confidential is shared, or in part.
    NotConfidential,
    /// A buffer lies in emulated MMIO.
    Mmio,
    /// A region overlaps another.
    Overlap,
    /// A conversion of memory that is not of the kind to be converted.
    WrongKind,
    /// The region is there, the memory is not.
    OutOfRange,
    /// The host maps a page that is mapped, or unmaps one that is not invalidated and fenced.
    PageState,
}
