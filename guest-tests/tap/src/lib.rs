//! Test Anything Protocol, version 14: what the bare-metal guests print their checks with.
#![no_std]

use core::fmt::{self, Write};

/// Why a check failed: one line, cut if it is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    text: [u8; 119],
    len: u8,
}

impl Why {
    /// From a formatted text.
    pub fn new(text: fmt::Arguments<'_>) -> Self {
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
pub type Check<T = ()> = Result<T, Why>;

/// Returns with a [`Why`] unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::Why::new(format_args!($($why)+)));
        }
    };
}
/// Returns with a [`Why`] unless both are equal.
///
/// # Errors
/// What is different.
pub fn equal<T: PartialEq + fmt::Debug>(what: &str, found: T, expected: T) -> Check {
    ensure!(found == expected, "{what} is {found:?}, not {expected:?}");
    Ok(())
}

/// Prints the lines and counts them.
#[derive(Debug)]
pub struct Tap {
    print: fn(fmt::Arguments<'_>),
    count: u32,
}

impl Tap {
    /// Prints the version, as all else with this function.
    pub fn new(print: fn(fmt::Arguments<'_>)) -> Self {
        print(format_args!("TAP version 14\n"));
        Self { print, count: 0 }
    }

    /// Prints one check.
    pub fn check(&mut self, name: &str, result: Check) {
        self.count += 1;
        match result {
            Ok(()) => (self.print)(format_args!("ok {} - {name}\n", self.count)),
            Err(why) => (self.print)(format_args!("not ok {} - {name}: {why}\n", self.count)),
        }
    }

    /// Prints the plan.
    pub fn finish(self) {
        (self.print)(format_args!("1..{}\n", self.count));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{cell::RefCell, format, string::String};

    use super::*;

    std::thread_local! {
        static PRINTED: RefCell<String> = const { RefCell::new(String::new()) };
    }

    fn print(text: fmt::Arguments<'_>) {
        PRINTED.with_borrow_mut(|printed| printed.push_str(&format!("{text}")));
    }

    #[test]
    fn lines_are_numbered_and_counted() {
        let mut tap = Tap::new(print);
        tap.check("one", equal("it", 1, 1));
        tap.check("two", equal("it", 2, 1));
        tap.finish();
        let lines = "TAP version 14\nok 1 - one\nnot ok 2 - two: it is 2, not 1\n1..2\n";
        PRINTED.with_borrow(|printed| assert_eq!(printed, lines));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let long = String::from_utf8([b'a'; 300].into()).expect("it is ASCII");
        assert_eq!(format!("{}", Why::new(format_args!("{long}"))).len(), 119);
    }
}
