//! Building a TD: the host-side functions from `TDH.MNG.INIT` to `TDH.MR.FINALIZE` (348551 TDX Module ABI Reference 1.5,
//! "Host-Side (SEAMCALL) Interface Functions"; order of checks as in the module's own source).
//!
//! What has no meaning without physical memory is left out: key identifiers, control structures' pages, TDMRs, the tree of
//! the secure EPT. `CPUID_CONFIG` is taken without a look at its bits: which of them may be configured depends on the
//! processor.

use tsmsim_abi::tdx::{
    leaf::{PageInfo, PageLevel, SeamcallLeaf},
    status::{CompletionStatus, OperandId, StatusCode},
    td_params::{ConfigFlags, EptpControls, MR_EXTEND_CHUNK, TSC_FREQUENCIES, TdAttributes, TdParams, Xfam},
};

use super::{
    PAGE_SIZE,
    event::TdxEvent,
    mrtd::Mrtd,
    platform::TdxVersion,
    sept::PageState,
    td::{OpState, Td, Vcpu},
};
use crate::{
    env::Env,
    fault::{self, FaultAction, FaultPoint},
    journal::Event,
};

/// Most L2 VMs of a TD.
const MAX_L2_VMS: u8 = 3;
/// CPUID configurations of the 1.5.01 module; further entries are reserved.
const NUM_CPUID_CONFIG: usize = 12;
/// Memory type of the EPT: write back.
const WRITE_BACK: u8 = 6;
/// `IA32_ARCH_CAPABILITIES` bits that can be configured: `SSB_NO`, `RRSBA`, `BHI_NO`.
const ARCH_CAPABILITIES: u64 = 1 << 4 | 1 << 19 | 1 << 20;

const fn invalid(operand: OperandId) -> CompletionStatus {
    StatusCode::OPERAND_INVALID.of(operand)
}

fn ensure(condition: bool, status: CompletionStatus) -> Result<(), CompletionStatus> {
    if condition { Ok(()) } else { Err(status) }
}

/// The status in which a planned fault has a function end, if one does.
pub(super) fn faulted(env: &mut Env<'_>, point: FaultPoint) -> Option<CompletionStatus> {
    match fault::consult(env.faults, env.journal, point)? {
        FaultAction::Status(status) => Some(CompletionStatus(status)),
        other => {
            fault::ignored(env.journal, point, &other);
            None
        }
    }
}

impl Td {
    /// A host-side function with its fault point and journal entry.
    fn seamcall(
        &mut self,
        env: &mut Env<'_>,
        (leaf, point): (SeamcallLeaf, FaultPoint),
        function: impl FnOnce(&mut Self, &mut Env<'_>) -> Result<(), CompletionStatus>,
    ) -> Result<(), CompletionStatus> {
        let result = faulted(env, point).map_or_else(|| function(self, env), Err);
        let status = result.err().unwrap_or(CompletionStatus::SUCCESS);
        env.journal.record(Event::Tdx(TdxEvent::Seamcall { leaf, status }));
        result
    }

    fn expect_state(&self, state: OpState) -> Result<(), CompletionStatus> {
        ensure(self.op_state == state, StatusCode::OP_STATE_INCORRECT.status())
    }

    /// `TDH.MNG.INIT`.
    ///
    /// # Errors
    /// `OP_STATE_INCORRECT`, or `OPERAND_INVALID` with the part of [`TdParams`] that is not allowed (RDX for its reserved
    /// fields).
    pub fn mng_init(&mut self, params: &TdParams, env: &mut Env<'_>) -> Result<(), CompletionStatus> {
        let which = (SeamcallLeaf::TDH_MNG_INIT, FaultPoint::TDX_MNG_INIT);
        self.seamcall(env, which, |td, _| {
            td.expect_state(OpState::Uninitialized)?;
            check_params(params, td.version)?;
            td.attributes = params.attributes.get().into();
            td.xfam = params.xfam.get().into();
            td.max_vcpus = params.max_vcpus.get();
            td.num_l2_vms = params.num_l2_vms;
            td.config_flags = params.config_flags.get().into();
            td.td_ctls.set_pending_ve_disable(td.attributes.sept_ve_disable());
            td.tsc_frequency = params.tsc_frequency.get();
            td.mr_config_id = params.mr_config_id;
            td.mr_owner = params.mr_owner;
            td.mr_owner_config = params.mr_owner_config;
            td.digest = Mrtd::new();
            td.op_state = OpState::Initialized;
            Ok(())
        })
    }

    /// `TDH.VP.CREATE` and `TDH.VP.INIT`: one more VCPU.
    ///
    /// # Errors
    /// `OP_STATE_INCORRECT` before `TDH.MNG.INIT` or after `TDH.MR.FINALIZE`, `MAX_VCPUS_EXCEEDED`.
    pub fn vp_init(&mut self, env: &mut Env<'_>) -> Result<(), CompletionStatus> {
        let result = self.expect_state(OpState::Initialized).and_then(|()| {
            let room = self.vcpus.len() < usize::from(self.max_vcpus);
            ensure(room, StatusCode::MAX_VCPUS_EXCEEDED.status())?;
            self.vcpus.push(Vcpu::default());
            Ok(())
        });
        let status = result.err().unwrap_or(CompletionStatus::SUCCESS);
        env.journal.record(Event::Tdx(TdxEvent::Seamcall { leaf: SeamcallLeaf::TDH_VP_INIT, status }));
        result
    }

    /// `TDH.MEM.PAGE.ADD`: adds a 4-KiB page and measures its address. `source` is copied into memory; without one, what
    /// lies in memory is the page's contents.
    ///
    /// # Errors
    /// `OP_STATE_INCORRECT`; `OPERAND_INVALID` with RCX for a malformed operand, another level, or an address that is not
    /// private; `EPT_WALK_FAILED` with RCX where there is no RAM; `EPT_ENTRY_STATE_INCORRECT` with RCX for a page that is
    /// already there.
    pub fn mem_page_add(
        &mut self,
        page: PageInfo,
        source: Option<&[u8; PAGE_SIZE]>,
        env: &mut Env<'_>,
    ) -> Result<(), CompletionStatus> {
        let which = (SeamcallLeaf::TDH_MEM_PAGE_ADD, FaultPoint::TDX_MEM_PAGE_ADD);
        self.seamcall(env, which, |td, env| {
            td.expect_state(OpState::Initialized)?;
            let gpa = td.page_info(page, PageLevel::PT)?;
            let absent = StatusCode::EPT_WALK_FAILED.of(OperandId::RCX);
            ensure(td.sept.contains(gpa, 1), absent)?;
            let taken = StatusCode::EPT_ENTRY_STATE_INCORRECT.of(OperandId::RCX);
            ensure(td.sept.state(gpa) == PageState::Free, taken)?;
            if let Some(source) = source {
                env.memory.write(gpa, source).map_err(|_| absent)?;
            }
            td.sept.page_add(gpa).map_err(|_| taken)?;
            td.digest.page_add(gpa);
            Ok(())
        })
    }

    /// `TDH.MR.EXTEND`: measures 256 bytes of a page that was added.
    ///
    /// # Errors
    /// `OP_STATE_INCORRECT`; `OPERAND_INVALID` with RCX for an address that is not aligned to 256 bytes or not private;
    /// `EPT_ENTRY_NOT_PRESENT` with RCX for a page that was not added.
    pub fn mr_extend(&mut self, gpa: u64, env: &mut Env<'_>) -> Result<(), CompletionStatus> {
        self.seamcall(env, (SeamcallLeaf::TDH_MR_EXTEND, FaultPoint::TDX_MR_EXTEND), |td, env| {
            td.expect_state(OpState::Initialized)?;
            ensure(gpa.is_multiple_of(MR_EXTEND_CHUNK as u64), invalid(OperandId::RCX))?;
            ensure(td.split_gpa(gpa).is_some_and(|(_, shared)| !shared), invalid(OperandId::RCX))?;
            let absent = StatusCode::EPT_ENTRY_NOT_PRESENT.of(OperandId::RCX);
            ensure(td.sept.state(gpa) == PageState::Mapped, absent)?;
            let mut chunk = [0; MR_EXTEND_CHUNK];
            env.memory.read(gpa, &mut chunk).map_err(|_| absent)?;
            td.digest.extend(gpa, &chunk);
            Ok(())
        })
    }

    /// `TDH.MR.FINALIZE`: `MRTD` is final, and the TD can run.
    ///
    /// # Errors
    /// `OP_STATE_INCORRECT`; `NO_VCPUS`.
    pub fn mr_finalize(&mut self, env: &mut Env<'_>) -> Result<(), CompletionStatus> {
        let which = (SeamcallLeaf::TDH_MR_FINALIZE, FaultPoint::TDX_MR_FINALIZE);
        self.seamcall(env, which, |td, _| {
            td.expect_state(OpState::Initialized)?;
            ensure(!td.vcpus.is_empty(), StatusCode::NO_VCPUS.status())?;
            td.mr_td = td.digest.clone().finish();
            td.op_state = OpState::Runnable;
            Ok(())
        })
    }

    /// Checks a page and level as the module does (`max`: the highest level allowed); gives the page's address.
    pub(super) fn page_info(&self, page: PageInfo, max: PageLevel) -> Result<u64, CompletionStatus> {
        let level = PageLevel(page.level());
        let aligned = level.size().is_some_and(|size| page.gpa().is_multiple_of(size));
        let sound = page.reserved_3() == 0 && page.reserved_52() == 0 && level <= max && aligned;
        let private = self.split_gpa(page.gpa()).is_some_and(|(_, shared)| !shared);
        ensure(sound && private, invalid(OperandId::RCX))?;
        Ok(page.gpa())
    }
}

fn check_params(params: &TdParams, version: TdxVersion) -> Result<(), CompletionStatus> {
    let attributes = TdAttributes::from(params.attributes.get());
    ensure(attributes_allowed(attributes, version), invalid(OperandId::ATTRIBUTES))?;
    let xfam = Xfam::from(params.xfam.get());
    let bits = u64::from(xfam);
    let allowed = bits & !Xfam::FIXED0 == 0 && bits & Xfam::FIXED1 == Xfam::FIXED1;
    ensure(allowed && xfam.groups_are_whole(), invalid(OperandId::XFAM))?;
    ensure(params.max_vcpus.get() != 0, invalid(OperandId::MAX_VCPUS))?;
    let reserved = invalid(OperandId::RDX);
    match version {
        TdxVersion::V1_0 => ensure(params.num_l2_vms == 0 && params.msr_config_ctls == 0, reserved)?,
        TdxVersion::V1_5 => ensure(params.num_l2_vms <= MAX_L2_VMS, invalid(OperandId::NUM_L2_VMS))?,
    }
    ensure(params.reserved_0x14 == [0; 4], reserved)?;
    let flags = ConfigFlags::from(params.config_flags.get());
    ensure(flags_allowed(flags, version), invalid(OperandId::EXEC_CONTROLS))?;
    let eptp = EptpControls::from(params.eptp_controls.get());
    let walk = eptp.page_walk_length_minus_one();
    let sound = eptp.memory_type() == WRITE_BACK && eptp.reserved() == 0 && matches!(walk, 3 | 4);
    ensure(sound && (walk == 4 || !flags.gpaw()), invalid(OperandId::EPTP_CONTROLS))?;
    ensure(TSC_FREQUENCIES.contains(&params.tsc_frequency.get()), invalid(OperandId::TSC_FREQUENCY))?;
    ensure(params.reserved_0x2a == [0; 38], reserved)?;
    ensure(params.msr_config_ctls & !1 == 0 && params.reserved_0xe8 == [0; 24], reserved)?;
    let unused = params.cpuid_config.iter().skip(NUM_CPUID_CONFIG);
    ensure(unused.into_iter().all(|values| values.registers == [[0; 4]; 4]), reserved)?;
    let capabilities = params.ia32_arch_capabilities_config.get();
    let configurable = if params.msr_config_ctls == 1 { ARCH_CAPABILITIES } else { 0 };
    ensure(capabilities & !configurable == 0, invalid(OperandId::IA32_ARCH_CAPABILITIES_CONFIG))?;
    ensure(!(attributes.migratable() && params.num_l2_vms > 0), reserved)
}

// No bit must be one, so none is looked for.
const _: () = assert!(TdAttributes::FIXED1 == 0);

/// A TD that can be migrated is neither debugged nor performance-monitored; TDX 1.0 has no migration.
const fn attributes_allowed(attributes: TdAttributes, version: TdxVersion) -> bool {
    let bits = attributes.into_bits();
    let fixed = bits & !TdAttributes::FIXED0 == 0;
    let migratable = matches!(version, TdxVersion::V1_5) && !attributes.debug() && !attributes.perfmon();
    fixed && (migratable || !attributes.migratable())
}

const fn flags_allowed(flags: ConfigFlags, version: TdxVersion) -> bool {
    let later = flags.flexible_pending_ve() || flags.no_rbp_mod();
    flags.reserved() == 0 && (matches!(version, TdxVersion::V1_5) || !later)
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
