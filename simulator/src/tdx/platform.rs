//! The processor with its TDX module: identity, security versions, keys.

use aws_lc_rs::hmac;
use tsmsim_abi::tdx::{
    metadata::TdxFeatures0,
    report::{
        MACED_SIZE, Measurement, ReportMacStruct, ReportType, TdInfo, TdReport, TeeTcbInfo, TeeTcbSvn,
        TeeType, VALID_1_0, VALID_1_5,
    },
};
use tsmsim_keys::{
    KeysError, Seed, SignatureMode,
    intel::{Hierarchy, PlatformIdentity, QeIdentitySpec, TcbInfoSpec},
};
use zerocopy::IntoBytes;

use super::mrtd::sha384;

/// Which generation of the module: what functions there are, and what reports hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TdxVersion {
    /// TDX 1.0: the functions of 2021.
    V1_0,
    /// TDX 1.5: also `TDG.SYS.RD`, `TDG.MR.VERIFYREPORT`, version 1 of `TDG.VM.RD`; second security versions in reports.
    V1_5,
}

impl TdxVersion {
    /// Minor version of the module; the major version is 1.
    #[must_use]
    pub const fn minor(self) -> u16 {
        match self {
            Self::V1_0 => 0,
            Self::V1_5 => 5,
        }
    }

    /// `TDX_FEATURES0`: what of the module is modelled.
    #[must_use]
    pub const fn features(self) -> TdxFeatures0 {
        match self {
            Self::V1_0 => TdxFeatures0::new(),
            Self::V1_5 => TdxFeatures0::new()
                .with_local_attestation(true)
                .with_config_ia32_arch_cap(true)
                .with_pending_ept_violation_v2(true)
                .with_no_rbp_mod(true),
        }
    }
}

/// Which quotes the quoting enclave makes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QuoteFormat {
    /// Version 4, with the body of TDX 1.0.
    V4,
    /// Version 5, with the body of TDX 1.0 (type 2).
    V5Td10,
    /// Version 5, with the body of TDX 1.5 (type 3).
    V5Td15,
}

/// A platform before there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TdxPlatformConfig {
    /// Generation of the module.
    pub version: TdxVersion,
    /// Security versions of the SEAM components.
    pub tee_tcb_svn: TeeTcbSvn,
    /// Security versions of the module that runs now; TDX 1.5.
    pub tee_tcb_svn2: TeeTcbSvn,
    /// `MRSEAM`; `None`: derived from the version.
    pub mr_seam: Option<Measurement>,
    /// `MRSIGNERSEAM`: zero for Intel's modules.
    pub mr_signer_seam: Measurement,
    /// What the PCK certificate names; `None`: the seed's first platform.
    pub identity: Option<PlatformIdentity>,
    /// Quotes.
    pub quote_format: QuoteFormat,
    /// The quoting enclave.
    pub qe: QeIdentitySpec,
    /// How quotes are signed.
    pub signature_mode: SignatureMode,
}

impl TdxPlatformConfig {
    /// TDX 1.0, quotes of version 4: the profile `tdx-1.0`.
    #[must_use]
    pub fn tdx_1_0() -> Self {
        let tee_tcb_svn = TeeTcbSvn { module_svn: 5, late_microcode_svn: 2, ..TeeTcbSvn::ZERO };
        Self {
            version: TdxVersion::V1_0,
            tee_tcb_svn,
            tee_tcb_svn2: TeeTcbSvn::ZERO,
            mr_seam: None,
            mr_signer_seam: [0; 48],
            identity: None,
            quote_format: QuoteFormat::V4,
            qe: QeIdentitySpec::td_qe(),
            signature_mode: SignatureMode::default(),
        }
    }

    /// TDX 1.5, quotes of version 4, as services of today make them by default: the profile `tdx-1.5`.
    #[must_use]
    pub fn tdx_1_5() -> Self {
        let tee_tcb_svn =
            TeeTcbSvn { module_svn: 5, module_major_version: 1, late_microcode_svn: 2, ..TeeTcbSvn::ZERO };
        Self { version: TdxVersion::V1_5, tee_tcb_svn, tee_tcb_svn2: tee_tcb_svn, ..Self::tdx_1_0() }
    }

    /// The platform with keys and certificates from a seed.
    ///
    /// # Errors
    /// [`KeysError`] if a key or certificate cannot be made.
    pub fn build(&self, seed: &Seed) -> Result<TdxPlatform, KeysError> {
        self.build_under(seed, Hierarchy::new(seed))
    }

    /// The same under a hierarchy that was edited (for malformed certificates, say).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_under(&self, seed: &Seed, hierarchy: Hierarchy) -> Result<TdxPlatform, KeysError> {
        let identity = self.identity.clone().unwrap_or_else(|| PlatformIdentity::synthetic(seed, 0));
        let mac = seed.derive::<32>(&[b"intel", b"report-mac", &identity.ppid, &identity.tcb.cpusvn]);
        let qe_id = *seed.derive::<16>(&[b"intel", b"qe-id", &identity.ppid]).expose();
        let name = format!("tsmsim TDX module 1.{}", self.version.minor());
        Ok(TdxPlatform {
            mr_seam: self.mr_seam.unwrap_or_else(|| sha384(&[name.as_bytes()])),
            config: self.clone(),
            mac_key: hmac::Key::new(hmac::HMAC_SHA256, mac.expose()),
            hierarchy,
            identity,
            qe_id,
        })
    }
}

/// Why a REPORTMACSTRUCT is not this platform's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum MacError {
    /// Security versions that the platform does not have.
    #[error("CPUSVN is not this platform's")]
    CpuSvn,
    /// The MAC is another, or the structure is not that of a TD.
    #[error("the MAC is not this platform's")]
    Mac,
}

/// A platform: keys derived, ready to report.
#[derive(Clone)]
pub struct TdxPlatform {
    config: TdxPlatformConfig,
    hierarchy: Hierarchy,
    identity: PlatformIdentity,
    mr_seam: Measurement,
    mac_key: hmac::Key,
    qe_id: [u8; 16],
}

impl TdxPlatform {
    /// How it was described.
    #[must_use]
    pub const fn config(&self) -> &TdxPlatformConfig {
        &self.config
    }

    /// Generation of the module.
    #[must_use]
    pub const fn version(&self) -> TdxVersion {
        self.config.version
    }

    /// The certificate hierarchy that endorses the platform.
    #[must_use]
    pub const fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// What the PCK certificate names.
    #[must_use]
    pub const fn identity(&self) -> &PlatformIdentity {
        &self.identity
    }

    /// Identifier of the quoting enclave on this platform: the first bytes of a quote's user data.
    #[must_use]
    pub const fn qe_id(&self) -> &[u8; 16] {
        &self.qe_id
    }

    /// TCB info by which the platform is up to date.
    #[must_use]
    pub fn tcb_info_spec(&self) -> TcbInfoSpec {
        let mut spec = TcbInfoSpec::tdx(&self.identity, self.config.tee_tcb_svn.components());
        spec.mrsignerseam = self.config.mr_signer_seam;
        spec
    }

    /// `TEE_TCB_INFO`.
    #[must_use]
    pub const fn tee_tcb_info(&self) -> TeeTcbInfo {
        let (valid, tee_tcb_svn2) = match self.config.version {
            TdxVersion::V1_0 => (VALID_1_0, TeeTcbSvn::ZERO),
            TdxVersion::V1_5 => (VALID_1_5, self.config.tee_tcb_svn2),
        };
        TeeTcbInfo {
            valid: zerocopy::little_endian::U64::new(valid),
            tee_tcb_svn: self.config.tee_tcb_svn,
            mr_seam: self.mr_seam,
            mr_signer_seam: self.config.mr_signer_seam,
            attributes: zerocopy::little_endian::U64::ZERO,
            tee_tcb_svn2,
            reserved: [0; 95],
        }
    }

    /// `SEAMREPORT`: the report of a TD, with the MAC (Intel SDM volume 3D, "SEAMREPORT"; 348550).
    #[must_use]
    pub fn report(&self, td_info: TdInfo, report_type: ReportType, report_data: [u8; 64]) -> TdReport {
        let tee_tcb_info = self.tee_tcb_info();
        let mut report_mac_struct = ReportMacStruct {
            report_type,
            reserved_0x4: [0; 12],
            cpusvn: self.identity.tcb.cpusvn,
            tee_tcb_info_hash: sha384(&[tee_tcb_info.as_bytes()]),
            tee_info_hash: sha384(&[td_info.as_bytes()]),
            report_data,
            reserved_0xc0: [0; 32],
            mac: [0; 32],
        };
        let tag = hmac::sign(&self.mac_key, &report_mac_struct.as_bytes()[..MACED_SIZE]);
        report_mac_struct.mac.copy_from_slice(tag.as_ref());
        TdReport { report_mac_struct, tee_tcb_info, reserved: [0; 17], td_info }
    }

    /// `SEAMVERIFYREPORT`: whether a REPORTMACSTRUCT of a TD was made on this platform.
    ///
    /// # Errors
    /// [`MacError::CpuSvn`] before the MAC is looked at, [`MacError::Mac`] for everything else.
    pub fn verify_report(&self, report: &ReportMacStruct) -> Result<(), MacError> {
        if report.cpusvn != self.identity.tcb.cpusvn {
            return Err(MacError::CpuSvn);
        }
        if TeeType(report.report_type.tee_type) != TeeType::TDX {
            return Err(MacError::Mac);
        }
        hmac::verify(&self.mac_key, &report.as_bytes()[..MACED_SIZE], &report.mac).map_err(|_| MacError::Mac)
    }
}
