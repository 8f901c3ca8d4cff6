//! `MSG_REPORT_REQ` (56860, section 7.3).

use tsmsim_abi::snp::{
    message::MessageType,
    payload::{KeySel, ReportReq, ReportReqFlags, ReportRsp},
    report::{AttestationReport, SignatureAlgorithm},
    status::FirmwareStatus,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::guest::{
    machine::Machine,
    serial::print_blob,
    tap::{Check, Tap, ensure, equal},
};

/// The report that the host wants, as a blob.
pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    tap.check("REPORT_REQ: VMPL0", wanted(machine));
}

/// The message on every VMPCK, and what the firmware refuses.
pub(in crate::guest) fn refusals(machine: &mut Machine, tap: &mut Tap) {
    tap.check("REPORT_REQ: VMPL3, asked by VMPL0", for_vmpl(machine, 0, 3));
    for (vmpck, vmpl, name) in
        [(1, 1, "REPORT_REQ: VMPCK1"), (2, 2, "REPORT_REQ: VMPCK2"), (3, 3, "REPORT_REQ: VMPCK3")]
    {
        tap.check(name, for_vmpl(machine, vmpck, vmpl));
    }
    let mut reserved = plain_request(machine, 0);
    reserved.reserved_0x48[23] = 1;
    let mut flag = plain_request(machine, 0);
    flag.flags.set(ReportReqFlags::new().with_reserved(1).into());
    let mut key_sel = plain_request(machine, 0);
    key_sel.flags.set(ReportReqFlags::new().with_key_sel(KeySel::Reserved).into());
    let below = plain_request(machine, 0);
    for (name, vmpck, request, status) in [
        ("REPORT_REQ: reserved bytes", 0, reserved, FirmwareStatus::INVALID_PARAM),
        ("REPORT_REQ: reserved flags", 0, flag, FirmwareStatus::INVALID_PARAM),
        ("REPORT_REQ: reserved KEY_SEL", 0, key_sel, FirmwareStatus::INVALID_KEY),
        ("REPORT_REQ: VMPL below the sender's", 1, below, FirmwareStatus::INVALID_PARAM),
    ] {
        tap.check(name, refused(machine, vmpck, &request, status));
    }
}

/// Asks `count` times.
pub(in crate::guest) fn repeat(machine: &mut Machine, count: u32) -> Check {
    let request = plain_request(machine, 0);
    for _ in 0..count {
        let answer: ReportRsp = machine.ask(0, MessageType::REPORT_REQ, &request)?;
        equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::SUCCESS)?;
    }
    Ok(())
}

/// A request with the host's data for this VMPL.
pub(super) fn plain_request(machine: &Machine, vmpl: u32) -> ReportReq {
    let report_data = machine.launched.parameters().report_data;
    ReportReq { report_data, vmpl: vmpl.into(), flags: 0.into(), reserved_0x48: [0; 24] }
}

/// What must hold of any report that was asked for with this request.
pub(super) fn judge(answer: &ReportRsp, request: &ReportReq) -> Check {
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::SUCCESS)?;
    equal("REPORT_SIZE", answer.report_size.get() as usize, size_of::<AttestationReport>())?;
    let report = &answer.report;
    ensure!(matches!(report.version.get(), 2 | 3 | 5), "VERSION is {}", report.version.get());
    ensure!(report.report_data == request.report_data, "REPORT_DATA is not the request's");
    ensure!(report.measurement != [0; 48], "MEASUREMENT is zero");
    ensure!(report.report_id != [0; 32], "REPORT_ID is zero");
    equal("VMPL", report.vmpl.get(), request.vmpl.get())?;
    let algorithm = SignatureAlgorithm(report.signature_algo.get());
    equal("SIGNATURE_ALGO", algorithm, SignatureAlgorithm::ECDSA_P384_SHA384)?;
    ensure!(report.signature.as_bytes().iter().any(|byte| *byte != 0), "SIGNATURE is zero");
    Ok(())
}

fn wanted(machine: &mut Machine) -> Check {
    let request = plain_request(machine, 0);
    let answer: ReportRsp = machine.ask(0, MessageType::REPORT_REQ, &request)?;
    judge(&answer, &request)?;
    print_blob("report", answer.report.as_bytes().iter().copied());
    Ok(())
}

fn for_vmpl(machine: &mut Machine, vmpck: usize, vmpl: u32) -> Check {
    let request = plain_request(machine, vmpl);
    judge(&machine.ask(vmpck, MessageType::REPORT_REQ, &request)?, &request)
}

fn refused(machine: &mut Machine, vmpck: usize, request: &ReportReq, status: FirmwareStatus) -> Check {
    let answer: ReportRsp = machine.ask(vmpck, MessageType::REPORT_REQ, request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), status)?;
    ensure!(answer.report == AttestationReport::new_zeroed(), "there is a report all the same");
    Ok(())
}
