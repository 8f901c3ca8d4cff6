//! As much Markdown as the checks need: tables by the names of their columns, and spans of code.

/// The rows of the first table that has all these columns; each row gives the cells of these columns, in this order,
/// without surrounding back quotes.
pub(crate) fn table<const N: usize>(text: &str, columns: [&str; N]) -> Option<Vec<[String; N]>> {
    let mut lines = text.lines().skip_while(|line| positions(line, columns).is_none());
    let positions = positions(lines.next()?, columns)?;
    let rows = lines.skip(1).take_while(|line| line.trim_start().starts_with('|'));
    Some(
        rows.map(|row| {
            let cells = cells(row);
            positions.map(|at| cells.get(at).copied().unwrap_or_default().trim_matches('`').to_owned())
        })
        .collect(),
    )
}

/// Where the columns stand in a header line, if all do.
fn positions<const N: usize>(header: &str, columns: [&str; N]) -> Option<[usize; N]> {
    let cells = cells(header);
    let mut positions = [0; N];
    for (position, column) in positions.iter_mut().zip(columns) {
        *position = cells.iter().position(|cell| *cell == column)?;
    }
    Some(positions)
}

/// The trimmed cells of a line `| a | b |`.
fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

/// The spans of code in running text; fenced blocks are left out.
pub(crate) fn code_spans(text: &str) -> Vec<&str> {
    // Fences stand at odd places between the parts, back quotes at odd places inside a part.
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn tables_are_read_by_column() {
    let text = "# Title\n| other |\n|---|\n| x |\n\n| a | b | c |\n|---|---|---|\n| `1/` | 2 | 3 |\n| 4 | 5 |\n\n| 7 | 8 | 9 |\n";
    assert_eq!(
        table(text, ["c", "a"]),
        Some(vec![["3".to_owned(), "1/".to_owned()], [String::new(), "4".to_owned()]])
    );
    assert_eq!(table(text, ["a", "missing"]), None);
}

#[test]
fn spans_of_code_are_found() {
    assert_eq!(code_spans("a `b` c\n```rust\nlet `x` = 1;\n```\n`d::e`."), ["b", "d::e"]);
}
