//! The quoting enclave: its report, by which the platform's key certifies the attestation key.

use aws_lc_rs::digest::{SHA256, digest};
use tsmsim_abi::tdx::{
    qe::{EnclaveFlags, EnclaveReportBody},
    quote::EcdsaSignatureData,
};
use zerocopy::IntoBytes;

use super::{
    Chain, TcbStatus,
    documents::QeIdentity,
    tcb::{QE_IDENTITY, Reached},
};
use crate::{Verdict, hex::hex, x509::verify_ecdsa_p256_fixed};

const OBJECT: &str = "QE report";

/// What Intel says of quoting enclaves.
const STATUSES: [TcbStatus; 5] = [
    TcbStatus::UpToDate,
    TcbStatus::OutOfDate,
    TcbStatus::ConfigurationNeeded,
    TcbStatus::OutOfDateConfigurationNeeded,
    TcbStatus::Revoked,
];

/// Judges the report; by the identity, if there is one.
pub(super) fn judge(
    verdict: &mut Verdict,
    signature: &EcdsaSignatureData<'_>,
    chain: &Chain,
    identity: Option<&QeIdentity>,
) -> Option<Reached> {
    let qe = &signature.qe;
    let report = &qe.qe_report;
    verdict.judge(OBJECT, "reserved", reserved(report));
    let flags = EnclaveFlags::from(report.attributes_flags.get());
    let debug = if flags.debug() { Err("set: the enclave may be debugged") } else { Ok("0") };
    verdict.judge(OBJECT, "ATTRIBUTES.DEBUG", debug);
    let hash = digest(&SHA256, &[signature.attestation_key.as_bytes(), qe.auth_data].concat());
    let (head, tail) = report.report_data.split_at(32);
    let result = if head != hash.as_ref() {
        Err("does not begin with the SHA-256 of attestation key and authentication data")
    } else if tail.iter().any(|byte| *byte != 0) {
        Err("not zero behind the hash")
    } else {
        Ok("SHA-256 of attestation key and authentication data")
    };
    verdict.judge(OBJECT, "report_data", result);
    let reached = identity.and_then(|identity| judge_identity(verdict, report, identity));
    let result = match &chain.pck_key {
        Some(key) => verify_ecdsa_p256_fixed(key, report.as_bytes(), qe.qe_report_signature.as_bytes()),
        None => Err("there is no PCK certificate to check it with".to_owned()),
    };
    verdict.judge(OBJECT, "signature", result.map(|()| "by the PCK"));
    reached
}

/// Bytes that must be zero.
pub(super) fn reserved(report: &EnclaveReportBody) -> Result<&'static str, String> {
    let regions: [(&str, &[u8]); 4] = [
        ("14h", &report.reserved_0x14),
        ("60h", &report.reserved_0x60),
        ("a0h", &report.reserved_0xa0),
        ("106h", &report.reserved_0x106),
    ];
    match regions.into_iter().find(|(_, region)| region.iter().any(|byte| *byte != 0)) {
        Some((at, _)) => Err(format!("bytes from {at} are not zero")),
        None => Ok("zero"),
    }
}

fn judge_identity(
    verdict: &mut Verdict,
    report: &EnclaveReportBody,
    identity: &QeIdentity,
) -> Option<Reached> {
    let signer = if report.mr_signer == identity.mrsigner {
        Ok(format!("{}, the identity's", hex(&report.mr_signer)))
    } else {
        Err("not the mrsigner of the QE identity".to_owned())
    };
    verdict.judge(OBJECT, "MRSIGNER", signer);
    let product = report.isv_prod_id.get();
    let result = if product == identity.isvprodid {
        Ok(product.to_string())
    } else {
        Err(format!("{product}, where {} is expected", identity.isvprodid))
    };
    verdict.judge(OBJECT, "ISVPRODID", result);
    // Byte strings in the document, as they lie in the report, but for MISCSELECT, which is written as a number; zero as
    // both are in all that Intel has published, the order of its bytes has never mattered.
    let select = masked(report.misc_select.as_bytes(), &identity.miscselect, &identity.miscselect_mask);
    verdict.judge(OBJECT, "MISCSELECT", select);
    let found = [report.attributes_flags.as_bytes(), report.attributes_xfrm.as_bytes()].concat();
    let attributes = masked(&found, &identity.attributes, &identity.attributes_mask);
    verdict.judge(OBJECT, "ATTRIBUTES", attributes);
    let mut levels: Vec<_> = identity.tcb_levels.iter().collect();
    levels.sort_by_key(|level| std::cmp::Reverse(level.tcb.isvsvn));
    let svn = report.isv_svn.get();
    let level = levels.into_iter().find(|level| level.tcb.isvsvn <= svn);
    let result = match level {
        Some(level) if !STATUSES.contains(&level.tcb_status) => {
            Err(format!("{}, which no QE identity has", level.tcb_status))
        }
        Some(level) => Ok(format!("{}, of {} (ISVSVN {svn})", level.tcb_status, level.tcb_date)),
        None => Err(format!("none that ISVSVN {svn} reaches")),
    };
    let known = verdict.judge(QE_IDENTITY, "TCB level", result);
    level.filter(|_| known).map(Reached::new)
}

fn masked(found: &[u8], expected: &[u8], mask: &[u8]) -> Result<String, String> {
    let differs =
        found.iter().zip(expected).zip(mask).any(|((found, wanted), mask)| (found ^ wanted) & mask != 0);
    if differs {
        Err(format!("{}, where {} under the mask {} is expected", hex(found), hex(expected), hex(mask)))
    } else {
        Ok(format!("{}, as the identity demands", hex(found)))
    }
}
