//! Certificates and revocation lists as trees.

use der::asn1::ObjectIdentifier;

use super::{
    Certificate, Extension, RevocationList,
    algorithm::{PublicKey, algorithm_name},
};
use crate::{Node, cove, snp, tdx, tree::printable, trust::carries_marker};

pub(crate) fn show_certificate(certificate: &Certificate<'_>) -> Node {
    let holder = certificate.subject.common_name().map(printable).unwrap_or_default();
    let synthetic = if carries_marker(certificate) { " (tsmsim's synthetic marker)" } else { "" };
    Node::group(
        "certificate",
        holder,
        vec![
            Node::number("version", u64::from(certificate.version), ""),
            Node::bytes("serialNumber", certificate.serial_number, synthetic.trim_start()),
            Node::group("signature", algorithm_name(certificate.inner_algorithm), Vec::new()),
            Node::group("issuer", certificate.issuer.to_string(), Vec::new()),
            Node::group(
                "validity",
                "",
                vec![
                    Node::group("notBefore", certificate.validity.not_before.to_string(), Vec::new()),
                    Node::group("notAfter", certificate.validity.not_after.to_string(), Vec::new()),
                ],
            ),
            Node::group("subject", certificate.subject.to_string(), Vec::new()),
            show_key(&certificate.public_key),
            Node::group("extensions", "", certificate.extensions.iter().map(show_extension).collect()),
            Node::group("signatureAlgorithm", algorithm_name(certificate.outer_algorithm), Vec::new()),
            Node::bytes("signatureValue", certificate.signature, ""),
        ],
    )
}

fn show_key(key: &PublicKey<'_>) -> Node {
    let algorithm = Node::group("algorithm", algorithm_name(key.algorithm), Vec::new());
    let value = match key.rsa() {
        Ok((modulus, exponent)) => {
            vec![algorithm, Node::bytes("modulus", modulus, ""), Node::bytes("publicExponent", exponent, "")]
        }
        Err(_) => vec![algorithm, Node::bytes("subjectPublicKey", key.bits, "")],
    };
    let vendor = snp::vendor_name(key).or_else(|| tdx::vendor_name(key));
    let vendor = vendor.map_or_else(String::new, |name| format!("the key of {name}"));
    let fingerprint = Node::bytes("SHA-256", &key.fingerprint(), vendor);
    Node::group("subjectPublicKeyInfo", "", [value, vec![fingerprint]].concat())
}

/// Names of the extensions that RFC 5280 describes and these certificates have.
const STANDARD: [(&str, &str); 6] = [
    ("2.5.29.14", "subjectKeyIdentifier"),
    ("2.5.29.15", "keyUsage"),
    ("2.5.29.19", "basicConstraints"),
    ("2.5.29.20", "cRLNumber"),
    ("2.5.29.31", "cRLDistributionPoints"),
    ("2.5.29.35", "authorityKeyIdentifier"),
];

fn show_extension(extension: &Extension<'_>) -> Node {
    let oid = extension.oid.to_string();
    let standard = STANDARD.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
    if let Some(node) = tdx::show_extension(extension).or_else(|| cove::show_extension(extension)) {
        return node;
    }
    let name = standard.or_else(|| snp::extension_name(extension.oid));
    let mut meaning = meaning(name, extension.oid, extension.value);
    if extension.critical {
        meaning = format!("critical{}{meaning}", if meaning.is_empty() { "" } else { ", " });
    }
    Node::bytes(name.map_or(oid, str::to_owned), extension.value, meaning)
}

/// In words, as far as there is something to say that the bytes do not.
fn meaning(name: Option<&str>, oid: ObjectIdentifier, value: &[u8]) -> String {
    if snp::extension_name(oid).is_some() {
        return snp::extension_meaning(value);
    }
    match (name, value) {
        (Some("keyUsage"), [0x03, 0x02, 0x01 | 0x02, 0x04]) => "keyCertSign".to_owned(),
        (Some("keyUsage"), [0x03, 0x02, 0x06, 0xc0]) => "digitalSignature, nonRepudiation".to_owned(),
        (Some("basicConstraints"), [0x30, 0x00]) => "not a CA".to_owned(),
        (Some("keyUsage"), [0x03, 0x02, 0x01, 0x06]) => "keyCertSign, cRLSign".to_owned(),
        (Some("basicConstraints"), [0x30, 0x03, 0x01, 0x01, 0xff]) => "CA".to_owned(),
        (Some("basicConstraints"), [0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, length]) => {
            format!("CA, path length {length}")
        }
        (Some("cRLDistributionPoints"), [0x30, _, 0x30, _, 0xa0, _, 0xa0, _, 0x86, length, url @ ..])
            if url.len() == usize::from(*length) =>
        {
            printable(&String::from_utf8_lossy(url))
        }
        (Some("cRLNumber"), [0x02, 0x01, number]) => number.to_string(),
        _ => String::new(),
    }
}

pub(crate) fn show_crl(list: &RevocationList<'_>) -> Node {
    let revoked = list.revoked.iter();
    let revoked = revoked
        .map(|entry| Node::bytes("serialNumber", entry.serial_number, format!("revoked {}", entry.date)));
    let revoked: Vec<Node> = revoked.collect();
    let next = list.next_update.map_or_else(|| "none".to_owned(), |next| next.to_string());
    Node::group(
        "certificate revocation list",
        format!("{} entries", revoked.len()),
        vec![
            Node::number("version", u64::from(list.version), ""),
            Node::group("signature", algorithm_name(list.inner_algorithm), Vec::new()),
            Node::group("issuer", list.issuer.to_string(), Vec::new()),
            Node::group("thisUpdate", list.this_update.to_string(), Vec::new()),
            Node::group("nextUpdate", next, Vec::new()),
            Node::group("revokedCertificates", if revoked.is_empty() { "none" } else { "" }, revoked),
            Node::group("crlExtensions", "", list.extensions.iter().map(show_extension).collect()),
            Node::group("signatureAlgorithm", algorithm_name(list.outer_algorithm), Vec::new()),
            Node::bytes("signatureValue", list.signature, ""),
        ],
    )
}
