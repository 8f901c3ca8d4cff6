//! The SGX extension of PCK certificates (Intel, *SGX PCK Certificate and CRL Profile Specification* 1.5, section 1.3.5).

use der::{
    Tag,
    asn1::{ObjectIdentifier, OctetStringRef},
};
use tsmsim_abi::tdx::pck::{
    CACHED_KEYS, CONFIGURATION, CPUSVN, DYNAMIC_PLATFORM, FMSPC, PCEID, PCESVN, PLATFORM_INSTANCE_ID, PPID,
    SGX_EXTENSIONS, SGX_TYPE, SMT_ENABLED, SgxTcb, SgxType, TCB, TCB_COMPONENTS,
};

use crate::{
    Node,
    x509::{Element, Extension, Malformed, Walk},
};

/// What a PCK certificate says of its platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SgxExtension {
    /// Identifier of the platform.
    pub ppid: [u8; 16],
    /// The TCB that the key belongs to.
    pub tcb: SgxTcb,
    /// `CPUSVN`.
    pub cpu_svn: [u8; 16],
    /// Identifier of the provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// What protects memory.
    pub sgx_type: SgxType,
    /// Platform CA only.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Platform CA only: dynamic platform, cached keys, SMT enabled.
    pub configuration: Option<[bool; 3]>,
}

/// Whether an extension is this one.
pub(super) fn is_sgx(oid: ObjectIdentifier) -> bool {
    oid.to_string() == SGX_EXTENSIONS
}

impl SgxExtension {
    /// Reads what is in `extnValue`: the fields in the order of the specification, nothing else.
    ///
    /// # Errors
    /// Which part is malformed.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Walk::only(value, Tag::Sequence, "SGX Extensions")?.walk()?;
        let ppid = octets(pair(&mut fields, PPID, "PPID")?)?;
        let (tcb, cpu_svn) = read_tcb(pair(&mut fields, TCB, "TCB")?)?;
        let pce_id = octets(pair(&mut fields, PCEID, "PCE-ID")?)?;
        let fmspc = octets(pair(&mut fields, FMSPC, "FMSPC")?)?;
        let sgx_type = pair(&mut fields, SGX_TYPE, "SGX Type")?;
        let sgx_type = match (sgx_type.tag, sgx_type.value) {
            (Tag::Enumerated, [number @ 0..=2]) => SgxType(*number),
            _ => return Err(sgx_type.malformed("not an ENUMERATED from 0 to 2")),
        };
        let (mut platform_instance_id, mut configuration) = (None, None);
        if !fields.is_finished() {
            platform_instance_id =
                Some(octets(pair(&mut fields, PLATFORM_INSTANCE_ID, "Platform Instance ID")?)?);
            configuration = Some(read_configuration(pair(&mut fields, CONFIGURATION, "Configuration")?)?);
        }
        fields.end()?;
        Ok(Self { ppid, tcb, cpu_svn, pce_id, fmspc, sgx_type, platform_instance_id, configuration })
    }
}

/// SEQUENCE { OBJECT IDENTIFIER, value }, with this identifier.
fn pair<'a>(list: &mut Walk<'a>, oid: &str, part: &'static str) -> Result<Element<'a>, Malformed> {
    let mut fields = list.expect(Tag::Sequence, part)?.walk()?;
    let found: ObjectIdentifier = fields.expect(Tag::ObjectIdentifier, part)?.decode()?;
    let value = fields.next(part)?;
    fields.end()?;
    if found.to_string() == oid {
        Ok(value)
    } else {
        Err(value.malformed(format!("{found}, where {oid} is expected")))
    }
}

fn octets<const N: usize>(element: Element<'_>) -> Result<[u8; N], Malformed> {
    let wrong = || element.malformed(format!("not an OCTET STRING of {N} bytes"));
    if element.tag != Tag::OctetString {
        return Err(wrong());
    }
    element.decode::<&OctetStringRef>()?.as_bytes().try_into().map_err(|_| wrong())
}

fn read_tcb(element: Element<'_>) -> Result<(SgxTcb, [u8; 16]), Malformed> {
    let mut fields = element.walk()?;
    let mut tcb = SgxTcb::default();
    for (component, oid) in tcb.components.iter_mut().zip(TCB_COMPONENTS) {
        *component = pair(&mut fields, oid, "SGX TCB component SVN")?.decode()?;
    }
    tcb.pce_svn = pair(&mut fields, PCESVN, "PCESVN")?.decode()?;
    let cpu_svn = octets(pair(&mut fields, CPUSVN, "CPUSVN")?)?;
    fields.end()?;
    Ok((tcb, cpu_svn))
}

fn read_configuration(element: Element<'_>) -> Result<[bool; 3], Malformed> {
    let mut fields = element.walk()?;
    let mut flags = [false; 3];
    for (flag, oid) in flags.iter_mut().zip([DYNAMIC_PLATFORM, CACHED_KEYS, SMT_ENABLED]) {
        *flag = pair(&mut fields, oid, "Configuration flag")?.decode()?;
    }
    fields.end()?;
    Ok(flags)
}

/// The extension field by field; `None` for other extensions and for what cannot be read.
pub(crate) fn show_extension(extension: &Extension<'_>) -> Option<Node> {
    if !is_sgx(extension.oid) {
        return None;
    }
    let read = SgxExtension::read(extension.value).ok()?;
    let components = read.tcb.components.iter().zip(1..);
    let components = components.map(|(svn, number)| format!("{number:02}: {svn}")).collect::<Vec<_>>();
    let mut fields = vec![
        Node::bytes("PPID", &read.ppid, ""),
        Node::bytes("SGX TCB components", &read.tcb.components, components.join(", ")),
        Node::number("PCESVN", read.tcb.pce_svn.into(), ""),
        Node::bytes("CPUSVN", &read.cpu_svn, ""),
        Node::bytes("PCE-ID", &read.pce_id, ""),
        Node::bytes("FMSPC", &read.fmspc, ""),
        Node::number("SGX Type", read.sgx_type.0.into(), read.sgx_type.name().unwrap_or_default()),
    ];
    fields.extend(read.platform_instance_id.map(|id| Node::bytes("Platform Instance ID", &id, "")));
    if let Some([dynamic, cached, smt]) = read.configuration {
        let flags = [("Dynamic Platform", dynamic), ("Cached Keys", cached), ("SMT Enabled", smt)];
        let flags = flags.map(|(name, set)| Node::number(name, set.into(), if set { "yes" } else { "no" }));
        fields.push(Node::group("Configuration", "", flags.to_vec()));
    }
    let critical = if extension.critical { "critical" } else { "" };
    Some(Node::group("SGX Extensions", critical, fields))
}
