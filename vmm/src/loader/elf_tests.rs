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
        for (field, value) in [offset, part.gpa, part.gpa, length, part.memory_size, 1].iter().enumerate() {
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

#[test]
fn an_image_is_for_one_machine() {
    let mut bytes = build(0x8020_0000, &[Part::code(0x8020_0000, &[0x13, 0, 0, 0])], &[]);
    put(&mut bytes, 18, &EM_RISCV.to_le_bytes());
    assert!(matches!(ElfImage::parse(&bytes), Err(ElfError::WrongKind("for another architecture"))));
    let image = ElfImage::parse_for(&bytes, EM_RISCV).unwrap();
    let ram = PlacedRam::new(GuestRam::new(0x30_0000).unwrap(), RAM_BASE).unwrap();
    let pages = image.load_placed(&ram, &[]).unwrap();
    assert_eq!(pages, [LoadedPage { gpa: 0x8020_0000, contents: Contents::Data }]);
    let mut first = [0];
    ram.read(0x8020_0000, &mut first).unwrap();
    assert_eq!(first, [0x13]);
    let below = PlacedRam::new(GuestRam::new(0x1000).unwrap(), RAM_BASE).unwrap();
    assert!(image.load_placed(&below, &[]).is_err());
    assert!(image.load(&GuestRam::new(0x30_0000).unwrap(), &[]).is_err());
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
