use std::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;
use rstest::rstest;
use zerocopy::FromBytes;

use super::{super::qe::pem_certificates, *};

const TDX_QUOTE: &[u8] = include_bytes!("../../../../tests/vectors/genuine/tdx/tdx_quote");
const PRODUCTION: &[u8] = include_bytes!("../../../../tests/vectors/genuine/tdx/tdx_prod_quote_SPR_E4.dat");
const COS: &[u8] = include_bytes!("../../../../tests/vectors/genuine/tdx/cos-113-tdx-quote.dat");
const VERSION_5: &[u8] = include_bytes!("../../../../tests/vectors/genuine/tdx/quote_v5_sample.dat");

fn written(quote: &Quote<'_>) -> Vec<u8> {
    let mut out = vec![0; quote.size()];
    assert_eq!(quote.write(&mut out), Ok(out.len()));
    out
}

#[rstest]
#[case(TDX_QUOTE, QuoteVersion::V4, BodyType::TD_REPORT_10, 70)]
#[case(PRODUCTION, QuoteVersion::V4, BodyType::TD_REPORT_10, 39)]
#[case(COS, QuoteVersion::V4, BodyType::TD_REPORT_10, 3065)]
#[case(VERSION_5, QuoteVersion::V5, BodyType::TD_REPORT_15, 0)]
fn genuine_quotes_come_back_byte_for_byte(
    #[case] bytes: &[u8],
    #[case] version: QuoteVersion,
    #[case] body_type: BodyType,
    #[case] trailing: usize,
) {
    let quote = Quote::read(bytes).unwrap();
    assert_eq!((quote.version(), quote.signed.body.body_type()), (version, body_type));
    assert_eq!(quote.trailing.len(), trailing);
    assert_eq!(quote.signed.header.qe_vendor_id, INTEL_QE_VENDOR_ID);
    assert_eq!(written(&quote), bytes);

    let mut signed = vec![0; quote.signed.size()];
    quote.signed.write(&mut signed).unwrap();
    assert_eq!(signed, bytes[..signed.len()]);

    let signature = quote.signature().unwrap();
    let mut out = vec![0; signature.size(version)];
    signature.write(version, &mut out).unwrap();
    assert_eq!(out, quote.signature_data);
    assert_eq!(signature.qe.auth_data.len(), 32);
    assert_eq!(signature.qe.qe_report.isv_prod_id.get(), 2);
    let chain = signature.qe.certification.pem_chain().unwrap();
    let certificates: Result<Vec<_>, _> = pem_certificates(chain).collect();
    assert_eq!(certificates.unwrap().len(), 3);
}

#[rstest]
#[case(TDX_QUOTE)]
#[case(VERSION_5)]
fn a_genuine_td_is_no_debug_td(#[case] bytes: &[u8]) {
    let quote = Quote::read(bytes).unwrap();
    let td = quote.signed.body.td().unwrap();
    assert!(!td.attribute_bits().debug() && td.attribute_bits().sept_ve_disable());
    assert_eq!(u64::from(td.xfam_bits()) & Xfam::FIXED1, Xfam::FIXED1);
    assert!(td.xfam_bits().groups_are_whole());
}

#[rstest]
#[case(TDX_QUOTE)]
#[case(VERSION_5)]
fn a_cut_quote_is_refused(#[case] bytes: &[u8]) {
    let quote = Quote::read(bytes).unwrap();
    for len in 0..bytes.len() - quote.trailing.len() {
        assert!(matches!(Quote::read(&bytes[..len]), Err(ReadError::Truncated { .. })), "{len}");
    }
    for len in 0..quote.signature_data.len() {
        assert!(EcdsaSignatureData::read(quote.version(), &quote.signature_data[..len]).is_err(), "{len}");
    }
}

#[rstest]
#[case::version(0, 9, "quote version is 0x9, which is not supported")]
#[case::tee_type(4, 0x80, "TEE type of the quote is 0x80, which is not supported")]
fn unknown_kinds_are_refused(#[case] at: usize, #[case] value: u8, #[case] sentence: &str) {
    let mut bytes = TDX_QUOTE.to_vec();
    bytes[at] = value;
    assert_eq!(Quote::read(&bytes).unwrap_err().to_string(), sentence);
}

#[rstest]
#[case::body_type(48, 4, "quote body type is 0x4, which is not supported")]
#[case::body_size(50, 0x89, "size of quote body is stated as 649, should be 648")]
fn bad_descriptors_are_refused(#[case] at: usize, #[case] value: u8, #[case] sentence: &str) {
    let mut bytes = VERSION_5.to_vec();
    bytes[at] = value;
    assert_eq!(Quote::read(&bytes).unwrap_err().to_string(), sentence);
}

#[test]
fn other_keys_and_certifications_are_refused() {
    let mut bytes = TDX_QUOTE.to_vec();
    bytes[2] = 3;
    let error = Quote::read(&bytes).unwrap().signature().unwrap_err();
    assert_eq!(error, ReadError::Unsupported { what: "attestation key type", value: 3 });
    let mut bytes = TDX_QUOTE.to_vec();
    bytes[636 + 128] = 5;
    assert!(Quote::read(&bytes).unwrap().signature().is_err());
}

#[test]
fn a_version_4_quote_cannot_have_a_1_5_body() {
    let quote = Quote::read(VERSION_5).unwrap();
    let mut signed = quote.signed;
    signed.header.version = QuoteVersion::V4.0.into();
    let mut out = [0; 1024];
    assert_eq!(signed.write(&mut out), Err(WriteError::Inconsistent { what: "quote body" }));
    assert!(matches!(quote.write(&mut out), Err(WriteError::BufferTooSmall { .. })));
}

#[test]
fn a_version_3_quote_has_no_wrapping() {
    let quote = Quote::read(TDX_QUOTE).unwrap();
    let signature = quote.signature().unwrap();
    let mut header = quote.signed.header;
    header.version = QuoteVersion::V3.0.into();
    header.tee_type = 0.into();
    let mut data = vec![0; signature.size(QuoteVersion::V3)];
    signature.write(QuoteVersion::V3, &mut data).unwrap();
    assert_eq!(data.len() + 6, quote.signature_data.len());
    let body = QuoteBody::Enclave(signature.qe.qe_report);
    let old = Quote { signed: SignedPart { header, body }, signature_data: &data, trailing: &[] };
    let bytes = written(&old);
    let again = Quote::read(&bytes).unwrap();
    assert_eq!(again, old);
    assert_eq!(again.signature(), Ok(signature));
    assert_eq!(bytes.len(), 436 + data.len());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), version in 3_u8..6) {
        let mut bytes = bytes;
        if let Some(first) = bytes.get_mut(..8) {
            first.copy_from_slice(&[version, 0, 2, 0, 0x81, 0, 0, 0]);
        }
        if let Ok(quote) = Quote::read(&bytes) {
            prop_assert_eq!(written(&quote), bytes.clone());
            let _ = quote.signature();
        }
        let _ = EcdsaSignatureData::read(QuoteVersion(version.into()), &bytes);
    }

    #[test]
    fn a_changed_byte_changes_what_is_read(at in 0..VERSION_5.len(), flip in 1_u8..) {
        let mut bytes = VERSION_5.to_vec();
        bytes[at] ^= flip;
        if let Ok(quote) = Quote::read(&bytes) {
            prop_assert_eq!(written(&quote), bytes.clone());
            prop_assert_ne!(quote, Quote::read(VERSION_5).unwrap());
        }
    }

    #[test]
    fn bodies_are_made_of_reports(bytes in prop::collection::vec(any::<u8>(), 0x400)) {
        let report = TdReport::read_from_bytes(&bytes).unwrap();
        let body = TdReportBody15::from(&report);
        prop_assert_eq!(&body.base.report_data, &report.report_mac_struct.report_data);
        prop_assert_eq!(body.mr_service_td, report.td_info.servtd_hash);
        prop_assert_eq!(body.base.rtmr, report.td_info.rtmr);
        prop_assert_eq!(body.base.tee_tcb_svn, report.tee_tcb_info.tee_tcb_svn);
    }
}
