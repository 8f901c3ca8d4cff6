//! Whether this machine is a genuine confidential guest.

use std::path::{Path, PathBuf};

/// What only a genuine confidential guest has.
const SIGNS: [&str; 4] = ["dev/sev-guest", "dev/tdx_guest", "dev/tdx-guest", "sys/kernel/config/tsm"];

/// The first sign of a genuine TEE below a directory that holds `dev` and `sys`.
///
/// The device nodes are made by the guests' drivers, and the directory by the kernel's `tsm` module, which those drivers
/// pull in. CPUID would not say more: it tells of the processor, not of a guest that can be attested.
#[must_use]
pub fn find_real_tee(root: &Path) -> Option<PathBuf> {
    SIGNS.iter().map(|sign| root.join(sign)).find(|path| path.symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("dev/sev-guest")]
    #[case("dev/tdx_guest")]
    #[case("sys/kernel/config/tsm")]
    fn any_sign_is_found(#[case] sign: &str) {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(find_real_tee(root.path()), None);
        std::fs::create_dir_all(root.path().join(sign)).expect("a sign");
        assert_eq!(find_real_tee(root.path()), Some(root.path().join(sign)));
    }
}
