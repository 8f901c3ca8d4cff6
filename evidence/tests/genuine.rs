//! Evidence that AMD's chips and services have signed.

mod common;

use std::path::Path;

use common::{debuggable, genuine, milan, then};
use der::{Decode, Encode};
use rstest::rstest;
use tsmsim_abi::snp::{report::AttestationReport, tcb::TcbParts};
use tsmsim_evidence::{
    EvidenceError, Root,
    snp::{self, Bundle, Policy, TrustedRoot, VENDOR_ROOTS},
    x509::Certificate,
};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn the_report_reads_and_comes_back_byte_for_byte() {
    let bytes = genuine("milan-report.bin");
    let report = AttestationReport::read_from_bytes(&bytes).unwrap();
    assert_eq!(report.as_bytes(), bytes);
}

#[rstest]
#[case("ark.der")]
#[case("ask.der")]
#[case("milan-vcek.der")]
#[case("turin-vcek.der")]
fn certificates_read_and_come_back_byte_for_byte(#[case] file: &str) {
    let bytes = genuine(file);
    assert_eq!(Certificate::read(&bytes).unwrap().encoding, bytes);
    assert_eq!(x509_cert::Certificate::from_der(&bytes).unwrap().to_der().unwrap(), bytes);
}

#[test]
fn the_report_verifies_under_amds_root() {
    let verdict = snp::verify(&milan(), &debuggable());
    assert_eq!(verdict.reason(), None);
    assert_eq!(verdict.root, Root::Vendor("AMD ARK-Milan"));
    let pinned = Policy { trust: TrustedRoot::Given(genuine("ark.der")), ..debuggable() };
    let verdict = snp::verify(&milan(), &pinned);
    assert!(verdict.accepted() && verdict.root_given);
    assert_eq!(verdict.root, Root::Vendor("AMD ARK-Milan"));
}

#[test]
fn the_sev_crate_agrees() {
    use sev::{
        certs::snp::{Certificate, Chain, Verifiable, ca},
        firmware::guest::AttestationReport,
        parser::ByteParser as _,
    };
    let read = |name| Certificate::from_der(&genuine(name)).unwrap();
    let ca = ca::Chain { ark: read("ark.der"), ask: read("ask.der") };
    let chain = Chain { ca, vek: read("milan-vcek.der") };
    let report = AttestationReport::from_bytes(&genuine("milan-report.bin")).unwrap();
    assert!((&chain, &report).verify().is_ok());
    assert!(snp::verify(&milan(), &debuggable()).accepted());

    let mut flipped = genuine("milan-report.bin");
    flipped[0x90] ^= 1;
    let report = AttestationReport::from_bytes(&flipped).unwrap();
    assert!((&chain, &report).verify().is_err());
    assert!(!snp::verify(&Bundle { report: flipped, ..milan() }, &debuggable()).accepted());
}

#[rstest]
#[case("milan-ask-ark.pem", "AMD ARK-Milan", "VCEK")]
#[case("milan-asvk-ark.pem", "AMD ARK-Milan", "VLEK")]
#[case("genoa-ask-ark.pem", "AMD ARK-Genoa", "VCEK")]
#[case("turin-ask-ark.pem", "AMD ARK-Turin", "VCEK")]
fn the_authorities_of_every_line_verify(#[case] file: &str, #[case] name: &'static str, #[case] leaf: &str) {
    let mut bundle = Bundle::default();
    bundle.add_certificates(file, &genuine(file)).unwrap();
    let verdict = snp::verify_chain(&bundle, &Policy::at(then()));
    assert_eq!(verdict.root, Root::Vendor(name));
    // A leaf is missing, and nothing else is wrong.
    let failed: Vec<_> =
        verdict.checks.iter().filter(|check| check.outcome == tsmsim_evidence::Outcome::Failed).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].object, failed[0].detail.as_str()), (leaf, "none given"));
    let ark = Certificate::read(bundle.ark.as_deref().unwrap()).unwrap();
    assert!(
        VENDOR_ROOTS
            .iter()
            .any(|root| root.name == name && root.public_key_sha256 == ark.public_key.fingerprint())
    );
}

#[test]
fn a_turin_vcek_verifies() {
    let mut bundle = Bundle { vcek: Some(genuine("turin-vcek.der")), ..Bundle::default() };
    bundle.add_certificates("turin-ask-ark.pem", &genuine("turin-ask-ark.pem")).unwrap();
    assert_eq!(snp::verify_chain(&bundle, &Policy::at(then())).reason(), None);
}

#[rstest]
#[case::debug(Policy::at(then()), "report: policy.debug: ")]
#[case::early(Policy { at: "2022-01-01".parse().unwrap(), ..debuggable() }, "VCEK: validity: not valid before 2022-09-24T00:55:28Z")]
#[case::late(Policy { at: "2030-01-01".parse().unwrap(), ..debuggable() }, "VCEK: validity: expired at 2029-09-24T00:55:28Z")]
#[case::measurement(Policy { measurement: Some([0; 48]), ..debuggable() }, "report: measurement: differs from the expected one at byte 0")]
#[case::host_data(Policy { host_data: Some([1; 32]), ..debuggable() }, "report: host_data: ")]
#[case::id_key(Policy { id_key_digest: Some([1; 48]), ..debuggable() }, "report: id_key_digest: ")]
#[case::author_key(Policy { author_key_digest: Some([1; 48]), ..debuggable() }, "report: author_key_digest")]
#[case::guest_policy(Policy { guest_policy: Some(0x3_0000), ..debuggable() }, "report: policy = expected: 0xb0000")]
#[case::vmpl(Policy { vmpl: Some(1), ..debuggable() }, "report: vmpl: 0, where 1 is expected")]
#[case::svn(Policy { minimum_guest_svn: 1, ..debuggable() }, "report: guest_svn: 0 is too low")]
#[case::tcb(
    Policy { minimum_tcb: Some(TcbParts { snp: 6, ..TcbParts::default() }), ..debuggable() },
    "report: reported_tcb >= boot loader 0, TEE 0, SNP 6, microcode 0: not for: SNP"
)]
#[case::crl(Policy { require_crl: true, ..debuggable() }, "CRL: certificateList: no revocation list given")]
#[case::root(Policy { trust: TrustedRoot::Given(genuine("ask.der")), ..debuggable() }, "ARK: root: not the given root")]
fn what_a_policy_demands_is_refused_by_name(#[case] policy: Policy, #[case] reason: &str) {
    let found = snp::verify(&milan(), &policy).reason().unwrap();
    assert!(found.starts_with(reason), "{found}");
}

#[test]
fn what_a_policy_demands_can_be_fulfilled() {
    let report = AttestationReport::read_from_bytes(&genuine("milan-report.bin")).unwrap();
    let policy = Policy {
        trust: TrustedRoot::Vendor,
        measurement: Some(report.measurement),
        host_data: Some([0; 32]),
        guest_policy: Some(0xb_0000),
        vmpl: Some(0),
        minimum_tcb: Some(TcbParts { snp: 5, microcode: 68, ..TcbParts::default() }),
        ..debuggable()
    };
    let bundle = Bundle { inblob: Some(report.report_data.to_vec()), ..milan() };
    assert_eq!(snp::verify(&bundle, &policy).reason(), None);
    let other = Bundle { inblob: Some(vec![0; 64]), ..milan() };
    let reason = snp::verify(&other, &policy).reason().unwrap();
    assert_eq!(reason, "report: report_data: differs from the inblob at byte 0");
    let short = Bundle { inblob: Some(vec![0; 5]), ..milan() };
    assert!(snp::verify(&short, &policy).reason().unwrap().contains("5 bytes, where 64"));
}

#[test]
fn a_directory_and_explicit_bytes_give_the_same_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    assert!(matches!(Bundle::from_dir(directory.path()), Err(EvidenceError::NoReport { .. })));
    write("report.bin", &genuine("milan-report.bin"));
    write("ark.der", &genuine("ark.der"));
    let pem = String::from_utf8(genuine("milan-ask-ark.pem")).unwrap();
    let first_end = pem.find("-----END CERTIFICATE-----\n").unwrap() + "-----END CERTIFICATE-----\n".len();
    write("ask.der", &pem.as_bytes()[..first_end]);
    write("vcek.der", &genuine("milan-vcek.der"));
    let bundle = Bundle::from_dir(directory.path()).unwrap();
    assert_eq!(bundle, milan());

    write("ask.der", pem.as_bytes());
    assert!(matches!(Bundle::from_dir(directory.path()), Err(EvidenceError::Several { count: 2, .. })));
    write("ask.der", &pem.as_bytes()[..100]);
    assert!(matches!(Bundle::from_dir(directory.path()), Err(EvidenceError::Pem { .. })));
    assert!(matches!(Bundle::from_dir(Path::new("no/such")), Err(EvidenceError::NoReport { .. })));
}

#[test]
fn certificates_in_any_form_are_sorted_by_what_they_are() {
    let all = [genuine("milan-ask-ark.pem"), genuine("milan-vcek.der")];
    let mut bundle = Bundle { report: genuine("milan-report.bin"), ..Bundle::default() };
    for bytes in &all {
        bundle.add_certificates("file", bytes).unwrap();
        bundle.add_certificates("file", bytes).unwrap();
    }
    assert_eq!(bundle, milan());
    let conflict = bundle.add_certificates("asvk.pem", &genuine("milan-asvk-ark.pem")).unwrap_err();
    assert_eq!(conflict.to_string(), "asvk.pem: a second, different ASVK: give one");
    let report = bundle.add_certificates("report.bin", &genuine("milan-report.bin")).unwrap_err();
    assert!(report.to_string().starts_with("report.bin: an SEV-SNP attestation report; certificates"));
}

#[test]
fn a_root_is_taken_in_either_form() {
    let pem = String::from_utf8(genuine("milan-ask-ark.pem")).unwrap();
    let (_, ark) = pem.split_at(pem.rfind("-----BEGIN").unwrap());
    let given = TrustedRoot::Given(genuine("ark.der"));
    assert_eq!(TrustedRoot::from_bytes("ark.pem", ark.as_bytes().to_vec()).unwrap(), given);
    assert_eq!(TrustedRoot::from_bytes("ark.der", genuine("ark.der")).unwrap(), given);
    let several = TrustedRoot::from_bytes("chain.pem", pem.into_bytes()).unwrap_err();
    assert!(several.to_string().starts_with("chain.pem: 2 PEM blocks, where one is expected"));
    let report = TrustedRoot::from_bytes("report.bin", genuine("milan-report.bin")).unwrap_err();
    assert!(
        report.to_string().starts_with("report.bin: not a certificate, which breaks off at certificate: ")
    );
}

#[test]
fn a_root_of_another_line_is_refused() {
    let mut bundle = Bundle {
        report: genuine("milan-report.bin"),
        vcek: Some(genuine("milan-vcek.der")),
        ..Bundle::default()
    };
    bundle.add_certificates("genoa", &genuine("genoa-ask-ark.pem")).unwrap();
    let reason = snp::verify(&bundle, &debuggable()).reason().unwrap();
    assert!(reason.starts_with("VCEK: issuer: not the subject of the ASK"), "{reason}");
}
