//! Where the repository is.

use std::path::{Path, PathBuf};

/// The root of the workspace.
///
/// # Panics
/// If this crate was moved out of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).expect("this crate is a directory of the workspace")
}

/// The committed test vectors; `PROVENANCE.md` in it says where each comes from.
#[must_use]
pub fn vectors() -> PathBuf {
    root().join("tests/vectors")
}
