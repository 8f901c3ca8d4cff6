//! Bare-metal guests as ELF images: statically linked, loaded at their physical addresses.

use std::collections::BTreeMap;
use std::ops::Range;

use ::elf::ElfBytes;
use ::elf::abi::{
    EM_RISCV, EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, STT_FUNC,
};
use ::elf::endian::LittleEndian;
use ::elf::file::Class;
use ::elf::parse::ParseError;
use ::elf::segment::ProgramHeader;
use thiserror::Error;
use tsmsim_simulator::env::OutOfRange;

use crate::{
    engine::riscv::RAM_BASE,
    memory::{GuestRam, MAX_RAM_SIZE, PAGE_SIZE, PlacedRam},
};

/// Why an image is no guest.
#[derive(Debug, Error)]
pub enum ElfError {
    /// It is no ELF image, or ends too early.
    #[error("not a usable ELF image: {0}")]
    Malformed(#[from] ParseError),
    /// It is an ELF image for something else.
    #[error("not a bare-metal guest: {0}")]
    WrongKind(&'static str),
    /// A segment cannot be loaded as its header says.
    #[error("segment at physical address {gpa:#x}, {length:#x} bytes: {problem}")]
    Segment {
        /// Its physical address.
        gpa: u64,
        /// Its length in memory.
        length: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The entry does not lie in a segment that may be executed.
    #[error("entry {0:#x} does not lie in executable contents of the image")]
    Entry(u64),
    /// RAM is too small.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of its first byte.
    pub gpa: u64,
    /// Virtual address of its first byte.
    pub address: u64,
    /// Where its contents lie in the image.
    pub contents: Range<usize>,
    /// Its length in memory; what exceeds the contents is zero.
    pub memory_size: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether it may be written.
    pub writable: bool,
}

impl Segment {
    fn physical(&self) -> Range<u64> {
        self.gpa..self.gpa + self.memory_size
    }

    fn error(&self, problem: &'static str) -> ElfError {
        ElfError::Segment { gpa: self.gpa, length: self.memory_size, problem }
    }
}

/// What a page of the loaded image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Something from the image.
    Data,
    /// Only zeros that the image asks for without containing them.
    Zero,
}

/// A page of the loaded image: what has to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedPage {
    /// Guest-physical address.
    pub gpa: u64,
    /// What is in it.
    pub contents: Contents,
}

/// An image that was found sound: segments do not overlap, fit into the most RAM that a guest can have, and hold the
/// entry. Nothing is loaded yet.
#[derive(Clone, Debug)]
pub struct ElfImage<'data> {
    bytes: &'data [u8],
    entry: u64,
    segments: Vec<Segment>,
    code_sections: Vec<Range<u64>>,
    functions: Vec<u64>,
}

impl<'data> ElfImage<'data> {
    /// Reads an image for x86-64. Any bytes give an image or an error.
    pub fn parse(bytes: &'data [u8]) -> Result<Self, ElfError> {
        Self::parse_for(bytes, EM_X86_64)
    }

    /// Reads an image for a machine, by its ELF number (`EM_X86_64`, `EM_RISCV`). Any bytes give an image or an error.
    pub fn parse_for(bytes: &'data [u8], machine: u16) -> Result<Self, ElfError> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
        check_kind(&file, machine)?;
        let ram_end = if machine == EM_RISCV { RAM_BASE + MAX_RAM_SIZE } else { MAX_RAM_SIZE };
        let mut segments = Vec::new();
        for header in file.segments().into_iter().flat_map(|headers| headers.iter()) {
            if header.p_type == PT_LOAD && header.p_memsz != 0 {
                segments.push(segment(&header, bytes.len(), ram_end)?);
            }
        }
        segments.sort_by_key(|segment| segment.gpa);
        for pair in segments.windows(2) {
            if let [first, second] = pair
                && first.physical().end > second.gpa
            {
                return Err(second.error("overlaps another segment"));
            }
        }
        let entry = file.ehdr.e_entry;
        let image = Self {
            bytes,
            entry,
            segments,
            code_sections: code_sections(&file),
            functions: functions(&file)?,
        };
        if image.executable().any(|(address, code)| {
            entry
                .checked_sub(address)
                .is_some_and(|offset| usize::try_from(offset).is_ok_and(|o| o < code.len()))
        }) {
            Ok(image)
        } else {
            Err(ElfError::Entry(entry))
        }
    }

    /// The virtual address at which the guest begins.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments, by ascending physical address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The pages that the image touches, by ascending address.
    pub fn pages(&self) -> Vec<LoadedPage> {
        let mut pages = BTreeMap::new();
        for segment in &self.segments {
            let length = u64::try_from(segment.contents.len()).unwrap_or(u64::MAX);
            let filled = segment.gpa..segment.gpa.saturating_add(length);
            let first = segment.gpa - segment.gpa % PAGE_SIZE;
            for gpa in (first..segment.physical().end).step_by(4096) {
                let data = filled.start < filled.end && gpa < filled.end;
                *pages.entry(gpa).or_insert(false) |= data;
            }
        }
        let page =
            |(gpa, data)| LoadedPage { gpa, contents: if data { Contents::Data } else { Contents::Zero } };
        pages.into_iter().map(page).collect()
    }

    /// [`load_placed`](Self::load_placed) into RAM from guest-physical address zero on.
    pub fn load(&self, ram: &GuestRam, reserved: &[Range<u64>]) -> Result<Vec<LoadedPage>, ElfError> {
        self.load_placed(&PlacedRam::new(ram.clone(), 0)?, reserved)
    }

    /// Copies the segments into `ram`, which is expected to be zero, and returns the pages touched. Nothing is
    /// written if a segment does not lie within RAM, or shares a page with one of the `reserved` ranges of
    /// guest-physical addresses.
    pub fn load_placed(&self, ram: &PlacedRam, reserved: &[Range<u64>]) -> Result<Vec<LoadedPage>, ElfError> {
        for segment in &self.segments {
            let Range { start, end } = segment.physical();
            if !ram.contains(start, segment.memory_size) {
                return Err(segment.error("does not lie within RAM"));
            }
            let first_page = start - start % PAGE_SIZE;
            let end_of_last = end.next_multiple_of(PAGE_SIZE);
            if reserved.iter().any(|taken| taken.start < end_of_last && first_page < taken.end) {
                return Err(segment.error("lies where the VMM puts its own pages"));
            }
        }
        for segment in &self.segments {
            ram.write(segment.gpa, self.contents(segment))?;
        }
        Ok(self.pages())
    }

    /// A segment's bytes in the image.
    pub fn contents(&self, segment: &Segment) -> &'data [u8] {
        self.bytes.get(segment.contents.clone()).unwrap_or(&[])
    }

    /// Virtual addresses and bytes of the executable segments.
    pub(super) fn executable(&self) -> impl Iterator<Item = (u64, &'data [u8])> + '_ {
        let executable = self.segments.iter().filter(|segment| segment.executable);
        executable.map(|segment| (segment.address, self.contents(segment)))
    }

    /// Virtual addresses of the sections that hold instructions; empty if the image has no section table.
    pub(super) fn code_sections(&self) -> &[Range<u64>] {
        &self.code_sections
    }

    /// Virtual addresses at which the symbol table says that functions begin.
    pub(super) fn functions(&self) -> &[u64] {
        &self.functions
    }
}

fn check_kind(file: &ElfBytes<'_, LittleEndian>, machine: u16) -> Result<(), ElfError> {
    let header = &file.ehdr;
    if header.class != Class::ELF64 {
        return Err(ElfError::WrongKind("not 64 bits"));
    }
    if header.e_machine != machine {
        return Err(ElfError::WrongKind("for another architecture"));
    }
    if header.e_type != ET_EXEC {
        return Err(ElfError::WrongKind("not linked to fixed addresses (not ET_EXEC)"));
    }
    Ok(())
}

fn segment(header: &ProgramHeader, image_length: usize, ram_end: u64) -> Result<Segment, ElfError> {
    let error = |problem| ElfError::Segment { gpa: header.p_paddr, length: header.p_memsz, problem };
    Ok(Segment {
        gpa: header.p_paddr,
        address: header.p_vaddr,
        contents: segment_contents(header, image_length, ram_end).map_err(error)?,
        memory_size: header.p_memsz,
        executable: header.p_flags & PF_X != 0,
        writable: header.p_flags & PF_W != 0,
    })
}

/// Where the contents of a loadable segment lie in the image, if its header is sound: addresses do not wrap around, and it
/// ends at `ram_end` at the latest.
pub(in crate::loader) fn segment_contents(
    header: &ProgramHeader,
    image_length: usize,
    ram_end: u64,
) -> Result<Range<usize>, &'static str> {
    if header.p_filesz > header.p_memsz {
        return Err("more contents than room for them");
    }
    if header.p_paddr.checked_add(header.p_memsz).is_none_or(|end| end > ram_end) {
        return Err("ends behind the most RAM that a guest can have");
    }
    if header.p_vaddr.checked_add(header.p_memsz).is_none() {
        return Err("its virtual addresses wrap around");
    }
    let start = usize::try_from(header.p_offset).ok();
    let end = header.p_offset.checked_add(header.p_filesz).and_then(|end| usize::try_from(end).ok());
    match (start, end) {
        (Some(start), Some(end)) if end <= image_length => Ok(start..end),
        // Contents of no length may be anywhere.
        _ if header.p_filesz == 0 => Ok(0..0),
        _ => Err("its contents end behind the image"),
    }
}

fn code_sections(file: &ElfBytes<'_, LittleEndian>) -> Vec<Range<u64>> {
    let code = u64::from(SHF_ALLOC | SHF_EXECINSTR);
    let sections = file.section_headers().into_iter().flat_map(|headers| headers.iter());
    let mut ranges: Vec<_> = sections
        .filter(|section| section.sh_flags & code == code && section.sh_type != SHT_NOBITS)
        .map(|section| section.sh_addr..section.sh_addr.saturating_add(section.sh_size))
        .filter(|range| !range.is_empty())
        .collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

fn functions(file: &ElfBytes<'_, LittleEndian>) -> Result<Vec<u64>, ElfError> {
    let Some((symbols, _)) = file.symbol_table()? else {
        return Ok(Vec::new());
    };
    let defined = symbols.iter().filter(|symbol| symbol.st_symtype() == STT_FUNC && !symbol.is_undefined());
    let mut starts: Vec<_> = defined.map(|symbol| symbol.st_value).collect();
    starts.sort_unstable();
    starts.dedup();
    Ok(starts)
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub(super) mod tests;
