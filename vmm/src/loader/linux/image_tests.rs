use ::elf::abi::PF_W;
use proptest::prelude::*;
use rstest::rstest;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::loader::elf::tests::{Part, build};
use crate::loader::linux::decompress::tests::compress;

pub(in crate::loader::linux) const ENTRY: u64 = 0x10_0040;

/// A kernel of one executable segment at 1 MiB and one of data, with room for zeros, at 2 MiB.
pub(in crate::loader::linux) fn kernel() -> Vec<u8> {
    let mut code = vec![0x90; 0x3000];
    code[0x100..0x11e].copy_from_slice(b"\0Linux version 6.1-test (gcc)\n");
    let data = Part { gpa: 0x20_0000, contents: vec![7; 0x800], memory_size: 0x4000, flags: PF_W };
    build(ENTRY, &[data, Part::code(0x10_0000, &code)], &[])
}

/// A bzImage around a payload: a boot sector, one sector of setup with the release in it, the payload at 64 bytes.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut header = SetupHeader::new_zeroed();
    header.setup_sects = 1;
    header.boot_flag = BOOT_FLAG.into();
    header.header = HEADER_MAGIC;
    header.version = 0x20f.into();
    header.kernel_version = 0x100.into();
    header.payload_offset = 64.into();
    header.payload_length = u32::try_from(payload.len()).unwrap().into();
    let mut image = vec![0; 1024 + 64];
    image[SETUP_HEADER_OFFSET..SETUP_HEADER_OFFSET + header.as_bytes().len()]
        .copy_from_slice(header.as_bytes());
    image[0x300..0x30f].copy_from_slice(b"6.2-cloud (me)\0");
    image.extend(payload);
    image.extend(b"behind the payload");
    image
}

/// The payload as the kernel's build makes it.
fn payload(format: Compression, elf: &[u8]) -> Vec<u8> {
    let mut packed = compress(format, elf);
    if format != Compression::Gzip {
        packed.extend(u32::try_from(elf.len()).unwrap().to_le_bytes());
    }
    packed
}

#[test]
fn an_elf_image_is_a_kernel() {
    let image = KernelImage::read(&kernel()).unwrap();
    assert_eq!((image.entry(), image.end(), image.release()), (ENTRY, 0x20_4000, Some("6.1-test")));
    let [first, second] = image.segments() else { panic!("two segments") };
    assert_eq!(
        (first.paddr, first.executable, second.paddr, second.executable),
        (0x10_0000, true, 0x20_0000, false)
    );
    let code: Vec<_> = image.code().collect();
    assert_eq!((code.len(), code[0].paddr, code[0].bytes.len()), (1, 0x10_0000, 0x3000));
    let ram = GuestRam::new(4 << 20).unwrap();
    image.load(&ram).unwrap();
    let mut bytes = [0; 0x900];
    ram.read(0x20_0000, &mut bytes).unwrap();
    assert!(bytes[..0x800].iter().all(|byte| *byte == 7) && bytes[0x800..].iter().all(|byte| *byte == 0));
    assert!(matches!(image.load(&GuestRam::new(2 << 20).unwrap()), Err(ImageError::Segment { .. })));
}

#[rstest]
#[case(Compression::Gzip)]
#[case(Compression::Zstd)]
#[case(Compression::Xz)]
#[case(Compression::Lz4)]
#[case(Compression::Bzip2)]
#[case(Compression::Lzma)]
fn a_bzimage_of_any_compression(#[case] format: Compression) {
    let elf = kernel();
    let image = KernelImage::read(&bzimage(&payload(format, &elf))).unwrap();
    assert_eq!((image.elf(), image.release()), (&elf[..], Some("6.2-cloud")));
    // Cut short anywhere, it is an error.
    let whole = bzimage(&payload(format, &elf));
    for length in [0, 0x1f0, 0x240, 0x400, 0x460, whole.len() - 19] {
        assert!(KernelImage::read(&whole[..length]).is_err(), "{length:#x}");
    }
}

#[test]
fn an_image_that_is_not_compressed() {
    let elf = kernel();
    assert_eq!(KernelImage::read(&bzimage(&elf)).unwrap().elf(), elf);
}

#[rstest]
#[case::larger(1)]
#[case::smaller(-1)]
fn the_size_behind_the_stream_counts(#[case] difference: i64) {
    let elf = kernel();
    let mut packed = payload(Compression::Zstd, &elf);
    let at = packed.len() - 4;
    let said = u32::try_from(i64::try_from(elf.len()).unwrap() + difference).unwrap();
    packed[at..].copy_from_slice(&said.to_le_bytes());
    let error = KernelImage::read(&bzimage(&packed)).unwrap_err();
    assert!(matches!(error, ImageError::Size { .. } | ImageError::Decompress(_)), "{error}");
}

#[test]
fn a_bomb_is_stopped_by_its_own_size() {
    let mut packed = compress(Compression::Xz, &vec![0; 8 << 20]);
    packed.extend(4096_u32.to_le_bytes());
    let error = KernelImage::read(&bzimage(&packed)).unwrap_err();
    let too_large = DecompressError::TooLarge { format: "xz", limit: 4096 };
    assert!(matches!(error, ImageError::Decompress(found) if found == too_large));
}

#[rstest]
#[case::empty(b"".to_vec())]
#[case::text(b"#!/bin/sh\n".to_vec())]
#[case::short_elf(b"\x7fELF".to_vec())]
#[case::no_magic({ let mut image = bzimage(&kernel()); image[0x202] = b'X'; image })]
#[case::no_boot_flag({ let mut image = bzimage(&kernel()); image[0x1fe] = 0; image })]
#[case::old_protocol({ let mut image = bzimage(&kernel()); image[0x206] = 7; image[0x207] = 2; image })]
#[case::payload_too_far({ let mut image = bzimage(&kernel()); image[0x24b] = 0xff; image })]
#[case::payload_too_long({ let mut image = bzimage(&kernel()); image[0x24f] = 0xff; image })]
#[case::no_payload(bzimage(b""))]
#[case::lzo(bzimage(&[0x89, b'L', b'Z', b'O', 0, 0, 0, 0, 1, 0, 0, 0]))]
#[case::compressed_rubbish(bzimage(&payload(Compression::Gzip, b"this is no ELF image at all")))]
#[case::another_architecture({ let mut elf = kernel(); elf[18] = 183; elf })]
#[case::shared_object({ let mut elf = kernel(); elf[16] = 3; elf })]
#[case::thirty_two_bits({ let mut elf = kernel(); elf[4] = 1; elf })]
#[case::in_the_first_mib(build(0x8000, &[Part::code(0x8000, &[0x90; 16])], &[]))]
#[case::beyond_any_ram(build(0xc000_0000, &[Part::code(0xc000_0000, &[0x90; 16])], &[]))]
#[case::overlapping(build(0x10_0000, &[Part::code(0x10_0000, &[0x90; 32]), Part::code(0x10_0010, &[0x90; 16])], &[]))]
#[case::entry_nowhere(build(0x30_0000, &[Part::code(0x10_0000, &[0x90; 32])], &[]))]
#[case::no_segments(build(0x10_0000, &[], &[]))]
fn no_kernel(#[case] file: Vec<u8>) {
    let error = KernelImage::read(&file).unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn sections_tell_code_from_data() {
    // The first function makes the builder add a section table whose .text lies over the first part.
    let parts =
        [Part { flags: PF_W, ..Part::code(0x10_0000, &[0x90; 64]) }, Part::code(0x20_0000, &[0x90; 64])];
    let image = KernelImage::read(&build(0x10_0000, &parts, &[0x10_0000])).unwrap();
    let code: Vec<_> = image.code().map(|code| (code.vaddr, code.paddr, code.bytes.len())).collect();
    assert_eq!(code, [(0x10_0000, 0x10_0000, 64)]);
    // Without sections: executable segments, and the one with the entry.
    let image = KernelImage::read(&build(0x10_0000, &parts, &[])).unwrap();
    assert_eq!(image.code().count(), 2);
}

#[rstest]
#[case::none(b"nothing here", None)]
#[case::several(b"LLinux version %s\0 Linux version 6.9.1 x", Some("6.9.1"))]
#[case::cut(b"Linux version 6.9.1", None)]
fn the_banner(#[case] bytes: &[u8], #[case] release: Option<&str>) {
    assert_eq!(release_in_banner(bytes).as_deref(), release);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_bytes_are_answered(flips in proptest::collection::vec((0_usize..0x600, any::<u8>()), 1..6), elf: bool, length in 0_usize..0x6000) {
        let mut file = if elf { kernel() } else { bzimage(&payload(Compression::Lz4, &kernel())) };
        let headers = if elf { 64 + 2 * 56 } else { 0x600 };
        for (at, value) in flips {
            let at = at % headers.min(file.len());
            file[at] = value;
        }
        file.truncate(length.max(0x40));
        if let Ok(image) = KernelImage::read(&file) {
            let _ = image.code().map(|code| code.bytes.len()).sum::<usize>();
            let _ = image.load(&GuestRam::new(1 << 22).unwrap());
        }
    }
}
