//! Building the guests and the program that carries them, and showing them off.

use std::process::Command;

use crate::context::{Context, GUEST, GUEST_LINUX};
use crate::failure::{FAILED, Failure};
use crate::process;
use crate::setup;

/// The variable that gives `cli/build.rs` and the tests the guest's ELF file.
pub(crate) const GUEST_VARIABLE: &str = "TSMSIM_GUEST_X86_64";

/// The variable that gives `cli/build.rs` and the tests the ELF file of the init program of Linux guests.
pub(crate) const GUEST_LINUX_VARIABLE: &str = "TSMSIM_GUEST_LINUX";

/// The bare-metal guest's ELF file.
pub(crate) fn guest(context: &Context) -> Result<(), Failure> {
    process::run(&mut context.cargo_guest("build"))?;
    let elf = context.guest_elf();
    if elf.is_file() {
        return Ok(());
    }
    Err(Failure::new(format!("the guest was built, but there is no {}", elf.display()))
        .advise(format!("its package must have a program named {GUEST}")))
}

/// The ELF file of the init program of Linux guests.
pub(crate) fn guest_linux(context: &Context) -> Result<(), Failure> {
    process::run(&mut context.cargo_guest_linux("build"))?;
    let elf = context.guest_linux_elf();
    if elf.is_file() {
        return Ok(());
    }
    Err(Failure::new(format!("the init program was built, but there is no {}", elf.display()))
        .advise(format!("its package must have a program named {GUEST_LINUX}")))
}

/// The bare-metal guest and the init program, then the program, which carries both inside.
pub(crate) fn everything(context: &Context) -> Result<(), Failure> {
    setup::for_build(context)?;
    guest(context)?;
    guest_linux(context)?;
    let mut command = context.cargo("build", &context.target);
    command.args(["--release", "--package", "tsmsim"]);
    command.env(GUEST_VARIABLE, context.guest_elf()).env(GUEST_LINUX_VARIABLE, context.guest_linux_elf());
    process::run(&mut command)
}

/// Builds, then runs `tsmsim demo`; gives its exit status. Without QEMU or a kernel it shows less, and says so itself.
pub(crate) fn demo(context: &Context, arguments: &[String]) -> Result<u8, Failure> {
    everything(context)?;
    if let Err(failure) = setup::for_demo(context) {
        eprintln!("xtask: the demonstration goes on without stock kernels\n{failure}");
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
