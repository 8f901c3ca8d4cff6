//! What a hypervisor offers to its guest.

use std::ops::Range;

use tsmsim_abi::snp::{msr::HypervisorFeatures, psc::PSC_MAX_ENTRIES, vmsa::SEV_FEATURE_SNP_ACTIVE};

use crate::snp::rmp::FRAMES_2M;

/// What a hypervisor offers to one guest. `Default` is one vCPU, 16 MiB of RAM, C-bit 51, no certificates, and
/// everything of the GHCB protocol that is implemented.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Guest RAM: ranges of guest-physical addresses, in bytes.
    pub ram: Vec<Range<u64>>,
    /// Position of the C-bit in page-table entries and in the SEV information response.
    pub c_bit: u8,
    /// APIC ID of each vCPU; the first is the boot processor.
    pub apic_ids: Vec<u32>,
    /// What to advertise; cut down to [`SUPPORTED_FEATURES`].
    pub features: HypervisorFeatures,
    /// `SEV_FEATURES` that every VMSA of this guest has.
    pub sev_features: u64,
    /// Guest-physical address that the hypervisor would like a GHCB to have; page-aligned.
    pub preferred_ghcb: Option<u64>,
    /// The certificate table for extended guest requests; empty means that the host provides none.
    pub certificates: Vec<u8>,
    /// How many 4 KiB pages one page-state-change exit may change before it returns unfinished (at least one).
    pub psc_pages_per_exit: u64,
    /// Whether a scratch area outside the GHCB is accepted with protocol version 2, which forbids it.
    pub scratch_outside_ghcb: bool,
    /// Frequency of the guest's TSC, in kHz.
    pub tsc_khz: u64,
    /// Whether PVALIDATE and RMPADJUST through a mapping without the C-bit fail. They are journalled in any case.
    pub refuse_without_c_bit: bool,
    /// Whether 2 MiB that were launched alike are one entry of the reverse map, as on a host that backs its guests with
    /// huge pages. If not, a guest that validates or rescinds 2 MiB has to do it again in 4 KiB.
    pub huge_pages: bool,
}

/// What of the hypervisor features is implemented here.
pub const SUPPORTED_FEATURES: HypervisorFeatures =
    HypervisorFeatures::new().with_snp(true).with_ap_creation(true).with_apic_id_list(true);

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            ram: std::iter::once(0..16 << 20).collect(),
            c_bit: 51,
            apic_ids: vec![0],
            features: SUPPORTED_FEATURES,
            sev_features: SEV_FEATURE_SNP_ACTIVE,
            preferred_ghcb: None,
            certificates: Vec::new(),
            psc_pages_per_exit: PSC_MAX_ENTRIES as u64 * FRAMES_2M,
            scratch_outside_ghcb: false,
            tsc_khz: 2_000_000,
            refuse_without_c_bit: false,
            huge_pages: false,
        }
    }
}
