//! TCB info and QE identity: that they are Intel's, in force, and of this platform; and which level the platform reaches.

use tsmsim_abi::tdx::{
    pck::{SgxTcb, at_least},
    quote::{BodyType, QuoteBody},
    report::TeeTcbSvn,
};

use super::{
    Chain, Collateral, Policy, SgxExtension, TcbStatus,
    documents::{Level, QeIdentity, TcbInfo, TdxModule, TdxModuleIdentity},
};
use crate::{
    Timestamp, Verdict,
    hex::hex,
    profile::{next_update, this_update},
    x509::verify_ecdsa_p256_fixed,
};

pub(super) const TCB_INFO: &str = "TCB info";
pub(super) const QE_IDENTITY: &str = "QE identity";

/// What Intel says of modules.
const MODULE_STATUSES: [TcbStatus; 3] = [TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::Revoked];

/// A status and the advisories that go with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reached {
    pub(super) status: TcbStatus,
    pub(super) advisories: Vec<String>,
}

impl Reached {
    pub(super) fn new<T>(level: &Level<T>) -> Self {
        Self { status: level.tcb_status, advisories: level.advisory_ids.clone() }
    }

    pub(super) fn add(&mut self, advisories: &[String]) {
        for id in advisories {
            if !self.advisories.contains(id) {
                self.advisories.push(id.clone());
            }
        }
    }
}

/// What both kinds of document have.
struct Common<'a> {
    object: &'static str,
    id: &'a str,
    expected_id: &'static str,
    version: (u32, u32),
    issue_date: Timestamp,
    next_update: Timestamp,
    number: u32,
}

fn judge_common(verdict: &mut Verdict, common: &Common<'_>, policy: &Policy) {
    let Common { object, id, expected_id, version: (version, expected), .. } = *common;
    let id = if id == expected_id {
        Ok(id.to_owned())
    } else {
        Err(format!("{id:?}, where {expected_id} is expected"))
    };
    verdict.judge(object, "id", id);
    let text = version.to_string();
    verdict.judge(object, "version", if version == expected { Ok(text) } else { Err(text) });
    verdict.judge(object, "issueDate", this_update(common.issue_date, verdict.at));
    verdict.judge(object, "nextUpdate", next_update(common.next_update, verdict.at));
    let (number, minimum) = (common.number, policy.minimum_evaluation_data_number);
    let number = if number >= minimum {
        Ok(number.to_string())
    } else {
        Err(format!("{number}, where at least {minimum} is demanded"))
    };
    verdict.judge(object, "tcbEvaluationDataNumber", number);
}

/// The signature over the exact text.
fn judge_signature(
    verdict: &mut Verdict,
    object: &'static str,
    key: Option<&[u8; 65]>,
    text: &str,
    signature: &[u8],
) {
    let result = match key {
        Some(key) => verify_ecdsa_p256_fixed(key, text.as_bytes(), signature),
        None => Err("there is no TCB signing certificate to check it with".to_owned()),
    };
    verdict.judge(object, "signature", result.map(|()| "by the TCB signing certificate"));
}

fn read<T: serde::de::DeserializeOwned>(
    verdict: &mut Verdict,
    object: &'static str,
    text: &str,
) -> Option<T> {
    match serde_json::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            verdict.judge(object, "JSON", Err::<&str, _>(error.to_string()));
            None
        }
    }
}

/// Judges TCB info, and by it the platform and the module.
pub(super) fn judge_tcb_info(
    verdict: &mut Verdict,
    collateral: &Collateral,
    chain: &Chain,
    body: Option<&QuoteBody>,
    policy: &Policy,
) -> Option<Reached> {
    let (text, signature) = (&collateral.tcb_info, &collateral.tcb_info_signature);
    let key = chain.tcb_signing_key.as_ref();
    let Some(mut info) = read::<TcbInfo>(verdict, TCB_INFO, text) else {
        judge_signature(verdict, TCB_INFO, key, text, signature);
        return None;
    };
    let enclave = body.is_some_and(|body| body.body_type() == BodyType::SGX_ENCLAVE_REPORT);
    let common = Common {
        object: TCB_INFO,
        id: &info.id,
        expected_id: if enclave { "SGX" } else { "TDX" },
        version: (info.version, 3),
        issue_date: info.issue_date,
        next_update: info.next_update,
        number: info.tcb_evaluation_data_number,
    };
    judge_common(verdict, &common, policy);
    let tcb_type = info.tcb_type.to_string();
    verdict.judge(TCB_INFO, "tcbType", if info.tcb_type == 0 { Ok(tcb_type) } else { Err(tcb_type) });
    judge_signature(verdict, TCB_INFO, key, text, signature);
    let platform = chain.platform.as_ref()?;
    equal(verdict, "fmspc", &info.fmspc, &platform.fmspc);
    equal(verdict, "pceId", &info.pce_id, &platform.pce_id);
    sort(&mut info.tcb_levels);
    match body? {
        QuoteBody::Enclave(_) => {
            let level = info.tcb_levels.iter().find(|level| platform.tcb.at_least(&level.tcb.sgx()));
            report_level(verdict, "TCB level", level.map(|level| (Reached::new(level), level.tcb_date)))
        }
        QuoteBody::Td10(td) => {
            judge_module(verdict, &info, &td.tee_tcb_svn, &td.mr_signer_seam, td.seam_attributes.get());
            td_level(verdict, &info, platform, &td.tee_tcb_svn, "TCB level")
        }
        QuoteBody::Td15(td) => {
            let base = &td.base;
            judge_module(verdict, &info, &base.tee_tcb_svn, &base.mr_signer_seam, base.seam_attributes.get());
            let mut launch = td_level(verdict, &info, platform, &base.tee_tcb_svn, "TCB level")?;
            let current = td_level(verdict, &info, platform, &td.tee_tcb_svn2, "current TCB level")?;
            launch.status = launch.status.with_current(current.status);
            Some(launch)
        }
    }
}

fn equal(verdict: &mut Verdict, field: &'static str, document: &[u8], certificate: &[u8]) {
    let result = if document == certificate {
        Ok(format!("{}, as in the PCK", hex(document)))
    } else {
        Err(format!("{}, but the PCK has {}", hex(document), hex(certificate)))
    };
    verdict.judge(TCB_INFO, field, result);
}

/// Highest first, as verifiers do whatever the order of the text: by SGX components, PCESVN, TDX components.
fn sort(levels: &mut [Level<super::documents::Tcb>]) {
    levels.sort_by_key(|level| {
        let sgx = level.tcb.sgx();
        std::cmp::Reverse((sgx.components, sgx.pce_svn, level.tcb.tdx()))
    });
}

/// The identity of the module's major version; the outer error says that there is none.
fn module_identity<'a>(info: &'a TcbInfo, svn: &TeeTcbSvn) -> Result<Option<&'a TdxModuleIdentity>, String> {
    if svn.module_major_version == 0 {
        return Ok(None);
    }
    let id = format!("TDX_{:02X}", svn.module_major_version);
    let found = info.tdx_module_identities.iter().find(|identity| identity.id.eq_ignore_ascii_case(&id));
    found.map(Some).ok_or_else(|| format!("no identity {id} in the TCB info"))
}

fn judge_module(verdict: &mut Verdict, info: &TcbInfo, svn: &TeeTcbSvn, signer: &[u8; 48], attributes: u64) {
    let module: Result<&TdxModule, String> = match (module_identity(info, svn), &info.tdx_module) {
        (Ok(Some(identity)), _) => Ok(&identity.module),
        (Ok(None), Some(module)) => Ok(module),
        (Ok(None), None) => Err("no tdxModule in the TCB info".to_owned()),
        (Err(why), _) => Err(why),
    };
    let result = module.and_then(|module| {
        let mask = u64::from_le_bytes(module.attributes_mask);
        if module.mrsigner != *signer {
            return Err("MRSIGNERSEAM is not the mrsigner".to_owned());
        }
        if attributes & mask != u64::from_le_bytes(module.attributes) & mask || attributes & !mask != 0 {
            return Err(format!("SEAMATTRIBUTES are {attributes:#x}, not as demanded"));
        }
        Ok("signer and attributes as demanded")
    });
    verdict.judge(TCB_INFO, "TDX module identity", result);
}

/// The level of platform and module. Where the module has an identity of its own, the first two TDX components are judged by that.
fn td_level(
    verdict: &mut Verdict,
    info: &TcbInfo,
    platform: &SgxExtension,
    svn: &TeeTcbSvn,
    field: &'static str,
) -> Option<Reached> {
    let identity = module_identity(info, svn);
    let own = matches!(identity, Ok(Some(_)));
    let reaches = |sgx: &SgxTcb, tdx: Option<[u8; 16]>| {
        let mut have = svn.components();
        if own {
            [have[0], have[1]] = [u8::MAX; 2];
        }
        platform.tcb.at_least(sgx) && tdx.is_some_and(|wanted| at_least(&have, &wanted))
    };
    let level = info.tcb_levels.iter().find(|level| reaches(&level.tcb.sgx(), level.tcb.tdx()));
    let mut reached = report_level(verdict, field, level.map(|level| (Reached::new(level), level.tcb_date)))?;
    let identity = identity.ok()?;
    if let Some(identity) = identity {
        let mut levels: Vec<_> = identity.tcb_levels.iter().collect();
        levels.sort_by_key(|level| std::cmp::Reverse(level.tcb.isvsvn));
        let level = levels.into_iter().find(|level| level.tcb.isvsvn <= u16::from(svn.module_svn));
        let module = level.map(|level| (Reached::new(level), level.tcb_date));
        let module = report_level(verdict, "TDX module TCB level", module)?;
        if !MODULE_STATUSES.contains(&module.status) {
            let why = format!("{}, which no module identity has", module.status);
            verdict.judge(TCB_INFO, "TDX module tcbStatus", Err::<&str, _>(why));
            return None;
        }
        reached.status = reached.status.with_component(module.status);
        reached.add(&module.advisories);
    }
    Some(reached)
}

fn report_level(
    verdict: &mut Verdict,
    field: &'static str,
    level: Option<(Reached, Timestamp)>,
) -> Option<Reached> {
    let text = match &level {
        Some((reached, date)) => Ok(format!("{}, of {date}", reached.status)),
        None => Err("none that the platform reaches"),
    };
    verdict.judge(TCB_INFO, field, text);
    level.map(|(reached, _)| reached)
}

/// Judges QE identity as a document.
pub(super) fn judge_qe_identity(
    verdict: &mut Verdict,
    collateral: &Collateral,
    chain: &Chain,
    body: Option<&QuoteBody>,
    policy: &Policy,
) -> Option<QeIdentity> {
    let (text, signature) = (&collateral.qe_identity, &collateral.qe_identity_signature);
    let identity = read::<QeIdentity>(verdict, QE_IDENTITY, text);
    if let Some(identity) = &identity {
        let enclave = body.is_some_and(|body| body.body_type() == BodyType::SGX_ENCLAVE_REPORT);
        let common = Common {
            object: QE_IDENTITY,
            id: &identity.id,
            expected_id: if enclave { "QE" } else { "TD_QE" },
            version: (identity.version, 2),
            issue_date: identity.issue_date,
            next_update: identity.next_update,
            number: identity.tcb_evaluation_data_number,
        };
        judge_common(verdict, &common, policy);
    }
    judge_signature(verdict, QE_IDENTITY, chain.tcb_signing_key.as_ref(), text, signature);
    identity
}

#[cfg(test)]
mod tests;
