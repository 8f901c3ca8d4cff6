//! Intel TDX evidence: a quote, the certificates that it stands on and the collateral by which they are judged. Quotes of
//! SGX enclaves, which have the same form, are judged too.
//!
//! What is demanded: Intel, *TDX DCAP Quoting Library API*, appendix A (quotes); *SGX PCK Certificate and Certificate
//! Revocation List Profile Specification* (certificates, lists); PCS API version 4 (TCB info version 3, enclave identity
//! version 2, and how TCB levels are compared).

mod bundle;
mod certificates;
mod chain;
mod collateral;
mod crl;
mod documents;
mod extension;
mod log;
mod picture;
mod policy;
mod qe;
mod quote;
mod report;
mod root;
mod show;
mod status;
mod tcb;

pub use bundle::Bundle;
pub use certificates::CertificateKind;
use chain::Chain;
pub use collateral::{Collateral, CollateralError};
pub use extension::SgxExtension;
pub(crate) use extension::show_extension;
pub use log::replay;
pub(crate) use log::{is_log, is_table, show_log, show_table};
pub use picture::svg;
pub use policy::Policy;
pub(crate) use report::is_report;
pub(crate) use root::vendor_name;
pub use root::{VENDOR_ROOT_NAME, VENDOR_ROOT_SHA256};
pub(crate) use show::{is_collateral, is_quote, show_collateral, show_quote, show_report};
pub use status::TcbStatus;
use tsmsim_abi::tdx::quote::Quote;

pub use crate::TrustedRoot;
use crate::{Verdict, tdx::tcb::Reached};

/// A verdict, and the TCB status that it was reached at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appraisal {
    /// Every check.
    pub verdict: Verdict,
    /// What collateral, platform, module and quoting enclave come to; `None` where it could not be told.
    pub status: Option<TcbStatus>,
    /// Intel's advisories for the levels that were reached.
    pub advisories: Vec<String>,
}

/// Judges a quote and everything that it stands on. Every check is made, whatever fails before it.
#[must_use]
pub fn verify(bundle: &Bundle, policy: &Policy) -> Verdict {
    appraise(bundle, policy).verdict
}

/// [`verify`], with the TCB status.
#[must_use]
pub fn appraise(bundle: &Bundle, policy: &Policy) -> Appraisal {
    let mut verdict = Verdict::new(policy.at);
    let quote = match Quote::read(&bundle.quote) {
        Ok(quote) => Some(quote),
        Err(error) => {
            verdict.judge(quote::OBJECT, "layout", Err::<&str, _>(error.to_string()));
            None
        }
    };
    if let Some(quote) = &quote {
        quote::judge_form(&mut verdict, quote, policy);
    }
    let signature = quote.as_ref().and_then(|quote| match quote.signature() {
        Ok(signature) => Some(signature),
        Err(error) => {
            verdict.judge(quote::OBJECT, "signature data", Err::<&str, _>(error.to_string()));
            None
        }
    });
    let body = quote.as_ref().map(|quote| &quote.signed.body);
    let collateral = read_collateral(&mut verdict, bundle, policy);
    let certification = signature.as_ref().map(|signature| &signature.qe.certification);
    let chain = chain::judge(&mut verdict, bundle, certification, collateral.as_ref(), policy);
    let (mut platform, mut identity) = (None, None);
    if let Some(collateral) = &collateral {
        identity = tcb::judge_qe_identity(&mut verdict, collateral, &chain, body, policy);
        platform = tcb::judge_tcb_info(&mut verdict, collateral, &chain, body, policy);
    }
    let enclave = signature.as_ref().and_then(|it| qe::judge(&mut verdict, it, &chain, identity.as_ref()));
    if let Some(body) = body {
        quote::judge_body(&mut verdict, body, bundle, policy);
    }
    if let (Some(quote), Some(signature)) = (&quote, &signature) {
        quote::judge_signature(&mut verdict, &bundle.quote, quote, signature);
    }
    let reached = judge_status(&mut verdict, collateral.is_some(), platform, enclave, policy);
    report::judge(&mut verdict, bundle.td_report.as_deref(), body);
    report::judge_log(&mut verdict, bundle.event_log.as_deref(), body);
    let (status, advisories) = reached.map_or((None, Vec::new()), |it| (Some(it.status), it.advisories));
    Appraisal { verdict, status, advisories }
}

fn read_collateral(verdict: &mut Verdict, bundle: &Bundle, policy: &Policy) -> Option<Collateral> {
    const OBJECT: &str = "collateral";
    let Some(bytes) = &bundle.collateral else {
        let why = "none given: neither revocation nor the TCB can be judged";
        if policy.require_collateral {
            verdict.judge(OBJECT, "JSON", Err::<&str, _>(why));
        } else {
            verdict.skip(OBJECT, "JSON", why);
        }
        return None;
    };
    match Collateral::read(bytes) {
        Ok(collateral) => Some(collateral),
        Err(error) => {
            verdict.judge(OBJECT, "JSON", Err::<&str, _>(error.to_string()));
            None
        }
    }
}

/// What platform and quoting enclave come to together, and whether that is good enough.
fn judge_status(
    verdict: &mut Verdict,
    collateral: bool,
    platform: Option<Reached>,
    enclave: Option<Reached>,
    policy: &Policy,
) -> Option<Reached> {
    const OBJECT: &str = "TCB";
    let (Some(mut reached), Some(enclave)) = (platform, enclave) else {
        if collateral {
            verdict.judge(OBJECT, "status", Err::<&str, _>("cannot be told"));
        } else {
            verdict.skip(OBJECT, "status", "cannot be told without collateral");
        }
        return None;
    };
    reached.status = reached.status.with_component(enclave.status);
    reached.add(&enclave.advisories);
    let mut text = reached.status.to_string();
    if !reached.advisories.is_empty() {
        text = format!("{text}; advisories: {}", reached.advisories.join(", "));
    }
    let text = crate::tree::printable(&text);
    let accepted = reached.status != TcbStatus::Revoked && policy.accepted_statuses.contains(&reached.status);
    verdict.judge(OBJECT, "status", if accepted { Ok(text) } else { Err(text) });
    Some(reached)
}
