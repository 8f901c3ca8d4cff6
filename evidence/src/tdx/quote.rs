//! The quote: its form, what it says, and its signature.

use tsmsim_abi::tdx::{
    qe::EnclaveFlags,
    quote::{
        AttestationKeyType, EcdsaSignatureData, INTEL_QE_VENDOR_ID, Quote, QuoteBody, QuoteTeeType,
        QuoteVersion, TdReportBody10,
    },
    td_params::{TdAttributes, Xfam},
};
use zerocopy::IntoBytes;

use super::{Bundle, Policy, qe};
use crate::{Verdict, hex::first_difference, x509::verify_ecdsa_p256_fixed};

pub(super) const OBJECT: &str = "quote";

/// Judges what the header says, and what lies behind the quote.
pub(super) fn judge_form(verdict: &mut Verdict, quote: &Quote<'_>, policy: &Policy) {
    let header = &quote.signed.header;
    let version = match quote.version() {
        known @ (QuoteVersion::V3 | QuoteVersion::V4 | QuoteVersion::V5) => Ok(known.0.to_string()),
        other => Err(other.to_string()),
    };
    verdict.judge(OBJECT, "version", version);
    let key_type = AttestationKeyType(header.attestation_key_type.get());
    let result = match key_type {
        AttestationKeyType::ECDSA_P256 => Ok(key_type.to_string()),
        other => Err(format!("{other}, where ECDSA_P256 (0x2) is expected")),
    };
    verdict.judge(OBJECT, "attestation_key_type", result);
    let tee = QuoteTeeType(header.tee_type.get());
    let enclave = matches!(quote.signed.body, QuoteBody::Enclave(_));
    let expected = if enclave { QuoteTeeType::SGX } else { QuoteTeeType::TDX };
    let result =
        if tee == expected { Ok(tee.to_string()) } else { Err(format!("{tee}, but the body is of another")) };
    verdict.judge(OBJECT, "tee_type", result);
    // In version 3 these two are the enclaves' security versions.
    let clean =
        quote.version() == QuoteVersion::V3 || (header.qe_svn.get() == 0 && header.pce_svn.get() == 0);
    verdict.judge(OBJECT, "reserved", if clean { Ok("zero") } else { Err("bytes 8h..ch are not zero") });
    let vendor = if header.qe_vendor_id == INTEL_QE_VENDOR_ID {
        Ok("Intel's")
    } else {
        Err("not that of Intel's quoting enclaves")
    };
    verdict.judge(OBJECT, "qe_vendor_id", vendor);
    let left = quote.trailing.len();
    let result = match quote.trailing.iter().position(|byte| *byte != 0) {
        None => Ok(format!("{left} bytes, zero")),
        Some(_) if policy.allow_trailing => Ok(format!("{left} bytes, which the policy takes")),
        Some(at) => Err(format!("byte {at} of the {left} behind the quote is not zero")),
    };
    verdict.judge(OBJECT, "trailing bytes", result);
}

/// The signature by the attestation key.
pub(super) fn judge_signature(
    verdict: &mut Verdict,
    bytes: &[u8],
    quote: &Quote<'_>,
    signature: &EcdsaSignatureData<'_>,
) {
    let mut point = [4; 65];
    point[1..].copy_from_slice(signature.attestation_key.as_bytes());
    let signed = bytes.get(..quote.signed.size()).unwrap_or_default();
    let result = verify_ecdsa_p256_fixed(&point, signed, signature.signature.as_bytes());
    verdict.judge(OBJECT, "signature", result.map(|()| "by the attestation key"));
}

/// Judges what the body says.
pub(super) fn judge_body(verdict: &mut Verdict, body: &QuoteBody, bundle: &Bundle, policy: &Policy) {
    match body {
        QuoteBody::Enclave(report) => {
            verdict.judge(OBJECT, "reserved, enclave report", qe::reserved(report));
            let debug = EnclaveFlags::from(report.attributes_flags.get()).debug();
            verdict.judge(OBJECT, "ATTRIBUTES.DEBUG", allowed(debug, policy.allow_debug, "may be debugged"));
        }
        QuoteBody::Td10(td) => judge_td(verdict, td, policy),
        QuoteBody::Td15(td) => {
            judge_td(verdict, &td.base, policy);
            let bound = td.mr_service_td != [0; 48];
            let result = allowed(bound, policy.allow_service_td, "a service TD is bound to the TD");
            verdict.judge(OBJECT, "mr_service_td", result);
        }
    }
    if let Some(inblob) = &bundle.inblob {
        let found = body.report_data();
        let result = match first_difference(found, inblob) {
            _ if inblob.len() != found.len() => Err(format!(
                "the inblob has {} bytes, where 64 are expected: pad it as the guest did",
                inblob.len()
            )),
            Some(at) => Err(format!("differs from the inblob at byte {at}")),
            None => Ok("the inblob"),
        };
        verdict.judge(OBJECT, "report_data", result);
    }
}

fn allowed(set: bool, allowed: bool, why: &'static str) -> Result<&'static str, &'static str> {
    match (set, allowed) {
        (false, _) => Ok("0"),
        (true, true) => Ok("set, which this verifier takes"),
        (true, false) => Err(why),
    }
}

fn judge_td(verdict: &mut Verdict, td: &TdReportBody10, policy: &Policy) {
    judge_attributes(verdict, td.attribute_bits(), policy);
    let xfam = td.xfam.get();
    let result = match (xfam & Xfam::FIXED1, policy.xfam) {
        _ if !td.xfam_bits().groups_are_whole() || td.xfam_bits().reserved() != 0 => {
            Err(format!("{xfam:#x} is no set of features that a TD can have"))
        }
        (Xfam::FIXED1, Some(expected)) if expected != xfam => {
            Err(format!("{xfam:#x}, where {expected:#x} is expected"))
        }
        (Xfam::FIXED1, _) => Ok(format!("{xfam:#x}")),
        _ => Err(format!("{xfam:#x}: bits 0 and 1 must be one")),
    };
    verdict.judge(OBJECT, "xfam", result);
    let registers = [
        ("mr_seam", &td.mr_seam, policy.mr_seam.as_ref()),
        ("mr_td", &td.mr_td, policy.mr_td.as_ref()),
        ("mr_config_id", &td.mr_config_id, policy.mr_config_id.as_ref()),
        ("mr_owner", &td.mr_owner, policy.mr_owner.as_ref()),
        ("mr_owner_config", &td.mr_owner_config, policy.mr_owner_config.as_ref()),
    ];
    let rtmrs = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(&td.rtmr).zip(&policy.rtmr);
    let rtmrs = rtmrs.map(|((field, found), expected)| (field, found, expected.as_ref()));
    for (field, found, expected) in registers.into_iter().chain(rtmrs) {
        let Some(expected) = expected else { continue };
        let result = match first_difference(found, expected) {
            Some(at) => Err(format!("differs from the expected one at byte {at}")),
            None => Ok("as expected"),
        };
        verdict.judge(OBJECT, field, result);
    }
}

fn judge_attributes(verdict: &mut Verdict, attributes: TdAttributes, policy: &Policy) {
    let debug = allowed(attributes.debug(), policy.allow_debug, "the host may read and change the TD");
    verdict.judge(OBJECT, "td_attributes.DEBUG", debug);
    let profiled = attributes.hgs_plus_prof() || attributes.perf_prof() || attributes.pmt_prof();
    let profiled = allowed(profiled, policy.allow_debug, "the host may profile the TD");
    verdict.judge(OBJECT, "td_attributes, profiling", profiled);
    let migratable = allowed(attributes.migratable(), policy.allow_service_td, "the TD may be migrated");
    verdict.judge(OBJECT, "td_attributes.MIGRATABLE", migratable);
    let result = match (attributes.sept_ve_disable(), policy.allow_sept_ve) {
        (true, _) => Ok("set"),
        (false, true) => Ok("0, which this verifier takes"),
        (false, false) => Err("0: the host may raise #VE on the TD's own memory"),
    };
    verdict.judge(OBJECT, "td_attributes.SEPT_VE_DISABLE", result);
    let reserved = attributes.reserved_1() != 0
        || attributes.reserved_7()
        || attributes.reserved_8() != 0
        || attributes.reserved_32() != 0;
    let result = if reserved { Err("not zero") } else { Ok("zero") };
    verdict.judge(OBJECT, "td_attributes, reserved bits", result);
}
