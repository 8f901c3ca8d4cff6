//! The chain as a picture.

use super::{Bundle, CertificateKind, Claims, chain::Files, token::Component};
use crate::{
    Verdict,
    hex::short,
    picture::{Part, certificate_line, draw},
    x509::Certificate,
};

/// An SVG picture: from the root over RoT, platform and TSM down to the TVM's certificate, a box each with what it is and
/// whether it passed, and the verdict. The same input gives the same bytes.
#[must_use]
pub fn svg(bundle: &Bundle, verdict: &Verdict) -> String {
    let claims = Claims::read(&bundle.evidence).ok();
    let line = |of: fn(&Claims) -> String| claims.as_ref().map_or_else(|| "cannot be read".to_owned(), of);
    let platform =
        line(|claims| format!("{}, {}", claims.platform.state, software(claims.platform.components.iter())));
    let tsm = line(|claims| software([&claims.tsm.tsm_driver, &claims.tsm.tsm].into_iter()));
    let tvm = line(|claims| {
        let pages = claims.tvm.initial.get(tsmsim_abi::cove::claims::register::TVM_PAGES);
        let pages = pages.map(|register| short(&register.value)).unwrap_or_default();
        format!("measured pages {pages}")
    });
    let format = match bundle.evidence.first() {
        Some(0x30) => "X.509, with the tokens in an extension",
        _ => "CBOR, around the tokens",
    };
    let rot = rot_line(Files::rot_of(bundle).as_deref());
    let judged = |title, line, objects: &'static [&'static str]| {
        Part::judged(title, line, verdict, move |check| objects.contains(&check.object))
    };
    let root = CertificateKind::Root.name();
    let certificate = CertificateKind::Tvm.name();
    let parts = [
        judged(root, certificate_line(bundle.root.as_deref()), &["root CA", "CRL", "chain"]),
        Part::of(CertificateKind::Rot.name(), rot, verdict),
        judged("platform token", platform, &["platform token", "platform certificate"]),
        judged("TSM token", tsm, &["TSM token", "TSM certificate"]),
        judged("TVM token", tvm, &["TVM token", "registers"]).with_arrow(Some("within")),
        Part::of(certificate, format.to_owned(), verdict).with_arrow(None),
    ];
    draw(&parts, verdict)
}

fn software<'a>(components: impl Iterator<Item = &'a Component>) -> String {
    let names: Vec<String> =
        components.map(|component| format!("{} {}", component.name, component.svn)).collect();
    names.join(", ")
}

/// RoTs have no common name.
fn rot_line(der: Option<&[u8]>) -> String {
    match der.map(Certificate::read) {
        Some(Ok(certificate)) => certificate.subject.to_string(),
        Some(Err(_)) => "cannot be read".to_owned(),
        None => "missing".to_owned(),
    }
}
