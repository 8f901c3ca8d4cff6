//! Evidence as a tree.

use ciborium::Value;
use tsmsim_abi::cove::{
    claims::{self, OPEN_LABELS, PlatformState, component, measurement},
    cose::{CoseAlgorithm, HEADER_ALG, HEADER_KID, TAG_COSE_SIGN1, TAG_CWT, TAG_UCCS},
};

use super::{
    cbor,
    envelope::{UCCS_EVIDENCE, is_evidence},
    key::read_tvm_key,
};
use crate::{
    Node,
    tree::printable,
    x509::{Certificate, Extension, show_certificate},
};

/// Evidence of either format.
pub(crate) fn show_evidence(bytes: &[u8]) -> Option<Node> {
    if !is_evidence(bytes) {
        return None;
    }
    if let Ok(certificate) = Certificate::read(bytes) {
        return Some(show_certificate(&certificate));
    }
    let value = cbor::read(bytes, "evidence").ok()?;
    Some(sign1("CoVE certificate", "CBOR", value))
}

/// The extension with the tokens, if it is that.
pub(crate) fn show_extension(extension: &Extension<'_>) -> Option<Node> {
    if extension.oid != UCCS_EVIDENCE {
        return None;
    }
    let value = cbor::read(extension.value, "UccsEvidence").ok()?;
    let evidence = cbor::tagged(value, TAG_UCCS, "UccsEvidence").ok()?;
    let critical = if extension.critical { "critical, " } else { "" };
    Some(Node::group(
        "UccsEvidence",
        format!("{critical}tag {TAG_UCCS}"),
        vec![show(Place::Claims, "", evidence)],
    ))
}

/// Where a map stands: what its labels mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Claims,
    Component,
    Measurement,
    Key,
    Other,
}

fn label(place: Place, label: &Value) -> (String, Place) {
    let Value::Integer(number) = label else {
        return (label.as_text().map_or_else(|| "?".to_owned(), printable), Place::Other);
    };
    let number = i64::try_from(*number).unwrap_or(i64::MAX);
    let open = || OPEN_LABELS.iter().find(|open| open.label == number).map(|open| open.name);
    let (name, inner) = match (place, number) {
        (Place::Header, HEADER_ALG) => ("alg", Place::Other),
        (Place::Header, HEADER_KID) => ("kid", Place::Other),
        (Place::Component, component::TYPE) => ("type", Place::Other),
        (Place::Component, component::MEASUREMENT) => ("measurement", Place::Other),
        (Place::Component, component::SVN) => ("svn", Place::Other),
        (Place::Component, component::MANIFEST) => ("manifest", Place::Other),
        (Place::Component, component::SIGNER) => ("signer", Place::Other),
        (Place::Component, component::HASH_ALGORITHM) | (Place::Measurement, measurement::HASH_ALGORITHM) => {
            ("hash algorithm", Place::Other)
        }
        (Place::Measurement, measurement::INDEX) => ("index", Place::Other),
        (Place::Measurement, measurement::VALUE) => ("value", Place::Other),
        (Place::Key, 1) => ("kty", Place::Other),
        (Place::Key, 3) => ("alg", Place::Other),
        (Place::Key, -1) => ("crv", Place::Other),
        (Place::Key, -2) => ("x", Place::Other),
        (Place::Key, -3) => ("y", Place::Other),
        (Place::Claims, claims::ISSUER) => ("issuer", Place::Other),
        (Place::Claims, claims::SUBJECT) => ("subject", Place::Other),
        (Place::Claims, claims::SUBMODULES) => ("submodules", Place::Claims),
        (Place::Claims, claims::EAT_PROFILE) => ("eat-profile", Place::Other),
        (Place::Claims, claims::TVM_CHALLENGE) => ("tvm-challenge", Place::Other),
        (Place::Claims, claims::EVIDENCE) => ("evidence", Place::Claims),
        (Place::Claims, claims::PLATFORM_SW_COMPONENTS | claims::TSM_SW_COMPONENTS) => {
            (open().unwrap_or_default(), Place::Component)
        }
        (Place::Claims, claims::TVM_INITIAL_MEASUREMENTS | claims::TVM_RUNTIME_MEASUREMENTS) => {
            (open().unwrap_or_default(), Place::Measurement)
        }
        (Place::Claims, claims::PLATFORM_PUBLIC_KEY | claims::TSM_PUBLIC_KEY | claims::TVM_PUBLIC_KEY) => {
            (open().unwrap_or_default(), Place::Key)
        }
        (Place::Claims, _) => (open().unwrap_or_default(), Place::Other),
        _ => ("", Place::Other),
    };
    if name.is_empty() { (number.to_string(), inner) } else { (name.to_owned(), inner) }
}

/// A value; depth is bounded by how it was read.
fn show(place: Place, name: &str, value: Value) -> Node {
    match value {
        Value::Integer(number) => Node::group(name, meaning(name, i128::from(number)), Vec::new()),
        Value::Text(text) => Node::group(name, printable(&text), Vec::new()),
        Value::Bytes(bytes) if place == Place::Key => show_key(name, &bytes),
        Value::Bytes(bytes) => Node::bytes(name, &bytes, ""),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            let items: Vec<Node> = items.map(|(index, item)| show(place, &index.to_string(), item)).collect();
            Node::group(name, "", items)
        }
        Value::Map(entries) => Node::group(name, "", map(place, entries)),
        Value::Tag(TAG_COSE_SIGN1, inner) => sign1(name, "COSE_Sign1", Value::Tag(TAG_COSE_SIGN1, inner)),
        Value::Tag(tag, inner) => Node::group(name, format!("tag {tag}"), vec![show(place, "", *inner)]),
        Value::Bool(bit) => Node::group(name, bit.to_string(), Vec::new()),
        Value::Float(number) => Node::group(name, number.to_string(), Vec::new()),
        _ => Node::group(name, "null", Vec::new()),
    }
}

fn map(place: Place, entries: Vec<(Value, Value)>) -> Vec<Node> {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| {
            // The names of submodules are keys, too; a token shows its own claims.
            let (name, inner) = label(place, &key);
            show(inner, &name, value)
        })
        .collect()
}

fn meaning(name: &str, number: i128) -> String {
    let known = match name {
        "alg" => i64::try_from(number).ok().and_then(|number| CoseAlgorithm(number).name()),
        "platform-state" => u64::try_from(number).ok().and_then(|number| PlatformState(number).name()),
        _ => None,
    };
    known.map_or_else(|| number.to_string(), |known| format!("{number}, {known}"))
}

fn show_key(name: &str, bytes: &[u8]) -> Node {
    let kind = read_tvm_key(bytes, "key").map_or("not a key that is known here", |key| key.name());
    let Ok(Value::Map(entries)) = cbor::read_any(bytes, "key") else {
        return Node::bytes(name, bytes, kind);
    };
    Node::group(name, kind, map(Place::Key, entries))
}

/// A token: its headers, its claims, its signature.
fn sign1(name: &str, meaning: &str, value: Value) -> Node {
    let items = match value {
        Value::Tag(_, inner) => match *inner {
            Value::Array(items) => items,
            other => return show(Place::Other, name, other),
        },
        other => return show(Place::Other, name, other),
    };
    let names = ["protected", "unprotected", "payload", "signature"];
    let places = [Place::Header, Place::Header, Place::Claims, Place::Other];
    let parts = names.into_iter().zip(places).zip(items).map(|((name, place), item)| {
        let Value::Bytes(bytes) = &item else { return show(place, name, item) };
        match cbor::read(bytes, "token") {
            Ok(Value::Map(entries)) if place == Place::Header => Node::group(name, "", map(place, entries)),
            Ok(Value::Tag(TAG_CWT, claims)) if place == Place::Claims => match *claims {
                Value::Map(entries) => Node::group(name, format!("tag {TAG_CWT}"), map(place, entries)),
                other => show(place, name, other),
            },
            _ => Node::bytes(name, bytes, ""),
        }
    });
    Node::group(name, meaning, parts.collect())
}
