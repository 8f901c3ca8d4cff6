//! `TDG.MEM.PAGE.ACCEPT`.

use tsmsim_abi::tdx::{
    leaf::{PageInfo, PageLevel},
    status::StatusCode,
};

use super::{Call, Outcome, access::Refusal};
use crate::tdx::{
    PAGE_SIZE,
    event::Violation,
    registers::Gpr,
    sept::{Accept, PageState},
};

impl Call<'_, '_> {
    /// `TDG.MEM.PAGE.ACCEPT`, all of a 2-MiB page at once: interrupts do not come in between here. The page is zeroed, as
    /// far as there is memory behind it.
    pub(super) fn mem_page_accept(&mut self) -> Result<(), Refusal> {
        let page = PageInfo::from(self.registers[Gpr::Rcx]);
        let level = PageLevel(page.level());
        let gpa = self.td.page_info(page, PageLevel::PD).map_err(Refusal::Status)?;
        match self.td.sept.accept(gpa, level) {
            Accept::Accepted => {
                let end = gpa + level.size().unwrap_or_default();
                for page in (gpa..end).step_by(PAGE_SIZE) {
                    if self.env.memory.write(page, &[0; PAGE_SIZE]).is_err() {
                        self.violation(page, Violation::OutOfRange);
                    }
                }
                Ok(())
            }
            Accept::Status(status) => {
                if status.code() == StatusCode::PAGE_ALREADY_ACCEPTED {
                    self.violation(gpa, Violation::AlreadyAccepted);
                }
                Err(Refusal::Status(status))
            }
            Accept::Violation => {
                if self.td.sept.state(gpa) == PageState::Shared {
                    self.violation(gpa, Violation::AcceptShared);
                }
                Err(Refusal::Outcome(Outcome::EptViolation { gpa, accept: Some(level) }))
            }
        }
    }
}
