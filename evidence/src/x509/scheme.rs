//! The ways in which CoVE's certificates are signed, and the keys in them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA512_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};

use super::{
    PublicKey,
    algorithm::{EC_P384, algorithm_name},
    ecdsa::{EC_P256, ECDSA_SHA256},
};

/// `ecdsa-with-SHA512` (RFC 5758 section 3.2).
pub(super) const ECDSA_SHA512: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
/// `id-Ed25519` (RFC 8410 section 3), of keys and of signatures.
pub(super) const ID_ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// `id-X25519` (RFC 8410 section 3).
pub(super) const ID_X25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e];

/// How a certificate or list is signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignatureScheme {
    /// ECDSA on P-256 with SHA-256.
    EcdsaSha256,
    /// ECDSA on P-256 with SHA-512.
    EcdsaSha512,
    /// Ed25519.
    Ed25519,
}

impl SignatureScheme {
    /// `ecdsa-with-SHA256`, `ecdsa-with-SHA512`, `Ed25519`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaSha256 => "ecdsa-with-SHA256",
            Self::EcdsaSha512 => "ecdsa-with-SHA512",
            Self::Ed25519 => "Ed25519",
        }
    }

    const fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => ECDSA_SHA256,
            Self::EcdsaSha512 => ECDSA_SHA512,
            Self::Ed25519 => ID_ED25519,
        }
    }

    /// Checks both algorithm identifiers (DER) of a certificate or list: equal, and this scheme's.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(self, inner: &[u8], outer: &[u8]) -> Result<(), String> {
        if inner != self.identifier() {
            return Err(format!("{}, where {} is expected", algorithm_name(inner), self.name()));
        }
        if inner == outer {
            Ok(())
        } else {
            Err("the identifier outside the signed part differs from the one inside".to_owned())
        }
    }

    /// Checks a signature as it stands in a certificate or list.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(self, key: &KnownKey, message: &[u8], signature: &[u8]) -> Result<(), String> {
        let algorithm: &'static dyn VerificationAlgorithm = match (self, key) {
            (Self::EcdsaSha256, KnownKey::P256(_)) => &ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha512, KnownKey::P256(_)) => &ECDSA_P256_SHA512_ASN1,
            (Self::Ed25519, KnownKey::Ed25519(_)) => &ED25519,
            _ => {
                let (found, name) = (key.name(), self.name());
                return Err(format!("the issuer's key is of {found}, which does not sign by {name}"));
            }
        };
        UnparsedPublicKey::new(algorithm, key.bytes()).verify(message, signature).map_err(|_| {
            "does not verify: signed part or signature changed, or another key signed".to_owned()
        })
    }
}

/// A public key of the kinds that CoVE's certificates have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KnownKey {
    /// Ed25519: 32 bytes.
    Ed25519([u8; 32]),
    /// X25519: 32 bytes.
    X25519([u8; 32]),
    /// P-256: an uncompressed point, 65 bytes.
    P256([u8; 65]),
    /// P-384: an uncompressed point, 97 bytes.
    P384([u8; 97]),
}

impl KnownKey {
    /// Of a certificate.
    ///
    /// # Errors
    /// Why it is none of them.
    pub fn of(key: &PublicKey<'_>) -> Result<Self, String> {
        let read = match key.algorithm {
            ID_ED25519 => key.bits.try_into().ok().map(Self::Ed25519),
            ID_X25519 => key.bits.try_into().ok().map(Self::X25519),
            EC_P256 => key.bits.try_into().ok().filter(uncompressed).map(Self::P256),
            EC_P384 => key.bits.try_into().ok().filter(uncompressed).map(Self::P384),
            other => {
                return Err(format!(
                    "{}, where Ed25519, X25519, P-256 or P-384 is expected",
                    algorithm_name(other)
                ));
            }
        };
        read.ok_or_else(|| format!("not a key of {} in its usual form", algorithm_name(key.algorithm)))
    }

    /// `Ed25519`, `X25519`, `P-256`, `P-384`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "Ed25519",
            Self::X25519(_) => "X25519",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
        }
    }

    /// The key's bytes: 32, or the point.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) | Self::X25519(bytes) => bytes,
            Self::P256(point) => point,
            Self::P384(point) => point,
        }
    }
}

fn uncompressed<const N: usize>(point: &[u8; N]) -> bool {
    point.first() == Some(&4)
}
