//! Reading the repository's files, and as much Rust as the checks need.

use std::fs;
use std::path::{Path, PathBuf};

use tsmsim_tests::workspace;

/// A text file: its path from the root of the workspace, and what it says.
#[derive(Debug)]
pub(crate) struct Source {
    /// With `/` between the parts.
    pub(crate) path: String,
    /// The contents.
    pub(crate) text: String,
}

/// Directories of the root that hold nothing of ours.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || name == "target"
}

/// The names of the directories in the root of the workspace.
pub(crate) fn top_level() -> Vec<String> {
    let entries = fs::read_dir(workspace::root()).expect("the root can be read").flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    directories
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !is_foreign(name))
        .collect()
}

/// Every file under a directory, sorted; hidden ones and what is built or found by machines is left out.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if is_foreign(&name) || path.ends_with("fuzz/corpus") || path.ends_with("fuzz/artifacts") {
            continue;
        }
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The text files under the root, or a directory of it, whose names end in one of these ways.
pub(crate) fn sources(directory: &str, endings: &[&str]) -> Vec<Source> {
    let root = workspace::root();
    let wanted = files(&root.join(directory))
        .into_iter()
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)));
    wanted
        .map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(&root).expect("it is under the root").to_string_lossy().into_owned();
            Source { path, text }
        })
        .collect()
}

/// A Rust file up to its unit tests, which are its last item.
pub(crate) fn before_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The lines of code of a Rust file before its unit tests, without comments. What looks like a comment inside a string is
/// taken for one, which none of the checks minds.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines = before_tests(text).lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.filter(|line| !line.trim().is_empty())
}

/// Whether the word stands in the text by itself.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn code_is_what_is_left_without_comments_and_tests() {
    let text = "//! Docs.\nuse a; // why\n\n#[cfg(test)]\nmod tests {\n    use b;\n}\n";
    assert_eq!(code(text).collect::<Vec<_>>(), ["use a; "]);
    assert!(has_word("a word {", "word") && !has_word("word_list", "word"));
}
