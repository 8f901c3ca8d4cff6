//! Test Anything Protocol, version 14.

use core::fmt::{self, Write};

use super::console::print;

/// Why a check failed: one line, cut if it is too long.
pub(super) struct Why {
    text: [u8; 119],
    len: u8,
}

impl Why {
    /// From a formatted text.
    pub(super) fn new(text: fmt::Arguments<'_>) -> Self {
        let mut why = Self { text: [0; 119], len: 0 };
        let _ = why.write_fmt(text);
        why
    }
}

impl Write for Why {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.text.get_mut(usize::from(self.len)).ok_or(fmt::Error)? = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text[..usize::from(self.len)].iter().try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// What a check comes to.
pub(super) type Check<T = ()> = Result<T, Why>;

/// Returns with a [`Why`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::guest::tap::Why::new(format_args!($($why)+)));
        }
    };
}
pub(super) use ensure;

/// Returns with a [`Why`] unless both are equal.
pub(super) fn equal<T: PartialEq + fmt::Debug>(what: &str, found: T, expected: T) -> Check {
    ensure!(found == expected, "{what} is {found:?}, not {expected:?}");
    Ok(())
}

/// Prints the lines and counts them.
pub(super) struct Tap {
    count: u32,
}

impl Tap {
    /// Prints the version.
    pub(super) fn new() -> Self {
        print(format_args!("TAP version 14\n"));
        Self { count: 0 }
    }

    /// Prints one check.
    pub(super) fn check(&mut self, name: &str, result: Check) {
        self.count += 1;
        match result {
            Ok(()) => print(format_args!("ok {} - {name}\n", self.count)),
            Err(why) => print(format_args!("not ok {} - {name}: {why}\n", self.count)),
        }
    }

    /// Prints the plan.
    pub(super) fn finish(self) {
        print(format_args!("1..{}\n", self.count));
    }
}
