//! Any use of `/dev/tdx_guest`, of its measurement registers and its quotes. The first byte: bits 1:0: as Linux 6.12, 6.16 or 7.1
//! does; bits 4:2: how long quotes are delayed. One step: kind (1; bits 2:0), then 0 any ioctl:
//! command (4), structure (length and bytes); 1 a report of these data (64); 2 an ioctl at an address: command (1: bit 0: unknown),
//! offset (2; kind's bit 3: any address, 8); 3 user memory: offset (2), length and bytes; 4 a fault; 5 a quote by configfs; 6 the
//! host writes to the quote buffer: offset (2), length and bytes; 7 a register: which (1), offset (1), length (1; kind's bit 3: is
//! read), or length and bytes.
#![no_main]

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use nix::errno::Errno;
use tsmsim_abi::tdx::{get_quote::capacity, report::TdReport};
use tsmsim_fuzz::{
    Input, STEPS, tdx,
    userland::{Times, USER, UserMap, report_request},
};
use tsmsim_simulator::{fault::NoFaults, tdx::guest::InProcessTdGuest};
use tsmsim_userland::{
    drivers::{
        ccel::LOG_AREA_SIZE,
        tdx_guest::{TdxGuest, TdxGuestOptions},
        time::{Sleeper, VirtualSleeper},
        uapi::TDX_CMD_GET_REPORT0,
    },
    provider::Provider,
};
use zerocopy::FromBytes;

/// The driver, a program's memory, and whether something interfered.
struct Bench {
    driver: TdxGuest,
    options: TdxGuestOptions,
    user: UserMap,
    disturbed: bool,
}

/// What quotes may be delayed by, in seconds; the driver looks for 30.
const DELAYS: [Option<u64>; 5] = [None, Some(0), Some(2), Some(29), Some(40)];

/// A driver and its time.
type Booted = (TdxGuest, Arc<VirtualSleeper>);

thread_local! {
    /// A TD costs much to launch. So they are kept: a run finds RTMRs that were extended before, and nothing else of other runs.
    static BOOTED: RefCell<BTreeMap<(u8, usize), Booted>> = const { RefCell::new(BTreeMap::new()) };
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let options = match kind & 3 {
        0 | 1 => TdxGuestOptions::LINUX_6_12,
        2 => TdxGuestOptions::LINUX_6_16,
        _ => TdxGuestOptions::LINUX_7_1,
    };
    let delay = usize::from(kind >> 2 & 7) % DELAYS.len();
    let (driver, _) = BOOTED.with_borrow_mut(|booted| {
        let boot = || boot(&options, DELAYS[delay]);
        let kept = booted.entry((kind & 3, delay)).or_insert_with(boot);
        if !is_as_booted(kept, &options) {
            *kept = boot();
        }
        kept.clone()
    });
    let mut bench = Bench { driver, options, user: UserMap::default(), disturbed: false };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
    }
});

fn boot(options: &TdxGuestOptions, delay: Option<u64>) -> Booted {
    let sleeper = Arc::new(VirtualSleeper::new());
    let guest = tdx::guest(delay.map(Duration::from_secs));
    let driver = TdxGuest::new(guest, sleeper.clone(), options.clone()).expect("the TD has what it needs");
    (driver, sleeper)
}

/// Ends what an earlier run began. A TD that stopped, or whose buffer is still in flight, is of no use any more.
fn is_as_booted((driver, sleeper): &Booted, options: &TdxGuestOptions) -> bool {
    sleeper.sleep(Duration::from_secs(100)).expect("nobody interrupts");
    driver.with_guest(|guest| {
        guest.world().faults = Box::new(NoFaults);
        guest.poll();
        let zeros = vec![0; options.quote_buffer_size];
        let gpa = quote_gpa(guest, options);
        guest.world().memory.write(gpa, &zeros).expect("it is in memory");
    });
    let mut argument = vec![0; 1088];
    driver.ioctl(TDX_CMD_GET_REPORT0, &mut argument, &mut UserMap::default()).result == Ok(0)
}

/// Where the driver has its quote buffer.
fn quote_gpa(guest: &InProcessTdGuest, options: &TdxGuestOptions) -> u64 {
    (guest.ram_end() - (options.quote_buffer_size + LOG_AREA_SIZE) as u64) & !0xfff
}

impl Bench {
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        match kind & 7 {
            0 => {
                let command = input.u32();
                let mut argument = input.sized().to_vec();
                self.ioctl(command, &mut argument);
            }
            1 => {
                let mut argument = vec![0; 1088];
                argument[..64].copy_from_slice(&input.array::<64>());
                self.ioctl(TDX_CMD_GET_REPORT0, &mut argument);
            }
            2 => {
                let command = TDX_CMD_GET_REPORT0 + u32::from(input.u8() & 1);
                let address = if kind & 8 == 0 { USER + u64::from(input.u16()) } else { input.u64() };
                let result = self.driver.ioctl_at(command, address, &mut self.user);
                assert!(command == TDX_CMD_GET_REPORT0 || result == Err(Errno::ENOTTY));
            }
            3 => {
                let offset = input.u16().into();
                self.user.put(offset, input.sized());
            }
            4 => {
                let fault = Times::read(input);
                self.disturbed = true;
                self.driver.with_guest(|guest| guest.world().faults = Box::new(fault));
            }
            5 => self.quote(input),
            6 => self.host_writes(input),
            _ => self.register(kind, input),
        }
    }

    /// An ioctl over its structure.
    fn ioctl(&self, command: u32, argument: &mut [u8]) {
        let before = argument.to_vec();
        let outcome = self.driver.ioctl(command, argument, &mut UserMap::default());
        assert_eq!(outcome.written, outcome.result.is_ok());
        assert!(outcome.written || argument == before, "what does not go back is untouched");
        assert!(command == TDX_CMD_GET_REPORT0 || outcome.result == Err(Errno::ENOTTY));
        if outcome.written && !self.disturbed {
            let (report, _) = TdReport::read_from_prefix(&argument[64..]).expect("there is a TDREPORT");
            let report = report.report_mac_struct;
            assert_eq!(report.report_data[..], before[..64], "the report carries the data");
            let verified =
                self.driver.with_guest(|guest| guest.machine().platform().verify_report(&report).is_ok());
            assert!(verified, "the MAC is right");
        }
    }

    fn quote(&mut self, input: &mut Input<'_>) {
        let request = report_request(input);
        if let Ok(blobs) = self.driver.report_new(&request) {
            let quote = blobs.outblob.expect("a quote, or an empty one");
            assert!(quote.len() <= capacity(self.options.quote_buffer_size));
        }
    }

    fn host_writes(&mut self, input: &mut Input<'_>) {
        let offset = u64::from(input.u16());
        self.disturbed = true;
        self.driver.with_guest(|guest| {
            let gpa = quote_gpa(guest, &self.options);
            // Nothing is written behind the end.
            let _ = guest.world().memory.write(gpa + offset, input.sized());
        });
    }

    fn register(&self, kind: u8, input: &mut Input<'_>) {
        let files = self.driver.measurements().len();
        let (which, offset) = (usize::from(input.u8()), u64::from(input.u8()));
        if files == 0 {
            return;
        }
        let which = which % files;
        if kind & 8 == 0 {
            let len = usize::from(input.u8());
            let read = self.driver.read_measurement(which, offset, len);
            assert!(read.is_ok_and(|bytes| bytes.len() <= len) || self.disturbed);
        } else {
            let data = input.sized();
            let written = self.driver.write_measurement(which, offset, data);
            assert!(written.is_err() || written.is_ok_and(|taken| taken <= data.len()));
        }
    }
}
