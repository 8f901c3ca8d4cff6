//! The public keys that TVMs give to `get_evidence`: COSE_Key (RFC 9052 section 7), one kind of
//! [`CoseCurve`].

use coset::{
    CborSerializable, CoseKey, KeyType, Label,
    cbor::value::Value,
    iana::{self, EnumI64},
};
use tsmsim_abi::cove::cose::{CoseCurve, KEY_CRV, KEY_X, KEY_Y, KTY_EC2, KTY_OKP};
use tsmsim_keys::{
    cove::{AttestationKey, KeyAlgorithm},
    der::{
        Any, Tag,
        asn1::{BitString, ObjectIdentifier},
    },
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::evidence::EvidenceError;

/// COSE_Key parameter `d`: private.
const KEY_D: i64 = -4;

const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key in both forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    cose: Vec<u8>,
    spki: SubjectPublicKeyInfoOwned,
}

impl PublicKey {
    /// Reads a COSE_Key; `None` if it is not one public key of a known kind. Whether the point is on its curve is the relying
    /// party's to see.
    #[must_use]
    pub fn from_cose(bytes: &[u8]) -> Option<Self> {
        let key = CoseKey::from_slice(bytes).ok()?;
        let curve = CoseCurve(i64::try_from(parameter(&key, KEY_CRV)?.as_integer()?).ok()?);
        let x = parameter(&key, KEY_X)?.as_bytes()?;
        let KeyType::Assigned(kty) = key.kty else { return None };
        if parameter(&key, KEY_D).is_some() {
            return None;
        }
        let spki = match (kty.to_i64(), curve) {
            (KTY_OKP, CoseCurve::X25519) => key_pair(X25519, x),
            (KTY_OKP, CoseCurve::ED25519) => key_pair(ED25519, x),
            (KTY_EC2, CoseCurve::P256) => elliptic(SECP256R1, 32, x, parameter(&key, KEY_Y)?),
            (KTY_EC2, CoseCurve::P384) => elliptic(SECP384R1, 48, x, parameter(&key, KEY_Y)?),
            _ => None,
        }?;
        Some(Self { cose: bytes.to_vec(), spki })
    }

    /// Of a layer's key.
    ///
    /// # Errors
    /// [`EvidenceError`] when it does not encode.
    pub fn of(key: &AttestationKey) -> Result<Self, EvidenceError> {
        // Not `AttestationKey::spki`: on P-256 that computes the point again, which takes as long as a signature.
        let cose = cose_key(key)?;
        Self::from_cose(&cose).ok_or_else(|| EvidenceError::Cbor("a key of the TSM's own making".to_owned()))
    }

    /// The COSE_Key, byte for byte as it came.
    #[must_use]
    pub fn cose(&self) -> &[u8] {
        &self.cose
    }

    /// The key as certificates hold it.
    #[must_use]
    pub const fn spki(&self) -> &SubjectPublicKeyInfoOwned {
        &self.spki
    }
}

fn parameter(key: &CoseKey, label: i64) -> Option<&Value> {
    key.params.iter().find(|(present, _)| *present == Label::Int(label)).map(|(_, value)| value)
}

fn key_pair(oid: ObjectIdentifier, x: &[u8]) -> Option<SubjectPublicKeyInfoOwned> {
    let subject_public_key = BitString::from_bytes(x).ok().filter(|_| x.len() == 32)?;
    Some(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid, parameters: None },
        subject_public_key,
    })
}

/// `y` is the coordinate, or whether it is odd (RFC 9053 section 7.1.1).
fn elliptic(curve: ObjectIdentifier, size: usize, x: &[u8], y: &Value) -> Option<SubjectPublicKeyInfoOwned> {
    let point = match y {
        Value::Bytes(y) if y.len() == size => [&[4], x, y].concat(),
        Value::Bool(odd) => [&[2 + u8::from(*odd)], x].concat(),
        _ => return None,
    };
    let parameters = Any::new(Tag::ObjectIdentifier, curve.as_bytes()).ok().filter(|_| x.len() == size)?;
    Some(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: ID_EC_PUBLIC_KEY, parameters: Some(parameters) },
        subject_public_key: BitString::from_bytes(&point).ok()?,
    })
}

/// The COSE_Key of a layer's key, with its algorithm.
pub(super) fn cose_key(key: &AttestationKey) -> Result<Vec<u8>, EvidenceError> {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let builder = match key.algorithm() {
        KeyAlgorithm::Ed25519 => coset::CoseKeyBuilder::new_okp_key()
            .algorithm(iana::Algorithm::EdDSA)
            .param(KEY_CRV, Value::from(CoseCurve::ED25519.0))
            .param(KEY_X, bytes(key.public_key())),
        KeyAlgorithm::P256 => {
            let coordinates = key.public_key().get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            coset::CoseKeyBuilder::new_ec2_pub_key(iana::EllipticCurve::P_256, x.to_vec(), y.to_vec())
                .algorithm(iana::Algorithm::ES256)
        }
    };
    Ok(builder.build().to_vec()?)
}

#[cfg(test)]
mod tests {
    use tsmsim_keys::Seed;

    use super::*;
    use crate::cove::platform::CovePlatformConfig;

    #[test]
    fn a_layers_key_is_the_same_in_both_forms() {
        let platform = CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap();
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
            let key = platform.chain(algorithm).tsm_key();
            let public_key = PublicKey::of(key).unwrap();
            assert_eq!(*public_key.spki(), key.spki().unwrap());
            assert_eq!(public_key.cose(), cose_key(key).unwrap());
        }
    }
}
