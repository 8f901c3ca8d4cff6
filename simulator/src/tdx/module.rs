//! The guest-side functions of the module: TDCALL (348551 TDX Module ABI Reference 1.5, "Guest-Side (TDCALL) Interface
//! Functions"; order of checks and registers in failure as in the module's own source).
//!
//! | file | functions |
//! |---|---|
//! | `access.rs` | what all share: reaching guest memory |
//! | `attestation.rs` | `TDG.MR.REPORT`, `TDG.MR.RTMR.EXTEND`, `TDG.MR.VERIFYREPORT` |
//! | `vcpu.rs` | `TDG.VP.INFO`, `TDG.VP.VEINFO.GET`, `TDG.VP.CPUIDVE.SET`, `TDG.VP.VMCALL`'s checks |
//! | `accept.rs` | `TDG.MEM.PAGE.ACCEPT` |
//! | `metadata.rs` | `TDG.VM.RD`, `TDG.VM.WR`, `TDG.SYS.RD` |
//!
//! Functions that the module has and this model has not (`TDG.VP.RD`, service TDs, L2 VMs, page attributes) answer as in a
//! module without them, and `TDX_FEATURES0` says so.

mod accept;
mod access;
mod attestation;
mod metadata;
#[cfg(test)]
mod tests;
mod vcpu;

use tsmsim_abi::tdx::{
    leaf::{LeafAndVersion, PageLevel, TdcallLeaf, VmcallControl},
    status::{CompletionStatus, OperandId, StatusCode},
};

use self::access::Refusal;
use super::{
    build::faulted,
    event::TdxEvent,
    platform::{TdxPlatform, TdxVersion},
    registers::{Gpr, Registers},
    td::{OpState, Td},
};
use crate::{env::Env, fault::FaultPoint, journal::Event};

/// What comes of a TDCALL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The function ended: the registers are set, RAX is the status.
    Done,
    /// `TDG.VP.VMCALL`: the host is asked; the registers are as they were.
    VmCall(VmcallControl),
    /// The VCPU gets #VE in place of the function, with [`super::td::Vcpu::ve_info`]; the instruction may be executed again.
    VirtualizationException,
    /// The VCPU gets #GP(0): #VE was due and the information of the one before was not read.
    GeneralProtection,
    /// An EPT violation exits to the host; if it can map the page, the instruction is executed again.
    EptViolation {
        /// Guest-physical address, without the shared bit.
        gpa: u64,
        /// The level that the TD wanted to accept the page at.
        accept: Option<PageLevel>,
    },
}

/// What a function sees.
struct Call<'a, 'b> {
    td: &'a mut Td,
    platform: &'a TdxPlatform,
    vcpu: usize,
    registers: &'a mut Registers,
    env: &'a mut Env<'b>,
}

const fn invalid(operand: OperandId) -> Refusal {
    Refusal::Status(StatusCode::OPERAND_INVALID.of(operand))
}

impl Td {
    /// A TDCALL of a VCPU. A TD that cannot run, or a VCPU that there is not, gets `OP_STATE_INCORRECT`: no VCPU of that TD
    /// could execute the instruction.
    pub fn tdcall(
        &mut self,
        platform: &TdxPlatform,
        vcpu: usize,
        registers: &mut Registers,
        env: &mut Env<'_>,
    ) -> Outcome {
        let rax = LeafAndVersion::from(registers[Gpr::Rax]);
        let leaf = TdcallLeaf(rax.leaf());
        let mut call = Call { td: self, platform, vcpu, registers, env };
        let result = call.dispatch(rax);
        let outcome = match result {
            Ok(None) => CompletionStatus::SUCCESS,
            Ok(Some(outcome)) => return outcome,
            Err(Refusal::Status(status)) => status,
            Err(Refusal::Outcome(outcome)) => return outcome,
        };
        registers[Gpr::Rax] = outcome.0;
        env.journal.record(Event::Tdx(TdxEvent::Tdcall { vcpu, leaf, status: outcome }));
        Outcome::Done
    }
}

impl Call<'_, '_> {
    fn dispatch(&mut self, rax: LeafAndVersion) -> Result<Option<Outcome>, Refusal> {
        if self.td.op_state() != OpState::Runnable || self.vcpu >= self.td.vcpus.len() {
            return Err(Refusal::Status(StatusCode::OP_STATE_INCORRECT.status()));
        }
        let leaf = TdcallLeaf(rax.leaf());
        let later = self.td.version >= TdxVersion::V1_5;
        let versioned = leaf == TdcallLeaf::TDG_VM_RD && later;
        if rax.reserved() != 0 || (rax.version() != 0 && !versioned) {
            return Err(invalid(OperandId::RAX));
        }
        if leaf == TdcallLeaf::TDG_VP_VMCALL {
            return self.vmcall().map(Some);
        }
        if let Some(status) = faulted(self.env, FaultPoint::TDX_TDCALL) {
            return Err(Refusal::Status(status));
        }
        match leaf {
            TdcallLeaf::TDG_VP_INFO => self.vp_info(),
            TdcallLeaf::TDG_MR_RTMR_EXTEND => self.mr_rtmr_extend()?,
            TdcallLeaf::TDG_VP_VEINFO_GET => self.vp_veinfo_get()?,
            TdcallLeaf::TDG_MR_REPORT => self.mr_report()?,
            TdcallLeaf::TDG_VP_CPUIDVE_SET => self.vp_cpuidve_set()?,
            TdcallLeaf::TDG_MEM_PAGE_ACCEPT => self.mem_page_accept()?,
            TdcallLeaf::TDG_VM_RD => self.vm_rd(rax.version())?,
            TdcallLeaf::TDG_VM_WR => self.vm_wr()?,
            TdcallLeaf::TDG_SYS_RD if later => self.sys_rd()?,
            TdcallLeaf::TDG_MR_VERIFYREPORT if later => self.mr_verifyreport()?,
            _ => return Err(invalid(OperandId::RAX)),
        }
        Ok(None)
    }
}
