//! P-256 and P-384 keys from a seed, and the two ways to sign with them.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use const_oid::db::rfc5912::{ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384};
use der::asn1::{ObjectIdentifier, Uint};
use der::{Decode, Encode, SecretDocument, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use zeroize::Zeroizing;

use crate::certificate::CertificateSigner;
use crate::{KeysError, Seed};

/// How evidence is signed. Both give plain ECDSA, with SHA-256 on P-256 and SHA-384 on P-384, that any verifier accepts.
///
/// The modes are two because they cost and give different things. Measured on one machine, per P-384 signature: aws-lc-rs
/// 62 µs, the p384 crate 146 µs, a ratio of 2.4. The fast library offers no deterministic nonces, and hardware draws random
/// ones anyhow; the other makes evidence reproducible byte for byte, which golden vectors need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SignatureMode {
    /// A fresh random nonce per signature, as hardware does: aws-lc-rs.
    #[default]
    Randomized,
    /// The nonce of RFC 6979, so the same key and message give the same signature: the p256 or p384 crate.
    Deterministic,
}

/// An ECDSA signature: the two scalars, each of the curve's length, big-endian. The length is that of P-384 unless said
/// otherwise. (SNP reports carry them little-endian in 72 bytes each, SGX quotes big-endian as here.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawSignature<const N: usize = 48> {
    /// `r`.
    pub r: [u8; N],
    /// `s`.
    pub s: [u8; N],
}

impl<const N: usize> RawSignature<N> {
    /// From `r` and `s` one after the other.
    fn from_fixed(bytes: &[u8]) -> Option<Self> {
        let (r, s) = bytes.split_at_checked(N)?;
        Some(Self { r: r.try_into().ok()?, s: s.try_into().ok()? })
    }

    /// `Ecdsa-Sig-Value`, RFC 3279 section 2.2.3: the form in certificates.
    fn to_der(self) -> Result<Vec<u8>, KeysError> {
        #[derive(Sequence)]
        struct EcdsaSigValue {
            r: Uint,
            s: Uint,
        }
        Ok(EcdsaSigValue { r: Uint::new(&self.r)?, s: Uint::new(&self.s)? }.to_der()?)
    }
}

macro_rules! fixed {
    ($scalar:literal, $both:literal) => {
        impl RawSignature<$scalar> {
            /// `r` and `s` one after the other.
            #[must_use]
            pub fn to_fixed(self) -> [u8; $both] {
                let mut bytes = [0; $both];
                bytes[..$scalar].copy_from_slice(&self.r);
                bytes[$scalar..].copy_from_slice(&self.s);
                bytes
            }
        }
    };
}

fixed!(32, 64);
fixed!(48, 96);

mod sealed {
    pub trait Sealed {}
}

/// A curve and the hash that goes with it, in both libraries; `N` is the length of a scalar. Only [`P256`] and [`P384`].
pub trait Curve<const N: usize>: sealed::Sealed + Sized + 'static {
    /// The private scalar in the deterministic library.
    type Secret: Send + Sync;
    /// The same, ready to sign.
    type Signing: Send + Sync;
    /// The deterministic library's name, for errors.
    const LIBRARY: &'static str;
    /// The algorithm of signatures in certificates.
    const SIGNATURE: ObjectIdentifier;
    /// Curve and hash in the randomizing library.
    const RANDOMIZED: &'static EcdsaSigningAlgorithm;

    /// The scalar, unless it is zero or not below the order.
    fn secret(scalar: &[u8; N]) -> Option<Self::Secret>;
    /// A scalar made ready to sign.
    fn signing(secret: &Self::Secret) -> Self::Signing;
    /// The scalar, big-endian.
    fn scalar(secret: &Self::Secret) -> Zeroizing<Vec<u8>>;
    /// The public point, uncompressed (SEC 1 section 2.3.3).
    fn point(secret: &Self::Secret) -> Vec<u8>;
    /// `r` and `s` of a signature with the nonce of RFC 6979.
    fn sign(signing: &Self::Signing, message: &[u8]) -> Option<Vec<u8>>;
    /// The public key as `SubjectPublicKeyInfo`, DER.
    fn public_key_der(secret: &Self::Secret) -> Option<Vec<u8>>;
    /// The private key as PKCS #8, DER.
    fn pkcs8_der(secret: &Self::Secret) -> Option<SecretDocument>;
}

macro_rules! curve {
    ($(#[$doc:meta])* $name:ident, $library:ident, $scalar:literal, $signature:ident, $randomized:ident) => {
        $(#[$doc])*
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Curve<$scalar> for $name {
            type Secret = $library::SecretKey;
            type Signing = $library::ecdsa::SigningKey;
            const LIBRARY: &'static str = stringify!($library);
            const SIGNATURE: ObjectIdentifier = $signature;
            const RANDOMIZED: &'static EcdsaSigningAlgorithm = &$randomized;

            fn secret(scalar: &[u8; $scalar]) -> Option<Self::Secret> {
                $library::SecretKey::from_slice(scalar).ok()
            }

            fn signing(secret: &Self::Secret) -> Self::Signing {
                $library::ecdsa::SigningKey::from(secret)
            }

            fn scalar(secret: &Self::Secret) -> Zeroizing<Vec<u8>> {
                Zeroizing::new(Zeroizing::new(secret.to_bytes()).to_vec())
            }

            fn point(secret: &Self::Secret) -> Vec<u8> {
                use $library::elliptic_curve::sec1::ToSec1Point;
                secret.public_key().to_sec1_point(false).as_bytes().to_vec()
            }

            fn sign(signing: &Self::Signing, message: &[u8]) -> Option<Vec<u8>> {
                use $library::ecdsa::signature::Signer;
                let signature: $library::ecdsa::Signature = signing.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }

            fn public_key_der(secret: &Self::Secret) -> Option<Vec<u8>> {
                use $library::pkcs8::EncodePublicKey;
                Some(secret.public_key().to_public_key_der().ok()?.into_vec())
            }

            fn pkcs8_der(secret: &Self::Secret) -> Option<SecretDocument> {
                use $library::pkcs8::EncodePrivateKey;
                secret.to_pkcs8_der().ok()
            }
        }
    };
}

curve!(
    /// The curve secp256r1 with SHA-256: Intel's.
    P256, p256, 32, ECDSA_WITH_SHA_256, ECDSA_P256_SHA256_FIXED_SIGNING
);
curve!(
    /// The curve secp384r1 with SHA-384: AMD's.
    P384, p384, 48, ECDSA_WITH_SHA_384, ECDSA_P384_SHA384_FIXED_SIGNING
);

/// A private key on a curve, ready to sign in either mode. Wiped when dropped; never printed.
pub struct EcdsaKey<C: Curve<N>, const N: usize> {
    secret: C::Secret,
    deterministic: C::Signing,
    randomized: EcdsaKeyPair,
}

/// A P-256 private key: SHA-256, scalars of 32 bytes.
pub type EcdsaP256Key = EcdsaKey<P256, 32>;
/// A P-384 private key: SHA-384, scalars of 48 bytes.
pub type EcdsaP384Key = EcdsaKey<P384, 48>;

impl<C: Curve<N>, const N: usize> EcdsaKey<C, N> {
    /// The key for a label: the first candidate in `1..n` among values of a scalar's length derived for the label and a
    /// counter (FIPS 186-5 appendix A.2.2, with the seed as the source). A second candidate is needed once in about 2^190
    /// keys on P-384 and 2^32 on P-256.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn generate(seed: &Seed, label: &[&[u8]]) -> Result<Self, KeysError> {
        let secret = (0..=u8::MAX)
            .find_map(|n| C::secret(seed.derive::<N>(&[label, &[&[n]]].concat()).expose()))
            .ok_or(KeysError::Ecdsa(C::LIBRARY))?;
        let randomized = EcdsaKeyPair::from_private_key_and_public_key(
            C::RANDOMIZED,
            &C::scalar(&secret),
            &C::point(&secret),
        )
        .map_err(|_| KeysError::Ecdsa("aws-lc-rs"))?;
        Ok(Self { deterministic: C::signing(&secret), secret, randomized })
    }

    /// Signs the digest of a message.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library fails, for want of randomness for example.
    pub fn sign(&self, mode: SignatureMode, message: &[u8]) -> Result<RawSignature<N>, KeysError> {
        match mode {
            SignatureMode::Randomized => {
                let signature = self.randomized.sign(&SystemRandom::new(), message).ok();
                signature
                    .and_then(|signature| RawSignature::from_fixed(signature.as_ref()))
                    .ok_or(KeysError::Ecdsa("aws-lc-rs"))
            }
            SignatureMode::Deterministic => C::sign(&self.deterministic, message)
                .and_then(|signature| RawSignature::from_fixed(&signature))
                .ok_or(KeysError::Ecdsa(C::LIBRARY)),
        }
    }

    /// The public key, algorithm id-ecPublicKey on the named curve, the point uncompressed.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn public_key(&self) -> Result<SubjectPublicKeyInfoOwned, KeysError> {
        let document = C::public_key_der(&self.secret);
        let document = document.ok_or(KeysError::KeyEncoding("elliptic curve public key"))?;
        Ok(SubjectPublicKeyInfoOwned::from_der(&document)?)
    }

    /// The public point: 4, then the two coordinates, big-endian (SEC 1 section 2.3.3).
    #[must_use]
    pub fn public_point(&self) -> Vec<u8> {
        C::point(&self.secret)
    }

    /// The private key as PKCS #8 DER.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn to_pkcs8_der(&self) -> Result<SecretDocument, KeysError> {
        C::pkcs8_der(&self.secret).ok_or(KeysError::KeyEncoding("PKCS #8 elliptic curve key"))
    }

    /// This key as the signer of certificates and revocation lists, in the deterministic mode.
    #[must_use]
    pub fn signer(self: &Arc<Self>) -> Arc<dyn CertificateSigner> {
        let algorithm = AlgorithmIdentifierOwned { oid: C::SIGNATURE, parameters: None };
        Arc::new(EcdsaSigner { key: Arc::clone(self), algorithm })
    }
}

struct EcdsaSigner<C: Curve<N>, const N: usize> {
    key: Arc<EcdsaKey<C, N>>,
    algorithm: AlgorithmIdentifierOwned,
}

impl<C: Curve<N>, const N: usize> CertificateSigner for EcdsaSigner<C, N> {
    fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        self.key.sign(SignatureMode::Deterministic, message)?.to_der()
    }
}
