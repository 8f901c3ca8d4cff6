//! Bare-metal guests as ELF images: statically linked, x86-64, loaded at their physical addresses.

use std::collections::BTreeMap;
use std::ops::Range;

use ::elf::ElfBytes;
use ::elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, STT_FUNC};
use ::elf::endian::LittleEndian;
use ::elf::file::Class;
use ::elf::parse::ParseError;
use ::elf::segment::ProgramHeader;
use thiserror::Error;
use tsmsim_simulator::env::OutOfRange;

use crate::memory::{GuestRam, MAX_RAM_SIZE, PAGE_SIZE};

/// Why an image is no guest.
#[derive(Debug, Error)]
pub enum ElfError {
    /// It is no ELF image, or ends too early.
    #[error("not a usable ELF image: {0}")]
    Malformed(#[from] ParseError),
    /// It is an ELF image for something else.
    #[error("not a bare-metal x86-64 guest: {0}")]
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
    /// Reads an image. Any bytes give an image or an error.
    pub fn parse(bytes: &'data [u8]) -> Result<Self, ElfError> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
        check_kind(&file)?;
        let mut segments = Vec::new();
        for header in file.segments().into_iter().flat_map(|headers| headers.iter()) {
            if header.p_type == PT_LOAD && header.p_memsz != 0 {
                segments.push(segment(&header, bytes.len())?);
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

    /// Copies the segments into `ram`, which is expected to be zero, and returns the pages touched. Nothing is
    /// written if a segment does not lie within RAM, or shares a page with one of the `reserved` ranges of
    /// guest-physical addresses.
    pub fn load(&self, ram: &GuestRam, reserved: &[Range<u64>]) -> Result<Vec<LoadedPage>, ElfError> {
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

fn check_kind(file: &ElfBytes<'_, LittleEndian>) -> Result<(), ElfError> {
    let header = &file.ehdr;
    if header.class != Class::ELF64 {
        return Err(ElfError::WrongKind("not 64 bits"));
    }
    if header.e_machine != EM_X86_64 {
        return Err(ElfError::WrongKind("for another architecture"));
    }
    if header.e_type != ET_EXEC {
        return Err(ElfError::WrongKind("not linked to fixed addresses (not ET_EXEC)"));
    }
    Ok(())
}

fn segment(header: &ProgramHeader, image_length: usize) -> Result<Segment, ElfError> {
    let error = |problem| ElfError::Segment { gpa: header.p_paddr, length: header.p_memsz, problem };
    if header.p_filesz > header.p_memsz {
        return Err(error("more contents than room for them"));
    }
    if header.p_paddr.checked_add(header.p_memsz).is_none_or(|end| end > MAX_RAM_SIZE) {
        return Err(error("ends behind the most RAM that a guest can have"));
    }
    if header.p_vaddr.checked_add(header.p_memsz).is_none() {
        return Err(error("its virtual addresses wrap around"));
    }
    let start = usize::try_from(header.p_offset).ok();
    let end = header.p_offset.checked_add(header.p_filesz).and_then(|end| usize::try_from(end).ok());
    let contents = match (start, end) {
        (Some(start), Some(end)) if end <= image_length => start..end,
        // Contents of no length may be anywhere.
        _ if header.p_filesz == 0 => 0..0,
        _ => return Err(error("its contents end behind the image")),
    };
    Ok(Segment {
        gpa: header.p_paddr,
        address: header.p_vaddr,
        contents,
        memory_size: header.p_memsz,
        executable: header.p_flags & PF_X != 0,
        writable: header.p_flags & PF_W != 0,
    })
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
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// A segment for [`build`].
    #[derive(Clone)]
    pub(in crate::loader) struct Part {
        pub(in crate::loader) gpa: u64,
        pub(in crate::loader) contents: Vec<u8>,
        pub(in crate::loader) memory_size: u64,
        pub(in crate::loader) flags: u32,
    }

    impl Part {
        pub(in crate::loader) fn code(gpa: u64, contents: &[u8]) -> Self {
            let memory_size = u64::try_from(contents.len()).unwrap();
            Self { gpa, contents: contents.to_vec(), memory_size, flags: PF_X }
        }

        fn data(gpa: u64, contents: &[u8], memory_size: u64) -> Self {
            Self { gpa, contents: contents.to_vec(), memory_size, flags: PF_W }
        }
    }

    fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// An ELF image made by hand: header, program headers, contents; virtual addresses equal the physical ones. With
    /// functions, a section table (null, `.text` over the first part, `.symtab`, `.strtab`) and symbols for them.
    pub(in crate::loader) fn build(entry: u64, parts: &[Part], functions: &[u64]) -> Vec<u8> {
        let mut image = vec![0; 64 + 56 * parts.len()];
        put(&mut image, 0, b"\x7fELF\x02\x01\x01"); // 64 bits, little endian, version 1
        put(&mut image, 16, &ET_EXEC.to_le_bytes());
        put(&mut image, 18, &EM_X86_64.to_le_bytes());
        put(&mut image, 20, &1u32.to_le_bytes());
        put(&mut image, 24, &entry.to_le_bytes());
        put(&mut image, 32, &64u64.to_le_bytes()); // e_phoff
        put(&mut image, 52, &64u16.to_le_bytes()); // e_ehsize
        put(&mut image, 54, &56u16.to_le_bytes()); // e_phentsize
        put(&mut image, 56, &u16::try_from(parts.len()).unwrap().to_le_bytes());
        put(&mut image, 58, &64u16.to_le_bytes()); // e_shentsize
        for (number, part) in parts.iter().enumerate() {
            let header = 64 + 56 * number;
            let offset = u64::try_from(image.len()).unwrap();
            put(&mut image, header, &PT_LOAD.to_le_bytes());
            put(&mut image, header + 4, &part.flags.to_le_bytes());
            let length = u64::try_from(part.contents.len()).unwrap();
            for (field, value) in [offset, part.gpa, part.gpa, length, part.memory_size, 1].iter().enumerate()
            {
                put(&mut image, header + 8 + 8 * field, &value.to_le_bytes());
            }
            image.extend_from_slice(&part.contents);
        }
        if !functions.is_empty() {
            append_sections(&mut image, &parts[0], functions);
        }
        image
    }

    fn append_sections(image: &mut Vec<u8>, text: &Part, functions: &[u64]) {
        let symbols_at = u64::try_from(image.len()).unwrap();
        let mut symbols = vec![0; 24];
        for function in functions {
            symbols.extend_from_slice(&[0, 0, 0, 0, STT_FUNC, 0, 1, 0]); // name, info, other, section 1
            symbols.extend_from_slice(&function.to_le_bytes());
            symbols.extend_from_slice(&[0; 8]);
        }
        image.extend_from_slice(&symbols);
        let strings_at = u64::try_from(image.len()).unwrap();
        image.push(0);
        let table_at = u64::try_from(image.len()).unwrap();
        let symbols_size = u64::try_from(symbols.len()).unwrap();
        let text_size = u64::try_from(text.contents.len()).unwrap();
        let code = u64::from(SHF_ALLOC | SHF_EXECINSTR);
        // Type, flags, address, offset, size, link, entry size.
        let sections = [
            (0, 0, 0, 0, 0, 0, 0),
            (1, code, text.gpa, 64, text_size, 0, 0),
            (2, 0, 0, symbols_at, symbols_size, 3, 24),
            (3, 0, 0, strings_at, 1, 0, 0),
        ];
        for (kind, flags, address, offset, size, link, entry_size) in sections {
            image.extend_from_slice(&0u32.to_le_bytes());
            image.extend_from_slice(&u32::to_le_bytes(kind));
            for value in [flags, address, offset, size] {
                image.extend_from_slice(&u64::to_le_bytes(value));
            }
            image.extend_from_slice(&u32::to_le_bytes(link));
            image.extend_from_slice(&0u32.to_le_bytes());
            image.extend_from_slice(&1u64.to_le_bytes());
            image.extend_from_slice(&u64::to_le_bytes(entry_size));
        }
        put(image, 40, &table_at.to_le_bytes()); // e_shoff
        put(image, 60, &4u16.to_le_bytes()); // e_shnum
    }

    #[test]
    fn an_image_is_loaded_where_it_says() {
        let parts = [
            Part::code(0x10_0000, &[0xf4; 5000]),
            Part::data(0x10_2ffe, b"data", 4),
            Part::data(0x10_3002, b"", 0x2000),
        ];
        let bytes = build(0x10_0010, &parts, &[]);
        let image = ElfImage::parse(&bytes).unwrap();
        let ram = GuestRam::new(0x20_0000).unwrap();
        let pages = image.load(&ram, &[0x1000..0x7000, 0x8000..0x9000]).unwrap();
        let expected = [
            (0x10_0000, Contents::Data),
            (0x10_1000, Contents::Data),
            (0x10_2000, Contents::Data),
            (0x10_3000, Contents::Data), // the end of "data", and zeros of the next segment
            (0x10_4000, Contents::Zero),
            (0x10_5000, Contents::Zero),
        ];
        assert_eq!(pages, expected.map(|(gpa, contents)| LoadedPage { gpa, contents }));
        let mut buf = [0; 5];
        ram.read(0x10_2ffe, &mut buf).unwrap();
        assert_eq!(&buf, b"data\0");
        assert_eq!(image.entry(), 0x10_0010);
    }

    fn refusal(parts: &[Part], entry: u64) -> String {
        ElfImage::parse(&build(entry, parts, &[])).unwrap_err().to_string()
    }

    #[test]
    fn unsound_segments_are_refused() {
        let code = Part::code(0x1000, &[0xf4; 16]);
        let with = |other: Part| refusal(&[code.clone(), other], 0x1000);
        assert!(with(Part::data(0x100f, b"x", 1)).contains("overlaps"));
        assert!(with(Part::data(0xff0, b"x", 0x11)).contains("overlaps"));
        assert!(with(Part::data(0x2000, b"xx", 1)).contains("more contents"));
        assert!(with(Part::data(0x2000, b"x", u64::MAX)).contains("most RAM"));
        assert!(with(Part::data(u64::MAX, b"x", 1)).contains("most RAM"));
        assert!(with(Part::data(0x2000, b"", MAX_RAM_SIZE)).contains("most RAM"));
        assert!(refusal(std::slice::from_ref(&code), 0x1010).contains("entry"));
        assert!(refusal(std::slice::from_ref(&code), 0xfff).contains("entry"));
        assert!(refusal(&[Part::data(0x1000, b"x", 1)], 0x1000).contains("entry"));
        assert!(refusal(&[], 0).contains("entry"));
    }

    #[rstest]
    #[case::header_only(&[(52, 4)], 32, "")]
    #[case::elf32(&[(4, 1)], usize::MAX, "")]
    #[case::big_endian(&[(5, 2)], usize::MAX, "")]
    #[case::other_machine(&[(18, 0xf3)], usize::MAX, "architecture")]
    #[case::shared_object(&[(16, 3)], usize::MAX, "ET_EXEC")]
    #[case::contents_behind_the_image(&[(64 + 8 + 3, 1)], usize::MAX, "behind the image")]
    #[case::too_many_program_headers(&[(56, 0xff), (57, 0x7f)], usize::MAX, "")]
    fn other_images_are_refused(#[case] changes: &[(usize, u8)], #[case] length: usize, #[case] says: &str) {
        let mut bytes = build(0x1000, &[Part::code(0x1000, &[0xf4; 16])], &[]);
        for &(offset, value) in changes {
            bytes[offset] = value;
        }
        bytes.truncate(length);
        let message = ElfImage::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }

    #[rstest]
    #[case::too_small(0x2000, &[], "within RAM")]
    #[case::reserved_page(0x4000, &[0..0x1000, 0x2800..0x2801], "VMM puts")]
    fn what_cannot_be_placed_is_not_loaded(
        #[case] size: u64,
        #[case] reserved: &[Range<u64>],
        #[case] says: &str,
    ) {
        let bytes = build(0x1000, &[Part::code(0x1000, &[0xf4; 16]), Part::data(0x2000, b"x", 0x10)], &[]);
        let ram = GuestRam::new(size).unwrap();
        let message = ElfImage::parse(&bytes).unwrap().load(&ram, reserved).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
        let mut first = [0xff];
        ram.read(0x1000, &mut first).unwrap();
        assert_eq!(first, [0], "nothing is written");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_image_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = ElfImage::parse(&bytes);
        }

        #[test]
        fn any_damage_is_an_image_or_an_error(
            damage in proptest::collection::vec((0usize..700, any::<u8>()), 1..20),
            length in 0usize..800,
        ) {
            let parts = [Part::code(0x1000, &[0xf4; 64]), Part::data(0x2000, b"data", 0x1000)];
            let mut bytes = build(0x1000, &parts, &[0x1000, 0x1010]);
            for (offset, value) in damage {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte = value;
                }
            }
            bytes.truncate(length);
            let ram = GuestRam::new(0x10000).unwrap();
            if let Ok(image) = ElfImage::parse(&bytes)
                && let Ok(pages) = image.load(&ram, std::slice::from_ref(&(0..0x1000)))
            {
                prop_assert!(pages.iter().all(|page| page.gpa >= 0x1000 && ram.contains(page.gpa, PAGE_SIZE)));
                let _ = crate::loader::patch::patch(&image, &ram);
            }
        }
    }
}
