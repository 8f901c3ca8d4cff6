//! Habits that clippy does not check.

use rstest::rstest;

use crate::source::{self, Source};

/// Where code may opt out of the ban on `unsafe`: the few places that touch guest memory, KVM, or the bare machine.
const UNSAFE: [&str; 4] =
    ["vmm/src/engine/kvm.rs", "vmm/src/engine/kvm/", "vmm/src/memory.rs", "guest-tests/"];
/// The keyword, in two parts so that this file does not hold it outside comments.
const KEYWORD: &str = concat!("un", "safe");
/// What leaves a test out, in two parts likewise.
const IGNORE: &str = concat!("#[ig", "nore");
/// The most lines of a file, and of its code without its unit tests.
const MOST_LINES: usize = 700;
const MOST_LINES_OF_CODE: usize = 500;
/// Words that mark something as unfinished, in two parts so that this file does not hold them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Everything that is wrong with a Rust file.
fn violations(file: &Source) -> Vec<String> {
    let Source { path, text } = file;
    let mut wrong = unfinished(file);
    let all = text.lines().count();
    // Integration tests are nothing but tests.
    let code = if path.contains("/tests/") { 0 } else { source::before_tests(text).lines().count() };
    if all > MOST_LINES {
        wrong.push(format!("{path} has {all} lines, more than {MOST_LINES}"));
    } else if code > MOST_LINES_OF_CODE {
        wrong.push(format!("{path} has {code} lines before its tests, more than {MOST_LINES_OF_CODE}"));
    }
    let may = UNSAFE.iter().any(|allowed| path.starts_with(allowed));
    if !may && source::code(text).any(|line| source::has_word(line, KEYWORD)) {
        wrong.push(format!("{path} is not among the files that may use {KEYWORD} code"));
    }
    if source::code(text).any(|line| line.trim_start().starts_with(IGNORE)) {
        wrong.push(format!("{path} has a test that never runs by itself"));
    }
    if is_root(path) && !text.starts_with("//! ") {
        wrong.push(format!("{path} must begin with what the crate is for (`//! …`)"));
    }
    wrong
}

/// Words that mark something as unfinished, in any file.
fn unfinished(Source { path, text }: &Source) -> Vec<String> {
    let found = |word: &&str| source::has_word(text, word);
    UNFINISHED.iter().filter(|word| found(word)).map(|word| format!("{path} holds {word}")).collect()
}

/// Whether a file is the root of a crate: of a library, a program, a test, a benchmark, an example, a fuzz target.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "tests", _, "main.rs"] => true,
        [_, "build.rs"] | [.., "src", "bin", _] => true,
        [_, .., "tests" | "benches" | "examples" | "fuzz_targets", _] => !parts.contains(&"src"),
        _ => false,
    }
}

#[test]
fn source_files_keep_the_habits() {
    let wrong: Vec<String> = source::sources("", &[".rs"]).iter().flat_map(violations).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_else_is_unfinished() {
    let endings = [".md", ".toml", ".sh", ".py", ".txt", ".ld", ".yml"];
    let wrong: Vec<String> = source::sources("", &endings).iter().flat_map(unfinished).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn file(path: &str, text: impl Into<String>) -> Source {
    Source { path: path.to_owned(), text: text.into() }
}

#[rstest]
#[case::root_with_docs("abi/src/lib.rs", "//! Docs.\n#![no_std]\n")]
#[case::module_without_docs("abi/src/x.rs", "use a;\n")]
#[case::unsafe_where_allowed("vmm/src/memory.rs", format!("{KEYWORD} {{ x() }}\n"))]
#[case::unsafe_in_a_comment("abi/src/x.rs", format!("// not {KEYWORD} at all\n#![deny({KEYWORD}_code)]\n"))]
#[case::long_with_tests("abi/src/x.rs", "//\n".repeat(450) + "#[cfg(test)]\nmod tests {\n" + &"//\n".repeat(200))]
fn good_habits_are_accepted(#[case] path: &str, #[case] text: String) {
    assert_eq!(violations(&file(path, text)), Vec::<String>::new());
}

#[rstest]
#[case::root_without_docs("abi/src/lib.rs", "#![no_std]\n", "must begin with")]
#[case::test_without_docs("abi/tests/x.rs", "use a;\n", "must begin with")]
#[case::left_out("abi/tests/x.rs", format!("//! Docs.\n#[test]\n{IGNORE}]\nfn f() {{}}\n"), "never runs by itself")]
#[case::unsafe_elsewhere("abi/src/x.rs", format!("fn f() {{ {KEYWORD} {{ x() }} }}\n"), "is not among the files")]
#[case::unfinished("abi/src/x.rs", format!("// {}: later\n", UNFINISHED[0]), "holds")]
#[case::long("abi/src/x.rs", "//\n".repeat(701), "701 lines")]
#[case::long_without_tests("abi/src/x.rs", "//\n".repeat(501), "501 lines before its tests")]
fn bad_habits_are_found(#[case] path: &str, #[case] text: String, #[case] part: &str) {
    let wrong = violations(&file(path, text));
    assert!(wrong.len() == 1 && wrong[0].contains(part), "{wrong:?}");
}
