//! Numbers in evidence that other specifications give: CBOR tags, COSE (RFC 9052, RFC 9053), object identifiers.

/// CBOR tag of `COSE_Sign1`, RFC 9052 section 4.2.
pub const TAG_COSE_SIGN1: u64 = 18;
/// CBOR tag of a CWT, RFC 8392 section 6.
pub const TAG_CWT: u64 = 61;
/// CBOR tag of a UCCS, RFC 9781 section 2.
pub const TAG_UCCS: u64 = 601;

/// Header parameter `alg`, RFC 9052 section 3.1.
pub const HEADER_ALG: i64 = 1;
/// Header parameter `kid`, RFC 9052 section 3.1.
pub const HEADER_KID: i64 = 4;

open_codes! {
    /// COSE algorithms, RFC 9053 section 2.
    pub struct CoseAlgorithm(i64);
    /// EdDSA: here always with Ed25519.
    EDDSA = -8;
    /// ECDSA with SHA-256: here always on P-256; `r` and `s`, 32 bytes each, big-endian.
    ES256 = -7;
}

/// COSE_Key parameter `kty`, RFC 9052 section 7.1.
pub const KEY_KTY: i64 = 1;
/// COSE_Key parameter `crv`, RFC 9053 section 7.
pub const KEY_CRV: i64 = -1;
/// COSE_Key parameter `x`, RFC 9053 section 7.
pub const KEY_X: i64 = -2;
/// COSE_Key parameter `y`, RFC 9053 section 7.1.1.
pub const KEY_Y: i64 = -3;
/// `kty` of an octet key pair, RFC 9053 section 7.2.
pub const KTY_OKP: i64 = 1;
/// `kty` of an elliptic curve key with two coordinates, RFC 9053 section 7.1.
pub const KTY_EC2: i64 = 2;

open_codes! {
    /// COSE elliptic curves, RFC 9053 section 7.1.
    pub struct CoseCurve(i64);
    /// NIST P-256, EC2.
    P256 = 1;
    /// NIST P-384, EC2.
    P384 = 2;
    /// X25519, OKP.
    X25519 = 4;
    /// Ed25519, OKP.
    ED25519 = 6;
}

/// The extension that carries a UCCS: `tcg-dice-UCCS-evidence` (TCG DICE Attestation Architecture 1.1).
pub const OID_UCCS_EVIDENCE: &str = "2.23.133.5.4.6";
/// `ecdsa-with-SHA512`, RFC 5758 section 3.2.
pub const OID_ECDSA_WITH_SHA512: &str = "1.2.840.10045.4.3.4";
/// `id-Ed25519`, RFC 8410 section 3.
pub const OID_ED25519: &str = "1.3.101.112";
/// Attribute `serialNumber`, RFC 4519 section 2.31: CDI identifiers in names.
pub const OID_SERIAL_NUMBER: &str = "2.5.4.5";
