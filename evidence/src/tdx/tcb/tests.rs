use rstest::rstest;
use serde_json::{Value, json};
use tsmsim_abi::tdx::{pck::SgxType, quote::TdReportBody15};
use zerocopy::FromZeros;

use super::*;

fn level(sgx: u8, tdx: [u8; 3], pce_svn: u16, status: &str) -> Value {
    let components = |values: &[u8]| -> Vec<Value> {
        (0..16).map(|at| json!({ "svn": values.get(at).copied().unwrap_or(0) })).collect()
    };
    json!({
        "tcb": {
            "sgxtcbcomponents": components(&[sgx; 16]),
            "pcesvn": pce_svn,
            "tdxtcbcomponents": components(&tdx),
        },
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": [format!("INTEL-SA-{status}")],
    })
}

fn module(id: &str, levels: &[(u16, &str)]) -> Value {
    let levels: Vec<Value> = levels
        .iter()
        .map(|(svn, status)| {
            json!({ "tcb": { "isvsvn": svn }, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": status })
        })
        .collect();
    let (mrsigner, zero, mask) = ("00".repeat(48), "00".repeat(8), "FF".repeat(8));
    json!({ "id": id, "mrsigner": mrsigner, "attributes": zero, "attributesMask": mask, "tcbLevels": levels })
}

/// Lowest level first: the order of the text must not matter.
fn collateral(status: &str) -> Collateral {
    let info = json!({
        "id": "TDX", "version": 3, "issueDate": "2025-06-19T10:16:03Z", "nextUpdate": "2025-07-19T10:16:03Z",
        "fmspc": "00".repeat(6), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
        "tdxModule": module("", &[]),
        "tdxModuleIdentities": [module("TDX_01", &[(2, "OutOfDate"), (4, "UpToDate")])],
        "tcbLevels": [level(1, [2, 0, 1], 5, "OutOfDate"), level(3, [5, 0, 2], 11, status)],
    });
    Collateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: Vec::new(),
        pck_crl: Vec::new(),
        tcb_info_issuer_chain: String::new(),
        tcb_info: info.to_string(),
        tcb_info_signature: Vec::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: Vec::new(),
        pck_certificate_chain: None,
    }
}

fn chain(sgx: u8, pce_svn: u16) -> Chain {
    let platform = SgxExtension {
        ppid: [0; 16],
        tcb: SgxTcb { components: [sgx; 16], pce_svn },
        cpu_svn: [0; 16],
        pce_id: [0; 2],
        fmspc: [0; 6],
        sgx_type: SgxType::STANDARD,
        platform_instance_id: None,
        configuration: None,
    };
    Chain { pck_key: None, platform: Some(platform), tcb_signing_key: None }
}

fn svn([module, major, late]: [u8; 3]) -> TeeTcbSvn {
    TeeTcbSvn { module_svn: module, module_major_version: major, late_microcode_svn: late, ..TeeTcbSvn::ZERO }
}

/// The status of a TD of version 1.5, launched and running at these versions.
fn status(wanted: &str, sgx: (u8, u16), launch: [u8; 3], current: [u8; 3]) -> Option<TcbStatus> {
    let mut td = TdReportBody15::new_zeroed();
    (td.base.tee_tcb_svn, td.tee_tcb_svn2) = (svn(launch), svn(current));
    let mut verdict = Verdict::new(Timestamp(1_750_415_547));
    let policy = Policy::at(verdict.at);
    let body = QuoteBody::Td15(td);
    judge_tcb_info(&mut verdict, &collateral(wanted), &chain(sgx.0, sgx.1), Some(&body), &policy)
        .map(|reached| reached.status)
}

#[rstest]
#[case("UpToDate", TcbStatus::UpToDate)]
#[case("SWHardeningNeeded", TcbStatus::SwHardeningNeeded)]
#[case("ConfigurationNeeded", TcbStatus::ConfigurationNeeded)]
#[case("ConfigurationAndSWHardeningNeeded", TcbStatus::ConfigurationAndSwHardeningNeeded)]
#[case("OutOfDate", TcbStatus::OutOfDate)]
#[case("OutOfDateConfigurationNeeded", TcbStatus::OutOfDateConfigurationNeeded)]
#[case("Revoked", TcbStatus::Revoked)]
fn every_status_is_told(#[case] name: &str, #[case] expected: TcbStatus) {
    assert_eq!(status(name, (3, 11), [5, 0, 2], [5, 0, 2]), Some(expected));
    assert_eq!(expected.name(), name);
}

#[rstest]
// A platform that reaches more than the level asks for, and one that misses it in one component.
#[case((9, 20), [9, 0, 9], Some(TcbStatus::UpToDate))]
#[case((2, 11), [5, 0, 2], Some(TcbStatus::OutOfDate))]
#[case((3, 10), [5, 0, 2], Some(TcbStatus::OutOfDate))]
#[case((3, 11), [4, 0, 2], Some(TcbStatus::OutOfDate))]
#[case((3, 11), [5, 0, 1], Some(TcbStatus::OutOfDate))]
#[case((0, 11), [5, 0, 2], None)]
#[case((3, 4), [5, 0, 2], None)]
#[case((3, 11), [1, 0, 2], None)]
// A module with an identity of its own is judged by that instead of the first two components.
#[case((3, 11), [4, 1, 2], Some(TcbStatus::UpToDate))]
#[case((3, 11), [3, 1, 2], Some(TcbStatus::OutOfDate))]
#[case((3, 11), [1, 1, 2], None)]
#[case((3, 11), [9, 7, 2], None)]
fn levels_are_matched_by_component(
    #[case] sgx: (u8, u16),
    #[case] tdx: [u8; 3],
    #[case] expected: Option<TcbStatus>,
) {
    assert_eq!(status("UpToDate", sgx, tdx, tdx), expected);
}

#[test]
fn a_module_updated_under_a_running_td_advises_a_relaunch() {
    let relaunch = |current| status("UpToDate", (3, 11), [3, 1, 2], current);
    assert_eq!(relaunch([4, 1, 2]), Some(TcbStatus::TdRelaunchAdvised));
    assert_eq!(relaunch([3, 1, 2]), Some(TcbStatus::OutOfDate));
    assert_eq!(relaunch([1, 1, 2]), None);
}

#[test]
fn a_status_that_no_document_has_is_refused() {
    assert_eq!(status("TDRelaunchAdvised", (3, 11), [5, 0, 2], [5, 0, 2]), None);
    assert_eq!(status("Fine", (3, 11), [5, 0, 2], [5, 0, 2]), None);
}
