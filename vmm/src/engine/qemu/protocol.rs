//! A client of the gdb remote serial protocol, as QEMU's stub speaks it.
//!
//! "Debugging with GDB", appendix E, "GDB Remote Serial Protocol": packets (E.1 and E.2), stop replies (E.3), `qRcmd`
//! (E.4). Whatever the peer sends gives an answer or a [`ProtocolError`]: packets have a greatest length, waits an end.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::registers::{GENERAL_BYTES, RegisterFile, general_bytes};
use crate::engine::Registers;

/// The longest packet that is taken, after run-length decoding. QEMU's own are below 64 KiB.
const MAX_PACKET: usize = 1 << 20;
/// How long the answer to a packet may take. A stop after `c` is no answer in this sense.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How many packets with the text of a monitor command are taken.
const MAX_MONITOR_PACKETS: usize = 4096;
/// Bytes of memory in one packet.
const MEMORY_CHUNK: usize = 1024;
/// The byte that stops a running guest.
const INTERRUPT: u8 = 0x03;

/// Why the exchange with the stub failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The connection failed.
    #[error("the connection to its gdb stub: {0}")]
    Connection(ErrorKind),
    /// The peer closed the connection.
    #[error("it closed the connection of its gdb stub")]
    Closed,
    /// No answer in time.
    #[error("its gdb stub did not answer {0} in time")]
    Timeout(String),
    /// What came is no packet.
    #[error("its gdb stub sent what is no packet: {0}")]
    Malformed(&'static str),
    /// A packet with a wrong sum.
    #[error("a packet of its gdb stub has a wrong checksum")]
    Checksum,
    /// A packet, or what it stands for, is too long.
    #[error("a packet of its gdb stub is too long")]
    TooLong,
    /// The peer refused a request, or answered with something else than the protocol has for it.
    #[error("its gdb stub answered {command} with {answer:?}")]
    Refused {
        /// The request.
        command: String,
        /// The answer.
        answer: String,
    },
}

/// Why a guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal: 5 for a breakpoint or a step, 2 for [`Client::interrupt`].
    Signal(u8),
    /// The virtual machine is gone: the peer said so, or closed the connection.
    Exited,
}

/// One connection to a stub.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// Bytes that came and were not taken yet.
    pending: Vec<u8>,
    /// The peer said that the machine is gone, or closed the connection.
    gone: bool,
}

impl Client {
    /// Takes the connection over and asks for acknowledgements to be turned off.
    ///
    /// A stub that does not know how (QEMU 7.2) goes on to send `+`, which is passed over. It gets none: for QEMU the
    /// beginning of the next packet acknowledges the last, and a `+` to a running guest would stop it.
    ///
    /// # Errors
    /// If the peer is no gdb stub, or does not answer.
    pub fn new(stream: UnixStream) -> Result<Self, ProtocolError> {
        const COMMAND: &str = "QStartNoAckMode";
        let mut client = Self { stream, pending: Vec::new(), gone: false };
        match client.exchange(COMMAND.as_bytes())?.as_slice() {
            b"" => Ok(client),
            b"OK" => client.write(b"+").map(|()| client),
            other => Err(refused(COMMAND, other)),
        }
    }

    /// Whether the virtual machine is gone. It may go at any time, also while an answer is awaited.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// All registers that QEMU shows: packet `g`.
    ///
    /// # Errors
    /// If the answer is not as QEMU's.
    pub fn registers(&mut self) -> Result<RegisterFile, ProtocolError> {
        let answer = self.exchange(b"g")?;
        let bytes = from_hex(&answer).ok_or_else(|| refused("g", &answer))?;
        RegisterFile::from_bytes(&bytes).ok_or_else(|| refused("g", &answer))
    }

    /// Replaces the general registers, RIP and EFLAGS: a packet `G` that ends there. A whole one would write control
    /// registers too, and flush what QEMU has translated.
    ///
    /// # Errors
    /// If the peer refuses.
    pub fn set_registers(&mut self, registers: &Registers) -> Result<(), ProtocolError> {
        let packet = registers_packet(registers);
        let answer = self.exchange(&packet)?;
        if answer == b"OK" { Ok(()) } else { Err(refused("G", &answer)) }
    }

    /// One register by its number: packet `p`. Little endian, as many bytes as the register has.
    ///
    /// # Errors
    /// If the peer does not know the register.
    pub fn register(&mut self, number: u32) -> Result<Vec<u8>, ProtocolError> {
        let command = format!("p{number:x}");
        let answer = self.exchange(command.as_bytes())?;
        from_hex(&answer).filter(|bytes| !bytes.is_empty()).ok_or_else(|| refused(&command, &answer))
    }

    /// Replaces one register: packet `P`.
    ///
    /// # Errors
    /// If the peer refuses.
    pub fn set_register(&mut self, number: u32, value: &[u8]) -> Result<(), ProtocolError> {
        let mut command = format!("P{number:x}=").into_bytes();
        push_hex(&mut command, value);
        let answer = self.exchange(&command)?;
        if answer == b"OK" { Ok(()) } else { Err(refused("P", &answer)) }
    }

    /// Reads memory by the guest's current addresses: packet `m`.
    ///
    /// # Errors
    /// If something of it is not there.
    pub fn read_memory(&mut self, address: u64, buf: &mut [u8]) -> Result<(), ProtocolError> {
        for (place, chunk) in addresses(address).zip(buf.chunks_mut(MEMORY_CHUNK)) {
            let command = format!("m{place:x},{:x}", chunk.len());
            let answer = self.exchange(command.as_bytes())?;
            let bytes = from_hex(&answer).filter(|bytes| bytes.len() == chunk.len());
            chunk.copy_from_slice(&bytes.ok_or_else(|| refused(&command, &answer))?);
        }
        Ok(())
    }

    /// Writes memory by the guest's current addresses: packet `M`.
    ///
    /// # Errors
    /// If something of it is not there.
    pub fn write_memory(&mut self, address: u64, data: &[u8]) -> Result<(), ProtocolError> {
        for (place, chunk) in addresses(address).zip(data.chunks(MEMORY_CHUNK)) {
            let mut command = format!("M{place:x},{:x}:", chunk.len()).into_bytes();
            push_hex(&mut command, chunk);
            let answer = self.exchange(&command)?;
            if answer != b"OK" {
                return Err(refused("M", &answer));
            }
        }
        Ok(())
    }

    /// Writes to a guest-physical address, devices included: QEMU's `Qqemu.PhyMemMode` around packet `M`.
    ///
    /// # Errors
    /// If the peer refuses.
    pub fn write_physical(&mut self, gpa: u64, data: &[u8]) -> Result<(), ProtocolError> {
        self.expect_ok("Qqemu.PhyMemMode:1")?;
        let written = self.write_memory(gpa, data);
        self.expect_ok("Qqemu.PhyMemMode:0")?;
        written
    }

    /// Sets a breakpoint: packet `Z0`. QEMU does not write into memory for it.
    ///
    /// # Errors
    /// If the peer refuses.
    pub fn insert_breakpoint(&mut self, address: u64) -> Result<(), ProtocolError> {
        self.expect_ok(&format!("Z0,{address:x},1"))
    }

    /// Takes a breakpoint away: packet `z0`.
    ///
    /// # Errors
    /// If the peer refuses.
    pub fn remove_breakpoint(&mut self, address: u64) -> Result<(), ProtocolError> {
        self.expect_ok(&format!("z0,{address:x},1"))
    }

    /// Executes one instruction: packet `s`.
    ///
    /// # Errors
    /// If no stop follows.
    pub fn step(&mut self) -> Result<Stop, ProtocolError> {
        self.send(b"s")?;
        let deadline = Instant::now() + ANSWER_TIME;
        self.wait(deadline)?.ok_or_else(|| ProtocolError::Timeout("s".to_owned()))
    }

    /// Lets the guest run: packet `c`, and before it `registers`, if some are given.
    ///
    /// # Errors
    /// If the peer refuses the registers.
    pub fn resume(&mut self, registers: Option<&Registers>) -> Result<(), ProtocolError> {
        let Some(registers) = registers else { return self.send(b"c") };
        // Both packets at once spare a round trip; the answer to the first comes before any stop.
        let mut bytes = frame(&registers_packet(registers));
        bytes.extend(frame(b"c"));
        self.write(&bytes)?;
        let answer = self.receive(Instant::now() + ANSWER_TIME)?;
        match answer.as_deref() {
            Some(b"OK") => Ok(()),
            Some(other) => Err(refused("G", other)),
            None => Err(ProtocolError::Timeout("G".to_owned())),
        }
    }

    /// Waits for a running guest to stop. `None` if it still runs at `deadline`.
    ///
    /// # Errors
    /// If what comes is no stop reply.
    pub fn wait(&mut self, deadline: Instant) -> Result<Option<Stop>, ProtocolError> {
        loop {
            let packet = match self.receive(deadline) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                Err(ProtocolError::Closed) => return Ok(Some(Stop::Exited)),
                Err(error) => return Err(error),
            };
            match packet.split_first() {
                Some((b'T' | b'S', rest)) => {
                    let signal = rest.get(..2).and_then(from_hex);
                    let Some([signal]) = signal.as_deref() else { return Err(refused("c", &packet)) };
                    return Ok(Some(Stop::Signal(*signal)));
                }
                // Text for the console of gdb.
                Some((b'O', text)) if text != b"K" => {}
                _ => return Err(refused("c", &packet)),
            }
        }
    }

    /// Asks a running guest to stop; [`Self::wait`] tells when it has.
    ///
    /// # Errors
    /// If the connection failed.
    pub fn interrupt(&mut self) -> Result<(), ProtocolError> {
        self.write(&[INTERRUPT])
    }

    /// A command of QEMU's monitor, and what it prints: packet `qRcmd`.
    ///
    /// # Errors
    /// If the peer refuses, or prints without end.
    pub fn monitor(&mut self, command: &str) -> Result<String, ProtocolError> {
        let mut packet = b"qRcmd,".to_vec();
        push_hex(&mut packet, command.as_bytes());
        self.send(&packet)?;
        let deadline = Instant::now() + ANSWER_TIME;
        let mut text = Vec::new();
        for _ in 0..MAX_MONITOR_PACKETS {
            let Some(answer) = self.receive(deadline)? else {
                return Err(ProtocolError::Timeout(command.to_owned()));
            };
            match answer.split_first() {
                _ if answer == b"OK" => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Some((b'O', hex)) => text.extend(from_hex(hex).ok_or_else(|| refused(command, &answer))?),
                _ => return Err(refused(command, &answer)),
            }
            if text.len() > MAX_PACKET {
                break;
            }
        }
        Err(ProtocolError::TooLong)
    }

    fn expect_ok(&mut self, command: &str) -> Result<(), ProtocolError> {
        let answer = self.exchange(command.as_bytes())?;
        if answer == b"OK" { Ok(()) } else { Err(refused(command, &answer)) }
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        self.send(command)?;
        let timeout = || ProtocolError::Timeout(command.escape_ascii().take(40).map(char::from).collect());
        self.receive(Instant::now() + ANSWER_TIME)?.ok_or_else(timeout)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), ProtocolError> {
        self.write(&frame(packet))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let outcome =
            self.stream.set_write_timeout(Some(ANSWER_TIME)).and_then(|()| self.stream.write_all(bytes));
        outcome.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.close(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ProtocolError::Timeout("a packet".to_owned()),
            kind => ProtocolError::Connection(kind),
        })
    }

    /// The next packet. `None` if there is none at `deadline`.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, ProtocolError> {
        loop {
            if let Some((packet, taken)) = take_packet(&self.pending)? {
                self.pending.drain(..taken);
                // W and X, with the exit status or signal: no other answer begins so.
                if let [b'W' | b'X', _, _, ..] = packet[..] {
                    return Err(self.close());
                }
                return Ok(Some(packet));
            }
            if self.pending.len() > MAX_PACKET {
                return Err(ProtocolError::TooLong);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.fill(left)?;
        }
    }

    const fn close(&mut self) -> ProtocolError {
        self.gone = true;
        ProtocolError::Closed
    }

    /// Waits for more bytes, at most for `time`.
    fn fill(&mut self, time: Duration) -> Result<(), ProtocolError> {
        let mut buf = [0; 16 << 10];
        // The kernel takes no timeout that rounds to zero.
        let time = time.max(Duration::from_millis(1));
        let outcome = self.stream.set_read_timeout(Some(time)).and_then(|()| self.stream.read(&mut buf));
        match outcome {
            Ok(0) => Err(self.close()),
            Ok(count) => {
                self.pending.extend_from_slice(&buf[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
                ErrorKind::ConnectionReset => Err(self.close()),
                kind => Err(ProtocolError::Connection(kind)),
            },
        }
    }
}

/// The addresses at which the chunks of a long access begin.
fn addresses(first: u64) -> impl Iterator<Item = u64> {
    let step = u64::try_from(MEMORY_CHUNK).unwrap_or(u64::MAX);
    std::iter::successors(Some(first), move |address| Some(address.wrapping_add(step)))
}

fn refused(command: &str, answer: &[u8]) -> ProtocolError {
    /// Of a strange answer, this much is shown.
    const SHOWN: usize = 60;
    let answer = answer.get(..SHOWN).unwrap_or(answer).escape_ascii().to_string();
    ProtocolError::Refused { command: command.to_owned(), answer }
}

fn registers_packet(registers: &Registers) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + 2 * GENERAL_BYTES);
    packet.push(b'G');
    push_hex(&mut packet, &general_bytes(registers));
    packet
}

/// `$`, the packet with its special bytes escaped, `#`, the sum.
fn frame(packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packet.len() + 4);
    bytes.push(b'$');
    for &byte in packet {
        match byte {
            b'$' | b'#' | b'}' | b'*' => bytes.extend([b'}', byte ^ 0x20]),
            _ => bytes.push(byte),
        }
    }
    let sum = checksum(&bytes[1..]);
    bytes.push(b'#');
    push_hex(&mut bytes, &[sum]);
    bytes
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// The first whole packet of `bytes`, decoded, and how many bytes it and what stands before it take. Acknowledgements
/// and notifications (`%`) are passed over.
fn take_packet(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ProtocolError> {
    let mut start = 0;
    loop {
        let notification = match bytes.get(start) {
            None => return Ok(None),
            Some(b'+') => {
                start += 1;
                continue;
            }
            Some(b'$') => false,
            Some(b'%') => true,
            Some(b'-') => return Err(ProtocolError::Malformed("it wants a packet again")),
            Some(_) => return Err(ProtocolError::Malformed("bytes between packets")),
        };
        let body = &bytes[start + 1..];
        let Some(length) = body.iter().position(|&byte| byte == b'#') else { return Ok(None) };
        let Some(sum) = body.get(length + 1..length + 3) else { return Ok(None) };
        let sum = from_hex(sum).ok_or(ProtocolError::Malformed("a checksum that is no number"))?;
        let (body, end) = (&body[..length], start + 1 + length + 3);
        if sum != [checksum(body)] {
            return Err(ProtocolError::Checksum);
        }
        if !notification {
            return Ok(Some((decode(body)?, end)));
        }
        start = end;
    }
}

/// Undoes escapes (`}`) and run-length encoding (`*`).
fn decode(body: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    /// A count is a printable character; this much is taken off, and the byte itself is there already.
    const COUNT_OFFSET: u8 = 29;
    let mut packet: Vec<u8> = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'}' => {
                let escaped = bytes.next().ok_or(ProtocolError::Malformed("an escape of nothing"))?;
                packet.push(escaped ^ 0x20);
            }
            b'*' => {
                let last = *packet.last().ok_or(ProtocolError::Malformed("a repetition of nothing"))?;
                let count = bytes.next().filter(|count| (b' '..=b'~').contains(count));
                let count =
                    count.ok_or(ProtocolError::Malformed("a repetition without a count"))? - COUNT_OFFSET;
                packet.resize(packet.len() + usize::from(count), last);
            }
            _ => packet.push(byte),
        }
        if packet.len() > MAX_PACKET {
            return Err(ProtocolError::TooLong);
        }
    }
    Ok(packet)
}

fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Bytes from pairs of digits. A register that the stub does not know is `xx`, and reads as zero.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'x' => Some(0),
        _ => char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()),
    };
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.chunks(2).map(pair).collect()
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
