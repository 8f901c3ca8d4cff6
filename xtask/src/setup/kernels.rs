//! Stock kernels of Debian, unpacked under `target/kernels` without installing them.
//!
//! They come from suites that this system need not have (see [`super::apt`]). What was unpacked is used from then on
//! without the network; to have a newer one, remove `target/kernels`.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Suite};
use super::say;
use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// A kernel to have.
pub(crate) struct Kernel {
    suite: Suite,
    /// Depends on the package of the newest kernel.
    package: &'static str,
    why: &'static str,
    /// The variable that gives tests its directory: `vmlinuz` and `lib/modules/RELEASE`.
    pub(crate) variable: &'static str,
    /// Modules are built for it, so its headers are unpacked beside it, as `usr/src`.
    headers: bool,
    /// A release to take where the suite's lists cannot be had.
    pinned: Option<Pinned>,
}

/// Packages of one release that are known by their sums.
struct Pinned {
    release: &'static str,
    /// Where they are in the archive, and their SHA-256.
    files: &'static [(&'static str, &'static str)],
}

/// Those for x86-64, the newest last.
pub(crate) const KERNELS: [Kernel; 2] = [
    Kernel {
        suite: Suite::new("bookworm-security", "amd64"),
        package: "linux-image-6.12-cloud-amd64",
        why: "a kernel with the first generation of tsm_register",
        variable: "TSMSIM_KERNEL_6_12",
        headers: false,
        pinned: None,
    },
    Kernel {
        suite: Suite::new("trixie-backports", "amd64"),
        package: "linux-image-cloud-amd64",
        why: "a kernel with the later generation, and TDX's measurement registers",
        variable: "TSMSIM_KERNEL_7",
        headers: false,
        pinned: None,
    },
];

/// The one for RISC-V. Mirrors lag behind with this architecture: then the lists are not those that the suite's
/// signature is about, and apt refuses them, rightly. The release that is known was listed by such a mirror: its sums say
/// that it is what was tested here, and nothing about who made it. It runs in guests alone.
pub(crate) const RISCV64: Kernel = Kernel {
    suite: Suite::new("trixie", "riscv64"),
    package: "linux-image-riscv64",
    why: "a kernel for CoVE guests",
    variable: "TSMSIM_KERNEL_RISCV64",
    headers: true,
    pinned: Some(Pinned {
        release: "6.12.107+deb13-riscv64",
        files: &[
            (
                "pool/main/l/linux/linux-image-6.12.107+deb13-riscv64_6.12.107-1_riscv64.deb",
                "abe9f65d74b434692149482b031db7a2aaf832921e09f69f775293c0e0c5799c",
            ),
            (
                "pool/main/l/linux/linux-headers-6.12.107+deb13-riscv64_6.12.107-1_riscv64.deb",
                "aac824a77f6e91407f5fe0b592a491b026ec7fe4cbb4c053a2f9afeed3981445",
            ),
        ],
    }),
};

impl Kernel {
    /// Its directory, if it is there.
    pub(crate) fn directory(&self, context: &Context) -> Option<PathBuf> {
        let directory = home(context).join(self.release(context)?);
        directory.join("vmlinuz").is_file().then_some(directory)
    }

    /// What `uname -r` says there, if it is there.
    pub(crate) fn release(&self, context: &Context) -> Option<String> {
        fs::read_to_string(self.stamp(context)).ok().map(|release| release.trim().to_owned())
    }

    /// Says which release this suite gave.
    fn stamp(&self, context: &Context) -> PathBuf {
        home(context).join(format!("{}.release", self.suite.name))
    }
}

pub(crate) fn home(context: &Context) -> PathBuf {
    context.target.join("kernels")
}

/// Downloads and unpacks the kernels that are missing.
pub(super) fn install(context: &Context) -> Result<(), Failure> {
    KERNELS.iter().try_for_each(|kernel| install_one(context, kernel))
}

/// Only the newest one, which is the last.
pub(super) fn install_newest(context: &Context) -> Result<(), Failure> {
    KERNELS.last().map_or(Ok(()), |kernel| install_one(context, kernel))
}

pub(super) fn install_one(context: &Context, kernel: &Kernel) -> Result<(), Failure> {
    if kernel.directory(context).is_some() {
        return Ok(());
    }
    fetch(context, kernel).map_err(|failure| {
        let advice = format!(
            "connect to the network once: what is unpacked under target/kernels is used from then on. By hand: \
             unpack the packages of a Debian kernel that has the drivers, and give `tsmsim boot` its vmlinuz \
             with --kernel and its lib/modules/RELEASE with --modules ({failure})"
        );
        let what = format!("the kernel {} of {} could not be had", kernel.package, kernel.suite.name);
        Failure::lacking(what, advice).command(failure.command_line())
    })
}

fn fetch(context: &Context, kernel: &Kernel) -> Result<(), Failure> {
    let Kernel { suite, package, why, .. } = kernel;
    say(&format!("Debian's {package} of {}, unpacked under target/kernels: {why}", suite.name));
    let apt = Apt::new(context, *suite)?;
    let (release, packages) = match (newest(&apt, kernel), &kernel.pinned) {
        (Err(failure), Some(pinned)) => take_pinned(&apt, pinned, &failure)?,
        (newest, _) => newest?,
    };
    unpack(context, &apt.debs(), &packages, &release)?;
    apt.forget_packages()?;
    write(&kernel.stamp(context), &format!("{release}\n"))
}

/// Downloads the newest release of the suite; gives it, and the names of its packages.
fn newest(apt: &Apt<'_>, kernel: &Kernel) -> Result<(String, Vec<String>), Failure> {
    apt.update()?;
    let release = apt
        .dependencies(kernel.package)?
        .iter()
        .find_map(|name| name.strip_prefix("linux-image-").filter(|rest| starts_with_digit(rest)))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{} depends on no kernel", kernel.package)))?;
    // Newer packages hold the kernel, its modules and its configuration apart; the first one is empty then.
    let image = format!("linux-image-{release}");
    let mut packages = apt.dependencies(&image)?;
    packages.retain(|name| {
        let parts = ["linux-base-", "linux-binary-", "linux-modules-"];
        parts.iter().any(|start| name.strip_prefix(start) == Some(&release))
    });
    packages.push(image);
    if kernel.headers {
        packages.push(format!("linux-headers-{release}"));
    }
    apt.download(&apt.debs(), &packages)?;
    Ok((release, packages))
}

/// The same for the release that is known here.
fn take_pinned(apt: &Apt<'_>, pinned: &Pinned, failure: &Failure) -> Result<(String, Vec<String>), Failure> {
    let text = failure.to_string();
    let why = text.lines().find_map(|line| line.split_once("E: ")).map_or(failure.what(), |(_, why)| why);
    say(&format!(
        "{} instead, a release whose sums are known: the suite's lists could not be used ({why})",
        pinned.release
    ));
    let mut packages = Vec::new();
    for (path, sha256) in pinned.files {
        let name = path.rsplit('/').next().unwrap_or(path);
        apt.download_pinned(path, sha256, &apt.debs().join(name))?;
        packages.extend(name.split('_').next().map(str::to_owned));
    }
    Ok((pinned.release.to_owned(), packages))
}

/// Downloads a package of the first kernel's suite into a directory.
pub(crate) fn download(context: &Context, into: &Path, package: &str) -> Result<(), Failure> {
    let apt = Apt::new(context, KERNELS[0].suite)?;
    apt.update()?;
    apt.download(into, &[package])
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Unpacks what was downloaded as `vmlinuz` and `lib/modules/RELEASE`.
fn unpack(context: &Context, debs: &Path, packages: &[String], release: &str) -> Result<(), Failure> {
    let part = home(context).join(format!("{release}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).map_err(|error| failed(&part, &error))?;
    }
    make(&part)?;
    for package in packages {
        let deb = super::newest_package(debs, &format!("{package}_"))
            .ok_or_else(|| Failure::new(format!("apt-get downloaded no {package}")))?;
        process::run(context.command("dpkg-deb").arg("--extract").arg(deb).arg(&part))?;
    }
    // Where /lib is a link to /usr/lib, packages hold the modules there.
    let merged = part.join("usr/lib/modules");
    if merged.is_dir() {
        make(&part.join("lib"))?;
        rename(&merged, &part.join("lib/modules"))?;
    }
    let modules = part.join("lib/modules").join(release);
    // Links into where headers are installed.
    for link in ["build", "source"].map(|name| modules.join(name)).iter().filter(|link| link.is_symlink()) {
        fs::remove_file(link).map_err(|error| failed(link, &error))?;
    }
    // RISC-V's is not compressed, and named so.
    let boot = part.join("boot");
    let places = ["vmlinuz", "vmlinux"].map(|name| boot.join(format!("{name}-{release}")));
    let places = places.into_iter().chain([modules.join("vmlinuz")]).collect::<Vec<_>>();
    let vmlinuz = places.iter().find(|place| place.is_file());
    let vmlinuz =
        vmlinuz.ok_or_else(|| Failure::new(format!("the packages of {release} hold no vmlinuz")))?;
    rename(vmlinuz, &part.join("vmlinuz"))?;
    if !modules.is_dir() {
        return Err(Failure::new(format!("the packages of {release} hold no lib/modules/{release}")));
    }
    let whole = home(context).join(release);
    if whole.exists() {
        fs::remove_dir_all(&whole).map_err(|error| failed(&whole, &error))?;
    }
    rename(&part, &whole)
}

pub(crate) fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

pub(crate) fn make(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| failed(directory, &error))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(|error| failed(from, &error))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| failed(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_a_digit() {
        assert!(starts_with_digit("7.3.4+deb13-cloud-amd64"));
        assert!(!starts_with_digit("cloud-amd64"));
    }
}
