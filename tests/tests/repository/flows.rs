//! The pages in `docs/flows` point into the code: `` `directory/src/file.rs::symbol` ``, where the symbol may be a path such
//! as `Type::method`. Each must exist.

use std::fs;

use rstest::rstest;
use tsmsim_tests::workspace;

use crate::{markdown, source};

/// Words that stand before a name where it is defined.
const KEYWORDS: [&str; 10] =
    ["fn", "struct", "enum", "const", "trait", "type", "static", "mod", "union", "macro_rules!"];

/// The pointers in a page: the file, and the symbol if one is named.
fn pointers(page: &str) -> Vec<(&str, Option<&str>)> {
    let spans = markdown::code_spans(page).into_iter();
    let split = |span| match str::split_once(span, ".rs::") {
        Some((stem, symbol)) => Some((&span[..stem.len() + 3], Some(symbol.trim_end_matches("()")))),
        None => (span.ends_with(".rs") && span.contains('/')).then_some((span, None)),
    };
    spans.filter_map(split).collect()
}

/// Whether Rust code defines every part of a symbol.
fn defines(text: &str, symbol: &str) -> bool {
    symbol.split("::").all(|name| !name.is_empty() && source::code(text).any(|line| defines_here(line, name)))
}

/// Whether a line defines a name: after a keyword, or as a variant, a field, a constant at the beginning of the line.
fn defines_here(line: &str, name: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.windows(2).any(|pair| KEYWORDS.contains(&pair[0]) && head(pair[1]) == name) {
        return true;
    }
    let rest = line.trim_start().trim_start_matches("pub ").strip_prefix(name).map(str::trim_start);
    rest.is_some_and(|rest| {
        rest.is_empty() || (rest.starts_with([',', '(', '{', '=', ':']) && !rest.starts_with("::"))
    })
}

/// The identifier at the beginning of a word.
fn head(word: &str) -> &str {
    word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Everything that is wrong with a page; `read` gives the text of a file of the repository.
fn violations(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let wrong = |(path, symbol): (&str, Option<&str>)| match (read(path), symbol) {
        (None, _) => Some(format!("there is no file {path}")),
        (Some(text), Some(symbol)) if !defines(&text, symbol) => Some(format!("{path} defines no {symbol}")),
        _ => None,
    };
    pointers(page).into_iter().filter_map(wrong).collect()
}

#[test]
fn every_symbol_in_a_flow_exists() {
    for page in source::sources("docs", &[".md"]) {
        let wrong = violations(&page.text, |path| fs::read_to_string(workspace::root().join(path)).ok());
        assert!(wrong.is_empty(), "{}: {wrong:#?}", page.path);
    }
}

#[rstest]
#[case("snp-guest-request")]
#[case("tdx-get-quote")]
#[case("cove-get-evidence")]
fn the_way_to_evidence_is_walked_through(#[case] name: &str) {
    let page = fs::read_to_string(workspace::root().join(format!("docs/flows/{name}.md")));
    let page = page.expect("the page exists");
    let symbols = pointers(&page).iter().filter(|(_, symbol)| symbol.is_some()).count();
    assert!(symbols >= 7, "the page names {symbols} symbols, for seven steps");
}

const CODE: &str = "//! struct Commented;\n/// Docs.\npub struct Firmware<'a> { field: u8 }\nimpl Firmware<'_> {\n    pub(crate) const fn handle(&self) {}\n}\n\
    pub(crate) enum State {\n    Ready,\n    Busy { since: u64 },\n}\nopen_codes! {\n    MSG_REPORT_REQ = 5,\n}\npub const LIMIT: u8 = 1;\nlet called = other();\n";

#[rstest]
#[case::function("a/src/x.rs::handle")]
#[case::structure("a/src/x.rs::Firmware")]
#[case::method("a/src/x.rs::Firmware::handle()")]
#[case::variant("a/src/x.rs::State::Busy")]
#[case::code("a/src/x.rs::MSG_REPORT_REQ")]
#[case::constant("a/src/x.rs::LIMIT")]
#[case::file("a/src/x.rs")]
#[case::no_pointer("x::y")]
fn what_exists_is_accepted(#[case] pointer: &str) {
    let page = format!("Step 1: `{pointer}` does it.");
    assert_eq!(
        violations(&page, |path| (path == "a/src/x.rs").then(|| CODE.to_owned())),
        Vec::<String>::new()
    );
}

#[rstest]
#[case::file("a/src/y.rs::handle", "there is no file a/src/y.rs")]
#[case::file_alone("a/src/y.rs", "there is no file a/src/y.rs")]
#[case::symbol("a/src/x.rs::handled", "a/src/x.rs defines no handled")]
#[case::only_called("a/src/x.rs::other", "a/src/x.rs defines no other")]
#[case::only_in_a_comment("a/src/x.rs::Commented", "a/src/x.rs defines no Commented")]
#[case::method_of_nothing("a/src/x.rs::Gone::handle", "a/src/x.rs defines no Gone::handle")]
#[case::nothing("a/src/x.rs::", "a/src/x.rs defines no ")]
fn what_is_gone_is_found(#[case] pointer: &str, #[case] sentence: &str) {
    let page = format!("Step 1: `{pointer}` does it.");
    assert_eq!(violations(&page, |path| (path == "a/src/x.rs").then(|| CODE.to_owned())), [sentence]);
}
