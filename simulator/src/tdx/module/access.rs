//! How functions reach guest memory: validity of the address, the page's state, and what happens instead.

use tsmsim_abi::tdx::{
    leaf::{VeInstruction, exit_reason},
    status::{CompletionStatus, OperandId},
};

use super::{Call, Outcome, invalid};
use crate::{
    journal::Event,
    tdx::{
        event::{TdxEvent, Violation},
        sept::PageState,
        td::VeInfo,
    },
};

/// Why a function did not do its work.
pub(super) enum Refusal {
    /// It ends with this status.
    Status(CompletionStatus),
    /// It did not end.
    Outcome(Outcome),
}

/// Which addresses an operand may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Private,
    PrivateOrShared,
}

/// An operand that is an address.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) gpa: u64,
    pub(super) id: OperandId,
    pub(super) allowed: Allowed,
}

/// What an access wants: the low bits of an EPT violation's exit qualification (Intel SDM volume 3C, table 28-7).
#[derive(Clone, Copy)]
enum Access {
    Read = 1,
    Write = 2,
}

impl Call<'_, '_> {
    /// Copies in.
    pub(super) fn read<const N: usize>(&mut self, operand: Operand) -> Result<[u8; N], Refusal> {
        let address = self.translate(operand, Access::Read)?;
        let mut bytes = [0; N];
        self.env.memory.read(address, &mut bytes).map_err(|_| self.outside(address))?;
        Ok(bytes)
    }

    /// Copies out.
    pub(super) fn write(&mut self, operand: Operand, bytes: &[u8]) -> Result<(), Refusal> {
        let address = self.translate(operand, Access::Write)?;
        self.env.memory.write(address, bytes).map_err(|_| self.outside(address))
    }

    /// The address in memory of an operand. Operands do not cross pages: they are aligned to their size or more.
    fn translate(&mut self, operand: Operand, access: Access) -> Result<u64, Refusal> {
        let Operand { gpa, id, allowed } = operand;
        let (address, shared) = self.td.split_gpa(gpa).ok_or(invalid(id))?;
        if shared && allowed == Allowed::Private {
            return Err(invalid(id));
        }
        if !self.td.sept.contains(address, 1) {
            return Err(self.outside(address));
        }
        match (self.td.sept.state(address), shared) {
            (PageState::Shared, true) | (PageState::Mapped, false) => Ok(address),
            (PageState::Pending, false) => {
                self.violation(address, Violation::AccessToPending);
                if self.td.td_ctls.pending_ve_disable() {
                    return Err(Refusal::Outcome(Outcome::EptViolation { gpa: address, accept: None }));
                }
                Err(self.virtualization_exception(address, access))
            }
            (state, _) => {
                let violation = match (state, shared) {
                    (PageState::Shared, _) => Violation::PrivateAccessToShared,
                    (_, true) => Violation::SharedAccessToPrivate,
                    (_, false) => Violation::AccessToUnmapped,
                };
                self.violation(address, violation);
                Err(Refusal::Outcome(Outcome::EptViolation { gpa: address, accept: None }))
            }
        }
    }

    fn virtualization_exception(&mut self, gpa: u64, access: Access) -> Refusal {
        let exit_reason = u32::try_from(exit_reason::EPT_VIOLATION).unwrap_or_default();
        let instruction = VeInstruction::new();
        let info = VeInfo { exit_reason, exit_qualification: access as u64, gla: 0, gpa, instruction };
        let raised = self.td.raise_ve(self.vcpu, info);
        Refusal::Outcome(if raised { Outcome::VirtualizationException } else { Outcome::GeneralProtection })
    }

    fn outside(&mut self, gpa: u64) -> Refusal {
        self.violation(gpa, Violation::OutOfRange);
        Refusal::Outcome(Outcome::EptViolation { gpa, accept: None })
    }

    pub(super) fn violation(&mut self, gpa: u64, violation: Violation) {
        self.env.journal.record(Event::Tdx(TdxEvent::Violation { gpa, violation }));
    }
}
