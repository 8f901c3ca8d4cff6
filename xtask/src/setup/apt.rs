//! Debian's packages of suites and architectures that this system need not have.
//!
//! apt gets a root of its own for each, under `target/kernels/apt`, with lists and sources of its own: nothing of the
//! system's is changed, and no root is needed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{has_apt, kernels};
use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// Debian's archives, where this system has no mirror of its own for them.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY_ARCHIVE: &str = "http://deb.debian.org/debian-security";
/// The keys of Debian's archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Of apt: downloads one file and checks its sum.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// A suite for an architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) architecture: &'static str,
}

impl Suite {
    pub(crate) const fn new(name: &'static str, architecture: &'static str) -> Self {
        Self { name, architecture }
    }

    fn is_security(self) -> bool {
        self.name.ends_with("-security")
    }
}

/// An apt that knows one suite and nothing of this system.
pub(crate) struct Apt<'a> {
    context: &'a Context,
    root: PathBuf,
    archive: String,
    architecture: &'static str,
}

impl<'a> Apt<'a> {
    pub(crate) fn new(context: &'a Context, suite: Suite) -> Result<Self, Failure> {
        if !has_apt(context) {
            return Err(Failure::new("this is not a Debian system: there is no apt-get"));
        }
        if !Path::new(KEYRING).is_file() {
            return Err(Failure::new(format!(
                "{KEYRING} is missing; the package debian-archive-keyring has it"
            )));
        }
        let root = kernels::home(context).join(format!("apt/{}-{}", suite.name, suite.architecture));
        for directory in ["lists/partial", "cache/archives/partial", "debs"] {
            kernels::make(&root.join(directory))?;
        }
        let archive = archive(context, suite.is_security());
        let line = format!("deb [signed-by={KEYRING}] {archive} {} main\n", suite.name);
        kernels::write(&root.join("sources.list"), &line)?;
        Ok(Self { context, root, archive, architecture: suite.architecture })
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
            // Whatever this machine is.
            ("APT::Architecture", self.architecture.to_owned()),
            ("APT::Architectures", self.architecture.to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            // Nothing is installed, so nothing has to be locked, which would take root.
            ("Debug::NoLocking", "1".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// Where [`Self::download`] puts packages.
    pub(crate) fn debs(&self) -> PathBuf {
        self.root.join("debs")
    }

    /// Gets the lists of packages.
    pub(crate) fn update(&self) -> Result<(), Failure> {
        process::output(self.command("apt-get").arg("update")).map(|_| ())
    }

    /// The packages that a package depends on.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>, Failure> {
        let shown = process::output(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(depends(&shown))
    }

    /// The newest version of a package.
    pub(crate) fn version(&self, package: &str) -> Result<String, Failure> {
        let shown = process::output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        version
            .map(|version| version.trim().to_owned())
            .ok_or_else(|| Failure::new(format!("there is no version of {package}")))
    }

    /// Downloads packages, each `NAME` or `NAME=VERSION`, into a directory.
    pub(crate) fn download(&self, into: &Path, packages: &[impl AsRef<OsStr>]) -> Result<(), Failure> {
        let mut command = self.command("apt-get");
        process::output(command.current_dir(into).arg("download").args(packages)).map(|_| ())
    }

    /// Downloads packages with all that they depend on, as if nothing were installed; gives the files.
    pub(crate) fn download_whole(&self, wanted: &[impl AsRef<OsStr>]) -> Result<Vec<PathBuf>, Failure> {
        self.forget_packages()?;
        let mut command = self.command("apt-get");
        command.args(["install", "--yes", "--no-install-recommends", "--download-only"]).args(wanted);
        process::output(&mut command)?;
        packages(&self.archives())
    }

    /// Downloads a file of the archive that has this SHA-256; the lists are not needed for that.
    pub(crate) fn download_pinned(&self, path: &str, sha256: &str, into: &Path) -> Result<(), Failure> {
        let mut command = self.context.command(HELPER);
        command.args(["-o", "APT::Sandbox::User=root", "download-file"]);
        command.arg(format!("{}/{path}", self.archive)).arg(into).arg(format!("SHA256:{sha256}"));
        process::output(&mut command).map(|_| ())
    }

    /// Removes packages that were downloaded.
    pub(crate) fn forget_packages(&self) -> Result<(), Failure> {
        for deb in packages(&self.debs())?.into_iter().chain(packages(&self.archives())?) {
            fs::remove_file(&deb).map_err(|error| kernels::failed(&deb, &error))?;
        }
        Ok(())
    }

    fn archives(&self) -> PathBuf {
        self.root.join("cache/archives")
    }
}

/// The packages in a directory.
fn packages(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory).map_err(|error| kernels::failed(directory, &error))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
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
}
