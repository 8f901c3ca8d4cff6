use std::{vec, vec::Vec};

use proptest::prelude::*;
use rstest::rstest;
use zerocopy::IntoBytes;

use super::*;
use crate::snp::ovmf::{FOOTER_FROM_END, FOOTER_GUID, FooterEntry};

/// An image of four pages: metadata in the first, the footer table at the end of the last.
fn image(sections: &[Section], edit: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let mut image: Vec<u8> = (0..16384_u32).map(|at| u8::try_from(at / 64 % 251).unwrap()).collect();
    let count = u32::try_from(sections.len()).unwrap();
    let mut head = Metadata {
        signature: METADATA_SIGNATURE,
        length: (16 + 32 * count).into(),
        version: METADATA_VERSION.into(),
        number_of_section_entries: count.into(),
    };
    edit(&mut head);
    let metadata = [head.as_bytes(), sections.as_bytes()].concat();
    image[64..64 + metadata.len()].copy_from_slice(&metadata);
    let mut table = vec![9, 9, 9];
    let entry = |table: &mut Vec<u8>, guid: Guid, data: &[u8]| {
        table.extend_from_slice(data);
        let size = u16::try_from(data.len() + 18).unwrap();
        table.extend_from_slice(FooterEntry { size: size.into(), guid }.as_bytes());
    };
    entry(&mut table, METADATA_OFFSET_GUID, &(16384_u32 - 64).to_le_bytes());
    entry(&mut table, Guid::ZERO, &[1, 2, 3, 4, 5]);
    let size = u16::try_from(table.len() + 18).unwrap();
    table.extend_from_slice(FooterEntry { size: size.into(), guid: FOOTER_GUID }.as_bytes());
    let end = image.len() - FOOTER_FROM_END;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

fn section(kind: SectionType, (offset, raw): (u32, u32), (address, size): (u64, u64), bits: u32) -> Section {
    Section {
        data_offset: offset.into(),
        raw_data_size: raw.into(),
        memory_address: address.into(),
        memory_data_size: size.into(),
        section_type: kind.0.into(),
        attributes: bits.into(),
    }
}

const CODE: (u32, u32) = (8192, 8192);

fn usual() -> [Section; 3] {
    [
        section(SectionType::BFV, CODE, (0xffff_e000, 0x2000), 1),
        section(SectionType::CFV, (0, 4100), (0xffff_c000, 0x2000), 0),
        section(SectionType::TEMP_MEM, (0, 0), (0x80_0000, 0x1000), 0),
    ]
}

#[test]
fn pages_come_in_the_order_of_the_sections() {
    let mut sections = usual().to_vec();
    sections.insert(1, section(SectionType::TEMP_MEM, (0, 0), (0x90_0000, 0x4000), 2));
    let bytes = image(&sections, |_| {});
    let tdvf = Tdvf::read(&bytes).unwrap().unwrap();
    assert_eq!(tdvf.sections(), sections);
    let pages: Vec<_> = tdvf.pages().collect();
    let shape: Vec<_> = pages.iter().map(|page| (page.gpa, page.contents.len(), page.measured)).collect();
    let expected = [
        (0xffff_e000, 4096, true),
        (0xffff_f000, 4096, true),
        (0xffff_c000, 4096, false),
        (0xffff_d000, 4, false),
        (0x80_0000, 0, false),
    ];
    assert_eq!(shape, expected);
    assert_eq!(pages[1].contents, &bytes[12288..]);
    assert_eq!(pages[3].contents, &bytes[4096..4100]);
}

#[rstest]
#[case::unaligned(section(SectionType::BFV, CODE, (0xffff_e100, 0x2000), 1), "address of a section is 0xffffe100")]
#[case::size(section(SectionType::BFV, CODE, (0xffff_e000, 0x2001), 1), "size of a section in memory is 0x2001")]
#[case::wraps(section(SectionType::TEMP_MEM, (0, 0), (0xffff_ffff_ffff_f000, 0x1000), 0), "size of a section in memory")]
#[case::large(section(SectionType::TEMP_MEM, (0, 0), (0, 1 << 33), 0), "size of a section in memory")]
#[case::raw(section(SectionType::BFV, (0, 8193), (0xffff_e000, 0x2000), 1), "contents is stated as 8193, should be 8192")]
#[case::outside(section(SectionType::BFV, (8193, 8192), (0xffff_e000, 0x2000), 1), "stated as 16385, should be 16384")]
#[case::no_code(section(SectionType::BFV, (0, 0), (0xffff_e000, 0x2000), 1), "such a section is 0x0")]
#[case::full_memory(section(SectionType::TD_HOB, (0, 1), (0x80_0000, 0x1000), 0), "such a section is 0x1")]
#[case::unknown(section(SectionType(4), (0, 0), (0x80_0000, 0x1000), 0), "type of a section is 0x4")]
fn what_no_host_does_is_refused(#[case] section: Section, #[case] says: &str) {
    let bytes = image(&[section], |_| {});
    let error = std::string::ToString::to_string(&Tdvf::read(&bytes).unwrap_err());
    assert!(error.contains(says), "{error}");
}

#[rstest]
#[case::signature(*b"TDVG", 112, 1, 3)]
#[case::version(*b"TDVF", 112, 2, 3)]
#[case::length(*b"TDVF", 111, 1, 3)]
#[case::count(*b"TDVF", 112, 1, 4)]
#[case::huge(*b"TDVF", u32::MAX, 1, u32::MAX)]
fn broken_metadata_are_refused(
    #[case] signature: [u8; 4],
    #[case] length: u32,
    #[case] version: u32,
    #[case] count: u32,
) {
    assert!(Tdvf::read(&image(&usual(), |_| {})).unwrap().is_some());
    let bytes = image(&usual(), |head| {
        *head = Metadata {
            signature,
            length: length.into(),
            version: version.into(),
            number_of_section_entries: count.into(),
        };
    });
    assert!(Tdvf::read(&bytes).is_err());
}

#[test]
fn the_sum_of_the_sections_is_bounded() {
    let half = section(SectionType::TEMP_MEM, (0, 0), (0, 3 << 30), 0);
    assert!(Tdvf::read(&image(&[half], |_| {})).unwrap().is_some());
    assert!(Tdvf::read(&image(&[half, half], |_| {})).is_err());
}

#[test]
fn a_broken_footer_table_is_refused() {
    let mut bytes = image(&usual(), |_| {});
    let at = bytes.len() - FOOTER_FROM_END - size_of::<FooterEntry>();
    bytes[at..at + 2].copy_from_slice(&17_u16.to_le_bytes());
    let (stated, expected) = (17, at as u64 + 18);
    let refused = Err(ReadError::Size { what: "an entry of the footer table", stated, expected });
    assert_eq!(Tdvf::read(&bytes), refused);
}

#[test]
fn other_images_have_none() {
    assert_eq!(Tdvf::read(&[]), Ok(None));
    assert_eq!(Tdvf::read(&[0; 8192]), Ok(None));
    let mut bytes = image(&usual(), |_| {});
    let at = bytes.windows(16).position(|window| window == METADATA_OFFSET_GUID.0).unwrap();
    bytes[at] ^= 1;
    assert_eq!(Tdvf::read(&bytes), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = image(&usual(), |_| {});
        let places: Vec<usize> = (64..64 + 112).chain(16384 - 120..16384).collect();
        for (index, value) in edits {
            bytes[places[index.index(places.len())]] = value;
        }
        if let Ok(Some(tdvf)) = Tdvf::read(&bytes) {
            prop_assert!(tdvf.pages().count() as u64 <= MAX_PAGES);
        }
    }
}
