//! Why a program cannot be given a private `/sys` and `/dev`, and what to do about it.

use std::{fs, io, path::PathBuf};

use nix::errno::Errno;

/// Why a session could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The machine lacks something, or forbids it. The text says what to install or allow.
    #[error("{0}")]
    Lacking(String),
    /// The machine has a genuine TEE device, at this path.
    #[error(
        "{} exists: this machine seems to be a genuine confidential guest, whose evidence tsmsim must not stand in for; \
         --beside-real-tee overrides this",
        .0.display()
    )]
    RealTee(PathBuf),
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Usage(String),
    /// An operation failed that should not have.
    #[error("{doing}: {error}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What the system said.
        error: io::Error,
    },
}

impl ShellError {
    /// An operation that should not have failed.
    pub(super) fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Failed { doing, error }
    }

    /// The same for errors of system calls.
    pub(super) fn failed_with(doing: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let failed = Self::failed(doing);
        move |errno| failed(errno.into())
    }

    /// `/dev/fuse` could not be opened.
    pub(super) fn no_fuse(error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "let this user read and write it (distributions have mode 0666), \
                 or in a container pass --device /dev/fuse"
            }
            _ => "load the kernel's module (`modprobe fuse`), or in a container pass --device /dev/fuse",
        };
        Self::Lacking(format!("cannot open /dev/fuse: {error}; {advice}"))
    }

    /// `unshare` refused a mount namespace.
    pub(super) fn no_namespace(errno: Errno, as_user: bool) -> Self {
        let advice = match errno {
            Errno::ENOSPC => "raise the sysctl user.max_user_namespaces (and user.max_mnt_namespaces)",
            _ if as_user => user_namespace_advice(),
            _ => CONTAINER,
        };
        Self::Lacking(format!("no private mount namespace: {}; {advice}; {ELSE}", errno.desc()))
    }

    /// `mount` was refused inside the private namespace.
    pub(super) fn no_mount(what: &str, errno: Errno, as_user: bool) -> Self {
        let advice = match errno {
            Errno::ENODEV => "load the kernel's module (`modprobe fuse`)",
            _ if as_user => user_namespace_advice(),
            _ => CONTAINER,
        };
        Self::Lacking(format!("mounting {what}: {}; {advice}; {ELSE}", errno.desc()))
    }
}

/// What helps in a container.
const CONTAINER: &str = "in a container pass --cap-add SYS_ADMIN --device /dev/fuse, \
     and --security-opt apparmor=unconfined where AppArmor is used";

/// What helps where nothing else does.
const ELSE: &str = "or use --no-namespace --at DIR";

/// Which switch forbids user namespaces here, as far as can be seen.
fn user_namespace_advice() -> &'static str {
    let sysctl = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if sysctl("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "set the sysctl kernel.unprivileged_userns_clone to 1, or run as root"
    } else if sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0, or run as root"
    } else if sysctl("/proc/sys/user/max_user_namespaces", "0") {
        "raise the sysctl user.max_user_namespaces, or run as root"
    } else {
        "run as root, or allow user namespaces: in a container pass --cap-add SYS_ADMIN --device /dev/fuse \
         (or --security-opt seccomp=unconfined)"
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(io::ErrorKind::NotFound, "modprobe fuse")]
    #[case(io::ErrorKind::PermissionDenied, "mode 0666")]
    fn fuse_advice_fits_the_error(#[case] kind: io::ErrorKind, #[case] expected: &str) {
        let text = ShellError::no_fuse(&kind.into()).to_string();
        assert!(text.contains(expected) && text.contains("--device /dev/fuse"), "{text}");
    }

    #[rstest]
    #[case(ShellError::no_namespace(Errno::EPERM, false), "--cap-add SYS_ADMIN")]
    #[case(ShellError::no_namespace(Errno::ENOSPC, true), "user.max_user_namespaces")]
    #[case(ShellError::no_namespace(Errno::EPERM, true), "run as root")]
    #[case(ShellError::no_mount("FUSE", Errno::ENODEV, false), "modprobe fuse")]
    #[case(ShellError::no_mount("FUSE", Errno::EPERM, false), "--cap-add SYS_ADMIN")]
    fn refusals_say_what_to_allow(#[case] error: ShellError, #[case] expected: &str) {
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("--no-namespace"), "{text}");
    }
}
