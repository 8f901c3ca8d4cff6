//! `TDG.VP.INFO`, `TDG.VP.VEINFO.GET`, `TDG.VP.CPUIDVE.SET`, and the checks of `TDG.VP.VMCALL`.

use tsmsim_abi::tdx::{
    leaf::{CpuidVeControl, VcpuCounts, VmcallControl},
    status::{OperandId, StatusCode},
};

use super::{Call, Outcome, access::Refusal, invalid};
use crate::tdx::{platform::TdxVersion, registers::Gpr};

impl Call<'_, '_> {
    /// `TDG.VP.INFO`.
    pub(super) fn vp_info(&mut self) {
        let num_vcpus = u32::try_from(self.td.vcpus.len()).unwrap_or(u32::MAX);
        let counts = VcpuCounts::new().with_num_vcpus(num_vcpus).with_max_vcpus(self.td.max_vcpus.into());
        let registers = &mut *self.registers;
        registers[Gpr::Rcx] = self.td.gpa_width();
        registers[Gpr::Rdx] = self.td.attributes.into();
        registers[Gpr::R8] = counts.into();
        registers[Gpr::R9] = self.vcpu as u64;
        registers[Gpr::R10] = u64::from(self.td.version >= TdxVersion::V1_5);
        registers[Gpr::R11] = 0;
    }

    /// `TDG.VP.VEINFO.GET`.
    pub(super) fn vp_veinfo_get(&mut self) -> Result<(), Refusal> {
        const OUT: [Gpr; 5] = [Gpr::Rcx, Gpr::Rdx, Gpr::R8, Gpr::R9, Gpr::R10];
        let info = self.td.vcpus[self.vcpu].ve_info.take();
        let values = info.map_or([0; 5], |info| {
            [info.exit_reason.into(), info.exit_qualification, info.gla, info.gpa, info.instruction.into()]
        });
        for (register, value) in OUT.into_iter().zip(values) {
            self.registers[register] = value;
        }
        info.map(drop).ok_or(Refusal::Status(StatusCode::NO_VALID_VE_INFO.status()))
    }

    /// `TDG.VP.CPUIDVE.SET`.
    pub(super) fn vp_cpuidve_set(&mut self) -> Result<(), Refusal> {
        let control = CpuidVeControl::from(self.registers[Gpr::Rcx]);
        if control.reserved() != 0 {
            return Err(invalid(OperandId::RCX));
        }
        self.td.vcpus[self.vcpu].cpuid_ve = control;
        Ok(())
    }

    /// `TDG.VP.VMCALL`, as far as the module looks at it.
    pub(super) fn vmcall(&mut self) -> Result<Outcome, Refusal> {
        let control = VmcallControl::from(self.registers[Gpr::Rcx]);
        let rbp = if self.td.config_flags.no_rbp_mod() { VmcallControl::GPR_RBP } else { 0 };
        if control.gpr_select() & (VmcallControl::GPR_MUST_BE_ZERO | rbp) != 0 || control.reserved() != 0 {
            return Err(invalid(OperandId::RCX));
        }
        Ok(Outcome::VmCall(control))
    }
}
