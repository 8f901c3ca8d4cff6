//! The Intel-shaped hierarchy.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

mod determinism;
mod documents;
mod genuine;
mod overrides;
mod quote;
mod statuses;
mod verifiers;

use tsmsim_keys::Seed;
use tsmsim_keys::intel::PlatformIdentity;

/// `TEE_TCB_SVN` of a platform with TDX 1.5: module's SVN and major version, microcode.
const TEE_TCB_SVN: [u8; 16] = [5, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn platform() -> PlatformIdentity {
    PlatformIdentity::synthetic(&Seed::DEFAULT, 0)
}

/// The same platform, certified by the processor CA.
fn single_package() -> PlatformIdentity {
    PlatformIdentity { multi_package: None, ..platform() }
}
