//! Tokens and certificates (`attestation.adoc`, "Evidence Format" and "Evidence Generation").
//!
//! A device signs its platform token and its TSM token once, when it starts. For each request the TSM signs a TVM token and a
//! certificate around the three.

use coset::{
    AsCborValue, CborSerializable, CoseError, CoseSign1, CoseSign1Builder, HeaderBuilder, cbor::value::Value,
    iana,
};
use tsmsim_abi::cove::{
    claims::{self, PlatformState, component, measurement},
    cose::{TAG_COSE_SIGN1, TAG_CWT, TAG_UCCS},
    covg::CHALLENGE_SIZE,
};
use tsmsim_keys::{
    KeysError, SignatureMode,
    cove::{AttestationKey, Chain, KeyAlgorithm, TvmCertificate},
};

use super::{
    measure::Hash,
    platform::{Component, CovePlatform, CovePlatformConfig},
    public_key::{PublicKey, cose_key},
    tvm::Tvm,
};
use crate::{
    env::Env,
    fault::{self, FaultPoint},
};

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A signature or certificate could not be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// CBOR or COSE could not be written.
    #[error("CBOR: {0}")]
    Cbor(String),
    /// The TVM is not final.
    #[error("the TVM has no layer of its own yet")]
    NotFinal,
}

impl From<CoseError> for EvidenceError {
    fn from(error: CoseError) -> Self {
        Self::Cbor(error.to_string())
    }
}

/// What a TVM asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceRequest {
    /// The format: CBOR has Ed25519, X.509 has P-256.
    pub algorithm: KeyAlgorithm,
    /// The key to be certified; `None`: the one from the TVM's CDI.
    pub public_key: Option<PublicKey>,
    /// The challenge.
    pub challenge: [u8; CHALLENGE_SIZE],
}

/// The tokens that a device signs when it starts.
pub(super) struct LayerTokens {
    platform: Value,
    tsm: Value,
}

type Claims = Vec<(i64, Value)>;

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(entries: Claims) -> Value {
    Value::Map(entries.into_iter().map(|(label, value)| (Value::from(label), value)).collect())
}

fn tag(tag: u64, value: Value) -> Value {
    Value::Tag(tag, Box::new(value))
}

/// A signed token: tag 18, and in its payload tag 61.
fn sign1(
    key: &AttestationKey,
    mode: SignatureMode,
    kid: Option<&[u8]>,
    payload: Vec<u8>,
) -> Result<CoseSign1, EvidenceError> {
    let algorithm = match key.algorithm() {
        KeyAlgorithm::Ed25519 => iana::Algorithm::EdDSA,
        KeyAlgorithm::P256 => iana::Algorithm::ES256,
    };
    let header = HeaderBuilder::new().algorithm(algorithm);
    let header = match kid {
        Some(kid) => header.key_id(kid.to_vec()),
        None => header,
    };
    let builder = CoseSign1Builder::new().protected(header.build()).payload(payload);
    let builder = builder.try_create_signature(b"", |message| {
        key.sign_token(mode, message).map(|signature| signature.to_vec())
    })?;
    Ok(builder.build())
}

fn cwt(claims: Claims) -> Result<Vec<u8>, EvidenceError> {
    Ok(tag(TAG_CWT, map(claims)).to_vec()?)
}

fn tagged(token: CoseSign1) -> Result<Value, EvidenceError> {
    Ok(tag(TAG_COSE_SIGN1, token.to_cbor_value()?))
}

impl LayerTokens {
    pub(super) fn new(config: &CovePlatformConfig, hash: Hash, chain: &Chain) -> Result<Self, EvidenceError> {
        let mode = config.signature_mode;
        let components = |list: &[&Component]| {
            Value::Array(list.iter().map(|component| component_map(component, hash)).collect())
        };
        let PlatformState(state) = config.state;
        let platform: Vec<&Component> = config.platform_components.iter().collect();
        let platform = cwt(vec![
            (claims::EAT_PROFILE, text(claims::EAT_PROFILE_VALUE)),
            (claims::PLATFORM_PUBLIC_KEY, bytes(&cose_key(chain.platform_key())?)),
            (claims::PLATFORM_MANUFACTURER_ID, bytes(&config.manufacturer_id)),
            (claims::PLATFORM_STATE, Value::from(state)),
            (claims::PLATFORM_SW_COMPONENTS, components(&platform)),
        ])?;
        let tsm = cwt(vec![
            (claims::TSM_PUBLIC_KEY, bytes(&cose_key(chain.tsm_key())?)),
            (claims::TSM_SW_COMPONENTS, components(&[&config.tsm_driver, &config.tsm])),
        ])?;
        let rot = chain.rot_key();
        Ok(Self {
            platform: tagged(sign1(rot, mode, Some(&rot.id().0), platform)?)?,
            tsm: tagged(sign1(chain.platform_key(), mode, None, tsm)?)?,
        })
    }
}

fn component_map(component: &Component, hash: Hash) -> Value {
    let mut entries = vec![
        (component::TYPE, text(&component.name)),
        (component::MEASUREMENT, bytes(&component.measurement(hash))),
        (component::SVN, text(&component.svn.to_string())),
    ];
    entries.extend(component.manifest.as_ref().map(|manifest| (component::MANIFEST, bytes(manifest))));
    entries.push((component::SIGNER, bytes(&component.signer(hash))));
    entries.push((component::HASH_ALGORITHM, text(hash.name())));
    map(entries)
}

fn measurements<'a>(hash: Hash, first: u64, values: impl IntoIterator<Item = &'a Vec<u8>>) -> Value {
    let entry = |(index, value): (u64, &Vec<u8>)| {
        map(vec![
            (measurement::INDEX, Value::from(index)),
            (measurement::VALUE, bytes(value)),
            (measurement::HASH_ALGORITHM, text(hash.name())),
        ])
    };
    Value::Array((first..).zip(values).map(entry).collect())
}

impl Tvm {
    fn claims(&self, request: &EvidenceRequest, public_key: &PublicKey) -> Claims {
        let hash = self.initial.hash();
        let mut claims = vec![(claims::TVM_CHALLENGE, bytes(&request.challenge))];
        claims.extend(self.identity.map(|identity| (claims::TVM_IDENTITY, bytes(&identity))));
        claims.push((claims::TVM_PUBLIC_KEY, bytes(public_key.cose())));
        claims.push((claims::TVM_INITIAL_MEASUREMENTS, measurements(hash, 0, self.initial.values())));
        if !self.runtime.is_empty() {
            let first = self.initial.values().len() as u64;
            claims.push((claims::TVM_RUNTIME_MEASUREMENTS, measurements(hash, first, &self.runtime)));
        }
        claims
    }

    /// What `get_evidence` gives: the certificate, CBOR or DER.
    ///
    /// # Errors
    /// [`EvidenceError`] for a TVM that is not final, and when a library fails.
    pub fn evidence(
        &self,
        platform: &CovePlatform,
        request: &EvidenceRequest,
        env: &mut Env<'_>,
    ) -> Result<Vec<u8>, EvidenceError> {
        let [ed25519, p256] = self.keys.as_deref().ok_or(EvidenceError::NotFinal)?;
        let own = match request.algorithm {
            KeyAlgorithm::Ed25519 => ed25519,
            KeyAlgorithm::P256 => p256,
        };
        let endorsed = platform.endorsed(request.algorithm);
        let tsm = endorsed.chain.tsm_key();
        let mode = platform.config().signature_mode;
        let public_key = match &request.public_key {
            Some(key) => key.clone(),
            None => PublicKey::of(own)?,
        };
        let mut payload = cwt(self.claims(request, &public_key))?;
        let point = FaultPoint::COVE_TOKEN;
        if let Some(action) = fault::consult(env.faults, env.journal, point) {
            fault::apply(env.journal, point, &action, &mut payload);
        }
        let tvm = tagged(sign1(tsm, mode, None, payload)?)?;
        let LayerTokens { platform: platform_token, tsm: tsm_token } = &endorsed.tokens;
        let submodules = Value::Map(vec![
            (text(claims::SUBMODULE_PLATFORM), platform_token.clone()),
            (text(claims::SUBMODULE_TSM), tsm_token.clone()),
            (text(claims::SUBMODULE_TVM), tvm),
        ]);
        let evidence = map(vec![(claims::SUBMODULES, submodules)]);
        match request.algorithm {
            KeyAlgorithm::Ed25519 => {
                let payload = cwt(vec![
                    (claims::ISSUER, text(&tsm.id().to_string())),
                    (claims::SUBJECT, text(&own.id().to_string())),
                    (claims::EVIDENCE, evidence),
                ])?;
                Ok(tagged(sign1(tsm, mode, None, payload)?)?.to_vec()?)
            }
            KeyAlgorithm::P256 => {
                let evidence = tag(TAG_UCCS, evidence).to_vec()?;
                let spec =
                    TvmCertificate { subject: *own.id(), public_key: public_key.spki().clone(), evidence };
                Ok(platform.hierarchy().tvm(&endorsed.chain, spec)?.der().to_vec())
            }
        }
    }
}
