//! Arguments of `tsmsim boot`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{PlatformArgs, Tee, UserData};

/// What executes the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    /// The best that this machine has.
    Auto,
    /// KVM.
    Kvm,
    /// QEMU's TCG.
    Qemu,
}

/// A file of the host for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddedFile {
    /// On the host.
    pub(crate) host: PathBuf,
    /// In the guest.
    pub(crate) guest: PathBuf,
}

impl AddedFile {
    fn parse(argument: &str) -> Result<Self, String> {
        match argument.rsplit_once(':') {
            Some((host, guest)) if !host.is_empty() && guest.starts_with('/') => {
                Ok(Self { host: host.into(), guest: guest.into() })
            }
            _ => Err("give a file, a colon, and an absolute path in the guest".to_owned()),
        }
    }
}

/// The exit status is that of CMD; 1 where the guest did not come to its end, or evidence is refused.
#[derive(Args, Debug)]
pub(crate) struct BootArgs {
    /// The technology.
    #[arg(long, value_enum)]
    pub(crate) tee: Tee,
    /// What executes the guest.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) engine: EngineChoice,
    #[command(flatten)]
    pub(crate) linux: LinuxArgs,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
    /// What the report is to carry; without it, 64 random bytes.
    #[command(flatten)]
    pub(crate) user_data: UserData,
    /// Where the files go that the guest leaves in /out; and with the built-in check, what goes with its evidence.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Seconds that the guest may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) time: u64,
    /// Show the guest's console on standard error.
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// The guest: a stock kernel and what it finds.
#[derive(Args, Debug)]
pub(crate) struct LinuxArgs {
    /// bzImage or vmlinux. Without it, the newest of `cargo xtask setup`, or the host's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// The kernel's modules: lib/modules/RELEASE. Without it, a kernel of your own has to have its drivers built in.
    #[arg(long, value_name = "DIR")]
    pub(crate) modules: Option<PathBuf>,
    /// An initial RAM disk of your own, which the kernel unpacks first.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Added to the kernel's command line.
    #[arg(long, value_name = "STR", default_value = "")]
    pub(crate) append: String,
    /// Memory, which is part of the launch measurement.
    #[arg(long, value_name = "MiB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=3072))]
    pub(crate) mem: u64,
    /// Copy a file or a directory into the guest; may be given several times.
    #[arg(long, value_name = "HOST:GUEST", value_parser = AddedFile::parse)]
    pub(crate) add: Vec<AddedFile>,
    /// The program that runs in the guest, and its arguments. Without it, the built-in check, which obtains evidence.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_under_absolute_paths() {
        let added = AddedFile::parse("a:b:/bin/c").unwrap();
        assert_eq!((added.host, added.guest), ("a:b".into(), "/bin/c".into()));
        for wrong in ["a", "a:b", ":/b", ""] {
            assert!(AddedFile::parse(wrong).is_err(), "{wrong}");
        }
    }
}
