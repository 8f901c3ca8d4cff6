//! TDREPORT and event log, beside the quote.

use tsmsim_abi::tdx::{
    quote::{QuoteBody, TdReportBody10, TdReportBody15},
    report::{ReportVersion, TdReport, TeeType},
};
use zerocopy::{FromBytes, IntoBytes};

use super::log::{replay, sha384};
use crate::Verdict;

const OBJECT: &str = "TD report";
const LOG: &str = "event log";

/// Whether bytes are to be taken for a TDREPORT: its size, type and reserved bytes.
pub(crate) fn is_report(bytes: &[u8]) -> bool {
    TdReport::read_from_bytes(bytes).is_ok_and(|report| {
        let head = &report.report_mac_struct;
        head.report_type.tee_type == TeeType::TDX.0
            && head.report_type.subtype == 0
            && head.reserved_0x4 == [0; 12]
            && head.reserved_0xc0 == [0; 32]
    })
}

/// Judges a TDREPORT, by itself and against the quote. Its MAC can be judged on its own platform only.
pub(super) fn judge(verdict: &mut Verdict, bytes: Option<&[u8]>, body: Option<&QuoteBody>) {
    let Some(bytes) = bytes else { return };
    let Ok(report) = TdReport::read_from_bytes(bytes) else {
        let why = format!("{} bytes, where a TDREPORT has {}", bytes.len(), size_of::<TdReport>());
        verdict.judge(OBJECT, "size", Err::<&str, _>(why));
        return;
    };
    let head = &report.report_mac_struct;
    let kind = &head.report_type;
    let known = [ReportVersion::NO_SERVICE_TD, ReportVersion::WITH_SERVICE_TD];
    let result = match (TeeType(kind.tee_type), kind.subtype, ReportVersion(kind.version)) {
        (TeeType::TDX, 0, version) if known.contains(&version) => Ok(version.to_string()),
        (TeeType::TDX, 0, version) => Err(format!("unknown version {version}")),
        (other, ..) => Err(format!("type {other}, where TDX is expected")),
    };
    verdict.judge(OBJECT, "REPORTTYPE", result);
    let regions: [&[u8]; 6] = [
        &[kind.reserved],
        &head.reserved_0x4,
        &head.reserved_0xc0,
        &report.tee_tcb_info.reserved,
        &report.reserved,
        &report.td_info.reserved,
    ];
    let clean = regions.iter().all(|region| region.iter().all(|byte| *byte == 0));
    verdict.judge(OBJECT, "reserved", if clean { Ok("zero") } else { Err("not zero") });
    let hashes = [
        ("TEE_TCB_INFO_HASH", head.tee_tcb_info_hash, report.tee_tcb_info.as_bytes()),
        ("TEE_INFO_HASH", head.tee_info_hash, report.td_info.as_bytes()),
    ];
    for (field, stated, part) in hashes {
        let result = if sha384(part) == stated { Ok("holds") } else { Err("not the SHA-384 of that part") };
        verdict.judge(OBJECT, field, result);
    }
    let fits = match body {
        Some(QuoteBody::Td10(td)) => TdReportBody10::from(&report) == *td,
        Some(QuoteBody::Td15(td)) => TdReportBody15::from(&report) == *td,
        _ => false,
    };
    let result =
        if fits { Ok("the same TD in the same state") } else { Err("says something else than the quote") };
    verdict.judge(OBJECT, "body = quote's", result);
    verdict.skip(OBJECT, "MAC", "only the platform that made it can check it");
}

/// Replays an event log against the RTMRs.
pub(super) fn judge_log(verdict: &mut Verdict, log: Option<&[u8]>, body: Option<&QuoteBody>) {
    let Some(log) = log else { return };
    let registers = match replay(log) {
        Ok(registers) => registers,
        Err(error) => {
            verdict.judge(LOG, "records", Err::<&str, _>(error.to_string()));
            return;
        }
    };
    verdict.judge(LOG, "records", Ok::<_, &str>("well-formed"));
    let Some(td) = body.and_then(QuoteBody::td) else {
        verdict.judge(LOG, "replay", Err::<&str, _>("there is no TD's quote to compare with"));
        return;
    };
    let fields = ["replay = rtmr0", "replay = rtmr1", "replay = rtmr2", "replay = rtmr3"];
    for (field, (replayed, quoted)) in fields.into_iter().zip(registers.iter().zip(&td.rtmr)) {
        let result = if replayed == quoted { Ok("as in the quote") } else { Err("not what the quote has") };
        verdict.judge(LOG, field, result);
    }
}
