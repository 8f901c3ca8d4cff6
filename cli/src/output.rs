//! Writing answers: JSON documents, aligned tables, hexadecimal.

use std::{fs, io::Write, path::Path};

use crate::failure::Failure;

/// Prints to standard output; a reader that went away is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a JSON document.
pub(crate) fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a hexadecimal string, for arguments.
pub(crate) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim().strip_prefix("0x").unwrap_or(text.trim());
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("give an even number of hexadecimal digits".to_owned());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&text[at..at + 2], 16)
                .map_err(|_| format!("{:?} is not hexadecimal", &text[at..at + 2]))
        })
        .collect()
}

/// Exactly `N` bytes of hexadecimal, for arguments.
pub(crate) fn parse_hex_exact<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = parse_hex(text)?;
    let given = bytes.len();
    bytes.try_into().map_err(|_| format!("give {N} bytes ({} digits), not {given}", 2 * N))
}

/// An integer in decimal, or in hexadecimal after `0x`, for arguments.
pub(crate) fn parse_u64(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

/// Rows under a heading, columns aligned, two spaces apart.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut out = String::new();
    for row in [&heading, &rule].into_iter().chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Writes a file, making its directory first.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
    }
    fs::write(path, bytes).map_err(|error| Failure::file("write", path, &error))
}

/// Reads a file of at most 256 MiB.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    const LIMIT: u64 = 256 << 20;
    let read = || -> std::io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > LIMIT {
            return Err(std::io::Error::other("larger than 256 MiB"));
        }
        fs::read(path)
    };
    read().map_err(|error| Failure::file("read", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_both_ways() {
        assert_eq!(parse_hex("0x00ff"), Ok(vec![0, 255]));
        assert_eq!(hex(&[0, 255]), "00ff");
        assert!(parse_hex("f").is_err() && parse_hex("zz").is_err() && parse_hex("é").is_err());
        assert!(parse_hex_exact::<2>("00").is_err());
    }

    #[test]
    fn tables_are_aligned() {
        let text = table(&["a", "bb"], &[vec!["ccc".into(), "d".into()]]);
        assert_eq!(text, "a    bb\n---  --\nccc  d\n");
    }
}
