//! `cargo xtask kernel`: a small Linux for guests on a KVM that interprets ring 0, from Debian's sources.
//!
//! A distribution's kernel takes ten minutes there to its first report; this one takes seconds. What is in it, and why, is in
//! `xtask/kernel/small.config`. Result: `target/kernels/small/vmlinux`, kept until that file changes; the sources' package is
//! kept too, what was unpacked is not. Needs 1 GB of disk meanwhile, and three to ten minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::context::Context;
use crate::failure::Failure;
use crate::process;
use crate::setup::{self, C_COMPILER, Program, kernels};

/// The variable that gives tests the kernel.
pub(crate) const VARIABLE: &str = "TSMSIM_KERNEL_SMALL";
/// The package, which has its files in a directory of this name, and in an archive.
const SOURCE: &str = "linux-source-6.12";
const OPTIONS: &str = include_str!("../kernel/small.config");

const PROGRAMS: [Program; 7] = [
    C_COMPILER,
    program("make", "", &["make", "--version"], &["make"]),
    program("flex", "of Kconfig", &["flex", "--version"], &["flex"]),
    program("bison", "of Kconfig", &["bison", "--version"], &["bison"]),
    program("bc", "of the kernel's constants of time", &["bc", "--version"], &["bc"]),
    program("xz", "the sources are packed with it", &["xz", "--version"], &["xz-utils"]),
    program(
        "libelf",
        "of the kernel's objtool",
        &["cc", "-include", "gelf.h", "-fsyntax-only", "-x", "c", "/dev/null"],
        &["libelf-dev"],
    ),
];

const fn program(
    name: &'static str,
    why: &'static str,
    probe: &'static [&'static str],
    packages: &'static [&'static str],
) -> Program {
    Program { name, why, probe, packages }
}

/// What no part of this kernel is built from: half of the sources. Kconfig reads its files everywhere, so those stay.
const NOT_UNPACKED: [&str; 8] = [
    "drivers/gpu/*.[ch]",
    "drivers/infiniband/*.[ch]",
    "drivers/media/*.[ch]",
    "drivers/net/*.[ch]",
    "drivers/scsi/*.[ch]",
    "drivers/staging/*.[ch]",
    "sound/*.[ch]",
    "tools/testing/*",
];

/// The kernel, if it is there.
pub(crate) fn file(context: &Context) -> Option<PathBuf> {
    Some(home(context).join("vmlinux")).filter(|file| file.is_file())
}

fn home(context: &Context) -> PathBuf {
    context.target.join("kernels/small")
}

/// Builds it, unless it is there.
pub(crate) fn build(context: &Context) -> Result<(), Failure> {
    let home = home(context);
    let stamp = home.join("options");
    if file(context).is_some() && fs::read_to_string(&stamp).is_ok_and(|built| built == OPTIONS) {
        return Ok(());
    }
    setup::programs(context, &PROGRAMS)?;
    kernels::make(&home)?;
    let part = home.join("part");
    remove(&part)?;
    kernels::make(&part)?;
    let tree = unpack(context, &home, &part)?;
    configure(context, &tree)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    process::run(make(context, &tree).arg(format!("-j{jobs}")).arg("vmlinux"))?;
    for (from, to) in [("vmlinux", "vmlinux"), (".config", "config"), ("System.map", "System.map")] {
        let copied = fs::copy(tree.join(from), home.join(to));
        copied.map_err(|error| kernels::failed(&tree.join(from), &error))?;
    }
    // Last, so that an interrupted build is no build.
    kernels::write(&stamp, OPTIONS)?;
    remove(&part)
}

/// Downloads the sources' package if need be; gives the directory of what is needed of it.
fn unpack(context: &Context, home: &Path, part: &Path) -> Result<PathBuf, Failure> {
    let prefix = format!("{SOURCE}_");
    if setup::newest_package(home, &prefix).is_none() {
        setup::say(&format!("Debian's {SOURCE}, under target/kernels/small: sources of a small kernel"));
        kernels::download(context, home, SOURCE).map_err(|failure| {
            let advice = format!(
                "connect to the network once; the package is kept. By hand: put {SOURCE}_*.deb of \
                 Debian's bookworm-security into target/kernels/small"
            );
            let what = format!("the sources of Linux could not be had: {}", failure.what());
            Failure::lacking(what, advice).command(failure.command_line())
        })?;
    }
    let package = setup::newest_package(home, &prefix)
        .ok_or_else(|| Failure::new(format!("apt-get downloaded no {SOURCE}")))?;
    process::run(context.command("dpkg-deb").arg("--extract").arg(package).arg(part))?;
    let mut tar = context.command("tar");
    tar.arg("--extract").arg("--file").arg(part.join(format!("usr/src/{SOURCE}.tar.xz")));
    tar.arg("--directory").arg(part);
    tar.args(NOT_UNPACKED.map(|pattern| format!("--exclude={SOURCE}/{pattern}")));
    process::run(&mut tar)?;
    Ok(part.join(SOURCE))
}

/// The smallest configuration, then ours, then what follows from both; every line of ours has to hold.
fn configure(context: &Context, tree: &Path) -> Result<(), Failure> {
    process::run(make(context, tree).arg("tinyconfig"))?;
    let config = tree.join(".config");
    let smallest = fs::read_to_string(&config).map_err(|error| kernels::failed(&config, &error))?;
    kernels::write(&config, &merged(&smallest, OPTIONS))?;
    process::run(make(context, tree).arg("olddefconfig"))?;
    let result = fs::read_to_string(&config).map_err(|error| kernels::failed(&config, &error))?;
    let missed = missed(OPTIONS, &result);
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("Kconfig did not take: {}", missed.join(", "))).advise(
        "xtask/kernel/small.config names options that these sources do not have or that others forbid",
    ))
}

/// A configuration with these options in the place of its own.
fn merged(base: &str, options: &str) -> String {
    let ours: Vec<&str> = options.lines().filter_map(name).collect();
    let theirs = base.lines().filter(|line| name(line).is_none_or(|name| !ours.contains(&name)));
    theirs.chain(options.lines()).flat_map(|line| [line, "\n"]).collect()
}

/// The option that a line of a configuration sets, or says to be unset.
fn name(line: &str) -> Option<&str> {
    let unset = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"));
    let set = || line.split_once('=').map(|(name, _)| name);
    unset.or_else(set).filter(|name| name.starts_with("CONFIG_"))
}

/// Options that are not in the result as they were wanted.
fn missed<'a>(wanted: &'a str, result: &str) -> Vec<&'a str> {
    let wanted = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    let holds = |line: &str| match line.strip_suffix("=n") {
        Some(name) => !result.lines().any(|other| other.split_once('=').is_some_and(|(n, _)| n == name)),
        None => result.lines().any(|other| other == line),
    };
    wanted.filter(|line| !holds(line)).collect()
}

/// `make` for this kernel, whose result does not tell of time and place.
fn make(context: &Context, tree: &Path) -> std::process::Command {
    let mut command = context.command("make");
    command.arg("--silent").arg("--directory").arg(tree);
    command.env("ARCH", "x86_64").env("LC_ALL", "C");
    command.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_VERSION", "1");
    command.env("KBUILD_BUILD_USER", "tsmsim").env("KBUILD_BUILD_HOST", "tsmsim");
    for variable in ["MAKEFLAGS", "CFLAGS", "LDFLAGS", "CROSS_COMPILE"] {
        command.env_remove(variable);
    }
    command
}

fn remove(directory: &Path) -> Result<(), Failure> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| kernels::failed(directory, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_named() {
        let result = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_E=2\nCONFIG_FG=y\n";
        let wanted =
            "# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=2\nCONFIG_F=n\nCONFIG_G=y\n";
        assert_eq!(missed(wanted, result), ["CONFIG_C=n", "CONFIG_G=y"]);
    }

    #[test]
    fn our_options_take_the_place_of_others() {
        let base = "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_AB=3\n#\n# Menu\n";
        let ours = "# why\nCONFIG_A=y\nCONFIG_B=n\n";
        assert_eq!(merged(base, ours), "CONFIG_AB=3\n#\n# Menu\n# why\nCONFIG_A=y\nCONFIG_B=n\n");
    }

    #[test]
    fn every_option_is_one() {
        for line in OPTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once('=').unwrap_or_default();
            assert!(name.starts_with("CONFIG_") && !value.is_empty(), "{line}");
        }
    }
}
