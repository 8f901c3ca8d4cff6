//! The battery-backed clock of a PC: the time of day at ports 70h and 71h, and nothing else.
//!
//! A Linux that finds no such clock waits a second of its own time for one, which is long where the guest is slow.

use std::num::NonZeroU16;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bus::PortDevice;

/// First port: which register; the second has its contents.
pub const CMOS_PORT: u16 = 0x70;
/// Ports of the clock.
pub const CMOS_PORT_COUNT: NonZeroU16 = NonZeroU16::new(2).expect("two is not zero");

/// Status register A: the divider runs, and no update is in progress. B: 24 hours, BCD. D: the battery is good.
const STATUS_A: u8 = 0x26;
const STATUS_B: u8 = 0x02;
const STATUS_D: u8 = 0x80;

/// The clock. What is written to its registers goes nowhere.
#[derive(Debug)]
pub struct Cmos {
    index: u8,
    now: fn() -> u64,
}

impl Default for Cmos {
    /// With the host's time.
    fn default() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { index: 0, now }
    }
}

impl Cmos {
    fn register(&self) -> u8 {
        let Date { year, month, day, second_of_day } = Date::of((self.now)());
        let bcd = |value: u64| u8::try_from(value / 10 % 10 * 16 + value % 10).unwrap_or(0);
        match self.index {
            0x00 => bcd(second_of_day % 60),
            0x02 => bcd(second_of_day / 60 % 60),
            0x04 => bcd(second_of_day / 3600),
            0x07 => bcd(day),
            0x08 => bcd(month),
            0x09 => bcd(year % 100),
            0x0a => STATUS_A,
            0x0b => STATUS_B,
            0x0d => STATUS_D,
            0x32 => bcd(year / 100),
            _ => 0,
        }
    }
}

impl PortDevice for Cmos {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (1, Some(first)) = (offset, data.first_mut()) {
            *first = self.register();
        }
    }

    /// Bit 7 of the index masks NMI.
    fn write(&mut self, offset: u16, data: &[u8]) {
        if let (0, Some(first)) = (offset, data.first()) {
            self.index = first & 0x7f;
        }
    }
}

/// A day of the Gregorian calendar, and the second in it.
struct Date {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Date {
    /// Of seconds since 1970. Years begin in March here, so that a leap day is the last of its year.
    fn of(seconds: u64) -> Self {
        /// Days from March of the year 0 to 1970, and of 400, 100 and 4 years and one.
        const BEFORE_1970: u64 = 719_468;
        const CYCLE: u64 = 146_097;
        let days = seconds / 86_400 + BEFORE_1970;
        let in_cycle = days % CYCLE;
        let year_of_cycle = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
        let in_year = in_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        // Months of 30.6 days, five of them 153.
        let from_march = (5 * in_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: days / CYCLE * 400 + year_of_cycle + u64::from(month <= 2),
            month,
            day: in_year - (153 * from_march + 2) / 5 + 1,
            second_of_day: seconds % 86_400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(cmos: &mut Cmos, index: u8) -> u8 {
        let mut data = [0];
        cmos.write(0, &[index]);
        cmos.read(1, &mut data);
        data[0]
    }

    #[rstest]
    #[case::epoch(0, [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00])]
    #[case::leap_day(951_827_696, [0x20, 0x00, 0x02, 0x29, 0x12, 0x34, 0x56])]
    #[case::day_after(951_868_800, [0x20, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00])]
    #[case::end_of_year(1_798_761_599, [0x20, 0x26, 0x12, 0x31, 0x23, 0x59, 0x59])]
    #[case::no_leap_day(4_107_542_400, [0x21, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00])]
    fn the_time_is_told_in_decimal(#[case] seconds: u64, #[case] expected: [u8; 7]) {
        let Date { year, month, day, second_of_day } = Date::of(seconds);
        let digits = |value: u64| u8::try_from(value / 10 * 16 + value % 10).unwrap();
        let told = [year / 100, year % 100, month, day, second_of_day / 3600, second_of_day / 60 % 60];
        assert_eq!(told.map(digits), expected[..6]);
        assert_eq!(digits(second_of_day % 60), expected[6]);
    }

    #[test]
    fn registers() {
        let mut cmos = Cmos { index: 0, now: || 951_827_696 };
        let time = [0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map(|index| read(&mut cmos, index));
        assert_eq!(time, [0x20, 0x00, 0x02, 0x29, 0x12, 0x34, 0x56]);
        assert_eq!([0x0a, 0x0b, 0x0d].map(|index| read(&mut cmos, index)), [STATUS_A, STATUS_B, STATUS_D]);
        // NMI masked or not; and wide accesses.
        assert_eq!(read(&mut cmos, 0x80 | 0x0d), STATUS_D);
        cmos.write(1, &[0xff]);
        let mut data = [0; 4];
        cmos.read(1, &mut data);
        assert_eq!(data, [STATUS_D, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn any_time_and_register_gives_a_byte() {
        for seconds in [0, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            assert!((1..=12).contains(&Date::of(seconds).month));
        }
        let mut cmos = Cmos::default();
        for index in 0..=u8::MAX {
            read(&mut cmos, index);
        }
    }
}
