//! `tsmsim-conform`: the conformance suite of configfs-tsm as one program, for guests that have nothing else.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use tsmsim_conform::{Error, Format, Options, Style, list, run};

const HELP: &str = "\
The conformance suite of configfs-tsm: every rule of the ABI as a named check.

Usage: tsmsim-conform [OPTIONS]

  --path DIR       the directory of the entries [/sys/kernel/config/tsm/report]
  --style STYLE    auto, 6.7, 6.12 or 6.16: which generation of the interface is expected [auto]
  --filter SUBSTR  only checks whose name contains this
  --list           show the checks and run none
  --format FORMAT  tap, junit or json [tap]
  --junit FILE     the results as JUnit XML, besides
  --device PATH    the provider's device file [/dev/sev-guest or /dev/tdx_guest]
  --threads N      how many threads race [32]
  --slow           also checks that take minutes
  --extend         also extend a measurement register, which cannot be undone
  --help           this text

Exit status: 0 all checks passed or were skipped, 1 a check failed, 2 usage, 3 there is no configfs-tsm.
";

/// What was asked for.
#[derive(Debug)]
enum Wanted {
    Run(Options),
    List(Options),
    Help,
}

fn main() -> ExitCode {
    match parse(env::args_os().skip(1)) {
        Ok(Wanted::Help) => match io::stdout().write_all(HELP.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Wanted::List(options)) => end(list(&options, &mut io::stdout()).map(|()| true)),
        Ok(Wanted::Run(options)) => end(run(&options, &mut io::stdout()).map(|report| report.failed() == 0)),
        Err(text) => {
            eprintln!("tsmsim-conform: {text}; --help shows the options");
            ExitCode::from(2)
        }
    }
}

fn end(result: Result<bool, Error>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tsmsim-conform: {error}");
            ExitCode::from(match error {
                Error::Lacking(_) => 3,
                Error::NoSuchCheck(_) => 2,
                Error::Output(_) => 1,
            })
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Wanted, String> {
    let (mut options, mut listing) = (Options::default(), false);
    while let Some(word) = words.next() {
        let word = word.into_string().map_err(|word| format!("what is {}?", word.display()))?;
        let (name, given) = match word.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (word.as_str(), None),
        };
        if given.is_some() && ["--list", "--slow", "--extend", "--help"].contains(&name) {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || given.clone().or_else(|| words.next()).ok_or(format!("{name} needs a value"));
        match name {
            "--help" | "-h" => return Ok(Wanted::Help),
            "--list" => listing = true,
            "--slow" => options.slow = true,
            "--extend" => options.extend = true,
            "--path" => options.path = PathBuf::from(value()?),
            "--junit" => options.junit = Some(PathBuf::from(value()?)),
            "--device" => options.device = Some(PathBuf::from(value()?)),
            "--filter" => options.filter = Some(text(name, value()?)?),
            "--style" => options.style = style(&text(name, value()?)?)?,
            "--format" => options.format = format(&text(name, value()?)?)?,
            "--threads" => options.threads = threads(&text(name, value()?)?)?,
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(if listing { Wanted::List(options) } else { Wanted::Run(options) })
}

fn text(name: &str, value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| format!("{name}: {} is no text", value.display()))
}

fn style(value: &str) -> Result<Option<Style>, String> {
    match value {
        "auto" => Ok(None),
        "6.7" => Ok(Some(Style::V6_7)),
        "6.12" => Ok(Some(Style::V6_12)),
        "6.16" => Ok(Some(Style::V6_16)),
        _ => Err(format!("--style is auto, 6.7, 6.12 or 6.16, not {value}")),
    }
}

fn format(value: &str) -> Result<Format, String> {
    match value {
        "tap" => Ok(Format::Tap),
        "junit" => Ok(Format::Junit),
        "json" => Ok(Format::Json),
        _ => Err(format!("--format is tap, junit or json, not {value}")),
    }
}

fn threads(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err(format!("--threads is a number from 1 to 1024, not {value}")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parsed(words: &[&str]) -> Result<Wanted, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn options_are_taken() {
        let words =
            ["--path=/x", "--style", "6.7", "--threads", "4", "--slow", "--format=json", "--filter", "a/b"];
        let Ok(Wanted::Run(options)) = parsed(&words) else { panic!("{words:?}") };
        assert_eq!(options.path, PathBuf::from("/x"));
        assert_eq!(options.style, Some(Style::V6_7));
        assert_eq!((options.threads, options.slow, options.extend), (4, true, false));
        assert_eq!((options.format, options.filter.as_deref()), (Format::Json, Some("a/b")));
        assert!(matches!(parsed(&["--list"]), Ok(Wanted::List(_))));
        assert!(matches!(parsed(&["--slow", "--help"]), Ok(Wanted::Help)));
    }

    #[rstest]
    #[case(&["--path"], "needs a value")]
    #[case(&["--style", "5"], "--style is")]
    #[case(&["--format", "xml"], "--format is")]
    #[case(&["--threads", "0"], "--threads is")]
    #[case(&["--threads", "many"], "--threads is")]
    #[case(&["--slow=yes"], "takes no value")]
    #[case(&["--whatever"], "what is --whatever?")]
    #[case(&["stray"], "what is stray?")]
    fn nonsense_is_refused(#[case] words: &[&str], #[case] part: &str) {
        let text = parsed(words).unwrap_err();
        assert!(text.contains(part), "{text}");
    }
}
