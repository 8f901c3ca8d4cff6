//! `TDG.MR.REPORT` and `TDG.MR.VERIFYREPORT`.

use tsmsim_abi::tdx::{
    leaf::TdcallLeaf,
    report::{ReportMacStruct, TdReport, TeeType, VALID_1_0, VALID_1_5},
    status::{CompletionStatus, OperandId, StatusCode},
};

use super::super::{
    call::{Tdcall, invalid},
    log::sha384,
    td::{Td, place},
};
use crate::guest::tap::{Check, Tap, ensure, equal};
use zerocopy::IntoBytes;

pub(super) fn run(td: &Td, tap: &mut Tap) {
    tap.check("TDG.MR.REPORT", td.report(&td.report_data).and_then(|report| judge(td, &report)));
    tap.check("TDG.MR.REPORT: into a shared page", into_shared(td));
    let call = td.report_call(&td.report_data);
    for (name, call, operand) in [
        ("TDG.MR.REPORT: report unaligned", call.rcx(td.operand(place::REPORT) + 512), OperandId::RCX),
        (
            "TDG.MR.REPORT: report data unaligned",
            call.rdx(td.operand(place::REPORT_DATA) + 32),
            OperandId::RDX,
        ),
        ("TDG.MR.REPORT: sub-type", call.r8(1), OperandId::R8),
        ("TDG.MR.REPORT: beyond the address width", call.rcx(1 << td.gpa_width), OperandId::RCX),
    ] {
        tap.check(name, call.refused(invalid(operand)));
    }
    tap.check("TDG.MR.VERIFYREPORT", verify(td, CompletionStatus::SUCCESS, |_| {}));
    let mac = StatusCode::INVALID_REPORTMACSTRUCT.status();
    tap.check(
        "TDG.MR.VERIFYREPORT: other report data",
        verify(td, mac, |report| report.report_data[63] ^= 1),
    );
    tap.check("TDG.MR.VERIFYREPORT: other MAC", verify(td, mac, |report| report.mac[0] ^= 0x80));
    tap.check("TDG.MR.VERIFYREPORT: other type", verify(td, mac, |report| report.report_type.tee_type = 0));
    let svn = StatusCode::INVALID_CPUSVN.status();
    tap.check("TDG.MR.VERIFYREPORT: other CPUSVN", verify(td, svn, |report| report.cpusvn[15] ^= 1));
    let unaligned = Tdcall::new(TdcallLeaf::TDG_MR_VERIFYREPORT).rcx(td.operand(place::REPORT_MAC) + 128);
    let operand = if td.later { OperandId::RCX } else { OperandId::RAX };
    tap.check("TDG.MR.VERIFYREPORT: unaligned", unaligned.refused(invalid(operand)));
}

/// What must hold of any report of this TD's.
pub(super) fn judge(td: &Td, report: &TdReport) -> Check {
    let head = &report.report_mac_struct;
    equal("type", TeeType(head.report_type.tee_type), TeeType::TDX)?;
    ensure!(head.report_data == td.report_data, "REPORTDATA is not the request's");
    ensure!(head.mac != [0; 32], "the MAC is zero");
    let valid = if td.later { VALID_1_5 } else { VALID_1_0 };
    equal("VALID", report.tee_tcb_info.valid.get(), valid)?;
    equal("ATTRIBUTES", report.td_info.attribute_bits(), td.attributes)?;
    let parts = [report.tee_tcb_info.as_bytes(), report.td_info.as_bytes()].map(|part| sha384(&[part]));
    ensure!(parts == [head.tee_tcb_info_hash, head.tee_info_hash], "hashes of the parts do not fit");
    Ok(())
}

fn into_shared(td: &Td) -> Check {
    let page = td.service[0];
    td.report_call(&td.report_data).rcx(td.shared_gpa(page)).succeed()?;
    judge(td, &page.read(0))
}

/// A report, changed and verified. Modules of 1.0 have no such function.
fn verify(td: &Td, status: CompletionStatus, change: impl FnOnce(&mut ReportMacStruct)) -> Check {
    let mut report = td.report(&td.report_data)?.report_mac_struct;
    change(&mut report);
    td.data.write(place::REPORT_MAC, &report);
    let call = Tdcall::new(TdcallLeaf::TDG_MR_VERIFYREPORT).rcx(td.operand(place::REPORT_MAC));
    call.refused(if td.later { status } else { invalid(OperandId::RAX) })
}
