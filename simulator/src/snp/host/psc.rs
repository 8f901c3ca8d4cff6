//! Page state change: one page by the MSR protocol, many by a buffer (56421 rev. 2.04, sections 2.3.1 and 4.1.6).

use tsmsim_abi::snp::{
    msr::{GhcbMsr, page_state_change_response},
    psc::{PSC_MAX_ENTRIES, PscEntryBits, PscHeader, PscOperation, PscResult},
};
use zerocopy::{FromBytes, IntoBytes, little_endian::U16};

use super::{
    Hypervisor,
    exit::{Exit, Refusal, Reply, low32},
};
use crate::{
    env::Env,
    fault::{FaultAction, FaultPoint, apply, consult, ignored},
    snp::{
        event::Violation,
        rmp::{FRAMES_2M, PageSize, RmpUpdateError},
    },
};

const HEADER: usize = size_of::<PscHeader>();
const ENTRY: usize = 8;

/// What the MSR protocol answers when the page cannot be changed: any non-zero value; this is KVM's.
const MSR_ERROR: u32 = 1 << 31;

/// How an entry ended.
enum Progress {
    Done,
    /// This exit did all the work that it may do.
    OutOfBudget,
}

impl Hypervisor {
    /// Page state change by the MSR protocol: one 4 KiB page, private or shared.
    pub(super) fn msr_page_state_change(&mut self, request: GhcbMsr, env: &mut Env<'_>) -> GhcbMsr {
        let fault = consult(env.faults, env.journal, FaultPoint::GHCB_PAGE_STATE_CHANGE);
        if let Some(FaultAction::Status(error)) = fault {
            return page_state_change_response(low32(error));
        }
        let gfn = request.data() & ((1 << 40) - 1);
        let operation = PscOperation((request.data() >> 40 & 0xf) as u8);
        let reserved = request.data() >> 44 != 0;
        let done = match operation {
            PscOperation::PRIVATE | PscOperation::SHARED if !reserved => {
                self.change_page(gfn, PageSize::Size4K, operation, env).is_ok()
            }
            _ => false,
        };
        match fault {
            Some(FaultAction::Drop) => return request,
            Some(action) => ignored(env.journal, FaultPoint::GHCB_PAGE_STATE_CHANGE, &action),
            None => {}
        }
        page_state_change_response(if done { 0 } else { MSR_ERROR })
    }

    /// Page state change by a buffer in the scratch area. The buffer is read once; header and entries are written back
    /// with the progress that was made, and `SW_EXITINFO2` is a [`PscResult`].
    pub(super) fn page_state_change(&mut self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let scratch = self.scratch(exit, HEADER)?;
        let len = scratch.capacity.min(HEADER + PSC_MAX_ENTRIES * ENTRY);
        let mut buffer = self.read_scratch(exit, scratch, len)?;
        let fault = consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_PAGE_STATE_CHANGE);
        if let Some(FaultAction::Status(result)) = fault {
            return Ok(Reply::info2(result));
        }
        let (result, used) = self.change_buffer(&mut buffer, exit.env);
        buffer.truncate(used);
        if let Some(action) = fault.as_ref().filter(|action| action.is_data()) {
            apply(exit.env.journal, FaultPoint::GHCB_PAGE_STATE_CHANGE, action, &mut buffer);
        }
        let written = (fault != Some(FaultAction::Drop)).then_some((scratch.gpa, buffer));
        Ok(Reply { info2: result.0, scratch: written, ..Reply::default() })
    }

    /// Works through the entries. Returns the result and how many bytes of the buffer may have changed.
    fn change_buffer(&mut self, buffer: &mut [u8], env: &mut Env<'_>) -> (PscResult, usize) {
        let Ok((mut header, _)) = PscHeader::read_from_prefix(buffer) else {
            return (PscResult::INVALID_HEADER, 0);
        };
        let (first, last) = (header.cur_entry.get(), header.end_entry.get());
        let used = HEADER + (usize::from(last) + 1) * ENTRY;
        if header.reserved.get() != 0 || used > buffer.len() {
            return (PscResult::INVALID_HEADER, 0);
        }
        let mut budget = self.config.psc_pages_per_exit.max(1);
        let mut result = PscResult::DONE;
        for index in first..=last {
            let place = HEADER + usize::from(index) * ENTRY;
            let Some(bytes) = buffer.get_mut(place..).and_then(<[u8]>::first_chunk_mut) else { break };
            let mut entry = PscEntryBits::from(u64::from_le_bytes(*bytes));
            let progress = self.change_entry(&mut entry, &mut budget, env);
            *bytes = u64::from(entry).to_le_bytes();
            match progress {
                Ok(Progress::Done) => header.cur_entry = U16::new(index + 1),
                Ok(Progress::OutOfBudget) => break,
                Err(error) => {
                    result = error;
                    break;
                }
            }
        }
        buffer[..HEADER].copy_from_slice(header.as_bytes());
        (result, used)
    }

    /// Works on one entry, from its `cur_page` on.
    fn change_entry(
        &mut self,
        entry: &mut PscEntryBits,
        budget: &mut u64,
        env: &mut Env<'_>,
    ) -> Result<Progress, PscResult> {
        let size = if entry.large() { PageSize::Size2M } else { PageSize::Size4K };
        let operation = PscOperation(entry.operation());
        let pages: u16 = if entry.large() { 512 } else { 1 };
        let aligned = entry.gfn().is_multiple_of(size.frames());
        if !aligned || entry.cur_page() > pages || entry.reserved() != 0 || operation.name().is_none() {
            return Err(PscResult::INVALID_ENTRY);
        }
        while entry.cur_page() < pages {
            if *budget == 0 {
                return Ok(Progress::OutOfBudget);
            }
            *budget -= 1;
            let gfn = entry.gfn() + u64::from(entry.cur_page());
            let whole = entry.cur_page() == 0;
            match self.change_page(gfn, if whole { size } else { PageSize::Size4K }, operation, env) {
                Ok(()) if whole => entry.set_cur_page(pages),
                Ok(()) => entry.set_cur_page(entry.cur_page() + 1),
                // The 2 MiB page holds 4 KiB entries that differ: go page by page.
                Err(RmpUpdateError::Overlap(_)) if whole => {
                    self.change_page(gfn, PageSize::Size4K, operation, env)
                        .map_err(|_| PscResult::GENERIC_ERROR)?;
                    entry.set_cur_page(1);
                }
                Err(_) => return Err(PscResult::GENERIC_ERROR),
            }
        }
        Ok(Progress::Done)
    }

    /// Changes one page, of either size. Hints never fail.
    fn change_page(
        &mut self,
        gfn: u64,
        size: PageSize,
        operation: PscOperation,
        env: &mut Env<'_>,
    ) -> Result<(), RmpUpdateError> {
        match operation {
            PscOperation::PRIVATE => self.rmp.assign(gfn, size, false),
            PscOperation::SHARED => {
                if let Some(used) = self.vmsa_in_use(gfn, size.frames()) {
                    let state = self.rmp.state(used).ok_or(RmpUpdateError::OutOfRange(used))?;
                    return Err(RmpUpdateError::State { gfn: used, state });
                }
                if self.rmp.unassign(gfn, size)? {
                    self.violation(gfn << 12, Violation::SharedWhileValidated, env);
                }
                Ok(())
            }
            PscOperation::PSMASH => {
                self.rmp.psmash(gfn);
                Ok(())
            }
            _ => {
                self.rmp.unsmash(gfn - gfn % FRAMES_2M);
                Ok(())
            }
        }
    }

    /// A frame in this range with which a vCPU runs: hardware does not let the hypervisor take it.
    fn vmsa_in_use(&self, gfn: u64, frames: u64) -> Option<u64> {
        let used = self.vcpus.iter().filter_map(|vcpu| vcpu.vmsa).map(|gpa| gpa >> 12);
        used.into_iter().find(|used| (gfn..gfn + frames).contains(used))
    }
}

#[cfg(test)]
#[path = "psc_tests.rs"]
mod tests;
