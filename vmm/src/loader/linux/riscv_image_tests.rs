use std::io::Write as _;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// An `Image` of this many bytes that wants `memory_size`.
pub(crate) fn image(length: usize, memory_size: u64) -> Vec<u8> {
    let mut image = vec![0; length.max(0x100)];
    image[..2].copy_from_slice(b"MZ");
    image[8..16].copy_from_slice(&KERNEL_ALIGNMENT.to_le_bytes());
    image[16..24].copy_from_slice(&memory_size.to_le_bytes());
    image[32..36].copy_from_slice(&2u32.to_le_bytes());
    image[48..56].copy_from_slice(b"RISCV\0\0\0");
    image[56..60].copy_from_slice(&MAGIC_2);
    image[64..92].copy_from_slice(b"Linux version 6.12.1-test x\0");
    image
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zboot(stream: &[u8]) -> Vec<u8> {
    let mut file = b"MZ\0\0zimg".to_vec();
    file.extend(0x40u32.to_le_bytes());
    file.extend(u32::try_from(stream.len()).unwrap().to_le_bytes());
    file.resize(0x40, 0);
    file.extend(stream);
    file.extend([0; 32]);
    file
}

#[rstest]
#[case::flat(image(0x1000, 0x3000))]
#[case::gzip(gzip(&image(0x1000, 0x3000)))]
#[case::efi(zboot(&gzip(&image(0x1000, 0x3000))))]
#[case::efi_in_gzip(gzip(&zboot(&gzip(&image(0x1000, 0x3000)))))]
fn every_form_gives_the_same_kernel(#[case] file: Vec<u8>) {
    let kernel = RiscvKernel::read(&file).unwrap();
    assert_eq!(kernel.place(), KERNEL_ALIGNMENT..KERNEL_ALIGNMENT + 0x3000);
    assert_eq!(kernel.image(), image(0x1000, 0x3000));
    assert_eq!(kernel.release(), Some("6.12.1-test"));
}

#[test]
fn a_kernel_is_known_by_its_first_bytes() {
    assert!(RiscvKernel::is_one(&image(0x1000, 0x3000)) && RiscvKernel::is_one(&zboot(&[])));
    assert!(!RiscvKernel::is_one(b"\x7fELF") && !RiscvKernel::is_one(&[]));
}

#[rstest]
#[case::nothing(vec![], RiscvImageError::Unknown)]
#[case::text(b"#!/bin/sh".to_vec(), RiscvImageError::Unknown)]
#[case::version(changed(35, 1), RiscvImageError::Header("an unknown version"))]
#[case::big_endian(changed(24, 1), RiscvImageError::Header("a big-endian kernel"))]
#[case::unaligned(changed(9, 1), RiscvImageError::Header("not to be loaded at a multiple of 2 MiB"))]
#[case::far(changed(14, 1), RiscvImageError::Header("larger than 512 MiB"))]
#[case::large(changed(22, 1), RiscvImageError::Header("larger than 512 MiB"))]
#[case::outside(zboot(&[])[..0x3f].to_vec(), RiscvImageError::CutShort)]
#[case::unknown_compression(zboot(&[0; 8]), RiscvImageError::Header("it is compressed in an unknown way"))]
fn what_is_no_kernel_is_refused(#[case] file: Vec<u8>, #[case] error: RiscvImageError) {
    assert_eq!(RiscvKernel::read(&file), Err(error));
}

fn changed(offset: usize, byte: u8) -> Vec<u8> {
    let mut image = image(0x1000, 0x3000);
    image[offset] = byte;
    image
}

/// An `Image` that is an EFI program of one section, which ends here.
fn efi_program(section_end: u32) -> Vec<u8> {
    let mut image = image(0x1000, 0x3000);
    image[60..64].copy_from_slice(&0x80u32.to_le_bytes());
    let coff = [&b"PE\0\0"[..], &[0x64, 0x50, 1, 0], &[0; 12], &[8, 0, 0, 0], &[0; 8]].concat();
    let section = [&[0; 16][..], &(section_end - 0x100).to_le_bytes(), &0x100u32.to_le_bytes()].concat();
    let (coff, section) = (coff.iter(), section.iter());
    image.iter_mut().skip(0x80).zip(coff.chain(section)).for_each(|(place, byte)| *place = *byte);
    image
}

#[rstest]
#[case::whole(0x1000, true)]
#[case::longer_than_its_sections(0xfff, true)]
#[case::one_byte_less(0x1001, false)]
#[case::far_beyond(u32::MAX, false)]
fn an_image_has_all_of_its_sections(#[case] section_end: u32, #[case] good: bool) {
    let read = RiscvKernel::read(&efi_program(section_end)).map(|kernel| kernel.image().len());
    assert_eq!(read, if good { Ok(0x1000) } else { Err(RiscvImageError::CutShort) });
}

#[test]
fn a_bomb_is_refused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = vec![0; 1 << 20];
    for _ in 0..=MAX_KERNEL >> 20 {
        encoder.write_all(&block).unwrap();
    }
    let error = RiscvKernel::read(&encoder.finish().unwrap()).unwrap_err();
    assert!(matches!(error, RiscvImageError::Decompress(DecompressError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(file in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = RiscvKernel::read(&file);
        let _ = RiscvKernel::read(&zboot(&file));
    }

    #[test]
    fn any_sections_are_answered(start in 0u32..0x400, table in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut file = image(0x200, 0x3000);
        file[60..64].copy_from_slice(&start.to_le_bytes());
        let at = usize::try_from(start).unwrap().min(0x200);
        file.truncate(at);
        file.extend([b"PE\0\0", table.as_slice()].concat());
        let _ = RiscvKernel::read(&file);
    }

    #[test]
    fn any_header_is_answered(header in proptest::array::uniform32(any::<u8>())) {
        let mut file = image(0x200, 0x3000);
        file[8..40].copy_from_slice(&header);
        if let Ok(kernel) = RiscvKernel::read(&file) {
            prop_assert!(kernel.place().end <= 2 * u64::try_from(MAX_KERNEL).unwrap());
        }
    }
}
