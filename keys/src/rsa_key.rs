//! RSA keys from a seed, and signatures that are a function of seed and message.

use std::sync::Arc;

use der::asn1::{Any, ObjectIdentifier};
use der::{Decode, SecretDocument, Sequence};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rsa::{Pkcs1v15Sign, Pss, RsaPrivateKey};
use sha2::{Digest, Sha256, Sha384};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::certificate::CertificateSigner;
use crate::{KeysError, Seed};

/// Modulus length of every RSA key here: AMD's ARK, ASK and ASVK.
const MODULUS_BITS: usize = 4096;

const ID_SHA256: ObjectIdentifier = const_oid::db::rfc5912::ID_SHA_256;
const ID_SHA384: ObjectIdentifier = const_oid::db::rfc5912::ID_SHA_384;
const ID_MGF_1: ObjectIdentifier = const_oid::db::rfc5912::ID_MGF_1;
const ID_RSASSA_PSS: ObjectIdentifier = const_oid::db::rfc5912::ID_RSASSA_PSS;
const SHA384_WITH_RSA: ObjectIdentifier = const_oid::db::rfc5912::SHA_384_WITH_RSA_ENCRYPTION;

/// An RSA-4096 private key with the sub-seed of its signatures' salts. Cheap to clone; wiped with its last clone.
#[derive(Clone)]
pub struct RsaKey {
    key: Arc<RsaPrivateKey>,
    salts: Seed,
}

impl RsaKey {
    /// The key for a label. The same seed and label give the same key for as long as the pinned `rsa` release stays.
    ///
    /// Finding the primes takes 0.05 to 0.85 seconds with optimisation.
    ///
    /// # Errors
    /// [`KeysError::Rsa`] when the library fails.
    pub fn generate(seed: &Seed, label: &[&[u8]]) -> Result<Self, KeysError> {
        let mut rng = seed.rng(&[label, &[b"rsa"]].concat());
        let key = RsaPrivateKey::new(&mut rng, MODULUS_BITS)?;
        Ok(Self { key: Arc::new(key), salts: salts(seed, label) })
    }

    /// The key for a label, given what [`generate`](Self::generate) once made of it.
    pub(crate) fn from_pkcs8_der(seed: &Seed, label: &[&[u8]], der: &[u8]) -> Result<Self, KeysError> {
        let key =
            RsaPrivateKey::from_pkcs8_der(der).map_err(|_| KeysError::KeyEncoding("PKCS #8 RSA key"))?;
        Ok(Self { key: Arc::new(key), salts: salts(seed, label) })
    }

    /// The private key as PKCS #8 DER.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn to_pkcs8_der(&self) -> Result<SecretDocument, KeysError> {
        self.key.to_pkcs8_der().map_err(|_| KeysError::KeyEncoding("PKCS #8 RSA key"))
    }

    /// The public key, algorithm rsaEncryption with NULL parameters, as AMD has it.
    ///
    /// # Errors
    /// [`KeysError::KeyEncoding`] when the library fails.
    pub fn public_key(&self) -> Result<SubjectPublicKeyInfoOwned, KeysError> {
        let document = self.key.to_public_key().to_public_key_der();
        let document = document.map_err(|_| KeysError::KeyEncoding("RSA public key"))?;
        Ok(SubjectPublicKeyInfoOwned::from_der(document.as_bytes())?)
    }

    /// This key as the signer of certificates and revocation lists.
    ///
    /// # Errors
    /// [`KeysError::Der`] when the library cannot encode the algorithm identifier.
    pub fn signer(&self, scheme: RsaScheme) -> Result<Arc<dyn CertificateSigner>, KeysError> {
        let algorithm = scheme.algorithm(TrailerField::Written)?;
        Ok(Arc::new(RsaSigner { key: self.clone(), scheme, algorithm }))
    }
}

fn salts(seed: &Seed, label: &[&[u8]]) -> Seed {
    seed.derive_seed(&[label, &[b"salt"]].concat())
}

/// How an RSA key signs. AMD's certificates use the first; the others make certificates that verify and still must be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RsaScheme {
    /// RSASSA-PSS with SHA-384, MGF1 with SHA-384, a salt of 48 bytes.
    PssSha384,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256, a salt of 32 bytes.
    PssSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Pkcs1v15Sha384,
}

/// The `trailerField` of RSASSA-PSS parameters: its only value, 1, is the default, which DER leaves out and AMD writes
/// (in all but the VCEKs of Turin).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrailerField {
    /// `[3] INTEGER 1` stands there.
    Written,
    /// Left out, as DER asks.
    Omitted,
}

impl RsaScheme {
    /// The algorithm identifier of this scheme. PKCS #1 v1.5 has NULL parameters and no trailer field.
    ///
    /// # Errors
    /// [`KeysError::Der`] when the library fails.
    pub fn algorithm(self, trailer: TrailerField) -> Result<AlgorithmIdentifierOwned, KeysError> {
        match self {
            Self::PssSha384 => pss_algorithm(ID_SHA384, 48, trailer),
            Self::PssSha256 => pss_algorithm(ID_SHA256, 32, trailer),
            Self::Pkcs1v15Sha384 => Ok(with_null(SHA384_WITH_RSA)),
        }
    }
}

/// `RSASSA-PSS-params`, RFC 4055 section 3.1.
#[derive(Sequence)]
struct PssParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    hash_algorithm: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    mask_gen_algorithm: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    salt_length: u8,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer_field: Option<u8>,
}

fn pss_algorithm(
    hash: ObjectIdentifier,
    salt_length: u8,
    trailer: TrailerField,
) -> Result<AlgorithmIdentifierOwned, KeysError> {
    let mgf =
        AlgorithmIdentifierOwned { oid: ID_MGF_1, parameters: Some(Any::encode_from(&with_null(hash))?) };
    let parameters = PssParameters {
        hash_algorithm: with_null(hash),
        mask_gen_algorithm: mgf,
        salt_length,
        trailer_field: (trailer == TrailerField::Written).then_some(1),
    };
    Ok(AlgorithmIdentifierOwned { oid: ID_RSASSA_PSS, parameters: Some(Any::encode_from(&parameters)?) })
}

fn with_null(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: Some(Any::null()) }
}

struct RsaSigner {
    key: RsaKey,
    scheme: RsaScheme,
    algorithm: AlgorithmIdentifierOwned,
}

impl CertificateSigner for RsaSigner {
    fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    /// The salt comes out of the key's sub-seed and the message's digest; the blinding that follows does not show.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        let digest = Sha384::digest(message);
        let mut rng = self.key.salts.rng(&[b"salt", &digest]);
        let key = &self.key.key;
        Ok(match self.scheme {
            RsaScheme::PssSha384 => key.sign_with_rng(&mut rng, Pss::<Sha384>::new_blinded(), &digest)?,
            RsaScheme::PssSha256 => {
                key.sign_with_rng(&mut rng, Pss::<Sha256>::new_blinded(), &Sha256::digest(message))?
            }
            RsaScheme::Pkcs1v15Sha384 => {
                key.sign_with_rng(&mut rng, Pkcs1v15Sign::new::<Sha384>(), &digest)?
            }
        })
    }
}
