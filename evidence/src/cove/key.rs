//! Public keys as COSE_Key (RFC 9052 section 7), and the identifiers of layers.

use aws_lc_rs::{
    hkdf::{HKDF_SHA512, KeyType, Salt},
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm},
};
use tsmsim_abi::cove::{
    claims::CDI_ID_SIZE,
    cose::{CoseAlgorithm, CoseCurve, KEY_CRV, KEY_KTY, KEY_X, KEY_Y, KTY_EC2, KTY_OKP},
};

use super::cbor::{self, Claims};
use crate::x509::{KnownKey, Malformed, SignatureScheme};

/// COSE_Key parameter `alg`, RFC 9052 section 7.1.
const KEY_ALG: i64 = 3;
/// COSE_Key parameter `d` of private keys, RFC 9053 section 7.
const KEY_D: i64 = -4;

/// Reads a layer's key: exactly the parameters of its kind, with the algorithm that it signs by.
pub(super) fn read_layer_key(bytes: &[u8], part: &'static str) -> Result<KnownKey, Malformed> {
    let mut claims = Claims::read(cbor::read(bytes, part)?, part)?;
    let algorithm = CoseAlgorithm(cbor::integer(&claims.need(KEY_ALG, part)?, part)?);
    let key = read_parameters(&mut claims, part)?;
    claims.end()?;
    if algorithm_of(&key) != Some(algorithm) {
        return Err(Malformed::new(
            part,
            format!("algorithm {} with a key of {}", algorithm_name(algorithm), key.name()),
        ));
    }
    Ok(key)
}

/// Reads a key that a TVM gave: any encoding, any further parameters, but a public key.
pub(super) fn read_tvm_key(bytes: &[u8], part: &'static str) -> Result<KnownKey, Malformed> {
    let mut claims = Claims::read(cbor::read_any(bytes, part)?, part)?;
    if claims.take(KEY_D).is_some() {
        return Err(Malformed::new(part, "a private key"));
    }
    read_parameters(&mut claims, part)
}

fn read_parameters(claims: &mut Claims, part: &'static str) -> Result<KnownKey, Malformed> {
    let kty = cbor::integer(&claims.need(KEY_KTY, part)?, part)?;
    let curve = CoseCurve(cbor::integer(&claims.need(KEY_CRV, part)?, part)?);
    let x = claims.need(KEY_X, part)?;
    match (kty, curve) {
        (KTY_OKP, CoseCurve::ED25519) => Ok(KnownKey::Ed25519(cbor::sized(x, part)?)),
        (KTY_OKP, CoseCurve::X25519) => Ok(KnownKey::X25519(cbor::sized(x, part)?)),
        (KTY_EC2, CoseCurve::P256) => point::<32, 65>(claims, x, part).map(KnownKey::P256),
        (KTY_EC2, CoseCurve::P384) => point::<48, 97>(claims, x, part).map(KnownKey::P384),
        _ => Err(Malformed::new(part, format!("type {kty} with curve {} is not known here", curve.0))),
    }
}

fn point<const HALF: usize, const SIZE: usize>(
    claims: &mut Claims,
    x: ciborium::Value,
    part: &'static str,
) -> Result<[u8; SIZE], Malformed> {
    let x: [u8; HALF] = cbor::sized(x, part)?;
    let y: [u8; HALF] = cbor::sized(claims.need(KEY_Y, part)?, part)?;
    let point = [&[4][..], &x, &y].concat();
    point.try_into().map_err(|_| Malformed::new(part, "not a point"))
}

/// The algorithm of tokens that a key signs.
pub(super) const fn algorithm_of(key: &KnownKey) -> Option<CoseAlgorithm> {
    match key {
        KnownKey::Ed25519(_) => Some(CoseAlgorithm::EDDSA),
        KnownKey::P256(_) => Some(CoseAlgorithm::ES256),
        KnownKey::X25519(_) | KnownKey::P384(_) => None,
    }
}

/// As COSE names it, or the number.
pub(super) fn algorithm_name(algorithm: CoseAlgorithm) -> String {
    algorithm.name().map_or_else(|| algorithm.0.to_string(), str::to_owned)
}

/// The way in which a key of a layer signs certificates.
pub(super) const fn scheme_of(key: &KnownKey) -> Option<SignatureScheme> {
    match key {
        KnownKey::Ed25519(_) => Some(SignatureScheme::Ed25519),
        KnownKey::P256(_) => Some(SignatureScheme::EcdsaSha512),
        KnownKey::X25519(_) | KnownKey::P384(_) => None,
    }
}

/// Checks a token's signature: 64 bytes.
pub(super) fn verify(
    key: &KnownKey,
    algorithm: CoseAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let verifier: &'static dyn VerificationAlgorithm = match (key, algorithm) {
        (KnownKey::Ed25519(_), CoseAlgorithm::EDDSA) => &ED25519,
        (KnownKey::P256(_), CoseAlgorithm::ES256) => &ECDSA_P256_SHA256_FIXED,
        _ => return Err(format!("a key of {} does not sign by {}", key.name(), algorithm_name(algorithm))),
    };
    if signature.len() != 64 {
        return Err(format!("{} bytes, where 64 are expected", signature.len()));
    }
    UnparsedPublicKey::new(verifier, key.bytes())
        .verify(message, signature)
        .map_err(|_| "does not verify: signed part or signature changed, or another key signed".to_owned())
}

/// The identifier of a layer, from its public key.
pub(super) type CdiId = [u8; CDI_ID_SIZE];

struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        CDI_ID_SIZE
    }
}

/// `CDI_ID`: HKDF-SHA-512 without salt over the key's bytes, info `CoVE CDI_ID`, 20 bytes; the first bit cleared, the eighth set.
pub(super) fn cdi_id(key: &KnownKey) -> CdiId {
    let mut id = [0; CDI_ID_SIZE];
    let secret = Salt::new(HKDF_SHA512, &[]).extract(key.bytes());
    // Twenty bytes are fewer than what RFC 5869 section 2.3 allows, so neither step can fail.
    let filled = secret.expand(&[b"CoVE CDI_ID"], IdLength).and_then(|expanded| expanded.fill(&mut id));
    debug_assert!(filled.is_ok(), "RFC 5869 section 2.3 allows 255 times the length of the hash");
    if let Some(first) = id.first_mut() {
        *first = *first & 0x7f | 1;
    }
    id
}
