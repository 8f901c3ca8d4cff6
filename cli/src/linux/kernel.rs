//! Which kernel is booted when none is named.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// What a kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// x86-64.
    X86,
    /// 64-bit RISC-V.
    Riscv,
}

impl Processor {
    /// Whether a kernel is for it, by its release, as Debian names kernels.
    fn runs(self, release: &str) -> bool {
        release.ends_with("-riscv64") == (self == Self::Riscv)
    }
}

/// A kernel and its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// bzImage or vmlinux.
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`, where the kernel has modules.
    pub(crate) modules: Option<PathBuf>,
}

/// The kernel that was named, or else the newest that is there.
pub(crate) fn find(
    processor: Processor,
    kernel: Option<&Path>,
    modules: Option<&Path>,
) -> Result<Found, Failure> {
    match kernel {
        Some(image) => Ok(Found { image: image.to_owned(), modules: modules.map(Path::to_owned) }),
        None if modules.is_some() => Err(Failure::Usage("--modules goes with --kernel".to_owned())),
        None => {
            let fetched = directories().iter().find_map(|directory| newest(processor, directory));
            fetched.or_else(|| own(processor)).ok_or_else(|| missing(processor))
        }
    }
}

fn missing(processor: Processor) -> Failure {
    let needs = match processor {
        Processor::X86 => "it needs SEV_GUEST or TDX_GUEST_DRIVER, TSM_REPORTS, CONFIGFS_FS",
        Processor::Riscv => {
            "for riscv64, with CONFIGFS_FS and the modules tsm and cove_guest: see guest-tests/linux-cove-module"
        }
    };
    Failure::Lacking(format!(
        "there is no kernel to boot: run `cargo xtask setup`, which brings Debian's; or name one with --kernel and its \
         lib/modules/RELEASE with --modules ({needs})"
    ))
}

/// Where `cargo xtask setup` puts kernels: beside the directory that this program was built into.
fn directories() -> Vec<PathBuf> {
    let given = env::var_os("TSMSIM_KERNELS").map(PathBuf::from);
    let program = env::current_exe().and_then(fs::canonicalize).ok();
    let built = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    given.into_iter().chain(built.map(|target| target.join("kernels"))).collect()
}

/// The newest kernel of a directory of `RELEASE/vmlinuz` and `RELEASE/lib/modules/RELEASE`.
fn newest(processor: Processor, directory: &Path) -> Option<Found> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let kernels = entries.filter_map(|entry| {
        let release = entry.file_name().into_string().ok()?;
        let image = entry.path().join("vmlinuz");
        let modules = entry.path().join("lib/modules").join(&release);
        (processor.runs(&release) && image.is_file() && modules.is_dir())
            .then_some((version(&release), Found { image, modules: Some(modules) }))
    });
    kernels.max_by(|one, other| one.0.cmp(&other.0)).map(|(_, found)| found)
}

/// The host's own kernel, if this user may read it.
fn own(processor: Processor) -> Option<Found> {
    if processor != Processor::X86 {
        return None;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    let image = Path::new("/boot").join(format!("vmlinuz-{release}"));
    let modules = Path::new("/lib/modules").join(release);
    let usable = fs::File::open(&image).is_ok() && modules.is_dir();
    usable.then_some(Found { image, modules: Some(modules) })
}

/// The numbers of a release, to compare.
fn version(release: &str) -> Vec<u64> {
    release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_kernel_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        for (release, whole) in [
            ("6.9.1-amd64", true),
            ("6.12.117+deb12-amd64", true),
            ("7.3.4-amd64", false),
            ("8.0-riscv64", true),
        ] {
            let home = directory.path().join(release);
            fs::create_dir_all(home.join("lib/modules").join(release)).unwrap();
            if whole {
                fs::write(home.join("vmlinuz"), "").unwrap();
            }
        }
        let riscv = newest(Processor::Riscv, directory.path()).unwrap();
        assert!(riscv.image.ends_with("8.0-riscv64/vmlinuz"));
        let found = newest(Processor::X86, directory.path()).unwrap();
        assert_eq!(found.image, directory.path().join("6.12.117+deb12-amd64/vmlinuz"));
        assert!(found.modules.unwrap().ends_with("lib/modules/6.12.117+deb12-amd64"));
        assert_eq!(newest(Processor::X86, &directory.path().join("none")), None);
    }

    #[test]
    fn a_kernel_that_was_named_is_taken_as_it_is() {
        let found = find(Processor::X86, Some(Path::new("k")), None).unwrap();
        assert_eq!(found, Found { image: "k".into(), modules: None });
        assert!(find(Processor::X86, None, Some(Path::new("m"))).is_err());
    }
}
