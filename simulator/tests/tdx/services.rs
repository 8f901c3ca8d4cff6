//! The guest's view of reports and of the quote generation service.

use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::tdx::{
    get_quote::GetQuoteStatus,
    qgs::{Message, MessageHeader, MessageType, QgsError},
    report::{VALID_1_0, VALID_1_5},
    status::StatusCode,
};
use tsmsim_simulator::tdx::{
    guest::TdGuestError, platform::TdxPlatformConfig, qgs::QuoteService, quoting::QuotingEnclave,
    vmcall::HostConfig,
};
use zerocopy::IntoBytes;

use super::{guest, platform};

fn service() -> QuoteService {
    QuoteService::new(QuotingEnclave::new(&platform(TdxPlatformConfig::tdx_1_5())).unwrap())
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.size()];
    message.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn reports_verify_on_their_platform() {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_5()), HostConfig::default());
    let mut report = guest.report(&[3; 64]).unwrap();
    assert_eq!(report.tee_tcb_info.valid.get(), VALID_1_5);
    guest.verify_report(&report.report_mac_struct).unwrap();
    report.report_mac_struct.report_data[0] ^= 1;
    let refused = guest.verify_report(&report.report_mac_struct);
    let code = |result| match result {
        Err(TdGuestError::Module(status)) => status.code(),
        _ => StatusCode::SUCCESS,
    };
    assert_eq!(code(refused), StatusCode::INVALID_REPORTMACSTRUCT);
    report.report_mac_struct.cpusvn[0] ^= 1;
    assert_eq!(code(guest.verify_report(&report.report_mac_struct)), StatusCode::INVALID_CPUSVN);
}

#[test]
fn tdx_1_0_has_no_second_security_version() {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_0()), HostConfig::default());
    let report = guest.report(&[3; 64]).unwrap();
    assert_eq!(report.tee_tcb_info.valid.get(), VALID_1_0);
    assert_eq!(report.tee_tcb_info.tee_tcb_svn2.components(), [0; 16]);
    assert!(guest.verify_report(&report.report_mac_struct).is_err());
}

#[test]
fn a_message_in_the_buffer_is_answered_by_a_message() {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_5()), HostConfig::default());
    let report = guest.report(&[4; 64]).unwrap();
    let request = written(&Message::GetQuoteReq { report: report.as_bytes(), id_list: &[] });
    let framed = [&u32::try_from(request.len()).unwrap().to_be_bytes()[..], &request].concat();
    let answer = guest.quote_request(&framed).unwrap();
    let (frame, message) = answer.split_at(4);
    assert_eq!(frame, u32::try_from(message.len()).unwrap().to_be_bytes());
    assert!(matches!(Message::read(message), Ok(Message::GetQuoteResp { quote, .. }) if quote.len() > 4000));
}

#[test]
fn collateral_and_platform() {
    let service = service();
    let fmspc = service.enclave().platform().identity().fmspc;
    let ask = |fmspc: &[u8], pck_ca: &[u8]| {
        let answer = service.respond(&written(&Message::GetCollateralReq { fmspc, pck_ca })).unwrap();
        Message::read(&answer).map(|message| match message {
            Message::GetCollateralResp(collateral) => Ok(collateral.parts.map(<[u8]>::len)),
            Message::Error { response, code } => Err((response, code)),
            _ => unreachable!(),
        })
    };
    assert!(ask(&fmspc, b"platform\0").unwrap().unwrap().iter().all(|len| *len > 100));
    let refused = Ok(Err((MessageType::GET_COLLATERAL_RESP, QgsError::UNEXPECTED)));
    assert_eq!(ask(&[0; 6], b"platform\0"), refused);
    assert_eq!(ask(&fmspc, b"none"), refused);
    let answer = service.respond(&written(&Message::GetPlatformInfoReq)).unwrap();
    assert!(matches!(Message::read(&answer), Ok(Message::GetPlatformInfoResp { tdqe_isv_svn: 4, .. })));
}

#[rstest]
#[case::empty(&[])]
#[case::a_response(&[1, 0, 1, 0, 1, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]
#[case::no_such_type(&[1, 0, 1, 0, 9, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0])]
fn connections_that_are_closed(#[case] request: &[u8]) {
    assert_eq!(service().respond(request), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_message_is_answered_or_refused(kind in 0_u32..7, size in any::<Option<u32>>(), body: Vec<u8>) {
        let length = u32::try_from(size_of::<MessageHeader>() + body.len()).unwrap();
        let header = MessageHeader {
            major_version: 1.into(),
            minor_version: 0.into(),
            message_type: kind.into(),
            size: size.unwrap_or(length).into(),
            error_code: 0.into(),
        };
        let request = [header.as_bytes(), &body].concat();
        let service = service();
        if let Some(answer) = service.respond(&request) {
            prop_assert!(Message::read(&answer).is_ok());
        }
        let _ = service.respond(&body);
        let _ = service.respond_raw(&request);
        let _ = service.respond_raw(&body);
    }
}

#[rstest]
#[case::a_host_in_no_hurry(HostConfig { map_gpa_pages: 3, ..HostConfig::default() })]
#[case::one_page_at_a_time(HostConfig { map_gpa_pages: 0, ..HostConfig::default() })]
#[case::an_asynchronous_service_that_is_done_at_once(HostConfig { quote_delay_ns: Some(0), ..HostConfig::default() })]
fn hosts_that_serve(#[case] config: HostConfig) {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_5()), config);
    assert!(guest.quote(&[1; 64]).unwrap().len() > 4000);
}

#[test]
fn hosts_that_do_not_serve() {
    let quote = |config| guest(platform(TdxPlatformConfig::tdx_1_5()), config).with_polls(2).quote(&[1; 64]);
    let slow = HostConfig { quote_delay_ns: Some(1), ..HostConfig::default() };
    assert!(matches!(quote(slow), Err(TdGuestError::Timeout)), "the clock stands still");
    let none = HostConfig { quoting: false, ..HostConfig::default() };
    assert!(matches!(quote(none), Err(TdGuestError::Quote(GetQuoteStatus::SERVICE_UNAVAILABLE))));
}

#[test]
fn registers_that_do_not_exist_are_not_extended() {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_5()), HostConfig::default());
    assert!(guest.extend_rtmr(3, &[1; 48]).is_ok());
    assert!(matches!(guest.extend_rtmr(4, &[1; 48]), Err(TdGuestError::Module(_))));
}
