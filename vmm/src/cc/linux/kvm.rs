//! Linux as an SNP guest or a TD on KVM.
//!
//! The processor executes the guest, so nothing can be watched; what it would do otherwise than a confidential one is made
//! to exit. VMGEXIT, PVALIDATE, RMPADJUST and TDCALL are patched after the guest was measured, at places that a disassembler
//! confirms ([`super::sites`]); the GHCB and status MSRs are filtered; CPUID is the table that KVM is given; RAM is there a second
//! time at the C-bit or shared bit. Interrupt controllers and timer are KVM's; both serial ports have their lines.
//!
//! On a KVM that interprets ring 0 the guest is also told to be simple: [`slow`].

use std::{collections::BTreeMap, io, os::unix::net::UnixStream};

use tsmsim_abi::tdx::{report::Measurement, td_params::ConfigFlags};
use tsmsim_simulator::snp::{
    host::{HostConfig, LaunchPlan},
    launch::LaunchDigest,
};
use vm_superio::Trigger;

use super::{
    guest::{Lines, LinuxBoot, LinuxBootError, LinuxEngine, LinuxGuest},
    sites::{Site, Sites},
    snp::{self, SnpLinux, measure_snp},
    tdx::{self, TdxLinux, measure_tdx},
};
use crate::{
    bus::{BusError, PortBus},
    cc::{
        boot, boot_td,
        snp::{INTERCEPTED_MSRS, SnpMachine, SnpMachineError, SnpMachineParts},
        tdx::{TdMachine, TdMachineError, TdMachineParts},
    },
    device::{
        cmos::{CMOS_PORT, CMOS_PORT_COUNT, Cmos},
        serial::{COM1_PORT, PORT_COUNT, Serial},
    },
    engine::{
        EngineError, Speed,
        cpuid::CpuidTable,
        kvm::{KvmConfig, KvmVcpu, KvmVm, MsrRange, slow},
        qemu::Watched,
    },
    loader::linux::boot::Tee,
    memory::GuestRam,
};

/// First port and interrupt line of the serial ports.
const SERIAL: [(u16, u32); 2] = [(COM1_PORT, 4), (0x2f8, 3)];
/// Family 6, model 8Fh: the processors that TDX came with.
const TDX_CPU: u32 = 0x0008_06f8;

impl LinuxEngine for KvmVcpu {
    fn stops(&self) -> &BTreeMap<&'static str, u64> {
        Self::stops(self)
    }
}

/// What this host's KVM makes of Linux guests.
#[derive(Clone, Debug)]
pub struct KvmLinux {
    supported: CpuidTable,
    /// What the guest's command line has to say besides.
    append: String,
    slow: bool,
}

impl KvmLinux {
    /// Asks KVM.
    ///
    /// # Errors
    /// If there is none that works.
    pub fn new() -> Result<Self, EngineError> {
        let ram = GuestRam::new(4096).map_err(|error| EngineError::Configuration(error.to_string()))?;
        let vm = KvmVm::new(&KvmConfig::default(), &ram)?;
        let slow = vm.info().speed == Speed::SlowEmulated;
        let append = if slow {
            slow::command_line(vm.create_vcpu(&CpuidTable::new())?.tsc_khz()?)
        } else {
            String::new()
        };
        Ok(Self { supported: vm.supported_cpuid()?, append, slow })
    }

    /// Whether this KVM interprets ring 0: a small kernel takes twenty seconds to its report, a distribution's ten minutes.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        self.slow
    }

    fn line(&self, append: &str) -> String {
        format!("{} {append}", self.append).trim().to_owned()
    }

    /// The launch measurement of a guest here, before anything runs. Task, console and channel make no difference to it.
    ///
    /// # Errors
    /// [`LinuxBootError`].
    pub fn measure_snp(&self, guest: &LinuxBoot<'_>, snp: &SnpLinux) -> Result<LaunchDigest, LinuxBootError> {
        let append = self.line(guest.append);
        measure_snp(&LinuxBoot { append: &append, ..plain(guest) }, snp)
    }

    /// Loads, launches and patches an SNP guest. It belongs to the calling thread.
    ///
    /// # Errors
    /// [`LinuxBootError`].
    pub fn boot_snp(
        &self,
        guest: LinuxBoot<'_>,
        snp: SnpLinux,
    ) -> Result<LinuxGuest<SnpMachine<KvmVcpu>>, LinuxBootError> {
        let append = self.line(guest.append);
        let guest = LinuxBoot { append: &append, ..guest };
        let sites = patchable(snp::sites(guest.kernel)?)?;
        let ram = GuestRam::new(guest.ram_size)?;
        let loaded = snp.load(&guest, &ram)?;
        let SnpLinux { firmware, c_bit, certificates, policy, host_data, surroundings } = snp;
        let (mut cpuid, _) = boot::cpu_model(self.supported.clone(), &firmware, c_bit);
        if self.slow {
            slow::simplify(&mut cpuid);
        }
        let (base, count) = INTERCEPTED_MSRS;
        let msr_exits = vec![MsrRange { base, count, read: true, write: true }];
        let alias_bit = guest.alias.then_some(c_bit);
        let Host { engine, bus, lines } =
            Host::new(KvmConfig { alias_bit, msr_exits, ..config() }, &ram, &cpuid)
                .map_err(|error| error.into_boot_error(SnpMachineError::Engine, SnpMachineError::Bus))?;
        let parts = SnpMachineParts {
            engine,
            ram: ram.clone(),
            bus,
            cpuid,
            firmware,
            host: HostConfig {
                ram: loaded.ram_ranges(),
                c_bit,
                certificates,
                huge_pages: true,
                ..HostConfig::default()
            },
            plan: LaunchPlan { host_data, ..loaded.snp_plan(policy) },
            vmsa: Box::new(*loaded.vmsa()),
        };
        let machine = SnpMachine::launch_with(parts, surroundings)?;
        patch(&ram, &sites)?;
        LinuxGuest::new(machine, lines, guest.console, guest.channel)
    }

    /// `MRTD` of a guest here, before anything runs.
    ///
    /// # Errors
    /// [`LinuxBootError`].
    pub fn measure_tdx(&self, guest: &LinuxBoot<'_>, tdx: &TdxLinux) -> Result<Measurement, LinuxBootError> {
        let append = self.line(guest.append);
        measure_tdx(&LinuxBoot { append: &append, ..plain(guest) }, tdx)
    }

    /// Loads, builds and patches a TD. It belongs to the calling thread.
    ///
    /// # Errors
    /// [`LinuxBootError`].
    pub fn boot_tdx(
        &self,
        guest: LinuxBoot<'_>,
        tdx: TdxLinux,
    ) -> Result<LinuxGuest<TdMachine<KvmVcpu>>, LinuxBootError> {
        let append = self.line(guest.append);
        let guest = LinuxBoot { append: &append, ..guest };
        let sites = patchable(tdx::sites(guest.kernel)?)?;
        let TdxLinux { platform, host, params, surroundings } = tdx;
        let wide = ConfigFlags::from(params.config_flags.get()).gpaw();
        let shared_bit = if wide { boot_td::SHARED_BIT_52 } else { boot_td::SHARED_BIT };
        let ram = GuestRam::new(guest.ram_size)?;
        let loaded = guest.load(&ram, Tee::Tdx)?;
        let cpuid = self.tdx_cpu();
        let alias_bit = guest.alias.then_some(shared_bit);
        let Host { engine, bus, lines } = Host::new(KvmConfig { alias_bit, ..config() }, &ram, &cpuid)
            .map_err(|error| error.into_boot_error(TdMachineError::Engine, TdMachineError::Bus))?;
        let parts = TdMachineParts {
            engine,
            ram: ram.clone(),
            bus,
            cpuid,
            platform,
            host,
            plan: loaded.tdx_plan(params),
            state: loaded.state().initial,
        };
        let machine = TdMachine::launch(parts, surroundings)?;
        patch(&ram, &sites)?;
        LinuxGuest::new(machine, lines, guest.console, guest.channel)
    }

    fn tdx_cpu(&self) -> CpuidTable {
        let mut cpuid = boot_td::cpu_model(self.supported.clone());
        // A host of AMD's would have its own, and functions with its features.
        cpuid.edit(1, |entry| entry.eax = TDX_CPU);
        cpuid.edit(0x8000_0001, |entry| entry.eax = 0);
        cpuid.retain(|entry| !(0x8000_0009..).contains(&entry.function));
        cpuid.edit(0x8000_0000, |entry| entry.eax = 0x8000_0008);
        if self.slow {
            slow::simplify(&mut cpuid);
            cpuid.retain(|entry| !(0x8000_0009..).contains(&entry.function));
        }
        cpuid
    }
}

/// The same guest, without what cannot be lent.
fn plain<'a>(guest: &LinuxBoot<'a>) -> LinuxBoot<'a> {
    LinuxBoot { task: guest.task, ..LinuxBoot::new(guest.kernel, guest.initrd, guest.ram_size) }
}

fn config() -> KvmConfig {
    KvmConfig { interrupt_controller: true, timer: true, assist_linux: true, ..KvmConfig::default() }
}

/// What a machine is made of on the host's side.
struct Host {
    engine: KvmVcpu,
    bus: PortBus,
    lines: Lines,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Line(#[from] io::Error),
}

impl HostError {
    fn into_boot_error<E: Into<LinuxBootError>>(
        self,
        engine: fn(EngineError) -> E,
        bus: fn(BusError) -> E,
    ) -> LinuxBootError {
        match self {
            Self::Engine(error) => engine(error).into(),
            Self::Bus(error) => bus(error).into(),
            Self::Line(error) => error.into(),
        }
    }
}

impl Host {
    fn new(config: KvmConfig, ram: &GuestRam, cpuid: &CpuidTable) -> Result<Self, HostError> {
        let vm = KvmVm::new(&config, ram)?;
        let engine = vm.create_vcpu(cpuid)?;
        let mut bus = PortBus::new();
        bus.insert(CMOS_PORT, CMOS_PORT_COUNT, Box::new(Cmos::default()))?;
        let (host, guest) = serial_lines(&mut bus, |number| vm.interrupt_line(number))?;
        let lines = Lines { host, attention: engine.attention(), guest };
        Ok(Self { engine, bus, lines })
    }
}

/// Puts two serial ports on the bus. Gives the host's ends, and the guest's to close one day.
fn serial_lines<T: Trigger + 'static>(
    bus: &mut PortBus,
    interrupt_line: impl Fn(u32) -> T,
) -> Result<([UnixStream; 2], Vec<UnixStream>), HostError> {
    let mut guest = Vec::new();
    let mut connect = |(port, number)| -> Result<UnixStream, HostError> {
        let (inside, outside) = UnixStream::pair()?;
        guest.push(inside.try_clone()?);
        let serial = Serial::with_line(interrupt_line(number), Box::new(inside));
        bus.insert(port, PORT_COUNT, Box::new(serial))?;
        Ok(outside)
    };
    let host = [connect(SERIAL[0])?, connect(SERIAL[1])?];
    Ok((host, guest))
}

/// The places to patch, if all are known to be instructions.
fn patchable(sites: Sites) -> Result<Vec<Site>, LinuxBootError> {
    let confidential = |site: &&Site| matches!(site.instruction, Watched::Confidential(_));
    if let Some(site) = sites.unconfirmed.iter().find(confidential) {
        // An instruction that is left would be one of another kind to KVM; one too many would be damage.
        return Err(LinuxBootError::Kernel(format!(
            "what it has at {:#x} looks like {}, but no function before leads to it; --engine qemu can run it",
            site.address,
            site.instruction.name()
        )));
    }
    Ok(sites.found.iter().filter(confidential).copied().collect())
}

/// Puts an OUT into each place: once the guest was measured, and before it runs.
fn patch(ram: &GuestRam, sites: &[Site]) -> Result<(), LinuxBootError> {
    for site in sites {
        let Watched::Confidential(instruction) = site.instruction else { continue };
        let mut there = [0; 4];
        ram.read(site.gpa, &mut there)?;
        if there != instruction.bytes() {
            let text = format!("it is not in memory at {:#x} as it is in its file", site.gpa);
            return Err(LinuxBootError::Kernel(text));
        }
        ram.write(site.gpa, &instruction.replacement())?;
    }
    tracing::info!(patched = sites.len(), "kernel patched");
    Ok(())
}

#[cfg(test)]
#[path = "kvm_tests.rs"]
mod tests;
