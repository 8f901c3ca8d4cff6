//! What ends a TD; none of it comes back.

use tsmsim_abi::{
    guest_test::Parameters,
    tdx::{
        leaf::{TdcallLeaf, VmcallControl},
        vmcall::{FATAL_ERROR_TEXT_REGISTERS, FatalError, VmcallSubFunction},
    },
};

use super::super::call::{Tdcall, Vmcall};
use crate::guest::{arch::td::gpr, tap::Why};

/// `ReportFatalError` with a text.
pub(in crate::guest::tdx) fn report_fatal_error() -> Why {
    let text = *b"tsmsim: the test guest ends itself, as it was told to do\0\0\0\0\0\0\0\0";
    let shown =
        FATAL_ERROR_TEXT_REGISTERS.iter().fold(VmcallControl::GPR_R10_TO_R15, |mask, gpr| mask | 1 << gpr);
    let control = VmcallControl::new().with_gpr_select(shown);
    let mut call = Vmcall::new(VmcallSubFunction::REPORT_FATAL_ERROR).with(gpr::RCX, control.into());
    for (eight, register) in text.as_chunks().0.iter().zip(FATAL_ERROR_TEXT_REGISTERS) {
        call = call.with(register.into(), u64::from_le_bytes(*eight));
    }
    let error = FatalError::new().with_error_code(7);
    came_back("ReportFatalError", call.with(gpr::R12, error.into()).run())
}

/// A report to where there is no memory.
pub(in crate::guest::tdx) fn memory_fault(parameters: &Parameters) -> Why {
    let behind = parameters.ram_size.get();
    came_back("TDG.MR.REPORT", Ok(Tdcall::new(TdcallLeaf::TDG_MR_REPORT).rcx(behind).rdx(behind).run()))
}

/// HLT that only an NMI would end.
pub(in crate::guest::tdx) fn halt() -> Why {
    came_back("HLT", Vmcall::new(VmcallSubFunction::INSTRUCTION_HLT).operands([1]).run())
}

fn came_back<T>(what: &str, result: Result<T, Why>) -> Why {
    match result {
        Ok(_) => Why::new(format_args!("{what} came back")),
        Err(why) => why,
    }
}
