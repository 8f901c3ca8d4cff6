//! `cove_guest`, our module for the riscv64 kernel: built as Debian builds modules for it, with that suite's compiler.
//!
//! This system need not be of that suite. What the build needs is unpacked under `target/kernels/build-riscv64`, and the
//! build sees that as its root. Result: `updates/tsm.ko` and `updates/cove_guest.ko` among the kernel's modules, made again
//! when the module's sources change or the kernel does. `tsm.ko` is the kernel's own configfs-tsm, which Debian builds for
//! other architectures only.

mod inside;

use std::fs;
use std::path::{Path, PathBuf};

use self::inside::Inside;
use super::apt::{Apt, Suite};
use super::kernels::{self, RISCV64, failed, make, write};
use super::say;
use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// Where the kernel comes from, for the architecture that builds.
const TOOLS: Suite = Suite::new("trixie", "amd64");
/// What a build of modules runs, besides the kernel's own packages.
const PACKAGES: [&str; 8] =
    ["gcc-14-riscv64-linux-gnu", "make", "dash", "coreutils", "findutils", "grep", "mawk", "sed"];
/// Of these packages: what no build of modules reads.
const NOT_UNPACKED: [&str; 7] = [
    "./usr/share/doc",
    "./usr/share/info",
    "./usr/share/locale",
    "./usr/share/man",
    "./usr/bin/*-lto-dump-*",
    "./usr/libexec/gcc-cross/*/lto1",
    "./usr/riscv64-linux-gnu/lib",
];
/// Of the kernel's sources: configfs-tsm, and what judges style.
const OF_THE_SOURCES: [&str; 5] = [
    "drivers/virt/coco/tsm.c",
    "scripts/checkpatch.pl",
    "scripts/const_structs.checkpatch",
    "scripts/kernel-doc",
    "scripts/spelling.txt",
];
/// Where the build happens, as it sees it.
const BUILD: &str = "build";
const MODULES: [&str; 2] = ["tsm.ko", "cove_guest.ko"];

/// The kernel's directory, if it is there with the modules.
pub(crate) fn kernel(context: &Context) -> Option<PathBuf> {
    let updates = updates(context, &RISCV64.release(context)?);
    let complete = MODULES.iter().all(|module| updates.join(module).is_file());
    RISCV64.directory(context).filter(|_| complete)
}

/// Downloads the kernel and builds the module, as far as they are not there.
pub(super) fn install(context: &Context) -> Result<(), Failure> {
    kernels::install_one(context, &RISCV64)?;
    let release = RISCV64.release(context).ok_or_else(|| Failure::new("there is no riscv64 kernel"))?;
    let sources = sources(context)?;
    let (updates, stamp) = (updates(context, &release), updates(context, &release).join("sources"));
    let text: String = sources.iter().flat_map(|(name, text)| [name, "\n", text]).collect();
    if kernel(context).is_some() && fs::read_to_string(&stamp).is_ok_and(|built| built == text) {
        return Ok(());
    }
    say("our module for CoVE guests among the riscv64 kernel's modules");
    let home = tools(context, &release).map_err(|failure| {
        let advice = format!("connect to the network once; what is unpacked is kept ({failure})");
        let what = "what builds modules for the riscv64 kernel could not be had";
        Failure::lacking(what, advice).command(failure.command_line())
    })?;
    judge_style(context, &home, &sources)?;
    build(context, &home, &release, &sources)?;
    make(&updates)?;
    for module in MODULES {
        let (from, to) = (home.join("root").join(BUILD).join(module), updates.join(module));
        fs::copy(&from, &to).map_err(|error| failed(&from, &error))?;
    }
    // Last, so that an interrupted build is no build.
    write(&stamp, &text)
}

/// Where modules lie that are not the kernel's own.
fn updates(context: &Context, release: &str) -> PathBuf {
    kernels::home(context).join(release).join("lib/modules").join(release).join("updates")
}

fn module_directory(context: &Context) -> PathBuf {
    context.root.join("guest-tests/linux-cove-module")
}

/// The names and texts of the module's sources.
fn sources(context: &Context) -> Result<Vec<(String, String)>, Failure> {
    let directory = module_directory(context);
    let entries = fs::read_dir(&directory).map_err(|error| failed(&directory, &error))?.flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_source(name))
        .collect();
    names.sort();
    let read = |name: String| {
        let path = directory.join(&name);
        fs::read_to_string(&path).map(|text| (name, text)).map_err(|error| failed(&path, &error))
    };
    names.into_iter().map(read).collect()
}

fn is_source(name: &str) -> bool {
    name == "Kbuild" || is_c(name)
}

fn is_c(name: &str) -> bool {
    [".c", ".h"].iter().any(|ending| name.ends_with(ending))
}

/// Downloads and unpacks what builds modules for this release: the build's `root`, and the kernel's `source`.
fn tools(context: &Context, release: &str) -> Result<PathBuf, Failure> {
    let home = kernels::home(context).join("build-riscv64");
    let stamp = home.join("release");
    if fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == release) {
        return Ok(home);
    }
    say("the compiler and headers of that kernel, and its sources, under target/kernels/build-riscv64");
    if home.exists() {
        fs::remove_dir_all(&home).map_err(|error| failed(&home, &error))?;
    }
    make(&home)?;
    let apt = Apt::new(context, TOOLS)?;
    apt.update()?;
    // Of Debian's names for one version: 6.12.107+deb13-riscv64, 6.12.107+deb13, 6.12.
    let version = release.trim_end_matches("-riscv64");
    let kbuild = format!("linux-kbuild-{version}");
    let own = [kbuild.clone(), format!("linux-headers-{version}-common")];
    let packages = own.into_iter().chain(PACKAGES.map(str::to_owned)).collect::<Vec<_>>();
    unpack_root(context, &apt.download_whole(&packages)?, &home.join("root"))?;
    let headers = kernels::home(context).join(release).join("usr/src");
    let mut copy = context.command("cp");
    process::run(copy.arg("--archive").arg(headers.join(".")).arg(home.join("root/usr/src")))?;
    unpack_sources(
        context,
        &apt,
        &format!("linux-source-{}={}", series(version), apt.version(&kbuild)?),
        &home,
    )?;
    apt.forget_packages()?;
    write(&stamp, release)?;
    Ok(home)
}

/// The first two numbers of a version.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Makes a root of packages, without installing them.
fn unpack_root(context: &Context, packages: &[PathBuf], root: &Path) -> Result<(), Failure> {
    for directory in ["usr/bin", "usr/lib", "usr/lib64", "dev", "tmp", BUILD] {
        make(&root.join(directory))?;
    }
    for directory in ["bin", "lib", "lib64"] {
        link(&format!("usr/{directory}"), &root.join(directory))?;
    }
    for package in packages {
        let mut unpack = context.command("tar");
        unpack.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]).arg(root);
        unpack.args(NOT_UNPACKED.map(|pattern| format!("--exclude={pattern}")));
        process::run_piped(context.command("dpkg-deb").arg("--fsys-tarfile").arg(package), &mut unpack)?;
    }
    // What the package's script would have done.
    link("mawk", &root.join("usr/bin/awk"))
}

fn link(target: &str, link: &Path) -> Result<(), Failure> {
    std::os::unix::fs::symlink(target, link).map_err(|error| failed(link, &error))
}

/// Takes what is wanted of the kernel's sources.
fn unpack_sources(context: &Context, apt: &Apt<'_>, package: &str, home: &Path) -> Result<(), Failure> {
    apt.download(&apt.debs(), &[package])?;
    let name = package.split('=').next().unwrap_or(package);
    let deb = super::newest_package(&apt.debs(), &format!("{name}_"))
        .ok_or_else(|| Failure::new(format!("apt-get downloaded no {name}")))?;
    let part = home.join("part");
    process::run(context.command("dpkg-deb").arg("--extract").arg(deb).arg(&part))?;
    let source = home.join("source");
    make(&source)?;
    let mut tar = context.command("tar");
    tar.arg("--extract").arg("--file").arg(part.join(format!("usr/src/{name}.tar.xz")));
    tar.arg("--directory").arg(&source).arg("--strip-components=1");
    process::run(tar.args(OF_THE_SOURCES.map(|file| format!("{name}/{file}"))))?;
    fs::remove_dir_all(&part).map_err(|error| failed(&part, &error))
}

/// Judges our sources by the kernel's own rules, where there is a whole Perl.
fn judge_style(context: &Context, home: &Path, sources: &[(String, String)]) -> Result<(), Failure> {
    let perl = || context.command("perl");
    if !process::succeeds(perl().args(["-MTerm::ANSIColor", "-MPod::Usage", "-e", "1"])) {
        println!("xtask: checkpatch.pl and kernel-doc are not run: there is no Perl with its modules");
        return Ok(());
    }
    let directory = module_directory(context);
    let files: Vec<_> = sources.iter().map(|(name, _)| name).filter(|name| is_c(name)).collect();
    let script = |name: &str| home.join("source/scripts").join(name);
    let mut checkpatch = perl();
    checkpatch.current_dir(&directory).arg(script("checkpatch.pl"));
    process::run(
        checkpatch.args(["--no-tree", "--strict", "--terse", "--no-summary", "--file"]).args(&files),
    )?;
    let mut kernel_doc = perl();
    kernel_doc.current_dir(&directory).arg(script("kernel-doc"));
    process::run(kernel_doc.args(["-none", "-Wall", "-Werror"]).args(&files))
}

/// Builds the modules in the root, without the debugger's sections.
fn build(context: &Context, home: &Path, release: &str, sources: &[(String, String)]) -> Result<(), Failure> {
    let root = home.join("root");
    let directory = root.join(BUILD);
    fs::remove_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    make(&directory)?;
    for (name, text) in sources {
        write(&directory.join(name), text)?;
    }
    let tsm = home.join("source/drivers/virt/coco/tsm.c");
    fs::copy(&tsm, directory.join("tsm.c")).map_err(|error| failed(&tsm, &error))?;
    let inside = Inside::find(context, &root)?;
    let mut make = inside.command("make");
    make.args(["--silent", "KCFLAGS=-Werror", "-C"]).arg(format!("/usr/src/linux-headers-{release}"));
    process::run(make.arg(format!("M=/{BUILD}")).arg("modules"))?;
    let mut strip = inside.command("riscv64-linux-gnu-strip");
    strip.arg("--strip-debug").args(MODULES.map(|module| format!("/{BUILD}/{module}")));
    process::run(&mut strip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!(series("6.12.107+deb13"), "6.12");
        assert_eq!(series("7.2+deb14"), "7.2+deb14");
    }

    #[test]
    fn the_modules_sources_are_read() {
        let context = Context::find().expect("the tests run inside the workspace");
        let names: Vec<_> =
            sources(&context).expect("they are there").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Kbuild", "cove_guest.c", "cove_guest.h", "tsm_compat.h"]);
        assert!(!is_source("README.md") && !is_source("cove_guest.mod"));
    }
}
