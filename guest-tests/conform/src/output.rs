//! TAP 14, JSON lines and JUnit XML.

use std::{fmt::Write as _, io, io::Write};

use crate::{CheckResult, Format, Report, Status};

/// Writes what comes before the first check.
pub(crate) fn start(out: &mut dyn Write, format: Format, count: usize) -> io::Result<()> {
    match format {
        Format::Tap => writeln!(out, "TAP version 14\n1..{count}")?,
        Format::Json | Format::Junit => {}
    }
    out.flush()
}

/// Writes one check's result.
pub(crate) fn result(
    out: &mut dyn Write,
    format: Format,
    number: usize,
    result: &CheckResult,
) -> io::Result<()> {
    match format {
        Format::Tap => out.write_all(tap(number, result).as_bytes())?,
        Format::Json => writeln!(out, "{}", json(result))?,
        Format::Junit => {}
    }
    out.flush()
}

/// Writes what comes after the last check.
pub(crate) fn end(out: &mut dyn Write, format: Format, report: &Report) -> io::Result<()> {
    match format {
        Format::Tap => writeln!(out, "# {report}")?,
        Format::Json => {}
        Format::Junit => out.write_all(junit(report).as_bytes())?,
    }
    out.flush()
}

fn tap(number: usize, result: &CheckResult) -> String {
    let name = result.name;
    match &result.status {
        Status::Passed => format!("ok {number} - {name}\n"),
        Status::Skipped(reason) => format!("ok {number} - {name} # SKIP {}\n", line(reason)),
        Status::Failed { what, expected, got } => {
            let mut text = format!("not ok {number} - {name}\n  ---\n");
            let rows = [
                ("rule", result.rule),
                ("source", result.source),
                ("at", what),
                ("expected", expected),
                ("got", got),
            ];
            for (key, value) in rows {
                // A JSON string is also YAML.
                let _to_a_string = writeln!(text, "  {key}: {}", quoted(value));
            }
            text + "  ...\n"
        }
    }
}

/// One line of text, with nothing that TAP reads as its own.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('#', "\\#")
}

fn json(result: &CheckResult) -> String {
    let mut text = format!(
        "{{\"name\":{},\"rule\":{},\"source\":{}",
        quoted(result.name),
        quoted(result.rule),
        quoted(result.source)
    );
    let rows: Vec<(&str, &str)> = match &result.status {
        Status::Passed => vec![("status", "ok")],
        Status::Skipped(reason) => vec![("status", "skipped"), ("reason", reason)],
        Status::Failed { what, expected, got } => {
            vec![("status", "not ok"), ("at", what), ("expected", expected), ("got", got)]
        }
    };
    for (key, value) in rows {
        let _to_a_string = write!(text, ",\"{key}\":{}", quoted(value));
    }
    let _to_a_string = write!(text, ",\"milliseconds\":{}}}", result.took.as_millis());
    text
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _to_a_string = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The whole report as JUnit XML.
pub(crate) fn junit(report: &Report) -> String {
    let (count, failed, skipped) = (report.results.len(), report.failed(), report.skipped());
    let seconds: f64 = report.results.iter().map(|result| result.took.as_secs_f64()).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"configfs-tsm\" tests=\"{count}\" \
         failures=\"{failed}\" skipped=\"{skipped}\" errors=\"0\" time=\"{seconds:.3}\">\n"
    );
    for result in &report.results {
        let (group, name) = result.name.split_once('/').unwrap_or(("", result.name));
        let _to_a_string = write!(
            text,
            "<testcase classname=\"configfs-tsm.{}\" name=\"{}\" time=\"{:.3}\"",
            escaped(group),
            escaped(name),
            result.took.as_secs_f64()
        );
        let inner = match &result.status {
            Status::Passed => String::new(),
            Status::Skipped(reason) => format!("<skipped message=\"{}\"/>", escaped(reason)),
            Status::Failed { what, expected, got } => format!(
                "<failure message=\"{}\">rule: {}\nsource: {}\nexpected: {}\ngot: {}</failure>",
                escaped(what),
                escaped(result.rule),
                escaped(result.source),
                escaped(expected),
                escaped(got)
            ),
        };
        text.push_str(&if inner.is_empty() { "/>\n".to_owned() } else { format!(">{inner}</testcase>\n") });
    }
    text + "</testsuite>\n</testsuites>\n"
}

/// Text for XML, in attributes too; characters that XML has not become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let nasty = "a<b>&\"c\"\\ #d\n\t\u{1}\u{7f}ü\u{ffff}";
        let make = |name, status| CheckResult {
            name,
            rule: "a rule with \"quotes\" & <signs>",
            source: "kernel_function",
            status,
            took: Duration::from_millis(1500),
        };
        let failure =
            Status::Failed { what: nasty.to_owned(), expected: nasty.to_owned(), got: "EINVAL".to_owned() };
        Report {
            results: vec![
                make("a/one", Status::Passed),
                make("a/two", Status::Skipped(nasty.to_owned())),
                make("b/three", failure),
            ],
        }
    }

    fn printed(format: Format) -> String {
        let (mut out, report) = (Vec::new(), report());
        start(&mut out, format, report.results.len()).unwrap();
        for (number, one) in (1..).zip(&report.results) {
            result(&mut out, format, number, one).unwrap();
        }
        end(&mut out, format, &report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tap_has_a_plan_and_one_line_per_check() {
        let text = printed(Format::Tap);
        assert!(text.starts_with("TAP version 14\n1..3\nok 1 - a/one\nok 2 - a/two # SKIP a<b>"), "{text}");
        assert!(text.contains("\nnot ok 3 - b/three\n  ---\n  rule: \""), "{text}");
        assert!(
            text.ends_with("\n  got: \"EINVAL\"\n  ...\n# 3 checks: 1 ok, 1 not ok, 1 skipped\n"),
            "{text}"
        );
        let plain = |line: &&str| !line.starts_with("  ");
        assert_eq!(text.lines().filter(plain).count(), 6, "{text}");
    }

    #[test]
    fn json_lines_are_json() {
        let text = printed(Format::Json);
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0]["status"], "ok");
        assert_eq!(rows[1]["reason"], "a<b>&\"c\"\\ #d\n\t\u{1}\u{7f}ü\u{ffff}");
        assert_eq!(rows[2]["got"], "EINVAL");
        assert_eq!(rows[2]["milliseconds"], 1500);
    }

    #[test]
    fn junit_is_well_formed() {
        let text = printed(Format::Junit);
        let document = roxmltree::Document::parse(&text).unwrap();
        let suite = document.root_element().first_element_child().unwrap();
        assert_eq!(suite.attribute("tests"), Some("3"));
        assert_eq!(suite.attribute("failures"), Some("1"));
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        assert_eq!(cases[0].attribute("classname"), Some("configfs-tsm.a"));
        let failure = cases[2].first_element_child().unwrap();
        assert_eq!(failure.attribute("message"), Some("a<b>&\"c\"\\ #d\n\t\u{fffd}\u{fffd}ü\u{fffd}"));
        assert!(failure.text().unwrap().contains("a rule with \"quotes\" & <signs>"));
    }
}
