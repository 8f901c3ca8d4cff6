//! `tdx-guest` when the host, the module or the quoting service fail: rows 7 to 10 of the list of faults.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use nix::errno::Errno;
use rstest::rstest;
use tsmsim_abi::tdx::{get_quote::GetQuoteStatus, status::StatusCode, vmcall::VmcallStatus};
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint, NoFaults},
    tdx::vmcall::HostConfig,
};
use tsmsim_userland::{
    drivers::{
        tdx_guest::{TdxGuest, TdxGuestOptions},
        time::{Interrupted, Sleeper, SystemSleeper, VirtualSleeper},
    },
    provider::Provider as _,
};

use crate::{
    support::{DATA, Spy, Times, td_guest_in, tdx_guest, world},
    tdx_guest::{get_report0, is_quote, quote, request},
};

const FIRST: TdxGuestOptions = TdxGuestOptions::LINUX_6_12;
const LATEST: TdxGuestOptions = TdxGuestOptions::LINUX_7_1;

fn fault(driver: &TdxGuest, point: FaultPoint, action: FaultAction, times: u32) {
    driver.with_guest(|guest| guest.world().faults = Box::new(Times(point, action, times)));
}

/// The driver looks at once and then each second, 30 times. A quote that is there at the last of these looks is called late.
/// One that is not is taken for a quote of no bytes, because Linux counts one further.
#[rstest]
#[case::at_once(FIRST, 0, Ok(true), 0)]
#[case::soon(FIRST, 100, Ok(true), 1)]
#[case::whole_seconds(FIRST, 5_000, Ok(true), 5)]
#[case::last_but_one(FIRST, 29_000, Ok(true), 29)]
#[case::last(FIRST, 29_001, Err(Errno::ETIMEDOUT), 30)]
#[case::last_exactly(FIRST, 30_000, Err(Errno::ETIMEDOUT), 30)]
#[case::never(FIRST, 30_001, Ok(false), 30)]
#[case::last_but_one_7_1(LATEST, 29_000, Ok(true), 29)]
#[case::last_7_1(LATEST, 30_000, Err(Errno::ETIMEDOUT), 30)]
#[case::never_7_1(LATEST, 30_001, Err(Errno::EIO), 30)]
fn a_slow_quoting_service(
    #[case] options: TdxGuestOptions,
    #[case] delay_ms: u64,
    #[case] ended: Result<bool, Errno>,
    #[case] passed_s: u64,
) {
    let (driver, sleeper) = tdx_guest(options, Some(Duration::from_millis(delay_ms)));
    let first = quote(&driver);
    assert_eq!(first.as_ref().map(|quote| is_quote(quote)).map_err(|errno| *errno), ended);
    assert!(first.is_err() || ended == Ok(true) || first == Ok(Vec::new()));
    assert_eq!(sleeper.now(), Duration::from_secs(passed_s));
}

/// Row 7: a quote that never comes. The buffer stays the host's, and every request after is EBUSY.
#[rstest]
#[case::first(FIRST, Ok(Vec::new()))]
#[case::latest(LATEST, Err(Errno::EIO))]
fn in_flight_for_ever(#[case] options: TdxGuestOptions, #[case] ended: Result<Vec<u8>, Errno>) {
    let (mut driver, sleeper) = tdx_guest(options, None);
    fault(&driver, FaultPoint::TDX_QUOTE, FaultAction::Drop, 1);
    assert_eq!(quote(&driver), ended);
    assert_eq!(sleeper.now(), Duration::from_secs(30));
    for _ in 0..2 {
        assert_eq!(quote(&driver), Err(Errno::EBUSY));
    }
    assert_eq!(driver.report_new(&request(&[])), Err(Errno::EBUSY), "before the size is looked at");
    assert!(get_report0(&driver).is_ok(), "the ioctl does not need the buffer");
}

/// Row 7: the host gives the buffer back later.
#[test]
fn in_flight_for_a_while() {
    let (driver, sleeper) = tdx_guest(FIRST, Some(Duration::from_secs(45)));
    assert_eq!(quote(&driver), Ok(Vec::new()));
    sleeper.sleep(Duration::from_millis(14_999)).unwrap();
    assert_eq!(quote(&driver), Err(Errno::EBUSY));
    sleeper.sleep(Duration::from_millis(1)).unwrap();
    assert_eq!(quote(&driver), Ok(Vec::new()), "a new request, which takes as long");
}

/// Row 8: what the quoting service says when it fails.
#[rstest]
#[case::error(FIRST, GetQuoteStatus::ERROR, Ok(Vec::new()))]
#[case::unavailable(FIRST, GetQuoteStatus::SERVICE_UNAVAILABLE, Ok(Vec::new()))]
#[case::unavailable_6_16(TdxGuestOptions::LINUX_6_16, GetQuoteStatus::SERVICE_UNAVAILABLE, Ok(Vec::new()))]
#[case::unknown(FIRST, GetQuoteStatus(77), Ok(Vec::new()))]
#[case::error_7_1(LATEST, GetQuoteStatus::ERROR, Err(Errno::EIO))]
#[case::unknown_7_1(LATEST, GetQuoteStatus(77), Err(Errno::EIO))]
fn a_quoting_service_that_fails(
    #[case] options: TdxGuestOptions,
    #[case] status: GetQuoteStatus,
    #[case] ended: Result<Vec<u8>, Errno>,
) {
    let (driver, _) = tdx_guest(options, None);
    fault(&driver, FaultPoint::TDX_QUOTE, FaultAction::Status(status.0), 1);
    assert_eq!(quote(&driver), ended);
    assert!(is_quote(&quote(&driver).unwrap()), "the next request is none the worse");
}

#[test]
fn no_quoting_service() {
    let config = HostConfig { quoting: false, ..HostConfig::default() };
    let driver = TdxGuest::new(td_guest_in(world(), config), Arc::new(VirtualSleeper::new()), FIRST).unwrap();
    assert_eq!(quote(&driver), Ok(Vec::new()));
    assert_eq!(quote(&driver), Ok(Vec::new()));
}

/// Row 9: a host that states another length than that of its answer.
#[rstest]
#[case::all_of_the_buffer(0x2000 - 24, Ok(0x2000 - 24))]
#[case::one_more(0x2000 - 23, Err(Errno::EFBIG))]
#[case::much_more(u32::MAX, Err(Errno::EFBIG))]
#[case::less(16, Ok(16))]
fn a_length_that_is_not_the_answers(#[case] out_len: u32, #[case] ended: Result<usize, Errno>) {
    let world = Spy::world(move |_, data| {
        // The head of the buffer when the host hands it back: version 1, status 0, and an answer.
        if data.len() == 24 && data[..16] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
            data[20..].copy_from_slice(&out_len.to_le_bytes());
        }
    });
    let guest = td_guest_in(world, HostConfig::default());
    let driver = TdxGuest::new(guest, Arc::new(VirtualSleeper::new()), FIRST).unwrap();
    for _ in 0..2 {
        assert_eq!(quote(&driver).map(|quote| quote.len()), ended);
    }
}

/// Row 9: a quote that really is larger than the buffer is an error of the service.
#[test]
fn a_quote_that_does_not_fit() {
    let (driver, _) = tdx_guest(TdxGuestOptions { quote_buffer_size: 0x1000, ..FIRST }, None);
    assert_eq!(quote(&driver), Ok(Vec::new()));
}

/// Row 10: the hypercall.
#[rstest]
#[case(VmcallStatus::RETRY)]
#[case(VmcallStatus::INVALID_OPERAND)]
#[case(VmcallStatus(0x77))]
fn a_hypercall_that_fails(#[case] status: VmcallStatus) {
    for options in [FIRST, LATEST] {
        let (driver, _) = tdx_guest(options, None);
        fault(&driver, FaultPoint::TDX_VMCALL, FaultAction::Status(status.0), 1);
        assert_eq!(quote(&driver), Err(Errno::EIO));
        assert!(is_quote(&quote(&driver).unwrap()));
    }
}

/// Row 10: the module. Linux 6.16 tells more of what it says.
#[rstest]
#[case::operand(StatusCode::OPERAND_INVALID, Errno::EINVAL, Errno::ENXIO)]
#[case::busy(StatusCode::OPERAND_BUSY, Errno::EIO, Errno::EBUSY)]
#[case::other(StatusCode::OP_STATE_INCORRECT, Errno::EIO, Errno::EIO)]
fn a_module_that_refuses(#[case] code: StatusCode, #[case] before: Errno, #[case] from_6_16: Errno) {
    for (options, errno) in [(FIRST, before), (LATEST, from_6_16)] {
        let (driver, _) = tdx_guest(options.clone(), None);
        let refuse = |times| {
            fault(&driver, FaultPoint::TDX_TDCALL, FaultAction::Status(code.status().0), times);
        };
        refuse(1);
        assert_eq!(quote(&driver), Err(errno));
        refuse(1);
        assert_eq!(get_report0(&driver).err(), Some(errno));
        if options.measurements {
            refuse(2);
            assert_eq!(driver.write_measurement(0, 0, &[1; 48]), Err(errno));
            assert_eq!(driver.read_measurement(0, 0, 48), Err(errno));
            assert_eq!(driver.read_measurement(0, 0, 48).unwrap(), [0; 48], "asked again, and in step");
        }
        driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults));
        assert!(is_quote(&quote(&driver).unwrap()));
    }
}

#[test]
fn a_session_that_ends_does_not_wait() {
    let sleeper = Arc::new(SystemSleeper::new());
    let config = HostConfig { quote_delay_ns: Some(u64::MAX), ..HostConfig::default() };
    let driver = TdxGuest::new(td_guest_in(world(), config), sleeper.clone(), FIRST).unwrap();
    sleeper.shutdown();
    assert_eq!(quote(&driver), Err(Errno::EINTR));
    assert_eq!(quote(&driver), Err(Errno::EBUSY));
}

/// A sleeper that says when it is slept with, and waits to be woken.
struct Handshake {
    asleep: mpsc::SyncSender<()>,
    wake: std::sync::Mutex<mpsc::Receiver<()>>,
    time: VirtualSleeper,
}

impl Sleeper for Handshake {
    fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        self.asleep.send(()).unwrap();
        self.wake.lock().unwrap().recv().unwrap();
        self.time.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.time.now()
    }
}

/// While a quote is waited for, the ioctl and the registers go on, as they have locks of their own.
#[test]
fn waiting_for_a_quote_holds_up_nothing_else() {
    let ((asleep, is_asleep), (wake, woken)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    let sleeper =
        Arc::new(Handshake { asleep, wake: std::sync::Mutex::new(woken), time: VirtualSleeper::new() });
    let config = HostConfig { quote_delay_ns: Some(1_000_000_000), ..HostConfig::default() };
    let driver = TdxGuest::new(td_guest_in(world(), config), sleeper, TdxGuestOptions::LINUX_6_16).unwrap();
    let other = driver.clone();
    let quoting = std::thread::spawn(move || quote(&other));
    is_asleep.recv().unwrap();
    assert_eq!(get_report0(&driver).unwrap().report_mac_struct.report_data, DATA);
    assert_eq!(driver.write_measurement(3, 0, &[1; 48]), Ok(48));
    assert!(driver.read_measurement(3, 0, 48).is_ok());
    wake.send(()).unwrap();
    assert!(is_quote(&quoting.join().unwrap().unwrap()));
}
