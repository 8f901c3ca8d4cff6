//! What a test guest prints: TAP lines, and evidence in hexadecimal.

use crate::output::parse_hex;

/// A check of the guest's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Check {
    /// Whether it passed.
    pub(crate) passed: bool,
    /// Its name, and if it failed why.
    pub(crate) text: String,
}

/// A guest's output, read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Console {
    /// The checks, in order.
    pub(crate) checks: Vec<Check>,
    /// Evidence by name.
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
    /// How many checks the guest says it made; without it the guest did not come to its end.
    pub(crate) plan: Option<usize>,
    /// Why the guest gave up, if it did.
    pub(crate) bail_out: Option<String>,
}

impl Console {
    /// Reads what a guest printed; lines of no known form are passed over.
    pub(crate) fn read(output: &[u8]) -> Self {
        let mut console = Self::default();
        for line in String::from_utf8_lossy(output).lines() {
            console.line(line.trim_end_matches('\r'));
        }
        console
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("# blob ") {
            if let Some((name, hex)) = rest.split_once(' ')
                && let Ok(bytes) = parse_hex(hex)
            {
                self.blobs.push((name.to_owned(), bytes));
            }
        } else if let Some(text) = line.strip_prefix("not ok ") {
            self.checks.push(Check { passed: false, text: text.to_owned() });
        } else if let Some(text) = line.strip_prefix("ok ") {
            self.checks.push(Check { passed: true, text: text.to_owned() });
        } else if let Some(count) = line.strip_prefix("1..") {
            self.plan = count.parse().ok();
        } else if let Some(why) = line.strip_prefix("Bail out!") {
            self.bail_out = Some(why.trim().to_owned());
        }
    }

    /// A blob.
    pub(crate) fn blob(&self, name: &str) -> Option<&[u8]> {
        self.blobs.iter().find(|blob| blob.0 == name).map(|blob| blob.1.as_slice())
    }

    /// How many checks passed, and how many there were.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.checks.iter().filter(|check| check.passed).count(), self.checks.len())
    }

    /// The first reason why the guest's run does not count as passed.
    pub(crate) fn failure(&self) -> Option<String> {
        if let Some(why) = &self.bail_out {
            return Some(format!("the guest gave up: {why}"));
        }
        if let Some(check) = self.checks.iter().find(|check| !check.passed) {
            return Some(format!("a check failed in the guest: {}", check.text));
        }
        match self.plan {
            None => Some("the guest did not come to its end".to_owned()),
            Some(plan) if plan != self.checks.len() => {
                Some(format!("the guest made {} checks and says that it made {plan}", self.checks.len()))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_checks_blobs_and_plan() {
        let console =
            Console::read(b"TAP version 14\r\nok 1 - a\nnot ok 2 - b: why\n# blob report 0aff\n1..2\n");
        assert_eq!(console.checks.len(), 2);
        assert_eq!(console.blob("report"), Some(&[0x0a, 0xff][..]));
        assert_eq!(console.failure().unwrap(), "a check failed in the guest: 2 - b: why");
    }

    #[test]
    fn a_cut_off_run_is_a_failure() {
        assert_eq!(Console::read(b"ok 1 - a\n1..1\n").failure(), None);
        assert_eq!(Console::read(b"ok 1 - a\n").failure().unwrap(), "the guest did not come to its end");
        assert!(Console::read(b"ok 1 - a\n1..2\n").failure().is_some());
        assert!(Console::read(b"Bail out! C-bit\n").failure().unwrap().contains("C-bit"));
    }
}
