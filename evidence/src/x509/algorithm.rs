//! Algorithm identifiers, public keys, and the one way in which AMD's certificates are signed.

use aws_lc_rs::{
    digest,
    signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey},
};
use der::{
    Tag,
    asn1::{BitStringRef, UintRef},
};

use super::{
    ecdsa, scheme,
    walk::{Element, Malformed, Walk},
};

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt of 48 bytes, trailer field left out as the default (RFC 4055).
const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f,
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c,
    0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
];
/// The same with the trailer field written although it is the default, as in most of AMD's certificates.
const PSS_SHA384_TRAILER: &[u8] = &[
    0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f,
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c,
    0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3,
    0x03, 0x02, 0x01, 0x01,
];
/// `rsaEncryption` with NULL parameters.
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey` on `secp384r1`.
pub(super) const EC_P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22,
];

/// Why the algorithm identifiers of a certificate or list are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureAlgorithmFault {
    /// The identifier outside the signed part is not the one inside.
    #[error("the identifier outside the signed part differs from the one inside")]
    Differ,
    /// Another algorithm or other parameters.
    #[error("not RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes")]
    Other,
}

impl SignatureAlgorithmFault {
    /// Checks both identifiers (DER): equal, and RSASSA-PSS as AMD uses it.
    ///
    /// # Errors
    /// The fault.
    pub fn check(inner: &[u8], outer: &[u8]) -> Result<(), Self> {
        if inner != PSS_SHA384 && inner != PSS_SHA384_TRAILER {
            return Err(Self::Other);
        }
        if inner == outer { Ok(()) } else { Err(Self::Differ) }
    }
}

/// The text for an algorithm identifier (DER): its usual name, or else its OID.
pub(super) fn algorithm_name(encoding: &[u8]) -> String {
    match encoding {
        _ if encoding == PSS_SHA384 => {
            return "RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48, trailer field by default".to_owned();
        }
        _ if encoding == PSS_SHA384_TRAILER => "RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48, trailer field 1",
        _ if encoding == RSA_ENCRYPTION => "rsaEncryption",
        _ if encoding == ecdsa::ECDSA_SHA256 => "ecdsa-with-SHA256",
        _ if encoding == ecdsa::EC_P256 => "id-ecPublicKey, secp256r1",
        _ if encoding == EC_P384 => "id-ecPublicKey, secp384r1",
        _ if encoding == scheme::ECDSA_SHA512 => "ecdsa-with-SHA512",
        _ if encoding == scheme::ID_ED25519 => "Ed25519",
        _ if encoding == scheme::ID_X25519 => "X25519",
        _ => return algorithm_oid(encoding).unwrap_or_default(),
    }
    .to_owned()
}

fn algorithm_oid(encoding: &[u8]) -> Option<String> {
    let sequence = Walk::only(encoding, Tag::Sequence, "algorithm").ok()?;
    let oid = sequence.walk().ok()?.expect(Tag::ObjectIdentifier, "algorithm").ok()?;
    oid.decode::<der::asn1::ObjectIdentifier>().ok().map(|oid| oid.to_string())
}

/// `SubjectPublicKeyInfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey<'a> {
    /// DER.
    pub encoding: &'a [u8],
    /// The algorithm identifier, DER.
    pub algorithm: &'a [u8],
    /// The key.
    pub bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    pub(super) fn read(element: Element<'a>) -> Result<Self, Malformed> {
        let mut fields = element.walk()?;
        let algorithm =
            fields.expect(Tag::Sequence, "tbsCertificate.subjectPublicKeyInfo.algorithm")?.encoding;
        let key = fields.expect(Tag::BitString, "tbsCertificate.subjectPublicKeyInfo.subjectPublicKey")?;
        fields.end()?;
        Ok(Self { encoding: element.encoding, algorithm, bits: octets(key)? })
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, self.encoding).as_ref());
        out
    }

    /// Modulus and public exponent of an RSA key, big-endian without leading zeros.
    ///
    /// # Errors
    /// Why it is not an RSA key.
    pub fn rsa(&self) -> Result<(&'a [u8], &'a [u8]), String> {
        if self.algorithm != RSA_ENCRYPTION {
            return Err(format!("{}, where rsaEncryption is expected", algorithm_name(self.algorithm)));
        }
        let part = "subjectPublicKey";
        let read = || -> Result<_, Malformed> {
            let mut fields = Walk::only(self.bits, Tag::Sequence, part)?.walk()?;
            let modulus: UintRef<'a> = fields.expect(Tag::Integer, part)?.decode()?;
            let exponent: UintRef<'a> = fields.expect(Tag::Integer, part)?.decode()?;
            fields.end()?;
            Ok((modulus.as_bytes(), exponent.as_bytes()))
        };
        read().map_err(|malformed| malformed.why)
    }

    /// Whether it is RSA with 4096 bits and exponent 65537.
    ///
    /// # Errors
    /// Why not.
    pub fn check_rsa_4096(&self) -> Result<(), String> {
        let (modulus, exponent) = self.rsa()?;
        let bits = match modulus.first() {
            Some(first) => modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize),
            None => 0,
        };
        if bits != 4096 {
            return Err(format!("RSA of {bits} bits, where 4096 are expected"));
        }
        if exponent != [1, 0, 1] {
            return Err("the public exponent is not 65537".to_owned());
        }
        Ok(())
    }

    /// The uncompressed point (97 bytes, `04`, X, Y, big-endian) of a key on P-384.
    ///
    /// # Errors
    /// Why it is not one.
    pub fn p384(&self) -> Result<&'a [u8; 97], String> {
        if self.algorithm != EC_P384 {
            return Err(format!("{}, where a key on P-384 is expected", algorithm_name(self.algorithm)));
        }
        match <&[u8; 97]>::try_from(self.bits) {
            Ok(point) if point[0] == 4 => Ok(point),
            _ => Err("not an uncompressed point on P-384".to_owned()),
        }
    }
}

/// The octets of a BIT STRING that has no unused bits.
pub(super) fn octets(element: Element<'_>) -> Result<&[u8], Malformed> {
    let bits: BitStringRef<'_> = element.decode()?;
    bits.as_bytes().ok_or_else(|| element.malformed("has unused bits"))
}

/// Checks an RSASSA-PSS signature (SHA-384, MGF1 SHA-384, salt of 48 bytes) by a key that has passed
/// [`PublicKey::check_rsa_4096`].
///
/// # Errors
/// Why it is refused.
pub fn verify_pss_sha384(key: &PublicKey<'_>, message: &[u8], signature: &[u8]) -> Result<(), String> {
    key.check_rsa_4096().map_err(|why| format!("the issuer's key: {why}"))?;
    if signature.len() != 512 {
        return Err(format!("{} bytes, where 512 are expected", signature.len()));
    }
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key.bits).verify(message, signature).map_err(|_| {
        "does not verify with the issuer's key: signed part or signature changed, or another key signed"
            .to_owned()
    })
}
