//! A bare-metal TVM that checks its TSM and its host: every COVG call, as it should be made and as it must not.
//!
//! It boots as `tsmsim_abi::guest_test::riscv64` says and prints Test Anything Protocol lines by the debug console. It uses no
//! control and status registers, so it runs wherever RV64IMAC does. Built for `riscv64imac-unknown-none-elf` it is that
//! guest; built for any other target it is a program that only says so, so that the whole workspace can be checked at once.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a guest: build it with --target riscv64imac-unknown-none-elf and boot it under a VMM");
    std::process::exit(2);
}
