//! Building the guests and the program that carries them, and showing them off.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::context::Context;
use crate::failure::{FAILED, Failure, LACKING};
use crate::process;
use crate::setup;

/// The variable that gives `cli/build.rs` and the tests the guest's ELF file.
pub(crate) const GUEST_VARIABLE: &str = "TSMSIM_GUEST_X86_64";

/// The variable that gives `cli/build.rs` and the tests the ELF file of the init program of Linux guests.
pub(crate) const GUEST_LINUX_VARIABLE: &str = "TSMSIM_GUEST_LINUX";

/// The same of the bare-metal guest of RISC-V.
pub(crate) const GUEST_RISCV64_VARIABLE: &str = "TSMSIM_GUEST_RISCV64";

/// The same of the init program of riscv64 Linux guests.
pub(crate) const GUEST_LINUX_RISCV64_VARIABLE: &str = "TSMSIM_GUEST_LINUX_RISCV64";

/// Builds what runs inside guests.
fn guests(context: &Context) -> Result<(), Failure> {
    guest(&mut context.cargo_guest("build"), &context.guest_elf())?;
    guest(&mut context.cargo_guest_linux("build"), &context.guest_linux_elf())?;
    guest(&mut context.cargo_guest_riscv64("build"), &context.guest_riscv64_elf())?;
    match setup::for_riscv64_linux(context) {
        Err(failure) if !context.ci && failure.status == LACKING => {
            eprintln!("xtask: building without the init program of riscv64 Linux guests\n{failure}");
            Ok(())
        }
        result => result.and_then(|()| {
            guest(&mut context.cargo_guest_linux_riscv64("build"), &context.guest_linux_riscv64_elf())
        }),
    }
}

/// One of them: an ELF file named after its package.
fn guest(build: &mut Command, elf: &Path) -> Result<(), Failure> {
    process::run(build)?;
    if elf.is_file() {
        return Ok(());
    }
    let name = elf.file_name().unwrap_or_default().display().to_string();
    Err(Failure::new(format!("what runs in a guest was built, but there is no {}", elf.display()))
        .advise(format!("its package must have a program named {name}")))
}

/// The variables that give `cli/build.rs` and the tests what runs inside guests, as far as it is there.
pub(crate) fn guest_files(context: &Context) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let files = [
        (GUEST_VARIABLE, context.guest_elf()),
        (GUEST_LINUX_VARIABLE, context.guest_linux_elf()),
        (GUEST_RISCV64_VARIABLE, context.guest_riscv64_elf()),
        (GUEST_LINUX_RISCV64_VARIABLE, context.guest_linux_riscv64_elf()),
    ];
    files.into_iter().filter(|(_, file)| file.is_file())
}

/// What runs inside guests, then the program, which carries it inside.
pub(crate) fn everything(context: &Context) -> Result<(), Failure> {
    setup::for_build(context)?;
    guests(context)?;
    let mut command = context.cargo("build", &context.target);
    command.args(["--release", "--package", "tsmsim"]);
    process::run(command.envs(guest_files(context)))
}

/// Builds, then runs `tsmsim demo`; gives its exit status. Without QEMU or a kernel it shows less, and says so itself.
pub(crate) fn demo(context: &Context, arguments: &[String]) -> Result<u8, Failure> {
    everything(context)?;
    if let Err(failure) = setup::for_demo(context) {
        eprintln!("xtask: the demonstration goes on without stock kernels\n{failure}");
    }
    if let Err(failure) = setup::for_cove_demo(context) {
        eprintln!("xtask: the demonstration goes on without a stock kernel for CoVE\n{failure}");
    }
    let mut command = Command::new(context.program());
    command.arg("demo").args(arguments);
    let status = command.status().map_err(|error| {
        Failure::new(format!("tsmsim could not be run: {error}")).command(process::shown(&command))
    })?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(FAILED)),
        None => Err(Failure::new(format!("tsmsim was stopped ({status})")).command(process::shown(&command))),
    }
}
