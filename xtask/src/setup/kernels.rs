//! Stock kernels of Debian, unpacked under `target/kernels` without installing them.
//!
//! They come from suites that this system need not have: apt gets a root of its own under `target/kernels/apt`, with
//! lists and sources of its own, so nothing of the system's is changed and no root is needed. What was unpacked is used from then on
//! without the network; to have a newer one, remove `target/kernels`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{has_apt, say};
use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// Debian's archives, where this system has no mirror of its own for them.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY_ARCHIVE: &str = "http://deb.debian.org/debian-security";
/// The keys of Debian's archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel to have.
pub(crate) struct Kernel {
    suite: &'static str,
    /// Depends on the package of the newest kernel.
    package: &'static str,
    why: &'static str,
    /// The variable that gives tests its directory: `vmlinuz` and `lib/modules/RELEASE`.
    pub(crate) variable: &'static str,
}

/// All of them, the newest last.
pub(crate) const KERNELS: [Kernel; 2] = [
    Kernel {
        suite: "bookworm-security",
        package: "linux-image-6.12-cloud-amd64",
        why: "a kernel with the first generation of tsm_register",
        variable: "TSMSIM_KERNEL_6_12",
    },
    Kernel {
        suite: "trixie-backports",
        package: "linux-image-cloud-amd64",
        why: "a kernel with the later generation, and TDX's measurement registers",
        variable: "TSMSIM_KERNEL_7",
    },
];

impl Kernel {
    /// Its directory, if it is there.
    pub(crate) fn directory(&self, context: &Context) -> Option<PathBuf> {
        let release = fs::read_to_string(self.stamp(context)).ok()?;
        let directory = home(context).join(release.trim());
        directory.join("vmlinuz").is_file().then_some(directory)
    }

    /// Says which release this suite gave.
    fn stamp(&self, context: &Context) -> PathBuf {
        home(context).join(format!("{}.release", self.suite))
    }

    fn is_security(&self) -> bool {
        self.suite.ends_with("-security")
    }
}

fn home(context: &Context) -> PathBuf {
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

fn install_one(context: &Context, kernel: &Kernel) -> Result<(), Failure> {
    if kernel.directory(context).is_some() {
        return Ok(());
    }
    fetch(context, kernel).map_err(|failure| {
        let advice = format!(
            "connect to the network once: what is unpacked under target/kernels is used from then on. By hand: \
             unpack the packages of a Debian kernel that has the drivers, and give `tsmsim boot` its vmlinuz \
             with --kernel and its lib/modules/RELEASE with --modules ({failure})"
        );
        let what = format!("the kernel {} of {} could not be had", kernel.package, kernel.suite);
        Failure::lacking(what, advice).command(failure.command_line())
    })
}

fn fetch(context: &Context, kernel: &Kernel) -> Result<(), Failure> {
    let Kernel { suite, package, why, .. } = kernel;
    say(&format!("Debian's {package} of {suite}, unpacked under target/kernels: {why}"));
    if !has_apt(context) {
        return Err(Failure::new("this is not a Debian system: there is no apt-get"));
    }
    let apt = Apt::new(context, kernel)?;
    process::output(apt.command("apt-get").arg("update"))?;
    let release = apt
        .dependencies(package)?
        .iter()
        .find_map(|name| name.strip_prefix("linux-image-").filter(|rest| starts_with_digit(rest)))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{package} depends on no kernel")))?;
    // Newer packages hold the kernel, its modules and its configuration apart; the first one is empty then.
    let image = format!("linux-image-{release}");
    let mut packages = apt.dependencies(&image)?;
    packages.retain(|name| {
        let parts = ["linux-base-", "linux-binary-", "linux-modules-"];
        parts.iter().any(|start| name.strip_prefix(start) == Some(&release))
    });
    packages.push(image);
    let debs = apt.root.join("debs");
    make(&debs)?;
    process::output(apt.command("apt-get").current_dir(&debs).arg("download").args(&packages))?;
    unpack(context, &debs, &packages, &release)?;
    write(&kernel.stamp(context), &format!("{release}\n"))
}

/// Downloads a package of the first kernel's suite into a directory.
pub(crate) fn download(context: &Context, into: &Path, package: &str) -> Result<(), Failure> {
    let apt = Apt::new(context, &KERNELS[0])?;
    process::output(apt.command("apt-get").arg("update"))?;
    process::output(apt.command("apt-get").current_dir(into).args(["download", package])).map(|_| ())
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// An apt that knows one suite and nothing of this system.
struct Apt<'a> {
    context: &'a Context,
    root: PathBuf,
}

impl<'a> Apt<'a> {
    fn new(context: &'a Context, kernel: &Kernel) -> Result<Self, Failure> {
        if !Path::new(KEYRING).is_file() {
            return Err(Failure::new(format!(
                "{KEYRING} is missing; the package debian-archive-keyring has it"
            )));
        }
        let root = home(context).join("apt").join(kernel.suite);
        for directory in ["lists/partial", "cache/archives/partial"] {
            make(&root.join(directory))?;
        }
        let archive = archive(context, kernel.is_security());
        write(
            &root.join("sources.list"),
            &format!("deb [signed-by={KEYRING}] {archive} {} main\n", kernel.suite),
        )?;
        Ok(Self { context, root })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.context.command(program);
        let at = |name: &str| self.root.join(name).display().to_string();
        for (option, value) in [
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            // These kernels are for x86-64, whatever this machine is.
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// The packages that a package depends on.
    fn dependencies(&self, package: &str) -> Result<Vec<String>, Failure> {
        let shown = process::output(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(depends(&shown))
    }
}

fn depends(shown: &str) -> Vec<String> {
    let lines = shown.lines().map(|line| line.trim().trim_start_matches('|'));
    lines.filter_map(|line| line.strip_prefix("Depends: ")).map(str::to_owned).collect()
}

/// The archive that this system takes such suites from, so that its mirror is used here too.
fn archive(context: &Context, security: bool) -> String {
    let mut command = context.command("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]);
    let shown = process::output(&mut command).unwrap_or_default();
    mirror(&shown, security).unwrap_or_else(|| if security { SECURITY_ARCHIVE } else { ARCHIVE }.to_owned())
}

/// Lines of address and suite.
fn mirror(shown: &str, security: bool) -> Option<String> {
    let name = if security { "/debian-security" } else { "/debian" };
    let lines = shown.lines().filter_map(|line| line.trim().split_once(' '));
    lines
        .map(|(address, suite)| (address.trim_end_matches('/'), suite))
        .find(|(address, suite)| address.ends_with(name) && suite.ends_with("-security") == security)
        .map(|(address, _)| address.to_owned())
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
    let places = [part.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
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
    rename(&part, &whole)?;
    fs::remove_dir_all(debs).map_err(|error| failed(debs, &error))
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
    fn dependencies_are_read() {
        let shown =
            "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n |Depends: dracut\n  Breaks: x\n";
        assert_eq!(depends(shown), ["linux-base-cloud-amd64", "dracut"]);
    }

    #[test]
    fn the_systems_mirror_is_used() {
        let shown = "https://mirror.example/debian/ bookworm\nhttps://mirror.example/debian-security/ bookworm-security\n\
                     https://other.example/apt stable\n";
        assert_eq!(mirror(shown, false).as_deref(), Some("https://mirror.example/debian"));
        assert_eq!(mirror(shown, true).as_deref(), Some("https://mirror.example/debian-security"));
        assert_eq!(mirror("https://other.example/apt stable\n", false), None);
    }

    #[test]
    fn releases_begin_with_a_digit() {
        assert!(starts_with_digit("7.3.4+deb13-cloud-amd64"));
        assert!(!starts_with_digit("cloud-amd64"));
    }
}
