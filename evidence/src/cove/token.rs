//! COSE_Sign1 (RFC 9052 section 4.2) and what the three tokens claim (`attestation.adoc`, "Evidence Format").

use ciborium::Value;
use tsmsim_abi::cove::{
    attcaps::{HashAlgorithm, MAX_INITIAL_MEASUREMENT_REGISTERS, MAX_RUNTIME_MEASUREMENT_REGISTERS},
    claims::{self, MANUFACTURER_ID_SIZE, PlatformState, component, measurement},
    cose::{CoseAlgorithm, HEADER_ALG, HEADER_KID, TAG_COSE_SIGN1, TAG_CWT},
    covg::CHALLENGE_SIZE,
    covh::TVM_IDENTITY_SIZE,
};

use super::{
    cbor::{self, Claims},
    key::{read_layer_key, read_tvm_key, verify},
};
use crate::x509::{KnownKey, Malformed};

/// A signed token whose claims have not been read yet.
#[derive(Clone, Debug)]
pub(super) struct Sign1 {
    pub(super) algorithm: CoseAlgorithm,
    pub(super) kid: Option<Vec<u8>>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// What the signature covers: `Sig_structure`, RFC 9052 section 4.4.
    message: Vec<u8>,
}

impl Sign1 {
    /// Reads the array of four below tag 18.
    pub(super) fn read(value: Value, part: &'static str) -> Result<Self, Malformed> {
        let items = cbor::array(cbor::tagged(value, TAG_COSE_SIGN1, part)?, part)?;
        let count = items.len();
        let [protected, unprotected, payload, signature] = <[Value; 4]>::try_from(items)
            .map_err(|_| Malformed::new(part, format!("{count} items, where COSE_Sign1 has 4")))?;
        if !cbor::entries(unprotected, "unprotected header")?.is_empty() {
            return Err(Malformed::new("unprotected header", "not empty: nothing protects it"));
        }
        let protected = cbor::bytes(protected, "protected header")?;
        let mut header = Claims::read(cbor::read(&protected, "protected header")?, "protected header")?;
        let algorithm = CoseAlgorithm(cbor::integer(&header.need(HEADER_ALG, "alg")?, "alg")?);
        let kid = header.take(HEADER_KID).map(|kid| cbor::bytes(kid, "kid")).transpose()?;
        header.end()?;
        let payload = cbor::bytes(payload, "payload")?;
        let signature = cbor::bytes(signature, "signature")?;
        let message = cbor::encode(&Value::Array(vec![
            Value::from("Signature1"),
            Value::Bytes(protected),
            Value::Bytes(Vec::new()),
            Value::Bytes(payload.clone()),
        ]));
        Ok(Self { algorithm, kid, payload, signature, message })
    }

    pub(super) fn verify(&self, key: &KnownKey) -> Result<(), String> {
        verify(key, self.algorithm, &self.message, &self.signature)
    }

    /// The claims below tag 61.
    pub(super) fn claims(&self) -> Result<Claims, Malformed> {
        let payload = cbor::read(&self.payload, "payload")?;
        Claims::read(cbor::tagged(payload, TAG_CWT, "payload")?, "payload")
    }
}

/// `riscv-cove-sw-component`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// What it is.
    pub name: String,
    /// Hash of its code.
    pub measurement: Vec<u8>,
    /// Security version.
    pub svn: String,
    /// Hash of its manifest.
    pub manifest: Option<Vec<u8>>,
    /// Hash of its signer's public key.
    pub signer: Vec<u8>,
    /// Of all these hashes.
    pub hash_algorithm: HashAlgorithm,
}

impl Component {
    fn read(value: Value) -> Result<Self, Malformed> {
        const PART: &str = "software component";
        let mut entries = Claims::read(value, PART)?;
        let hash_algorithm = hash(entries.need(component::HASH_ALGORITHM, PART)?, PART)?;
        let component = Self {
            name: cbor::text(entries.need(component::TYPE, PART)?, PART)?,
            measurement: digest(entries.need(component::MEASUREMENT, PART)?, hash_algorithm, PART)?,
            svn: cbor::text(entries.need(component::SVN, PART)?, PART)?,
            manifest: entries
                .take(component::MANIFEST)
                .map(|hash| digest(hash, hash_algorithm, PART))
                .transpose()?,
            signer: digest(entries.need(component::SIGNER, PART)?, hash_algorithm, PART)?,
            hash_algorithm,
        };
        entries.end()?;
        Ok(component)
    }

    fn read_all(value: Value, part: &'static str) -> Result<Vec<Self>, Malformed> {
        cbor::array(value, part)?.into_iter().map(Self::read).collect()
    }
}

fn hash(value: Value, part: &'static str) -> Result<HashAlgorithm, Malformed> {
    let name = cbor::text(value, part)?;
    HashAlgorithm::from_iana_name(&name)
        .ok_or_else(|| Malformed::new(part, "none of the hash algorithms that registers can have"))
}

fn digest(value: Value, algorithm: HashAlgorithm, part: &'static str) -> Result<Vec<u8>, Malformed> {
    let bytes = cbor::bytes(value, part)?;
    match algorithm.digest_size() {
        Some(size) if size == bytes.len() => Ok(bytes),
        _ => Err(Malformed::new(part, format!("{} bytes, which is not the hash's length", bytes.len()))),
    }
}

/// `riscv-cove-measurement`: a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    /// Position in the capabilities.
    pub index: u64,
    /// Its value.
    pub value: Vec<u8>,
    /// What it is extended with.
    pub hash_algorithm: HashAlgorithm,
}

impl Register {
    fn read(value: Value) -> Result<Self, Malformed> {
        const PART: &str = "measurement";
        let mut entries = Claims::read(value, PART)?;
        let hash_algorithm = hash(entries.need(measurement::HASH_ALGORITHM, PART)?, PART)?;
        let register = Self {
            index: cbor::unsigned(&entries.need(measurement::INDEX, PART)?, PART)?,
            value: digest(entries.need(measurement::VALUE, PART)?, hash_algorithm, PART)?,
            hash_algorithm,
        };
        entries.end()?;
        Ok(register)
    }

    /// Registers with consecutive indices from `first` on, 1 to `most` of them.
    fn read_all(value: Value, first: u64, most: usize, part: &'static str) -> Result<Vec<Self>, Malformed> {
        let registers = cbor::array(value, part)?.into_iter().map(Self::read);
        let registers: Vec<Self> = registers.collect::<Result<_, _>>()?;
        if registers.is_empty() || registers.len() > most {
            return Err(Malformed::new(part, format!("{}, where 1 to {most} are allowed", registers.len())));
        }
        match (first..).zip(&registers).find(|(index, register)| *index != register.index) {
            Some((index, register)) => {
                Err(Malformed::new(part, format!("register {} where {index} is expected", register.index)))
            }
            None => Ok(registers),
        }
    }
}

/// What the platform token claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformClaims {
    /// Verifies the TSM token.
    pub public_key: KnownKey,
    /// Whose platform it is.
    pub manufacturer_id: [u8; MANUFACTURER_ID_SIZE],
    /// Its life-cycle state.
    pub state: PlatformState,
    /// Its software.
    pub components: Vec<Component>,
}

impl PlatformClaims {
    pub(super) fn read(mut claims: Claims) -> Result<Self, Malformed> {
        const PROFILE: &str = "eat-profile";
        if cbor::text(claims.need(claims::EAT_PROFILE, PROFILE)?, PROFILE)? != claims::EAT_PROFILE_VALUE {
            return Err(Malformed::new(PROFILE, format!("not {}", claims::EAT_PROFILE_VALUE)));
        }
        const KEY: &str = "platform-public-key";
        const MANUFACTURER: &str = "platform-manufacturer-id";
        const STATE: &str = "platform-state";
        const COMPONENTS: &str = "platform-sw-components";
        let key = cbor::bytes(claims.need(claims::PLATFORM_PUBLIC_KEY, KEY)?, KEY)?;
        let read = Self {
            public_key: read_layer_key(&key, KEY)?,
            manufacturer_id: cbor::sized(
                claims.need(claims::PLATFORM_MANUFACTURER_ID, MANUFACTURER)?,
                MANUFACTURER,
            )?,
            state: PlatformState(cbor::unsigned(&claims.need(claims::PLATFORM_STATE, STATE)?, STATE)?),
            components: Component::read_all(
                claims.need(claims::PLATFORM_SW_COMPONENTS, COMPONENTS)?,
                COMPONENTS,
            )?,
        };
        claims.end()?;
        if read.components.is_empty() {
            return Err(Malformed::new(COMPONENTS, "none, where one or more are expected"));
        }
        Ok(read)
    }
}

/// What the TSM token claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TsmClaims {
    /// Verifies the TVM token and the certificate around all.
    pub public_key: KnownKey,
    /// The TSM-driver.
    pub tsm_driver: Component,
    /// The TSM.
    pub tsm: Component,
}

impl TsmClaims {
    pub(super) fn read(mut claims: Claims) -> Result<Self, Malformed> {
        const KEY: &str = "tsm-public-key";
        const COMPONENTS: &str = "tsm-sw-components";
        let key = cbor::bytes(claims.need(claims::TSM_PUBLIC_KEY, KEY)?, KEY)?;
        let public_key = read_layer_key(&key, KEY)?;
        let components =
            Component::read_all(claims.need(claims::TSM_SW_COMPONENTS, COMPONENTS)?, COMPONENTS)?;
        claims.end()?;
        let [tsm_driver, tsm] = <[Component; 2]>::try_from(components).map_err(|all| {
            Malformed::new(COMPONENTS, format!("{}, where TSM-driver and TSM are expected", all.len()))
        })?;
        Ok(Self { public_key, tsm_driver, tsm })
    }
}

/// What the TVM token claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TvmClaims {
    /// What the TVM was asked.
    pub challenge: [u8; CHALLENGE_SIZE],
    /// What the host said of it.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
    /// The key that it gave.
    pub public_key: KnownKey,
    /// Initial registers.
    pub initial: Vec<Register>,
    /// Runtime registers.
    pub runtime: Vec<Register>,
}

impl TvmClaims {
    pub(super) fn read(mut claims: Claims) -> Result<Self, Malformed> {
        const CHALLENGE: &str = "tvm-challenge";
        const IDENTITY: &str = "tvm-identity";
        const KEY: &str = "tvm-public-key";
        const INITIAL: &str = "tvm-initial-measurements";
        const RUNTIME: &str = "tvm-runtime-measurements";
        let key = cbor::bytes(claims.need(claims::TVM_PUBLIC_KEY, KEY)?, KEY)?;
        let initial = Register::read_all(
            claims.need(claims::TVM_INITIAL_MEASUREMENTS, INITIAL)?,
            0,
            MAX_INITIAL_MEASUREMENT_REGISTERS,
            INITIAL,
        )?;
        let first = initial.len() as u64;
        let runtime = claims.take(claims::TVM_RUNTIME_MEASUREMENTS).map_or(Ok(Vec::new()), |value| {
            Register::read_all(value, first, MAX_RUNTIME_MEASUREMENT_REGISTERS, RUNTIME)
        })?;
        let identity = claims.take(claims::TVM_IDENTITY);
        let read = Self {
            challenge: cbor::sized(claims.need(claims::TVM_CHALLENGE, CHALLENGE)?, CHALLENGE)?,
            identity: identity.map(|identity| cbor::sized(identity, IDENTITY)).transpose()?,
            public_key: read_tvm_key(&key, KEY)?,
            initial,
            runtime,
        };
        claims.end()?;
        Ok(read)
    }

    /// Initial, then runtime registers.
    pub fn registers(&self) -> impl Iterator<Item = &Register> {
        self.initial.iter().chain(&self.runtime)
    }
}
