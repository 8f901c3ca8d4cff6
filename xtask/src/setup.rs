//! Installing what the build and the tests need: as little as possible, under `target/` where possible, once.

pub(crate) mod apt;
pub(crate) mod clients;
pub(crate) mod cove_module;
pub(crate) mod kernels;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::context::{
    Context, GUEST_LINUX_RISCV64_TARGET, GUEST_LINUX_TARGET, GUEST_RISCV64_TARGET, GUEST_TARGET,
};
use crate::failure::{Failure, LACKING};
use crate::process;

/// A variable that names a firmware image to measure, instead of Debian's.
pub(crate) const OVMF_VARIABLE: &str = "TSMSIM_OVMF";
/// A variable that names a `sev-snp-measure` to compare with, instead of the one installed here.
pub(crate) const MEASURE_VARIABLE: &str = "TSMSIM_SEV_SNP_MEASURE";
/// The variable that gives tests a Python that can import `cctrusted_vm`.
pub(crate) const PYTHON_VARIABLE: &str = "TSMSIM_PYTHON";

/// What pip installs, every version pinned.
const REQUIREMENTS: &str = include_str!("../python-requirements.txt");
/// Inside Debian's package: the unified image that `qemu -bios` maps, which is how SNP guests are started.
const OVMF_IN_PACKAGE: &str = "usr/share/ovmf/OVMF.fd";

/// A program that may come with the system: how to see that it is there, and which Debian packages bring it.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) probe: &'static [&'static str],
    /// `new|old` is the first of them that there is.
    pub(crate) packages: &'static [&'static str],
}

pub(crate) const C_COMPILER: Program = Program {
    name: "a C compiler",
    why: "aws-lc-sys is C",
    probe: &["cc", "--version"],
    packages: &["gcc", "libc6-dev"],
};

const QEMU: Program = Program {
    name: "QEMU",
    why: "the processor of stock kernels where KVM is missing or slow",
    probe: &["qemu-system-x86_64", "--version"],
    packages: &["qemu-system-x86"],
};

/// Debian 13 has QEMU's machines of RISC-V in a package of their own.
const QEMU_RISCV64: Program = Program {
    name: "QEMU for RISC-V",
    why: "the processor of CoVE guests",
    probe: &["qemu-system-riscv64", "--version"],
    packages: &["qemu-system-riscv|qemu-system-misc"],
};

const OPENSBI: Program = Program {
    name: "OpenSBI",
    why: "the firmware of CoVE guests that are Linux",
    probe: &["test", "-f", "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"],
    packages: &["opensbi"],
};

/// What links the init program of riscv64 Linux guests; Rust has no musl for this target.
const RISCV64_LINKER: [Program; 2] = [
    Program {
        name: "a C compiler for riscv64",
        why: "the linker of the init program of riscv64 Linux guests",
        probe: &["riscv64-linux-gnu-gcc", "--version"],
        packages: &["gcc-riscv64-linux-gnu"],
    },
    Program {
        name: "a static C library for riscv64",
        why: "part of that init program",
        probe: &["test", "-f", "/usr/riscv64-linux-gnu/lib/libc.a"],
        packages: &["libc6-dev-riscv64-cross"],
    },
];

const FOR_TESTS: [Program; 11] = [
    C_COMPILER,
    Program {
        name: "a C++ compiler",
        why: "libFuzzer is C++",
        probe: &["c++", "--version"],
        packages: &["g++"],
    },
    Program {
        name: "openssl",
        why: "an independent judge of certificates and signatures",
        probe: &["openssl", "version"],
        packages: &["openssl"],
    },
    Program {
        name: "Python with venv",
        why: "sev-snp-measure, an independent launch measurement, and cctrusted-vm, a client",
        probe: &["python3", "-c", "import ensurepip, venv"],
        packages: &["python3", "python3-venv"],
    },
    Program {
        name: "fusermount3",
        why: "users may mount FUSE by it: `tsmsim run --no-namespace`",
        probe: &["fusermount3", "--version"],
        packages: &["fuse3"],
    },
    QEMU,
    QEMU_RISCV64,
    OPENSBI,
    RISCV64_LINKER[0],
    RISCV64_LINKER[1],
    Program {
        name: "a static busybox",
        why: "a shell for guests that have nothing else",
        probe: &["busybox", "true"],
        packages: &["busybox-static"],
    },
];

/// What Rust's library is needed for besides this machine.
const RUST_TARGETS: [(&str, &str); 4] = [
    (GUEST_TARGET, "the bare-metal guest"),
    (GUEST_LINUX_TARGET, "the init program of Linux guests"),
    (GUEST_RISCV64_TARGET, "the bare-metal guest of RISC-V"),
    (GUEST_LINUX_RISCV64_TARGET, "the init program of riscv64 Linux guests"),
];

/// All that `cargo xtask test` needs.
pub(crate) fn everything(context: &Context) -> Result<(), Failure> {
    rust_targets(context)?;
    programs(context, &FOR_TESTS)?;
    ovmf(context)?;
    python_packages(context)?;
    clients::install(context)?;
    kernels::install(context)?;
    riscv64_kernel(context)
}

/// The kernel of CoVE guests and our module. Debian's mirrors have its architecture last, so only CI insists on having it;
/// a module that is there to be built has to build.
fn riscv64_kernel(context: &Context) -> Result<(), Failure> {
    match cove_module::install(context) {
        Err(failure) if !context.ci && failure.status == LACKING => {
            eprintln!(
                "xtask: going on without the kernel of CoVE guests; tests that need it are skipped\n{failure}"
            );
            Ok(())
        }
        result => result,
    }
}

/// All that building needs.
pub(crate) fn for_build(context: &Context) -> Result<(), Failure> {
    rust_targets(context)?;
    programs(context, &[C_COMPILER])
}

/// What linking for riscv64 Linux needs.
pub(crate) fn for_riscv64_linux(context: &Context) -> Result<(), Failure> {
    programs(context, &RISCV64_LINKER)
}

/// What `tsmsim demo` can do without, but then boots no stock kernel: QEMU, and the newest kernel.
pub(crate) fn for_demo(context: &Context) -> Result<(), Failure> {
    programs(context, &[QEMU])?;
    kernels::install_newest(context)
}

/// The same for CoVE.
pub(crate) fn for_cove_demo(context: &Context) -> Result<(), Failure> {
    programs(context, &[QEMU_RISCV64, OPENSBI])?;
    cove_module::install(context)
}

/// The firmware image to measure, if it is there.
pub(crate) fn ovmf_file(context: &Context) -> Option<PathBuf> {
    chosen(OVMF_VARIABLE, context.target.join("ovmf").join(OVMF_IN_PACKAGE))
}

/// The independent measuring program, if it is there.
pub(crate) fn measure_program(context: &Context) -> Option<PathBuf> {
    chosen(MEASURE_VARIABLE, context.target.join("py/bin/sev-snp-measure"))
}

/// The Python of the virtual environment, if it is there.
pub(crate) fn python(context: &Context) -> Option<PathBuf> {
    chosen(PYTHON_VARIABLE, context.target.join("py/bin/python"))
}

/// The file that the variable names, else ours; if it exists.
fn chosen(variable: &str, ours: PathBuf) -> Option<PathBuf> {
    Some(env::var_os(variable).map_or(ours, PathBuf::from)).filter(|file| file.is_file())
}

/// Rust's library for the guests. A directory tells whether it is there, with rustup or without.
fn rust_targets(context: &Context) -> Result<(), Failure> {
    RUST_TARGETS.iter().try_for_each(|(target, what)| rust_target(context, target, what))
}

fn rust_target(context: &Context, target: &str, what: &str) -> Result<(), Failure> {
    let directory =
        process::output(context.command("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if Path::new(directory.trim()).is_dir() {
        return Ok(());
    }
    say(&format!("Rust's library for {target}, for {what}"));
    let advice = format!(
        "`rustup target add {target}`; without rustup, install the package of your distribution that has Rust's \
         library for {target}, or rustup (https://rustup.rs)"
    );
    if !process::succeeds(Command::new("rustup").arg("--version")) {
        return Err(Failure::lacking(
            format!("Rust's library for {target} is missing, and so is rustup"),
            advice,
        ));
    }
    process::run(context.command("rustup").args(["target", "add", target])).map_err(|failure| {
        Failure::lacking("rustup could not install the target", advice).command(failure.command_line())
    })
}

/// Programs of the system: those that are missing come from Debian's packages.
pub(crate) fn programs(context: &Context, wanted: &[Program]) -> Result<(), Failure> {
    let missing = missing(context, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    for program in &missing {
        say(&format!("{} ({})", program.name, program.why));
    }
    let packages = || -> Vec<&str> {
        let named = missing.iter().flat_map(|program| program.packages.iter());
        named.map(|names| available(context, names)).collect()
    };
    let by_hand = format!("apt-get install -y --no-install-recommends {}", packages().join(" "));
    let lacking =
        |what: &str| Failure::lacking(what, format!("as root: {by_hand} (or your distribution's like)"));
    if !has_apt(context) {
        return Err(lacking("programs are missing, and this is not a Debian system"));
    }
    let Some(prefix) = as_root(context) else {
        return Err(lacking("programs are missing, and installing them takes root"));
    };
    let install = || {
        let mut command = privileged(context, prefix);
        command.args(["apt-get", "install", "-y", "--no-install-recommends"]).args(packages());
        process::run(&mut command)
    };
    // The lists of packages may be absent or too old.
    install()
        .or_else(|_| update(context, prefix).and_then(|()| install()))
        .map_err(|failure| lacking(failure.what()))?;
    match self::missing(context, wanted).first() {
        None => Ok(()),
        Some(program) => Err(lacking(&format!("{} was installed, but does not work", program.name))
            .command(program.probe.join(" "))),
    }
}

/// Of packages `new|old`, the first that apt knows, else the last.
fn available<'a>(context: &Context, names: &'a str) -> &'a str {
    let (new, old) = match names.split_once('|') {
        None => return names,
        Some(names) => names,
    };
    let known = process::succeeds(context.command("apt-cache").args(["show", "--quiet", new]));
    if known { new } else { old }
}

/// Those that cannot be run.
fn missing<'a>(context: &Context, wanted: &'a [Program]) -> Vec<&'a Program> {
    let runs =
        |program: &&Program| process::succeeds(context.command(program.probe[0]).args(&program.probe[1..]));
    wanted.iter().filter(|program| !runs(program)).collect()
}

/// Debian's OVMF image, unpacked without installing it.
fn ovmf(context: &Context) -> Result<(), Failure> {
    if ovmf_file(context).is_some() {
        return Ok(());
    }
    let lacking = |what: String| {
        Failure::lacking(
            what,
            format!(
                "name a firmware image with SEV metadata in {OVMF_VARIABLE}, such as Debian's {OVMF_IN_PACKAGE}"
            ),
        )
    };
    if env::var_os(OVMF_VARIABLE).is_some() {
        return Err(lacking(format!("{OVMF_VARIABLE} names a file that does not exist")));
    }
    say("Debian's ovmf package, unpacked under target/ovmf: a real firmware image to measure");
    if !has_apt(context) {
        return Err(lacking("this is not a Debian system".to_owned()));
    }
    let debs = context.target.join("debs");
    fs::create_dir_all(&debs).map_err(|error| Failure::new(format!("{}: {error}", debs.display())))?;
    if newest_package(&debs, "ovmf_").is_none() {
        download(context, &debs, "ovmf").map_err(|failure| lacking(failure.to_string()))?;
    }
    let package =
        newest_package(&debs, "ovmf_").ok_or_else(|| lacking("apt-get downloaded no package".to_owned()))?;
    // Renamed when complete, so that an interrupted run leaves no half an image.
    let (unpacked, home) = (context.target.join("ovmf.part"), context.target.join("ovmf"));
    process::run(context.command("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
    fs::rename(&unpacked, &home).map_err(|error| Failure::new(format!("{}: {error}", home.display())))?;
    ovmf_file(context).map(|_| ()).ok_or_else(|| lacking(format!("the package holds no {OVMF_IN_PACKAGE}")))
}

/// `apt-get download` needs no root, but lists of packages.
fn download(context: &Context, into: &Path, package: &str) -> Result<(), Failure> {
    let fetch = || {
        process::output(context.command("apt-get").current_dir(into).args(["download", package])).map(|_| ())
    };
    fetch().or_else(|failure| match as_root(context) {
        Some(prefix) => update(context, prefix).and_then(|()| fetch()),
        None => Err(failure),
    })
}

/// The file in `directory` with this prefix that was changed last.
pub(crate) fn newest_package(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path())
}

/// PyPI's `sev-snp-measure`, `cctrusted-vm` and `cwt` in a virtual environment, made again when the pinned versions change.
fn python_packages(context: &Context) -> Result<(), Failure> {
    let stamp = context.target.join("py/requirements-installed.txt");
    let current = fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS);
    match (measure_program(context), env::var_os(MEASURE_VARIABLE)) {
        (Some(_), Some(_)) => return Ok(()),
        (None, Some(_)) => {
            let what = format!("{MEASURE_VARIABLE} names a file that does not exist");
            return Err(Failure::lacking(
                what,
                "correct it, or unset it to have the program installed under target/",
            ));
        }
        // A virtual environment does not survive being moved or its Python being replaced, so it is tried.
        (Some(program), None) if current && process::succeeds(context.command(&program).arg("--version")) => {
            return Ok(());
        }
        _ => {}
    }
    say(
        "PyPI's sev-snp-measure, cctrusted-vm and cwt in a virtual environment, target/py: judges and a client",
    );
    let home = context.target.join("py");
    process::run(context.command("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let mut pip = context.command(home.join("bin/pip"));
    pip.args(["--disable-pip-version-check", "--quiet", "install", "--only-binary=:all:", "--requirement"]);
    process::run(pip.arg(context.root.join("xtask/python-requirements.txt"))).map_err(|failure| {
        let advice = "connect to the network once; what was installed is kept under target/py";
        Failure::lacking("pip could not install the Python packages", advice).command(failure.command_line())
    })?;
    fs::write(&stamp, REQUIREMENTS).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))
}

pub(crate) fn say(what: &str) {
    println!("xtask: installing {what}");
}

fn has_apt(context: &Context) -> bool {
    process::succeeds(context.command("apt-get").arg("--version"))
}

/// How to run a command as root without asking anyone: directly, through sudo, or not at all.
fn as_root(context: &Context) -> Option<&'static [&'static str]> {
    if process::output(context.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Some(&["env"]);
    }
    process::succeeds(context.command("sudo").args(["-n", "true"])).then_some(&["sudo", "-n", "env"])
}

/// The start of a command as root that asks no questions.
fn privileged(context: &Context, prefix: &[&str]) -> Command {
    let mut command = context.command(prefix[0]);
    command.args(&prefix[1..]).arg("DEBIAN_FRONTEND=noninteractive");
    command
}

fn update(context: &Context, prefix: &[&str]) -> Result<(), Failure> {
    process::run(privileged(context, prefix).args(["apt-get", "update"]))
}
