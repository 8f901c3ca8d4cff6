//! P-384 keys from a seed, and the two ways to sign with them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use der::{Decode, SecretDocument};
use p384::SecretKey;
use p384::ecdsa::signature::Signer;
use p384::elliptic_curve::sec1::ToSec1Point;
use p384::pkcs8::{EncodePrivateKey, EncodePublicKey};
use spki::SubjectPublicKeyInfoOwned;

use crate::{KeysError, Seed};

/// How a report is signed. Both give plain ECDSA with SHA-384 that any verifier accepts.
///
/// The modes are two because they cost and give different things. Measured on one machine, per signature: aws-lc-rs 62 µs,
/// the p384 crate 146 µs, a ratio of 2.4. The fast library offers no deterministic nonces, and hardware draws random ones
/// anyhow; the other makes evidence reproducible byte for byte, which golden vectors need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SignatureMode {
    /// A fresh random nonce per signature, as hardware does: aws-lc-rs.
    #[default]
    Randomized,
    /// The nonce of RFC 6979, so the same key and message give the same signature: the p384 crate.
    Deterministic,
}

/// An ECDSA P-384 signature: the two scalars, each 48 bytes, big-endian. (Reports carry them little-endian in 72 bytes each.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawSignature {
    /// `r`.
    pub r: [u8; 48],
    /// `s`.
    pub s: [u8; 48],
}

impl RawSignature {
    /// From `r` and `s` one after the other, 96 bytes.
    fn from_fixed(bytes: &[u8]) -> Option<Self> {
        let (r, s) = bytes.split_at_checked(48)?;
        Some(Self { r: r.try_into().ok()?, s: s.try_into().ok()? })
    }

    /// `r` and `s` one after the other.
    #[must_use]
    pub fn to_fixed(self) -> [u8; 96] {
        let mut bytes = [0; 96];
        bytes[..48].copy_from_slice(&self.r);
        bytes[48..].copy_from_slice(&self.s);
        bytes
    }
}

/// A P-384 private key, ready to sign in either mode. Wiped when dropped; never printed.
pub struct EcdsaP384Key {
    secret: SecretKey,
    deterministic: p384::ecdsa::SigningKey,
    randomized: EcdsaKeyPair,
}

impl EcdsaP384Key {
    /// The key for a label: the first candidate in `1..n` among 48-byte values derived for the label and a counter
    /// (FIPS 186-5 appendix A.2.2, with the seed as the source). A second candidate is needed once in about 2^190 keys.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn generate(seed: &Seed, label: &[&[u8]]) -> Result<Self, KeysError> {
        let secret = (0..=u8::MAX)
            .find_map(|n| {
                let candidate = seed.derive::<48>(&[label, &[&[n]]].concat());
                SecretKey::from_slice(candidate.expose()).ok()
            })
            .ok_or(KeysError::Ecdsa("p384"))?;
        let public = secret.public_key().to_sec1_point(false);
        let scalar = zeroize::Zeroizing::new(secret.to_bytes());
        let randomized = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P384_SHA384_FIXED_SIGNING,
            &scalar,
            public.as_bytes(),
        )
        .map_err(|_| KeysError::Ecdsa("aws-lc-rs"))?;
        let deterministic = p384::ecdsa::SigningKey::from(&secret);
        Ok(Self { secret, deterministic, randomized })
    }

    /// Signs the SHA-384 digest of a message.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library fails, for want of randomness for example.
    pub fn sign(&self, mode: SignatureMode, message: &[u8]) -> Result<RawSignature, KeysError> {
        match mode {
            SignatureMode::Randomized => {
                let failed = KeysError::Ecdsa("aws-lc-rs");
                let Ok(signature) = self.randomized.sign(&SystemRandom::new(), message) else {
                    return Err(failed);
                };
                RawSignature::from_fixed(signature.as_ref()).ok_or(failed)
            }
            SignatureMode::Deterministic => {
                let failed = KeysError::Ecdsa("p384");
                let signature: Result<p384::ecdsa::Signature, _> = self.deterministic.try_sign(message);
                let Ok(signature) = signature else { return Err(failed) };
                RawSignature::from_fixed(&signature.to_bytes()).ok_or(failed)
            }
        }
    }

    /// The public key, algorithm id-ecPublicKey on secp384r1, the point uncompressed.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn public_key(&self) -> Result<SubjectPublicKeyInfoOwned, KeysError> {
        let document = self.secret.public_key().to_public_key_der();
        let document = document.map_err(|_| KeysError::KeyEncoding("P-384 public key"))?;
        Ok(SubjectPublicKeyInfoOwned::from_der(document.as_bytes())?)
    }

    /// The private key as PKCS #8 DER.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn to_pkcs8_der(&self) -> Result<SecretDocument, KeysError> {
        self.secret.to_pkcs8_der().map_err(|_| KeysError::KeyEncoding("PKCS #8 P-384 key"))
    }
}
