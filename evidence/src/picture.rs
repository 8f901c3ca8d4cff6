//! Chains as pictures.

use std::fmt::Write as _;

use crate::{Check, Outcome, Verdict, x509::Certificate};

const WIDTH: usize = 800;
const BOX_HEIGHT: usize = 84;
const STEP: usize = BOX_HEIGHT + 36;
const TOP: usize = 64;
const MARGIN: usize = 24;
/// Between two boxes.
const GAP: usize = STEP - BOX_HEIGHT;
/// Characters that fit into a line, and into the headline.
const LINE_LENGTH: usize = 104;
const HEADLINE_LENGTH: usize = 82;

/// A box: what it is, and whether it passed.
pub(crate) struct Part {
    title: &'static str,
    lines: [String; 2],
    outcome: Outcome,
    /// What it does to the next one; no arrow without.
    arrow: Option<&'static str>,
}

/// An SVG picture: the boxes from top to bottom, and the verdict. The same input gives the same bytes.
pub(crate) fn draw(parts: &[Part], verdict: &Verdict) -> String {
    let height = TOP + parts.len() * STEP - GAP + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escape(&verdict.summary())
    );
    let (colour, _) = colours(if verdict.accepted() { Outcome::Passed } else { Outcome::Failed });
    let headline = cut(&heading(verdict), HEADLINE_LENGTH);
    text(
        &mut out,
        MARGIN,
        28,
        &format!("font-size=\"15\" font-weight=\"bold\" fill=\"{colour}\""),
        &headline,
    );
    text(&mut out, MARGIN, 48, "fill=\"#555555\"", &format!("root: {}", verdict.root));
    for (index, part) in parts.iter().enumerate() {
        let arrow = part.arrow.filter(|_| index + 1 < parts.len());
        draw_part(&mut out, TOP + index * STEP, part, arrow);
    }
    out + "</svg>\n"
}

/// The verdict in a line; whose root it is stands below it.
fn heading(verdict: &Verdict) -> String {
    if verdict.accepted() { format!("accepted, as of {}", verdict.at) } else { verdict.summary() }
}

fn draw_part(out: &mut String, y: usize, part: &Part, arrow: Option<&str>) {
    let (line, fill) = colours(part.outcome);
    let width = WIDTH - 2 * MARGIN;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"2\"/>"
    );
    let x = MARGIN + 14;
    text(out, x, y + 24, "font-weight=\"bold\"", part.title);
    text(out, x, y + 46, "fill=\"#333333\"", &part.lines[0]);
    text(out, x, y + 66, &format!("fill=\"{line}\""), &part.lines[1]);
    if let Some(label) = arrow {
        let (x, from, to) = (WIDTH / 2, y + BOX_HEIGHT, y + STEP);
        let _ = writeln!(
            out,
            "<path d=\"M{x} {from} V{} M{} {} L{x} {to} L{} {}\" fill=\"none\" stroke=\"#777777\" stroke-width=\"2\"/>",
            to - 2,
            x - 6,
            to - 9,
            x + 6,
            to - 9
        );
        text(out, x + 12, from + 23, "fill=\"#777777\"", label);
    }
}

/// Line and fill.
const fn colours(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Passed => ("#1a7f37", "#eaf7ee"),
        Outcome::Failed => ("#b42318", "#fdecea"),
        Outcome::Skipped => ("#6b6b6b", "#f2f2f2"),
    }
}

fn text(out: &mut String, x: usize, y: usize, attributes: &str, content: &str) {
    let content = escape(&cut(content, LINE_LENGTH));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" {attributes}>{content}</text>");
}

fn cut(text: &str, length: usize) -> String {
    let more = if text.chars().nth(length).is_some() { "..." } else { "" };
    text.chars().take(length).collect::<String>() + more
}

/// For XML character data; what XML cannot hold at all is replaced.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

impl Part {
    /// The box of an object of the verdict: `line` says what it is, its checks whether it passed. It signs the next one.
    pub(crate) fn of(title: &'static str, line: String, verdict: &Verdict) -> Self {
        Self::judged(title, line, verdict, |check| check.object == title)
    }

    /// A box to which certain checks belong.
    pub(crate) fn judged(
        title: &'static str,
        line: String,
        verdict: &Verdict,
        own: impl Fn(&Check) -> bool,
    ) -> Self {
        let mut own = verdict.checks.iter().filter(|check| own(check));
        let count = own.clone().filter(|check| check.outcome == Outcome::Passed).count();
        let (outcome, state) = match own.find(|check| check.outcome == Outcome::Failed) {
            Some(check) if check.object == title => {
                (Outcome::Failed, format!("{}: {}", check.field, check.detail))
            }
            Some(Check { object, field, detail, .. }) => {
                (Outcome::Failed, format!("{object}: {field}: {detail}"))
            }
            None if count == 0 => (Outcome::Skipped, "not looked at".to_owned()),
            None => (Outcome::Passed, format!("{count} checks passed")),
        };
        Self { title, lines: [line, state], outcome, arrow: Some("signs") }
    }

    /// With another word at the arrow, or without an arrow.
    pub(crate) fn with_arrow(self, arrow: Option<&'static str>) -> Self {
        Self { arrow, ..self }
    }
}

/// Whom a certificate is of, and how long it is valid.
pub(crate) fn certificate_line(der: Option<&[u8]>) -> String {
    match der.map(Certificate::read) {
        Some(Ok(certificate)) => {
            let name = certificate.subject.common_name().unwrap_or("no common name").to_owned();
            format!("{name}, valid {} to {}", certificate.validity.not_before, certificate.validity.not_after)
        }
        Some(Err(_)) => "cannot be read".to_owned(),
        None => "missing".to_owned(),
    }
}
