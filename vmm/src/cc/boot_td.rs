//! Booting a bare-metal TD under KVM: everything put together.

use std::io::Write;

use tsmsim_abi::tdx::td_params::{ConfigFlags, TdParams};
use tsmsim_simulator::tdx::{platform::TdxPlatform, vmcall::HostConfig};

use super::{
    boot::{BootError, console, supported_cpuid},
    tdx::{MSR_MISC_ENABLE, Surroundings, TdMachine, TdMachineParts},
};
use crate::{
    bus::PortBus,
    device::serial::SerialOutput,
    engine::{
        EngineError,
        cpuid::{CpuidEntry, CpuidTable},
        kvm::{KvmConfig, KvmProbe, KvmVcpu, KvmVm, MsrRange, probe},
    },
    loader::{
        bare_metal::GuestTask,
        patch::PatchReport,
        td::{LoadedTd, load},
    },
};

/// Position of the shared bit in a TD with guest-physical addresses of 48 bits.
pub const SHARED_BIT: u8 = 47;
/// The same with 52 bits.
pub(super) const SHARED_BIT_52: u8 = 51;
/// The CPUID leaf by which a TD knows what it is (348552, "CPUID leaf 21H").
const CPUID_TDX: u32 = 0x21;

/// What to boot.
pub struct TdBootRequest<'a> {
    /// The TD: an ELF image.
    pub elf: &'a [u8],
    /// Its processor and module.
    pub platform: TdxPlatform,
    /// What the host offers.
    pub host: HostConfig,
    /// `TD_PARAMS`; see [`tsmsim_simulator::tdx::guest::default_params`].
    pub params: TdParams,
    /// What the guest is to do.
    pub task: GuestTask,
    /// Time, randomness, faults.
    pub surroundings: Surroundings,
    /// Where its console goes besides being kept.
    pub console: Option<Box<dyn Write + Send>>,
}

/// A TD that was booted, at its first instruction.
pub struct BootedTd {
    /// The machine.
    pub machine: TdMachine<KvmVcpu>,
    /// What it prints.
    pub console: SerialOutput,
    /// Which instructions were patched.
    pub patches: PatchReport,
}

/// Whether this host's KVM can run a TD with guest-physical addresses of 48 bits.
///
/// # Errors
/// If there is no KVM, or it cannot map an address with the shared bit.
pub fn can_run() -> Result<(), EngineError> {
    match probe() {
        KvmProbe::Present(facts) if facts.physical_bits > SHARED_BIT => Ok(()),
        KvmProbe::Present(facts) => Err(EngineError::Configuration(format!(
            "this host's KVM maps {} bits of guest-physical address; the shared bit of a TD needs 48",
            facts.physical_bits
        ))),
        KvmProbe::NotPermitted { reason } => Err(EngineError::NotPermitted(reason)),
        KvmProbe::Missing { reason } | KvmProbe::Unusable { reason } => Err(EngineError::Missing(reason)),
    }
}

/// Loads, builds and patches a TD, and puts it on KVM. The machine belongs to the calling thread.
///
/// # Errors
/// [`BootError`].
pub fn boot_td(request: TdBootRequest<'_>) -> Result<BootedTd, BootError> {
    let td = load(request.elf, request.params, request.task)?;
    let wide = ConfigFlags::from(request.params.config_flags.get()).gpaw();
    let shared_bit = if wide { SHARED_BIT_52 } else { SHARED_BIT };
    boot_with_alias(request, &td, Some(shared_bit))
}

/// [`boot_td`] with RAM a second time at this bit.
fn boot_with_alias(
    request: TdBootRequest<'_>,
    td: &LoadedTd<'_>,
    alias_bit: Option<u8>,
) -> Result<BootedTd, BootError> {
    let mut bus = PortBus::new();
    let output = console(&mut bus, request.console)?;
    let cpuid = cpu_model(supported_cpuid()?);
    let config = KvmConfig {
        alias_bit,
        msr_exits: vec![MsrRange { base: MSR_MISC_ENABLE, count: 1, read: true, write: true }],
        unknown_msrs_exit: true,
        ..KvmConfig::default()
    };
    let vm = KvmVm::new(&config, &td.ram)?;
    let parts = TdMachineParts {
        engine: vm.create_vcpu(&cpuid)?,
        ram: td.ram.clone(),
        bus,
        cpuid,
        platform: request.platform,
        host: request.host,
        plan: td.plan.clone(),
        state: td.state,
    };
    let machine = TdMachine::launch(parts, request.surroundings)?;
    let patches = td.patch()?;
    patches.log();
    Ok(BootedTd { machine, console: output, patches })
}

/// The TD's CPU: KVM's, in the dress of Intel's, with the leaf that says "TDX".
pub(super) fn cpu_model(mut cpuid: CpuidTable) -> CpuidTable {
    /// CPUID leaf 1, ECX: there is a hypervisor.
    const HYPERVISOR: u32 = 1 << 31;
    // KVM's own leaves would tell the guest of a hypervisor that it must not see.
    cpuid.remove(0x4000_0000);
    cpuid.remove(0x4000_0001);
    cpuid.set_vendor(b"GenuineIntel");
    cpuid.raise_limit(0, CPUID_TDX);
    cpuid.edit(1, |entry| entry.ecx |= HYPERVISOR);
    cpuid.remove(CPUID_TDX);
    cpuid.set(CpuidEntry {
        function: CPUID_TDX,
        index: Some(0),
        eax: 0,
        ebx: u32::from_le_bytes(*b"Inte"),
        edx: u32::from_le_bytes(*b"lTDX"),
        ecx: u32::from_le_bytes(*b"    "),
    });
    cpuid
}
