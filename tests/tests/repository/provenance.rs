//! Every test vector is listed in `tests/vectors/PROVENANCE.md`, as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rstest::rstest;
use sha2::{Digest as _, Sha256};
use tsmsim_tests::workspace;

use crate::{markdown, source};

const LIST: &str = "PROVENANCE.md";
const COLUMNS: [&str; 5] = ["file", "sha256", "source", "licence", "how to make again"];

/// The SHA-256 of bytes in lower-case hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The files under a directory and their sums, without the list itself.
fn sums(directory: &Path) -> BTreeMap<String, String> {
    let named =
        |path: &Path| path.strip_prefix(directory).expect("it is inside").to_string_lossy().into_owned();
    let files = source::files(directory).into_iter().filter(|path| named(path) != LIST);
    files.map(|path| (named(&path), sha256(&fs::read(&path).expect("it can be read")))).collect()
}

/// Everything that is wrong with the list.
fn violations(list: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let Some(rows) = markdown::table(list, COLUMNS) else {
        return vec![format!("there is no table with the columns {}", COLUMNS.join(", "))];
    };
    let mut wrong = Vec::new();
    for row in &rows {
        let [file, sum, ..] = row;
        match files.get(file) {
            None => wrong.push(format!("{file} is listed but does not exist")),
            Some(actual) if actual != sum => wrong.push(format!("{file} has the SHA-256 {actual}")),
            Some(_) => {}
        }
        let empty = COLUMNS.iter().zip(row).filter(|(_, cell)| cell.is_empty());
        wrong.extend(empty.map(|(column, _)| format!("{file} has nothing under `{column}`")));
    }
    let listed = |file: &&String| rows.iter().filter(|[name, ..]| name == *file).count();
    wrong.extend(files.keys().filter(|file| listed(file) == 0).map(|file| format!("{file} is not listed")));
    wrong.extend(
        files.keys().filter(|file| listed(file) > 1).map(|file| format!("{file} is listed more than once")),
    );
    wrong
}

#[test]
fn every_vector_is_listed_as_it_is() {
    let directory = workspace::vectors();
    let list = fs::read_to_string(directory.join(LIST)).expect("the list exists");
    let wrong = violations(&list, &sums(&directory));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_found_and_summed() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("snp")).expect("another");
    fs::write(directory.path().join("snp/a.bin"), b"abc").expect("a file");
    fs::write(directory.path().join(LIST), "").expect("a list");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sums(directory.path()), BTreeMap::from([("snp/a.bin".to_owned(), abc.to_owned())]));
}

const HEAD: &str = "| file | sha256 | source | licence | how to make again |\n|---|---|---|---|---|\n";

#[rstest]
#[case::sound("| `a` | 11 | here | MIT | copy |\n| b | 22 | here | MIT | copy |\n", &[])]
#[case::changed("| a | 12 | here | MIT | copy |\n| b | 22 | here | MIT | copy |\n", &["a has the SHA-256 11"])]
#[case::unlisted("| a | 11 | here | MIT | copy |\n", &["b is not listed"])]
#[case::twice("| a | 11 | here | MIT | copy |\n| a | 11 | here | MIT | copy |\n| b | 22 | here | MIT | copy |\n", &["a is listed more than once"])]
#[case::gone("| a | 11 | x | MIT | copy |\n| b | 22 | x | MIT | copy |\n| c | 33 | x | MIT | copy |\n", &["c is listed but does not exist"])]
#[case::no_licence("| a | 11 | here | | copy |\n| b | 22 | here | MIT | copy |\n", &["a has nothing under `licence`"])]
fn lists_are_judged(#[case] rows: &str, #[case] sentences: &[&str]) {
    let files =
        BTreeMap::from([("a", "11"), ("b", "22")].map(|(file, sum)| (file.to_owned(), sum.to_owned())));
    assert_eq!(violations(&format!("{HEAD}{rows}"), &files), sentences);
}

#[test]
fn a_list_without_the_table_is_refused() {
    assert_eq!(violations("| file | sha256 |\n|---|---|\n", &BTreeMap::new()).len(), 1);
}
