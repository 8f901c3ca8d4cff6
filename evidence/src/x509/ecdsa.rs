//! ECDSA on P-256 with SHA-256, the one way in which Intel's certificates are signed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm,
};

use super::{PublicKey, algorithm::algorithm_name};

/// `ecdsa-with-SHA256` (RFC 5758 section 3.2).
pub(super) const ECDSA_SHA256: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `id-ecPublicKey` on `secp256r1` (RFC 5480 section 2.1.1).
pub(super) const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];

/// Checks both algorithm identifiers (DER) of a certificate or list: equal, and ECDSA with SHA-256.
///
/// # Errors
/// What is wrong with them.
pub fn check_ecdsa_sha256(inner: &[u8], outer: &[u8]) -> Result<(), String> {
    if inner != ECDSA_SHA256 {
        return Err(format!("{}, where ecdsa-with-SHA256 is expected", algorithm_name(inner)));
    }
    if inner == outer {
        Ok(())
    } else {
        Err("the identifier outside the signed part differs from the one inside".to_owned())
    }
}

/// The uncompressed point (65 bytes: `04`, X, Y, big-endian) of a key on P-256.
///
/// # Errors
/// Why it is not one.
pub fn p256_point<'a>(key: &PublicKey<'a>) -> Result<&'a [u8; 65], String> {
    if key.algorithm != EC_P256 {
        return Err(format!("{}, where a key on P-256 is expected", algorithm_name(key.algorithm)));
    }
    match <&[u8; 65]>::try_from(key.bits) {
        Ok(point) if point[0] == 4 => Ok(point),
        _ => Err("not an uncompressed point on P-256".to_owned()),
    }
}

/// Checks a signature in a certificate or list: DER, a SEQUENCE of R and S.
///
/// # Errors
/// Why it is refused.
pub fn verify_ecdsa_p256(key: &PublicKey<'_>, message: &[u8], signature: &[u8]) -> Result<(), String> {
    let point = p256_point(key).map_err(|why| format!("the issuer's key: {why}"))?;
    verify(&ECDSA_P256_SHA256_ASN1, point, message, signature)
}

/// Checks a signature of 64 bytes, R and S, big-endian, by an uncompressed point.
///
/// # Errors
/// Why it is refused.
pub fn verify_ecdsa_p256_fixed(point: &[u8; 65], message: &[u8], signature: &[u8]) -> Result<(), String> {
    if signature.len() != 64 {
        return Err(format!("{} bytes, where 64 are expected", signature.len()));
    }
    verify(&ECDSA_P256_SHA256_FIXED, point, message, signature)
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    point: &[u8; 65],
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    UnparsedPublicKey::new(algorithm, point)
        .verify(message, signature)
        .map_err(|_| "does not verify: signed part or signature changed, or another key signed".to_owned())
}
