//! Evidence from the simulator, and evidence with claims changed and signed anew.

use ciborium::Value;
use tsmsim_abi::cove::{claims, covg::CertificateFormats};
use tsmsim_evidence::{Timestamp, cove::Bundle};
use tsmsim_keys::{CertificateDraft, cove::Hierarchy};
use tsmsim_keys::{
    Seed, SignatureMode,
    cove::{AttestationKey, CertificateKind, HierarchyBuilder, KeyAlgorithm, Scenario},
};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, InProcessTvmGuest, World},
    machine::{HostConfig, LaunchPlan, PlannedPage},
    platform::{CovePlatform, CovePlatformConfig},
};

/// 2026-01-01.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600);
pub(crate) const CHALLENGE: [u8; 64] = [0x5a; 64];
pub(crate) const IDENTITY: [u8; 64] = [0x1d; 64];
const RAM: usize = 1 << 20;

/// Evidence, and the platform of which it is.
pub(crate) struct Made {
    pub(crate) platform: CovePlatform,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) bundle: Bundle,
}

/// Few runtime registers, so that there are fewer bits.
pub(crate) fn config() -> CovePlatformConfig {
    CovePlatformConfig { runtime_measurements: 2, ..CovePlatformConfig::new() }
}

impl Made {
    pub(crate) fn cbor() -> Self {
        Self::of(config().build(&Seed::DEFAULT).unwrap(), KeyAlgorithm::Ed25519, None)
    }

    pub(crate) fn x509() -> Self {
        Self::of(config().build(&Seed::DEFAULT).unwrap(), KeyAlgorithm::P256, None)
    }

    /// With certificates of one kind changed before they are signed.
    pub(crate) fn edited(
        algorithm: KeyAlgorithm,
        kind: CertificateKind,
        edit: impl Fn(&mut CertificateDraft) + Send + Sync + 'static,
    ) -> Self {
        Self::built(algorithm, |builder| builder.edit(kind, edit))
    }

    pub(crate) fn built(
        algorithm: KeyAlgorithm,
        build: impl FnOnce(HierarchyBuilder) -> HierarchyBuilder,
    ) -> Self {
        let hierarchy = build(Hierarchy::builder(&Seed::DEFAULT)).build();
        Self::of(config().build_under(hierarchy).unwrap(), algorithm, None)
    }

    /// What a TVM of one page gets, which has extended a runtime register.
    pub(crate) fn of(platform: CovePlatform, algorithm: KeyAlgorithm, key: Option<&[u8]>) -> Self {
        let plan = LaunchPlan {
            ram: std::iter::once(0..RAM as u64).collect(),
            vcpus: 1,
            pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: Some(Box::new([0x13; PAGE_SIZE])) }],
            entry_sepc: IMAGE_GPA,
            entry_arg: 0,
            identity: Some(IDENTITY),
        };
        let world = World::new(RAM, Seed::DEFAULT);
        let mut guest =
            InProcessTvmGuest::launch(platform.clone(), HostConfig::default(), &plan, world).unwrap();
        if platform.config().runtime_measurements > 0 {
            let size = platform.config().hash_algorithm.digest_size().unwrap();
            guest.extend(6, &vec![7; size]).unwrap();
        }
        let format = match algorithm {
            KeyAlgorithm::Ed25519 => CertificateFormats::new().with_cbor(true),
            KeyAlgorithm::P256 => CertificateFormats::new().with_x509(true),
        };
        let evidence = guest.evidence(u32::from(format).into(), key, &CHALLENGE).unwrap();
        let bundle = Bundle {
            evidence,
            root: Some(platform.hierarchy().root().unwrap().der().to_vec()),
            chain: Some(platform.chain(algorithm).pem().into_bytes()),
            crl: Some(Scenario::Sound.crl(platform.hierarchy(), platform.device()).unwrap().der().to_vec()),
            inblob: Some(CHALLENGE.to_vec()),
        };
        Self { platform, algorithm, bundle }
    }

    /// With the revocation list of a scenario.
    pub(crate) fn with_crl(mut self, scenario: Scenario) -> Self {
        let crl = scenario.crl(self.platform.hierarchy(), self.platform.device()).unwrap();
        self.bundle.crl = Some(crl.der().to_vec());
        self
    }

    /// CBOR evidence with everything signed anew after a change.
    pub(crate) fn forged(edit: impl FnOnce(&mut Forged)) -> Bundle {
        let made = Self::cbor();
        let mut forged = Forged::open(&made.bundle.evidence);
        edit(&mut forged);
        Bundle { evidence: forged.seal(&made.platform), ..made.bundle }
    }
}

pub(crate) type Map = Vec<(Value, Value)>;

/// A token in its parts.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) protected: Map,
    pub(crate) unprotected: Map,
    pub(crate) claims: Map,
    /// Tag around the claims.
    pub(crate) tag: u64,
}

/// A CBOR certificate in its parts; `certificate` has no evidence among its claims.
pub(crate) struct Forged {
    pub(crate) certificate: Token,
    pub(crate) platform: Token,
    pub(crate) tsm: Token,
    pub(crate) tvm: Token,
    /// Added to the map of submodules.
    pub(crate) more: Map,
}

pub(crate) fn decode(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn untag(value: Value) -> (u64, Value) {
    let Value::Tag(tag, inner) = value else { panic!("{value:?} has no tag") };
    (tag, *inner)
}

/// The value of a label.
#[track_caller]
pub(crate) fn at(map: &mut Map, label: i64) -> &mut Value {
    &mut map.iter_mut().find(|(key, _)| *key == Value::from(label)).unwrap().1
}

pub(crate) fn remove(map: &mut Map, label: i64) {
    let before = map.len();
    map.retain(|(key, _)| *key != Value::from(label));
    assert_eq!(map.len() + 1, before, "there is a label {label}");
}

impl Token {
    fn open(value: Value) -> Self {
        let (tag, array) = untag(value);
        assert_eq!(tag, 18);
        let [protected, unprotected, payload, _] =
            <[Value; 4]>::try_from(array.into_array().unwrap()).unwrap();
        let (tag, claims) = untag(decode(payload.as_bytes().unwrap()));
        Self {
            protected: decode(protected.as_bytes().unwrap()).into_map().unwrap(),
            unprotected: unprotected.into_map().unwrap(),
            claims: claims.into_map().unwrap(),
            tag,
        }
    }

    fn seal(self, key: &AttestationKey) -> Value {
        let protected = Value::Bytes(encode(&Value::Map(self.protected)));
        let payload = Value::Tag(self.tag, Box::new(Value::Map(self.claims)));
        let payload = Value::Bytes(encode(&payload));
        let message = encode(&Value::Array(vec![
            "Signature1".into(),
            protected.clone(),
            Value::Bytes(Vec::new()),
            payload.clone(),
        ]));
        let signature = key.sign_token(SignatureMode::default(), &message).unwrap();
        let items = vec![protected, Value::Map(self.unprotected), payload, signature.to_vec().into()];
        Value::Tag(18, Box::new(Value::Array(items)))
    }
}

impl Forged {
    fn open(evidence: &[u8]) -> Self {
        let mut certificate = Token::open(decode(evidence));
        let mut submodules = at(&mut certificate.claims, claims::EVIDENCE).clone().into_map().unwrap();
        remove(&mut certificate.claims, claims::EVIDENCE);
        let tokens = at(&mut submodules, claims::SUBMODULES).clone().into_map().unwrap();
        let token = |name: &str| {
            let found = tokens.iter().find(|(key, _)| key.as_text() == Some(name));
            Token::open(found.unwrap().1.clone())
        };
        Self {
            certificate,
            platform: token("platform"),
            tsm: token("tsm"),
            tvm: token("tvm"),
            more: Vec::new(),
        }
    }

    fn seal(self, platform: &CovePlatform) -> Vec<u8> {
        let chain = platform.chain(KeyAlgorithm::Ed25519);
        let mut submodules: Map = vec![
            ("platform".into(), self.platform.seal(chain.rot_key())),
            ("tsm".into(), self.tsm.seal(chain.platform_key())),
            ("tvm".into(), self.tvm.seal(chain.tsm_key())),
        ];
        submodules.extend(self.more);
        let mut certificate = self.certificate;
        let evidence = Value::Map(vec![(claims::SUBMODULES.into(), Value::Map(submodules))]);
        certificate.claims.push((claims::EVIDENCE.into(), evidence));
        encode(&certificate.seal(chain.tsm_key()))
    }
}
