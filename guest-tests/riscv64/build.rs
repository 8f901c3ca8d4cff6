//! Hands the linker script to the linker, for the bare-metal build only.

fn main() {
    println!("cargo::rerun-if-changed=guest.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{}/guest.ld", env!("CARGO_MANIFEST_DIR"));
    }
}
