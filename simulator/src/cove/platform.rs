//! The device: its software, its layers of attestation, the TSM's capabilities.

use std::sync::Arc;

use tsmsim_abi::cove::{
    attcaps::{
        AttestationCapabilities, HashAlgorithm, MAX_RUNTIME_MEASUREMENT_REGISTERS,
        MeasurementRegisterDescriptor, MeasurementType, UNMAPPED_TCG_PCR,
    },
    claims::{MANUFACTURER_ID_SIZE, PlatformState, register},
    covg::CertificateFormats,
    sbi::CoveErrors,
};
use tsmsim_keys::{
    KeysError, Seed, SignatureMode,
    cove::{Chain, Device, DeviceIdentity, Hierarchy, KeyAlgorithm},
};
use zerocopy::FromZeros;

use super::{
    evidence::{EvidenceError, LayerTokens},
    measure::{Hash, InitialRegisters},
};

/// A software component of a TCB (`riscv-cove-sw-component`). Digests that are not given follow from name and security
/// version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// Type: `tsm`, say.
    pub name: String,
    /// Security version number.
    pub svn: u64,
    /// Hash of the component as it was loaded.
    pub measurement: Option<Vec<u8>>,
    /// Hash of its manifest; `None`: it has none.
    pub manifest: Option<Vec<u8>>,
    /// Hash of the signer's public key.
    pub signer: Option<Vec<u8>>,
}

impl Component {
    /// A component without a manifest whose digests follow from its name and version.
    #[must_use]
    pub fn new(name: &str, svn: u64) -> Self {
        Self { name: name.to_owned(), svn, measurement: None, manifest: None, signer: None }
    }

    /// With a manifest, whose digest follows from name and version too.
    fn with_manifest(mut self, hash: Hash) -> Self {
        self.manifest = Some(hash.digest(&[self.text("manifest").as_bytes()]));
        self
    }

    fn text(&self, what: &str) -> String {
        format!("tsmsim CoVE {} {} {what}", self.name, self.svn)
    }

    /// The hash of the component.
    #[must_use]
    pub fn measurement(&self, hash: Hash) -> Vec<u8> {
        let derived = || hash.digest(&[self.text("binary").as_bytes()]);
        self.measurement.clone().unwrap_or_else(derived)
    }

    /// The hash of its signer's key.
    #[must_use]
    pub fn signer(&self, hash: Hash) -> Vec<u8> {
        self.signer.clone().unwrap_or_else(|| hash.digest(&[b"tsmsim CoVE signer"]))
    }
}

/// `H(Meas)` of a layer: from zeros, extended with each component's measurement and manifest.
fn layer(hash: Hash, components: &[Component]) -> Vec<u8> {
    let mut layer = hash.zeros();
    for component in components {
        hash.extend(&mut layer, &[&component.measurement(hash)]);
        if let Some(manifest) = &component.manifest {
            hash.extend(&mut layer, &[manifest]);
        }
    }
    layer
}

/// A platform before there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CovePlatformConfig {
    /// Which device of the seed.
    pub device: u32,
    /// The hash algorithm of all registers.
    pub hash_algorithm: HashAlgorithm,
    /// The formats that the TSM offers.
    pub formats: CertificateFormats,
    /// Runtime registers, 0 to 18.
    pub runtime_measurements: u8,
    /// Security version of the TCB.
    pub tcb_svn: u64,
    /// Operational state.
    pub state: PlatformState,
    /// Manufacturer identifier.
    pub manufacturer_id: [u8; MANUFACTURER_ID_SIZE],
    /// Software of the platform's TCB, one component or more.
    pub platform_components: Vec<Component>,
    /// The TSM-driver.
    pub tsm_driver: Component,
    /// The TSM.
    pub tsm: Component,
    /// Numbers of the errors that have none.
    pub errors: CoveErrors,
    /// vCPUs of a TVM at most.
    pub max_vcpus: u16,
    /// How tokens of the X.509 format are signed. EdDSA and certificates are always deterministic.
    pub signature_mode: SignatureMode,
}

impl CovePlatformConfig {
    /// SHA-384, both formats, as many runtime registers as there can be: the profile `cove-0.7`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_hash(Hash::new(HashAlgorithm::SHA_384))
    }

    /// The same with another hash algorithm; `None` if it is unknown.
    #[must_use]
    pub fn with_hash_algorithm(algorithm: HashAlgorithm) -> Option<Self> {
        Hash::new(algorithm).map(|hash| Self::with_hash(Some(hash)))
    }

    fn with_hash(hash: Option<Hash>) -> Self {
        let component = |name, svn| {
            let component = Component::new(name, svn);
            match hash {
                Some(hash) => component.with_manifest(hash),
                None => component,
            }
        };
        let mut manufacturer_id = [0; MANUFACTURER_ID_SIZE];
        let name = b"tsmsim synthetic CoVE platform";
        manufacturer_id[..name.len()].copy_from_slice(name);
        Self {
            device: 0,
            hash_algorithm: hash.map_or(HashAlgorithm::SHA_384, Hash::algorithm),
            formats: CertificateFormats::new().with_cbor(true).with_x509(true),
            runtime_measurements: 18,
            tcb_svn: 1,
            state: PlatformState::SECURED,
            manufacturer_id,
            platform_components: vec![component("rot-firmware", 1), component("m-mode-firmware", 3)],
            tsm_driver: component("tsm-driver", 2),
            tsm: component("tsm", 1),
            errors: CoveErrors::DEFAULT,
            max_vcpus: 64,
            signature_mode: SignatureMode::default(),
        }
    }

    /// The platform with keys and certificates from a seed.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn build(&self, seed: &Seed) -> Result<CovePlatform, PlatformError> {
        self.build_under(Hierarchy::new(seed))
    }

    /// The same under a hierarchy that was edited (for malformed certificates, say).
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn build_under(&self, hierarchy: Hierarchy) -> Result<CovePlatform, PlatformError> {
        let hash = Hash::new(self.hash_algorithm).ok_or(PlatformError::Hash(self.hash_algorithm))?;
        if usize::from(self.runtime_measurements) > MAX_RUNTIME_MEASUREMENT_REGISTERS {
            return Err(PlatformError::RuntimeMeasurements(self.runtime_measurements));
        }
        if self.formats.reserved() != 0 || !(self.formats.cbor() || self.formats.x509()) {
            return Err(PlatformError::Formats);
        }
        if self.platform_components.is_empty() {
            return Err(PlatformError::NoComponents);
        }
        let tsm_components = [self.tsm_driver.clone(), self.tsm.clone()];
        let identity = DeviceIdentity {
            number: self.device,
            platform: layer(hash, &self.platform_components),
            tsm: layer(hash, &tsm_components),
        };
        let device = hierarchy.device(&identity);
        let endorsed = |algorithm| -> Result<Endorsed, PlatformError> {
            let chain = hierarchy.chain(&device, algorithm)?;
            let tokens = LayerTokens::new(self, hash, &chain)?;
            Ok(Endorsed { chain, tokens })
        };
        let endorsed = [endorsed(KeyAlgorithm::Ed25519)?, endorsed(KeyAlgorithm::P256)?];
        let registers = initial_registers(self, hash);
        let inner = Inner { config: self.clone(), hash, hierarchy, device, endorsed, registers };
        Ok(CovePlatform { inner: Arc::new(inner) })
    }
}

impl Default for CovePlatformConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no such platform.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A key or certificate could not be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A token could not be made.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// An unknown hash algorithm.
    #[error("hash algorithm {0} is unknown")]
    Hash(HashAlgorithm),
    /// More runtime registers than there can be.
    #[error("{0} runtime measurement registers are more than 18")]
    RuntimeMeasurements(u8),
    /// No format, or one that is unknown.
    #[error("certificate formats are CBOR, X.509 or both")]
    Formats,
    /// A platform without software.
    #[error("a platform has at least one software component")]
    NoComponents,
}

fn initial_registers(config: &CovePlatformConfig, hash: Hash) -> InitialRegisters {
    let mut registers = InitialRegisters::new(hash);
    let mut measure = |component: &Component, software, configuration| {
        registers.extend(software, &[&component.measurement(hash)]);
        if let Some(manifest) = &component.manifest {
            registers.extend(configuration, &[manifest]);
        }
    };
    for component in config.platform_components.iter().chain([&config.tsm_driver]) {
        measure(component, register::PLATFORM_FIRMWARE, register::PLATFORM_CONFIGURATION);
    }
    measure(&config.tsm, register::TSM_SOFTWARE, register::TSM_CONFIGURATION);
    registers
}

/// Keys and certificates of one algorithm, and what was signed with them while the device started.
pub(super) struct Endorsed {
    pub(super) chain: Chain,
    pub(super) tokens: LayerTokens,
}

struct Inner {
    config: CovePlatformConfig,
    hash: Hash,
    hierarchy: Hierarchy,
    device: Device,
    endorsed: [Endorsed; 2],
    registers: InitialRegisters,
}

/// A platform: keys derived, platform and TSM token signed. Cheap to clone.
#[derive(Clone)]
pub struct CovePlatform {
    inner: Arc<Inner>,
}

impl CovePlatform {
    /// How it was described.
    #[must_use]
    pub fn config(&self) -> &CovePlatformConfig {
        &self.inner.config
    }

    /// The hash algorithm of all registers.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.inner.hash
    }

    /// The hierarchy that endorses the platform.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.inner.hierarchy
    }

    /// Its layers up to the TSM.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Keys and certificates of an algorithm.
    #[must_use]
    pub fn chain(&self, algorithm: KeyAlgorithm) -> &Chain {
        &self.endorsed(algorithm).chain
    }

    pub(super) fn endorsed(&self, algorithm: KeyAlgorithm) -> &Endorsed {
        let [ed25519, p256] = &self.inner.endorsed;
        match algorithm {
            KeyAlgorithm::Ed25519 => ed25519,
            KeyAlgorithm::P256 => p256,
        }
    }

    /// The initial registers of a TVM before anything of its own is measured.
    #[must_use]
    pub fn initial_registers(&self) -> &InitialRegisters {
        &self.inner.registers
    }

    /// `AttestationCapabilities`.
    #[must_use]
    pub fn capabilities(&self) -> AttestationCapabilities {
        let config = self.config();
        let descriptor = |measurement_type: MeasurementType, tcg_pcr_index| MeasurementRegisterDescriptor {
            hash_algorithm: config.hash_algorithm.0.into(),
            measurement_type: measurement_type.0.into(),
            tcg_pcr_index,
            padding: [0; 3],
        };
        let mut capabilities = AttestationCapabilities {
            tcb_svn: config.tcb_svn.into(),
            hash_algorithm: config.hash_algorithm.0.into(),
            certificate_formats: u32::from(config.formats).into(),
            runtime_measurements: config.runtime_measurements,
            ..AttestationCapabilities::new_zeroed()
        };
        let initial =
            std::iter::repeat_n(descriptor(MeasurementType::INITIAL, UNMAPPED_TCG_PCR), register::COUNT);
        // PCRs 0 to 16, and 23.
        let runtime = (0..17).chain([23]).map(|pcr| descriptor(MeasurementType::RUNTIME, pcr));
        let all = initial.chain(runtime.take(config.runtime_measurements.into()));
        for (register, descriptor) in capabilities.msmt_regs.iter_mut().zip(all) {
            *register = descriptor;
        }
        capabilities.initial_measurements = u8::try_from(register::COUNT).unwrap_or(u8::MAX);
        capabilities
    }
}
