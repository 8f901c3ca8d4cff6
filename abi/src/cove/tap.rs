//! The TVM attestation payload (TAP) that `promote_to_tvm` takes for local attestation.
//!
//! The specification says what it does and not what it looks like; this format is ours: a [`TapHeader`], and the secret,
//! encrypted with AES-256-GCM under a key that only this TSM (the same binary on the same platform) derives from its CDI. The
//! header is the additional data, the nonce is in it, and the tag of 16 bytes follows the secret.

use zerocopy::little_endian::U32;

/// `magic`: ASCII `tsmsimTP`.
pub const TAP_MAGIC: [u8; 8] = *b"tsmsimTP";
/// `version`.
pub const TAP_VERSION: u32 = 1;
/// Bytes of the tag behind the secret.
pub const TAP_TAG_SIZE: usize = 16;

wire! {
    /// Head of a TAP.
    pub struct TapHeader {
        /// [`TAP_MAGIC`].
        pub magic: [u8; 8],
        /// [`TAP_VERSION`].
        pub version: U32,
        /// Bytes of the secret, at most a page.
        pub secret_size: U32,
        /// Nonce of AES-GCM.
        pub nonce: [u8; 12],
        /// Reserved, zero.
        pub reserved: U32,
        /// The measurement that the TVM must have: the registers of TVM pages and TVM configuration, one behind the other,
        /// hashed with SHA-512. The TAP's own bytes count as zeros in it, and are zeros in the TVM.
        pub measurement: [u8; 64],
    }
}
assert_layout!(TapHeader, 96, {
    magic: 0x0, version: 0x8, secret_size: 0xc, nonce: 0x10, reserved: 0x1c, measurement: 0x20,
});
