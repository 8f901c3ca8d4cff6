//! `TDG.MR.REPORT`, `TDG.MR.RTMR.EXTEND`, `TDG.MR.VERIFYREPORT`.

use tsmsim_abi::tdx::{
    leaf::alignment,
    report::{Measurement, ReportMacStruct},
    status::{OperandId, StatusCode},
};
use zerocopy::IntoBytes;

use super::{
    Call,
    access::{Allowed, Operand, Refusal},
    invalid,
};
use crate::{
    fault::{self, FaultPoint},
    tdx::{platform::MacError, registers::Gpr},
};

fn aligned(gpa: u64, alignment: u64, id: OperandId) -> Result<(), Refusal> {
    if gpa.is_multiple_of(alignment) { Ok(()) } else { Err(invalid(id)) }
}

impl Call<'_, '_> {
    /// `TDG.MR.REPORT`. The module looks at the report data before the sub-type, and at where the report goes last.
    pub(super) fn mr_report(&mut self) -> Result<(), Refusal> {
        let [report_gpa, data_gpa] = [Gpr::Rcx, Gpr::Rdx].map(|register| self.registers[register]);
        aligned(report_gpa, alignment::TDREPORT, OperandId::RCX)?;
        aligned(data_gpa, alignment::REPORTDATA, OperandId::RDX)?;
        let allowed = Allowed::PrivateOrShared;
        let report_data = self.read(Operand { gpa: data_gpa, id: OperandId::RDX, allowed })?;
        if self.registers[Gpr::R8] != 0 {
            return Err(invalid(OperandId::R8));
        }
        let mut report = self.td.report(self.platform, report_data);
        let point = FaultPoint::TDX_REPORT;
        if let Some(action) = fault::consult(self.env.faults, self.env.journal, point) {
            fault::apply(self.env.journal, point, &action, report.as_mut_bytes());
        }
        self.write(Operand { gpa: report_gpa, id: OperandId::RCX, allowed }, report.as_bytes())
    }

    /// `TDG.MR.RTMR.EXTEND`.
    pub(super) fn mr_rtmr_extend(&mut self) -> Result<(), Refusal> {
        let gpa = self.registers[Gpr::Rcx];
        aligned(gpa, alignment::RTMR_EXTEND, OperandId::RCX)?;
        let operand = Operand { gpa, id: OperandId::RCX, allowed: Allowed::Private };
        let digest: Measurement = self.read(operand)?;
        if self.td.extend_rtmr(self.registers[Gpr::Rdx], &digest) {
            Ok(())
        } else {
            Err(invalid(OperandId::RDX))
        }
    }

    /// `TDG.MR.VERIFYREPORT`.
    pub(super) fn mr_verifyreport(&mut self) -> Result<(), Refusal> {
        let gpa = self.registers[Gpr::Rcx];
        aligned(gpa, alignment::REPORTMACSTRUCT, OperandId::RCX)?;
        let operand = Operand { gpa, id: OperandId::RCX, allowed: Allowed::Private };
        let bytes: [u8; size_of::<ReportMacStruct>()] = self.read(operand)?;
        let report: ReportMacStruct = zerocopy::transmute!(bytes);
        self.platform.verify_report(&report).map_err(|error| {
            let code = match error {
                MacError::CpuSvn => StatusCode::INVALID_CPUSVN,
                MacError::Mac => StatusCode::INVALID_REPORTMACSTRUCT,
            };
            Refusal::Status(code.status())
        })
    }
}
