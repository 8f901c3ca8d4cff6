//! What people and programs see.

mod common;

use common::{
    debuggable, genuine,
    maker::{Maker, table},
    milan, then,
};
use rstest::rstest;
use tsmsim_abi::snp::{cert_table::CertGuid, tcb::ProductLine};
use tsmsim_evidence::{
    show::{Kind, detect, show},
    snp::{self, Bundle, CertificateKind, Policy},
};

#[rstest]
#[case("milan-report.bin", Kind::SnpReport)]
#[case("milan-vcek.der", Kind::Certificate)]
#[case("turin-vcek.der", Kind::Certificate)]
#[case("ask.der", Kind::Certificate)]
#[case("milan-ask-ark.pem", Kind::Pem)]
fn genuine_files_field_by_field(#[case] file: &str, #[case] kind: Kind) {
    let bytes = genuine(file);
    assert_eq!(detect(&bytes), kind);
    insta::assert_snapshot!(file, show(&bytes, None).unwrap().to_text());
}

#[test]
fn a_report_for_programs() {
    let json = show(&genuine("milan-report.bin"), None).unwrap().to_json();
    let field = |name: &str| {
        json["fields"].as_array().unwrap().iter().find(|field| field["name"] == name).unwrap().clone()
    };
    assert_eq!(field("measurement")["raw"].as_str().unwrap().len(), 96);
    assert_eq!(field("reported_tcb")["meaning"], "boot loader 2, TEE 0, SNP 5, microcode 68");
    assert_eq!(field("policy")["raw"], "0xb0000");
}

#[test]
fn tcb_versions_are_read_by_product_line() {
    let bundle = Maker::new(ProductLine::Turin, CertificateKind::Vcek, 5).make();
    let text = show(&bundle.report, None).unwrap().to_text();
    assert!(text.contains("FMC 1, boot loader 4, TEE 1, SNP 22, microcode 213"), "{text}");
    let text = show(&bundle.report, Some(ProductLine::Genoa)).unwrap().to_text();
    assert!(
        text.contains("boot loader 1, TEE 4, SNP 0, microcode 213; reserved bytes are not zero"),
        "{text}"
    );
    let old = Maker::new(ProductLine::Turin, CertificateKind::Vcek, 2).make();
    assert!(show(&old.report, None).unwrap().to_text().contains("version 2, Turin, product line assumed"));
}

#[test]
fn lists_and_tables_field_by_field() {
    let maker = Maker::new(ProductLine::Milan, CertificateKind::Vcek, 3);
    let bundle = maker.edit_crl(|draft| draft.revoked = vec![vec![0x42]]).make();
    let crl = bundle.crl.unwrap();
    assert_eq!(detect(&crl), Kind::RevocationList);
    // The signature is salted at random.
    let text = show(&crl, None).unwrap().to_text();
    insta::assert_snapshot!("crl", text.split("signatureValue").next().unwrap());

    let table = table(&[(CertGuid::VCEK, &genuine("milan-vcek.der")), (CertGuid::CRL, b"odd")], 0);
    assert_eq!(detect(&table), Kind::CertificateTable);
    let text = show(&table, None).unwrap().to_text();
    assert!(text.contains("VCEK") && text.contains("63da758d-e664-4564-adc5-f4b93be8accd"), "{text}");
    assert!(text.contains("neither a certificate nor a revocation list"), "{text}");
}

#[test]
fn a_verdict_as_table_and_json() {
    let verdict = snp::verify(&milan(), &debuggable());
    insta::assert_snapshot!("verdict", verdict.table());
    let overview = "ok    ARK     14 checks\nok    ASK     14 checks\nok    VCEK    20 checks\n\
                    -     CRL     no revocation list given\nok    report  30 checks\n";
    assert_eq!(verdict.overview(), format!("{overview}{}\n", verdict.summary()));
    let json = verdict.to_json();
    assert_eq!(json["accepted"], true);
    assert_eq!(json["root"]["name"], "AMD ARK-Milan");
    assert_eq!(json["checks"].as_array().unwrap().len(), verdict.checks.len());
}

#[test]
fn the_chain_as_a_picture() {
    let accepted = snp::svg(&milan(), &snp::verify(&milan(), &debuggable()));
    insta::assert_snapshot!("accepted.svg", accepted);
    let mut broken = milan();
    broken.report[0x90] ^= 1;
    let refused = snp::svg(&broken, &snp::verify(&broken, &debuggable()));
    insta::assert_snapshot!("refused.svg", refused);
    let nothing = snp::svg(&Bundle::default(), &snp::verify(&Bundle::default(), &Policy::at(then())));
    assert!(nothing.contains("missing") && nothing.ends_with("</svg>\n"));
}

#[test]
fn text_in_a_picture_is_escaped() {
    let hostile = "<script>&\"\u{1}";
    let bundle = Maker::new(ProductLine::Milan, CertificateKind::Vcek, 3)
        .edit(CertificateKind::Vcek, move |draft| draft.subject = common::der::name(hostile))
        .make();
    let svg = snp::svg(&bundle, &snp::verify(&bundle, &Policy::at(then())));
    assert!(svg.contains("&lt;script&gt;&amp;&quot;\u{fffd}") && !svg.contains("<script"), "{svg}");
}
