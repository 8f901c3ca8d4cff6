//! Where things are, and how cargo is called.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// The package of the bare-metal guest, and the name of its ELF file.
pub(crate) const GUEST: &str = "tsmsim-guest-x86_64";
/// The target of the bare-metal guest.
pub(crate) const GUEST_TARGET: &str = "x86_64-unknown-none";

/// The package of the init program of Linux guests, and the name of its ELF file.
pub(crate) const GUEST_LINUX: &str = "tsmsim-guest-linux";
/// Its target: statically linked.
pub(crate) const GUEST_LINUX_TARGET: &str = "x86_64-unknown-linux-musl";

/// The package of the bare-metal guest of RISC-V, and the name of its ELF file.
pub(crate) const GUEST_RISCV64: &str = "tsmsim-guest-riscv64";
/// Its target.
pub(crate) const GUEST_RISCV64_TARGET: &str = "riscv64imac-unknown-none-elf";

/// The target of the init program for riscv64: linked statically with a C library, for there is no musl for it.
pub(crate) const GUEST_LINUX_RISCV64_TARGET: &str = "riscv64gc-unknown-linux-gnu";
/// What links it.
const RISCV64_LINKER: &str = "riscv64-linux-gnu-gcc";

/// The directories, and the habits that follow from the environment.
pub(crate) struct Context {
    /// The root of the workspace.
    pub(crate) root: PathBuf,
    /// Where everything built, downloaded or installed goes.
    pub(crate) target: PathBuf,
    /// True under continuous integration (`CI=true`): the lock file is binding and skipped tests are failures.
    pub(crate) ci: bool,
}

impl Context {
    /// From the environment that `cargo run` gives us.
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or(PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .ok_or_else(|| {
                Failure::new("the workspace was not found").advise("call this program as `cargo xtask`")
            })?
            .to_path_buf();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let ci = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        Ok(Self { root, target, ci })
    }

    /// A command that runs in the root of the workspace.
    ///
    /// What `cargo run` told *us* about this package must not reach another cargo: build scripts watch such variables
    /// and would run again each time.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// `cargo SUBCOMMAND`: the cargo that runs us.
    pub(crate) fn cargo_command(&self, subcommand: &str) -> Command {
        let mut command = self.command(env::var_os("CARGO").map_or(PathBuf::from("cargo"), PathBuf::from));
        command.arg(subcommand);
        command
    }

    /// `cargo SUBCOMMAND --target-dir DIR`, with `--locked` where the lock file is binding.
    pub(crate) fn cargo(&self, subcommand: &str, target_dir: &Path) -> Command {
        let mut command = self.cargo_command(subcommand);
        command.arg("--target-dir").arg(target_dir);
        if self.ci {
            command.arg("--locked");
        }
        command
    }

    /// Cargo for the members that run on this machine: all but the bare-metal guests.
    pub(crate) fn cargo_host(&self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand, &self.target);
        command.args(["--workspace", "--exclude", GUEST, "--exclude", GUEST_RISCV64]);
        command
    }

    /// Cargo for the bare-metal guest, in a directory of its own. Flags from the environment would replace those that
    /// `.cargo/config.toml` gives the guest's target, so they are taken away. Panic messages hold paths, which are part of
    /// the image and so of its measurement: they are cut down to what is the same on every machine.
    pub(crate) fn cargo_guest(&self, subcommand: &str) -> Command {
        self.cargo_inside(subcommand, GUEST, GUEST_TARGET)
    }

    /// Cargo for the bare-metal guest of RISC-V, in the same way.
    pub(crate) fn cargo_guest_riscv64(&self, subcommand: &str) -> Command {
        self.cargo_inside(subcommand, GUEST_RISCV64, GUEST_RISCV64_TARGET)
    }

    /// Cargo for the init program of Linux guests, in the same way. It is small and ends the guest when it panics.
    pub(crate) fn cargo_guest_linux(&self, subcommand: &str) -> Command {
        self.cargo_init(subcommand, GUEST_LINUX_TARGET)
    }

    /// The same for riscv64.
    pub(crate) fn cargo_guest_linux_riscv64(&self, subcommand: &str) -> Command {
        let mut command = self.cargo_init(subcommand, GUEST_LINUX_RISCV64_TARGET);
        let target = format!("target.{GUEST_LINUX_RISCV64_TARGET}");
        command.arg("--config").arg(format!("{target}.linker={RISCV64_LINKER:?}"));
        command.arg("--config").arg(format!(r#"{target}.rustflags=["-Ctarget-feature=+crt-static"]"#));
        command
    }

    fn cargo_init(&self, subcommand: &str, target: &str) -> Command {
        let mut command = self.cargo_inside(subcommand, GUEST_LINUX, target);
        for setting in ["strip=true", "panic=\"abort\"", "opt-level=\"s\"", "codegen-units=1"] {
            command.arg("--config").arg(format!("profile.release.{setting}"));
        }
        command
    }

    /// Cargo for a program that runs inside guests.
    fn cargo_inside(&self, subcommand: &str, package: &str, target: &str) -> Command {
        let mut command = self.cargo(subcommand, &self.target.join("guest"));
        command.args(["--release", "--package", package, "--target", target]);
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        for (from, to) in [(Some(self.root.clone()), "/tsmsim"), (cargo_home, "/cargo")] {
            if let Some(from) = from {
                let flag = format!("--remap-path-prefix={}={to}", from.display());
                command.arg("--config").arg(format!("target.{target}.rustflags=[{flag:?}]"));
            }
        }
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }

    /// A file of a guest, once built.
    fn inside(&self, target: &str, name: &str) -> PathBuf {
        self.target.join("guest").join(target).join("release").join(name)
    }

    /// The ELF file of the bare-metal guest, once built.
    pub(crate) fn guest_elf(&self) -> PathBuf {
        self.inside(GUEST_TARGET, GUEST)
    }

    /// The same of RISC-V.
    pub(crate) fn guest_riscv64_elf(&self) -> PathBuf {
        self.inside(GUEST_RISCV64_TARGET, GUEST_RISCV64)
    }

    /// The ELF file of the init program of Linux guests, once built.
    pub(crate) fn guest_linux_elf(&self) -> PathBuf {
        self.inside(GUEST_LINUX_TARGET, GUEST_LINUX)
    }

    /// The same for riscv64.
    pub(crate) fn guest_linux_riscv64_elf(&self) -> PathBuf {
        self.inside(GUEST_LINUX_RISCV64_TARGET, GUEST_LINUX)
    }

    /// The `tsmsim` program, once built.
    pub(crate) fn program(&self) -> PathBuf {
        self.target.join("release/tsmsim")
    }
}
