//! The port bus: which device answers at which I/O port.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use thiserror::Error;

/// A device at a range of I/O ports. It knows nothing of engines, nor where on the bus it sits.
///
/// `offset` counts from the first port of the device's range; `data` is one access of 1, 2 or 4 bytes, little endian.
pub trait PortDevice {
    /// The guest reads: fill all of `data`.
    fn read(&mut self, offset: u16, data: &mut [u8]);
    /// The guest writes.
    fn write(&mut self, offset: u16, data: &[u8]);
}

/// Why a device could not be put on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BusError {
    /// Another device has some of these ports.
    #[error("{count} I/O ports from {first:#x} on: taken, at least from {taken:#x} on")]
    Overlap {
        /// First port asked for.
        first: u16,
        /// Number of ports asked for.
        count: u16,
        /// First port of the device that is there.
        taken: u16,
    },
    /// The range runs past port 0xffff.
    #[error("{count} I/O ports from {first:#x} on: past the last port")]
    PastEnd {
        /// First port asked for.
        first: u16,
        /// Number of ports asked for.
        count: u16,
    },
}

struct Slot {
    last: u16,
    device: Box<dyn PortDevice>,
}

/// All devices at I/O ports. Where there is none, reads give ones and writes go nowhere, as on a PC.
#[derive(Default)]
pub struct PortBus {
    slots: BTreeMap<u16, Slot>,
}

impl PortBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `count` ports from `first` on.
    pub fn insert(
        &mut self,
        first: u16,
        count: NonZeroU16,
        device: Box<dyn PortDevice>,
    ) -> Result<(), BusError> {
        let count = count.get();
        let last = first.checked_add(count - 1).ok_or(BusError::PastEnd { first, count })?;
        if let Some((&taken, slot)) = self.slots.range(..=last).next_back()
            && slot.last >= first
        {
            return Err(BusError::Overlap { first, count, taken });
        }
        self.slots.insert(first, Slot { last, device });
        Ok(())
    }

    /// Carries out the guest's reads from `port`: as many accesses of `size` bytes as `data` holds (string
    /// instructions read one port again and again). Answers whether a device was there.
    pub fn read(&mut self, port: u16, size: u8, data: &mut [u8]) -> bool {
        let Some((offset, device)) = self.find(port) else {
            data.fill(0xff);
            return false;
        };
        for access in data.chunks_mut(usize::from(size).max(1)) {
            device.read(offset, access);
        }
        true
    }

    /// Carries out the guest's writes to `port`, as [`PortBus::read`] does.
    pub fn write(&mut self, port: u16, size: u8, data: &[u8]) -> bool {
        let Some((offset, device)) = self.find(port) else {
            return false;
        };
        for access in data.chunks(usize::from(size).max(1)) {
            device.write(offset, access);
        }
        true
    }

    fn find(&mut self, port: u16) -> Option<(u16, &mut dyn PortDevice)> {
        let (&first, slot) = self.slots.range_mut(..=port).next_back()?;
        (port <= slot.last).then_some((port - first, &mut *slot.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Log = Rc<RefCell<Vec<(u16, Vec<u8>)>>>;

    /// Answers reads with its offset, and remembers writes.
    struct Recorder(Log);

    impl PortDevice for Recorder {
        fn read(&mut self, offset: u16, data: &mut [u8]) {
            data.fill(offset.to_le_bytes()[0]);
        }
        fn write(&mut self, offset: u16, data: &[u8]) {
            self.0.borrow_mut().push((offset, data.to_vec()));
        }
    }

    fn eight_at_0x100() -> (PortBus, Log) {
        let log = Log::default();
        let mut bus = PortBus::new();
        bus.insert(0x100, NonZeroU16::new(8).unwrap(), Box::new(Recorder(log.clone()))).unwrap();
        (bus, log)
    }

    #[rstest]
    #[case::same(0x100, 8, false)]
    #[case::within(0x103, 1, false)]
    #[case::around(0xf0, 0x30, false)]
    #[case::tail(0xff, 2, false)]
    #[case::before(0xff, 1, true)]
    #[case::after(0x108, 1, true)]
    fn overlaps_are_refused(#[case] first: u16, #[case] count: u16, #[case] fits: bool) {
        let (mut bus, _) = eight_at_0x100();
        let outcome = bus.insert(first, NonZeroU16::new(count).unwrap(), Box::new(Recorder(Log::default())));
        let expected = if fits { Ok(()) } else { Err(BusError::Overlap { first, count, taken: 0x100 }) };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn the_last_port_is_the_end() {
        let mut bus = PortBus::new();
        let two = NonZeroU16::new(2).unwrap();
        let outcome = bus.insert(0xffff, two, Box::new(Recorder(Log::default())));
        assert_eq!(outcome, Err(BusError::PastEnd { first: 0xffff, count: 2 }));
        bus.insert(0xfffe, two, Box::new(Recorder(Log::default()))).unwrap();
    }

    #[test]
    fn a_string_of_writes_is_split_into_accesses() {
        let (mut bus, log) = eight_at_0x100();
        assert!(bus.write(0x107, 2, b"abcd"));
        assert_eq!(*log.borrow(), [(7, b"ab".to_vec()), (7, b"cd".to_vec())]);
    }

    #[rstest]
    #[case::device(0x105, true, 5)]
    #[case::below(0xff, false, 0xff)]
    #[case::above(0x108, false, 0xff)]
    fn reads(#[case] port: u16, #[case] there: bool, #[case] byte: u8) {
        let (mut bus, _) = eight_at_0x100();
        let mut data = [0; 4];
        assert_eq!(bus.read(port, 4, &mut data), there);
        assert_eq!(data, [byte; 4]);
    }

    #[test]
    fn writes_to_nobody_go_nowhere() {
        let (mut bus, log) = eight_at_0x100();
        assert!(!bus.write(0x200, 1, b"x"));
        assert!(!bus.write(0x200, 0, b"x"), "a size of zero is no reason to panic");
        assert!(log.borrow().is_empty());
    }
}
