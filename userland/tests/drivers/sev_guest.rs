//! `sev-guest` when nothing goes wrong but the caller.

use std::sync::Arc;

use nix::errno::Errno;
use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::snp::{cert_table, report::AttestationReport};
use tsmsim_userland::{
    configfs::KernelStyle,
    drivers::{
        UserMemory as _,
        sev_guest::{SevGuest, SevGuestOptions},
        time::VirtualSleeper,
        uapi::{
            SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT, SNP_GET_REPORT, SnpDerivedKeyReq, SnpExtReportReq,
            SnpGuestRequestIoctl, SnpReportReq,
        },
    },
    provider::{Attribute, Provider, ReportRequest},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::support::{DATA, Program, certificates, sev_guest, snp_guest_in, world};

/// What `exitinfo2` is before a call in these tests.
pub(crate) const UNTOUCHED: u64 = 0x1234;

/// How a call ended: the result, and `exitinfo2` as the program then finds it.
pub(crate) type Ended = (Result<i32, Errno>, u64);

pub(crate) fn input() -> SnpGuestRequestIoctl {
    SnpGuestRequestIoctl {
        msg_version: 1,
        reserved: [0; 7],
        req_data: Program::REQUEST.into(),
        resp_data: Program::RESPONSE.into(),
        exitinfo2: UNTOUCHED.into(),
    }
}

/// A call; both ways of making it must agree.
pub(crate) fn call(
    driver: &SevGuest,
    cmd: u32,
    input: &SnpGuestRequestIoctl,
    program: &mut Program,
) -> Ended {
    program.write(Program::STRUCT, input.as_bytes()).unwrap();
    let result = driver.ioctl_at(cmd, Program::STRUCT, program);
    let after = SnpGuestRequestIoctl::read_from_bytes(program.bytes(Program::STRUCT, 32)).unwrap();
    assert_eq!(SnpGuestRequestIoctl { exitinfo2: input.exitinfo2, ..after }, *input);
    (result, after.exitinfo2.get())
}

pub(crate) fn report_request() -> SnpReportReq {
    SnpReportReq { user_data: DATA, ..SnpReportReq::new_zeroed() }
}

pub(crate) fn get_report(driver: &SevGuest) -> Ended {
    let mut program = Program::new();
    program.write(Program::REQUEST, report_request().as_bytes()).unwrap();
    call(driver, SNP_GET_REPORT, &input(), &mut program)
}

/// An extended report with so much room; also the room that is then asked for.
pub(crate) fn get_ext_report(driver: &SevGuest, room: u32, program: &mut Program) -> (Ended, u32) {
    let request = SnpExtReportReq {
        data: report_request(),
        certs_address: Program::CERTIFICATES.into(),
        certs_len: room.into(),
        reserved: 0.into(),
    };
    program.write(Program::REQUEST, request.as_bytes()).unwrap();
    let ended = call(driver, SNP_GET_EXT_REPORT, &input(), program);
    let after = SnpExtReportReq::read_from_bytes(program.bytes(Program::REQUEST, 112)).unwrap();
    (ended, after.certs_len.get())
}

pub(crate) fn request(inblob: &[u8]) -> ReportRequest {
    ReportRequest { inblob: inblob.to_vec(), ..ReportRequest::default() }
}

pub(crate) fn wipe(driver: &SevGuest) {
    driver.with_guest(|guest| guest.wipe_message_key().unwrap());
}

pub(crate) fn key_is_good(driver: &SevGuest) -> bool {
    driver.with_guest(|guest| guest.message_key().is_ok())
}

#[rstest]
#[case(SevGuestOptions::LINUX_6_12)]
#[case(SevGuestOptions::LINUX_6_16)]
fn a_report_comes_by_ioctl(#[case] options: SevGuestOptions) {
    let (driver, _) = sev_guest(options);
    let mut program = Program::new();
    program.write(Program::REQUEST, report_request().as_bytes()).unwrap();
    assert_eq!(call(&driver, SNP_GET_REPORT, &input(), &mut program), (Ok(0), UNTOUCHED));
    let response = program.bytes(Program::RESPONSE, 4000);
    assert_eq!(response[..8], [0, 0, 0, 0, 0xa0, 4, 0, 0]);
    let report = AttestationReport::read_from_bytes(&response[32..0x4c0]).unwrap();
    assert_eq!((report.report_data, report.vmpl.get()), (DATA, 0));
    assert!(response[0x4c0..].iter().all(|byte| *byte == 0), "the response is padded with zeros");
    assert_eq!(program.bytes(Program::RESPONSE + 4000, 1), [0xcc]);
}

#[test]
fn bytes_in_place_are_as_good_as_an_address() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let mut program = Program::new();
    program.write(Program::REQUEST, report_request().as_bytes()).unwrap();
    let before = input();
    let mut arg = before;
    let outcome = driver.ioctl(SNP_GET_REPORT, arg.as_mut_bytes(), &mut program);
    assert_eq!((outcome.result, outcome.written, arg), (Ok(0), false, before));
    arg.resp_data.set(0);
    let outcome = driver.ioctl(SNP_GET_REPORT, arg.as_mut_bytes(), &mut program);
    assert_eq!((outcome.result, outcome.written), (Err(Errno::EINVAL), true));
    assert_eq!(arg.exitinfo2.get(), 0xff);
    let outcome = driver.ioctl(SNP_GET_REPORT, &mut [1; 31], &mut program);
    assert_eq!((outcome.result, outcome.written), (Err(Errno::EFAULT), false));
}

#[test]
fn a_key_is_derived() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let derive = |fields: u64| {
        let mut program = Program::new();
        let request =
            SnpDerivedKeyReq { guest_field_select: fields.into(), ..SnpDerivedKeyReq::new_zeroed() };
        program.write(Program::REQUEST, request.as_bytes()).unwrap();
        assert_eq!(call(&driver, SNP_GET_DERIVED_KEY, &input(), &mut program), (Ok(0), UNTOUCHED));
        assert_eq!(program.bytes(Program::RESPONSE + 64, 1), [0xcc]);
        program.bytes(Program::RESPONSE, 64).to_vec()
    };
    let key = derive(0);
    assert_eq!(key[..32], [0; 32], "status and reserved bytes");
    assert_ne!(key[32..], [0; 32]);
    assert_eq!(derive(0), key);
    // What the firmware refuses is a success of the driver.
    let refused = derive(1 << 63);
    assert_eq!(refused[..4], [0x16, 0, 0, 0]);
    assert!(key_is_good(&driver));
}

#[test]
fn certificates_come_in_two_passes() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let mut program = Program::new();
    // Without room nothing is wanted, but the host has something.
    assert_eq!(get_ext_report(&driver, 0, &mut program), ((Err(Errno::EIO), 1 << 32), 0x2000));
    assert_eq!(get_ext_report(&driver, 0x1000, &mut program), ((Err(Errno::EIO), 1 << 32), 0x2000));
    assert_eq!(program.bytes(Program::RESPONSE, 1), [0xcc], "no report then");
    assert!(key_is_good(&driver));
    assert_eq!(get_ext_report(&driver, 0x3000, &mut program), ((Ok(0), UNTOUCHED), 0x3000));
    let table = program.bytes(Program::CERTIFICATES, 0x3000);
    assert_eq!(table[..0x2000], certificates(2));
    assert!(table[0x2000..].iter().all(|byte| *byte == 0), "the rest of the room is cleared");
    assert_eq!(cert_table::entries(table).count(), 1);
    assert_eq!(program.bytes(Program::RESPONSE, 1), [0]);
    assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED), "the sequence number is in step");
}

#[test]
fn a_host_without_certificates_needs_no_room() {
    let guest = snp_guest_in(world(), &[]);
    let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default()).unwrap();
    let mut program = Program::new();
    assert_eq!(get_ext_report(&driver, 0, &mut program), ((Ok(0), UNTOUCHED), 0));
    assert_eq!(program.bytes(Program::CERTIFICATES, 1), [0xcc]);
    let mut provider = driver;
    assert_eq!(provider.report_new(&request(&DATA)).unwrap().auxblob, None);
}

/// Where a caller's mistakes are noticed.
#[rstest]
#[case::version(|input: &mut SnpGuestRequestIoctl| input.msg_version = 0, Errno::EINVAL, UNTOUCHED)]
#[case::no_request(|input: &mut SnpGuestRequestIoctl| input.req_data.set(0), Errno::EINVAL, 0xff)]
#[case::no_response(|input: &mut SnpGuestRequestIoctl| input.resp_data.set(0), Errno::EINVAL, 0xff)]
#[case::wild_request(|input: &mut SnpGuestRequestIoctl| input.req_data.set(1), Errno::EFAULT, 0xff)]
// The firmware did its work, so `exitinfo2` is zero and does not come back.
#[case::wild_response(
    |input: &mut SnpGuestRequestIoctl| input.resp_data.set(u64::MAX),
    Errno::EFAULT,
    UNTOUCHED
)]
fn mistakes_leave_the_key(
    #[case] mistake: fn(&mut SnpGuestRequestIoctl),
    #[case] errno: Errno,
    #[case] exitinfo2: u64,
    #[values(SNP_GET_REPORT, SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT)] cmd: u32,
) {
    let guest = snp_guest_in(world(), &[]);
    let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default()).unwrap();
    let mut program = Program::new();
    program.write(Program::REQUEST, &[0; 112]).unwrap();
    let mut input = input();
    mistake(&mut input);
    assert_eq!(call(&driver, cmd, &input, &mut program), (Err(errno), exitinfo2));
    assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED));
}

#[rstest]
#[case::not_pages(Program::CERTIFICATES, 0x1001, Errno::EINVAL)]
#[case::too_large(Program::CERTIFICATES, 0x5000, Errno::EINVAL)]
#[case::not_user_space(0x7fff_ffff_e000, 0x2000, Errno::EFAULT)]
#[case::wrapping(u64::MAX, 0x2000, Errno::EFAULT)]
fn room_for_certificates_is_checked_first(#[case] address: u64, #[case] len: u32, #[case] errno: Errno) {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let mut program = Program::new();
    let request = SnpExtReportReq {
        certs_address: address.into(),
        certs_len: len.into(),
        ..SnpExtReportReq::new_zeroed()
    };
    program.write(Program::REQUEST, request.as_bytes()).unwrap();
    assert_eq!(call(&driver, SNP_GET_EXT_REPORT, &input(), &mut program), (Err(errno), 0xff));
    assert_eq!(driver.with_guest(|guest| guest.message_count().unwrap()), 0, "nothing was sent");
}

#[test]
fn certificates_that_cannot_be_copied_are_noticed_last() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let mut program = Program::new();
    let request = SnpExtReportReq {
        certs_address: (Program::READ_ONLY - 0x1000).into(),
        certs_len: 0x2000.into(),
        ..SnpExtReportReq::new_zeroed()
    };
    program.write(Program::REQUEST, request.as_bytes()).unwrap();
    assert_eq!(call(&driver, SNP_GET_EXT_REPORT, &input(), &mut program), (Err(Errno::EFAULT), UNTOUCHED));
    assert_eq!(program.bytes(Program::RESPONSE, 1), [0xcc]);
    assert!(key_is_good(&driver));
}

/// Linux 6.12 looks at the key before it looks at what is asked; Linux 6.14 when it is to be used.
#[rstest]
#[case::good_key(true, SevGuestOptions::LINUX_6_12, [Errno::ENOTTY, Errno::EINVAL, Errno::EINVAL], [0xff, UNTOUCHED, 0xff])]
#[case::wiped_6_12(false, SevGuestOptions::LINUX_6_12, [Errno::ENOTTY, Errno::EINVAL, Errno::ENOTTY], [UNTOUCHED; 3])]
#[case::wiped_6_16(false, SevGuestOptions::LINUX_6_16, [Errno::ENOTTY, Errno::EINVAL, Errno::EINVAL], [0xff, UNTOUCHED, 0xff])]
fn the_order_of_checks(
    #[case] good: bool,
    #[case] options: SevGuestOptions,
    #[case] errnos: [Errno; 3],
    #[case] exitinfo2: [u64; 3],
) {
    let (driver, _) = sev_guest(options);
    if !good {
        wipe(&driver);
        assert_eq!(get_report(&driver), (Err(Errno::ENOTTY), UNTOUCHED));
    }
    let mut program = Program::new();
    let unknown = call(&driver, 0x5401, &input(), &mut program);
    let version = call(&driver, 0x5401, &SnpGuestRequestIoctl { msg_version: 0, ..input() }, &mut program);
    let null = SnpGuestRequestIoctl { req_data: 0.into(), ..input() };
    let null = call(&driver, SNP_GET_REPORT, &null, &mut program);
    let [(a, b), (c, d), (e, f)] = [unknown, version, null];
    assert_eq!(([a, c, e], [b, d, f]), (errnos.map(Err), exitinfo2));
    assert_eq!(driver.ioctl_at(SNP_GET_REPORT, 0, &mut program), Err(Errno::EFAULT));
}

#[test]
fn a_structure_that_cannot_be_written_back() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let mut program = Program::new();
    let at = usize::try_from(Program::READ_ONLY - Program::BASE).unwrap();
    let null = SnpGuestRequestIoctl { req_data: 0.into(), ..input() };
    program.0[at..at + 32].copy_from_slice(null.as_bytes());
    assert_eq!(driver.ioctl_at(SNP_GET_REPORT, Program::READ_ONLY, &mut program), Err(Errno::EFAULT));
}

#[test]
fn configfs_gets_report_and_certificates() {
    let (mut driver, _) = sev_guest(SevGuestOptions::default());
    assert_eq!((driver.name(), driver.privlevel_floor()), ("sev_guest", 0));
    let blobs = driver.report_new(&ReportRequest { privlevel: 3, ..request(&DATA) }).unwrap();
    let report = AttestationReport::read_from_bytes(&blobs.outblob.unwrap()).unwrap();
    assert_eq!((report.report_data, report.vmpl.get()), (DATA, 3));
    assert_eq!(blobs.auxblob.unwrap(), certificates(2));
    assert_eq!(blobs.manifestblob, None);
}

#[rstest]
#[case(request(&DATA[..63]))]
#[case(request(&[]))]
#[case(ReportRequest { service_provider: Some(b"svsm".to_vec()), ..request(&DATA) })]
#[case(ReportRequest { service_provider: Some(b"other".to_vec()), ..request(&DATA) })]
fn configfs_is_refused_before_anything_is_sent(#[case] request: ReportRequest) {
    let (mut driver, _) = sev_guest(SevGuestOptions::default());
    assert_eq!(driver.report_new(&request), Err(Errno::EINVAL));
    wipe(&driver);
    assert_eq!(driver.report_new(&request), Err(Errno::EINVAL), "the key is looked at later");
}

#[test]
fn services_are_not_offered() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    let hidden = [
        Attribute::ServiceProvider,
        Attribute::ServiceGuid,
        Attribute::ServiceManifestVersion,
        Attribute::Manifestblob,
    ];
    assert!(hidden.into_iter().all(|attribute| !driver.is_visible(attribute)));
    let shown = [Attribute::Auxblob, Attribute::Privlevel, Attribute::PrivlevelFloor, Attribute::Outblob];
    assert!(shown.into_iter().all(|attribute| driver.is_visible(attribute)));
}

#[rstest]
#[case(0, Ok(0))]
#[case(3, Ok(3))]
#[case(4, Err(Errno::EINVAL))]
fn the_key_is_chosen_at_load(#[case] vmpck: u8, #[case] floor: Result<u32, Errno>) {
    let options = SevGuestOptions { vmpck, ..SevGuestOptions::default() };
    let driver = SevGuest::new(snp_guest_in(world(), &[]), Arc::new(VirtualSleeper::new()), options);
    assert_eq!(driver.as_ref().map(Provider::privlevel_floor).map_err(|errno| *errno), floor);
    if let Ok(driver) = driver {
        // A guest at VMPL 3 cannot speak for VMPL 0: the firmware refuses, the driver does not mind.
        assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED));
    }
}

#[test]
fn an_empty_key_is_no_device() {
    let mut guest = snp_guest_in(world(), &[]);
    guest.wipe_message_key().unwrap();
    let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default());
    assert_eq!(driver.err(), Some(Errno::EINVAL));
}

#[test]
fn styles() {
    assert_eq!(SevGuestOptions::from(KernelStyle::V6_7), SevGuestOptions::LINUX_6_12);
    assert!(SevGuestOptions::from(KernelStyle::V6_16).late_key_check);
}

#[test]
fn handles_share_the_device() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let driver = driver.clone();
            scope.spawn(move || assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED)));
        }
    });
    assert_eq!(driver.with_guest(|guest| guest.message_count().unwrap()), 8);
    wipe(&driver.clone());
    assert_eq!(get_report(&driver).0, Err(Errno::ENOTTY));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a program hands over, the driver ends. The key is only lost by a message version that the firmware does not
    /// know, which it answers with an error instead of a message.
    #[test]
    fn any_call_ends(
        calls in prop::collection::vec(
            (
                prop_oneof![Just(SNP_GET_REPORT), Just(SNP_GET_DERIVED_KEY), Just(SNP_GET_EXT_REPORT), any::<u32>()],
                prop_oneof![Just(1_u8), any::<u8>()],
                prop_oneof![0x1000..0x1_1000_u64, any::<u64>()],
                prop_oneof![0x1000..0x1_1000_u64, any::<u64>()],
                prop::collection::vec(any::<u8>(), 112),
                prop_oneof![Just(0_u32), Just(0x2000), any::<u32>()],
            ),
            1..4,
        )
    ) {
        let known = calls.iter().all(|(_, version, ..)| *version <= 1);
        let (driver, _) = sev_guest(SevGuestOptions::default());
        for (cmd, msg_version, request, response, bytes, certs_len) in calls {
            let mut program = Program::new();
            let _ = program.write(request, &bytes);
            let _ = program.write(request.saturating_add(104), certs_len.as_bytes());
            let input = SnpGuestRequestIoctl {
                msg_version,
                req_data: request.into(),
                resp_data: response.into(),
                ..input()
            };
            let mut arg = input;
            let outcome = driver.ioctl(cmd, arg.as_mut_bytes(), &mut program);
            prop_assert!(outcome.written || arg == input);
        }
        prop_assert!(key_is_good(&driver) || !known);
    }
}
