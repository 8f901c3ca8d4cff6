//! The GHCB MSR protocol (56421 rev. 2.04, section 2.3.1, tables 2 and 3).

use tsmsim_abi::snp::msr::{GhcbInfo, GhcbMsr, NO_GHCB, PROTOCOL_MAX, PROTOCOL_MIN};

use super::{Action, Hypervisor, Outcome, Termination, ap::ResetHold, exit::low32};
use crate::{
    env::{Env, HostDevices},
    fault::{FaultAction, FaultPoint, apply, consult},
    journal::Event,
    snp::event::SnpEvent,
};

/// `GHCBData` 51:20 of a Run VMPL response that refuses.
const RUN_VMPL_REFUSED: u64 = 1;

impl Hypervisor {
    /// Serves a request of the MSR protocol. An unknown one leaves the MSR as it is, as KVM does: the guest sees
    /// that no response came.
    pub(super) fn msr_protocol(
        &mut self,
        vcpu: usize,
        request: GhcbMsr,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Outcome {
        let fault = consult(env.faults, env.journal, FaultPoint::GHCB_MSR);
        let mut outcome = match fault {
            Some(FaultAction::Status(value)) => Outcome { msr: GhcbMsr(value), action: Action::Resume },
            _ => self.serve_msr(vcpu, request, env, devices),
        };
        match fault {
            Some(FaultAction::Drop) => outcome.msr = request,
            Some(FaultAction::Status(_)) | None => {}
            Some(action) => {
                let mut value = outcome.msr.0.to_le_bytes();
                apply(env.journal, FaultPoint::GHCB_MSR, &action, &mut value);
                outcome.msr = GhcbMsr(u64::from_le_bytes(value));
            }
        }
        env.journal.record(Event::Snp(SnpEvent::Msr { vcpu, request, response: outcome.msr }));
        outcome
    }

    fn serve_msr(
        &mut self,
        vcpu: usize,
        request: GhcbMsr,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Outcome {
        let mut action = Action::Resume;
        let msr = match request.info() {
            GhcbInfo::SEV_INFO_REQUEST => GhcbMsr::sev_info(PROTOCOL_MAX, PROTOCOL_MIN, self.config.c_bit),
            GhcbInfo::CPUID_REQUEST => msr_cpuid(request, devices),
            GhcbInfo::AP_RESET_HOLD_REQUEST => {
                self.vcpus[vcpu].reset_hold = Some(ResetHold::Msr);
                action = Action::ResetHold;
                GhcbMsr::new(GhcbInfo::AP_RESET_HOLD_RESPONSE, 0)
            }
            GhcbInfo::PREFERRED_GHCB_REQUEST => {
                let gfn = self.config.preferred_ghcb.map_or(NO_GHCB, |gpa| gpa >> 12);
                GhcbMsr::new(GhcbInfo::PREFERRED_GHCB_RESPONSE, gfn)
            }
            GhcbInfo::REGISTER_GHCB_REQUEST => {
                let gfn = self.register_ghcb(vcpu, request.data());
                GhcbMsr::new(GhcbInfo::REGISTER_GHCB_RESPONSE, gfn)
            }
            GhcbInfo::PAGE_STATE_CHANGE_REQUEST => self.msr_page_state_change(request, env),
            GhcbInfo::RUN_VMPL_REQUEST => GhcbMsr::new(GhcbInfo::RUN_VMPL_RESPONSE, RUN_VMPL_REFUSED << 20),
            GhcbInfo::HYPERVISOR_FEATURES_REQUEST => {
                GhcbMsr::new(GhcbInfo::HYPERVISOR_FEATURES_RESPONSE, u64::from(self.config.features))
            }
            GhcbInfo::TERMINATION_REQUEST => {
                action = Action::Terminated(Termination::Requested(request.termination_reason()));
                request
            }
            _ => request,
        };
        Outcome { msr, action }
    }

    /// Registers a GHCB by its frame number. A frame that is not guest RAM is refused.
    fn register_ghcb(&mut self, vcpu: usize, gfn: u64) -> u64 {
        if !self.rmp.contains(gfn, 1) {
            return NO_GHCB;
        }
        self.vcpus[vcpu].ghcb = Some(gfn << 12);
        gfn
    }
}

/// CPUID by the MSR protocol has no subleaf and no XCR0; the response keeps the register number in bits 31:30.
fn msr_cpuid(request: GhcbMsr, devices: &mut dyn HostDevices) -> GhcbMsr {
    let [function, low] = [request.0 >> 32, request.0].map(low32);
    let register = low >> 30;
    let values = devices.cpuid(function, 0, 1, 0);
    let value = values[register as usize];
    GhcbMsr(u64::from(value) << 32 | u64::from(register) << 30 | u64::from(GhcbInfo::CPUID_RESPONSE.0))
}

#[cfg(test)]
#[path = "msr_tests.rs"]
mod tests;
