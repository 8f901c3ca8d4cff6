//! The serial console: a 16550 whose output is kept, within bounds, and passed on.

use std::convert::Infallible;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::{Serial as Uart, Trigger, serial::NoEvents};

use crate::bus::PortDevice;

/// First port of the first serial port of a PC.
pub const COM1_PORT: u16 = 0x3f8;
/// Ports of a 16550.
pub const PORT_COUNT: NonZeroU16 = NonZeroU16::new(8).expect("eight is not zero");

/// What a guest printed so far. Clones name the same output.
#[derive(Clone, Debug)]
pub struct SerialOutput(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl SerialOutput {
    /// Keeps at most `limit` bytes: a guest that prints for ever does not eat the host's memory.
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept { bytes: Vec::new(), limit, dropped: 0 })))
    }

    /// Takes what is kept, leaving room for as much again.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.kept().bytes)
    }

    /// A copy of what is kept.
    pub fn contents(&self) -> Vec<u8> {
        self.kept().bytes.clone()
    }

    /// How many bytes are kept.
    pub fn len(&self) -> usize {
        self.kept().bytes.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes found no room.
    pub fn dropped(&self) -> u64 {
        self.kept().dropped
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept();
        let room = kept.limit.saturating_sub(kept.bytes.len()).min(bytes.len());
        kept.bytes.extend_from_slice(&bytes[..room]);
        kept.dropped = kept.dropped.saturating_add(u64::try_from(bytes.len() - room).unwrap_or(u64::MAX));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a guest's output goes: into the bounded buffer first, then to the sink, whose errors are no affair of the guest.
pub(crate) struct Tee {
    output: SerialOutput,
    sink: Option<Box<dyn Write + Send>>,
}

impl Tee {
    /// Keeps up to `limit` bytes and passes all of them to `sink`, if there is one, until it refuses.
    pub(crate) fn new(limit: usize, sink: Option<Box<dyn Write + Send>>) -> (Self, SerialOutput) {
        let output = SerialOutput::new(limit);
        (Self { output: output.clone(), sink }, output)
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.push(bytes);
        if let Some(sink) = &mut self.sink
            && sink.write_all(bytes).is_err()
        {
            self.sink = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(sink) = &mut self.sink
            && sink.flush().is_err()
        {
            self.sink = None;
        }
        Ok(())
    }
}

/// No interrupt line: the guest polls.
#[derive(Clone, Copy, Debug)]
pub struct Polled;

impl Trigger for Polled {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A 16550, without an interrupt line or with one.
pub struct Serial<T: Trigger = Polled> {
    uart: Uart<T, NoEvents, Tee>,
}

impl<T: Trigger> Serial<T> {
    /// A serial port that raises `line` and passes all output to `sink`, until the sink refuses; nothing is kept.
    pub fn with_line(line: T, sink: Box<dyn Write + Send>) -> Self {
        let tee = Tee { output: SerialOutput::new(0), sink: Some(sink) };
        Self { uart: Uart::new(line, tee) }
    }
}

impl Serial {
    /// A serial port that keeps up to `limit` bytes of output and passes all of it to `sink`, if there is one, until
    /// the sink refuses. Returns the device, for the bus, and the output, for whoever wants to read it.
    pub fn new(limit: usize, sink: Option<Box<dyn Write + Send>>) -> (Self, SerialOutput) {
        let (tee, output) = Tee::new(limit, sink);
        (Self { uart: Uart::new(Polled, tee) }, output)
    }
}

impl<T: Trigger> PortDevice for Serial<T> {
    /// Registers are one byte wide; the other bytes of a wider access float.
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (Ok(register), Some(first)) = (u8::try_from(offset), data.first_mut()) {
            *first = self.uart.read(register);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        if let (Ok(register), Some(&first)) = (u8::try_from(offset), data.first()) {
            // What can fail is the loopback buffer being full, when a 16550 loses the byte as well, and the interrupt line,
            // when a guest that waits for it finds the byte gone at the next look.
            let _ = self.uart.write(register, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::PortBus;

    /// Offset of the transmitter holding register, and of the line status register.
    const THR: u16 = 0;
    const LSR: u16 = 5;

    fn print(serial: &mut Serial, text: &[u8]) {
        for &byte in text {
            serial.write(THR, &[byte]);
        }
    }

    #[test]
    fn a_guest_that_polls_can_always_transmit() {
        let (mut serial, output) = Serial::new(64, None);
        let mut status = [0];
        serial.read(LSR, &mut status);
        assert_eq!(status[0] & 0x20, 0x20, "transmitter holding register empty");
        print(&mut serial, b"hello");
        assert_eq!(output.contents(), b"hello");
        assert_eq!(output.take(), b"hello");
        assert!(output.is_empty());
    }

    #[test]
    fn output_is_bounded_and_says_what_it_lost() {
        let (mut serial, output) = Serial::new(3, None);
        print(&mut serial, b"abcde");
        assert_eq!((output.contents(), output.dropped()), (b"abc".to_vec(), 2));
    }

    /// Takes three bytes, then fails.
    struct Full(Arc<Mutex<Vec<u8>>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.0.lock().unwrap();
            if taken.len() >= 3 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            taken.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failing_sink_does_not_disturb_the_guest() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (mut serial, output) = Serial::new(64, Some(Box::new(Full(taken.clone()))));
        print(&mut serial, b"abcde");
        assert_eq!(*taken.lock().unwrap(), b"abc");
        assert_eq!(output.contents(), b"abcde");
    }

    #[test]
    fn any_register_takes_any_value() {
        let (serial, _output) = Serial::new(16, None);
        let mut bus = PortBus::new();
        bus.insert(COM1_PORT, PORT_COUNT, Box::new(serial)).unwrap();
        for value in 0..=u8::MAX {
            for port in COM1_PORT..COM1_PORT + PORT_COUNT.get() {
                assert!(bus.write(port, 1, &[value]));
                assert!(bus.write(port, 4, &[value; 4]));
                let mut data = [0; 4];
                assert!(bus.read(port, 4, &mut data));
                assert_eq!(data[1..], [0xff; 3]);
            }
        }
    }
}
