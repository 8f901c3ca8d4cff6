//! `MapGPA`: the TD wants pages to be shared or private.

use tsmsim_abi::tdx::vmcall::VmcallStatus;

use super::{Host, Request};
use crate::tdx::{PAGE_SIZE, registers::Gpr};

impl Host {
    /// `MapGPA`. Converts at most as many pages as the host is willing to at a time; then RETRY, and R11 is the address, with
    /// the shared bit if the TD gave it, to go on from.
    pub(super) fn map_gpa(&self, request: &mut Request<'_, '_>) -> Result<(), VmcallStatus> {
        let (gpa, size) = (request.registers[Gpr::R12], request.registers[Gpr::R13]);
        request.registers[Gpr::R11] = gpa;
        let (start, shared) = request.td.split_gpa(gpa).ok_or(VmcallStatus::INVALID_OPERAND)?;
        let end = start.checked_add(size).filter(|end| *end <= request.td.shared_bit() && size != 0);
        let end = end.ok_or(VmcallStatus::INVALID_OPERAND)?;
        let page = PAGE_SIZE as u64;
        if !start.is_multiple_of(page) || !size.is_multiple_of(page) {
            return Err(VmcallStatus::ALIGN_ERROR);
        }
        let next = (start / page).saturating_add(self.config.map_gpa_pages.max(1)).min(end / page);
        request.td.sept_mut().convert(start / page..next, shared);
        let next = next * page;
        if next == end {
            return Ok(());
        }
        request.registers[Gpr::R11] = next | gpa & request.td.shared_bit();
        Err(VmcallStatus::RETRY)
    }
}
