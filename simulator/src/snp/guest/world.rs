//! A world small enough to live inside a program: memory, clock, entropy, no devices.

use std::cell::RefCell;

use tsmsim_keys::Seed;

use crate::{
    env::{Clock, Entropy, Env, GuestMemory, HostDevices, OutOfRange},
    fault::{FaultHook, NoFaults},
    journal::Journal,
};

/// Guest memory in a vector, from guest-physical address 0 on.
#[derive(Clone, Debug, Default)]
pub struct VecMemory(RefCell<Vec<u8>>);

impl VecMemory {
    /// Zeroed memory of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(RefCell::new(vec![0; bytes]))
    }
}

fn range(gpa: u64, len: usize, size: usize) -> Result<std::ops::Range<usize>, OutOfRange> {
    let start = usize::try_from(gpa).ok();
    let end = start.and_then(|start| start.checked_add(len)).filter(|end| *end <= size);
    start.zip(end).map(|(start, end)| start..end).ok_or(OutOfRange { gpa, len })
}

impl GuestMemory for VecMemory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        let memory = self.0.borrow();
        buf.copy_from_slice(&memory[range(gpa, buf.len(), memory.len())?]);
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let mut memory = self.0.borrow_mut();
        let range = range(gpa, data.len(), memory.len())?;
        memory[range].copy_from_slice(data);
        Ok(())
    }
}

/// A clock that stands still.
#[derive(Clone, Copy, Debug, Default)]
pub struct StillClock(pub u64);

impl Clock for StillClock {
    fn now_ns(&self) -> u64 {
        self.0
    }
}

/// Entropy that a seed determines: the same seed, the same bytes, call after call.
pub struct SeededEntropy {
    seed: Seed,
    blocks: u64,
}

impl SeededEntropy {
    /// Entropy from its beginning.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, blocks: 0 }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(32) {
            let block = self.seed.derive::<32>(&[b"tsmsim entropy", &self.blocks.to_le_bytes()]);
            chunk.copy_from_slice(&block.expose()[..chunk.len()]);
            self.blocks += 1;
        }
    }
}

/// A host without devices: CPUID is zero, ports and MMIO read as ones, there are no MSRs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl HostDevices for NoDevices {
    fn cpuid(&mut self, _: u32, _: u32, _: u64, _: u64) -> [u32; 4] {
        [0; 4]
    }

    fn port_in(&mut self, _: u16, _: u8) -> u32 {
        u32::MAX
    }

    fn port_out(&mut self, _: u16, _: u8, _: u32) {}

    fn read_msr(&mut self, _: u32) -> Option<u64> {
        None
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

impl<T: HostDevices + ?Sized> HostDevices for Box<T> {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64, xss: u64) -> [u32; 4] {
        (**self).cpuid(leaf, subleaf, xcr0, xss)
    }

    fn port_in(&mut self, port: u16, size: u8) -> u32 {
        (**self).port_in(port, size)
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        (**self).port_out(port, size, value);
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (**self).read_msr(index)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Option<()> {
        (**self).write_msr(index, value)
    }

    fn mmio_read(&mut self, gpa: u64, buf: &mut [u8]) -> Option<()> {
        (**self).mmio_read(gpa, buf)
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> Option<()> {
        (**self).mmio_write(gpa, data)
    }
}

/// Everything outside the guest's own machine; each part can be replaced.
///
/// `D` are the hypervisor's devices: a `Box` unless a monitor has a type of its own for them.
pub struct World<D = Box<dyn HostDevices + Send>> {
    /// Guest memory.
    pub memory: Box<dyn GuestMemory>,
    /// Time.
    pub clock: Box<dyn Clock>,
    /// Randomness of the secure processor.
    pub entropy: Box<dyn Entropy>,
    /// What happened.
    pub journal: Journal,
    /// What is to go wrong.
    pub faults: Box<dyn FaultHook>,
    /// The hypervisor's devices.
    pub devices: D,
}

impl World {
    /// Memory of this many bytes, a clock that stands still, entropy from a seed, no faults, no devices.
    #[must_use]
    pub fn new(bytes: usize, seed: Seed) -> Self {
        Self {
            memory: Box::new(VecMemory::new(bytes)),
            clock: Box::new(StillClock::default()),
            entropy: Box::new(SeededEntropy::new(seed)),
            journal: Journal::new(),
            faults: Box::new(NoFaults),
            devices: Box::new(NoDevices),
        }
    }
}

impl<D: HostDevices> World<D> {
    /// What a call into the simulator needs.
    pub fn env(&mut self) -> (Env<'_>, &mut dyn HostDevices) {
        let env = Env {
            memory: &*self.memory,
            clock: &*self.clock,
            entropy: &mut *self.entropy,
            journal: &mut self.journal,
            faults: &mut *self.faults,
        };
        (env, &mut self.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_ends_where_it_ends() {
        let memory = VecMemory::new(8);
        assert_eq!(memory.write(6, &[1, 2]), Ok(()));
        assert_eq!(memory.write(7, &[3, 4]), Err(OutOfRange { gpa: 7, len: 2 }));
        let mut buf = [0; 2];
        assert_eq!(memory.read(6, &mut buf), Ok(()));
        assert_eq!(buf, [1, 2]);
        assert!(memory.read(u64::MAX, &mut buf).is_err());
    }

    #[test]
    fn entropy_depends_on_the_seed_and_goes_on() {
        let fill = |seed| {
            let (mut entropy, mut a, mut b) = (SeededEntropy::new(seed), [0; 40], [0; 40]);
            entropy.fill(&mut a);
            entropy.fill(&mut b);
            (a, b)
        };
        let (a, b) = fill(Seed::DEFAULT);
        assert_ne!(a, b);
        assert_eq!(fill(Seed::DEFAULT), (a, b));
        assert_ne!(fill(Seed::DEFAULT.derive_seed(&[b"other"])).0, a);
    }
}
