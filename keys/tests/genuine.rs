//! Our certificates beside AMD's own: every field that AMD chose has the same bytes.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

mod common;

use std::path::PathBuf;

use der::{Decode, Encode};
use rstest::rstest;
use tsmsim_abi::snp::tcb::{ProductLine, TcbParts, TcbVersion};
use tsmsim_keys::amd::{CertificateKind, ChipIdentity, Hierarchy, SYNTHETIC_SERIAL_PREFIX, oid};
use tsmsim_keys::der::asn1::ObjectIdentifier;
use tsmsim_keys::x509_cert::Certificate;
use tsmsim_keys::x509_cert::ext::Extension;
use tsmsim_keys::{Fingerprint, Seed, der};

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = const_oid::db::rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER;
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = const_oid::db::rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER;

/// A file of the genuine vectors.
fn genuine(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/genuine/snp").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The certificates in a genuine PEM file.
fn genuine_chain(name: &str) -> Vec<Certificate> {
    Certificate::load_pem_chain(&genuine(name)).unwrap()
}

/// A genuine certificate in DER.
fn genuine_certificate(name: &str) -> Certificate {
    Certificate::from_der(&genuine(name)).unwrap()
}

fn extensions(certificate: &Certificate) -> &[Extension] {
    certificate.tbs_certificate().extensions().unwrap()
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> &[u8] {
    let found = extensions(certificate).iter().find(|extension| extension.extn_id == oid);
    found.unwrap().extn_value.as_bytes()
}

/// The value of an extension that is an INTEGER of one octet.
fn level(certificate: &Certificate, oid: ObjectIdentifier) -> u8 {
    let [0x02, 0x01, level] = *extension(certificate, oid) else { panic!("{oid} is no small INTEGER") };
    level
}

/// All but serial number, validity and key of two certificates, byte for byte.
fn assert_same_shape(ours: &Certificate, theirs: &Certificate) {
    let (our, their) = (ours.tbs_certificate(), theirs.tbs_certificate());
    assert_eq!(our.version(), their.version());
    assert_eq!(our.signature().to_der().unwrap(), their.signature().to_der().unwrap());
    assert_eq!(ours.signature_algorithm().to_der().unwrap(), theirs.signature_algorithm().to_der().unwrap());
    assert_eq!(our.issuer().to_der().unwrap(), their.issuer().to_der().unwrap());
    assert_eq!(our.subject().to_der().unwrap(), their.subject().to_der().unwrap());
    let [our_key, their_key] = [our, their].map(|tbs| tbs.subject_public_key_info());
    assert_eq!(our_key.algorithm.to_der().unwrap(), their_key.algorithm.to_der().unwrap());
    assert_eq!(our_key.subject_public_key.bit_len(), their_key.subject_public_key.bit_len());
    assert_eq!(ours.signature().bit_len(), theirs.signature().bit_len());
}

#[rstest]
#[case(ProductLine::Milan, CertificateKind::Ark, "milan-ask-ark.pem", 1)]
#[case(ProductLine::Milan, CertificateKind::Ask, "milan-ask-ark.pem", 0)]
#[case(ProductLine::Milan, CertificateKind::Asvk, "milan-asvk-ark.pem", 0)]
#[case(ProductLine::Genoa, CertificateKind::Ark, "genoa-ask-ark.pem", 1)]
#[case(ProductLine::Genoa, CertificateKind::Ask, "genoa-ask-ark.pem", 0)]
#[case(ProductLine::Turin, CertificateKind::Ark, "turin-ask-ark.pem", 1)]
#[case(ProductLine::Turin, CertificateKind::Ask, "turin-ask-ark.pem", 0)]
fn authorities_have_the_genuine_shape(
    #[case] line: ProductLine,
    #[case] kind: CertificateKind,
    #[case] file: &str,
    #[case] index: usize,
) {
    let theirs = &genuine_chain(file)[index];
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let ours = match kind {
        CertificateKind::Ark => hierarchy.ark(),
        CertificateKind::Ask => hierarchy.ask(),
        _ => hierarchy.asvk(),
    };
    let ours = ours.unwrap().parse().unwrap();
    assert_same_shape(&ours, theirs);
    assert!(ours.tbs_certificate().serial_number().as_bytes().starts_with(SYNTHETIC_SERIAL_PREFIX));
    assert!(!theirs.tbs_certificate().serial_number().as_bytes().starts_with(SYNTHETIC_SERIAL_PREFIX));
    assert_eq!(extensions(&ours).len(), extensions(theirs).len());
    for (our, their) in extensions(&ours).iter().zip(extensions(theirs)) {
        assert_eq!((our.extn_id, our.critical), (their.extn_id, their.critical));
        if [SUBJECT_KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER].contains(&our.extn_id) {
            assert_eq!(our.extn_value.as_bytes().len(), their.extn_value.as_bytes().len());
        } else {
            assert_eq!(our.extn_value, their.extn_value);
        }
    }
}

/// The genuine identifiers are SHA-1 over the key's bits; ours are made by the same rule.
#[test]
fn key_identifiers_follow_the_genuine_rule() {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, ProductLine::Milan);
    let ours = hierarchy.ark().unwrap().parse().unwrap();
    for ark in [&genuine_chain("milan-ask-ark.pem")[1], &ours] {
        let bits = ark.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bits);
        assert_eq!(&extension(ark, SUBJECT_KEY_IDENTIFIER)[2..], hash.as_ref());
    }
    let ask = hierarchy.ask().unwrap().parse().unwrap();
    assert_eq!(extension(&ask, AUTHORITY_KEY_IDENTIFIER)[4..], extension(&ours, SUBJECT_KEY_IDENTIFIER)[2..]);
}

fn genuine_tcb(certificate: &Certificate, line: ProductLine) -> TcbVersion {
    let parts = TcbParts {
        fmc: (line == ProductLine::Turin).then(|| level(certificate, oid::FMC_SPL)),
        boot_loader: level(certificate, oid::BL_SPL),
        tee: level(certificate, oid::TEE_SPL),
        snp: level(certificate, oid::SNP_SPL),
        microcode: level(certificate, oid::UCODE_SPL),
    };
    parts.pack(line.tcb_layout())
}

/// For the same chip and TCB we issue the same certificate but for validity, key and signature: serial number 0, the same
/// extensions in the same order with the same bytes.
#[rstest]
#[case(ProductLine::Milan, "milan-vcek.der")]
#[case(ProductLine::Turin, "turin-vcek.der")]
fn vcek_of_a_genuine_chip(#[case] line: ProductLine, #[case] file: &str) {
    let theirs = genuine_certificate(file);
    let mut hwid = [0; 64];
    hwid[..line.hwid_len()].copy_from_slice(extension(&theirs, oid::HWID));
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let vcek = hierarchy.vcek(&ChipIdentity::new(hwid), genuine_tcb(&theirs, line)).unwrap();
    let ours = vcek.certificate().parse().unwrap();
    assert_same_shape(&ours, &theirs);
    assert_eq!(ours.tbs_certificate().serial_number(), theirs.tbs_certificate().serial_number());
    assert_eq!(extensions(&ours), extensions(&theirs));
}

/// An `OctetString` in a genuine certificate differs when anything about the chip does: the comparison above can fail.
#[test]
fn vcek_of_another_chip_differs_from_the_genuine() {
    let theirs = genuine_certificate("milan-vcek.der");
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, ProductLine::Milan);
    let chip = common::chip(ProductLine::Milan);
    let tcb = genuine_tcb(&theirs, ProductLine::Milan);
    let ours = hierarchy.vcek(&chip, tcb).unwrap().certificate().parse().unwrap();
    assert_ne!(extensions(&ours), extensions(&theirs));
}

#[rstest]
fn vlek_names_the_provider_and_no_chip(
    #[values(ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin)] line: ProductLine,
) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let vlek = hierarchy.vlek("example", common::tcb(line)).unwrap();
    let certificate = vlek.certificate().parse().unwrap();
    assert_eq!(extension(&certificate, oid::CSP_ID), b"\x16\x07example");
    assert!(extensions(&certificate).iter().all(|extension| extension.extn_id != oid::HWID));
    assert_eq!(extension(&certificate, oid::PRODUCT_NAME), [b"\x16\x05", line.name().as_bytes()].concat());
    assert!(certificate.tbs_certificate().subject().to_string().contains("CN=SEV-VLEK"));
    assert!(
        certificate.tbs_certificate().issuer().to_string().contains(&format!("CN=SEV-VLEK-{}", line.name()))
    );
}

/// A level above 127 needs a leading zero octet to stay positive.
#[test]
fn patch_levels_are_unsigned() {
    let line = ProductLine::Genoa;
    let vcek = Hierarchy::new(&Seed::DEFAULT, line).vcek(&common::chip(line), common::tcb(line)).unwrap();
    let certificate = vcek.certificate().parse().unwrap();
    assert_eq!(extension(&certificate, oid::UCODE_SPL), [0x02, 0x02, 0x00, 209]);
    assert_eq!(extension(&certificate, oid::SNP_SPL), [0x02, 0x01, 20]);
}

/// Every vector used here has its row in PROVENANCE.md, with the sum of the file as it is.
#[test]
fn vectors_have_their_provenance() {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let provenance = std::fs::read_to_string(vectors.join("PROVENANCE.md")).unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(vectors.join("genuine/snp")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let sum = Fingerprint::of(&genuine(&name)).to_string();
        let start = format!("| genuine/snp/{name} |");
        let row = provenance.lines().find(|row| row.starts_with(&start));
        assert!(row.is_some_and(|row| row.contains(&sum)), "{name}: {sum}");
        checked += 1;
    }
    assert!(checked >= 9);
}
