//! Building the guest and the program that carries it, and showing them off.

use std::process::Command;

use crate::context::{Context, GUEST};
use crate::failure::{FAILED, Failure};
use crate::process;
use crate::setup;

/// The variable that gives `cli/build.rs` and the tests the guest's ELF file.
pub(crate) const GUEST_VARIABLE: &str = "TSMSIM_GUEST_X86_64";

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

/// The bare-metal guest, then the program, which carries the guest inside.
pub(crate) fn everything(context: &Context) -> Result<(), Failure> {
    setup::for_build(context)?;
    guest(context)?;
    let mut command = context.cargo("build", &context.target);
    command.args(["--release", "--package", "tsmsim"]).env(GUEST_VARIABLE, context.guest_elf());
    process::run(&mut command)
}

/// Builds, then runs `tsmsim demo`; gives its exit status.
pub(crate) fn demo(context: &Context, arguments: &[String]) -> Result<u8, Failure> {
    everything(context)?;
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
