//! A stock Linux kernel as a TD on QEMU.

use tsmsim_abi::tdx::{
    report::Measurement,
    td_params::{ConfigFlags, TdParams},
};
use tsmsim_simulator::tdx::{platform::TdxPlatform, vmcall::HostConfig};

use super::{
    guest::{Lines, LinuxBoot, LinuxBootError, LinuxGuest},
    sites::{Sites, find_halt, find_tdx},
};
use crate::{
    bus::PortBus,
    cc::tdx::{Surroundings, TdMachine, TdMachineParts},
    engine::{
        cpuid::{CpuidEntry, CpuidTable},
        qemu::{HaltStub, QemuConfig, QemuEngine, QemuSetup, Until, Watch, Watched},
    },
    loader::{
        linux::{boot::Tee, image::KernelImage, reset::reset_blob},
        patch::PatchedInstruction,
        td::measure_plan,
    },
    memory::GuestRam,
};

/// The CPUID leaf by which a TD knows what it is (348552, "CPUID leaf 21H").
const CPUID_TDX: u32 = 0x21;

/// What a TD has besides what any Linux has.
pub struct TdxLinux {
    /// Its processor and module.
    pub platform: TdxPlatform,
    /// What the host offers.
    pub host: HostConfig,
    /// `TD_PARAMS`; see [`tsmsim_simulator::tdx::guest::default_params`].
    pub params: TdParams,
    /// Time, randomness, faults.
    pub surroundings: Surroundings,
}

/// `MRTD`, before anything runs. Task, console and channel make no difference to it.
///
/// # Errors
/// [`LinuxBootError`].
pub fn measure_tdx(boot: &LinuxBoot<'_>, tdx: &TdxLinux) -> Result<Measurement, LinuxBootError> {
    let ram = GuestRam::new(boot.ram_size)?;
    let loaded = boot.load(&ram, Tee::Tdx)?;
    Ok(measure_plan(&loaded.tdx_plan(tdx.params), &ram)?)
}

/// Loads and builds the TD. The guest belongs to the calling thread.
///
/// # Errors
/// [`LinuxBootError`].
pub fn boot_tdx(
    boot: LinuxBoot<'_>,
    tdx: TdxLinux,
) -> Result<LinuxGuest<TdMachine<QemuEngine>>, LinuxBootError> {
    let TdxLinux { platform, host, params, surroundings } = tdx;
    let wide = ConfigFlags::from(params.config_flags.get()).gpaw();
    let shared_bit = if wide { 51 } else { 47 };
    let ram = GuestRam::new_shared(boot.ram_size)?;
    let loaded = boot.load(&ram, Tee::Tdx)?;
    let state = loaded.state();
    let (watches, halt) = watches(boot.kernel)?;
    let engine = QemuEngine::new(QemuSetup {
        config: QemuConfig {
            machine: "q35,hpet=off".to_owned(),
            cpu: format!(
                "max,vendor=GenuineIntel,level={CPUID_TDX:#x},-monitor,phys-bits={}",
                shared_bit + 1
            ),
            alias_bit: boot.alias.then_some(shared_bit),
            firmware: reset_blob(&state),
        },
        ram: ram.clone(),
        watches,
        msrs: 0..0,
        cpuid: std::iter::once(tdx_leaf()).collect(),
        halt: Some(halt),
    });
    let parts = TdMachineParts {
        engine,
        ram,
        bus: PortBus::new(),
        cpuid: CpuidTable::new(),
        platform,
        host,
        plan: loaded.tdx_plan(params),
        state: state.initial,
    };
    let machine = TdMachine::launch(parts, surroundings)?;
    let lines = Lines::of(machine.engine())?;
    LinuxGuest::new(machine, lines, boot.console, boot.channel)
}

/// Where the kernel has TDCALL and CPUID.
pub(super) fn sites(kernel: &KernelImage) -> Result<Sites, LinuxBootError> {
    let code: Vec<_> = kernel.code().collect();
    let sites = find_tdx(&code);
    if sites.count(Watched::Confidential(PatchedInstruction::Tdcall)) == 0 {
        let reason = "it has no TDCALL, so it was built without INTEL_TDX_GUEST";
        return Err(LinuxBootError::Kernel(reason.to_owned()));
    }
    tracing::info!(sites = sites.found.len(), unconfirmed = sites.unconfirmed.len(), "kernel searched");
    Ok(sites)
}

/// The places of the kernel that are watched, and those with which it halts.
fn watches(kernel: &KernelImage) -> Result<(Vec<Watch>, HaltStub), LinuxBootError> {
    let code: Vec<_> = kernel.code().collect();
    let sites = sites(kernel)?;
    let no_halt =
        || LinuxBootError::Kernel("it has no function that only enables interrupts and halts".into());
    let halt = find_halt(&code).ok_or_else(no_halt)?;
    let until = |instruction| match instruction {
        Watched::Cpuid => Until::Leaf(CPUID_TDX),
        _ => Until::End,
    };
    let watch = |site: &super::sites::Site| Watch {
        address: site.address,
        instruction: site.instruction,
        until: until(site.instruction),
        follows: false,
    };
    Ok((sites.found.iter().map(watch).collect(), halt))
}

fn tdx_leaf() -> CpuidEntry {
    CpuidEntry {
        function: CPUID_TDX,
        index: Some(0),
        eax: 0,
        ebx: u32::from_le_bytes(*b"Inte"),
        edx: u32::from_le_bytes(*b"lTDX"),
        ecx: u32::from_le_bytes(*b"    "),
    }
}
