//! The init program of a Linux guest: the first process; with `check` as its argument the built-in check, with `conform`
//! the conformance suite, with `reports` a benchmark.
//!
//! It mounts what programs expect, loads the modules that the configuration lists, runs the command (or the check), sends
//! what it prints, its exit status and the files below `/out` to the host ([`tsmsim_abi::guest_channel`]), and restarts
//! the machine, which ends it where restarts do. If it cannot go on, it panics, and so does the kernel, which its command
//! line has restart the machine at once: the host then misses the exit status and has the console's last lines.

mod channel;
mod check;
mod configuration;
mod conform;
mod device;
mod line;
mod out;
mod parameters;
mod prepare;
mod reports;
mod run;

use std::env;
use std::process::{self, ExitCode};
use std::sync::Arc;

use nix::sys::reboot::{RebootMode, reboot};
use tsmsim_abi::linux_guest::{CHANNEL, STATUS_NOT_PREPARED};

use channel::Channel;

fn main() -> ExitCode {
    if process::id() == 1 {
        first_process();
    }
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("check") => check::run(),
        Some("conform") => conform::run(arguments),
        Some("reports") => reports::run(arguments),
        _ => {
            eprintln!(
                "tsmsim's init program, the first process of a guest. Otherwise: check, conform [--slow] [--extend] [CHECK], \
                 or reports [COUNT]"
            );
            ExitCode::from(2)
        }
    }
}

/// What the kernel starts. It never returns: a kernel whose first process ends panics.
fn first_process() -> ! {
    let mounted = prepare::mount_all();
    let channel = Arc::new(Channel::open(CHANNEL));
    channel.hello();
    let status = match mounted.and_then(|()| prepare::configuration(&channel)) {
        Ok(configuration) => run::command(&channel, &configuration),
        Err(problem) => {
            channel.log(&problem);
            STATUS_NOT_PREPARED.into()
        }
    };
    out::send(&channel);
    channel.exit(status);
    nix::unistd::sync();
    match reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(error) => panic!("the machine cannot be restarted: {error}"),
    }
}
