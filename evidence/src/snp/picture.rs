//! The chain as a picture.

use tsmsim_abi::snp::{cert_table::CertGuid, report::AttestationReport};
use zerocopy::FromBytes;

use super::{
    Bundle,
    report::{signing_key, signing_key_name},
};
use crate::{
    Verdict,
    hex::short,
    picture::{Part, certificate_line, draw},
};

/// An SVG picture: from the root down to the report, a box each with what it is and whether it passed, and the verdict. The same
/// input gives the same bytes.
#[must_use]
pub fn svg(bundle: &Bundle, verdict: &Verdict) -> String {
    draw(&parts(bundle, verdict), verdict)
}

fn parts(bundle: &Bundle, verdict: &Verdict) -> Vec<Part> {
    let judged = |title: &'static str| verdict.checks.iter().any(|check| check.object == title);
    let choose = |one, other| if judged(other) { other } else { one };
    let (signer, leaf) = (choose("ASK", "ASVK"), choose("VCEK", "VLEK"));
    let leaf_guid = if leaf == "VLEK" { CertGuid::VLEK } else { CertGuid::VCEK };
    let mut parts = vec![
        Part::of("ARK", certificate_line(bundle.find(CertGuid::ARK)), verdict),
        Part::of(signer, certificate_line(bundle.find(CertGuid::ASK)), verdict),
        Part::of(leaf, certificate_line(bundle.find(leaf_guid)), verdict),
    ];
    if judged("report") {
        parts.push(Part::of("report", report_line(&bundle.report), verdict));
    }
    parts
}

fn report_line(bytes: &[u8]) -> String {
    match (AttestationReport::read_from_bytes(bytes), signing_key(bytes)) {
        (Ok(report), Some(key)) => {
            let (version, key) = (report.version.get(), signing_key_name(key));
            format!("version {version}, signing key {key}, measurement {}", short(&report.measurement))
        }
        _ => "cannot be read".to_owned(),
    }
}
