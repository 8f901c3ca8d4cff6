//! Running programs and reading what they say.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// A seed that nobody published.
pub(crate) const OTHER_SEED: &str = "7473696d2074657374733a20616e6f74686572207365656400000000000000ff";

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit status.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// The same, which must have ended like this.
    #[track_caller]
    pub(crate) fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {:?}, {:?}", self.out, self.err))
    }

    /// The last line of standard output.
    pub(crate) fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

/// Runs a command without a terminal, and without what the caller's environment means to tsmsim.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    for variable in ["TSMSIM_SEED", "RUST_LOG", "COLUMNS"] {
        if !command.get_envs().any(|(name, _)| name == variable) {
            command.env_remove(variable);
        }
    }
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The `tsmsim` program, if it was built.
#[derive(Clone, Debug)]
pub(crate) struct Tsmsim(pub(crate) PathBuf);

impl Tsmsim {
    /// Finds it, or has the calling test counted as skipped.
    #[track_caller]
    pub(crate) fn find() -> Option<Self> {
        tsmsim_tests::need::tsmsim().map(Self)
    }

    /// A command with these arguments.
    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        command
    }

    /// Runs it.
    #[track_caller]
    pub(crate) fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
        run(&mut self.command(arguments))
    }

    /// Arguments in one text, split at spaces, then paths.
    #[track_caller]
    pub(crate) fn say(&self, words: &str, paths: &[(&str, &Path)]) -> Said {
        let words = words.split_whitespace().map(OsStr::new);
        let paths = paths.iter().flat_map(|(option, path)| [OsStr::new(option), path.as_os_str()]);
        self.run(words.chain(paths).filter(|word| !word.is_empty()))
    }

    /// Makes evidence in a directory, with these further arguments.
    #[track_caller]
    pub(crate) fn report(&self, out: &Path, words: &str) -> Said {
        self.say(&format!("report --tee snp {words}"), &[("--out", out)]).with_status(0)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file's name and contents.
pub(crate) type File = (String, Vec<u8>);

/// The files of a directory, sorted by name; not those of directories in it.
pub(crate) fn files(directory: &Path) -> Vec<File> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}
