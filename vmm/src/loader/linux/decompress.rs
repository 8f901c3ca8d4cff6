//! The formats in which Linux kernels and modules are compressed, with bounds on what comes out.

use std::io::{self, Read};

use thiserror::Error;

/// Most memory that a decompressor of LZMA or XZ may take for its dictionary, in KiB; `xz -9` takes 64 MiB, and kernels
/// are compressed with 32 MiB to 128 MiB (Linux `scripts/xz_wrap.sh`).
const DICTIONARY_LIMIT_KIB: u32 = 192 << 10;
/// Most memory for the window of zstd: `zstd --ultra -22` takes 128 MiB.
const WINDOW_LIMIT: u64 = 128 << 20;
/// Bytes of a block of the old LZ4 format, uncompressed (Linux `lib/decompress_unlz4.c`).
const LZ4_BLOCK: usize = 8 << 20;
/// The most that LZ4 makes of a block that it cannot compress.
const LZ4_COMPRESSED_BLOCK: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// A format, told by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// XZ.
    Xz,
    /// LZ4 in its old ("legacy") frame, the one that kernels use.
    Lz4,
    /// bzip2.
    Bzip2,
    /// LZMA alone, the predecessor of XZ.
    Lzma,
}

/// The first bytes of each format (Linux `lib/decompress.c`).
const MAGICS: [(&[u8], Compression); 6] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&LZ4_MAGIC, Compression::Lz4),
    (b"BZh", Compression::Bzip2),
    (&[0x5d, 0, 0], Compression::Lzma),
];

impl Compression {
    /// The format of these bytes, if they begin like one.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
    }

    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
        }
    }

    /// Takes one stream apart; what follows it is not looked at, except for LZ4, whose old frame has no end.
    ///
    /// # Errors
    /// If the stream is damaged or ends too early, wants too much memory, or gives more than `limit` bytes.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let result = match self {
            Self::Gzip => bounded(flate2::bufread::GzDecoder::new(bytes), limit),
            Self::Zstd => zstd(bytes, limit),
            Self::Xz => {
                bounded(lzma_rust2::XzReader::new_mem_limit(bytes, false, DICTIONARY_LIMIT_KIB), limit)
            }
            Self::Lz4 => lz4(bytes, limit),
            Self::Bzip2 => bounded(bzip2::bufread::BzDecoder::new(bytes), limit),
            Self::Lzma => lzma_rust2::LzmaReader::new_mem_limit(bytes, DICTIONARY_LIMIT_KIB, None)
                .and_then(|reader| bounded(reader, limit)),
        };
        let damaged =
            |error: io::Error| DecompressError::Damaged { format: self.name(), reason: error.to_string() };
        let out = result.map_err(damaged)?;
        if out.len() > limit {
            return Err(DecompressError::TooLarge { format: self.name(), limit });
        }
        Ok(out)
    }
}

/// Why compressed data gave nothing.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DecompressError {
    /// The stream is damaged, ends too early, or wants too much memory.
    #[error("{format} data cannot be decompressed: {reason}")]
    Damaged {
        /// The format.
        format: &'static str,
        /// What the decompressor said.
        reason: String,
    },
    /// More comes out than is allowed.
    #[error("{format} data gives more than {limit} bytes")]
    TooLarge {
        /// The format.
        format: &'static str,
        /// What is allowed.
        limit: usize,
    },
}

/// At most one byte more than `limit`: enough to see that it is exceeded.
fn bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut out)?;
    Ok(out)
}

fn zstd(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, WINDOW_LIMIT);
    let mut decoder = decoder.map_err(io::Error::other)?;
    let out = bounded(&mut decoder, limit)?;
    let decoder = decoder.into_frame_decoder();
    let stored = decoder.get_checksum_from_data();
    if out.len() <= limit && stored.is_some() && stored != decoder.get_calculated_checksum() {
        return Err(io::Error::other("the checksum does not match"));
    }
    Ok(out)
}

/// The magic number, then blocks: a length of four bytes and that many bytes.
fn lz4(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut rest = bytes;
    let mut out = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        rest = behind;
        if *length == LZ4_MAGIC {
            continue;
        }
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > LZ4_COMPRESSED_BLOCK {
            return Err(io::Error::other(format!("a block of {length} bytes is longer than allowed")));
        }
        let (data, behind) =
            rest.split_at_checked(length).ok_or_else(|| io::Error::other("it ends within a block"))?;
        rest = behind;
        let filled = lz4_flex::block::decompress_into(data, &mut block).map_err(io::Error::other)?;
        out.extend_from_slice(block.get(..filled).unwrap_or_default());
        if out.len() > limit {
            break;
        }
    }
    Ok(out)
}

#[cfg(test)]
#[path = "decompress_tests.rs"]
pub(super) mod tests;
