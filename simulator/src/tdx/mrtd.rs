//! `MRTD`: what `TDH.MEM.PAGE.ADD` and `TDH.MR.EXTEND` make of a TD's initial contents (348550 TDX Module Base Architecture,
//! "Measurement and attestation"; the blocks are [`MrtdBlock`]s).
//!
//! Pure computation, no state but the digest: `tsmsim measure` uses the same type as the module's model.

use aws_lc_rs::digest::{Context, SHA384};
use tsmsim_abi::tdx::{
    report::Measurement,
    td_params::{MR_EXTEND_CHUNK, MrtdBlock},
};
use zerocopy::IntoBytes;

use super::PAGE_SIZE;

/// A measurement that goes on.
#[derive(Clone)]
pub struct Mrtd(Context);

impl Default for Mrtd {
    fn default() -> Self {
        Self(Context::new(&SHA384))
    }
}

impl Mrtd {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `TDH.MEM.PAGE.ADD` of the page at this guest-physical address: the address alone is measured.
    pub fn page_add(&mut self, gpa: u64) {
        self.0.update(MrtdBlock::page_add(gpa).as_bytes());
    }

    /// `TDH.MR.EXTEND` of the 256 bytes at this guest-physical address.
    pub fn extend(&mut self, gpa: u64, chunk: &[u8; MR_EXTEND_CHUNK]) {
        self.0.update(MrtdBlock::extend(gpa).as_bytes());
        self.0.update(chunk);
    }

    /// A page as hosts usually measure it: added, then extended chunk by chunk.
    pub fn measured_page(&mut self, gpa: u64, contents: &[u8; PAGE_SIZE]) {
        self.page_add(gpa);
        let (chunks, _) = contents.as_chunks();
        for (gpa, chunk) in (gpa..).step_by(MR_EXTEND_CHUNK).zip(chunks) {
            self.extend(gpa, chunk);
        }
    }

    /// `TDH.MR.FINALIZE`: the measurement.
    #[must_use]
    pub fn finish(self) -> Measurement {
        sha384_of(self.0.finish().as_ref())
    }
}

/// SHA-384, as the module computes it of structures and for RTMRs.
#[must_use]
pub fn sha384(parts: &[&[u8]]) -> Measurement {
    let mut context = Context::new(&SHA384);
    parts.iter().for_each(|part| context.update(part));
    sha384_of(context.finish().as_ref())
}

fn sha384_of(digest: &[u8]) -> Measurement {
    let mut measurement = [0; 48];
    measurement.copy_from_slice(digest);
    measurement
}
