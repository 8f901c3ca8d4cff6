//! What the simulator sees of the world.

use crate::{fault::FaultHook, journal::Journal};

/// An access to guest memory that does not lie inside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("guest-physical range {gpa:#x}..+{len:#x} is not guest memory")]
pub struct OutOfRange {
    /// Guest-physical address, without C-bit.
    pub gpa: u64,
    /// Bytes.
    pub len: usize,
}

/// Guest-physical memory. Addresses are without C-bit. Other vCPUs may change it at any time, so everything is copied
/// in once and judged afterwards.
pub trait GuestMemory: Send {
    /// Copies out of guest memory.
    ///
    /// # Errors
    /// If any byte of the range is not guest memory; `buf` is then unspecified.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange>;

    /// Copies into guest memory.
    ///
    /// # Errors
    /// If any byte of the range is not guest memory; nothing is written then.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange>;
}

/// Time, as the machine that is simulated sees it.
pub trait Clock: Send {
    /// Nanoseconds since some fixed point; never goes back.
    fn now_ns(&self) -> u64;
}

/// Randomness of the secure processor.
pub trait Entropy: Send {
    /// Fills the buffer.
    fn fill(&mut self, buf: &mut [u8]);
}

/// What a guest reaches through the hypervisor's device model and CPU model rather than through the firmware.
///
/// `None` means that the host has nothing there; the GHCB protocol then says what the guest sees.
pub trait HostDevices {
    /// CPUID of the guest's CPU model: EAX, EBX, ECX, EDX.
    fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64, xss: u64) -> [u32; 4];
    /// Port input of 1, 2 or 4 bytes; absent ports read as all ones.
    fn port_in(&mut self, port: u16, size: u8) -> u32;
    /// Port output of 1, 2 or 4 bytes.
    fn port_out(&mut self, port: u16, size: u8, value: u32);
    /// RDMSR.
    fn read_msr(&mut self, index: u32) -> Option<u64>;
    /// WRMSR; `None` refuses.
    fn write_msr(&mut self, index: u32, value: u64) -> Option<()>;
    /// MMIO read.
    fn mmio_read(&mut self, gpa: u64, buf: &mut [u8]) -> Option<()>;
    /// MMIO write.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> Option<()>;
}

/// Everything that a call into the simulator may touch besides the machine's own state.
pub struct Env<'a> {
    /// Guest memory.
    pub memory: &'a dyn GuestMemory,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a mut dyn Entropy,
    /// What happened.
    pub journal: &'a mut Journal,
    /// Whom to ask for faults.
    pub faults: &'a mut dyn FaultHook,
}
