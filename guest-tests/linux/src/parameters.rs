//! Parameters of modules on the kernel's command line, `MODULE.PARAMETER[=VALUE]`. The kernel itself reads those of what is
//! built in; those of a module are given to it by whoever loads it, as `modprobe` does.

use std::iter;
use std::ops::ControlFlow;

/// Where the kernel shows its command line.
pub(crate) const COMMAND_LINE: &str = "/proc/cmdline";

/// The parameters of a module, as `finit_module` takes them: separated by spaces, with the quotes that they came in. Of the
/// module's name `-` and `_` are alike. Any bytes give some text, which may be empty and has no zero byte.
pub(crate) fn of_module(command_line: &[u8], module: &str) -> Vec<u8> {
    let found: Vec<Vec<u8>> = words(command_line).filter_map(|word| parameter(word, module)).collect();
    found.join(&b' ')
}

/// A word of the command line without the module's name, if it is that of this module.
fn parameter(word: &[u8], module: &str) -> Option<Vec<u8>> {
    let (quote, text) = match word.strip_prefix(b"\"") {
        Some(text) => (&b"\""[..], text),
        None => (&b""[..], word),
    };
    let dot = text.iter().take_while(|&&byte| byte != b'=').position(|&byte| byte == b'.')?;
    let (name, rest) = text.split_at(dot);
    let rest = rest.get(1..).filter(|rest| !rest.is_empty() && !rest.starts_with(b"="))?;
    let alike = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    name.iter().map(alike).eq(module.as_bytes().iter().map(alike)).then(|| [quote, rest].concat())
}

/// The words that are the kernel's own, up to `--` (Linux `lib/cmdline.c`, `next_arg`; `kernel/params.c`, `parse_args`). Spaces
/// in double quotes separate nothing; a quote that is not closed reaches to the end.
fn words(command_line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = command_line.iter().position(|&byte| byte == 0).unwrap_or(command_line.len());
    let (mut rest, _) = command_line.split_at(end);
    iter::from_fn(move || {
        let start = rest.iter().position(|&byte| !is_space(byte))?;
        let (_, from_word) = rest.split_at(start);
        let (word, behind) = from_word.split_at(length(from_word));
        rest = behind;
        (word != b"--").then_some(word)
    })
}

/// How long the first word is.
fn length(text: &[u8]) -> usize {
    let end = text.iter().enumerate().try_fold(false, |quoted, (at, &byte)| match byte {
        b'"' => ControlFlow::Continue(!quoted),
        _ if is_space(byte) && !quoted => ControlFlow::Break(at),
        _ => ControlFlow::Continue(quoted),
    });
    end.break_value().unwrap_or(text.len())
}

/// What the kernel's `isspace` says, whose characters are those of Latin-1 (`lib/ctype.c`).
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d | 0xa0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one("console=ttyS0 cove_guest.format=x509\n", "format=x509")]
    #[case::hyphen("cove-guest.format=x509", "format=x509")]
    #[case::several("cove_guest.a=1 quiet cove_guest.b=2", "a=1 b=2")]
    #[case::twice("cove_guest.a=1 cove_guest.a=2", "a=1 a=2")]
    #[case::no_value("cove_guest.debug", "debug")]
    #[case::empty_value("cove_guest.a=", "a=")]
    #[case::dots_in_the_value("cove_guest.a=b.c=d", "a=b.c=d")]
    #[case::dots_in_the_parameter("cove_guest.a.b=c", "a.b=c")]
    #[case::quoted_value("cove_guest.a=\"b c\" d", "a=\"b c\"")]
    #[case::quoted_word("\"cove_guest.a=b c\" d", "\"a=b c\"")]
    #[case::quotes_in_the_middle("cove_guest.a=b\" \"c d", "a=b\" \"c")]
    #[case::quote_left_open("x cove_guest.a=\"b cove_guest.c=d", "a=\"b cove_guest.c=d")]
    #[case::inside_of_another("x=\"y cove_guest.a=b\" z", "")]
    #[case::other_spaces("\tx\x0bcove_guest.a=b\x0c\r", "a=b")]
    #[case::for_init("quiet -- cove_guest.a=b", "")]
    #[case::hyphens_are_a_word("quiet --cove_guest.a=b", "")]
    #[case::another_module("cove_guests.a=b cove.a=b xcove_guest.a=b", "")]
    #[case::no_module("cove_guest=a.b .a=b cove_guest. cove_guest.=b =cove_guest.a", "")]
    #[case::behind_a_zero("cove_guest.a=b\0 cove_guest.c=d", "a=b")]
    #[case::nothing("", "")]
    fn parameters(#[case] command_line: &str, #[case] expected: &str) {
        let found = of_module(command_line.as_bytes(), "cove_guest");
        assert_eq!(String::from_utf8(found).unwrap(), expected);
        assert_eq!(of_module(command_line.as_bytes(), "cove-guest"), expected.as_bytes());
    }

    #[test]
    fn latin_1_has_a_space_of_its_own() {
        assert_eq!(of_module(b"x\xa0m.a=\xff", "m"), b"a=\xff");
    }

    proptest! {
        /// Any command line gives text that `finit_module` takes.
        #[test]
        fn any_command_line(bytes: Vec<u8>, module in "[a-z_-]{0,3}") {
            let found = of_module(&bytes, &module);
            prop_assert!(!found.contains(&0) && found.len() <= bytes.len());
        }

        #[test]
        fn any_arrangement(text in "[m.= \"\0-]{0,40}") {
            let found = of_module(text.as_bytes(), "m");
            prop_assert!(!found.contains(&0) && found.len() <= text.len());
        }

        #[test]
        fn what_was_given_is_found(names in prop::collection::vec("[a-z]{1,8}=[a-z0-9.]{0,8}", 0..5)) {
            let words: Vec<String> = names.iter().map(|name| format!("other.x m.{name}")).collect();
            let found = of_module(words.join(" ").as_bytes(), "m");
            prop_assert_eq!(String::from_utf8(found).unwrap(), names.join(" "));
        }
    }
}
