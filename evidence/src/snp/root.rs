//! Whose root it is.

use crate::{
    Root,
    hex::hex,
    trust::carries_marker,
    x509::{Certificate, PublicKey},
};

/// An ARK of AMD's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VendorRoot {
    /// What a verdict calls it.
    pub name: &'static str,
    /// SHA-256 of its `SubjectPublicKeyInfo` (DER).
    pub public_key_sha256: [u8; 32],
}

/// AMD's roots. Read off the ARKs that go-sev-guest (`verify/trust`) and the `sev` crate (`src/certs/snp/builtin`) carry,
/// which agree; a test compares with `tests/vectors/genuine/snp`.
pub const VENDOR_ROOTS: [VendorRoot; 3] = [
    VendorRoot {
        name: "AMD ARK-Milan",
        public_key_sha256: [
            0x9f, 0x05, 0x6b, 0xee, 0x44, 0x37, 0x7e, 0x29, 0x30, 0x8c, 0xb5, 0xff, 0xa8, 0x95, 0xbd, 0xfb,
            0x62, 0xd1, 0x88, 0x81, 0xfa, 0x6b, 0xed, 0x8d, 0x6f, 0x07, 0x5b, 0x02, 0x04, 0x08, 0x9c, 0xb9,
        ],
    },
    VendorRoot {
        name: "AMD ARK-Genoa",
        public_key_sha256: [
            0x42, 0x9a, 0x69, 0xc9, 0x42, 0x2a, 0xa2, 0x58, 0xee, 0x4d, 0x8d, 0xb5, 0xfc, 0xda, 0x9c, 0x64,
            0x70, 0xef, 0x15, 0xf8, 0xcd, 0x5a, 0x9c, 0xeb, 0xd6, 0xcb, 0xc7, 0xd9, 0x0b, 0x86, 0x38, 0x31,
        ],
    },
    VendorRoot {
        name: "AMD ARK-Turin",
        public_key_sha256: [
            0x4f, 0x12, 0x54, 0x10, 0x56, 0x3a, 0x2a, 0xb9, 0xa5, 0x03, 0x56, 0xf9, 0x24, 0x3f, 0x6f, 0xe0,
            0xb6, 0xf7, 0x3d, 0xe9, 0x86, 0x03, 0xf5, 0x3f, 0x90, 0x33, 0x9c, 0x70, 0xe9, 0xd7, 0xad, 0x08,
        ],
    },
];

/// The vendor's root with this key.
pub(crate) fn vendor_root(key: &PublicKey<'_>) -> Option<&'static VendorRoot> {
    let fingerprint = key.fingerprint();
    VENDOR_ROOTS.iter().find(|root| root.public_key_sha256 == fingerprint)
}

/// Whose a root is whose signature over itself has been verified. The vendor's key is recognised first: nobody else can
/// have made a signature by it.
pub(super) fn recognise(ark: &Certificate<'_>, given: bool) -> Root {
    match vendor_root(&ark.public_key) {
        Some(root) => Root::Vendor(root.name),
        None if carries_marker(ark) => Root::Synthetic,
        None if given => Root::Given,
        None => Root::Unknown,
    }
}

/// For people who are to trust an unknown root, or not.
pub(super) fn describe(ark: &Certificate<'_>) -> String {
    format!("SHA-256 of its public key {}", hex(&ark.public_key.fingerprint()))
}
