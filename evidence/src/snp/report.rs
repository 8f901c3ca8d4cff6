//! The report: its form, and how it fits the chain.

use tsmsim_abi::snp::{
    policy::SigningKey,
    report::{AttestationReport, SIGNED_SIZE, SignatureAlgorithm},
    tcb::{ProductLine, TcbParts, TcbVersion},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Bundle, CertificateKind, Policy, chain::Chain, signature, values};
use crate::{
    Verdict,
    hex::{first_difference, short},
};

pub(super) const OBJECT: &str = "report";

/// Which key the report says that it is signed by; `None` if it is not of a report's size.
pub(super) fn signing_key(report: &[u8]) -> Option<SigningKey> {
    let report = AttestationReport::read_from_bytes(report).ok()?;
    Some(report.key_info_bits().signing_key())
}

/// Judges the report. Signatures come last: whatever else tells which field is wrong tells more.
pub(super) fn judge(verdict: &mut Verdict, bundle: &Bundle, chain: &Chain<'_>, policy: &Policy) {
    let expected = size_of::<AttestationReport>();
    let Ok(report) = AttestationReport::read_from_bytes(&bundle.report) else {
        let why = format!("{} bytes, where a report has {expected}", bundle.report.len());
        verdict.judge(OBJECT, "size", Err::<&str, _>(why));
        return chain.judge_leaf_signature(verdict);
    };
    verdict.judge(OBJECT, "size", Ok::<_, &str>(format!("{expected} bytes")));
    judge_form(verdict, &report);
    judge_line(verdict, &report, chain);
    judge_signing_key(verdict, &report, chain);
    judge_chip_id(verdict, &report, chain, policy);
    judge_tcb(verdict, &report, chain);
    if let Some(inblob) = &bundle.inblob {
        verdict.judge(OBJECT, "report_data", check_report_data(&report, inblob));
    }
    values::judge(verdict, &report, chain.line, policy);
    chain.judge_leaf_signature(verdict);
    let key = chain.endorsement.as_ref();
    signature::judge(verdict, &report, key.map(|key| (key.kind, key.point)));
}

fn judge_form(verdict: &mut Verdict, report: &AttestationReport) {
    let version = match report.version.get() {
        known @ (2 | 3 | 5) => Ok(known.to_string()),
        other => Err(format!("{other}, where 2, 3 or 5 is expected")),
    };
    verdict.judge(OBJECT, "version", version);
    let algorithm = SignatureAlgorithm(report.signature_algo.get());
    let algorithm = match algorithm {
        SignatureAlgorithm::ECDSA_P384_SHA384 => Ok(algorithm.to_string()),
        other => Err(format!("{other}, where ECDSA_P384_SHA384 (1) is expected")),
    };
    verdict.judge(OBJECT, "signature_algo", algorithm);
    judge_reserved(verdict, report);
    values::judge_reserved_bits(verdict, report);
}

/// Bytes that must be zero in a report of this version, by their offset from the start.
fn reserved(version: u32) -> impl Iterator<Item = (usize, usize)> {
    let cpuid = if version < 3 { 0x188 } else { 0x18b };
    let vectors = if version < 5 { 0x1f8 } else { 0x208 };
    let (r, s) = (SIGNED_SIZE, SIGNED_SIZE + 72);
    [
        (0x4c, 0x50),
        (cpuid, 0x1a0),
        (0x1eb, 0x1ec),
        (0x1ef, 0x1f0),
        (vectors, SIGNED_SIZE),
        // The scalars have 384 bits in fields of 576.
        (r + 48, r + 72),
        (s + 48, s + 72),
        (s + 72, size_of::<AttestationReport>()),
    ]
    .into_iter()
}

fn judge_reserved(verdict: &mut Verdict, report: &AttestationReport) {
    let bytes = report.as_bytes();
    let mut clean = true;
    for (start, end) in reserved(report.version.get()) {
        let region = bytes.get(start..end).unwrap_or_default();
        if let Some(at) = region.iter().position(|byte| *byte != 0) {
            clean = false;
            let why = format!("byte {:#x} is not zero", start + at);
            verdict.judge(OBJECT, format!("reserved {start:x}h..{end:x}h"), Err::<&str, _>(why));
        }
    }
    if clean {
        verdict.judge(OBJECT, "reserved", Ok::<_, &str>("zero"));
    }
}

/// Version 3 and later name the processor; it must be of the chain's line.
fn judge_line(verdict: &mut Verdict, report: &AttestationReport, chain: &Chain<'_>) {
    let field = "cpuid_fam_id, cpuid_mod_id";
    if report.version.get() < 3 {
        return verdict.skip(OBJECT, field, "a report of version 2 does not name the processor");
    }
    let ids = format!("family {:#x}, model {:#x}", report.cpuid_fam_id, report.cpuid_mod_id);
    let certified = chain.endorsement.as_ref().and_then(|endorsement| endorsement.line).or(chain.line);
    let result = match (report.product_line(), certified) {
        (None, _) => Err(format!("{ids} is no known product line")),
        (Some(_), None) => Err(format!("{ids}, but no certificate names a product line")),
        (Some(line), Some(certified)) if line != certified => {
            Err(format!("{ids} is {}, but the certificates are for {}", line.name(), certified.name()))
        }
        (Some(line), Some(_)) => Ok(format!("{ids}: {}", line.name())),
    };
    verdict.judge(OBJECT, field, result);
}

fn judge_signing_key(verdict: &mut Verdict, report: &AttestationReport, chain: &Chain<'_>) {
    let info = report.key_info_bits();
    let mask = if info.mask_chip_key() { Err("set: the report is not signed") } else { Ok("0") };
    verdict.judge(OBJECT, "key_info.mask_chip_key", mask);
    let name = signing_key_name(info.signing_key());
    let result = match &chain.endorsement {
        Some(endorsement) if endorsement.kind.signing_key() == info.signing_key() => Ok(name),
        Some(endorsement) => {
            Err(format!("{name}, but the certificate given is a {}", endorsement.kind.name()))
        }
        None => Err(format!("{name}, but there is no such certificate")),
    };
    verdict.judge(OBJECT, "key_info.signing_key", result);
}

pub(super) fn signing_key_name(key: SigningKey) -> String {
    match key {
        SigningKey::Vcek => "VCEK".to_owned(),
        SigningKey::Vlek => "VLEK".to_owned(),
        SigningKey::None => "none".to_owned(),
        SigningKey::Reserved(bits) => format!("reserved encoding {bits}"),
    }
}

fn judge_chip_id(verdict: &mut Verdict, report: &AttestationReport, chain: &Chain<'_>, policy: &Policy) {
    let field = "chip_id";
    let Some(endorsement) = &chain.endorsement else {
        return verdict.skip(OBJECT, field, "no certificate to compare with");
    };
    if endorsement.kind == CertificateKind::Vlek {
        return verdict.skip(OBJECT, field, "a VLEK is not bound to a chip");
    }
    let Some(hwid) = endorsement.hwid else {
        return verdict.skip(OBJECT, field, "the VCEK has no hwID to compare with");
    };
    let (head, tail) = report.chip_id.split_at(hwid.len().min(report.chip_id.len()));
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let result = if zero(&report.chip_id) && policy.allow_masked_chip_id {
        Ok("masked, which the policy takes; not compared with the VCEK's hwID".to_owned())
    } else if zero(&report.chip_id) {
        Err("masked, so that it cannot be compared with the VCEK's hwID".to_owned())
    } else if !zero(tail) {
        Err(format!("more than the {} bytes of the VCEK's hwID", hwid.len()))
    } else if let Some(at) = first_difference(head, hwid) {
        Err(format!("differs from the VCEK's hwID at byte {at}"))
    } else {
        Ok(format!("{}, the VCEK's hwID", short(head)))
    };
    verdict.judge(OBJECT, field, result);
}

fn judge_tcb(verdict: &mut Verdict, report: &AttestationReport, chain: &Chain<'_>) {
    let Some(line) = chain.line else {
        return verdict.skip(
            OBJECT,
            "reported_tcb",
            "no certificate names a product line, so the layout is not known",
        );
    };
    let mut read = |field: &'static str, tcb: TcbVersion| {
        let result = match tcb.reserved_is_zero(line.tcb_layout()) {
            true => Ok(describe_tcb(tcb.parts(line.tcb_layout()))),
            false => Err(format!("{:#018x} has reserved bytes that are not zero", tcb.get())),
        };
        verdict.judge(OBJECT, field, result);
        tcb.parts(line.tcb_layout())
    };
    let current = read("current_tcb", report.current_tcb);
    let committed = read("committed_tcb", report.committed_tcb);
    let launch = read("launch_tcb", report.launch_tcb);
    let reported = read("reported_tcb", report.reported_tcb);

    match chain.endorsement.as_ref().map(|endorsement| (endorsement.kind, endorsement.tcb)) {
        Some((kind, Some(certified))) => {
            let result = match differences(reported, certified).as_slice() {
                [] => Ok(format!("as in the {}", kind.name())),
                different => Err(format!("in the {} and here: {}", kind.name(), different.join(", "))),
            };
            verdict.judge(OBJECT, "reported_tcb = certificate", result);
        }
        _ => verdict.skip(OBJECT, "reported_tcb = certificate", "no certificate says a TCB"),
    }
    verdict.judge(OBJECT, "reported_tcb <= committed_tcb", at_most(reported, committed));
    verdict.judge(OBJECT, "committed_tcb <= current_tcb", at_most(committed, current));
    // A guest that a migration agent brought may have been launched on a platform that was ahead of this one.
    if values::has_migration_agent(report) {
        verdict.skip(OBJECT, "launch_tcb <= current_tcb", "the guest may have come from another platform");
    } else {
        verdict.judge(OBJECT, "launch_tcb <= current_tcb", at_most(launch, current));
    }
}

/// `boot loader 2, TEE 0, SNP 5, microcode 68`.
pub(super) fn describe_tcb(tcb: TcbParts) -> String {
    let parts = components(tcb).into_iter().filter_map(|(name, level)| Some(format!("{name} {}", level?)));
    parts.collect::<Vec<_>>().join(", ")
}

fn components(tcb: TcbParts) -> [(&'static str, Option<u8>); 5] {
    [
        ("FMC", tcb.fmc),
        ("boot loader", Some(tcb.boot_loader)),
        ("TEE", Some(tcb.tee)),
        ("SNP", Some(tcb.snp)),
        ("microcode", Some(tcb.microcode)),
    ]
}

fn differences(reported: TcbParts, certified: TcbParts) -> Vec<String> {
    let pairs = components(reported).into_iter().zip(components(certified));
    pairs
        .filter(|((_, reported), (_, certified))| reported != certified)
        .map(|((name, reported), (_, certified))| {
            format!("{name} {} and {}", certified.unwrap_or(0), reported.unwrap_or(0))
        })
        .collect()
}

/// Component by component (56860, section 2.2).
pub(super) fn at_most(low: TcbParts, high: TcbParts) -> Result<&'static str, String> {
    let pairs = components(low).into_iter().zip(components(high));
    let above: Vec<&str> =
        pairs.filter(|((_, low), (_, high))| low > high).map(|((name, _), _)| name).collect();
    if above.is_empty() { Ok("in every component") } else { Err(format!("not for: {}", above.join(", "))) }
}

fn check_report_data(report: &AttestationReport, inblob: &[u8]) -> Result<&'static str, String> {
    if inblob.len() != report.report_data.len() {
        return Err(format!(
            "the inblob has {} bytes, where 64 are expected: pad it as the guest did",
            inblob.len()
        ));
    }
    match first_difference(&report.report_data, inblob) {
        Some(at) => Err(format!("differs from the inblob at byte {at}")),
        None => Ok("the inblob"),
    }
}

/// The line by which a report's TCB versions are to be read where no certificate tells: as the CPUID fields say, and for version 2 by
/// the chip identifier, of which Turin has 8 bytes.
pub(super) fn likely_line(report: &AttestationReport) -> Option<ProductLine> {
    report.product_line().or_else(|| {
        let (head, tail) = report.chip_id.split_at(8);
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let turin = !zero(head) && zero(tail);
        (report.version.get() == 2).then_some(if turin { ProductLine::Turin } else { ProductLine::Milan })
    })
}
