//! `/dev/kvm` as the engine: [`KvmVm`] is the machine, [`KvmVcpu`] one of its processors.
//!
//! A machine without an in-kernel interrupt controller (the default) has no interrupts but those of
//! [`Engine::inject_interrupt`](super::Engine::inject_interrupt), and HLT exits. A KVM that interprets ring 0
//! looks for them at exits and, between exits, after some thousand instructions; an ordinary one at once.

mod convert;
mod deadline;
mod probe;
pub mod slow;
mod sys;
mod vcpu;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MAX_CPUID_ENTRIES, KVM_MSR_EXIT_REASON_FILTER,
    KVM_MSR_EXIT_REASON_UNKNOWN, KVM_PIT_SPEAKER_DUMMY, kvm_enable_cap, kvm_pit_config,
};
use kvm_ioctls::{Cap, Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use vm_superio::Trigger;
use vmm_sys_util::errno;

use self::convert::cpuid_from_kvm;
use super::cpuid::CpuidTable;
use super::{EngineError, EngineInfo, Speed};
use crate::memory::GuestRam;

pub use probe::{KvmFacts, KvmProbe, probe};
pub use vcpu::KvmVcpu;

/// Three pages that processors without unrestricted guest mode need, and the page of the identity map: below the
/// 4 GiB mark, between the I/O APIC and the local APIC or above, where no RAM of ours can be.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// The one version of the interface that has ever been stable.
const KVM_API_VERSION: i32 = 12;

/// A range of MSRs whose accesses the caller wants to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrRange {
    /// Number of the first.
    pub base: u32,
    /// How many.
    pub count: u32,
    /// Whether RDMSR exits.
    pub read: bool,
    /// Whether WRMSR exits.
    pub write: bool,
}

/// What a machine is to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvmConfig {
    /// RAM appears a second time at `1 << alias_bit`: the C-bit of an SNP guest, the shared bit of a TD.
    pub alias_bit: Option<u8>,
    /// These MSRs exit instead of being handled in the kernel.
    pub msr_exits: Vec<MsrRange>,
    /// MSRs that the kernel does not know exit as well, instead of giving #GP.
    pub unknown_msrs_exit: bool,
    /// PIC, I/O APIC and local APIC in the kernel; HLT then waits in the kernel for an interrupt and does not exit.
    pub interrupt_controller: bool,
    /// A PC's interval timer in the kernel as well.
    pub timer: bool,
    /// The guest is a Linux. If this KVM interprets ring 0, what its interpreter lacks of a small kernel is done in this
    /// program ([`slow`]); on an ordinary KVM it makes no difference.
    pub assist_linux: bool,
}

/// What all processors of a machine share. The descriptor goes before the memory that it refers to.
struct Shared {
    vm: VmFd,
    kvm: Kvm,
    ram: GuestRam,
    info: EngineInfo,
    config: KvmConfig,
}

/// A virtual machine.
pub struct KvmVm {
    shared: Arc<Shared>,
    next_vcpu: AtomicU64,
}

impl KvmVm {
    /// A machine with `ram` at address zero.
    ///
    /// The first machine of a process measures how fast this KVM is, which takes a few milliseconds where it is slow.
    pub fn new(config: &KvmConfig, ram: &GuestRam) -> Result<Self, EngineError> {
        let facts = probe::facts()?;
        Self::with_speed(config, ram, facts.speed)
    }

    fn with_speed(config: &KvmConfig, ram: &GuestRam, speed: Speed) -> Result<Self, EngineError> {
        let kvm = open()?;
        let info = EngineInfo { name: "kvm", speed, physical_bits: physical_bits(&supported_cpuid(&kvm)?) };
        let vm = create_vm(&kvm)?;
        vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(|error| host_error("KVM_SET_IDENTITY_MAP_ADDR", error))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(|error| host_error("KVM_SET_TSS_ADDR", error))?;
        sys::map_ram(&vm, 0, 0, ram)?;
        if let Some(bit) = config.alias_bit {
            sys::map_ram(&vm, 1, alias_address(bit, info.physical_bits, ram)?, ram)?;
        }
        if config.interrupt_controller {
            vm.create_irq_chip().map_err(|error| host_error("KVM_CREATE_IRQCHIP", error))?;
        }
        if config.timer {
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
            vm.create_pit2(pit).map_err(|error| host_error("KVM_CREATE_PIT2", error))?;
        }
        let mut config = config.clone();
        config.assist_linux &= info.speed == Speed::SlowEmulated;
        if config.assist_linux {
            config.msr_exits.push(MsrRange { base: slow::MSR_LSTAR, count: 1, read: false, write: true });
        }
        route_msrs(&vm, &config)?;
        let shared = Shared { vm, kvm, ram: ram.clone(), info, config };
        Ok(Self { shared: Arc::new(shared), next_vcpu: AtomicU64::new(0) })
    }

    /// What this engine is.
    pub fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    /// The CPUID table that this host's KVM offers: the base for a guest's own.
    pub fn supported_cpuid(&self) -> Result<CpuidTable, EngineError> {
        supported_cpuid(&self.shared.kvm)
    }

    /// A line of the machine's interrupt controllers.
    pub fn interrupt_line(&self, number: u32) -> InterruptLine {
        InterruptLine { shared: Arc::clone(&self.shared), number }
    }

    /// The next processor, numbered from zero, with `cpuid` as its table.
    ///
    /// It belongs to the calling thread. KVM may change the table; [`KvmVcpu::cpuid`] has what the guest will see.
    pub fn create_vcpu(&self, cpuid: &CpuidTable) -> Result<KvmVcpu, EngineError> {
        let index = self.next_vcpu.fetch_add(1, Ordering::Relaxed);
        KvmVcpu::new(Arc::clone(&self.shared), index, cpuid)
    }
}

/// Where a device says that it wants something.
pub struct InterruptLine {
    shared: Arc<Shared>,
    number: u32,
}

impl Trigger for InterruptLine {
    type E = EngineError;

    /// One pulse: the lines of a PC's old devices are edge-triggered.
    fn trigger(&self) -> Result<(), EngineError> {
        for active in [true, false] {
            let line = self.shared.vm.set_irq_line(self.number, active);
            line.map_err(|error| host_error("KVM_IRQ_LINE", error))?;
        }
        Ok(())
    }
}

/// A request that the kernel refused.
fn host_error(operation: &'static str, error: errno::Error) -> EngineError {
    EngineError::Host { operation, errno: error.errno() }
}

/// Opens `/dev/kvm` and checks that it can do what is needed here.
fn open() -> Result<Kvm, EngineError> {
    let kvm = Kvm::new().map_err(|error| probe::explain_open_error(error.errno()))?;
    if kvm.get_api_version() != KVM_API_VERSION {
        return Err(EngineError::TooOld(vec!["the stable API (version 12)"]));
    }
    let needed = [
        (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
        (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
        (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
        (Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR"),
        (Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER"),
    ];
    let missing: Vec<_> =
        needed.into_iter().filter(|&(cap, _)| !kvm.check_extension(cap)).map(|(_, name)| name).collect();
    if missing.is_empty() { Ok(kvm) } else { Err(EngineError::TooOld(missing)) }
}

/// A new machine. KVM_CREATE_VM gives up with EINTR when a signal comes; it is asked again, but not for ever.
fn create_vm(kvm: &Kvm) -> Result<VmFd, EngineError> {
    const ATTEMPTS: usize = 100;
    let mut outcome = kvm.create_vm();
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(error) if error.errno() == libc::EINTR => outcome = kvm.create_vm(),
            _ => break,
        }
    }
    outcome.map_err(|error| host_error("KVM_CREATE_VM", error))
}

fn supported_cpuid(kvm: &Kvm) -> Result<CpuidTable, EngineError> {
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| host_error("KVM_GET_SUPPORTED_CPUID", error))?;
    Ok(cpuid_from_kvm(&cpuid))
}

/// Bits of a guest-physical address that a host can map: CPUID 0x80000008 EAX\[23:16\] where KVM fills that in, else
/// EAX\[7:0\], but then no more than 48, which is what the second level of paging has unless it has five steps.
fn physical_bits(supported: &CpuidTable) -> u8 {
    /// What a processor without the leaf has.
    const WITHOUT_LEAF: u8 = 36;
    /// The reach of four steps.
    const FOUR_LEVELS: u8 = 48;
    let [host, _, guest, _] = supported.get(0x8000_0008, 0).map_or([0; 4], |entry| entry.eax.to_le_bytes());
    match (host, guest) {
        (0, 0) => WITHOUT_LEAF,
        (host, 0) => host.min(FOUR_LEVELS),
        (_, guest) => guest,
    }
}

/// Where RAM appears for the second time.
fn alias_address(bit: u8, physical_bits: u8, ram: &GuestRam) -> Result<u64, EngineError> {
    let inside = bit < physical_bits.min(52);
    match 1u64.checked_shl(bit.into()) {
        Some(address) if inside && address >= ram.size() => Ok(address),
        _ => Err(EngineError::Configuration(format!(
            "second place of RAM at bit {bit}: has to lie above {:#x} bytes of RAM and within this host's {physical_bits} bits of \
             guest-physical address",
            ram.size()
        ))),
    }
}

/// Sends the MSRs that the configuration names to user space.
fn route_msrs(vm: &VmFd, config: &KvmConfig) -> Result<(), EngineError> {
    if config.msr_exits.is_empty() && !config.unknown_msrs_exit {
        return Ok(());
    }
    let unknown = if config.unknown_msrs_exit { KVM_MSR_EXIT_REASON_UNKNOWN } else { 0 };
    let mut capability = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    capability.args[0] = u64::from(KVM_MSR_EXIT_REASON_FILTER | unknown);
    vm.enable_cap(&capability).map_err(|error| host_error("KVM_ENABLE_CAP", error))?;

    let mut bitmaps = Vec::with_capacity(config.msr_exits.len());
    for range in &config.msr_exits {
        bitmaps.push(denying_bitmap(range)?);
    }
    let ranges: Vec<_> = config
        .msr_exits
        .iter()
        .zip(&bitmaps)
        .map(|(range, bitmap)| {
            let mut flags = MsrFilterRangeFlags::empty();
            flags.set(MsrFilterRangeFlags::READ, range.read);
            flags.set(MsrFilterRangeFlags::WRITE, range.write);
            MsrFilterRange { flags, base: range.base, msr_count: range.count, bitmap }
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges)
        .map_err(|error| host_error("KVM_X86_SET_MSR_FILTER", error))
}

/// A bit of zero for each MSR of the range: not allowed, so it exits.
fn denying_bitmap(range: &MsrRange) -> Result<Vec<u8>, EngineError> {
    /// KVM_MSR_FILTER_MAX_BITMAP_SIZE is in bytes.
    const MOST: u32 = kvm_bindings::KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8;
    let fits = (1..=MOST).contains(&range.count) && range.base.checked_add(range.count - 1).is_some();
    if !fits || !(range.read || range.write) {
        return Err(EngineError::Configuration(format!(
            "MSR range of {} from {:#x} on: needs 1 to {MOST} MSRs, and reads or writes",
            range.count, range.base
        )));
    }
    let bytes = usize::try_from(range.count.div_ceil(8)).unwrap_or(usize::MAX);
    Ok(vec![0; bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpuid::CpuidEntry;
    use rstest::rstest;

    #[rstest]
    #[case::four_levels(47, 48, true)]
    #[case::small_host(38, 39, true)]
    #[case::wide_host(51, 52, true)]
    #[case::at_the_width(48, 48, false)]
    #[case::within_ram(12, 48, false)]
    #[case::no_such_bit(64, 255, false)]
    #[case::not_in_a_page_table_entry(52, 57, false)]
    fn alias(#[case] bit: u8, #[case] physical_bits: u8, #[case] fits: bool) {
        let ram = GuestRam::new(0x2000).unwrap();
        let address = alias_address(bit, physical_bits, &ram);
        assert_eq!(address.ok(), fits.then(|| 1 << bit));
    }

    #[rstest]
    #[case::no_leaf(None, 36)]
    #[case::small(Some(0x3027), 39)]
    #[case::wide_without_guest_width(Some(0x3034), 48)]
    #[case::wide_with_guest_width(Some(0x0034_3934), 52)]
    #[case::narrower_guest_width(Some(0x0030_3934), 48)]
    fn width(#[case] eax: Option<u32>, #[case] bits: u8) {
        let entry = |eax| CpuidEntry { function: 0x8000_0008, eax, ..CpuidEntry::default() };
        assert_eq!(physical_bits(&eax.into_iter().map(entry).collect()), bits);
    }

    #[rstest]
    #[case::two(0xc001_0130, 2, true, true, Some(1))]
    #[case::nine(0, 9, true, false, Some(2))]
    #[case::last(u32::MAX, 1, false, true, Some(1))]
    #[case::none(0, 0, true, true, None)]
    #[case::neither(0, 1, false, false, None)]
    #[case::wrapping(u32::MAX, 2, true, true, None)]
    #[case::too_many(0, 12_289, true, true, None)]
    fn msr_ranges(
        #[case] base: u32,
        #[case] count: u32,
        #[case] read: bool,
        #[case] write: bool,
        #[case] bytes: Option<usize>,
    ) {
        let bitmap = denying_bitmap(&MsrRange { base, count, read, write });
        assert_eq!(bitmap.ok().map(|bitmap| bitmap.len()), bytes);
    }
}
