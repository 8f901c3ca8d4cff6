//! Guest RAM as the interpreter wants it.

use ckb_vm::{
    Bytes, Error, Memory,
    memory::{FLAG_EXECUTABLE, FLAG_WRITABLE},
};

use crate::{engine::riscv::cause, memory::PlacedRam};

/// No reservation: no instruction can make one here, because an access would go beyond the address space.
const NO_RESERVATION: u64 = u64::MAX;

/// An access that failed.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    /// `mcause`.
    pub(super) cause: u64,
    /// `mtval`.
    pub(super) address: u64,
}

/// RAM with the hart's reservation.
pub(super) struct Ram {
    /// `None` is a machine without RAM, which the interpreter's trait can ask for.
    ram: Option<PlacedRam>,
    reservation: u64,
    fault: Option<Fault>,
}

impl Ram {
    pub(super) const fn of(ram: PlacedRam) -> Self {
        Self { ram: Some(ram), reservation: NO_RESERVATION, fault: None }
    }

    /// The last access that failed, once.
    pub(super) const fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    pub(super) const fn forget_reservation(&mut self) {
        self.reservation = NO_RESERVATION;
    }

    fn fail<T>(&mut self, cause: u64, address: u64) -> Result<T, Error> {
        self.fault = Some(Fault { cause, address });
        Err(Error::MemOutOfBound)
    }

    fn read(&mut self, cause: u64, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        match &self.ram {
            Some(ram) if ram.read(address, buf).is_ok() => Ok(()),
            _ => self.fail(cause, address),
        }
    }

    fn load<const N: usize>(&mut self, cause: u64, address: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(cause, address, &mut bytes).map(|()| bytes)
    }

    fn store(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        match &self.ram {
            Some(ram) if ram.write(address, bytes).is_ok() => Ok(()),
            _ => self.fail(cause::STORE_ACCESS_FAULT, address),
        }
    }

    fn length(size: u64) -> Result<usize, Error> {
        usize::try_from(size).map_err(|_| Error::MemOutOfBound)
    }
}

impl Memory for Ram {
    type REG = u64;

    fn new() -> Self {
        Self { ram: None, reservation: NO_RESERVATION, fault: None }
    }

    fn new_with_memory(_: usize) -> Self {
        <Self as Memory>::new()
    }

    /// The loader's, not the interpreter's.
    fn init_pages(&mut self, _: u64, _: u64, _: u8, _: Option<Bytes>, _: u64) -> Result<(), Error> {
        Err(Error::Unimplemented)
    }

    fn fetch_flag(&mut self, _: u64) -> Result<u8, Error> {
        Ok(FLAG_EXECUTABLE | FLAG_WRITABLE)
    }

    fn set_flag(&mut self, _: u64, _: u8) -> Result<(), Error> {
        Ok(())
    }

    fn clear_flag(&mut self, _: u64, _: u8) -> Result<(), Error> {
        Ok(())
    }

    /// The first address behind RAM: the decoder compares `pc` with it.
    fn memory_size(&self) -> usize {
        self.ram.as_ref().map_or(0, |ram| usize::try_from(ram.range().end).unwrap_or(usize::MAX))
    }

    fn store_byte(&mut self, address: u64, size: u64, value: u8) -> Result<(), Error> {
        if !self.ram.as_ref().is_some_and(|ram| ram.contains(address, size)) {
            return self.fail(cause::STORE_ACCESS_FAULT, address);
        }
        self.store(address, &vec![value; Self::length(size)?])
    }

    fn store_bytes(&mut self, address: u64, value: &[u8]) -> Result<(), Error> {
        self.store(address, value)
    }

    fn load_bytes(&mut self, address: u64, size: u64) -> Result<Bytes, Error> {
        if !self.ram.as_ref().is_some_and(|ram| ram.contains(address, size)) {
            return self.fail(cause::LOAD_ACCESS_FAULT, address);
        }
        let mut bytes = vec![0; Self::length(size)?];
        self.read(cause::LOAD_ACCESS_FAULT, address, &mut bytes)?;
        Ok(bytes.into())
    }

    fn execute_load16(&mut self, address: u64) -> Result<u16, Error> {
        self.load(cause::INSTRUCTION_ACCESS_FAULT, address).map(u16::from_le_bytes)
    }

    fn execute_load32(&mut self, address: u64) -> Result<u32, Error> {
        self.load(cause::INSTRUCTION_ACCESS_FAULT, address).map(u32::from_le_bytes)
    }

    fn load8(&mut self, address: &u64) -> Result<u64, Error> {
        self.load(cause::LOAD_ACCESS_FAULT, *address).map(|bytes| u8::from_le_bytes(bytes).into())
    }

    fn load16(&mut self, address: &u64) -> Result<u64, Error> {
        self.load(cause::LOAD_ACCESS_FAULT, *address).map(|bytes| u16::from_le_bytes(bytes).into())
    }

    fn load32(&mut self, address: &u64) -> Result<u64, Error> {
        self.load(cause::LOAD_ACCESS_FAULT, *address).map(|bytes| u32::from_le_bytes(bytes).into())
    }

    fn load64(&mut self, address: &u64) -> Result<u64, Error> {
        self.load(cause::LOAD_ACCESS_FAULT, *address).map(u64::from_le_bytes)
    }

    fn store8(&mut self, address: &u64, value: &u64) -> Result<(), Error> {
        self.store(*address, &value.to_le_bytes()[..1])
    }

    fn store16(&mut self, address: &u64, value: &u64) -> Result<(), Error> {
        self.store(*address, &value.to_le_bytes()[..2])
    }

    fn store32(&mut self, address: &u64, value: &u64) -> Result<(), Error> {
        self.store(*address, &value.to_le_bytes()[..4])
    }

    fn store64(&mut self, address: &u64, value: &u64) -> Result<(), Error> {
        self.store(*address, &value.to_le_bytes())
    }

    fn lr(&self) -> &u64 {
        &self.reservation
    }

    fn set_lr(&mut self, value: &u64) {
        self.reservation = *value;
    }
}
