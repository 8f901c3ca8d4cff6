//! Images to measure or to run, made byte by byte.

use tsmsim_abi::{
    guest_test::IMAGE_GPA,
    guid::Guid,
    snp::{PAGE_SIZE, ovmf},
};

/// A section of the SEV metadata: address, size, kind.
pub(crate) type Section = (u32, u32, ovmf::SectionKind);

/// Sections as an OVMF has them that takes kernel hashes; the hash table lies in the last one.
pub(crate) const SECTIONS: [Section; 6] = [
    (0x80_0000, 0x9000, ovmf::SectionKind::SNP_SEC_MEM),
    (0x80_a000, 0x3000, ovmf::SectionKind::SNP_SEC_MEM),
    (0x80_d000, 0x1000, ovmf::SectionKind::SNP_SECRETS),
    (0x80_e000, 0x1000, ovmf::SectionKind::CPUID),
    (0x80_f000, 0x1000, ovmf::SectionKind::SVSM_CAA),
    (0x81_0000, 0x1000, ovmf::SectionKind::SNP_KERNEL_HASHES),
];

/// Where the hash table lies: not at the beginning of its page, so that the offset matters.
pub(crate) const HASH_TABLE: u32 = 0x81_0c00;

/// Where application processors start.
const AP_RESET: u32 = 0x80_b004;

/// A firmware image of four pages with a footer table and these sections.
pub(crate) fn firmware(sections: &[Section], hash_table: Option<u32>) -> Vec<u8> {
    let length = 4 * PAGE_SIZE;
    let mut image: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let count = u32::try_from(sections.len()).unwrap();
    let mut metadata = b"ASEV".to_vec();
    for word in [16 + 12 * count, 1, count] {
        metadata.extend_from_slice(&word.to_le_bytes());
    }
    for (gpa, size, kind) in sections {
        for word in [gpa, size, &kind.0] {
            metadata.extend_from_slice(&word.to_le_bytes());
        }
    }
    let at = 2 * PAGE_SIZE;
    image[at..at + metadata.len()].copy_from_slice(&metadata);

    let mut table = Vec::new();
    entry(&mut table, ovmf::METADATA_GUID, &[u32::try_from(length - at).unwrap()]);
    entry(&mut table, ovmf::RESET_BLOCK_GUID, &[AP_RESET]);
    if let Some(address) = hash_table {
        entry(&mut table, ovmf::HASH_TABLE_AREA_GUID, &[address, 0x400]);
    }
    let size = u16::try_from(table.len() + size_of::<ovmf::FooterEntry>()).unwrap();
    table.extend_from_slice(&size.to_le_bytes());
    table.extend_from_slice(&ovmf::FOOTER_GUID.0);
    let end = length - ovmf::FOOTER_FROM_END;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

/// Data, then size and GUID: the footer table is read backwards.
fn entry(table: &mut Vec<u8>, guid: Guid, words: &[u32]) {
    for word in words {
        table.extend_from_slice(&word.to_le_bytes());
    }
    let size = u16::try_from(4 * words.len() + size_of::<ovmf::FooterEntry>()).unwrap();
    table.extend_from_slice(&size.to_le_bytes());
    table.extend_from_slice(&guid.0);
}

/// A bare-metal guest: an ELF image of one executable segment that holds this code, and begins with it.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    /// Where the segment lies in the file: on a page, as in memory.
    const OFFSET: u64 = PAGE_SIZE as u64;
    let length = u64::try_from(code.len()).unwrap();
    let mut image = Vec::new();
    // e_ident: 64 bits, little-endian, version 1.
    image.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // e_type ET_EXEC, e_machine EM_X86_64.
    image.extend_from_slice(&[2, 0, 62, 0]);
    image.extend_from_slice(&1u32.to_le_bytes());
    // e_entry, e_phoff, e_shoff.
    for word in [IMAGE_GPA, 64, 0] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.extend_from_slice(&0u32.to_le_bytes());
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    for half in [64u16, 56, 1, 64, 0, 0] {
        image.extend_from_slice(&half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    image.extend_from_slice(&1u32.to_le_bytes());
    image.extend_from_slice(&5u32.to_le_bytes());
    // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    for word in [OFFSET, IMAGE_GPA, IMAGE_GPA, length, length, OFFSET] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.resize(PAGE_SIZE, 0);
    image.extend_from_slice(code);
    image
}
