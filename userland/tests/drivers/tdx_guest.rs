//! `tdx-guest` when nothing goes wrong but the caller; measurement registers; the event log.

use std::{sync::Arc, time::Duration};

use nix::errno::Errno;
use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::tdx::{
    ccel::{CcelTable, EventLog},
    quote::Quote,
    report::TdReport,
};
use tsmsim_simulator::{
    journal::Event,
    tdx::{event::TdxEvent, guest::IMAGE_GPA, mrtd::sha384, vmcall::HostConfig},
};
use tsmsim_userland::{
    configfs::KernelStyle,
    drivers::{
        UserMemory as _,
        ccel::boot_events,
        tdx_guest::{TdxGuest, TdxGuestError, TdxGuestOptions},
        time::{Sleeper as _, VirtualSleeper},
        uapi::TDX_CMD_GET_REPORT0,
    },
    provider::{Attribute, Blobs, Provider, ReportRequest},
};
use zerocopy::FromBytes;

use crate::support::{DATA, Program, RAM, td_guest_in, tdx_guest, world};

pub(crate) fn request(inblob: &[u8]) -> ReportRequest {
    ReportRequest { inblob: inblob.to_vec(), ..ReportRequest::default() }
}

pub(crate) fn quote(driver: &TdxGuest) -> Result<Vec<u8>, Errno> {
    driver.clone().report_new(&request(&DATA)).map(|Blobs { outblob, auxblob, manifestblob }| {
        assert_eq!((auxblob, manifestblob), (None, None));
        outblob.unwrap()
    })
}

/// Whether the bytes are a quote of the caller's data.
pub(crate) fn is_quote(bytes: &[u8]) -> bool {
    Quote::read(bytes).is_ok_and(|quote| *quote.signed.body.report_data() == DATA)
}

/// `TDX_CMD_GET_REPORT0`.
pub(crate) fn get_report0(driver: &TdxGuest) -> Result<Box<TdReport>, Errno> {
    let mut program = Program::new();
    program.write(Program::STRUCT, &DATA).unwrap();
    driver.ioctl_at(TDX_CMD_GET_REPORT0, Program::STRUCT, &mut program)?;
    Ok(Box::new(TdReport::read_from_bytes(program.bytes(Program::STRUCT + 64, 1024)).unwrap()))
}

fn booted() -> TdxGuest {
    let options =
        TdxGuestOptions { command_line: Some("console=ttyS0".to_owned()), ..TdxGuestOptions::LINUX_6_16 };
    tdx_guest(options, None).0
}

fn read(driver: &TdxGuest, name: &str) -> Result<Vec<u8>, Errno> {
    let index = driver.measurements().iter().position(|file| file.name == name).ok_or(Errno::ENOENT)?;
    driver.read_measurement(index, 0, 4096)
}

/// How many TDREPORTs there were.
fn reports(driver: &TdxGuest) -> usize {
    let is_report = |event: &Event| matches!(event, Event::Tdx(TdxEvent::Tdcall { leaf, .. }) if leaf.name() == Some("TDG_MR_REPORT"));
    driver.with_guest(|guest| guest.world().journal.entries().filter(|(_, event)| is_report(event)).count())
}

#[rstest]
#[case(TdxGuestOptions::LINUX_6_12, 0x2000)]
#[case(TdxGuestOptions::LINUX_6_16, 0x2000)]
#[case(TdxGuestOptions::LINUX_7_1, 0x2_0000)]
fn a_quote_comes_by_configfs(#[case] options: TdxGuestOptions, #[case] size: usize) {
    assert_eq!(options.quote_buffer_size, size);
    let (driver, sleeper) = tdx_guest(options, None);
    assert!(is_quote(&quote(&driver).unwrap()));
    assert_eq!(sleeper.now(), Duration::ZERO);
    assert_eq!((driver.name(), driver.privlevel_floor()), ("tdx_guest", 0));
    let shown = [Attribute::Generation, Attribute::Provider, Attribute::Inblob, Attribute::Outblob];
    assert!(shown.into_iter().all(|attribute| driver.is_visible(attribute)));
    let hidden =
        [Attribute::Privlevel, Attribute::PrivlevelFloor, Attribute::Auxblob, Attribute::Manifestblob];
    assert!(hidden.into_iter().all(|attribute| !driver.is_visible(attribute)));
}

#[rstest]
#[case(0)]
#[case(63)]
#[case(65)]
fn report_data_have_64_bytes(#[case] len: usize) {
    let (mut driver, _) = tdx_guest(TdxGuestOptions::default(), None);
    assert_eq!(driver.report_new(&request(&vec![0; len])), Err(Errno::EINVAL));
    assert!(is_quote(&quote(&driver).unwrap()));
}

#[test]
fn a_report_comes_by_ioctl() {
    let (driver, _) = tdx_guest(TdxGuestOptions::default(), None);
    let report = get_report0(&driver).unwrap();
    assert_eq!(report.report_mac_struct.report_data, DATA);
    let mut arg = vec![0x42; 1088];
    let outcome = driver.ioctl(TDX_CMD_GET_REPORT0, &mut arg, &mut Program::new());
    assert_eq!((outcome.result, outcome.written), (Ok(0), true));
    assert_eq!(TdReport::read_from_bytes(&arg[64..]).unwrap(), *report);
}

#[rstest]
#[case::unknown(0x5401, Program::STRUCT, Errno::ENOTTY)]
#[case::unknown_comes_first(0x5401, 0, Errno::ENOTTY)]
#[case::null(TDX_CMD_GET_REPORT0, 0, Errno::EFAULT)]
#[case::read_only(TDX_CMD_GET_REPORT0, Program::READ_ONLY, Errno::EFAULT)]
#[case::wrapping(TDX_CMD_GET_REPORT0, u64::MAX - 63, Errno::EFAULT)]
fn mistakes_of_a_caller(#[case] cmd: u32, #[case] arg: u64, #[case] errno: Errno) {
    let (driver, _) = tdx_guest(TdxGuestOptions::default(), None);
    assert_eq!(driver.ioctl_at(cmd, arg, &mut Program::new()), Err(errno));
    assert!(get_report0(&driver).is_ok());
}

#[rstest]
#[case(0x5401, 1088, Errno::ENOTTY)]
#[case(TDX_CMD_GET_REPORT0, 1087, Errno::EFAULT)]
#[case(TDX_CMD_GET_REPORT0, 63, Errno::EFAULT)]
fn bytes_that_are_cut_off(#[case] cmd: u32, #[case] len: usize, #[case] errno: Errno) {
    let (driver, _) = tdx_guest(TdxGuestOptions::default(), None);
    let mut arg = vec![1; len];
    let outcome = driver.ioctl(cmd, &mut arg, &mut Program::new());
    assert_eq!((outcome.result, outcome.written), (Err(errno), false));
    assert_eq!(arg, vec![1; len]);
}

#[test]
fn registers_are_files_from_6_16_on() {
    assert!(tdx_guest(TdxGuestOptions::LINUX_6_12, None).0.measurements().is_empty());
    let driver = booted();
    let files: Vec<_> = driver.measurements().iter().map(|file| (file.name, file.mode, file.size)).collect();
    let expected = [
        ("rtmr0:sha384", 0o644, 48),
        ("rtmr1:sha384", 0o644, 48),
        ("rtmr2:sha384", 0o644, 48),
        ("rtmr3:sha384", 0o644, 48),
        ("mrtd:sha384", 0o444, 48),
        ("mrconfigid", 0o444, 48),
        ("mrowner", 0o444, 48),
        ("mrownerconfig", 0o444, 48),
    ];
    assert_eq!(files, expected);
    let info = get_report0(&driver).unwrap().td_info;
    assert_eq!(read(&driver, "mrtd:sha384").unwrap(), info.mr_td);
    assert_eq!(read(&driver, "rtmr0:sha384").unwrap(), info.rtmr[0]);
    assert_eq!(read(&driver, "mrowner").unwrap(), info.mr_owner);
    assert_ne!(info.rtmr[0], [0; 48]);
}

#[test]
fn writing_extends() {
    let driver = booted();
    let before = read(&driver, "rtmr2:sha384").unwrap();
    assert_eq!(driver.write_measurement(2, 0, &[7; 48]), Ok(48));
    let expected = sha384(&[&before, &[7; 48]]);
    assert_eq!(read(&driver, "rtmr2:sha384").unwrap(), expected);
    assert_eq!(get_report0(&driver).unwrap().td_info.rtmr[2], expected);
    // sysfs takes as much as the file is long.
    assert_eq!(driver.write_measurement(2, 0, &[8; 100]), Ok(48));
    assert_eq!(read(&driver, "rtmr2:sha384").unwrap(), sha384(&[&expected, &[8; 48]]));
}

#[rstest]
#[case::short(3, 0, 47, Errno::EINVAL)]
#[case::not_at_the_start(3, 1, 48, Errno::EINVAL)]
#[case::rest(3, 47, 1, Errno::EINVAL)]
#[case::behind_the_end(3, 48, 48, Errno::EFBIG)]
#[case::far_behind_the_end(3, u64::MAX, 0, Errno::EFBIG)]
#[case::not_writable(4, 0, 48, Errno::EIO)]
#[case::no_such_file(8, 0, 48, Errno::ENOENT)]
fn what_cannot_be_written(
    #[case] index: usize,
    #[case] offset: u64,
    #[case] len: usize,
    #[case] errno: Errno,
) {
    let driver = booted();
    let before = get_report0(&driver).unwrap().td_info;
    assert_eq!(driver.write_measurement(index, offset, &vec![7; len]), Err(errno));
    assert_eq!(get_report0(&driver).unwrap().td_info, before);
    assert_eq!(driver.write_measurement(3, 0, &[]), Ok(0));
}

#[rstest]
#[case(0, 4096, 0..48)]
#[case(0, 5, 0..5)]
#[case(40, 100, 40..48)]
#[case(48, 1, 48..48)]
#[case(u64::MAX, usize::MAX, 48..48)]
fn a_part_is_read(#[case] offset: u64, #[case] len: usize, #[case] part: std::ops::Range<usize>) {
    let driver = booted();
    let whole = read(&driver, "rtmr1:sha384").unwrap();
    assert_eq!(driver.read_measurement(1, offset, len).unwrap(), whole[part]);
    assert_eq!(driver.read_measurement(8, offset, len), Err(Errno::ENOENT));
}

/// Only a live register asks the module, and only if something was extended since the last time.
#[test]
fn values_are_cached() {
    let driver = booted();
    let at_first = reports(&driver);
    for (name, asked) in [("mrtd:sha384", 0), ("rtmr0:sha384", 1), ("rtmr3:sha384", 1), ("mrowner", 1)] {
        read(&driver, name).unwrap();
        assert_eq!(reports(&driver) - at_first, asked, "{name}");
    }
    driver.write_measurement(3, 0, &[1; 48]).unwrap();
    for (name, asked) in [("mrtd:sha384", 1), ("rtmr0:sha384", 2), ("rtmr3:sha384", 2)] {
        read(&driver, name).unwrap();
        assert_eq!(reports(&driver) - at_first, asked, "{name}");
    }
}

#[test]
fn the_log_replays_to_the_registers() {
    let driver = booted();
    let table = CcelTable::read_from_bytes(&driver.ccel_table().unwrap()).unwrap();
    assert!(table.checksum_holds());
    let area = driver.ccel_data().unwrap();
    assert_eq!(table.log_area_minimum_length.get(), area.len() as u64);
    let mut bytes = vec![0; area.len()];
    let gpa = table.log_area_start_address.get();
    driver.with_guest(|guest| guest.world().memory.read(gpa, &mut bytes).unwrap());
    assert_eq!(bytes, area, "the log is in the TD's memory");
    let mut rtmr = [[0; 48]; 4];
    let log = EventLog::read(&area).unwrap();
    let mut count = 0;
    for event in log.events() {
        let event = event.unwrap();
        let register = &mut rtmr[event.register.rtmr().unwrap()];
        *register = sha384(&[&register[..], event.extended_digest().unwrap()]);
        count += 1;
    }
    assert_eq!(count, boot_events("").len());
    assert_eq!(get_report0(&driver).unwrap().td_info.rtmr, rtmr);
    assert!(rtmr[..3].iter().all(|value| *value != [0; 48]));
    assert_eq!(rtmr[3], [0; 48]);
}

#[test]
fn nothing_was_measured_without_a_boot() {
    let (driver, _) = tdx_guest(TdxGuestOptions::LINUX_6_16, None);
    assert_eq!((driver.ccel_table(), driver.ccel_data()), (None, None));
    assert_eq!(get_report0(&driver).unwrap().td_info.rtmr, [[0; 48]; 4]);
}

#[rstest]
#[case::no_buffer(TdxGuestOptions { quote_buffer_size: 0, ..TdxGuestOptions::default() })]
#[case::not_pages(TdxGuestOptions { quote_buffer_size: 4095, ..TdxGuestOptions::default() })]
#[case::no_memory(TdxGuestOptions { quote_buffer_size: RAM - 0x1_0000, ..TdxGuestOptions::default() })]
#[case::no_memory_at_all(TdxGuestOptions { quote_buffer_size: usize::MAX & !0xfff, ..TdxGuestOptions::default() })]
#[case::long_command_line(
    TdxGuestOptions { command_line: Some("a".repeat(2049)), ..TdxGuestOptions::default() }
)]
fn options_that_cannot_be(#[case] options: TdxGuestOptions) {
    let guest = td_guest_in(world(), HostConfig::default());
    let command_line = options.command_line.is_some();
    let error = TdxGuest::new(guest, Arc::new(VirtualSleeper::new()), options).err().unwrap();
    assert_eq!(matches!(error, TdxGuestError::CommandLine(2049)), command_line, "{error}");
}

#[test]
fn styles() {
    assert_eq!(TdxGuestOptions::from(KernelStyle::V6_12), TdxGuestOptions::default());
    assert_eq!(TdxGuestOptions::from(KernelStyle::V6_16), TdxGuestOptions::LINUX_6_16);
    assert!(IMAGE_GPA < RAM as u64 - 0x3_0000, "the default TD has room for a buffer of 128 KiB");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reads and writes of any file at any place follow a model of four registers.
    #[test]
    fn registers_follow_their_model(
        steps in prop::collection::vec(
            (0..10_usize, prop_oneof![Just(0_u64), 0..60_u64], prop::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            0..20,
        )
    ) {
        let (driver, _) = tdx_guest(TdxGuestOptions::LINUX_6_16, None);
        let mut rtmr = [[0; 48]; 4];
        for (index, offset, data, write) in steps {
            if write {
                let extends = index < 4 && offset == 0 && data.len() >= 48;
                let written = driver.write_measurement(index, offset, &data);
                prop_assert_eq!(written == Ok(48), extends);
                if extends {
                    rtmr[index] = sha384(&[&rtmr[index][..], &data[..48]]);
                }
            } else if let Some(register) = rtmr.get(index) {
                let start = usize::try_from(offset).unwrap().min(48);
                let end = (start + data.len()).min(48);
                prop_assert_eq!(driver.read_measurement(index, offset, data.len()).unwrap(), &register[start..end]);
            }
        }
        prop_assert_eq!(get_report0(&driver).unwrap().td_info.rtmr, rtmr);
    }
}
