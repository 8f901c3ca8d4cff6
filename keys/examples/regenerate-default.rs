//! Writes anew what is committed for the default seed: `cargo run --release -p tsmsim-keys --example regenerate-default`.
//!
//! An argument names another directory than `keys/default`.

use std::path::PathBuf;

fn main() -> Result<(), tsmsim_keys::KeysError> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("default");
    let directory = std::env::args_os().nth(1).map_or_else(default, PathBuf::from);
    tsmsim_keys::amd::regenerate_default(&directory)
}
