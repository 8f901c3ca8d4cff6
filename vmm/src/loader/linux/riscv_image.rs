//! RISC-V kernel images: the flat `Image`, compressed or not, or an EFI image that decompresses itself (Linux
//! `Documentation/arch/riscv/boot-image-header.rst`, `drivers/firmware/efi/libstub/zboot-header.S`).

use std::ops::Range;

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout, little_endian::U32, little_endian::U64};

use super::{
    decompress::{Compression, DecompressError},
    image::{MAX_KERNEL, release_in_banner},
};

/// `magic2`: ASCII `RSC`, 05h.
const MAGIC_2: [u8; 4] = *b"RSC\x05";
/// Version of the header: 0.2 has `magic2`.
const MAJOR_VERSION: u32 = 0;
/// `flags` bit 0: big-endian.
const BIG_ENDIAN: u64 = 1;
/// The kernel lies at a multiple of this (Linux `Documentation/arch/riscv/boot.rst`, "Kernel location").
pub const KERNEL_ALIGNMENT: u64 = 2 << 20;
/// What stands at bytes 4 to 7 of an EFI image that decompresses itself.
const ZBOOT_MAGIC: &[u8] = b"zimg";
/// How deep images may be packed into each other: an EFI image in gzip, with the `Image` in it.
const MAX_PACKED: usize = 2;

/// The header of an `Image`, 64 bytes.
#[derive(FromBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
struct Header {
    code: [u8; 8],
    /// From the beginning of RAM.
    text_offset: U64,
    /// With what is zero behind the file.
    image_size: U64,
    flags: U64,
    /// Major version in the upper half.
    version: U32,
    reserved_0x24: [u8; 20],
    magic2: [u8; 4],
    pe_header: U32,
}
const _: () = assert!(size_of::<Header>() == 64 && std::mem::offset_of!(Header, magic2) == 0x38);

/// Why a file is no RISC-V kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RiscvImageError {
    /// No known form of a kernel for RISC-V.
    #[error("no RISC-V kernel: neither an Image nor a compressed one")]
    Unknown,
    /// Its header is not as this program knows it.
    #[error("the kernel's header: {0}")]
    Header(&'static str),
    /// The file has fewer bytes than its header says.
    #[error("the file ends before the kernel does: is it cut short?")]
    CutShort,
    /// The compressed kernel is damaged.
    #[error("the compressed kernel: {0}")]
    Decompress(#[from] DecompressError),
}

/// A kernel image that was found sound.
#[derive(Clone, PartialEq, Eq)]
pub struct RiscvKernel {
    image: Vec<u8>,
    text_offset: u64,
    memory_size: u64,
    release: Option<String>,
}

impl std::fmt::Debug for RiscvKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { text_offset, memory_size, release, .. } = self;
        write!(f, "RiscvKernel {{ {release:?} at {text_offset:#x}, {memory_size:#x} bytes }}")
    }
}

impl RiscvKernel {
    /// Whether a file looks like a RISC-V kernel, whole or compressed by EFI's stub. A kernel in gzip may be for any
    /// processor.
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        header(file).is_some() || file.get(4..8) == Some(ZBOOT_MAGIC)
    }

    /// Reads an `Image`, one that is compressed, or an EFI image with one in it. Any bytes give a kernel or an error, and no
    /// more memory is taken than [`MAX_KERNEL`] and what a decompressor needs.
    ///
    /// # Errors
    /// [`RiscvImageError`].
    pub fn read(file: &[u8]) -> Result<Self, RiscvImageError> {
        let mut unpacked = None::<Vec<u8>>;
        for _ in 0..MAX_PACKED {
            match packed(unpacked.as_deref().unwrap_or(file))? {
                None => break,
                Some((compression, stream)) => unpacked = Some(compression.decompress(stream, MAX_KERNEL)?),
            }
        }
        let image = unpacked.unwrap_or_else(|| file.to_vec());
        let header = header(&image).ok_or(RiscvImageError::Unknown)?;
        if sections_end(&image, &header).is_some_and(|end| end > image.len()) {
            return Err(RiscvImageError::CutShort);
        }
        let length = u64::try_from(image.len()).unwrap_or(u64::MAX);
        let (text_offset, said) = (header.text_offset.get(), header.image_size.get());
        let limit = u64::try_from(MAX_KERNEL).unwrap_or(u64::MAX);
        let problem = match header.version.get() >> 16 {
            version if version != MAJOR_VERSION => Some("an unknown version"),
            _ if header.flags.get() & BIG_ENDIAN != 0 => Some("a big-endian kernel"),
            _ if !text_offset.is_multiple_of(KERNEL_ALIGNMENT) => {
                Some("not to be loaded at a multiple of 2 MiB")
            }
            _ if text_offset > limit || said > limit || length > limit => Some("larger than 512 MiB"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(RiscvImageError::Header(problem));
        }
        let release = release_in_banner(&image);
        Ok(Self { image, text_offset, memory_size: said.max(length), release })
    }

    /// The image's bytes, as they go into memory. The first one is the entry.
    #[must_use]
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// Where it lies, from the beginning of RAM on, with what is zero behind the image.
    #[must_use]
    pub fn place(&self) -> Range<u64> {
        self.text_offset..self.text_offset + self.memory_size
    }

    /// The release, such as `6.12.107+deb13-riscv64`: the name of its directory of modules. `None` if the image does not say.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }
}

fn header(image: &[u8]) -> Option<Header> {
    let (header, _) = Header::read_from_prefix(image).ok()?;
    (header.magic2 == MAGIC_2).then_some(header)
}

/// Where the last section of an image ends that is an EFI program too: the only place that says how long the file is
/// (Linux `arch/riscv/kernel/efi-header.S`; PE Format, "COFF File Header" and "Section Table").
fn sections_end(image: &[u8], header: &Header) -> Option<usize> {
    const COFF: usize = 4;
    const OPTIONAL: usize = COFF + 20;
    const SECTION: usize = 40;
    let pe = image.get(usize::try_from(header.pe_header.get()).ok()?..)?;
    let pe = pe.starts_with(b"PE\0\0").then_some(pe)?;
    let half = |at: usize| pe.get(at..)?.first_chunk().map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
    let (sections, optional) = (half(COFF + 2)?, half(COFF + 16)?);
    let table = pe.get(OPTIONAL + optional..)?.chunks_exact(SECTION).take(sections);
    let number = |section: &[u8], at: usize| {
        let bytes = section.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    // `SizeOfRawData`, `PointerToRawData`.
    table.filter_map(|section| number(section, 16)?.checked_add(number(section, 20)?)).max()
}

/// What is packed in these bytes, if they are packed.
fn packed(bytes: &[u8]) -> Result<Option<(Compression, &[u8])>, RiscvImageError> {
    if bytes.get(4..8) == Some(ZBOOT_MAGIC) {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number));
        let range = number(8).zip(number(12)).and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        let stream = range.and_then(|range| bytes.get(range));
        let stream = stream.ok_or(RiscvImageError::CutShort)?;
        let compression = Compression::of(stream);
        let compression = compression.ok_or(RiscvImageError::Header("it is compressed in an unknown way"))?;
        return Ok(Some((compression, stream)));
    }
    Ok(Compression::of(bytes).map(|compression| (compression, bytes)))
}

#[cfg(test)]
#[path = "riscv_image_tests.rs"]
pub(super) mod tests;
