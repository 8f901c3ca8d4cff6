//! Reports and certificate tables as trees.

use der::{
    Decode,
    asn1::{Ia5StringRef, ObjectIdentifier},
};
use tsmsim_abi::snp::{
    report::{AttestationReport, SignatureAlgorithm},
    tcb::{ProductLine, TcbLayout, TcbVersion},
};
use zerocopy::FromBytes;

use super::{
    TableFault, endorsement, read_table,
    report::{describe_tcb, likely_line, signing_key_name},
    root,
};
use crate::{
    Node,
    tree::printable,
    x509::{Certificate, PublicKey, RevocationList, show_certificate, show_crl},
};

/// Versions of reports that are known to have existed.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=5;

/// Whether bytes are to be taken for a report.
pub(crate) fn is_report(bytes: &[u8]) -> bool {
    AttestationReport::read_from_bytes(bytes).is_ok_and(|report| VERSIONS.contains(&report.version.get()))
}

/// A report; `None` for bytes of another size.
pub(crate) fn show_report(bytes: &[u8], line: Option<ProductLine>) -> Option<Node> {
    let report = AttestationReport::read_from_bytes(bytes).ok()?;
    let line = line.or_else(|| likely_line(&report));
    let name = line.map_or("unknown product line", ProductLine::name);
    let told = if report.product_line().is_some() { "" } else { ", product line assumed" };
    let meaning = format!("SEV-SNP, version {}, {name}{told}", report.version.get());
    let fields = [identity(&report), contents(&report), platform(&report, line)].concat();
    Some(Node::group("attestation report", meaning, fields))
}

/// Bytes 0 to 50h, but for the TCB and the platform.
fn identity(report: &AttestationReport) -> Vec<Node> {
    let algorithm = SignatureAlgorithm(report.signature_algo.get());
    let vmpl = if report.vmpl.get() == u32::MAX { "the host asked" } else { "" };
    vec![
        Node::number("version", report.version.get().into(), ""),
        Node::number("guest_svn", report.guest_svn.get().into(), ""),
        guest_policy(report),
        Node::bytes("family_id", &report.family_id, ""),
        Node::bytes("image_id", &report.image_id, ""),
        Node::number("vmpl", report.vmpl.get().into(), vmpl),
        Node::number("signature_algo", algorithm.0.into(), algorithm.name().unwrap_or("unknown")),
    ]
}

fn flag(name: &'static str, set: bool, meaning: [&'static str; 2]) -> Node {
    let [clear, is_set] = meaning;
    Node::number(name, set.into(), if set { is_set } else { clear })
}

fn guest_policy(report: &AttestationReport) -> Node {
    let policy = report.policy_bits();
    let allowed = ["not allowed", "allowed"];
    let demanded = ["not demanded", "demanded"];
    Node::number("policy", report.policy.get(), "").with(vec![
        Node::number("abi_minor", policy.abi_minor().into(), ""),
        Node::number("abi_major", policy.abi_major().into(), ""),
        flag("smt", policy.smt(), allowed),
        flag("reserved (must be one)", policy.reserved_must_be_one(), ["wrong", ""]),
        flag("migrate_ma", policy.migrate_ma(), allowed),
        flag("debug", policy.debug(), allowed),
        flag("single_socket", policy.single_socket(), demanded),
        flag("cxl_allow", policy.cxl_allow(), allowed),
        flag("mem_aes_256_xts", policy.mem_aes_256_xts(), demanded),
        flag("rapl_dis", policy.rapl_dis(), demanded),
        flag("ciphertext_hiding_dram", policy.ciphertext_hiding_dram(), demanded),
        flag("page_swap_disable", policy.page_swap_disable(), demanded),
        Node::number("reserved", policy.reserved(), ""),
    ])
}

fn platform_info(report: &AttestationReport) -> Node {
    let info = report.platform_info_bits();
    let enabled = ["disabled", "enabled"];
    Node::number("platform_info", report.platform_info.get(), "").with(vec![
        flag("smt_en", info.smt_en(), enabled),
        flag("tsme_en", info.tsme_en(), enabled),
        flag("ecc_en", info.ecc_en(), enabled),
        flag("rapl_dis", info.rapl_dis(), ["RAPL enabled", "RAPL disabled"]),
        flag("ciphertext_hiding_dram_en", info.ciphertext_hiding_dram_en(), enabled),
        flag("alias_check_complete", info.alias_check_complete(), ["not done", "done, no aliases"]),
        flag("tio_en", info.tio_en(), enabled),
        Node::number("reserved", info.reserved() << 1 | u64::from(info.reserved_6()), ""),
    ])
}

fn key_info(report: &AttestationReport) -> Node {
    let info = report.key_info_bits();
    let signer = signing_key_name(info.signing_key());
    Node::number("key_info", report.key_info.get().into(), "").with(vec![
        flag("author_key_en", info.author_key_en(), ["no author key", "author key in author_key_digest"]),
        flag("mask_chip_key", info.mask_chip_key(), ["signed", "not signed"]),
        Node::number("signing_key", info.signing_key().into_bits().into(), signer),
        Node::number("reserved", info.reserved().into(), ""),
    ])
}

/// Bytes 50h to 180h.
fn contents(report: &AttestationReport) -> Vec<Node> {
    let none = |all: bool, what: &str| if all { what.to_owned() } else { String::new() };
    vec![
        Node::bytes("report_data", &report.report_data, ""),
        Node::bytes("measurement", &report.measurement, ""),
        Node::bytes("host_data", &report.host_data, ""),
        Node::bytes(
            "id_key_digest",
            &report.id_key_digest,
            none(report.id_key_digest == [0; 48], "no ID block"),
        ),
        Node::bytes(
            "author_key_digest",
            &report.author_key_digest,
            none(report.author_key_digest == [0; 48], "none"),
        ),
        Node::bytes("report_id", &report.report_id, ""),
        Node::bytes(
            "report_id_ma",
            &report.report_id_ma,
            none(report.report_id_ma == [0xff; 32], "no migration agent"),
        ),
    ]
}

fn tcb(name: &'static str, tcb: TcbVersion, line: Option<ProductLine>) -> Node {
    let layout = line.map_or(TcbLayout::MilanGenoa, ProductLine::tcb_layout);
    let reserved = if tcb.reserved_is_zero(layout) { "" } else { "; reserved bytes are not zero" };
    Node::number(name, tcb.get(), format!("{}{reserved}", describe_tcb(tcb.parts(layout))))
}

/// What the report says about the platform, and the signature.
fn platform(report: &AttestationReport, line: Option<ProductLine>) -> Vec<Node> {
    let masked = report.chip_id == [0; 64];
    let cpuid = report.product_line().map_or("", ProductLine::name);
    let reserved_1: &[&[u8]] = &[&[report.reserved_0x1eb], &[report.reserved_0x1ef], &report.reserved_0x208];
    vec![
        tcb("current_tcb", report.current_tcb, line),
        tcb("committed_tcb", report.committed_tcb, line),
        tcb("launch_tcb", report.launch_tcb, line),
        tcb("reported_tcb", report.reported_tcb, line),
        platform_info(report),
        key_info(report),
        Node::number("cpuid_fam_id", report.cpuid_fam_id.into(), cpuid),
        Node::number("cpuid_mod_id", report.cpuid_mod_id.into(), ""),
        Node::number("cpuid_step", report.cpuid_step.into(), ""),
        Node::bytes("chip_id", &report.chip_id, if masked { "masked" } else { "" }),
        Node::group("current_version", report.current_version.to_string(), Vec::new()),
        Node::group("committed_version", report.committed_version.to_string(), Vec::new()),
        Node::number("launch_mit_vector", report.launch_mit_vector.get(), ""),
        Node::number("current_mit_vector", report.current_mit_vector.get(), ""),
        Node::number("reserved 4ch", report.reserved_0x4c.get().into(), ""),
        Node::bytes("reserved 18bh", &report.reserved_0x18b, ""),
        Node::bytes("reserved 1ebh, 1efh, 208h", &reserved_1.concat(), ""),
        Node::group(
            "signature",
            "little-endian scalars",
            vec![
                Node::bytes("r", &report.signature.r, ""),
                Node::bytes("s", &report.signature.s, ""),
                Node::bytes("reserved", &report.signature.reserved_0x90, ""),
            ],
        ),
    ]
}

/// A certificate table, with what is in it.
pub(crate) fn show_table(bytes: &[u8]) -> Result<Node, TableFault> {
    let entries = read_table(bytes)?;
    let nodes: Vec<Node> = entries
        .iter()
        .map(|entry| {
            let place =
                format!("offset {:#x}, {} bytes, {}", entry.offset, entry.certificate.len(), entry.guid);
            let inner = if let Ok(certificate) = Certificate::read(entry.certificate) {
                show_certificate(&certificate)
            } else if let Ok(list) = RevocationList::read(entry.certificate) {
                show_crl(&list)
            } else {
                Node::bytes("unknown", entry.certificate, "neither a certificate nor a revocation list")
            };
            Node::group(entry.guid.name().unwrap_or("unknown GUID"), place, vec![inner])
        })
        .collect();
    Ok(Node::group("certificate table", format!("{} entries", nodes.len()), nodes))
}

/// AMD's name of an extension.
pub(crate) fn extension_name(oid: ObjectIdentifier) -> Option<&'static str> {
    endorsement::EXTENSIONS.iter().find(|(_, known)| *known == oid).map(|(name, _)| *name)
}

/// A number or a text in one of AMD's extensions.
pub(crate) fn extension_meaning(value: &[u8]) -> String {
    match (u8::from_der(value), Ia5StringRef::from_der(value)) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(text)) => printable(text.as_str()),
        _ => String::new(),
    }
}

/// The vendor's root that has this key.
pub(crate) fn vendor_name(key: &PublicKey<'_>) -> Option<&'static str> {
    root::vendor_root(key).map(|root| root.name)
}
