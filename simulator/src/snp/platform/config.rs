//! How a platform is described before there is one, and what cannot be.

use tsmsim_abi::snp::{
    policy::PlatformInfo,
    report::FirmwareVersion,
    tcb::{ProductLine, TcbLayout, TcbParts},
};
use tsmsim_keys::{KeysError, SignatureMode};

/// Why a platform cannot be as it is described. Each says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// One TCB version must not be above another.
    #[error(
        "{low_name} TCB {low:?} is above the {high_name} TCB {high:?}: lower it, or raise the {high_name} TCB"
    )]
    TcbOrder {
        /// The one that must be lower: `committed`, `reported` or `launch`.
        low_name: &'static str,
        /// Its value.
        low: TcbParts,
        /// The one that must be higher.
        high_name: &'static str,
        /// Its value.
        high: TcbParts,
    },
    /// Milan and Genoa have no FMC, so their TCB versions cannot name its patch level.
    #[error("{0}: the TCB version of this product line has no FMC component; leave `fmc` out")]
    NoFmc(&'static str),
    /// The committed firmware version is above the current one.
    #[error("committed firmware {committed} is above the current firmware {current}: commit a lower version")]
    VersionOrder {
        /// The committed version.
        committed: FirmwareVersion,
        /// The current version.
        current: FirmwareVersion,
    },
    /// Not a version of the attestation report that is known here.
    #[error("attestation report version {0} is none of 2, 3 and 5")]
    ReportVersion(u32),
    /// A bit of the platform information that the report version does not have.
    #[error(
        "platform information {info:#x}: a report of version {version} has only the bits {known:#x}; clear the others, or use a later report version"
    )]
    PlatformInfo {
        /// What was asked for.
        info: u64,
        /// The report version.
        version: u32,
        /// The bits that it has.
        known: u64,
    },
    /// Mitigation vectors came with version 5 of the report.
    #[error("a mitigation vector needs report version 5, not {0}")]
    MitigationVector(u32),
    /// The CPU's family and model belong to another product line.
    #[error(
        "CPU family {family:#x} model {model:#x} is not of the line {line}: use one that is, or another profile"
    )]
    CpuSignature {
        /// Combined family.
        family: u8,
        /// Combined model.
        model: u8,
        /// The line of the profile.
        line: &'static str,
    },
    /// The reference clock divides.
    #[error("the TSC reference clock must not be 0 kHz")]
    ReferenceClock,
    /// No sockets.
    #[error("a platform has at least one socket")]
    Sockets,
    /// The chip identifier, a TCB version or the CSP identifier cannot be, or a key could not be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Family, model and stepping of the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuSignature {
    /// Combined family: base family plus extended family.
    pub family: u8,
    /// Combined model: extended model in the high half.
    pub model: u8,
    /// Stepping: 0 to 15.
    pub stepping: u8,
}

impl CpuSignature {
    /// CPUID Fn0000_0001_EAX. Families below Fh cannot be expressed and count as Fh.
    #[must_use]
    pub const fn eax(self) -> u32 {
        let extended_family = self.family.saturating_sub(0xf) as u32;
        let (high, low) = ((self.model >> 4) as u32, (self.model & 0xf) as u32);
        extended_family << 20 | high << 16 | 0xf << 8 | low << 4 | (self.stepping & 0xf) as u32
    }
}

/// What Secure TSC depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TscParameters {
    /// Reference clock of the TSC in kHz: a guest's scale is its desired frequency divided by this.
    pub reference_clock_khz: u32,
    /// `TSC_FACTOR`: the real mean frequency is lower than nominal by this many 1/100,000 (spread spectrum clocking).
    pub tsc_factor: u32,
}

/// Description of a platform: a product line's typical values, any of which can be changed.
///
/// Defaults per line, each an ABI of its time, so that all report versions occur:
///
/// | | Milan | Genoa | Turin |
/// |---|---|---|---|
/// | CPU family, model, stepping | 19h, 01h, 1 (7003) | 19h, 11h, 1 (9004) | 1Ah, 02h, 1 (9005) |
/// | firmware | 1.55.21 | 1.56.39 | 1.58.3 |
/// | report version | 2 | 3 | 5 |
///
/// The report version follows the firmware's ABI version unless it is set: 2 below 1.56, 3 below 1.58, else 5. The message
/// versions and policy bits that the firmware knows follow the report version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformConfig {
    pub(super) line: ProductLine,
    pub(super) cpu: CpuSignature,
    pub(super) c_bit: u8,
    pub(super) version: FirmwareVersion,
    pub(super) committed_version: Option<FirmwareVersion>,
    pub(super) chip_id: Option<[u8; 64]>,
    pub(super) current_tcb: TcbParts,
    pub(super) committed_tcb: Option<TcbParts>,
    pub(super) reported_tcb: Option<TcbParts>,
    pub(super) launch_tcb: Option<TcbParts>,
    pub(super) platform_info: Option<PlatformInfo>,
    pub(super) mem_aes_256_xts: bool,
    pub(super) sockets: u8,
    pub(super) report_version: Option<u32>,
    pub(super) csp_id: Option<String>,
    pub(super) mask_chip_id: bool,
    pub(super) mask_chip_key: bool,
    pub(super) current_mit_vector: Option<u64>,
    pub(super) signature_mode: SignatureMode,
    pub(super) tsc: TscParameters,
}

/// The setters of a builder: one per field.
macro_rules! setters {
    ($( $(#[$meta:meta])* $setter:ident: $field:ident, $type:ty => $value:expr; )*) => {
        $( $(#[$meta])* #[must_use]
        pub fn $setter(mut self, $field: $type) -> Self {
            self.$field = $value;
            self
        } )*
    };
}

impl PlatformConfig {
    /// The typical platform of a line; see the table above.
    #[must_use]
    pub fn new(line: ProductLine) -> Self {
        let (cpu, version) = match line {
            ProductLine::Milan => ((0x19, 0x01, 1), FirmwareVersion::new(1, 55, 21)),
            ProductLine::Genoa => ((0x19, 0x11, 1), FirmwareVersion::new(1, 56, 39)),
            ProductLine::Turin => ((0x1a, 0x02, 1), FirmwareVersion::new(1, 58, 3)),
        };
        let (family, model, stepping) = cpu;
        let current_tcb = match line {
            ProductLine::Milan => TcbParts { fmc: None, boot_loader: 4, tee: 0, snp: 24, microcode: 219 },
            ProductLine::Genoa => TcbParts { fmc: None, boot_loader: 10, tee: 0, snp: 23, microcode: 84 },
            ProductLine::Turin => TcbParts { fmc: Some(1), boot_loader: 1, tee: 1, snp: 4, microcode: 75 },
        };
        Self {
            line,
            cpu: CpuSignature { family, model, stepping },
            c_bit: 51,
            version,
            committed_version: None,
            chip_id: None,
            current_tcb,
            committed_tcb: None,
            reported_tcb: None,
            launch_tcb: None,
            platform_info: None,
            mem_aes_256_xts: line != ProductLine::Milan,
            sockets: 1,
            report_version: None,
            csp_id: None,
            mask_chip_id: false,
            mask_chip_key: false,
            current_mit_vector: None,
            signature_mode: SignatureMode::default(),
            tsc: TscParameters { reference_clock_khz: 99_800, tsc_factor: 200 },
        }
    }

    setters! {
        /// Family, model and stepping; must stay within the line.
        with_cpu: cpu, CpuSignature => cpu;
        /// Position of the C-bit in page-table entries, which CPUID pages must state: 51 on the real chips. A guest on an
        /// engine that maps fewer bits of address needs a lower one.
        with_c_bit: c_bit, u8 => c_bit;
        /// Firmware that runs.
        with_version: version, FirmwareVersion => version;
        /// Firmware that is committed; the current one by default.
        with_committed_version: committed_version, FirmwareVersion => Some(committed_version);
        /// Chip identifier; on Turin only the first 8 bytes may be set. By default it is derived from seed and line.
        with_chip_id: chip_id, [u8; 64] => Some(chip_id);
        /// `CURRENT_TCB`: what runs.
        with_current_tcb: current_tcb, TcbParts => current_tcb;
        /// `COMMITTED_TCB`: below it the platform cannot go back; the current one by default.
        with_committed_tcb: committed_tcb, TcbParts => Some(committed_tcb);
        /// `REPORTED_TCB`: what endorsement keys are derived for, as `SNP_CONFIG` sets it; the committed one by default.
        with_reported_tcb: reported_tcb, TcbParts => Some(reported_tcb);
        /// `LAUNCH_TCB` of guests that are created; the current one by default. A lower one is that of a guest which was
        /// launched before the firmware was updated under it.
        with_launch_tcb: launch_tcb, TcbParts => Some(launch_tcb);
        /// Platform information. By default SMT, and from report version 3 on also ECC and a complete alias check.
        with_platform_info: platform_info, PlatformInfo => Some(platform_info);
        /// Whether memory is encrypted with AES-256-XTS, which a guest's policy may demand; not on Milan by default.
        with_mem_aes_256_xts: mem_aes_256_xts, bool => mem_aes_256_xts;
        /// Populated sockets: a policy may demand a single one.
        with_sockets: sockets, u8 => sockets;
        /// Version of attestation reports: 2, 3 or 5.
        with_report_version: report_version, u32 => Some(report_version);
        /// A VLEK is installed, loaded by the cloud provider of this name (1 to 64 printable ASCII characters).
        with_vlek: csp_id, &str => Some(csp_id.to_owned());
        /// `MASK_CHIP_ID`: reports do not name the chip.
        with_mask_chip_id: mask_chip_id, bool => mask_chip_id;
        /// `MASK_CHIP_KEY`: the VCEK neither signs nor serves as a root key.
        with_mask_chip_key: mask_chip_key, bool => mask_chip_key;
        /// `CURRENT_MIT_VECTOR`, report version 5: mitigations that are verified to be in place.
        with_current_mit_vector: current_mit_vector, u64 => Some(current_mit_vector);
        /// How reports are signed.
        with_signature_mode: signature_mode, SignatureMode => signature_mode;
        /// TSC parameters.
        with_tsc: tsc, TscParameters => tsc;
    }

    /// The product line.
    #[must_use]
    pub const fn line(&self) -> ProductLine {
        self.line
    }

    /// The report version: as set, else by the firmware's ABI version.
    #[must_use]
    pub const fn report_version(&self) -> u32 {
        match (self.report_version, self.version.major, self.version.minor) {
            (Some(version), ..) => version,
            (None, 0, _) | (None, 1, ..=55) => 2,
            (None, 1, 56..=57) => 3,
            (None, ..) => 5,
        }
    }

    /// The committed TCB.
    pub(super) fn committed_tcb(&self) -> TcbParts {
        self.committed_tcb.unwrap_or(self.current_tcb)
    }

    /// The reported TCB.
    pub(super) fn reported_tcb(&self) -> TcbParts {
        self.reported_tcb.unwrap_or_else(|| self.committed_tcb())
    }

    /// The platform information's bits.
    pub(super) fn platform_info(&self) -> PlatformInfo {
        self.platform_info.unwrap_or_else(|| {
            let later = self.report_version() >= 3;
            PlatformInfo::new().with_smt_en(true).with_ecc_en(later).with_alias_check_complete(later)
        })
    }

    /// Judges the description as a whole.
    pub(super) fn check(&self) -> Result<(), PlatformError> {
        self.check_tcbs()?;
        let CpuSignature { family, model, .. } = self.cpu;
        if ProductLine::from_family_model(family, model) != Some(self.line) {
            return Err(PlatformError::CpuSignature { family, model, line: self.line.name() });
        }
        if let Some(committed) = self.committed_version
            && version_key(committed) > version_key(self.version)
        {
            return Err(PlatformError::VersionOrder { committed, current: self.version });
        }
        if self.tsc.reference_clock_khz == 0 {
            return Err(PlatformError::ReferenceClock);
        }
        if self.sockets == 0 {
            return Err(PlatformError::Sockets);
        }
        self.check_report()
    }

    fn check_report(&self) -> Result<(), PlatformError> {
        let version = self.report_version();
        let known: u64 = match version {
            2 => 0x1f,
            3 => 0x3f,
            5 => 0xbf,
            _ => return Err(PlatformError::ReportVersion(version)),
        };
        let info = u64::from(self.platform_info());
        if info & !known != 0 {
            return Err(PlatformError::PlatformInfo { info, version, known });
        }
        if version < 5 && self.current_mit_vector.is_some_and(|vector| vector != 0) {
            return Err(PlatformError::MitigationVector(version));
        }
        Ok(())
    }

    fn check_tcbs(&self) -> Result<(), PlatformError> {
        let (current, committed) = (self.current_tcb, self.committed_tcb());
        let launch = self.launch_tcb.unwrap_or(current);
        let order = [
            ("committed", committed, "current", current),
            ("reported", self.reported_tcb(), "committed", committed),
            ("launch", launch, "current", current),
        ];
        for (low_name, low, high_name, high) in order {
            if self.line.tcb_layout() == TcbLayout::MilanGenoa && (low.fmc.is_some() || high.fmc.is_some()) {
                return Err(PlatformError::NoFmc(self.line.name()));
            }
            if !low.at_most(high) {
                return Err(PlatformError::TcbOrder { low_name, low, high_name, high });
            }
        }
        Ok(())
    }
}

const fn version_key(version: FirmwareVersion) -> [u8; 3] {
    [version.major, version.minor, version.build]
}
