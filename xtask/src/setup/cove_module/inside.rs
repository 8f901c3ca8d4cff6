//! Running programs of another suite: with its files as their root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// How to see the directory as the root.
#[derive(Clone, Copy)]
enum Way {
    /// A user namespace of its own, and the system's devices: for anybody, where the kernel allows it.
    Namespace,
    /// As root: the one device that builds use.
    Device,
}

/// The directory that is the root of what runs.
pub(super) struct Inside<'a> {
    context: &'a Context,
    root: PathBuf,
    way: Way,
}

impl<'a> Inside<'a> {
    /// Finds a way that works here.
    pub(super) fn find(context: &'a Context, root: &Path) -> Result<Self, Failure> {
        let ways = [Way::Namespace, Way::Device].map(|way| Self { context, root: root.to_path_buf(), way });
        let works = |inside: &Self| process::succeeds(inside.command("sh").args(["-c", "test -c /dev/null"]));
        ways.into_iter().find(works).ok_or_else(|| {
            let advice = "allow user namespaces (`unshare --map-root-user --mount true` has to work), or run this as \
                          root once; the module that is built is kept";
            Failure::lacking("programs of Debian's trixie cannot be run here", advice)
        })
    }

    /// A program inside, which sees nothing of our environment.
    pub(super) fn command(&self, program: &str) -> Command {
        let enter = |devices: &str| {
            let clean = "/usr/bin/env -i PATH=/usr/bin LC_ALL=C";
            // These programs are for root, whose path is not everybody's.
            format!(r#"PATH="$PATH:/usr/sbin:/sbin"; {devices} && exec chroot "$0" {clean} "$@""#)
        };
        let (mut command, script) = match self.way {
            Way::Namespace => {
                let mut command = self.context.command("unshare");
                command.args(["--map-root-user", "--mount", "sh"]);
                (command, enter(r#"mount --rbind /dev "$0/dev""#))
            }
            Way::Device => {
                let device = r#"{ test -c "$0/dev/null" || mknod -m 666 "$0/dev/null" c 1 3; }"#;
                (self.context.command("sh"), enter(device))
            }
        };
        command.arg("-c").arg(script).arg(&self.root).arg(program);
        command
    }
}
