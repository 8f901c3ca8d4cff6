//! Quotes, judged by dcap-qvl under our root with our collateral.

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use rstest::rstest;
use sha2::{Digest, Sha384};
use tsmsim_abi::tdx::quote::{Quote, QuoteBody};
use tsmsim_simulator::tdx::{
    guest::TdGuestError,
    platform::{QuoteFormat, TdxPlatform, TdxPlatformConfig},
    quoting::{QuoteError, QuotingEnclave},
    vmcall::HostConfig,
};
use zerocopy::IntoBytes;

use super::{guest, platform};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

fn judged(platform: &TdxPlatform, quote: &[u8]) -> Result<String, String> {
    let qe = &platform.config().qe;
    let ca = platform.identity().ca();
    let collateral = platform.hierarchy().collateral(ca, &platform.tcb_info_spec(), qe).unwrap();
    let collateral: QuoteCollateralV3 = serde_json::from_str(&collateral.to_json().unwrap()).unwrap();
    let root = platform.hierarchy().root().unwrap().der().to_vec();
    let report = QuoteVerifier::new(root).verify(quote, &collateral, NOW);
    report.map(|report| report.status).map_err(|error| format!("{error:#}"))
}

#[rstest]
fn dcap_qvl_accepts(
    #[values(TdxPlatformConfig::tdx_1_0(), TdxPlatformConfig::tdx_1_5())] config: TdxPlatformConfig,
    #[values(QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15)] quote_format: QuoteFormat,
) {
    let platform = platform(TdxPlatformConfig { quote_format, ..config });
    let mut guest = guest(platform.clone(), HostConfig::default());
    guest.extend_rtmr(2, &[9; 48]).unwrap();
    let report_data = core::array::from_fn(|index| u8::try_from(index).unwrap());
    let quote = guest.quote(&report_data).unwrap();
    assert_eq!(judged(&platform, &quote).as_deref(), Ok("UpToDate"));
    let parsed = Quote::read(&quote).unwrap();
    assert_eq!(parsed.signed.body.report_data(), &report_data);
    let rtmr: [u8; 48] = Sha384::digest([[0; 48], [9; 48]].concat()).into();
    assert_eq!(parsed.signed.body.td().unwrap().rtmr, [[0; 48], [0; 48], rtmr, [0; 48]]);
    assert_eq!(matches!(parsed.signed.body, QuoteBody::Td15(_)), quote_format == QuoteFormat::V5Td15);
    assert!(parsed.trailing.is_empty());

    let mut flipped = quote;
    flipped[100] ^= 1;
    assert!(judged(&platform, &flipped).is_err());
}

#[rstest]
#[case::mac(0xe0)]
#[case::report_data(0x80)]
#[case::cpusvn(0x10)]
#[case::report_type(0x0)]
#[case::reserved(0xc0)]
#[case::tee_tcb_info(0x108)]
#[case::reserved_between(0x1f0)]
#[case::td_info(0x210)]
fn a_changed_report_is_not_quoted(#[case] byte: usize) {
    let platform = platform(TdxPlatformConfig::tdx_1_5());
    let mut guest = guest(platform.clone(), HostConfig::default());
    let mut report = guest.report(&[0; 64]).unwrap();
    let enclave = QuotingEnclave::new(&platform).unwrap();
    assert!(enclave.quote(report.as_bytes()).is_ok());
    report.as_mut_bytes()[byte] ^= 1;
    assert!(enclave.quote(report.as_bytes()).is_err());
    assert!(matches!(guest.quote_request(report.as_bytes()), Err(TdGuestError::Quote(_))));
    assert!(matches!(enclave.quote(&report.as_bytes()[1..]), Err(QuoteError::Size(1023))));
}

#[test]
fn another_platform_does_not_quote_it() {
    let platform = platform(TdxPlatformConfig::tdx_1_5());
    let report = guest(platform, HostConfig::default()).report(&[0; 64]).unwrap();
    let other = TdxPlatformConfig::tdx_1_5().build(&tsmsim_keys::Seed::from_bytes([1; 32])).unwrap();
    assert!(QuotingEnclave::new(&other).unwrap().quote(report.as_bytes()).is_err());
}

#[test]
fn deterministic_platforms_repeat_themselves() {
    let quote = || {
        let platform = platform(TdxPlatformConfig::tdx_1_5());
        guest(platform, HostConfig::default()).quote(&[1; 64]).unwrap()
    };
    assert_eq!(quote(), quote());
}
