//! The conformance suite, against the kernel's own configfs-tsm.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tsmsim_abi::linux_guest::OUT;
use tsmsim_conform::{Options, run as check};

/// Where the results go besides standard output.
const RESULTS: &str = "conform.xml";

/// Runs the suite; `arguments` may be `--slow`, `--extend` and a part of the checks' names.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    match check(&options(arguments), &mut io::stdout()) {
        Ok(report) if report.failed() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn options(arguments: impl Iterator<Item = String>) -> Options {
    let mut options = Options { junit: Some(Path::new(OUT).join(RESULTS)), ..Options::default() };
    for argument in arguments {
        match argument.as_str() {
            "--slow" => options.slow = true,
            "--extend" => options.extend = true,
            _ => options.filter = Some(argument),
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_choose_checks() {
        let words = ["--slow", "entry/", "--extend"].map(str::to_owned);
        let options = options(words.into_iter());
        assert_eq!((options.slow, options.extend, options.filter.as_deref()), (true, true, Some("entry/")));
    }
}
