//! A stock Linux kernel as an SNP guest on QEMU.

use tsmsim_abi::snp::{msr::GhcbInfo, policy::GuestPolicy};
use tsmsim_simulator::snp::{
    firmware::Firmware,
    host::{HostConfig, LaunchPlan},
    launch::LaunchDigest,
    platform::CpuSignature,
};

use super::{
    guest::{Lines, LinuxBoot, LinuxBootError, LinuxGuest},
    sites::{CPUID_SEV, Site, Sites, find_snp},
};
use crate::{
    bus::PortBus,
    cc::{
        snp::{INTERCEPTED_MSRS, SnpMachine, SnpMachineParts},
        surroundings::Surroundings,
    },
    engine::{
        cpuid::{CpuidEntry, CpuidTable},
        qemu::{QemuConfig, QemuEngine, QemuSetup, Until, Watch, Watched},
    },
    loader::{
        linux::{
            boot::{LoadedLinux, Tee},
            image::KernelImage,
            reset::reset_blob,
        },
        patch::PatchedInstruction,
    },
    memory::GuestRam,
};

const VMGEXIT: Watched = Watched::Confidential(PatchedInstruction::Vmgexit);
const RMPADJUST: Watched = Watched::Confidential(PatchedInstruction::Rmpadjust);
const PVALIDATE: Watched = Watched::Confidential(PatchedInstruction::Pvalidate);
/// SEV, SEV-ES, SEV-SNP (APM volume 3, appendix E.4.17).
const SEV_FEATURES: u32 = 0x1a;

/// What an SNP guest has besides what any Linux has.
pub struct SnpLinux {
    /// Its secure processor. Its platform's C-bit must be `c_bit`.
    pub firmware: Firmware,
    /// Position of the C-bit: 51 on current processors.
    pub c_bit: u8,
    /// Certificate table for extended guest requests.
    pub certificates: Vec<u8>,
    /// Guest policy.
    pub policy: GuestPolicy,
    /// `HOST_DATA`.
    pub host_data: [u8; 32],
    /// Time, randomness, faults.
    pub surroundings: Surroundings,
}

impl SnpLinux {
    /// A guest of the default policy, without certificates for it.
    #[must_use]
    pub fn new(firmware: Firmware, c_bit: u8) -> Self {
        Self {
            firmware,
            c_bit,
            certificates: Vec::new(),
            policy: GuestPolicy::DEFAULT,
            host_data: [0; 32],
            surroundings: Surroundings::default(),
        }
    }

    pub(super) fn load(&self, boot: &LinuxBoot<'_>, ram: &GuestRam) -> Result<LoadedLinux, LinuxBootError> {
        let cpuid = cpuid_page(self.firmware.platform().cpu(), self.c_bit);
        Ok(boot.load(ram, Tee::Snp { cpuid: &cpuid })?)
    }
}

/// The launch measurement, before anything runs. Task, console and channel make no difference to it.
///
/// # Errors
/// [`LinuxBootError`].
pub fn measure_snp(boot: &LinuxBoot<'_>, snp: &SnpLinux) -> Result<LaunchDigest, LinuxBootError> {
    let ram = GuestRam::new(boot.ram_size)?;
    let loaded = snp.load(boot, &ram)?;
    Ok(loaded.snp_plan(snp.policy).measure(&ram)?)
}

/// Loads and launches the kernel. The guest belongs to the calling thread.
///
/// # Errors
/// [`LinuxBootError`].
pub fn boot_snp(
    boot: LinuxBoot<'_>,
    snp: SnpLinux,
) -> Result<LinuxGuest<SnpMachine<QemuEngine>>, LinuxBootError> {
    let ram = GuestRam::new_shared(boot.ram_size)?;
    let loaded = snp.load(&boot, &ram)?;
    let SnpLinux { firmware, c_bit, certificates, policy, host_data, surroundings } = snp;
    let cpu = firmware.platform().cpu();
    let state = loaded.state();
    let engine = QemuEngine::new(QemuSetup {
        config: QemuConfig {
            machine: "pc".to_owned(),
            cpu: cpu_model(cpu),
            alias_bit: boot.alias.then_some(c_bit),
            firmware: reset_blob(&state),
        },
        ram: ram.clone(),
        watches: watches(&sites(boot.kernel)?),
        msrs: INTERCEPTED_MSRS.0..INTERCEPTED_MSRS.0 + INTERCEPTED_MSRS.1,
        cpuid: std::iter::once(sev_leaf(c_bit)).collect(),
        halt: None,
    });
    let plan = LaunchPlan { host_data, ..loaded.snp_plan(policy) };
    let parts = SnpMachineParts {
        engine,
        ram,
        bus: PortBus::new(),
        cpuid: CpuidTable::new(),
        firmware,
        host: HostConfig {
            ram: loaded.ram_ranges(),
            c_bit,
            certificates,
            huge_pages: true,
            ..HostConfig::default()
        },
        plan,
        vmsa: Box::new(*loaded.vmsa()),
    };
    let machine = SnpMachine::launch_with(parts, surroundings)?;
    let lines = Lines::of(machine.engine())?;
    LinuxGuest::new(machine, lines, boot.console, boot.channel)
}

/// The places of the kernel that are watched.
pub(super) fn sites(kernel: &KernelImage) -> Result<Sites, LinuxBootError> {
    let code: Vec<_> = kernel.code().collect();
    let sites = find_snp(&code);
    if sites.count(VMGEXIT) == 0 || sites.count(PVALIDATE) == 0 {
        let reason = "it has no VMGEXIT or no PVALIDATE, so it was built without AMD_MEM_ENCRYPT";
        return Err(LinuxBootError::Kernel(reason.to_owned()));
    }
    tracing::info!(sites = sites.found.len(), unconfirmed = sites.unconfirmed.len(), "kernel searched");
    Ok(sites)
}

/// Each place twice: where the kernel was loaded, for what it executes before it has its own page tables, and where it
/// is linked.
fn watches(sites: &Sites) -> Vec<Watch> {
    let mut watches = Vec::new();
    let mut before: Option<&Site> = None;
    for site in &sites.found {
        // WRMSR, VMGEXIT, RDMSR: a request and its answer.
        let before_end = |before: &Site| before.address + before.instruction.length();
        let part = before.filter(|before| matches!(before.instruction, Watched::Wrmsr | VMGEXIT));
        let end = part.map(before_end);
        let follows = end == Some(site.address);
        let until = match site.instruction {
            // What the kernel is, and at which VMPL, it finds out before it first fills in a GHCB.
            Watched::Cpuid | RMPADJUST => Until::Request(GhcbInfo::GHCB_ADDRESS.0),
            _ => Until::End,
        };
        let watch = |address, until| Watch { address, instruction: site.instruction, until, follows };
        watches.extend([watch(site.address, until), watch(site.gpa, Until::UpperHalf)]);
        before = Some(site);
    }
    watches
}

/// QEMU's first processor of AMD's with these features, under the platform's signature.
fn cpu_model(cpu: CpuSignature) -> String {
    let CpuSignature { family, model, stepping } = cpu;
    format!("EPYC,family={family},model={model},stepping={stepping},xlevel={CPUID_SEV:#x},phys-bits=52")
}

/// What the CPUID page says: what a kernel looks for in it before #VC could be handled. Other functions are the
/// processor's, as CPUID is not intercepted.
fn cpuid_page(cpu: CpuSignature, c_bit: u8) -> CpuidTable {
    let mut cpuid = CpuidTable::new();
    cpuid.set_vendor(b"AuthenticAMD");
    cpuid.raise_limit(0, 0xd);
    cpuid.edit(1, |entry| entry.eax = cpu.eax());
    cpuid.raise_limit(0x8000_0000, CPUID_SEV);
    cpuid.set(sev_leaf(c_bit));
    cpuid
}

/// SEV, SEV-ES and SNP, and where the C-bit is; one bit of address goes to it.
fn sev_leaf(c_bit: u8) -> CpuidEntry {
    let ebx = u32::from(c_bit) | 1 << 6;
    CpuidEntry { function: CPUID_SEV, index: None, eax: SEV_FEATURES, ebx, ecx: 0, edx: 0 }
}
