//! Runs `tsmsim run` as root, and as an ordinary user who may use FUSE.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;
use tsmsim_tests::need::{self, Lack};

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Root,
    User,
}

/// Where distributions let everybody use FUSE, some machines do not. So the user's tests run in a mount namespace with a
/// `/dev/fuse` of its own. `$1` is a directory that the user can read, `$2` tsmsim, which is found there; a command follows.
const AS_USER: &str = r#"set -e
directory=$1 program=$2
shift 2
mount -t tmpfs -o mode=755 none "$directory"
mknod -m 666 "$directory/fuse" c 10 229
mount --bind "$directory/fuse" /dev/fuse
touch "$directory/tsmsim"
mount --bind "$program" "$directory/tsmsim"
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"#;

/// A way to run the program, and a directory that CMD may write to.
pub(crate) struct Session {
    /// The program.
    pub(crate) program: PathBuf,
    who: Who,
    place: TempDir,
    /// CMD's files.
    pub(crate) out: TempDir,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) output: Output,
}

impl Said {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The same, which must have ended like this.
    #[track_caller]
    pub(crate) fn with_status(self, status: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(status), "{}{}", self.out(), self.err());
        self
    }
}

/// Whether a command succeeds.
fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

fn with_default_signals(program: &Path) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(program);
    command
}

impl Session {
    /// Finds what is needed, or has the calling test counted as skipped.
    #[track_caller]
    pub(crate) fn find(who: Who) -> Option<Self> {
        let program = need::tsmsim()?;
        need::program("setpriv")?;
        let lacking = |reason: &str| {
            need::skip(Lack::Hardware, reason);
            None
        };
        if who == Who::Root && !is_root() {
            return lacking("the test is run by an ordinary user");
        }
        if is_root() && !works("unshare", &["--mount", "true"]) {
            return lacking("mount namespaces are not allowed");
        }
        if who == Who::User && !works("unshare", &["--user", "--map-current-user", "--mount", "true"]) {
            return lacking("user namespaces are not allowed");
        }
        need::device(Path::new("/dev/fuse"))?;
        let directory = || {
            let directory = tempfile::tempdir().unwrap();
            fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
            directory
        };
        Some(Self { program, who, place: directory(), out: directory() })
    }

    /// The program with these arguments, in the directory of CMD's files.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.other(&self.program_inside(), arguments)
    }

    /// Any program, run by the same user with the same `/dev/fuse`. It ignores no signal, as what `nohup` starts ignores SIGHUP,
    /// and what a script has in the background SIGINT: a shell would not trap it then, nor die of it.
    pub(crate) fn other(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = if self.who == Who::User && is_root() {
            let mut command = with_default_signals(Path::new("unshare"));
            command.args(["--mount", "--propagation", "private", "sh", "-c", AS_USER, "as-user"]);
            command.arg(self.place.path()).arg(&self.program).arg(program);
            command
        } else {
            with_default_signals(program)
        };
        command.args(arguments).current_dir(self.out.path()).stdin(Stdio::null());
        for variable in ["TSMSIM_SEED", "RUST_LOG"] {
            command.env_remove(variable);
        }
        command
    }

    /// The program as CMD finds it.
    pub(crate) fn program_inside(&self) -> PathBuf {
        if self.who == Who::User && is_root() {
            self.place.path().join("tsmsim")
        } else {
            self.program.clone()
        }
    }

    /// Runs it.
    #[track_caller]
    pub(crate) fn say(&self, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        Said { output: command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// Runs a script as CMD, after these options.
    #[track_caller]
    pub(crate) fn script(&self, options: &str, script: &str) -> Said {
        let mut arguments = vec!["run"];
        arguments.extend(options.split_whitespace());
        arguments.extend(["--", "sh", "-c", script]);
        self.say(&arguments)
    }

    /// The plain program, without `run`.
    #[track_caller]
    pub(crate) fn tsmsim(&self, arguments: &[&str]) -> Said {
        let output = Command::new(&self.program).args(arguments).current_dir(self.out.path()).output();
        Said { output: output.unwrap() }
    }

    /// A file that CMD wrote.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        let path = self.out.path().join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
