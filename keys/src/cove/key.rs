//! Attestation keys of the layers.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::ECDSA_WITH_SHA_512;
use const_oid::db::rfc8410::ID_ED_25519;
use der::Encode;
use der::asn1::BitString;
use hkdf::Hkdf;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::pkcs8::DecodePrivateKey;
use sha2::{Digest, Sha512};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use tsmsim_abi::cove::claims::CDI_ID_SIZE;

use super::dice::Cdi;
use crate::certificate::CertificateSigner;
use crate::{EcdsaP256Key, KeysError, Seed, SignatureMode};

/// The algorithms of attestation keys, one for each format of evidence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyAlgorithm {
    /// Tokens: EdDSA (RFC 8032); certificates: the same. Evidence in the CBOR format.
    Ed25519,
    /// Tokens: ECDSA with SHA-256; certificates: ECDSA with SHA-512. Evidence in the X.509 format.
    P256,
}

/// `CDI_ID` of a layer: its name in certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CdiId(pub [u8; CDI_ID_SIZE]);

impl CdiId {
    /// The identifier of a public key: 32 bytes of Ed25519, or the uncompressed point.
    #[must_use]
    pub fn of(public_key: &[u8]) -> Self {
        let mut id = [0; CDI_ID_SIZE];
        let expanded = Hkdf::<Sha512>::new(None, public_key).expand(b"CoVE CDI_ID", &mut id);
        debug_assert!(expanded.is_ok(), "20 bytes are few");
        // A positive INTEGER of exactly 20 octets.
        id[0] = id[0] & 0x7f | 0x01;
        Self(id)
    }
}

impl std::fmt::Display for CdiId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for CdiId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CdiId({self})")
    }
}

/// One key for two hashes: SHA-256 in tokens, SHA-512 in certificates.
struct P256 {
    tokens: EcdsaP256Key,
    certificates: SigningKey,
}

enum Secret {
    Ed25519(Ed25519KeyPair),
    P256(Box<P256>),
}

/// The attestation key of a layer. Has no way to be printed.
pub struct AttestationKey {
    secret: Secret,
    public: Vec<u8>,
    id: CdiId,
}

impl AttestationKey {
    pub(super) fn derive(cdi: &Cdi, algorithm: KeyAlgorithm) -> Result<Self, KeysError> {
        let (secret, public) = match algorithm {
            KeyAlgorithm::Ed25519 => {
                let seed = cdi.expand::<32>(b"CoVE Ed25519");
                let key = Ed25519KeyPair::from_seed_unchecked(&*seed);
                let key = key.map_err(|_| KeysError::Ecdsa("aws-lc-rs, Ed25519"))?;
                let public = key.public_key().as_ref().to_vec();
                (Secret::Ed25519(key), public)
            }
            KeyAlgorithm::P256 => {
                let tokens = EcdsaP256Key::generate(&Seed::from_bytes(*cdi.expose()), &[b"cove", b"p256"])?;
                let certificates = SigningKey::from_pkcs8_der(tokens.to_pkcs8_der()?.as_bytes());
                let certificates = certificates.map_err(|_| KeysError::Ecdsa("p256"))?;
                let public = tokens.public_point();
                (Secret::P256(Box::new(P256 { tokens, certificates })), public)
            }
        };
        Ok(Self { id: CdiId::of(&public), secret, public })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        match self.secret {
            Secret::Ed25519(_) => KeyAlgorithm::Ed25519,
            Secret::P256(_) => KeyAlgorithm::P256,
        }
    }

    /// The layer's identifier: `UDS_ID` or `CDI_ID`.
    #[must_use]
    pub const fn id(&self) -> &CdiId {
        &self.id
    }

    /// The public key: 32 bytes of Ed25519 (RFC 8032), or 4 and the two coordinates of P-256, big-endian.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// The public key as certificates hold it.
    ///
    /// # Errors
    /// [`KeysError`] when it does not encode.
    pub fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, KeysError> {
        match &self.secret {
            Secret::Ed25519(_) => Ok(SubjectPublicKeyInfoOwned {
                algorithm: AlgorithmIdentifierOwned { oid: ID_ED_25519, parameters: None },
                subject_public_key: BitString::from_bytes(&self.public)?,
            }),
            Secret::P256(key) => key.tokens.public_key(),
        }
    }

    /// A signature over the bytes that COSE has signed: EdDSA, or `r` and `s`. 64 bytes either way. The mode matters to ECDSA
    /// only; EdDSA is always deterministic.
    ///
    /// # Errors
    /// [`KeysError`] when the library fails, for want of randomness for example.
    pub fn sign_token(&self, mode: SignatureMode, message: &[u8]) -> Result<[u8; 64], KeysError> {
        match &self.secret {
            Secret::Ed25519(key) => {
                let mut signature = [0; 64];
                let signed = key.sign(message);
                let bytes = signed.as_ref().get(..64).ok_or(KeysError::Ecdsa("aws-lc-rs, Ed25519"))?;
                signature.copy_from_slice(bytes);
                Ok(signature)
            }
            Secret::P256(key) => Ok(key.tokens.sign(mode, message)?.to_fixed()),
        }
    }

    /// A signature over a certificate: EdDSA, or ECDSA with SHA-512 (the nonce of RFC 6979) as DER.
    fn sign_certificate(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        match &self.secret {
            Secret::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Secret::P256(key) => {
                let signature: Result<p256::ecdsa::Signature, _> =
                    key.certificates.sign_prehash(&Sha512::digest(message));
                let signature = signature.map_err(|_| KeysError::Ecdsa("p256"))?;
                Ok(signature.to_der().to_der()?)
            }
        }
    }

    /// This key as the signer of certificates.
    #[must_use]
    pub fn signer(self: &Arc<Self>) -> Arc<dyn CertificateSigner> {
        let oid: ObjectIdentifier = match self.algorithm() {
            KeyAlgorithm::Ed25519 => ID_ED_25519,
            KeyAlgorithm::P256 => ECDSA_WITH_SHA_512,
        };
        let algorithm = AlgorithmIdentifierOwned { oid, parameters: None };
        Arc::new(LayerSigner { key: Arc::clone(self), algorithm })
    }
}

struct LayerSigner {
    key: Arc<AttestationKey>,
    algorithm: AlgorithmIdentifierOwned,
}

impl CertificateSigner for LayerSigner {
    fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        self.key.sign_certificate(message)
    }
}
