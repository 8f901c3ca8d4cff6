//! The tokens one by one, each by the key of the one above, and the certificate around them.

use tsmsim_abi::cove::claims::PlatformState;

use super::{
    Bundle, CertificateKind, Policy,
    certificates::{self, Issuer, is_id, parse_id},
    chain::Chain,
    envelope::{Envelope, Tokens},
    key::{algorithm_name, cdi_id},
    registers,
    token::{PlatformClaims, Sign1, TsmClaims, TvmClaims},
};
use crate::{
    Verdict,
    hex::{first_difference, hex, short},
    profile::subject_key_identifier,
    x509::{Certificate, KnownKey, Malformed},
};

const PLATFORM: &str = "platform token";
const TSM: &str = "TSM token";
const TVM: &str = "TVM token";

/// Judges everything in the evidence.
pub(super) fn judge(
    verdict: &mut Verdict,
    envelope: &Envelope<'_>,
    tokens: &Tokens,
    chain: &Chain<'_>,
    bundle: &Bundle,
    policy: &Policy,
) {
    let platform = claims(verdict, PLATFORM, &tokens.platform, PlatformClaims::read);
    judge_kid(verdict, PLATFORM, &tokens.platform, chain.rot_key.as_ref());
    if let Some(platform) = &platform {
        judge_platform(verdict, platform, policy);
        judge_same_key(
            verdict,
            PLATFORM,
            "platform",
            &platform.public_key,
            chain.platform_key.as_ref(),
            chain,
        );
    }
    judge_signature(verdict, PLATFORM, &tokens.platform, "RoT", chain.rot_key.as_ref());

    let tsm = claims(verdict, TSM, &tokens.tsm, TsmClaims::read);
    judge_kid(verdict, TSM, &tokens.tsm, None);
    if let Some(tsm) = &tsm {
        judge_same_key(verdict, TSM, "TSM", &tsm.public_key, chain.tsm_key.as_ref(), chain);
    }
    let platform_key = platform.as_ref().map(|platform| &platform.public_key);
    judge_signature(verdict, TSM, &tokens.tsm, "platform", platform_key);

    let tvm = claims(verdict, TVM, &tokens.tvm, TvmClaims::read);
    judge_kid(verdict, TVM, &tokens.tvm, None);
    if let Some(tvm) = &tvm {
        judge_tvm(verdict, tvm, bundle, policy);
    }
    let tsm_key = tsm.as_ref().map(|tsm| &tsm.public_key);
    judge_signature(verdict, TVM, &tokens.tvm, "TSM", tsm_key);
    if let (Some(platform), Some(tsm), Some(tvm)) = (&platform, &tsm, &tvm) {
        registers::judge(verdict, platform, tsm, tvm);
    }
    let tvm_key = tvm.as_ref().map(|tvm| &tvm.public_key);
    match envelope {
        Envelope::Cbor { token, issuer, subject } => {
            judge_cbor(verdict, token, [issuer, subject], tsm_key, tvm_key);
        }
        Envelope::X509(certificate) => judge_x509(verdict, certificate, tsm_key, tvm_key, chain),
    }
}

fn claims<T>(
    verdict: &mut Verdict,
    object: &'static str,
    token: &Sign1,
    read: fn(super::cbor::Claims) -> Result<T, Malformed>,
) -> Option<T> {
    match token.claims().and_then(read) {
        Ok(claims) => {
            verdict.judge(object, "claims", Ok::<_, &str>("complete, no others"));
            Some(claims)
        }
        Err(malformed) => {
            verdict.judge(object, malformed.part, Err::<&str, _>(malformed.why));
            None
        }
    }
}

/// The platform token names the RoT's key; the others name none.
fn judge_kid(verdict: &mut Verdict, object: &'static str, token: &Sign1, rot: Option<&KnownKey>) {
    let result = match (object == PLATFORM, &token.kid, rot.map(cdi_id)) {
        (false, None, _) => return,
        (false, Some(_), _) => Err("does not belong into this token"),
        (true, None, _) => Err("missing"),
        (true, Some(kid), Some(id)) if *kid == id => Ok("the RoT's UDS_ID"),
        (true, ..) => Err("not the UDS_ID of the RoT"),
    };
    verdict.judge(object, "kid", result);
}

fn judge_platform(verdict: &mut Verdict, platform: &PlatformClaims, policy: &Policy) {
    let state = platform.state;
    let result = match state {
        PlatformState::SECURED => Ok(state.to_string()),
        PlatformState::DEBUG if policy.allow_debug => Ok(state.to_string()),
        _ => Err(format!("{state}, where SECURED is demanded")),
    };
    verdict.judge(PLATFORM, "platform-state", result);
    judge_expected(
        verdict,
        PLATFORM,
        "platform-manufacturer-id",
        &platform.manufacturer_id,
        policy.manufacturer_id.as_ref().map(<[u8; 64]>::as_slice),
    );
}

/// The key that a token holds, and the one that the layer's certificate holds.
fn judge_same_key(
    verdict: &mut Verdict,
    object: &'static str,
    layer: &str,
    key: &KnownKey,
    certified: Option<&KnownKey>,
    chain: &Chain<'_>,
) {
    const FIELD: &str = "key = certificate's";
    let result = match certified {
        Some(certified) if certified == key => Ok("the same"),
        None if !chain.has_layers => {
            verdict.skip(object, FIELD, format!("no {layer} certificate given"));
            return;
        }
        _ => Err("another key"),
    };
    verdict.judge(object, FIELD, result);
}

fn judge_signature(
    verdict: &mut Verdict,
    object: &'static str,
    token: &Sign1,
    by: &str,
    key: Option<&KnownKey>,
) {
    let signature = match key {
        Some(key) => token.verify(key),
        None => Err(format!("there is no key of the {by} to check it with")),
    };
    let detail = |()| format!("by the {by}, {}", algorithm_name(token.algorithm));
    verdict.judge(object, "signature", signature.map(detail));
}

fn judge_expected(
    verdict: &mut Verdict,
    object: &'static str,
    field: impl Into<std::borrow::Cow<'static, str>>,
    found: &[u8],
    expected: Option<&[u8]>,
) {
    let field = field.into();
    match expected {
        None => verdict.skip(object, field, format!("{}; no value expected", short(found))),
        Some(expected) if expected == found => {
            verdict.judge(object, field, Ok::<_, &str>("as expected"));
        }
        Some(expected) => {
            let why = match first_difference(found, expected) {
                Some(at) => {
                    format!("{}, where {} is expected; byte {at} differs", short(found), short(expected))
                }
                None => format!("{} bytes, where {} are expected", found.len(), expected.len()),
            };
            verdict.judge(object, field, Err::<&str, _>(why));
        }
    }
}

fn judge_tvm(verdict: &mut Verdict, tvm: &TvmClaims, bundle: &Bundle, policy: &Policy) {
    judge_expected(verdict, TVM, "tvm-challenge", &tvm.challenge, bundle.inblob.as_deref());
    match (&tvm.identity, &policy.identity) {
        (None, Some(_)) => {
            verdict.judge(TVM, "tvm-identity", Err::<&str, _>("none, where one is expected"));
        }
        (Some(found), expected) => {
            let expected = expected.as_ref().map(<[u8; 64]>::as_slice);
            judge_expected(verdict, TVM, "tvm-identity", found, expected);
        }
        (None, None) => verdict.skip(TVM, "tvm-identity", "none"),
    }
    if policy.registers.is_empty() {
        verdict.skip(TVM, "measurements", "no value expected");
    }
    for (index, expected) in &policy.registers {
        let field = format!("register {index}");
        match tvm.registers().find(|register| register.index == *index) {
            Some(register) => judge_expected(verdict, TVM, field, &register.value, Some(expected)),
            None => {
                verdict.judge(TVM, field, Err::<&str, _>("there is no such register"));
            }
        }
    }
}

/// Issuer, subject and signature of a CBOR certificate.
fn judge_cbor(
    verdict: &mut Verdict,
    token: &Sign1,
    [issuer, subject]: [&String; 2],
    tsm: Option<&KnownKey>,
    tvm: Option<&KnownKey>,
) {
    let object = CertificateKind::Tvm.name();
    let result = match tsm.map(cdi_id) {
        Some(id) if hex(&id) == *issuer => Ok("the TSM's CDI_ID"),
        _ => Err("not the CDI_ID of the TSM's key"),
    };
    verdict.judge(object, "issuer", result);
    let result = match parse_id(subject) {
        Some(id) => Ok(subject_detail(id.as_slice(), tvm)),
        None => Err("not a CDI_ID: 40 lower-case hexadecimal digits of a positive number of 20 bytes"),
    };
    verdict.judge(object, "subject", result);
    judge_signature(verdict, object, token, "TSM", tsm);
}

/// The TVM's key may be its own or the one that it gave; only the former gives the identifier.
fn subject_detail(id: &[u8], tvm: Option<&KnownKey>) -> &'static str {
    if tvm.is_some_and(|key| cdi_id(key) == id) {
        "the CDI_ID of the TVM's key"
    } else {
        "a CDI_ID; the TVM gave another key"
    }
}

fn judge_x509(
    verdict: &mut Verdict,
    certificate: &Certificate<'_>,
    tsm: Option<&KnownKey>,
    tvm: Option<&KnownKey>,
    chain: &Chain<'_>,
) {
    let kind = CertificateKind::Tvm;
    let key = KnownKey::of(&certificate.public_key).ok();
    let result = match tvm {
        Some(tvm) if key.as_ref() == Some(tvm) => Ok("as the TVM token's"),
        _ => Err("not the key of the TVM token"),
    };
    verdict.judge(kind.name(), "key = TVM token's", result);
    let result = match subject_key_identifier(certificate) {
        Some(id) if is_id(id) => Ok(subject_detail(id, tvm)),
        _ => Err("not a CDI_ID: a positive number of 20 bytes"),
    };
    verdict.judge(kind.name(), "CDI_ID", result);
    let issuer = match &chain.tsm {
        Some(tsm) => Issuer::layer(Some(tsm)),
        None => Issuer::with_key(tsm.cloned()),
    };
    certificates::judge(verdict, kind, certificate, &issuer);
}
