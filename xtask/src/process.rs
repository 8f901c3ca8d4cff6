//! Running commands, with errors that show the command as one would type it.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;

/// Shows a command as one would type it in the root of the workspace.
pub(crate) fn shown(command: &Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?.to_str()?))));
    let program = command.get_program().to_string_lossy();
    // The full path of cargo inside its toolchain helps nobody.
    let program = if program.ends_with("/cargo") { "cargo".to_owned() } else { quoted(&program) };
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    set.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for the shell where it needs that.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command that speaks for itself.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    check(command, status)
}

/// Runs a command whose standard output is what the second one reads.
pub(crate) fn run_piped(first: &mut Command, second: &mut Command) -> Result<(), Failure> {
    let mut writer = first.stdout(Stdio::piped()).spawn().map_err(|error| not_started(first, &error))?;
    if let Some(stdout) = writer.stdout.take() {
        second.stdin(stdout);
    }
    let read = run(second);
    // Our end of the pipe, for which the first one would wait.
    second.stdin(Stdio::null());
    let written = writer.wait().map_err(|error| not_started(first, &error))?;
    read.and_then(|()| check(first, written))
}

/// Runs a command silently; gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    let said = String::from_utf8_lossy(&output.stderr);
    check(command, output.status).map_err(|failure| match said.trim() {
        "" => failure,
        said => failure.advise(format!("it said: {said}")),
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if the command can be started and exits with 0; it is not heard.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a command, passes its standard output on, and shows each line of it to `each`.
pub(crate) fn run_and_read(command: &mut Command, mut each: impl FnMut(&str)) -> Result<(), Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| not_started(command, &error))?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            each(text.trim_end());
            line.clear();
        }
    }
    let status = child.wait().map_err(|error| not_started(command, &error))?;
    check(command, status)
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    Failure::new(format!("`{program}` could not be run: {error}")).command(shown(command))
}

fn check(command: &Command, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("a command failed ({status})"))
        .command(shown(command))
        .advise("read its messages above, then run the command by itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_commands_as_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").env_remove("RUSTFLAGS").args(["doc", "--no-deps", "it's"]);
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[test]
    fn reads_lines_and_status() {
        let mut lines = Vec::new();
        let result = run_and_read(Command::new("sh").args(["-c", "echo one; printf two; exit 7"]), |line| {
            lines.push(line.to_owned())
        });
        assert_eq!(lines, ["one", "two"]);
        assert!(result.expect_err("it exits with 7").to_string().contains('7'));
    }

    #[test]
    fn both_ends_of_a_pipe_count() {
        let pipe = |first: &str, second: &str| {
            let shell = |script: &str| {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command
            };
            run_piped(&mut shell(first), &mut shell(second))
        };
        assert!(pipe("echo one", "read word; test $word = one").is_ok());
        assert!(pipe("exit 3", "cat > /dev/null").is_err());
        assert!(pipe("echo one", "cat > /dev/null; exit 3").is_err());
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&mut Command::new("no-such-program-here")).expect_err("there is none");
        assert!(failure.what().contains("no-such-program-here"));
        assert!(!succeeds(&mut Command::new("no-such-program-here")));
    }
}
