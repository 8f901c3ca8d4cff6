//! Embeds what guests are made of, where the build names it (`cargo xtask build` does): the bare-metal test
//! guests, and the init programs of Linux guests.

use std::{env, fs, path::Path};

fn main() {
    embed("TSMSIM_GUEST_X86_64", "guest-x86_64.elf", "embedded_guest");
    embed("TSMSIM_GUEST_LINUX", "guest-linux.elf", "embedded_linux_init");
    embed("TSMSIM_GUEST_RISCV64", "guest-riscv64.elf", "embedded_guest_riscv64");
    embed("TSMSIM_GUEST_LINUX_RISCV64", "guest-linux-riscv64.elf", "embedded_linux_init_riscv64");
}

/// Copies the file that `variable` names to where the program includes it from, and says so with `flag`.
fn embed(variable: &str, name: &str, flag: &str) {
    println!("cargo::rerun-if-env-changed={variable}");
    println!("cargo::rustc-check-cfg=cfg({flag})");
    let Some(guest) = env::var_os(variable) else { return };
    println!("cargo::rerun-if-changed={}", guest.display());
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::copy(&guest, Path::new(&out).join(name))
        .unwrap_or_else(|error| panic!("{variable} names {}: {error}", guest.display()));
    println!("cargo::rustc-cfg={flag}");
}
