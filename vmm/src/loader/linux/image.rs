//! Kernel images: a bzImage with its compressed kernel, or the ELF image itself.

use std::ops::Range;

use ::elf::ElfBytes;
use ::elf::abi::{EM_X86_64, ET_EXEC, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS};
use ::elf::endian::LittleEndian;
use ::elf::file::Class;
use ::elf::parse::ParseError;
use ::elf::segment::ProgramHeader;
use thiserror::Error;
use tsmsim_abi::linux_boot::{BOOT_FLAG, HEADER_MAGIC, PAYLOAD_VERSION, SETUP_HEADER_OFFSET, SetupHeader};
use zerocopy::FromBytes;

use super::decompress::{Compression, DecompressError};
use crate::{
    loader::elf::segment_contents,
    memory::{GuestRam, MAX_RAM_SIZE},
};

/// Most bytes of a decompressed kernel; Debian's have 60 MiB.
pub const MAX_KERNEL: usize = 512 << 20;
/// No part of a kernel lies below: there are the pages of the loader.
const LOWEST: u64 = 0x10_0000;
/// Most segments of a kernel; there are two to four.
const MAX_SEGMENTS: usize = 64;
/// Most sections with instructions; there are about ten.
const MAX_CODE_SECTIONS: usize = 1024;
/// What stands before the release in a kernel's banner.
const BANNER: &[u8] = b"Linux version ";

/// Why a file is no kernel.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Neither an ELF image nor a bzImage.
    #[error("neither a bzImage nor an ELF image")]
    Unknown,
    /// A bzImage whose header does not fit its contents.
    #[error("a damaged bzImage: {0}")]
    Header(&'static str),
    /// The compressed kernel is in a format that is not known here.
    #[error("the kernel in the bzImage is compressed in an unknown way; it begins with {0:02x?}")]
    Compression(Vec<u8>),
    /// The compressed kernel is damaged.
    #[error("the kernel in the bzImage: {0}")]
    Decompress(#[from] DecompressError),
    /// What came out has another size than the file says.
    #[error("the kernel in the bzImage has {actual} bytes, and the file says {said}")]
    Size {
        /// What the file says.
        said: u32,
        /// What it is.
        actual: usize,
    },
    /// The ELF image cannot be read.
    #[error("the kernel is not a usable ELF image: {0}")]
    Elf(#[from] ParseError),
    /// The ELF image is something else than a kernel for x86-64.
    #[error("the ELF image is no x86-64 kernel: {0}")]
    Kind(&'static str),
    /// A segment cannot be loaded as its header says.
    #[error("the kernel's segment at physical address {paddr:#x}, {length:#x} bytes: {problem}")]
    Segment {
        /// Its physical address.
        paddr: u64,
        /// Its length in memory.
        length: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The entry is nowhere.
    #[error("the kernel's entry {0:#x} does not lie in its contents")]
    Entry(u64),
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSegment {
    /// Virtual address; zero for the variables of each CPU.
    pub vaddr: u64,
    /// Guest-physical address.
    pub paddr: u64,
    /// Where its contents lie in the ELF image.
    pub contents: Range<usize>,
    /// Its length in memory; what exceeds the contents is zero.
    pub memory_size: u64,
    /// Whether it is marked as executable. Linux 7 has its initialisation code in a segment that is not.
    pub executable: bool,
}

impl KernelSegment {
    /// Where it lies, guest-physical.
    #[must_use]
    pub fn physical(&self) -> Range<u64> {
        self.paddr..self.paddr + self.memory_size
    }

    fn error(&self, problem: &'static str) -> ImageError {
        ImageError::Segment { paddr: self.paddr, length: self.memory_size, problem }
    }
}

/// Instructions of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// Virtual address of the first byte.
    pub vaddr: u64,
    /// Guest-physical address of the first byte.
    pub paddr: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A kernel that was found sound: its segments do not overlap, fit into the most RAM that a guest can have, leave the
/// first MiB alone, and one of them holds the entry.
#[derive(Clone, Debug)]
pub struct KernelImage {
    elf: Vec<u8>,
    entry: u64,
    release: Option<String>,
    segments: Vec<KernelSegment>,
    code: Vec<CodeRange>,
}

/// Virtual address, guest-physical address, and where the bytes lie in the image.
#[derive(Clone, Debug)]
struct CodeRange {
    vaddr: u64,
    paddr: u64,
    contents: Range<usize>,
}

impl KernelImage {
    /// Reads a bzImage or an ELF image. Any bytes give a kernel or an error, and no more memory is taken than
    /// [`MAX_KERNEL`] and what a decompressor needs.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn read(file: &[u8]) -> Result<Self, ImageError> {
        if file.starts_with(b"\x7fELF") {
            if file.len() > MAX_KERNEL {
                return Err(ImageError::Kind("larger than 512 MiB"));
            }
            return Self::from_elf(file.to_vec(), None);
        }
        let header = file
            .get(SETUP_HEADER_OFFSET..)
            .and_then(|rest| SetupHeader::read_from_prefix(rest).ok())
            .map(|(header, _)| header)
            .filter(|header| header.boot_flag.get() == BOOT_FLAG && header.header == HEADER_MAGIC)
            .ok_or(ImageError::Unknown)?;
        let elf = payload(file, &header).and_then(unpack)?;
        Self::from_elf(elf, release_in_header(file, &header))
    }

    fn from_elf(elf: Vec<u8>, release: Option<String>) -> Result<Self, ImageError> {
        let (entry, segments, code) = parse(&elf)?;
        let release = release.or_else(|| release_in_banner(&elf));
        Ok(Self { elf, entry, release, segments, code })
    }

    /// The ELF image.
    #[must_use]
    pub fn elf(&self) -> &[u8] {
        &self.elf
    }

    /// The guest-physical address at which the kernel begins in 64-bit mode: `startup_64`.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The release, such as `6.12.117+deb12-cloud-amd64`: the name of its directory of modules. `None` if the image
    /// does not say.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// The segments, by ascending guest-physical address.
    #[must_use]
    pub fn segments(&self) -> &[KernelSegment] {
        &self.segments
    }

    /// A segment's bytes.
    #[must_use]
    pub fn contents(&self, segment: &KernelSegment) -> &[u8] {
        self.elf.get(segment.contents.clone()).unwrap_or_default()
    }

    /// Where its instructions are, by ascending guest-physical address: the sections that hold instructions, or, without a
    /// table of sections, the executable segments and the one that holds the entry.
    pub fn code(&self) -> impl Iterator<Item = Code<'_>> {
        self.code.iter().map(|range| Code {
            vaddr: range.vaddr,
            paddr: range.paddr,
            bytes: self.elf.get(range.contents.clone()).unwrap_or_default(),
        })
    }

    /// The first guest-physical address behind the kernel.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.physical().end)
    }

    /// Copies the segments into `ram`, which is expected to be zero.
    ///
    /// # Errors
    /// If RAM is too small; nothing is written then.
    pub fn load(&self, ram: &GuestRam) -> Result<(), ImageError> {
        let outside = self.segments.iter().find(|segment| !ram.contains(segment.paddr, segment.memory_size));
        if let Some(segment) = outside {
            return Err(segment.error("RAM is too small for it"));
        }
        for segment in &self.segments {
            ram.write(segment.paddr, self.contents(segment))
                .map_err(|_| segment.error("RAM is too small for it"))?;
        }
        Ok(())
    }
}

/// The compressed kernel and the size behind it.
fn payload<'a>(file: &'a [u8], header: &SetupHeader) -> Result<&'a [u8], ImageError> {
    if header.version.get() < PAYLOAD_VERSION {
        return Err(ImageError::Header("it is older than version 2.08 of the boot protocol"));
    }
    let sectors = if header.setup_sects == 0 { 4 } else { u64::from(header.setup_sects) };
    let start = (sectors + 1) * 512 + u64::from(header.payload_offset.get());
    let end = start + u64::from(header.payload_length.get());
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| file.get(start..end))
        .ok_or(ImageError::Header("the compressed kernel does not lie within the file; is it cut short?"))
}

/// Decompresses. All formats are followed by the size of what comes out, four bytes; gzip has that already (Linux
/// `scripts/Makefile.lib`, `size_append`).
fn unpack(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let Some((stream, size)) = payload.split_last_chunk::<4>() else {
        return Err(ImageError::Header("there is no compressed kernel in it"));
    };
    let Some(compression) = Compression::of(stream) else {
        if stream.starts_with(b"\x7fELF") {
            return Ok(payload.to_vec());
        }
        return Err(ImageError::Compression(stream.iter().take(8).copied().collect()));
    };
    let said = u32::from_le_bytes(*size);
    let limit = usize::try_from(said).unwrap_or(usize::MAX).min(MAX_KERNEL);
    let stream = if compression == Compression::Gzip { payload } else { stream };
    let elf = compression.decompress(stream, limit)?;
    if u32::try_from(elf.len()) != Ok(said) {
        return Err(ImageError::Size { said, actual: elf.len() });
    }
    Ok(elf)
}

/// The first word of the version string.
fn release_in_header(file: &[u8], header: &SetupHeader) -> Option<String> {
    match header.kernel_version.get() {
        0 => None,
        offset => first_word(file.get(usize::from(offset) + 0x200..)?),
    }
}

/// The release in the text that a kernel prints first.
pub(super) fn release_in_banner(image: &[u8]) -> Option<String> {
    let mut rest = image;
    loop {
        let at = rest.iter().position(|&byte| byte == BANNER[0])?;
        rest = rest.get(at..)?;
        match rest.strip_prefix(BANNER).and_then(first_word) {
            // The format string of another kernel's message is no release.
            Some(word) if word.starts_with(|c: char| c.is_ascii_digit()) => return Some(word),
            _ => rest = rest.get(1..)?,
        }
    }
}

fn first_word(text: &[u8]) -> Option<String> {
    const LONGEST: usize = 128;
    let length = text.iter().take(LONGEST).position(|byte| !byte.is_ascii_graphic())?;
    let word = text.get(..length).filter(|word| !word.is_empty())?;
    String::from_utf8(word.to_vec()).ok()
}

fn parse(elf: &[u8]) -> Result<(u64, Vec<KernelSegment>, Vec<CodeRange>), ImageError> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(elf)?;
    let header = &file.ehdr;
    let problem = match (header.class, header.e_machine, header.e_type) {
        (Class::ELF32, ..) => Some("not 64 bits"),
        (_, machine, _) if machine != EM_X86_64 => Some("for another architecture"),
        (.., kind) if kind != ET_EXEC => Some("not linked to fixed addresses (not ET_EXEC)"),
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(ImageError::Kind(problem));
    }
    let mut segments = Vec::new();
    for header in file.segments().into_iter().flat_map(|headers| headers.iter()) {
        if header.p_type == PT_LOAD && header.p_memsz != 0 {
            segments.push(segment(&header, elf.len())?);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(ImageError::Kind("too many segments"));
        }
    }
    segments.sort_by_key(|segment| segment.paddr);
    for pair in segments.windows(2) {
        if let [first, second] = pair
            && first.physical().end > second.paddr
        {
            return Err(second.error("overlaps another segment"));
        }
    }
    let entry = header.e_entry;
    let holding_entry = segments.iter().find(|segment| offset_in(segment, segment.paddr, entry).is_some());
    let Some(holding_entry) = holding_entry else {
        return Err(ImageError::Entry(entry));
    };
    let mut code = code_sections(&file, &segments);
    if code.is_empty() {
        let executable = segments.iter().filter(|segment| segment.executable || *segment == holding_entry);
        code.extend(executable.map(|segment| CodeRange {
            vaddr: segment.vaddr,
            paddr: segment.paddr,
            contents: segment.contents.clone(),
        }));
    }
    code.sort_by_key(|range| range.paddr);
    Ok((entry, segments, code))
}

/// Where in a segment's contents an address lies, if the segment is at `start`.
fn offset_in(segment: &KernelSegment, start: u64, address: u64) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(start)?).ok()?;
    (offset < segment.contents.len()).then_some(offset)
}

/// The sections with instructions, as far as they lie within segments.
fn code_sections(file: &ElfBytes<'_, LittleEndian>, segments: &[KernelSegment]) -> Vec<CodeRange> {
    let code = u64::from(SHF_ALLOC | SHF_EXECINSTR);
    let sections = file.section_headers().into_iter().flat_map(|headers| headers.iter());
    let sections = sections.filter(|section| {
        section.sh_flags & code == code && section.sh_type != SHT_NOBITS && section.sh_size > 0
    });
    let range = |section: ::elf::section::SectionHeader| {
        segments.iter().find_map(|segment| {
            let offset = offset_in(segment, segment.vaddr, section.sh_addr)?;
            let length = usize::try_from(section.sh_size).ok()?;
            let start = segment.contents.start + offset;
            let end = start.checked_add(length).filter(|end| *end <= segment.contents.end)?;
            let paddr = segment.paddr + (section.sh_addr - segment.vaddr);
            Some(CodeRange { vaddr: section.sh_addr, paddr, contents: start..end })
        })
    };
    sections.filter_map(range).take(MAX_CODE_SECTIONS).collect()
}

fn segment(header: &ProgramHeader, image_length: usize) -> Result<KernelSegment, ImageError> {
    let error = |problem| ImageError::Segment { paddr: header.p_paddr, length: header.p_memsz, problem };
    let contents = segment_contents(header, image_length, MAX_RAM_SIZE).map_err(error)?;
    if header.p_paddr < LOWEST {
        return Err(error("begins in the first MiB"));
    }
    Ok(KernelSegment {
        vaddr: header.p_vaddr,
        paddr: header.p_paddr,
        contents,
        memory_size: header.p_memsz,
        executable: header.p_flags & PF_X != 0,
    })
}

#[cfg(test)]
#[path = "image_tests.rs"]
pub(super) mod tests;
