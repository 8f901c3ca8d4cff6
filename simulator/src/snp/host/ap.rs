//! Application processors: SNP AP creation, APIC ID list, AP reset hold (56421 rev. 2.04, sections 4.1.9 and following).

use tsmsim_abi::snp::{
    PAGE_SIZE,
    ghcb::{ApCreationRequest, GhcbField, MalformedInput},
    msr::{GhcbInfo, GhcbMsr},
};

use super::{
    Action, Hypervisor,
    exit::{Exit, Refusal, Reply, low32},
};
use crate::{
    env::Env,
    fault::{FaultAction, FaultPoint, consult, ignored},
    snp::{
        event::Violation,
        rmp::{FRAMES_2M, PageState},
    },
};

/// How a vCPU came to wait for INIT-SIPI, and so how it learns that it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ResetHold {
    /// By the MSR protocol: `GHCBData` of the response becomes 1.
    Msr,
    /// By an exit: `SW_EXITINFO2` of the GHCB becomes 1.
    Exit { ghcb_gpa: u64 },
}

/// What INIT-SIPI does to a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// It starts with the VMSA at this guest-physical address (`CREATE_ON_INIT`).
    Start {
        /// Where the VMSA is.
        vmsa_gpa: u64,
    },
    /// It leaves its reset hold; the GHCB MSR gets this value if there is one.
    Resume {
        /// The response of the MSR protocol.
        msr: Option<GhcbMsr>,
    },
}

/// Whether `SW_EXITINFO1` of an AP creation request ends an AP: then there are no features in RAX.
pub(super) const fn is_destroy(info1: u64) -> bool {
    info1 & 0xffff == ApCreationRequest::DESTROY.0 as u64
}

impl Hypervisor {
    /// INIT-SIPI reaches a vCPU. `None` if it waits for nothing.
    pub fn init_sipi(&mut self, vcpu: usize, env: &mut Env<'_>) -> Option<Wake> {
        let target = self.vcpus.get_mut(vcpu)?;
        if let Some(vmsa_gpa) = target.next_vmsa.take() {
            target.vmsa = Some(vmsa_gpa);
            target.reset_hold = None;
            return Some(Wake::Start { vmsa_gpa });
        }
        match target.reset_hold.take()? {
            ResetHold::Msr => {
                Some(Wake::Resume { msr: Some(GhcbMsr::new(GhcbInfo::AP_RESET_HOLD_RESPONSE, 1)) })
            }
            ResetHold::Exit { ghcb_gpa } => {
                let gpa = ghcb_gpa + GhcbField::SW_EXIT_INFO_2.offset() as u64;
                if self.reachable(gpa, 8, env) && env.memory.write(gpa, &1u64.to_le_bytes()).is_err() {
                    self.violation(gpa, Violation::OutOfRange, env);
                }
                Some(Wake::Resume { msr: None })
            }
        }
    }

    /// `SW_EXITINFO1`: request in 15:0, VMPL in 19:16, APIC ID in 63:32. `SW_EXITINFO2`: the VMSA. RAX: its features.
    pub(super) fn ap_creation(&mut self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        match consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_AP_CREATION) {
            Some(FaultAction::Status(reason)) => return Err(MalformedInput(reason).into()),
            Some(FaultAction::Drop) => return Ok(Reply::default()),
            Some(action) => ignored(exit.env.journal, FaultPoint::GHCB_AP_CREATION, &action),
            None => {}
        }
        let (info1, vmsa_gpa) = (exit.info1(), exit.info2());
        let invalid = Refusal::from(MalformedInput::INVALID_INPUT);
        let apic_id = low32(info1 >> 32);
        let target = self.vcpus.iter().position(|vcpu| vcpu.apic_id == apic_id).ok_or(invalid)?;
        // Other VMPLs than 0 need a feature that is not offered; 31:20 are reserved.
        if info1 >> 16 & 0xffff != 0 {
            return Err(invalid);
        }
        let request = ApCreationRequest(low32(info1 & 0xffff));
        match request {
            ApCreationRequest::DESTROY => {
                self.vcpus[target].vmsa = None;
                self.vcpus[target].next_vmsa = None;
                return Ok(Reply::action(Action::StopVcpu { vcpu: target }));
            }
            ApCreationRequest::CREATE | ApCreationRequest::CREATE_ON_INIT => {}
            _ => return Err(invalid),
        }
        if exit.ghcb.rax.get() != self.config.sev_features || !self.usable_vmsa(vmsa_gpa, target, exit.env) {
            return Err(invalid);
        }
        let vcpu = &mut self.vcpus[target];
        if request == ApCreationRequest::CREATE_ON_INIT {
            vcpu.next_vmsa = Some(vmsa_gpa);
            return Ok(Reply::default());
        }
        (vcpu.vmsa, vcpu.next_vmsa, vcpu.reset_hold) = (Some(vmsa_gpa), None, None);
        Ok(Reply::action(Action::StartVcpu { vcpu: target, vmsa_gpa }))
    }

    /// Whether a page can be the VMSA of a vCPU: the guest made it one, and no other vCPU has it.
    ///
    /// KVM also refuses one at a multiple of 2 MiB, because of a processor erratum: there hardware may report a
    /// violation to whoever uses the rest of that 2 MiB page.
    fn usable_vmsa(&self, gpa: u64, target: usize, env: &mut Env<'_>) -> bool {
        let gfn = gpa >> 12;
        if !gpa.is_multiple_of(PAGE_SIZE as u64) || gfn.is_multiple_of(FRAMES_2M) {
            return false;
        }
        let Some(entry) = self.rmp.entry(gfn) else {
            self.violation(gpa, Violation::OutOfRange, env);
            return false;
        };
        if entry.state() != PageState::GuestValid || !entry.vmsa() {
            self.violation(gpa, Violation::VmsaMismatch, env);
            return false;
        }
        let mut others = self.vcpus.iter().enumerate().filter(|(index, _)| *index != target);
        !others.any(|(_, vcpu)| vcpu.vmsa == Some(gpa) || vcpu.next_vmsa == Some(gpa))
    }

    /// RAX: pages at `SW_EXITINFO1`. They get the number of vCPUs and their APIC IDs, 32 bits each; RAX becomes the number
    /// of pages that this takes. Where there are fewer, nothing is written.
    pub(super) fn apic_id_list(&self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let count = u32::try_from(self.vcpus.len()).map_err(|_| MalformedInput::INVALID_EVENT)?;
        let words = [count].into_iter().chain(self.vcpus.iter().map(|vcpu| vcpu.apic_id));
        let list: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let needed = list.len().div_ceil(PAGE_SIZE) as u64;
        let reply = Reply::default().with(GhcbField::RAX, needed);
        if exit.ghcb.rax.get() < needed {
            return Ok(reply);
        }
        let gpa = exit.info1();
        if !gpa.is_multiple_of(PAGE_SIZE as u64) || !self.reachable(gpa, list.len(), exit.env) {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        Ok(Reply { scratch: Some((gpa, list)), ..reply })
    }
}

#[cfg(test)]
#[path = "ap_tests.rs"]
mod tests;
