//! What is in a file, as a tree of fields.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::hex::hex;

/// Hexadecimal digits on one line of text.
const DIGITS_PER_LINE: usize = 64;
/// Raw values up to this many characters stand on one line with their meaning.
const RAW_COLUMN: usize = 18;

/// A field: its name, its value as it stands in the file, what that means, and the fields within.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// The specification's name.
    pub name: String,
    /// The value, hexadecimal: integers as `0x...` whatever their byte order, byte strings in the order of the file.
    pub raw: String,
    /// What it means; empty where there is nothing to say.
    pub meaning: String,
    /// The fields within.
    pub children: Vec<Node>,
}

impl Node {
    /// A heading.
    pub(crate) fn group(name: impl Into<String>, meaning: impl Into<String>, children: Vec<Self>) -> Self {
        Self { name: name.into(), raw: String::new(), meaning: meaning.into(), children }
    }

    /// A string of bytes.
    pub(crate) fn bytes(name: impl Into<String>, bytes: &[u8], meaning: impl Into<String>) -> Self {
        Self { name: name.into(), raw: hex(bytes), meaning: meaning.into(), children: Vec::new() }
    }

    /// An integer.
    pub(crate) fn number(name: impl Into<String>, value: u64, meaning: impl Into<String>) -> Self {
        Self { name: name.into(), raw: format!("{value:#x}"), meaning: meaning.into(), children: Vec::new() }
    }

    pub(crate) fn with(mut self, children: Vec<Self>) -> Self {
        self.children = children;
        self
    }

    /// Aligned text, two spaces deeper for each level; more than one line of zeros as their number.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0, self.name_width(0));
        out
    }

    fn name_width(&self, depth: usize) -> usize {
        let own = depth * 2 + self.name.chars().count();
        self.children.iter().map(|child| child.name_width(depth + 1)).max().unwrap_or(0).max(own)
    }

    fn write(&self, out: &mut String, depth: usize, width: usize) {
        let mut rows: Vec<String> = Vec::new();
        if self.raw.is_empty() {
            rows.push(self.meaning.clone());
        } else if self.raw.len() <= RAW_COLUMN {
            rows.push(format!("{:<RAW_COLUMN$}  {}", self.raw, self.meaning));
        } else if self.raw.len() > DIGITS_PER_LINE && self.raw.bytes().all(|digit| digit == b'0') {
            rows.push(format!("zero, {} bytes", self.raw.len() / 2));
            rows.extend((!self.meaning.is_empty()).then(|| self.meaning.clone()));
        } else {
            let digits: Vec<char> = self.raw.chars().collect();
            rows.extend(digits.chunks(DIGITS_PER_LINE).map(|chunk| chunk.iter().collect::<String>()));
            rows.extend((!self.meaning.is_empty()).then(|| self.meaning.clone()));
        }
        for (index, row) in rows.iter().enumerate() {
            let name =
                if index == 0 { format!("{}{}", "  ".repeat(depth), self.name) } else { String::new() };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", format!("{name:<width$}  {row}").trim_end());
        }
        self.children.iter().for_each(|child| child.write(out, depth + 1, width));
    }

    /// For programs: `name`, and where there are any `raw`, `meaning`, `fields`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "name": self.name });
        for (key, text) in [("raw", &self.raw), ("meaning", &self.meaning)] {
            if !text.is_empty() {
                object[key] = json!(text);
            }
        }
        if !self.children.is_empty() {
            object["fields"] = self.children.iter().map(Self::to_json).collect();
        }
        object
    }
}

/// Text from a file as it may be printed: control characters (terminal escapes, line ends) as `\u{..}`.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_unicode().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_and_long_values_wrap() {
        let long = Node::bytes("long", &[0xab; 40], "forty");
        let tree = Node::group("all", "", vec![Node::number("n", 2, "two"), long]);
        let expected = format!(
            "all\n  n     0x2                 two\n  long  {}\n        {}\n        forty\n",
            "ab".repeat(32),
            "ab".repeat(8)
        );
        assert_eq!(tree.to_text(), expected);
        assert_eq!(tree.to_json()["fields"][0], json!({ "name": "n", "raw": "0x2", "meaning": "two" }));
    }

    #[test]
    fn long_zeros_are_not_written_out() {
        assert_eq!(Node::bytes("z", &[0; 40], "none").to_text(), "z  zero, 40 bytes\n   none\n");
        assert_eq!(Node::bytes("z", &[0; 16], "").to_text(), format!("z  {}\n", "00".repeat(16)));
    }

    #[test]
    fn terminal_escapes_do_not_pass() {
        assert_eq!(printable("a\u{1b}[31m\n"), "a\\u{1b}[31m\\u{a}");
    }
}
