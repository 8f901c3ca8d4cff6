//! `sev-guest` when the host or the firmware fails: rows 1 to 6 of the list of faults.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::errno::Errno;
use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::snp::cert_table::CertGuid;
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint, NoFaults},
    snp::guest::InProcessGuest,
};
use tsmsim_userland::{
    drivers::{
        sev_guest::{SevGuest, SevGuestOptions},
        time::{SystemSleeper, VirtualSleeper},
    },
    provider::{Blobs, Provider, ReportRequest},
};

use crate::{
    sev_guest::{Ended, UNTOUCHED, get_ext_report, get_report, key_is_good, request},
    support::{DATA, Program, Spy, Times, Until, certificates, sev_guest, snp_guest_in, world},
};

const BUSY: FaultAction = FaultAction::Status(2 << 32);
/// `SEV_RET_NO_FW_CALL`.
const NO_FW_CALL: u64 = u64::MAX;

fn fault(driver: &SevGuest, point: FaultPoint, action: FaultAction, times: u32) {
    driver.with_guest(|guest| guest.world().faults = Box::new(Times(point, action, times)));
}

fn configfs(driver: &SevGuest) -> Result<Blobs, Errno> {
    driver.clone().report_new(&request(&DATA))
}

/// The key is wiped: every request is ENOTTY, whatever becomes of the host.
fn assert_disabled(driver: &SevGuest) {
    driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults));
    assert!(!key_is_good(driver));
    assert_eq!(get_report(driver), (Err(Errno::ENOTTY), UNTOUCHED));
    assert_eq!(configfs(driver), Err(Errno::ENOTTY));
}

fn assert_enabled(driver: &SevGuest) {
    driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults));
    assert_eq!(get_report(driver), (Ok(0), UNTOUCHED));
    assert!(configfs(driver).is_ok());
}

/// Row 1: the host is busy for so many seconds. Linux gives up at the first refusal after more than 60 s: with timers that
/// are late, as real ones are, that is the one at 60 s.
#[rstest]
#[case::ends_in_time(7, 0, (Ok(0), UNTOUCHED), 5, 8_000)]
#[case::ends_with_the_last(61, 0, (Ok(0), UNTOUCHED), 32, 62_000)]
#[case::too_long(3600, 0, (Err(Errno::ETIMEDOUT), 2 << 32), 32, 62_000)]
#[case::timers_are_late(3600, 4, (Err(Errno::ETIMEDOUT), 2 << 32), 31, 60_120)]
fn a_busy_host(
    #[case] busy_s: u64,
    #[case] late_ms: u64,
    #[case] ended: Ended,
    #[case] asked: u32,
    #[case] passed_ms: u64,
) {
    let sleeper = Arc::new(VirtualSleeper::late_by(Duration::from_millis(late_ms)));
    let mut guest = snp_guest_in(world(), &[]);
    let count = Arc::new(Mutex::new(0));
    guest.world().faults = Box::new(Until {
        point: FaultPoint::GHCB_GUEST_REQUEST,
        action: BUSY,
        end: Duration::from_secs(busy_s),
        sleeper: sleeper.clone(),
        count: Arc::clone(&count),
    });
    let driver = SevGuest::new(guest, sleeper.clone(), SevGuestOptions::default()).unwrap();
    assert_eq!(get_report(&driver), ended);
    assert_eq!(*count.lock().unwrap(), asked);
    assert_eq!(tsmsim_userland::drivers::time::Sleeper::now(&*sleeper), Duration::from_millis(passed_ms));
    if ended.0.is_ok() { assert_enabled(&driver) } else { assert_disabled(&driver) }
}

#[test]
fn configfs_times_out_too() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::GHCB_GUEST_REQUEST, BUSY, 32);
    assert_eq!(configfs(&driver), Err(Errno::ETIMEDOUT));
    assert_disabled(&driver);
}

#[test]
fn a_session_that_ends_does_not_wait() {
    let sleeper = Arc::new(SystemSleeper::new());
    sleeper.shutdown();
    let driver = SevGuest::new(snp_guest_in(world(), &[]), sleeper, SevGuestOptions::default()).unwrap();
    fault(&driver, FaultPoint::GHCB_GUEST_REQUEST, BUSY, u32::MAX);
    assert_eq!(get_report(&driver), (Err(Errno::ETIMEDOUT), 2 << 32));
    assert_disabled(&driver);
}

/// Row 2: certificates that do not fit into the driver's 16 KiB never reach configfs; the key stays.
#[test]
fn certificates_beyond_the_buffer() {
    let guest = snp_guest_in(world(), &certificates(5));
    let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default()).unwrap();
    assert_eq!(configfs(&driver), Err(Errno::EIO));
    let mut program = Program::new();
    assert_eq!(get_ext_report(&driver, 0x4000, &mut program), ((Err(Errno::EIO), 1 << 32), 0x5000));
    assert_eq!(get_ext_report(&driver, 0x5000, &mut program), ((Err(Errno::EINVAL), 0xff), 0x5000));
    assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED));
    assert_eq!(configfs(&driver), Err(Errno::EIO));
}

/// Row 2: where the plain request that follows fails as well, the key is wiped, and the caller still learns the size.
#[rstest]
#[case::firmware(FaultPoint::SNP_GUEST_REQUEST, FaultAction::Status(0x16), Errno::EIO, true)]
#[case::busy(FaultPoint::GHCB_GUEST_REQUEST, BUSY, Errno::ETIMEDOUT, false)]
fn the_request_after_too_little_room_fails(
    #[case] point: FaultPoint,
    #[case] action: FaultAction,
    #[case] errno: Errno,
    #[case] good: bool,
) {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, point, action, u32::MAX);
    let mut program = Program::new();
    assert_eq!(get_ext_report(&driver, 0x1000, &mut program), ((Err(errno), 1 << 32), 0x2000));
    // EIO with INVALID_LEN is what the driver takes for a request that only lacked room.
    assert_eq!(key_is_good(&driver), good);
    if good {
        // The firmware did not count the message; the driver did.
        driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults));
        assert_eq!(get_report(&driver).0, Err(Errno::EIO));
    }
    assert_disabled(&driver);
}

/// Row 2: a host that says `INVALID_LEN` to a plain request leaves the key alone as well, but not the sequence number.
#[test]
fn invalid_len_for_a_plain_request() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::GHCB_GUEST_REQUEST, FaultAction::Status(1 << 32), 1);
    assert_eq!(get_report(&driver), (Err(Errno::EIO), 1 << 32));
    assert!(key_is_good(&driver));
    assert_eq!(get_report(&driver).0, Err(Errno::EIO), "the firmware does not know the message before");
    assert_disabled(&driver);
}

/// Row 3: whatever host or firmware say wipes the key.
#[rstest]
#[case(FaultPoint::GHCB_GUEST_REQUEST, 0xffff_ffff_0000_0000, 0xffff_ffff_0000_0000)]
#[case(FaultPoint::GHCB_GUEST_REQUEST, 3 << 32, 3 << 32)]
#[case(FaultPoint::SNP_GUEST_REQUEST, 0x16, 0x16)]
#[case(FaultPoint::SNP_GUEST_REQUEST, 0x1d, 0x1d)]
fn host_and_firmware_errors(#[case] point: FaultPoint, #[case] status: u64, #[case] exitinfo2: u64) {
    for by_configfs in [false, true] {
        let (driver, _) = sev_guest(SevGuestOptions::default());
        fault(&driver, point, FaultAction::Status(status), 1);
        if by_configfs {
            assert_eq!(configfs(&driver), Err(Errno::EIO));
        } else {
            assert_eq!(get_report(&driver), (Err(Errno::EIO), exitinfo2));
        }
        assert_disabled(&driver);
    }
}

/// Row 3: a refusal inside an authentic response is a success for the ioctl, and an error for configfs; the key stays.
#[rstest]
#[case(0x16, Errno::EINVAL)]
#[case(0x27, Errno::EINVAL)]
#[case(0x1, Errno::ENXIO)]
#[case(0x4, Errno::ENXIO)]
fn refusals_of_the_firmware(#[case] status: u64, #[case] errno: Errno) {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::SNP_MESSAGE, FaultAction::Status(status), 2);
    assert_eq!(configfs(&driver), Err(errno));
    let mut program = Program::new();
    assert_eq!(get_ext_report(&driver, 0x2000, &mut program).0, (Ok(0), UNTOUCHED));
    assert_eq!(u64::from(program.bytes(Program::RESPONSE, 1)[0]), status);
    assert_enabled(&driver);
}

/// Row 3: a VMPL that the firmware does not report for is EINVAL in configfs.
#[test]
fn a_vmpl_below_the_guest() {
    let options = SevGuestOptions { vmpck: 2, ..SevGuestOptions::default() };
    let mut driver =
        SevGuest::new(snp_guest_in(world(), &[]), Arc::new(VirtualSleeper::new()), options).unwrap();
    let report = |driver: &mut SevGuest, privlevel| {
        driver
            .report_new(&ReportRequest { privlevel, ..request(&DATA) })
            .map(|blobs| blobs.outblob.unwrap().len())
    };
    assert_eq!(report(&mut driver, 1), Err(Errno::EINVAL));
    assert_eq!(report(&mut driver, 2), Ok(0x4a0));
}

/// The offset of a bit in a message's page.
const fn bit(byte: usize) -> FaultAction {
    FaultAction::FlipBit(byte * 8)
}

/// Row 4: a response that cannot be trusted.
#[rstest]
#[case::tag(bit(0))]
#[case::sequence_number(bit(0x20))]
#[case::algorithm(bit(0x30))]
#[case::message_type(bit(0x34))]
#[case::version(bit(0x35))]
#[case::size(bit(0x36))]
#[case::larger_than_the_page(FaultAction::Overwrite { offset: 0x36, bytes: vec![0xff, 0xff] })]
#[case::vmpck(bit(0x3c))]
#[case::payload(bit(0x60))]
#[case::short(FaultAction::Truncate(0x100))]
fn responses_that_cannot_be_trusted(#[case] action: FaultAction) {
    for options in [SevGuestOptions::LINUX_6_12, SevGuestOptions::LINUX_6_16] {
        let (driver, _) = sev_guest(options);
        fault(&driver, FaultPoint::SNP_RESPONSE, action.clone(), 1);
        let mut program = Program::new();
        // The host itself saw no error, so there is nothing to write back.
        assert_eq!(get_ext_report(&driver, 0x2000, &mut program).0, (Err(Errno::EBADMSG), UNTOUCHED));
        assert_eq!(program.bytes(Program::RESPONSE, 1), [0xcc]);
        assert_eq!(program.bytes(Program::CERTIFICATES, 1), [0xcc]);
        assert_disabled(&driver);
    }
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::SNP_RESPONSE, action, 1);
    assert_eq!(configfs(&driver), Err(Errno::EBADMSG));
    assert_disabled(&driver);
}

/// Row 4: the host says that all is well and there is no response.
#[test]
fn no_response() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    assert_enabled(&driver);
    fault(&driver, FaultPoint::GHCB_GUEST_REQUEST, FaultAction::Drop, 1);
    assert_eq!(get_report(&driver), (Err(Errno::EBADMSG), UNTOUCHED), "that of before is cleared");
    assert_disabled(&driver);
}

/// Row 4: the response of the request before.
#[test]
fn a_replayed_response() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    assert_eq!(get_report(&driver), (Ok(0), UNTOUCHED));
    let bytes = driver.with_guest(|guest| {
        let (mut page, gpa) = (vec![0; 4096], guest.layout().response_gpa());
        guest.world().memory.read(gpa, &mut page).unwrap();
        page
    });
    fault(&driver, FaultPoint::SNP_RESPONSE, FaultAction::Overwrite { offset: 0, bytes }, 1);
    assert_eq!(get_report(&driver), (Err(Errno::EBADMSG), UNTOUCHED));
    assert_disabled(&driver);
}

/// An entry of a certificate table.
fn entry(guid: CertGuid, offset: u32, length: u32) -> Vec<u8> {
    [&guid.0[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// Row 5: the certificate table is delivered as it is, as far as its entries reach.
#[rstest]
#[case::empty(entry(CertGuid::END, 0, 0), None)]
#[case::no_size(entry(CertGuid::ARK, 0, 0), None)]
#[case::inside_itself(entry(CertGuid::ARK, 0, 10), Some(10))]
#[case::wrong_guid(entry(CertGuid([9; 16]), 48, 3), Some(51))]
#[case::null_guid_with_a_place(entry(CertGuid::END, 1, 1), Some(2))]
#[case::overlapping([entry(CertGuid::ARK, 72, 9), entry(CertGuid::ASK, 75, 2)].concat(), Some(81))]
#[case::beyond_the_buffer(entry(CertGuid::ARK, 0x3fff, 2), Some(0x4000))]
#[case::far_beyond(entry(CertGuid::ARK, 0x8000_0000, 0x7fff_ffff), Some(0x4000))]
#[case::wraps_to_nothing(entry(CertGuid::ARK, u32::MAX, 1), None)]
#[case::wraps_to_little(entry(CertGuid::ARK, u32::MAX, 9), Some(8))]
#[case::never_ends(entry(CertGuid::ARK, 1, 1).repeat(0x4000 / 24), Some(2))]
fn odd_certificate_tables(#[case] table: Vec<u8>, #[case] size: Option<usize>) {
    // Room for the table, of which there is at least a page.
    let mut certificates = table.clone();
    certificates.resize(0x4000, 0);
    let guest = snp_guest_in(world(), &certificates);
    let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default()).unwrap();
    let auxblob = configfs(&driver).unwrap().auxblob;
    assert_eq!(auxblob.as_deref().map(<[u8]>::len), size);
    assert_eq!(auxblob.as_deref(), size.map(|size| &certificates[..size]));
    let mut program = Program::new();
    assert_eq!(get_ext_report(&driver, 0x4000, &mut program).0, (Ok(0), UNTOUCHED));
    assert_eq!(program.bytes(Program::CERTIFICATES, 0x4000), certificates);
}

/// Row 5: no table although one was promised: the buffer is clear, so an older one does not come back.
#[test]
fn a_table_that_is_not_written() {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    assert!(configfs(&driver).unwrap().auxblob.is_some());
    fault(&driver, FaultPoint::GHCB_CERTIFICATES, FaultAction::Drop, 1);
    assert_eq!(configfs(&driver).unwrap().auxblob, None);
    assert_enabled(&driver);
}

/// Row 6: an exit that the hypervisor does not serve ends with a positive code, which passes for success; the key is wiped.
#[rstest]
#[case::malformed(FaultAction::Status(6), 2)]
#[case::reason_without_meaning(FaultAction::Overwrite { offset: 0, bytes: vec![7] }, 2)]
#[case::exception(
    FaultAction::Overwrite { offset: 0, bytes: [&[1, 0, 0, 0, 0, 0, 0, 0][..], &0x8000_030d_u64.to_le_bytes()].concat() },
    4
)]
fn an_exit_that_is_not_served(#[case] action: FaultAction, #[case] code: i32) {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::GHCB_EXIT, action.clone(), 1);
    assert_eq!(get_report(&driver), (Ok(code), NO_FW_CALL));
    assert_disabled(&driver);
    let (driver, _) = sev_guest(SevGuestOptions::default());
    fault(&driver, FaultPoint::GHCB_EXIT, action, 1);
    assert_eq!(configfs(&driver), Ok(Blobs::default()), "an empty report");
    assert_disabled(&driver);
}

#[rstest]
#[case(u32::MAX - 3, Ok(0), UNTOUCHED)]
#[case(u32::MAX - 1, Err(Errno::EIO), 0xff)]
#[case(u32::MAX, Err(Errno::EIO), 0xff)]
fn the_sequence_number_ends(#[case] count: u32, #[case] result: Result<i32, Errno>, #[case] exitinfo2: u64) {
    let (driver, _) = sev_guest(SevGuestOptions::default());
    driver.with_guest(|guest: &mut InProcessGuest| guest.set_message_count(count).unwrap());
    let ended = get_report(&driver);
    if result.is_err() {
        assert_eq!(ended, (result, exitinfo2));
        assert!(key_is_good(&driver), "nothing was sent under it");
    } else {
        // The firmware is not there yet, and says so.
        assert_eq!(ended.0, Err(Errno::EIO));
        assert_disabled(&driver);
    }
}

fn faults() -> impl Strategy<Value = Option<(FaultPoint, FaultAction, u32)>> {
    let points = [
        FaultPoint::SNP_GUEST_REQUEST,
        FaultPoint::SNP_MESSAGE,
        FaultPoint::SNP_REPORT,
        FaultPoint::SNP_RESPONSE,
        FaultPoint::GHCB_EXIT,
        FaultPoint::GHCB_GUEST_REQUEST,
        FaultPoint::GHCB_CERTIFICATES,
    ];
    let actions = prop_oneof![
        prop::sample::select(vec![1_u64 << 32, 2 << 32, 0x16, 5]).prop_map(FaultAction::Status),
        (0..4096_usize * 8).prop_map(FaultAction::FlipBit),
        (0..4096_usize).prop_map(FaultAction::Truncate),
        Just(FaultAction::Drop),
    ];
    prop::option::of((prop::sample::select(points.to_vec()), actions, 1..40_u32))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever goes wrong, no sequence number is ever used for two messages.
    #[test]
    fn no_iv_is_used_twice(steps in prop::collection::vec((faults(), 0..4_u32), 1..8)) {
        // The request page, by its sequence number.
        let mut sent = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        let reused = Arc::new(Mutex::new(false));
        let noticed = Arc::clone(&reused);
        let world = Spy::world(move |gpa, data| {
            // The request page follows the GHCB, which is at 1000h.
            if gpa == 0x2000 && data.len() == 4096 {
                let before = sent.insert(data[0x20..0x28].to_vec(), data.clone());
                *noticed.lock().unwrap() |= before.is_some_and(|before| before != *data);
            }
        });
        let guest = snp_guest_in(world, &certificates(2));
        prop_assert_eq!(guest.layout().request_gpa(), 0x2000);
        let driver = SevGuest::new(guest, Arc::new(VirtualSleeper::new()), SevGuestOptions::default()).unwrap();
        for (planned, room) in steps {
            match planned {
                Some((point, action, times)) => fault(&driver, point, action, times),
                None => driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults)),
            }
            let good = key_is_good(&driver);
            let (ended, _) = get_ext_report(&driver, room * 0x1000, &mut Program::new());
            if !good {
                prop_assert_eq!(ended.0, Err(Errno::ENOTTY));
            }
            prop_assert!(good || !key_is_good(&driver));
        }
        prop_assert!(!*reused.lock().unwrap());
    }
}
