//! What people and programs see.

use rstest::rstest;
use tsmsim_abi::tdx::{
    quote::{Quote, QuoteBody, QuoteTeeType},
    report::{TdReport, TeeType},
};
use tsmsim_evidence::{
    Outcome,
    show::{Kind, detect, show},
    tdx::{Bundle, verify},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{policy, sample, vector};

#[rstest]
#[case("tdx_quote", Kind::Quote)]
#[case("quote_v5_sample.dat", Kind::Quote)]
#[case("tdx_prod_quote_SPR_E4.dat", Kind::Quote)]
#[case("ccel_table.dat", Kind::CcelTable)]
#[case("ccel_data.dat", Kind::EventLog)]
#[case("rootcrl.der", Kind::RevocationList)]
#[case("tdx_quote_collateral.json", Kind::Collateral)]
fn genuine_files_field_by_field(#[case] file: &str, #[case] kind: Kind) {
    let bytes = vector(file);
    assert_eq!(detect(&bytes), kind);
    let text = show(&bytes, None).unwrap().to_text();
    // The list of revoked certificates is long and always of the same form.
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() > 600 { lines[..600].join("\n") } else { text };
    insta::assert_snapshot!(file, shown);
}

#[test]
fn a_long_list() {
    let bytes = vector("pckcrl");
    assert_eq!(detect(&bytes), Kind::RevocationList);
    assert!(show(&bytes, None).unwrap().to_text().contains("Intel SGX PCK Platform CA"));
}

#[test]
fn the_replay_that_is_shown_is_what_the_quote_has() {
    let quote = vector("cos-113-tdx-quote.dat");
    let td = *Quote::read(&quote).unwrap().signed.body.td().unwrap();
    let json = show(&vector("ccel_data.dat"), None).unwrap().to_json();
    let replay = json["fields"].as_array().unwrap().iter().find(|field| field["name"] == "replay").unwrap();
    for (rtmr, shown) in td.rtmr.iter().zip(replay["fields"].as_array().unwrap()) {
        let hex: String = rtmr.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown["raw"], hex);
    }
}

#[test]
fn a_verdict_as_table() {
    insta::assert_snapshot!("verdict", verify(&sample(), &policy()).table());
}

/// The genuine signature data behind another header and body: in form a quote, though nobody signed it.
fn quote_of(version: u16, body: QuoteBody) -> Vec<u8> {
    let genuine = sample().quote;
    let mut quote = Quote::read(&genuine).unwrap();
    let tee = if body.td().is_some() { QuoteTeeType::TDX } else { QuoteTeeType::SGX };
    quote.signed.header.version = version.into();
    quote.signed.header.tee_type = tee.0.into();
    quote.signed.body = body;
    quote.trailing = &[];
    let mut out = vec![0; quote.size()];
    quote.write(&mut out).unwrap();
    out
}

#[rstest]
#[case(4, QuoteBody::Enclave(FromZeros::new_zeroed()), "SGX, version 4", "mr_enclave")]
#[case(5, QuoteBody::Enclave(FromZeros::new_zeroed()), "SGX, version 5", "SGX_ENCLAVE_REPORT")]
#[case(4, QuoteBody::Td10(FromZeros::new_zeroed()), "TDX, version 4", "rtmr3")]
#[case(5, QuoteBody::Td10(FromZeros::new_zeroed()), "TDX, version 5", "TD_REPORT_10")]
#[case(5, QuoteBody::Td15(FromZeros::new_zeroed()), "TDX, version 5", "mr_service_td")]
fn every_body_is_shown_and_judged(
    #[case] version: u16,
    #[case] body: QuoteBody,
    #[case] kind: &str,
    #[case] field: &str,
) {
    let quote = quote_of(version, body);
    assert_eq!(detect(&quote), Kind::Quote);
    let text = show(&quote, None).unwrap().to_text();
    assert!(text.contains(kind) && text.contains(field), "{text}");
    let bundle = Bundle { quote, ..sample() };
    let verdict = verify(&bundle, &policy());
    let signature =
        verdict.checks.iter().find(|check| (check.object, &*check.field) == ("quote", "signature"));
    assert_eq!(signature.unwrap().outcome, Outcome::Failed);
    // Collateral is for one kind of TEE.
    let id = verdict.checks.iter().find(|check| (check.object, &*check.field) == ("TCB info", "id"));
    let expected = if body.td().is_some() { Outcome::Passed } else { Outcome::Failed };
    assert_eq!(id.unwrap().outcome, expected);
}

#[test]
fn a_td_report_field_by_field() {
    let mut report = TdReport::new_zeroed();
    report.report_mac_struct.report_type.tee_type = TeeType::TDX.0;
    report.td_info.attributes = (1_u64 << 28).into();
    assert_eq!(detect(report.as_bytes()), Kind::TdReport);
    let text = show(report.as_bytes(), None).unwrap().to_text();
    assert!(text.contains("SEPT_VE_DISABLE") && text.contains("does not hold"), "{text}");
    report.report_mac_struct.report_type.tee_type = 0;
    assert_eq!(detect(report.as_bytes()), Kind::Unknown);
}
