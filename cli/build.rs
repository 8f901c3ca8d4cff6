//! Embeds the bare-metal test guest where the build names one (`cargo xtask build` does).

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-env-changed=TSMSIM_GUEST_X86_64");
    println!("cargo::rustc-check-cfg=cfg(embedded_guest)");
    let Some(guest) = env::var_os("TSMSIM_GUEST_X86_64") else { return };
    println!("cargo::rerun-if-changed={}", guest.display());
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::copy(&guest, Path::new(&out).join("guest-x86_64.elf"))
        .unwrap_or_else(|error| panic!("TSMSIM_GUEST_X86_64 names {}: {error}", guest.display()));
    println!("cargo::rustc-cfg=embedded_guest");
}
