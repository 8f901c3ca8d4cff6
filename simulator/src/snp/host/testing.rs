//! A launched machine for the tests of this folder, played by hand.

use tsmsim_abi::snp::{
    PAGE_SIZE,
    ghcb::{ExitCode, Ghcb, GhcbField, SHARED_BUFFER_OFFSET},
    launch::PageType,
    msr::{GhcbInfo, GhcbMsr},
    policy::GuestPolicy,
    psc::PscOperation,
    rmp::{RmpAdjustOperand, RmpReturn},
    tcb::ProductLine,
};
use tsmsim_keys::Seed;
use zerocopy::{FromZeros, IntoBytes};

use super::{Action, HostConfig, Hypervisor, LaunchPlan, Outcome, PlannedPage, WalkedPage};
use crate::{
    env::HostDevices,
    fault::{FaultAction, FaultHook, FaultPoint},
    journal::Event,
    snp::{
        event::{SnpEvent, Violation},
        firmware::Firmware,
        guest::World,
        platform::PlatformConfig,
        rmp::PageSize,
    },
};

pub(super) const RAM: u64 = 8 << 20;
pub(super) const GHCB: u64 = 0x1000;
/// Never given to the guest, so shared.
pub(super) const SHARED: u64 = 0x10_0000;
/// A launched page.
pub(super) const PRIVATE: u64 = 0x2000;
pub(super) const APIC_IDS: [u32; 3] = [0, 5, 9];
pub(super) const SCRATCH: u64 = GHCB + SHARED_BUFFER_OFFSET;

/// A device at port 10h and at F000_0000h, one MSR (C000_0103h), and a CPUID that says what it was asked.
#[derive(Default)]
pub(super) struct TestDevices {
    pub(super) written: Vec<u8>,
}

pub(super) const DEVICE_PORT: u16 = 0x10;
pub(super) const DEVICE_GPA: u64 = 0xf000_0000;
pub(super) const DEVICE_MSR: u32 = 0xc000_0103;

impl HostDevices for TestDevices {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64, xss: u64) -> [u32; 4] {
        [leaf, subleaf, (xcr0 & 0xffff) as u32, (xss & 0xffff) as u32]
    }

    fn port_in(&mut self, port: u16, _: u8) -> u32 {
        if port == DEVICE_PORT { 0x4433_2211 } else { u32::MAX }
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        if port == DEVICE_PORT {
            self.written.extend(&value.to_le_bytes()[..usize::from(size)]);
        }
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (index == DEVICE_MSR).then_some(0x1234_5678_9abc_def0)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Option<()> {
        (index == DEVICE_MSR).then(|| self.written.extend(value.to_le_bytes()))
    }

    fn mmio_read(&mut self, gpa: u64, buf: &mut [u8]) -> Option<()> {
        (gpa == DEVICE_GPA).then(|| buf.fill(0x5a))
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> Option<()> {
        (gpa == DEVICE_GPA).then(|| self.written.extend(data))
    }
}

/// One fault at one point, each time.
struct Always(FaultPoint, FaultAction);

impl FaultHook for Always {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        (point == self.0).then(|| self.1.clone())
    }
}

pub(super) struct Machine {
    pub(super) hypervisor: Hypervisor,
    pub(super) world: World,
    pub(super) devices: TestDevices,
}

pub(super) fn config() -> HostConfig {
    let ram = std::iter::once(0..RAM).collect();
    HostConfig { ram, apic_ids: APIC_IDS.into(), tsc_khz: 3_000_000, ..HostConfig::default() }
}

pub(super) fn firmware() -> Firmware {
    Firmware::new(PlatformConfig::new(ProductLine::Milan).build(&Seed::DEFAULT).unwrap())
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    /// A machine whose guest launched with the page at [`PRIVATE`], and whose first vCPU registered [`GHCB`].
    pub(super) fn with(config: HostConfig) -> Self {
        let mut world = World::new(usize::try_from(RAM).unwrap(), Seed::DEFAULT);
        let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
        plan.pages.push(PlannedPage::memory(PageType::NORMAL, PRIVATE));
        let hypervisor = Hypervisor::launch(firmware(), config, &plan, &mut world.env().0).unwrap();
        Self::of(hypervisor, world)
    }

    /// A machine that was launched otherwise; its first vCPU registers [`GHCB`].
    pub(super) fn of(hypervisor: Hypervisor, world: World) -> Self {
        let mut machine = Self { hypervisor, world, devices: TestDevices::default() };
        let registered = machine.msr(GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, GHCB >> 12));
        assert_eq!(registered.msr.data(), GHCB >> 12);
        machine
    }

    pub(super) fn fault(&mut self, point: FaultPoint, action: FaultAction) {
        self.world.faults = Box::new(Always(point, action));
    }

    pub(super) fn msr(&mut self, msr: GhcbMsr) -> Outcome {
        self.hypervisor.vmgexit(0, msr, &mut self.world.env().0, &mut self.devices)
    }

    /// A well-formed GHCB for an exit; `fill` adds what the exit needs.
    pub(super) fn ghcb(code: ExitCode, info1: u64, info2: u64, fill: impl FnOnce(&mut Ghcb)) -> Box<Ghcb> {
        let mut ghcb = Box::new(Ghcb::new_zeroed());
        ghcb.protocol_version.set(2);
        ghcb.sw_exit_code.set(code.0);
        ghcb.sw_exit_info_1.set(info1);
        ghcb.sw_exit_info_2.set(info2);
        for field in [GhcbField::SW_EXIT_CODE, GhcbField::SW_EXIT_INFO_1, GhcbField::SW_EXIT_INFO_2] {
            ghcb.set_valid(field);
        }
        fill(&mut ghcb);
        ghcb
    }

    /// Puts a GHCB where it is registered, exits, and reads it back.
    pub(super) fn exit_with(&mut self, ghcb: &Ghcb) -> (Box<Ghcb>, Action) {
        self.world.memory.write(GHCB, ghcb.as_bytes()).unwrap();
        let outcome = self.msr(GhcbMsr(GHCB));
        assert_eq!(outcome.msr, GhcbMsr(GHCB), "an exit leaves the MSR alone");
        let mut ghcb = Box::new(Ghcb::new_zeroed());
        self.world.memory.read(GHCB, ghcb.as_mut_bytes()).unwrap();
        (ghcb, outcome.action)
    }

    pub(super) fn exit(
        &mut self,
        code: ExitCode,
        info1: u64,
        info2: u64,
        fill: impl FnOnce(&mut Ghcb),
    ) -> (Box<Ghcb>, Action) {
        self.exit_with(&Self::ghcb(code, info1, info2, fill))
    }

    /// What an exit leaves in `SW_EXITINFO1` and `SW_EXITINFO2`.
    pub(super) fn infos(
        &mut self,
        code: ExitCode,
        info1: u64,
        info2: u64,
        fill: impl FnOnce(&mut Ghcb),
    ) -> (u64, u64) {
        infos(&self.exit(code, info1, info2, fill).0)
    }

    pub(super) fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.world.memory.read(gpa, &mut bytes).unwrap();
        bytes
    }

    pub(super) fn share(&mut self, gpa: u64) -> Outcome {
        self.msr(GhcbMsr::page_state_change(gpa >> 12, PscOperation::SHARED.0))
    }

    pub(super) fn make_private(&mut self, gpa: u64) -> Outcome {
        self.msr(GhcbMsr::page_state_change(gpa >> 12, PscOperation::PRIVATE.0))
    }

    /// PVALIDATE of a 4 KiB page.
    pub(super) fn validate(&mut self, gpa: u64) -> RmpReturn {
        let page = WalkedPage { gpa, c_bit: true, size: PageSize::Size4K };
        self.hypervisor.pvalidate(page, 0, 1, &mut self.world.env().0).result
    }

    /// Makes a shared page a VMSA of the guest.
    pub(super) fn make_vmsa(&mut self, gpa: u64) {
        self.make_private(gpa);
        assert_eq!(self.validate(gpa), RmpReturn::SUCCESS);
        let page = WalkedPage { gpa, c_bit: true, size: PageSize::Size4K };
        let operand = RmpAdjustOperand::new().with_target_vmpl(1).with_vmsa(true);
        let outcome = self.hypervisor.rmpadjust(page, 0, operand.into(), &mut self.world.env().0);
        assert_eq!(outcome.result, RmpReturn::SUCCESS);
    }

    pub(super) fn violations(&self) -> Vec<(u64, Violation)> {
        let violation = |event: &Event| match event {
            Event::Snp(SnpEvent::Violation { gpa, violation }) => Some((*gpa, *violation)),
            _ => None,
        };
        self.world.journal.entries().filter_map(|(_, event)| violation(event)).collect()
    }
}

pub(super) fn infos(ghcb: &Ghcb) -> (u64, u64) {
    (ghcb.sw_exit_info_1.get(), ghcb.sw_exit_info_2.get())
}

/// Sets a field of a GHCB and marks it.
pub(super) fn set(ghcb: &mut Ghcb, field: GhcbField, value: u64) {
    ghcb.as_mut_bytes()[field.offset()..][..8].copy_from_slice(&value.to_le_bytes());
    ghcb.set_valid(field);
}

pub(super) fn get(ghcb: &Ghcb, field: GhcbField) -> Option<u64> {
    let value = ghcb.as_bytes()[field.offset()..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    value.filter(|_| ghcb.is_valid(field))
}

pub(super) const PAGE: u64 = PAGE_SIZE as u64;
