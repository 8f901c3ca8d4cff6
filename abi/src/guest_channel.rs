//! What a Linux guest sends to its host over a serial port: frames, each with a length and a checksum.
//!
//! | offset | size | |
//! |---|---|---|
//! | 0 | 4 | [`MAGIC`] |
//! | 4 | 1 | a [`FrameType`] |
//! | 5 | 1 | zero |
//! | 6 | 2 | bytes of payload, at most [`MAX_PAYLOAD`] |
//! | 8 | 4 | sequence number of the frame, from zero on |
//! | 12 | n | payload |
//! | 12 + n | 4 | CRC-32 (ISO 3309, as in zlib) of all that stands before |
//!
//! A reader that finds something else looks for the next magic number and goes on from there, so noise on the line costs the
//! frames that it hits and no more; the sequence number tells that something is missing.

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32, U64},
};

/// The first bytes of each frame. No text contains them.
pub const MAGIC: [u8; 4] = [0xf5, b'T', b'S', 0xfa];
/// Most bytes of payload.
pub const MAX_PAYLOAD: usize = 4096;
/// Bytes before the payload.
pub const HEADER: usize = size_of::<FrameHeader>();
/// Bytes behind the payload.
pub const TRAILER: usize = 4;
/// Bytes of the longest frame.
pub const MAX_FRAME: usize = HEADER + MAX_PAYLOAD + TRAILER;
/// Most bytes of a file's path.
pub const MAX_PATH: usize = 1024;

open_codes! {
    /// What a frame holds.
    pub struct FrameType(u8);
    /// The init program has begun; the payload is empty.
    HELLO = 1;
    /// What the command wrote to its standard output.
    STDOUT = 2;
    /// What the command wrote to its standard error output.
    STDERR = 3;
    /// What the init program has to say: a line of text, without its end.
    LOG = 4;
    /// A file begins: [`FileHeader`], then its path below `/out`, without a slash in front.
    FILE = 5;
    /// The next bytes of the file.
    FILE_DATA = 6;
    /// The command has ended: [`ExitStatus`]. Nothing follows.
    EXIT = 7;
}

wire! {
    /// What stands before the payload.
    pub struct FrameHeader {
        /// [`MAGIC`].
        pub magic: [u8; 4],
        /// A [`FrameType`].
        pub kind: u8,
        /// Zero.
        pub reserved_0x5: u8,
        /// Bytes of payload.
        pub length: U16,
        /// Number of the frame.
        pub sequence: U32,
    }
}
assert_layout!(FrameHeader, 12, { magic: 0, kind: 4, reserved_0x5: 5, length: 6, sequence: 8 });

wire! {
    /// What a [`FrameType::FILE`] frame begins with.
    pub struct FileHeader {
        /// Permission bits, as of `chmod`.
        pub mode: U32,
        /// Bytes that will follow in [`FrameType::FILE_DATA`] frames.
        pub size: U64,
    }
}
assert_layout!(FileHeader, 12, { mode: 0, size: 4 });

wire! {
    /// The payload of an [`FrameType::EXIT`] frame.
    pub struct ExitStatus {
        /// Exit status, or 128 and the signal's number (as in a shell).
        pub status: U32,
    }
}
assert_layout!(ExitStatus, 4, { status: 0 });

/// CRC-32 with the polynomial 04C11DB7h, reflected, starting from and inverted by all ones.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
};

/// The checksum of the concatenation of `parts`.
#[must_use]
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        CRC_TABLE[usize::from(low ^ byte)] ^ crc >> 8
    };
    !parts.iter().flat_map(|part| part.iter()).fold(!0, step)
}

/// Why a frame cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadTooLong;

impl core::fmt::Display for PayloadTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a frame carries at most {MAX_PAYLOAD} bytes")
    }
}

/// Writes a frame to the beginning of `buffer` and gives its length.
///
/// # Errors
/// [`PayloadTooLong`].
pub fn encode(
    kind: FrameType,
    sequence: u32,
    payload: &[u8],
    buffer: &mut [u8; MAX_FRAME],
) -> Result<usize, PayloadTooLong> {
    let length = u16::try_from(payload.len()).map_err(|_| PayloadTooLong)?;
    let header = FrameHeader {
        magic: MAGIC,
        kind: kind.0,
        reserved_0x5: 0,
        length: length.into(),
        sequence: sequence.into(),
    };
    let crc = crc32(&[header.as_bytes(), payload]).to_le_bytes();
    let end = HEADER + payload.len();
    let (head, rest) = buffer.split_at_mut(HEADER);
    let place = rest.get_mut(..payload.len() + TRAILER).ok_or(PayloadTooLong)?;
    head.copy_from_slice(header.as_bytes());
    let (data, trailer) = place.split_at_mut(payload.len());
    data.copy_from_slice(payload);
    trailer.copy_from_slice(&crc);
    Ok(end + TRAILER)
}

/// A frame that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: FrameType,
    /// Its number.
    pub sequence: u32,
    /// What it holds.
    pub payload: &'a [u8],
}

/// What [`Decoder::next_frame`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// That many bytes belonged to no frame.
    Noise(usize),
    /// Nothing more; push more bytes.
    Nothing,
}

/// Takes frames out of a stream of bytes. It holds two frames at most, whatever comes.
#[derive(Clone, Debug)]
pub struct Decoder {
    buffer: [u8; 2 * MAX_FRAME],
    start: usize,
    end: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: [0; 2 * MAX_FRAME], start: 0, end: 0 }
    }
}

impl Decoder {
    /// Takes bytes in, as many as fit, and gives those that do not: call [`Self::next_frame`] until it finds nothing, then push
    /// them. That always makes room.
    #[must_use]
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let (room, rest) = bytes.split_at(bytes.len().min(self.buffer.len() - self.end));
        self.buffer[self.end..self.end + room.len()].copy_from_slice(room);
        self.end += room.len();
        rest
    }

    /// The next frame, or how much had to be passed over before one can begin.
    pub fn next_frame(&mut self) -> Found<'_> {
        let noise = begin_of_frame(&self.buffer[self.start..self.end]);
        if noise > 0 {
            self.start += noise;
            return Found::Noise(noise);
        }
        let bytes = &self.buffer[self.start..self.end];
        let Ok((header, rest)) = FrameHeader::read_from_prefix(bytes) else {
            return Found::Nothing;
        };
        let length = usize::from(header.length.get());
        if length > MAX_PAYLOAD || header.reserved_0x5 != 0 {
            self.start += 1;
            return Found::Noise(1);
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Found::Nothing;
        };
        let Some((crc, _)) = rest.split_first_chunk::<TRAILER>() else {
            return Found::Nothing;
        };
        if crc32(&[header.as_bytes(), payload]) != u32::from_le_bytes(*crc) {
            self.start += 1;
            return Found::Noise(1);
        }
        self.start += HEADER + length + TRAILER;
        Found::Frame(Frame { kind: header.kind.into(), sequence: header.sequence.get(), payload })
    }
}

/// How many bytes stand before the first place where a frame begins or may begin once more bytes have come.
fn begin_of_frame(bytes: &[u8]) -> usize {
    let may_begin = |at: &usize| {
        let rest = bytes.get(*at..).unwrap_or_default();
        let known = rest.len().min(MAGIC.len());
        rest.get(..known) == MAGIC.get(..known)
    };
    (0..bytes.len()).find(may_begin).unwrap_or(bytes.len())
}

#[cfg(test)]
#[path = "guest_channel_tests.rs"]
mod tests;
