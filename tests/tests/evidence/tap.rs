//! What a bare-metal test guest prints, read apart from the program's own reader.

/// One guest's output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Each check: its name (and if it failed why), and whether it passed; in order.
    pub(crate) checks: Vec<(String, bool)>,
    /// The number of checks that the guest says it made, printed as its last line.
    pub(crate) plan: Option<usize>,
    /// Evidence by name, in hexadecimal.
    pub(crate) blobs: Vec<(String, String)>,
    /// Comments.
    pub(crate) comments: Vec<String>,
}

impl Run {
    /// A blob's bytes.
    pub(crate) fn blob(&self, name: &str) -> Option<Vec<u8>> {
        let (_, hex) = self.blobs.iter().find(|(found, _)| found == name)?;
        let digits = hex.as_bytes().chunks(2);
        Some(digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect())
    }

    /// Whether a check of this name passed.
    pub(crate) fn passed(&self, name: &str) -> bool {
        self.checks.iter().any(|(found, passed)| found == name && *passed)
    }

    /// Whether the numbers of the lines and the plan agree, and what failed.
    #[track_caller]
    pub(crate) fn assert_complete(&self) {
        let failed: Vec<_> = self.checks.iter().filter(|(_, passed)| !passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(self.plan, Some(self.checks.len()));
    }
}

/// The runs in a text, each from its `TAP version` line on.
pub(crate) fn runs(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if line == "TAP version 14" {
            runs.push(Run::default());
        } else if let Some(run) = runs.last_mut() {
            read_line(run, line);
        }
    }
    runs
}

fn read_line(run: &mut Run, line: &str) {
    if let Some(comment) = line.strip_prefix("# ") {
        match comment.strip_prefix("blob ").and_then(|rest| rest.split_once(' ')) {
            Some((name, hex)) => run.blobs.push((name.to_owned(), hex.to_owned())),
            None => run.comments.push(comment.to_owned()),
        }
    } else if let Some(plan) = line.strip_prefix("1..") {
        run.plan = plan.parse().ok();
    } else if let Some((result, rest)) = line.split_once("ok ") {
        let (number, name) = rest.split_once(" - ").unwrap_or_else(|| panic!("not a check: {line}"));
        run.checks.push((name.to_owned(), result.is_empty()));
        assert_eq!(number.parse(), Ok(run.checks.len()), "a check is missing before: {line}");
    }
}

#[test]
fn output_is_read() {
    let text = "# before\nTAP version 14\nok 1 - a\nnot ok 2 - b: why\n# blob x 0aff\n# said\n1..2\nTAP version 14\nok 1 - c\n";
    let [first, second] = runs(text).try_into().unwrap();
    assert_eq!(first.checks, [("a".to_owned(), true), ("b: why".to_owned(), false)]);
    assert_eq!((first.plan, first.blob("x")), (Some(2), Some(vec![10, 255])));
    assert_eq!(first.comments, ["said"]);
    assert!(second.passed("c") && second.plan.is_none());
}

#[test]
#[should_panic(expected = "a check is missing before: ok 3 - b")]
fn a_gap_is_noticed() {
    runs("TAP version 14\nok 1 - a\nok 3 - b\n");
}
