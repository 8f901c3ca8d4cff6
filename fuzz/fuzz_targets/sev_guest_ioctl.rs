//! Any use of `/dev/sev-guest`. The first byte: bit 0: as Linux 6.16 does, not 6.12. One step: kind (1; bits 2:0), then
//! 0 any ioctl: command (4), structure (length and bytes); 1 a known one, whose pointers are sound: command (1), version (1), room
//! for certificates in pages (1), request (length and bytes); 2 an ioctl at an address: command (4), offset (2; kind's bit 3: any
//! address, 8); 3 user memory: offset (2), length and bytes; 4 a fault; 5 a report by configfs; 6 the host writes to the guest's
//! buffers: page (1), offset (2), length and bytes; 7 no more faults.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nix::errno::Errno;
use tsmsim_abi::snp::{launch::PageType, policy::GuestPolicy};
use tsmsim_fuzz::{
    Input, PRIVATE_GPA, STEPS, firmware, host,
    userland::{Times, USER, UserMap, report_request},
    world,
};
use tsmsim_simulator::{
    fault::NoFaults,
    snp::{
        guest::InProcessGuest,
        host::{LaunchPlan, PlannedPage},
    },
};
use tsmsim_userland::{
    drivers::{
        IoctlOutcome,
        sev_guest::{SevGuest, SevGuestOptions},
        time::VirtualSleeper,
        uapi::{
            SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT, SNP_GET_REPORT, SnpExtReportReq, SnpGuestRequestIoctl,
        },
    },
    provider::Provider,
};
use zerocopy::{FromZeros, IntoBytes};

const COMMANDS: [u32; 3] = [SNP_GET_REPORT, SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT];
/// Offsets in user memory.
const REQUEST: usize = 0;
const RESPONSE: usize = 0x1000;
const CERTIFICATES: usize = 0x2000;
/// Where a response has the report's `REPORT_DATA`.
const REPORT_DATA: usize = RESPONSE + 32 + 0x50;

/// The driver, a program's memory, and whether something interfered.
struct Bench {
    driver: SevGuest,
    user: UserMap,
    disturbed: bool,
    wiped: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let late = input.u8() & 1 == 1;
    let options = if late { SevGuestOptions::LINUX_6_16 } else { SevGuestOptions::LINUX_6_12 };
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.push(PlannedPage::memory(PageType::NORMAL, PRIVATE_GPA));
    let guest = InProcessGuest::launch(firmware(), host(), plan, world()).expect("the guest launches");
    let driver =
        SevGuest::new(guest, Arc::new(VirtualSleeper::new()), options).expect("the guest has what it needs");
    let mut bench = Bench { driver, user: UserMap::default(), disturbed: false, wiped: false };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
    }
});

impl Bench {
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        match kind & 7 {
            0 => {
                let command = input.u32();
                let mut argument = input.sized().to_vec();
                // It was judged.
                let _ = self.ioctl(command, &mut argument);
            }
            1 => self.known(input),
            2 => {
                let command = input.u32();
                let address = if kind & 8 == 0 { USER + u64::from(input.u16()) } else { input.u64() };
                let result = self.driver.ioctl_at(command, address, &mut self.user);
                self.judge(result);
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
            5 => {
                let request = report_request(input);
                let made = self.driver.report_new(&request);
                if let Ok(blobs) = &made
                    && let (Some(report), false) = (&blobs.outblob, self.disturbed)
                {
                    assert_eq!(report[0x50..0x90], request.inblob, "the report carries the data");
                }
                self.judge(made.map(|_| 0));
            }
            6 => {
                let (page, offset) = (u64::from(input.u8() & 7), u64::from(input.u16()));
                self.disturbed = true;
                self.driver.with_guest(|guest| {
                    let gpa = guest.layout().buffers_gpa + (page << 12) + offset;
                    // Nothing is written behind the end.
                    let _ = guest.world().memory.write(gpa, input.sized());
                });
            }
            _ => self.driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults)),
        }
    }

    /// An ioctl over its structure.
    fn ioctl(&mut self, command: u32, argument: &mut [u8]) -> IoctlOutcome {
        let before = argument.to_vec();
        let outcome = self.driver.ioctl(command, argument, &mut self.user);
        assert!(outcome.written || argument == before, "what does not go back is untouched");
        assert!(outcome.result != Ok(0) || !outcome.written, "nothing is told after a success");
        if !COMMANDS.contains(&command) {
            assert!(outcome.result.is_err(), "an unknown command");
        }
        self.judge(outcome.result);
        outcome
    }

    /// A wiped key stays wiped, and nothing is obtained without one.
    fn judge(&mut self, result: Result<i32, Errno>) {
        assert!(!self.wiped || result.is_err(), "there is no key any more");
        let wiped = self.driver.with_guest(|guest| guest.message_key().is_err());
        assert!(wiped || !self.wiped, "a wiped key does not come back");
        self.wiped = wiped;
    }

    fn known(&mut self, input: &mut Input<'_>) {
        let command = COMMANDS[usize::from(input.u8()) % COMMANDS.len()];
        let (version, pages) = (input.u8(), u32::from(input.u8()));
        let mut request = input.sized().to_vec();
        request.resize(size_of::<SnpExtReportReq>(), 0);
        if command == SNP_GET_EXT_REPORT && pages != 0 {
            let at = size_of::<SnpExtReportReq>() - 16;
            request[at..at + 8].copy_from_slice(&(USER + CERTIFICATES as u64).to_le_bytes());
            request[at + 8..at + 12].copy_from_slice(&(pages << 12).to_le_bytes());
        }
        self.user.put(REQUEST, &request);
        let mut argument = SnpGuestRequestIoctl {
            msg_version: version,
            req_data: (USER + REQUEST as u64).into(),
            resp_data: (USER + RESPONSE as u64).into(),
            ..SnpGuestRequestIoctl::new_zeroed()
        };
        let outcome = self.ioctl(command, argument.as_mut_bytes());
        let status = self.user.bytes(RESPONSE, 4);
        let reported = outcome.result == Ok(0) && command != SNP_GET_DERIVED_KEY && status == [0; 4];
        if reported && !self.disturbed {
            assert_eq!(self.user.bytes(REPORT_DATA, 64), &request[..64], "the report carries the data");
        }
    }
}
