//! Booting a bare-metal SNP guest under KVM: everything put together.

use std::io::Write;

use tsmsim_abi::snp::{msr::MSR_GHCB, pages::CpuidFunction, policy::GuestPolicy};
use tsmsim_simulator::snp::{firmware::Firmware, host::HostConfig};
use zerocopy::FromZeros;

use super::{
    snp::{SnpMachine, SnpMachineError, SnpMachineParts},
    tdx::TdMachineError,
};
use crate::{
    bus::{BusError, PortBus},
    device::serial::{COM1_PORT, PORT_COUNT, Serial, SerialOutput},
    engine::{
        EngineError,
        cpuid::{CpuidEntry, CpuidTable},
        kvm::{KvmConfig, KvmProbe, KvmVcpu, KvmVm, MsrRange, probe},
    },
    loader::{
        bare_metal::{GuestTask, LoadError, load},
        patch::{PatchError, PatchReport},
    },
};

/// Console output that is kept at most.
const CONSOLE_LIMIT: usize = 1 << 20;

/// Why a guest could not be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// KVM.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The guest.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The devices.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The launch.
    #[error(transparent)]
    Machine(#[from] SnpMachineError),
    /// The launch of a TD.
    #[error(transparent)]
    TdMachine(#[from] TdMachineError),
    /// The patches.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// What to boot.
pub struct BootRequest<'a> {
    /// The guest: an ELF image.
    pub elf: &'a [u8],
    /// Its secure processor. Its platform's C-bit must be `c_bit`.
    pub firmware: Firmware,
    /// Position of the C-bit; see [`c_bit`].
    pub c_bit: u8,
    /// Certificate table for extended guest requests.
    pub certificates: Vec<u8>,
    /// Guest policy.
    pub policy: GuestPolicy,
    /// What the guest is to do.
    pub task: GuestTask,
    /// Where its console goes besides being kept.
    pub console: Option<Box<dyn Write + Send>>,
}

/// A guest that was booted, at its first instruction.
pub struct BootedGuest {
    /// The machine.
    pub machine: SnpMachine<KvmVcpu>,
    /// What it prints.
    pub console: SerialOutput,
    /// Which instructions were patched.
    pub patches: PatchReport,
}

/// The C-bit for guests on this host's KVM.
///
/// # Errors
/// If there is no KVM, or it cannot map an address with a C-bit.
pub fn c_bit() -> Result<u8, EngineError> {
    match probe() {
        KvmProbe::Present(facts) => facts.c_bit.ok_or_else(|| {
            EngineError::Configuration(format!(
                "this host's KVM maps {} bits of guest-physical address, too few for a C-bit",
                facts.physical_bits
            ))
        }),
        KvmProbe::NotPermitted { reason } => Err(EngineError::NotPermitted(reason)),
        KvmProbe::Missing { reason } | KvmProbe::Unusable { reason } => Err(EngineError::Missing(reason)),
    }
}

/// Loads, launches and patches a guest, and puts it on KVM. The machine belongs to the calling thread.
///
/// # Errors
/// [`BootError`].
pub fn boot(request: BootRequest<'_>) -> Result<BootedGuest, BootError> {
    let BootRequest { elf, firmware, c_bit, certificates, policy, task, console } = request;
    let mut bus = PortBus::new();
    let output = self::console(&mut bus, console)?;
    let supported = supported_cpuid()?;
    let (cpuid, cpuid_page) = cpu_model(supported, &firmware, c_bit);
    let guest = load(elf, policy, &cpuid_page, task)?;
    let config = KvmConfig {
        alias_bit: Some(c_bit),
        // GHCB and SEV_STATUS.
        msr_exits: vec![MsrRange { base: MSR_GHCB, count: 2, read: true, write: true }],
        unknown_msrs_exit: true,
        ..KvmConfig::default()
    };
    let vm = KvmVm::new(&config, &guest.ram)?;
    let engine = vm.create_vcpu(&cpuid)?;
    let host = HostConfig {
        ram: std::iter::once(0..guest.ram.size()).collect(),
        c_bit,
        certificates,
        ..HostConfig::default()
    };
    let machine = SnpMachine::launch(SnpMachineParts {
        engine,
        ram: guest.ram.clone(),
        bus,
        cpuid,
        firmware,
        host,
        plan: guest.plan.clone(),
        vmsa: guest.vmsa.clone(),
    })?;
    let patches = guest.patch()?;
    patches.log();
    Ok(BootedGuest { machine, console: output, patches })
}

/// The first serial port, with what the guest prints there.
pub(super) fn console(
    bus: &mut PortBus,
    copy: Option<Box<dyn Write + Send>>,
) -> Result<SerialOutput, BusError> {
    let (serial, output) = Serial::new(CONSOLE_LIMIT, copy);
    bus.insert(COM1_PORT, PORT_COUNT, Box::new(serial))?;
    Ok(output)
}

/// What this host's KVM can give a guest, asked of a machine of one page.
pub(super) fn supported_cpuid() -> Result<CpuidTable, BootError> {
    let ram = crate::memory::GuestRam::new(4096).map_err(LoadError::from)?;
    Ok(KvmVm::new(&KvmConfig::default(), &ram)?.supported_cpuid()?)
}

/// The guest's CPU: KVM's, in the dress of the platform's; and what of it goes into the CPUID page. Values that the
/// firmware would correct are corrected in both.
pub(super) fn cpu_model(mut cpuid: CpuidTable, firmware: &Firmware, c_bit: u8) -> (CpuidTable, CpuidTable) {
    /// The functions of the CPUID page.
    const PAGE: [u32; 6] = [0, 1, 0x8000_0000, 0x8000_0001, 0x8000_0008, 0x8000_001f];
    /// SEV, SEV-ES, SEV-SNP (APM volume 3, appendix E.4.17).
    const SEV_FEATURES: u32 = 0x1a;
    // KVM's own leaves would tell the guest of a hypervisor that it must not see.
    cpuid.remove(0x4000_0000);
    cpuid.remove(0x4000_0001);
    cpuid.set_vendor(b"AuthenticAMD");
    cpuid.raise_limit(0x8000_0000, 0x8000_001f);
    cpuid.edit(1, |entry| entry.eax = firmware.platform().cpu().eax());
    cpuid.edit(0x8000_001f, |entry| {
        // One bit of address goes to the C-bit.
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (SEV_FEATURES, u32::from(c_bit) | 1 << 6, 0, 0);
    });
    let mut page = CpuidTable::new();
    for function in PAGE {
        let Some(entry) = cpuid.get(function, 0).copied() else { continue };
        let corrected = correct(entry, firmware);
        cpuid.set(corrected);
        page.set(corrected);
    }
    (cpuid, page)
}

fn correct(entry: CpuidEntry, firmware: &Firmware) -> CpuidEntry {
    let mut function = [CpuidFunction {
        eax_in: entry.function.into(),
        ecx_in: entry.index.unwrap_or(0).into(),
        eax: entry.eax.into(),
        ebx: entry.ebx.into(),
        ecx: entry.ecx.into(),
        edx: entry.edx.into(),
        ..CpuidFunction::new_zeroed()
    }];
    firmware.platform().cpuid_policy().sanitise(&mut function);
    let [CpuidFunction { eax, ebx, ecx, edx, .. }] = function;
    CpuidEntry { eax: eax.get(), ebx: ebx.get(), ecx: ecx.get(), edx: edx.get(), ..entry }
}
