//! Whose root it is.

use crate::{
    Root,
    hex::hex,
    trust::carries_marker,
    x509::{Certificate, PublicKey},
};

/// What a verdict calls Intel's root.
pub const VENDOR_ROOT_NAME: &str = "Intel SGX Root CA";

/// SHA-256 of the `SubjectPublicKeyInfo` (DER) of Intel's root. Read off the chains of genuine quotes; a test compares.
pub const VENDOR_ROOT_SHA256: [u8; 32] = [
    0xa0, 0xaf, 0x03, 0x12, 0x89, 0xf5, 0xd5, 0xd4, 0x13, 0x2f, 0x91, 0x86, 0x06, 0x8a, 0x7f, 0xc1, 0x36,
    0x28, 0x63, 0x3b, 0xa2, 0x35, 0x77, 0x74, 0x72, 0xe2, 0x9b, 0x6b, 0x6c, 0x67, 0xa4, 0x9e,
];

/// The name of Intel's root, if this is its key.
pub(crate) fn vendor_name(key: &PublicKey<'_>) -> Option<&'static str> {
    (key.fingerprint() == VENDOR_ROOT_SHA256).then_some(VENDOR_ROOT_NAME)
}

/// Whose a root is whose signature over itself has been verified. The vendor's key is recognised first: nobody else can
/// have made a signature by it.
pub(super) fn recognise(root: &Certificate<'_>, given: bool) -> Root {
    match vendor_name(&root.public_key) {
        Some(name) => Root::Vendor(name),
        None if carries_marker(root) => Root::Synthetic,
        None if given => Root::Given,
        None => Root::Unknown,
    }
}

/// For people who are to trust an unknown root, or not.
pub(super) fn describe(root: &Certificate<'_>) -> String {
    format!("SHA-256 of its public key {}", hex(&root.public_key.fingerprint()))
}
