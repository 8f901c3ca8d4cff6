//! What the fuzz targets share: reading an input piece by piece, and machines that cost little to make.
//!
//! The platform is built once per thread (its endorsement key takes an RSA signature); every run gets a clone of it and
//! launches a guest of its own, so no run sees anything of the one before.

use std::cell::OnceCell;

use tsmsim_abi::snp::{PAGE_SIZE, launch::PageType, policy::GuestPolicy, tcb::ProductLine};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    env::HostDevices,
    snp::{
        firmware::Firmware,
        guest::{GuestLayout, InProcessGuest, World},
        host::{HostConfig, Hypervisor, LaunchPlan, PlannedPage},
        platform::{Platform, PlatformConfig},
    },
};

pub mod cove;
pub mod op;
pub mod samples;
pub mod tdx;
pub mod userland;

/// Guest memory in bytes: enough for three 2 MiB pages.
pub const RAM: usize = 6 << 20;
/// A page that is private and validated.
pub const PRIVATE_GPA: u64 = 0x2_0000;
/// A page that was never given to the guest, so shared.
pub const SHARED_GPA: u64 = 0x10_0000;
/// Endless loops end here: operations of one run at most.
pub const STEPS: usize = 32;

/// An input, read from the front. Past its end everything is zero.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there is nothing left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As many bytes as asked for, fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A length of two bytes, and as many bytes.
    pub fn sized(&mut self) -> &'a [u8] {
        let count = self.u16().into();
        self.bytes(count)
    }

    /// Edits a place: an offset of two bytes, a length of one, and as many bytes, which go there; a length of 255 cuts the place
    /// off there.
    pub fn edit(&mut self, place: &mut Vec<u8>) {
        let (offset, length) = (usize::from(self.u16()), usize::from(self.u8()));
        if length == 255 {
            place.truncate(offset);
            return;
        }
        for (old, new) in place.iter_mut().skip(offset).zip(self.bytes(length)) {
            *old = *new;
        }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// An array, zero where the input ends.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

thread_local! {
    static PLATFORM: OnceCell<Platform> = const { OnceCell::new() };
}

/// A Turin platform of the default seed, with the latest report and message versions and with a VLEK.
pub fn platform() -> Platform {
    PLATFORM.with(|platform| {
        let build = || {
            let config = PlatformConfig::new(ProductLine::Turin);
            let config = config.with_signature_mode(SignatureMode::Randomized).with_vlek("fuzz");
            config.build(&Seed::DEFAULT).expect("the platform can be built")
        };
        platform.get_or_init(build).clone()
    })
}

/// Firmware without guests.
pub fn firmware() -> Firmware {
    Firmware::new(platform())
}

/// Memory, a clock that stands still, entropy that is always the same.
pub fn world() -> World {
    let mut world = World::new(RAM, Seed::DEFAULT);
    world.devices = Box::new(EchoDevices);
    world
}

/// Two vCPUs, RAM, certificates of a page and a bit.
pub fn host() -> HostConfig {
    HostConfig {
        ram: std::iter::once(0..RAM as u64).collect(),
        apic_ids: vec![0, 3],
        certificates: vec![0x5a; PAGE_SIZE + 16],
        ..HostConfig::default()
    }
}

/// A launched machine whose guest has negotiated: its GHCB is registered, its buffers are shared, [`PRIVATE_GPA`] is private.
pub fn machine(config: HostConfig) -> (Hypervisor, World, GuestLayout) {
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.push(PlannedPage::memory(PageType::NORMAL, PRIVATE_GPA));
    InProcessGuest::launch(firmware(), config, plan, world()).expect("the guest launches").into_parts()
}

/// Devices everywhere below a limit, whose values follow from the address.
struct EchoDevices;

impl HostDevices for EchoDevices {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64, xss: u64) -> [u32; 4] {
        [leaf, subleaf, xcr0 as u32, xss as u32]
    }

    fn port_in(&mut self, port: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4));
        port.into()
    }

    fn port_out(&mut self, _: u16, size: u8, _: u32) {
        assert!(matches!(size, 1 | 2 | 4));
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (index < 0x1000).then_some(index.into())
    }

    fn write_msr(&mut self, index: u32, _: u64) -> Option<()> {
        (index < 0x1000).then_some(())
    }

    fn mmio_read(&mut self, gpa: u64, buf: &mut [u8]) -> Option<()> {
        (gpa >= RAM as u64).then(|| buf.fill(0x5a))
    }

    fn mmio_write(&mut self, gpa: u64, _: &[u8]) -> Option<()> {
        (gpa >= RAM as u64).then_some(())
    }
}
