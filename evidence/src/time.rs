//! The time at which evidence is judged.

use std::{fmt, str::FromStr, time::Duration};

use der::DateTime;

/// Seconds since 1970-01-01 00:00:00 UTC. Nothing in this crate reads a clock: whoever asks for a verdict says when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The calendar form; `None` beyond the year 9999.
    fn calendar(self) -> Option<DateTime> {
        DateTime::from_unix_duration(Duration::from_secs(self.0)).ok()
    }
}

impl From<DateTime> for Timestamp {
    fn from(value: DateTime) -> Self {
        Self(value.unix_duration().as_secs())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.calendar() {
            Some(date) => write!(f, "{date}"),
            None => write!(f, "{} s after 1970", self.0),
        }
    }
}

/// The text is not a point in time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a time: write 2024-05-31T12:00:00Z, 2024-05-31, or seconds since 1970")]
pub struct NotATime(String);

impl FromStr for Timestamp {
    type Err = NotATime;

    /// Reads `2024-05-31T12:00:00Z` (UTC only), `2024-05-31` (its midnight, UTC) or seconds since 1970.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let error = || NotATime(text.to_owned());
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self).map_err(|_| error());
        }
        let midnight = if text.contains('T') { String::new() } else { "T00:00:00Z".to_owned() };
        DateTime::from_str(&format!("{text}{midnight}")).map(Self::from).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", Some(0))]
    #[case("1700000000", Some(1_700_000_000))]
    #[case("2023-11-14T22:13:20Z", Some(1_700_000_000))]
    #[case("1970-01-02", Some(86_400))]
    #[case("", None)]
    #[case("yesterday", None)]
    #[case("2023-02-30", None)]
    #[case("2023-11-14T22:13:20+01:00", None)]
    #[case("99999999999999999999999", None)]
    fn reads(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(text.parse().ok(), seconds.map(Timestamp));
    }

    #[rstest]
    #[case(1_700_000_000, "2023-11-14T22:13:20Z")]
    #[case(u64::MAX, "18446744073709551615 s after 1970")]
    fn prints(#[case] seconds: u64, #[case] text: &str) {
        assert_eq!(Timestamp(seconds).to_string(), text);
    }
}
