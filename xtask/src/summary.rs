//! What came of each step: counting tests, reading the record of skipped tests, and the closing table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How many tests passed, failed, were skipped. A step that is not a run of tests counts as one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed.
    pub(crate) failed: usize,
    /// Tests that were left out: by their own word, or because the test program says that it ignored them.
    pub(crate) skipped: usize,
}

impl Counts {
    /// Adds the closing line of one test program, if that is what the line is:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.1.split("; ") {
            match count.split_once(' ').and_then(|(number, what)| Some((number.parse::<usize>().ok()?, what)))
            {
                Some((number, "passed")) => self.passed += number,
                Some((number, "failed")) => self.failed += number,
                Some((number, "ignored")) => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// One test that left itself out, as `tsmsim_tests::need` records it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Skip {
    /// The package and the test: `tsmsim-tests: launch::ovmf`.
    pub(crate) test: String,
    /// Why.
    pub(crate) reason: String,
    /// True if nothing that could be installed would help.
    pub(crate) hardware: bool,
}

/// Reads the record of skipped tests: lines `SKIPPED: PACKAGE: TEST: REASON` or `SKIPPED[hardware]: …`. A test that
/// says so more than once is counted once, and excused only if every reason is.
pub(crate) fn skips(record: &str) -> Vec<Skip> {
    let mut found: BTreeMap<String, Skip> = BTreeMap::new();
    for line in record.lines() {
        let (hardware, rest) =
            match (line.strip_prefix("SKIPPED: "), line.strip_prefix("SKIPPED[hardware]: ")) {
                (Some(rest), _) => (false, rest),
                (_, Some(rest)) => (true, rest),
                _ => continue,
            };
        let mut parts = rest.splitn(3, ": ");
        let test = format!("{}: {}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let skip = Skip { test: test.clone(), reason: parts.next().unwrap_or_default().to_owned(), hardware };
        match found.get_mut(&test) {
            Some(known) if known.hardware && !hardware => *known = skip,
            Some(_) => {}
            None => drop(found.insert(test, skip)),
        }
    }
    found.into_values().collect()
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Everything in it passed.
    Passed,
    /// Something in it failed.
    Failed,
    /// It was not run, because a step that it needs failed.
    NotRun,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The step.
    pub(crate) step: &'static str,
    /// What came of it.
    pub(crate) verdict: Verdict,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The tests in it.
    pub(crate) counts: Counts,
}

/// The table, and after it, alone on a line, the total: `N passed, N failed, N skipped`.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<12} {:<8} {:>8} {:>8} {:>8} {:>8}\n",
        "step", "result", "seconds", "passed", "failed", "skipped"
    );
    let mut total = Counts::default();
    for Outcome { step, verdict, seconds, counts } in outcomes {
        let verdict = match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "not run",
        };
        let Counts { passed, failed, skipped } = counts;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{step:<12} {verdict:<8} {seconds:>8.1} {passed:>8} {failed:>8} {skipped:>8}");
        total.passed += passed;
        total.failed += failed;
        total.skipped += skipped;
    }
    let _ = writeln!(text, "\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_closing_lines_of_test_programs() {
        let mut counts = Counts::default();
        for line in [
            "running 5 tests",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test some::test ... ok",
            "test result: nonsense",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 5, failed: 2, skipped: 1 });
    }

    #[test]
    fn reads_the_record_of_skipped_tests() {
        let record = "SKIPPED: tsmsim-tests: ovmf::digest: no image: none named\n\
                      SKIPPED[hardware]: tsmsim-vmm: kvm::boots: no /dev/kvm\n\
                      SKIPPED[hardware]: tsmsim-vmm: both: no /dev/kvm\n\
                      SKIPPED: tsmsim-vmm: both: no openssl\n\
                      SKIPPED: tsmsim-vmm: both: no openssl\n\
                      something else\n";
        let read: Vec<_> =
            skips(record).into_iter().map(|skip| (skip.test, skip.reason, skip.hardware)).collect();
        let expected = [
            ("tsmsim-tests: ovmf::digest", "no image: none named", false),
            ("tsmsim-vmm: both", "no openssl", false),
            ("tsmsim-vmm: kvm::boots", "no /dev/kvm", true),
        ];
        assert_eq!(
            read,
            expected.map(|(test, reason, hardware)| (test.to_owned(), reason.to_owned(), hardware))
        );
    }

    #[test]
    fn closes_with_the_total_alone_on_a_line() {
        let outcome = |step, verdict, passed, failed| Outcome {
            step,
            verdict,
            seconds: 1.25,
            counts: Counts { passed, failed, skipped: 0 },
        };
        let text = table(&[
            outcome("lint", Verdict::Passed, 1, 0),
            outcome("test", Verdict::Failed, 40, 2),
            outcome("fuzz", Verdict::NotRun, 0, 1),
        ]);
        assert_eq!(text.lines().last(), Some("41 passed, 3 failed, 0 skipped"));
        assert!(text.contains("test         FAILED        1.2       40        2        0"), "{text}");
    }
}
