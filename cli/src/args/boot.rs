//! Arguments of `tsmsim boot`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{PlatformArgs, Profile, Tee, UserData};

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
    #[arg(long, value_name = "MiB", default_value_t = DEFAULT_MEMORY, value_parser = memory())]
    pub(crate) mem: u64,
    /// Copy a file or a directory into the guest; may be given several times.
    #[arg(long, value_name = "HOST:GUEST", value_parser = AddedFile::parse)]
    pub(crate) add: Vec<AddedFile>,
    /// The program that runs in the guest, and its arguments. Without it, the built-in check, which obtains evidence.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// What the measurement of a Linux guest depends on besides its kernel: the same options as those of `tsmsim boot`.
#[derive(Args, Debug)]
#[command(next_help_heading = "A Linux guest, as for tsmsim boot")]
pub(crate) struct MeasuredLinuxArgs {
    /// What will execute the guest: it decides where the C-bit is; auto unless given.
    #[arg(long, value_enum, requires = "kernel")]
    pub(crate) engine: Option<EngineChoice>,
    /// SNP: the platform, whose processor the guest is told of; genoa unless given.
    #[arg(long, value_enum, requires = "kernel")]
    pub(crate) profile: Option<Profile>,
    /// The kernel's modules: lib/modules/RELEASE.
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub(crate) modules: Option<PathBuf>,
    /// Memory; 512 unless given.
    #[arg(long, value_name = "MiB", requires = "kernel", value_parser = memory())]
    pub(crate) mem: Option<u64>,
    /// Copy a file or a directory into the guest; may be given several times.
    #[arg(long, value_name = "HOST:GUEST", requires = "kernel", value_parser = AddedFile::parse)]
    pub(crate) add: Vec<AddedFile>,
    /// The program that runs in the guest, and its arguments.
    #[arg(last = true, value_name = "CMD", requires = "kernel")]
    pub(crate) command: Vec<OsString>,
}

/// Memory of a guest when none is given.
pub(crate) const DEFAULT_MEMORY: u64 = 512;

fn memory() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(64..=3072)
}

impl MeasuredLinuxArgs {
    /// Whether any of them was given.
    pub(crate) const fn any(&self) -> bool {
        let Self { engine, profile, modules, mem, add, command } = self;
        engine.is_some()
            || profile.is_some()
            || modules.is_some()
            || mem.is_some()
            || !add.is_empty()
            || !command.is_empty()
    }
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
