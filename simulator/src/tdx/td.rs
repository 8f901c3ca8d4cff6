//! A TD as the module knows it: what TDR, TDCS and TDVPS hold on hardware.

use std::ops::Range;

use tsmsim_abi::tdx::{
    leaf::{CpuidVeControl, GPA_WIDTH_48, GPA_WIDTH_52, VeInstruction},
    report::{Measurement, NUM_RTMRS, ReportType, ReportVersion, TdInfo, TdReport, TeeType},
    td_params::{ConfigFlags, NotifyEnables, TdAttributes, TdCtls, Xfam},
};
use zerocopy::FromZeros;

use super::{
    mrtd::{Mrtd, sha384},
    platform::{TdxPlatform, TdxVersion},
    sept::Sept,
};
use crate::env::Entropy;

/// How far a TD is (`OP_STATE`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OpState {
    /// Before `TDH.MNG.INIT`.
    Uninitialized,
    /// Being built.
    Initialized,
    /// Measured; its VCPUs can run.
    Runnable,
}

/// What `TDG.VP.VEINFO.GET` tells of a #VE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VeInfo {
    /// A VM-exit reason ([`tsmsim_abi::tdx::leaf::exit_reason`]).
    pub exit_reason: u32,
    /// Its qualification.
    pub exit_qualification: u64,
    /// Guest-linear address, where there is one.
    pub gla: u64,
    /// Guest-physical address, where there is one.
    pub gpa: u64,
    /// The instruction.
    pub instruction: VeInstruction,
}

/// A VCPU as the module knows it.
#[derive(Clone, Debug, Default)]
pub struct Vcpu {
    pub(super) ve_info: Option<VeInfo>,
    pub(super) cpuid_ve: CpuidVeControl,
}

impl Vcpu {
    /// The #VE that waits to be read.
    #[must_use]
    pub const fn ve_info(&self) -> Option<&VeInfo> {
        self.ve_info.as_ref()
    }

    /// When CPUID is to raise #VE.
    #[must_use]
    pub const fn cpuid_ve(&self) -> CpuidVeControl {
        self.cpuid_ve
    }
}

/// A TD.
#[derive(Clone)]
pub struct Td {
    pub(super) version: TdxVersion,
    pub(super) op_state: OpState,
    pub(super) uuid: [u8; 32],
    pub(super) attributes: TdAttributes,
    pub(super) xfam: Xfam,
    pub(super) max_vcpus: u16,
    pub(super) num_l2_vms: u8,
    pub(super) config_flags: ConfigFlags,
    pub(super) td_ctls: TdCtls,
    pub(super) notify_enables: NotifyEnables,
    pub(super) tsc_frequency: u16,
    pub(super) digest: Mrtd,
    pub(super) mr_td: Measurement,
    pub(super) mr_config_id: Measurement,
    pub(super) mr_owner: Measurement,
    pub(super) mr_owner_config: Measurement,
    pub(super) rtmr: [Measurement; NUM_RTMRS],
    pub(super) sept: Sept,
    pub(super) vcpus: Vec<Vcpu>,
}

impl Td {
    /// `TDH.MNG.CREATE` and what goes before `TDH.MNG.INIT`: an empty TD on a platform. `ram` are the guest-physical
    /// addresses that the host has memory for.
    #[must_use]
    pub fn create(platform: &TdxPlatform, ram: &[Range<u64>], entropy: &mut dyn Entropy) -> Self {
        let mut uuid = [0; 32];
        entropy.fill(&mut uuid);
        Self {
            version: platform.version(),
            op_state: OpState::Uninitialized,
            uuid,
            attributes: TdAttributes::new(),
            xfam: Xfam::new(),
            max_vcpus: 0,
            num_l2_vms: 0,
            config_flags: ConfigFlags::new(),
            td_ctls: TdCtls::new(),
            notify_enables: NotifyEnables::new(),
            tsc_frequency: 0,
            digest: Mrtd::new(),
            mr_td: [0; 48],
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmr: [[0; 48]; NUM_RTMRS],
            sept: Sept::new(ram),
            vcpus: Vec::new(),
        }
    }

    /// How far the TD is.
    #[must_use]
    pub const fn op_state(&self) -> OpState {
        self.op_state
    }

    /// `ATTRIBUTES`.
    #[must_use]
    pub const fn attributes(&self) -> TdAttributes {
        self.attributes
    }

    /// `XFAM`.
    #[must_use]
    pub const fn xfam(&self) -> Xfam {
        self.xfam
    }

    /// The run-time measurement registers.
    #[must_use]
    pub const fn rtmr(&self) -> &[Measurement; NUM_RTMRS] {
        &self.rtmr
    }

    /// Page states.
    #[must_use]
    pub const fn sept(&self) -> &Sept {
        &self.sept
    }

    /// Page states, for what a host does of its own accord.
    pub const fn sept_mut(&mut self) -> &mut Sept {
        &mut self.sept
    }

    /// The VCPUs.
    #[must_use]
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus
    }

    /// Width of guest-physical addresses.
    #[must_use]
    pub const fn gpa_width(&self) -> u64 {
        if self.config_flags.gpaw() { GPA_WIDTH_52 } else { GPA_WIDTH_48 }
    }

    /// The bit that makes an address a shared one.
    #[must_use]
    pub const fn shared_bit(&self) -> u64 {
        1 << (self.gpa_width() - 1)
    }

    /// The address of the memory behind a guest-physical address, and whether it names it as shared; `None` if bits are
    /// set that addresses of this TD do not have.
    #[must_use]
    pub const fn split_gpa(&self, gpa: u64) -> Option<(u64, bool)> {
        if gpa >> self.gpa_width() != 0 {
            return None;
        }
        Some((gpa & !self.shared_bit(), gpa & self.shared_bit() != 0))
    }

    /// Has a #VE for a VCPU to read, as the processor and the module do for instructions that a TD cannot execute. Returns
    /// whether it could: an earlier one that was not read yet makes it #GP(0) instead, and there may be no such VCPU.
    pub fn raise_ve(&mut self, vcpu: usize, info: VeInfo) -> bool {
        match self.vcpus.get_mut(vcpu) {
            Some(Vcpu { ve_info: slot @ None, .. }) => {
                *slot = Some(info);
                true
            }
            _ => false,
        }
    }

    /// `TDINFO_STRUCT`.
    #[must_use]
    pub fn td_info(&self) -> TdInfo {
        TdInfo {
            attributes: u64::from(self.attributes).into(),
            xfam: u64::from(self.xfam).into(),
            mr_td: self.mr_td,
            mr_config_id: self.mr_config_id,
            mr_owner: self.mr_owner,
            mr_owner_config: self.mr_owner_config,
            rtmr: self.rtmr,
            ..TdInfo::new_zeroed()
        }
    }

    /// The TD's report with these report data.
    #[must_use]
    pub fn report(&self, platform: &TdxPlatform, report_data: [u8; 64]) -> TdReport {
        let report_type = ReportType {
            tee_type: TeeType::TDX.0,
            subtype: 0,
            version: ReportVersion::NO_SERVICE_TD.0,
            reserved: 0,
        };
        platform.report(self.td_info(), report_type, report_data)
    }

    /// Extends a run-time measurement register: SHA-384 of its value and the digest. Returns whether it exists.
    pub(super) fn extend_rtmr(&mut self, index: u64, digest: &Measurement) -> bool {
        let register = usize::try_from(index).ok().and_then(|index| self.rtmr.get_mut(index));
        if let Some(register) = register {
            *register = sha384(&[&register[..], digest]);
            return true;
        }
        false
    }
}
