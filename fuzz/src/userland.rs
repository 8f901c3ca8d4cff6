//! What programs do to the drivers, and what hosts do to them.

use nix::errno::Errno;
use tsmsim_simulator::fault::{FaultAction, FaultHook, FaultPoint};
use tsmsim_userland::{drivers::UserMemory, provider::ReportRequest};

use crate::Input;

/// Where a program has memory.
pub const USER: u64 = 0x10_0000;
/// How much, in bytes.
pub const USER_SIZE: usize = 0x8000;

/// A program's memory: [`USER_SIZE`] bytes from [`USER`] on and nothing else.
pub struct UserMap(Vec<u8>);

impl Default for UserMap {
    fn default() -> Self {
        Self(vec![0; USER_SIZE])
    }
}

impl UserMap {
    /// Puts as many of the bytes there as fit.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (old, new) in self.0.iter_mut().skip(offset).zip(bytes) {
            *old = *new;
        }
    }

    /// What is there.
    pub fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        &self.0[offset..offset + len]
    }

    fn offset(addr: u64, len: usize) -> Result<usize, Errno> {
        let offset = addr.checked_sub(USER).and_then(|offset| usize::try_from(offset).ok());
        let fits = |offset: &usize| offset.checked_add(len).is_some_and(|end| end <= USER_SIZE);
        offset.filter(fits).ok_or(Errno::EFAULT)
    }
}

impl UserMemory for UserMap {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let offset = Self::offset(addr, buf.len())?;
        buf.copy_from_slice(self.bytes(offset, buf.len()));
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let offset = Self::offset(addr, data.len())?;
        self.put(offset, data);
        Ok(())
    }
}

/// Something that goes wrong at a point, so many times.
pub struct Times(FaultPoint, FaultAction, u8);

impl Times {
    /// The point (1), the action (1), its operands, how often (1).
    pub fn read(input: &mut Input<'_>) -> Self {
        let points = FaultPoint::ALL;
        let point = points[usize::from(input.u8()) % points.len()];
        let action = match input.u8() % 5 {
            0 => FaultAction::Status(input.u64()),
            1 => FaultAction::FlipBit(usize::from(input.u16())),
            2 => FaultAction::Truncate(usize::from(input.u16())),
            3 => FaultAction::Overwrite { offset: input.u16().into(), bytes: input.sized().to_vec() },
            _ => FaultAction::Drop,
        };
        Self(point, action, input.u8())
    }
}

impl FaultHook for Times {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point != self.0 || self.2 == 0 {
            return None;
        }
        self.2 -= 1;
        Some(self.1.clone())
    }
}

/// What configfs asks a driver: privilege level (4), whether a service provider is named (1), `inblob` (length and bytes).
pub fn report_request(input: &mut Input<'_>) -> ReportRequest {
    let privlevel = input.u32();
    let service_provider = (input.u8() & 1 == 1).then(|| b"svsm".to_vec());
    ReportRequest { inblob: input.sized().to_vec(), privlevel, service_provider, ..ReportRequest::default() }
}
