//! A bare-metal guest that checks its host. As SEV-SNP guest: GHCB protocol, page states, guest messages, refusals. As TD:
//! TDCALL, page states, TDVMCALL, quotes, refusals.
//!
//! It boots as `tsmsim_abi::guest_test` says, goes to ring 3 (as TD it stays in ring 0, where alone TDCALL may be) and
//! prints Test Anything Protocol lines. Built for
//! `x86_64-unknown-none` it is that guest; built for any other target it is a program that only says so, so that the
//! whole workspace can be checked at once.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a guest: build it with --target x86_64-unknown-none and boot it under a VMM");
    std::process::exit(2);
}
