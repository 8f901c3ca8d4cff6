//! Quotes, TDREPORTs and collateral as trees.

use tsmsim_abi::tdx::{
    qe::{CertificationData, EnclaveReportBody},
    quote::{
        AttestationKeyType, BodyDescriptor, EcdsaSignatureData, INTEL_QE_VENDOR_ID, Quote, QuoteBody,
        QuoteHeader, QuoteTeeType, QuoteVersion, TdReportBody10,
    },
    report::{ReportVersion, TdReport, TeeTcbSvn, TeeType},
    td_params::{TdAttributes, Xfam},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Collateral, CollateralError, log::sha384};
use crate::{
    Node,
    hex::unhex,
    tree::printable,
    x509::{Certificate, RevocationList, pem_blocks, show_certificate, show_crl},
};

/// Whether bytes are a quote.
pub(crate) fn is_quote(bytes: &[u8]) -> bool {
    Quote::read(bytes).is_ok()
}

/// Whether bytes are collateral.
pub(crate) fn is_collateral(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{") && Collateral::read(bytes).is_ok()
}

/// A quote of version 3, 4 or 5.
pub(crate) fn show_quote(bytes: &[u8]) -> Option<Node> {
    let quote = Quote::read(bytes).ok()?;
    let tee = if quote.signed.body.td().is_some() { "TDX" } else { "SGX" };
    let mut fields = vec![header(&quote.signed.header)];
    if quote.version() == QuoteVersion::V5 {
        let body = &quote.signed.body;
        let size = body.as_bytes().len() as u64;
        let descriptor = vec![
            Node::number("body_type", body.body_type().0.into(), body.body_type().name().unwrap_or_default()),
            Node::number("size", size, ""),
        ];
        let size = size_of::<BodyDescriptor>();
        fields.push(Node::group("body descriptor", format!("{size} bytes"), descriptor));
    }
    fields.push(Node::group("body", "", body(&quote.signed.body)));
    fields.push(match quote.signature() {
        Ok(signature) => signature_data(&signature),
        Err(error) => Node::bytes("signature data", quote.signature_data, error.to_string()),
    });
    let left = quote.trailing.len();
    fields.push(match quote.trailing.iter().all(|byte| *byte == 0) {
        true => Node::group("trailing", format!("{left} bytes, zero"), Vec::new()),
        false => Node::bytes("trailing", quote.trailing, "nothing protects these bytes"),
    });
    Some(Node::group("quote", format!("{tee}, version {}", quote.version().0), fields))
}

fn header(header: &QuoteHeader) -> Node {
    let key_type = AttestationKeyType(header.attestation_key_type.get());
    let tee = QuoteTeeType(header.tee_type.get());
    let vendor = if header.qe_vendor_id == INTEL_QE_VENDOR_ID { "Intel" } else { "unknown" };
    let fields = vec![
        Node::number("version", header.version.get().into(), ""),
        Node::number("attestation_key_type", key_type.0.into(), key_type.name().unwrap_or("unknown")),
        Node::number("tee_type", tee.0.into(), tee.name().unwrap_or("unknown")),
        Node::number("qe_svn", header.qe_svn.get().into(), ""),
        Node::number("pce_svn", header.pce_svn.get().into(), ""),
        Node::bytes("qe_vendor_id", &header.qe_vendor_id, vendor),
        Node::bytes("user_data", &header.user_data, ""),
    ];
    Node::group("header", "", fields)
}

fn body(body: &QuoteBody) -> Vec<Node> {
    match body {
        QuoteBody::Enclave(report) => enclave(report),
        QuoteBody::Td10(td) => td_body(td),
        QuoteBody::Td15(td) => {
            let service = if td.mr_service_td == [0; 48] { "no service TD" } else { "" };
            let more = vec![
                svn("tee_tcb_svn2", &td.tee_tcb_svn2),
                Node::bytes("mr_service_td", &td.mr_service_td, service),
            ];
            [td_body(&td.base), more].concat()
        }
    }
}

fn td_body(td: &TdReportBody10) -> Vec<Node> {
    let signer = if td.mr_signer_seam == [0; 48] { "Intel" } else { "" };
    let head = vec![
        svn("tee_tcb_svn", &td.tee_tcb_svn),
        Node::bytes("mr_seam", &td.mr_seam, "the TDX module"),
        Node::bytes("mr_signer_seam", &td.mr_signer_seam, signer),
        Node::number("seam_attributes", td.seam_attributes.get(), ""),
        attributes(td.attribute_bits()),
        xfam(td.xfam_bits()),
        Node::bytes("mr_td", &td.mr_td, ""),
        Node::bytes("mr_config_id", &td.mr_config_id, ""),
        Node::bytes("mr_owner", &td.mr_owner, ""),
        Node::bytes("mr_owner_config", &td.mr_owner_config, ""),
    ];
    let rtmrs = td.rtmr.iter().zip(0..).map(|(value, index)| Node::bytes(format!("rtmr{index}"), value, ""));
    [head, rtmrs.collect(), vec![Node::bytes("report_data", &td.report_data, "")]].concat()
}

fn svn(name: &'static str, svn: &TeeTcbSvn) -> Node {
    let meaning = format!(
        "module {}.{:02}, late microcode {}",
        svn.module_major_version, svn.module_svn, svn.late_microcode_svn
    );
    Node::bytes(name, svn.as_bytes(), meaning)
}

/// The names of the bits that are set.
fn set<const N: usize>(bits: [(&'static str, bool); N]) -> String {
    let names: Vec<&str> = bits.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    names.join(", ")
}

fn attributes(bits: TdAttributes) -> Node {
    let reserved =
        bits.reserved_1() != 0 || bits.reserved_7() || bits.reserved_8() != 0 || bits.reserved_32() != 0;
    let names = set([
        ("DEBUG", bits.debug()),
        ("HGS_PLUS_PROF", bits.hgs_plus_prof()),
        ("PERF_PROF", bits.perf_prof()),
        ("PMT_PROF", bits.pmt_prof()),
        ("LASS", bits.lass()),
        ("SEPT_VE_DISABLE", bits.sept_ve_disable()),
        ("MIGRATABLE", bits.migratable()),
        ("PKS", bits.pks()),
        ("KL", bits.kl()),
        ("TPA", bits.tpa()),
        ("PERFMON", bits.perfmon()),
        ("reserved bits", reserved),
    ]);
    Node::number("td_attributes", bits.into_bits(), names)
}

fn xfam(bits: Xfam) -> Node {
    let names = set([
        ("x87", bits.x87()),
        ("SSE", bits.sse()),
        ("AVX", bits.avx()),
        ("MPX", bits.mpx() != 0),
        ("AVX-512", bits.avx512() != 0),
        ("PT", bits.pt()),
        ("PKRU", bits.pkru()),
        ("PASID", bits.pasid()),
        ("CET", bits.cet() != 0),
        ("HDC", bits.hdc()),
        ("UINTR", bits.uintr()),
        ("LBR", bits.lbr()),
        ("HWP", bits.hwp()),
        ("AMX", bits.amx() != 0),
        ("reserved bits", bits.reserved() != 0),
    ]);
    Node::number("xfam", bits.into_bits(), names)
}

fn enclave(report: &EnclaveReportBody) -> Vec<Node> {
    use tsmsim_abi::tdx::qe::EnclaveFlags;
    let flags = EnclaveFlags::from(report.attributes_flags.get());
    let names = set([
        ("INIT", flags.init()),
        ("DEBUG", flags.debug()),
        ("MODE64BIT", flags.mode64bit()),
        ("PROVISION_KEY", flags.provision_key()),
        ("EINITTOKEN_KEY", flags.einittoken_key()),
        ("CET", flags.cet()),
        ("KSS", flags.kss()),
        ("AEX_NOTIFY", flags.aex_notify()),
    ]);
    let reserved: [&[u8]; 4] =
        [&report.reserved_0x14, &report.reserved_0x60, &report.reserved_0xa0, &report.reserved_0x106];
    vec![
        Node::bytes("cpu_svn", &report.cpu_svn, ""),
        Node::number("misc_select", report.misc_select.get().into(), ""),
        Node::bytes("isv_ext_prod_id", &report.isv_ext_prod_id, ""),
        Node::number("attributes.flags", report.attributes_flags.get(), names),
        Node::number("attributes.xfrm", report.attributes_xfrm.get(), ""),
        Node::bytes("mr_enclave", &report.mr_enclave, ""),
        Node::bytes("mr_signer", &report.mr_signer, ""),
        Node::bytes("config_id", &report.config_id, ""),
        Node::number("isv_prod_id", report.isv_prod_id.get().into(), ""),
        Node::number("isv_svn", report.isv_svn.get().into(), ""),
        Node::number("config_svn", report.config_svn.get().into(), ""),
        Node::bytes("isv_family_id", &report.isv_family_id, ""),
        Node::bytes("reserved 14h, 60h, a0h, 106h", &reserved.concat(), ""),
        Node::bytes("report_data", &report.report_data, ""),
    ]
}

fn signature_data(data: &EcdsaSignatureData<'_>) -> Node {
    let fields = vec![
        Node::bytes("r", &data.signature.r, ""),
        Node::bytes("s", &data.signature.s, ""),
        Node::bytes("attestation key, x", &data.attestation_key.x, ""),
        Node::bytes("attestation key, y", &data.attestation_key.y, ""),
        Node::group("QE report", "the quoting enclave", enclave(&data.qe.qe_report)),
        Node::bytes("QE report signature, r", &data.qe.qe_report_signature.r, ""),
        Node::bytes("QE report signature, s", &data.qe.qe_report_signature.s, ""),
        Node::bytes("QE authentication data", data.qe.auth_data, ""),
        certification(&data.qe.certification),
    ];
    Node::group("signature data", "ECDSA P-256, SHA-256", fields)
}

fn certification(data: &CertificationData<'_>) -> Node {
    let meaning = format!("{}, {} bytes", data.data_type, data.data.len());
    let fields = match data.pem_chain() {
        Ok(text) => chain(text),
        Err(_) => vec![Node::bytes("data", data.data, "")],
    };
    Node::group("certification data", meaning, fields)
}

/// The certificates of a PEM chain.
fn chain(text: &str) -> Vec<Node> {
    let blocks = match pem_blocks(text.as_bytes()) {
        Ok(blocks) => blocks,
        Err(error) => return vec![Node::group("malformed", error.to_string(), Vec::new())],
    };
    let blocks = blocks.iter().map(|block| match Certificate::read(&block.der) {
        Ok(certificate) => show_certificate(&certificate),
        Err(malformed) => Node::bytes("certificate", &block.der, malformed.to_string()),
    });
    blocks.collect()
}

/// A TDREPORT; `None` for bytes of another size.
pub(crate) fn show_report(bytes: &[u8]) -> Option<Node> {
    let report = TdReport::read_from_bytes(bytes).ok()?;
    let (head, tcb, td) = (&report.report_mac_struct, &report.tee_tcb_info, &report.td_info);
    let holds =
        |stated: &[u8; 48], part: &[u8]| if sha384(part) == *stated { "holds" } else { "does not hold" };
    let kind = &head.report_type;
    let version = ReportVersion(kind.version);
    let common = vec![
        Node::number("tee_type", kind.tee_type.into(), TeeType(kind.tee_type).name().unwrap_or("unknown")),
        Node::number("subtype", kind.subtype.into(), ""),
        Node::number("version", kind.version.into(), version.name().unwrap_or("unknown")),
        Node::bytes("cpusvn", &head.cpusvn, ""),
        Node::bytes(
            "tee_tcb_info_hash",
            &head.tee_tcb_info_hash,
            holds(&head.tee_tcb_info_hash, tcb.as_bytes()),
        ),
        Node::bytes("tee_info_hash", &head.tee_info_hash, holds(&head.tee_info_hash, td.as_bytes())),
        Node::bytes("report_data", &head.report_data, ""),
        Node::bytes("mac", &head.mac, "only the platform that made it can check it"),
    ];
    let module = vec![
        Node::number("valid", tcb.valid.get(), ""),
        svn("tee_tcb_svn", &tcb.tee_tcb_svn),
        Node::bytes("mr_seam", &tcb.mr_seam, ""),
        Node::bytes("mr_signer_seam", &tcb.mr_signer_seam, ""),
        Node::number("attributes", tcb.attributes.get(), ""),
        svn("tee_tcb_svn2", &tcb.tee_tcb_svn2),
    ];
    let mut domain = vec![
        attributes(td.attribute_bits()),
        xfam(td.xfam_bits()),
        Node::bytes("mr_td", &td.mr_td, ""),
        Node::bytes("mr_config_id", &td.mr_config_id, ""),
        Node::bytes("mr_owner", &td.mr_owner, ""),
        Node::bytes("mr_owner_config", &td.mr_owner_config, ""),
    ];
    let rtmrs = td.rtmr.iter().zip(0..);
    domain.extend(rtmrs.map(|(value, index)| Node::bytes(format!("rtmr{index}"), value, "")));
    domain.push(Node::bytes("servtd_hash", &td.servtd_hash, ""));
    let regions: [&[u8]; 6] = [
        &[kind.reserved],
        &head.reserved_0x4,
        &head.reserved_0xc0,
        &tcb.reserved,
        &report.reserved,
        &td.reserved,
    ];
    let fields = vec![
        Node::group("REPORTMACSTRUCT", "", common),
        Node::group("TEE_TCB_INFO", "", module),
        Node::group("TDINFO", "", domain),
        Node::bytes("reserved", &regions.concat(), ""),
    ];
    Some(Node::group("TDREPORT", "TDX", fields))
}

/// Collateral: certificates and lists decoded, the signed documents as they stand.
pub(crate) fn show_collateral(bytes: &[u8]) -> Result<Node, CollateralError> {
    let read = Collateral::read(bytes)?;
    let list = |name: &'static str, der: &[u8]| match RevocationList::read(der) {
        Ok(list) => Node::group(name, "", vec![show_crl(&list)]),
        Err(malformed) => Node::bytes(name, der, malformed.to_string()),
    };
    let mut fields = vec![
        Node::group("pck_crl_issuer_chain", "", chain(&read.pck_crl_issuer_chain)),
        list("root_ca_crl", &read.root_ca_crl),
        list("pck_crl", &read.pck_crl),
        Node::group("tcb_info_issuer_chain", "", chain(&read.tcb_info_issuer_chain)),
        document("tcb_info", &read.tcb_info),
        Node::bytes("tcb_info_signature", &read.tcb_info_signature, ""),
        Node::group("qe_identity_issuer_chain", "", chain(&read.qe_identity_issuer_chain)),
        document("qe_identity", &read.qe_identity),
        Node::bytes("qe_identity_signature", &read.qe_identity_signature, ""),
    ];
    let pck = read.pck_certificate_chain.as_deref();
    fields.extend(pck.map(|text| Node::group("pck_certificate_chain", "", chain(text))));
    Ok(Node::group("collateral", "", fields))
}

fn document(name: &'static str, text: &str) -> Node {
    match serde_json::from_str(text) {
        Ok(value) => {
            Node::group(name, format!("{} bytes, signed as they stand", text.len()), members(&value))
        }
        Err(error) => Node::group(name, error.to_string(), Vec::new()),
    }
}

fn members(value: &serde_json::Value) -> Vec<Node> {
    use serde_json::Value;
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| member(&printable(name), value)).collect(),
        Value::Array(list) => {
            list.iter().zip(0..).map(|(value, at)| member(&format!("[{at}]"), value)).collect()
        }
        _ => Vec::new(),
    }
}

/// A member: components as one line of numbers, hexadecimal digits as bytes, everything else as it stands.
fn member(name: &str, value: &serde_json::Value) -> Node {
    use serde_json::Value;
    let svn = |item: &Value| item.get("svn").and_then(Value::as_u64);
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(|item| svn(item).is_some()) => {
            let numbers: Vec<String> = list.iter().filter_map(svn).map(|number| number.to_string()).collect();
            Node::group(name, numbers.join(" "), Vec::new())
        }
        Value::Object(_) | Value::Array(_) => Node::group(name, "", members(value)),
        Value::String(text) => match unhex(text) {
            Some(bytes) if bytes.len() >= 2 => Node::bytes(name, &bytes, ""),
            _ => Node::group(name, printable(text), Vec::new()),
        },
        other => Node::group(name, other.to_string(), Vec::new()),
    }
}
