//! What guests of both technologies reach through their host: ports, a CPU model, a few MSRs.

use std::{cell::Cell, collections::BTreeMap, num::NonZeroU16, rc::Rc};

use tsmsim_abi::guest_test::EXIT_PORT;
use tsmsim_simulator::env::HostDevices;

use crate::{
    bus::{BusError, PortBus, PortDevice},
    engine::cpuid::{CpuidEntry, CpuidTable},
};

/// What the guest reaches through the hypervisor besides firmware or module.
pub(super) struct Devices {
    pub(super) bus: PortBus,
    pub(super) cpuid: CpuidTable,
    /// MSRs that can be read and not be written, by number.
    pub(super) read_only_msrs: BTreeMap<u32, u64>,
}

/// IN or INS: what `count` accesses of `size` bytes give.
pub(super) fn port_input(devices: &mut dyn HostDevices, port: u16, size: u8, count: u32) -> Vec<u8> {
    let size = size.clamp(1, 4);
    let mut data = vec![0; usize::from(size) * usize::try_from(count).unwrap_or(0)];
    for item in data.chunks_mut(size.into()) {
        let value = devices.port_in(port, size).to_le_bytes();
        item.copy_from_slice(&value[..item.len()]);
    }
    data
}

/// OUT or OUTS.
pub(super) fn port_output(devices: &mut dyn HostDevices, port: u16, size: u8, data: &[u8]) {
    for item in data.chunks(size.clamp(1, 4).into()) {
        let mut value = [0; 4];
        value[..item.len()].copy_from_slice(item);
        devices.port_out(port, size, u32::from_le_bytes(value));
    }
}

/// Remembers what the guest ended with.
pub(super) struct ExitPort(Rc<Cell<Option<u8>>>);

impl ExitPort {
    /// Puts one on the bus, and gives what it will remember.
    pub(super) fn insert(bus: &mut PortBus) -> Result<Rc<Cell<Option<u8>>>, BusError> {
        let code = Rc::new(Cell::new(None));
        bus.insert(EXIT_PORT, NonZeroU16::MIN, Box::new(Self(Rc::clone(&code))))?;
        Ok(code)
    }
}

impl PortDevice for ExitPort {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&mut self, _: u16, data: &[u8]) {
        self.0.set(data.first().copied());
    }
}

impl HostDevices for Devices {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, _: u64, _: u64) -> [u32; 4] {
        let values = |entry: &CpuidEntry| [entry.eax, entry.ebx, entry.ecx, entry.edx];
        self.cpuid.get(leaf, subleaf).map(values).unwrap_or_default()
    }

    fn port_in(&mut self, port: u16, size: u8) -> u32 {
        let mut data = [0xff; 4];
        self.bus.read(port, size, &mut data[..usize::from(size).min(4)]);
        u32::from_le_bytes(data)
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        self.bus.write(port, size, &value.to_le_bytes()[..usize::from(size).min(4)]);
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        self.read_only_msrs.get(&index).copied()
    }

    fn write_msr(&mut self, _: u32, _: u64) -> Option<()> {
        None
    }

    fn mmio_read(&mut self, _: u64, _: &mut [u8]) -> Option<()> {
        None
    }

    fn mmio_write(&mut self, _: u64, _: &[u8]) -> Option<()> {
        None
    }
}
