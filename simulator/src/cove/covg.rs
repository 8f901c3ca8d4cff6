//! COVG: the guest-side functions (`sbi_cove.adoc`, "COVE Guest Extension"). Arguments are checked in the order of the
//! specification's text: alignment of addresses, sizes and indices, then where the memory lies.
//!
//! | file | functions |
//! |---|---|
//! | `access.rs` | what all share: reaching guest memory |
//! | `memory.rs` | 0 to 3: MMIO regions, share, unshare |
//! | `attestation.rs` | 6 to 10: capabilities, measurements, evidence, secret |
//!
//! Functions 4 and 5, external interrupts, are here.

mod access;
mod attestation;
mod memory;
#[cfg(test)]
mod tests;

use tsmsim_abi::cove::{
    covg::CovgFid,
    sbi::{BaseFid, ExtensionId, FunctionId, SbiError},
};

use self::access::Refusal;
use super::{
    build::{ensure, faulted},
    event::CoveEvent,
    platform::CovePlatform,
    registers::Registers,
    tvm::{Conversion, Interrupts, Tvm},
};
use crate::{env::Env, fault::FaultPoint, journal::Event};

/// What comes of an `ecall`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The call ended: `a0` and `a1` are set.
    Done,
    /// The call is not the TSM's; the registers are as they were.
    Forward,
    /// Share or unshare: the vCPU waits until the host has done its part; the registers are as they were.
    Convert(Conversion),
    /// A page of the TVM is not mapped: a guest page fault exits to the host; if it can map the page, the call is made again.
    PageFault {
        /// Guest-physical address of the first such page.
        gpa: u64,
    },
}

/// What a function sees.
struct Call<'a, 'b> {
    tvm: &'a mut Tvm,
    platform: &'a CovePlatform,
    vcpu: usize,
    /// `a0` to `a5`.
    arguments: [u64; 6],
    env: &'a mut Env<'b>,
}

const fn refuse<T>(error: SbiError) -> Result<T, Refusal> {
    Err(Refusal::Error(error))
}

impl Tvm {
    /// An `ecall` of a vCPU. A vCPU that cannot run gets `FAILED`: it could not execute the instruction.
    pub fn ecall(
        &mut self,
        platform: &CovePlatform,
        vcpu: usize,
        registers: &mut Registers,
        env: &mut Env<'_>,
    ) -> Outcome {
        let [arguments @ .., a6, _] = registers.0;
        match registers.extension() {
            ExtensionId::COVG => {}
            ExtensionId::BASE if a6 == u64::from(BaseFid::PROBE_EXTENSION.0) => {
                if ExtensionId(arguments[0]) != ExtensionId::COVG {
                    return Outcome::Forward;
                }
                env.journal.record(Event::Cove(CoveEvent::Probe { vcpu }));
                registers.set(Ok(1));
                return Outcome::Done;
            }
            _ => return Outcome::Forward,
        }
        let a6 = FunctionId::from(a6);
        let mut call = Call { tvm: self, platform, vcpu, arguments, env };
        let result = match call.dispatch(a6) {
            Ok(value) => Ok(value),
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::Outcome(outcome)) => {
                if let Some(vcpu) = self.vcpus.get_mut(vcpu) {
                    vcpu.again = matches!(outcome, Outcome::PageFault { .. });
                }
                return outcome;
            }
        };
        registers.set(result);
        let fid = CovgFid(a6.fid());
        let error = registers.error();
        env.journal.record(Event::Cove(CoveEvent::Covg { vcpu, fid, error }));
        Outcome::Done
    }
}

impl Call<'_, '_> {
    fn dispatch(&mut self, a6: FunctionId) -> Result<u64, Refusal> {
        if !self.tvm.can_run(self.vcpu) {
            return refuse(SbiError::FAILED);
        }
        if a6.reserved_16() != 0 || a6.reserved_32() != 0 {
            return refuse(SbiError::NOT_SUPPORTED);
        }
        let vcpu = self.tvm.vcpus.get_mut(self.vcpu);
        let again = vcpu.is_some_and(|vcpu| std::mem::take(&mut vcpu.again));
        if !again && let Some(error) = faulted(self.env, FaultPoint::COVE_ECALL) {
            return refuse(error);
        }
        match CovgFid(a6.fid()) {
            CovgFid::ADD_MMIO_REGION => self.add_mmio_region(),
            CovgFid::REMOVE_MMIO_REGION => self.remove_mmio_region(),
            CovgFid::SHARE_MEMORY_REGION => self.share_memory_region(),
            CovgFid::UNSHARE_MEMORY_REGION => self.unshare_memory_region(),
            CovgFid::ALLOW_EXTERNAL_INTERRUPT => self.external_interrupt(true),
            CovgFid::DENY_EXTERNAL_INTERRUPT => self.external_interrupt(false),
            CovgFid::GET_ATTCAPS => self.get_attcaps(),
            CovgFid::EXTEND_MEASUREMENT => self.extend_measurement(),
            CovgFid::GET_EVIDENCE => self.get_evidence(),
            CovgFid::RETRIEVE_SECRET => self.retrieve_secret(),
            CovgFid::READ_MEASUREMENT => self.read_measurement(),
            _ => refuse(SbiError::NOT_SUPPORTED),
        }
    }

    /// `sbi_covg_allow_external_interrupt`, `sbi_covg_deny_external_interrupt`.
    fn external_interrupt(&mut self, allowed: bool) -> Result<u64, Refusal> {
        let [id, ..] = self.arguments;
        ensure(Interrupts::is_valid(id), SbiError::INVALID_PARAM)?;
        if let Some(vcpu) = self.tvm.vcpus.get_mut(self.vcpu) {
            vcpu.interrupts.set(id, allowed);
        }
        Ok(0)
    }
}
