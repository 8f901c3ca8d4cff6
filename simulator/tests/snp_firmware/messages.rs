//! `MSG_CPUID_REQ` and `MSG_TSC_INFO_REQ`.

use rstest::rstest;
use tsmsim_abi::snp::{
    message::MessageType,
    pages::CpuidFunction,
    payload::{CpuidReq, CpuidRsp, TscInfoReq, TscInfoRsp},
    status::FirmwareStatus,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::support::{Guest, Machine, Message};

fn ask(
    machine: &mut Machine,
    guest: &mut Guest,
    request: &CpuidReq,
    size: usize,
) -> Result<Message, FirmwareStatus> {
    let message = guest.message(MessageType::CPUID_REQ, 0, &request.as_bytes()[..size]);
    guest.send(machine, &message)
}

fn cpuid_response(message: &Message) -> CpuidRsp {
    let mut bytes = message.payload.clone();
    bytes.resize(size_of::<CpuidRsp>(), 0);
    CpuidRsp::read_from_bytes(&bytes).unwrap()
}

fn function(leaf: u32, eax: u32) -> CpuidFunction {
    CpuidFunction { eax_in: leaf.into(), eax: eax.into(), ..CpuidFunction::new_zeroed() }
}

#[test]
fn cpuid_values_are_corrected() {
    let mut machine = Machine::genoa();
    let mut guest = machine.running();
    let mut request = CpuidReq::new_zeroed();
    request.count = 3.into();
    request.functions[..3].copy_from_slice(&[function(0, 0x20), function(0x4000_0000, 9), function(2, 3)]);
    let response = ask(&mut machine, &mut guest, &request, 0x10 + 3 * 0x30).unwrap();
    assert_eq!(response.payload.len(), 0x10 + 3 * 0x30, "as large as the request");
    assert_eq!(response.status(), FirmwareStatus::INVALID_PARAM);
    let response = cpuid_response(&response);
    assert_eq!(response.count.get(), 2, "functions of the architectural ranges");
    let values: Vec<u32> = response.functions.iter().take(4).map(|f| f.eax.get()).collect();
    assert_eq!(values, [0x10, 9, 3, 0]);

    request.functions = response.functions;
    let again = ask(&mut machine, &mut guest, &request, size_of::<CpuidReq>()).unwrap();
    assert_eq!(again.status(), FirmwareStatus::SUCCESS);
    assert_eq!(cpuid_response(&again).functions, response.functions);
}

#[rstest]
#[case::reserved_4(|r: &mut CpuidReq| r.reserved_0x4 = 1.into())]
#[case::reserved_8(|r: &mut CpuidReq| r.reserved_0x8 = 1.into())]
#[case::count(|r: &mut CpuidReq| r.count = 65.into())]
#[case::count_huge(|r: &mut CpuidReq| r.count = u32::MAX.into())]
fn cpuid_refused(#[case] edit: fn(&mut CpuidReq)) {
    let mut machine = Machine::genoa();
    let mut guest = machine.running();
    let mut request = CpuidReq::new_zeroed();
    request.count = 1.into();
    request.functions[0] = function(0, 1);
    edit(&mut request);
    let response = ask(&mut machine, &mut guest, &request, size_of::<CpuidReq>()).unwrap();
    assert_eq!(response.status(), FirmwareStatus::INVALID_PARAM);
    let expected = CpuidRsp { status: 0x16.into(), ..CpuidRsp::new_zeroed() };
    assert_eq!(cpuid_response(&response), expected, "nothing is given back");
}

#[rstest]
#[case(0, 0x10, true)]
#[case(2, 0x10 + 2 * 0x30, true)]
#[case(2, 0x10 + 0x30, false)]
#[case(64, 0xc10, true)]
#[case(64, 0xc00, false)]
#[case(u32::MAX, 0xc00, false)]
fn cpuid_message_holds_what_it_counts(#[case] count: u32, #[case] size: usize, #[case] accepted: bool) {
    let mut machine = Machine::genoa();
    let mut guest = machine.running();
    let mut request = CpuidReq::new_zeroed();
    request.count = count.into();
    let result = ask(&mut machine, &mut guest, &request, size);
    assert_eq!(result.err(), (!accepted).then_some(FirmwareStatus::INVALID_PARAM));
}

#[rstest]
#[case(0)]
#[case(127)]
fn tsc_info_reserved(#[case] at: usize) {
    let mut machine = Machine::genoa();
    let mut guest = machine.running();
    let mut request = TscInfoReq::new_zeroed();
    request.reserved[at] = 1;
    let response = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 0, &request).read::<TscInfoRsp>();
    assert_eq!(response, TscInfoRsp { status: 0x16.into(), ..TscInfoRsp::new_zeroed() });
}
