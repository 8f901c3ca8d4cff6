//! The chip: its identity, firmware, TCB versions, endorsement keys and configuration.

mod config;

use tsmsim_abi::snp::{
    policy::{GuestPolicy, PlatformInfo},
    report::FirmwareVersion,
    status::FirmwareStatus,
    tcb::{ProductLine, TcbParts, TcbVersion},
};
use tsmsim_keys::{
    KeysError, Secret, Seed, SignatureMode,
    amd::{ChipIdentity, EndorsementKey, Hierarchy},
};

pub use self::config::{CpuSignature, PlatformConfig, PlatformError, TscParameters};
use super::message::cpuid::CpuidPolicy;

/// A chip with its firmware, as it stands after `SNP_INIT`: keys derived, ready to sign.
///
/// Endorsement keys are derived when the platform is made and when `SNP_CONFIG` changes the reported TCB; never per report.
/// A clone is the same chip once more: it shares the keys, so it costs next to nothing, and is configured by itself.
#[derive(Clone)]
pub struct Platform {
    config: PlatformConfig,
    hierarchy: Hierarchy,
    chip: ChipIdentity,
    chip_id: [u8; 64],
    reported_tcb: TcbParts,
    vcek: EndorsementKey,
    vlek: Option<EndorsementKey>,
    roots: RootKeys,
    cpuid: CpuidPolicy,
}

/// Secrets of the chip and of the cloud provider from which `MSG_KEY_REQ` derives; wiped when dropped.
#[derive(Clone)]
struct RootKeys {
    chip: Seed,
    csp: Option<Seed>,
}

/// `SNP_CONFIG`: what a hypervisor may change about a platform (56860 rev. 1.58, `SNP_CONFIG`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnpConfig {
    /// `REPORTED_TCB`; all zero stands for the committed TCB.
    pub reported_tcb: TcbVersion,
    /// `MASK_CHIP_ID`.
    pub mask_chip_id: bool,
    /// `MASK_CHIP_KEY`.
    pub mask_chip_key: bool,
}

impl PlatformConfig {
    /// The platform with keys and certificates from a seed.
    ///
    /// # Errors
    /// [`PlatformError`] says which part of the description cannot be, and what to change.
    pub fn build(&self, seed: &Seed) -> Result<Platform, PlatformError> {
        self.build_under(seed, Hierarchy::new(seed, self.line))
    }

    /// The same under a hierarchy that was edited (for malformed certificates, say). The seed still gives the chip's
    /// identifier and the root keys of derived keys.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_under(&self, seed: &Seed, hierarchy: Hierarchy) -> Result<Platform, PlatformError> {
        self.check()?;
        let chip_id = self.chip_id.unwrap_or_else(|| derived_chip_id(seed, self.line));
        let chip = ChipIdentity::new(chip_id);
        let reported_tcb = self.reported_tcb();
        let tcb = reported_tcb.pack(self.line.tcb_layout());
        let vcek = hierarchy.vcek(&chip, tcb)?;
        let vlek = self.csp_id.as_ref().map(|csp_id| hierarchy.vlek(csp_id, tcb)).transpose()?;
        Ok(Platform {
            config: self.clone(),
            hierarchy,
            roots: RootKeys::new(seed, self.line, &chip_id, self.csp_id.as_deref()),
            chip,
            chip_id,
            reported_tcb,
            vcek,
            vlek,
            cpuid: CpuidPolicy::new(self.line, self.cpu, self.c_bit),
        })
    }
}

/// `CHIP_ID` of the first chip of a line: derived, so another seed has other chips.
fn derived_chip_id(seed: &Seed, line: ProductLine) -> [u8; 64] {
    let mut chip_id = [0; 64];
    let used = line.hwid_len();
    let derived = seed.derive::<64>(&[b"amd", line.name().as_bytes(), b"chip-id"]);
    chip_id[..used].copy_from_slice(&derived.expose()[..used]);
    chip_id
}

impl RootKeys {
    fn new(seed: &Seed, line: ProductLine, chip_id: &[u8; 64], csp_id: Option<&str>) -> Self {
        Self {
            chip: seed.derive_seed(&[
                b"amd",
                line.name().as_bytes(),
                b"chip",
                &chip_id[..line.hwid_len()],
                b"key-request",
            ]),
            csp: csp_id.map(|id| {
                seed.derive_seed(&[b"amd", line.name().as_bytes(), b"csp", id.as_bytes(), b"key-request"])
            }),
        }
    }
}

impl Platform {
    /// The product line.
    #[must_use]
    pub const fn line(&self) -> ProductLine {
        self.config.line
    }

    /// The certificate hierarchy that endorses this chip.
    #[must_use]
    pub const fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The chip identifier, whether or not reports are to show it.
    #[must_use]
    pub const fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// The VCEK for the reported TCB.
    #[must_use]
    pub const fn vcek(&self) -> &EndorsementKey {
        &self.vcek
    }

    /// The VLEK for the reported TCB, if one is installed.
    #[must_use]
    pub const fn vlek(&self) -> Option<&EndorsementKey> {
        self.vlek.as_ref()
    }

    /// Family, model and stepping.
    #[must_use]
    pub const fn cpu(&self) -> CpuSignature {
        self.config.cpu
    }

    /// Which CPUID values the firmware lets pass.
    #[must_use]
    pub const fn cpuid_policy(&self) -> &CpuidPolicy {
        &self.cpuid
    }

    /// Firmware that runs.
    #[must_use]
    pub const fn version(&self) -> FirmwareVersion {
        self.config.version
    }

    /// Firmware that is committed.
    #[must_use]
    pub fn committed_version(&self) -> FirmwareVersion {
        self.config.committed_version.unwrap_or(self.config.version)
    }

    /// Version of attestation reports.
    #[must_use]
    pub const fn report_version(&self) -> u32 {
        self.config.report_version()
    }

    /// `PLATFORM_INFO`.
    #[must_use]
    pub fn platform_info(&self) -> PlatformInfo {
        self.config.platform_info()
    }

    /// `CURRENT_TCB`.
    #[must_use]
    pub fn current_tcb(&self) -> TcbVersion {
        self.pack(self.config.current_tcb)
    }

    /// `COMMITTED_TCB`.
    #[must_use]
    pub fn committed_tcb(&self) -> TcbVersion {
        self.pack(self.config.committed_tcb())
    }

    /// `REPORTED_TCB`.
    #[must_use]
    pub fn reported_tcb(&self) -> TcbVersion {
        self.pack(self.reported_tcb)
    }

    /// `LAUNCH_TCB` of a guest that is created now: the current TCB (56860, `LAUNCH_TCB`; AMD-ASPFW takes the committed
    /// one, which is the same wherever no provisional firmware runs).
    #[must_use]
    pub fn launch_tcb(&self) -> TcbVersion {
        self.pack(self.config.launch_tcb.unwrap_or(self.config.current_tcb))
    }

    /// `CURRENT_MIT_VECTOR`; zero before report version 5.
    #[must_use]
    pub fn current_mit_vector(&self) -> u64 {
        self.config.current_mit_vector.unwrap_or(0)
    }

    /// `MASK_CHIP_ID`.
    #[must_use]
    pub const fn mask_chip_id(&self) -> bool {
        self.config.mask_chip_id
    }

    /// `MASK_CHIP_KEY`.
    #[must_use]
    pub const fn mask_chip_key(&self) -> bool {
        self.config.mask_chip_key
    }

    /// How reports are signed.
    #[must_use]
    pub const fn signature_mode(&self) -> SignatureMode {
        self.config.signature_mode
    }

    /// TSC parameters.
    #[must_use]
    pub const fn tsc(&self) -> TscParameters {
        self.config.tsc
    }

    pub(super) const fn sockets(&self) -> u8 {
        self.config.sockets
    }

    pub(super) const fn mem_aes_256_xts(&self) -> bool {
        self.config.mem_aes_256_xts
    }

    /// Policy bits that this firmware knows: from `CXL_ALLOW` on they came after 1.55, `PAGE_SWAP_DISABLE` with 1.58.
    pub(super) const fn known_policy(&self) -> GuestPolicy {
        GuestPolicy::from_bits(match self.report_version() {
            ..=2 => 0x001f_ffff,
            3..=4 => 0x01ff_ffff,
            _ => 0x03ff_ffff,
        })
    }

    fn pack(&self, parts: TcbParts) -> TcbVersion {
        parts.pack(self.config.line.tcb_layout())
    }

    /// Whether a TCB version given from outside is well-formed and at most the committed one.
    pub(super) fn at_most_committed(&self, tcb: TcbVersion) -> bool {
        let layout = self.config.line.tcb_layout();
        tcb.reserved_is_zero(layout) && tcb.parts(layout).at_most(self.config.committed_tcb())
    }

    /// The chip's root key of derived keys for a TCB version. Stands for the hash chain from the chip's unique key.
    pub(super) fn vcek_root(&self, tcb: TcbVersion) -> Secret<48> {
        self.roots.chip.derive(&[b"vcek", &tcb.get().to_le_bytes()])
    }

    /// The cloud provider's root key of derived keys; the same on all of its chips of a line.
    pub(super) fn vlek_root(&self) -> Option<Secret<48>> {
        Some(self.roots.csp.as_ref()?.derive(&[b"vlek"]))
    }

    /// `SNP_CONFIG`. Endorsement keys follow the reported TCB.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] for a reported TCB above the committed one, or with reserved bytes set;
    /// [`FirmwareStatus::HWERROR_PLATFORM`] if a key cannot be made. Nothing has changed then.
    pub fn configure(&mut self, config: SnpConfig) -> Result<(), FirmwareStatus> {
        let tcb = if config.reported_tcb.get() == 0 { self.committed_tcb() } else { config.reported_tcb };
        if !self.at_most_committed(tcb) {
            return Err(FirmwareStatus::INVALID_PARAM);
        }
        if tcb != self.reported_tcb() {
            let (vcek, vlek) = self.endorsement(tcb).map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?;
            self.vcek = vcek;
            self.vlek = vlek;
            self.reported_tcb = tcb.parts(self.config.line.tcb_layout());
        }
        self.config.mask_chip_id = config.mask_chip_id;
        self.config.mask_chip_key = config.mask_chip_key;
        Ok(())
    }

    fn endorsement(&self, tcb: TcbVersion) -> Result<(EndorsementKey, Option<EndorsementKey>), KeysError> {
        let vcek = self.hierarchy.vcek(&self.chip, tcb)?;
        let csp_id = self.config.csp_id.as_ref();
        let vlek = csp_id.map(|csp_id| self.hierarchy.vlek(csp_id, tcb)).transpose()?;
        Ok((vcek, vlek))
    }
}
