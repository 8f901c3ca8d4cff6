use std::io::Write;

use lzma_rust2::{LzmaOptions, LzmaWriter, XzOptions, XzWriter, filter::FilterType};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Compresses as the kernel's build does.
pub(in crate::loader::linux) fn compress(format: Compression, data: &[u8]) -> Vec<u8> {
    match format {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => {
            ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
        }
        Compression::Xz => {
            let mut options = XzOptions::with_preset(1);
            // Kernels for x86 are filtered so that calls of one function look alike.
            options.prepend_pre_filter(FilterType::BcjX86, 0);
            let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut out = LZ4_MAGIC.to_vec();
            for block in data.chunks(LZ4_BLOCK) {
                let block = lz4_flex::block::compress(block);
                out.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
                out.extend(block);
            }
            out
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lzma => {
            let options = LzmaOptions::with_preset(1);
            let mut encoder = LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Something that compresses, but not to nothing, with calls in it.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let byte = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if at % 16 < 5 { [0xe8, 0x10, 0x20, 0, 0][at % 16] } else { state.to_le_bytes()[3] & 0x0f }
    };
    (0..length).map(byte).collect()
}

#[rstest]
fn what_goes_in_comes_out(
    #[values(
        Compression::Gzip,
        Compression::Zstd,
        Compression::Xz,
        Compression::Lz4,
        Compression::Bzip2,
        Compression::Lzma
    )]
    format: Compression,
    #[values(0, 1, 300_000)] length: usize,
) {
    let data = sample(length);
    let packed = compress(format, &data);
    assert_eq!(Compression::of(&packed), Some(format));
    assert_eq!(format.decompress(&packed, length).unwrap(), data);
    if length > 0 {
        let name = format.name();
        let too_large = DecompressError::TooLarge { format: name, limit: length - 1 };
        assert_eq!(format.decompress(&packed, length - 1), Err(too_large));
    }
    if format != Compression::Lz4 {
        let followed = [&packed[..], b"more"].concat();
        assert_eq!(format.decompress(&followed, length).unwrap(), data, "what follows is not looked at");
    }
}

#[rstest]
fn damage_is_found(
    #[values(
        Compression::Gzip,
        Compression::Zstd,
        Compression::Xz,
        Compression::Lz4,
        Compression::Bzip2,
        Compression::Lzma
    )]
    format: Compression,
    #[values(1, 2, 4, 7)] eighths: usize,
) {
    let data = sample(40_000);
    let packed = compress(format, &data);
    let cut = &packed[..packed.len() * eighths / 8];
    let error = format.decompress(cut, data.len()).unwrap_err();
    assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
    assert!(error.to_string().starts_with(format.name()));
}

#[rstest]
fn a_bomb_stops_at_the_limit(
    #[values(
        Compression::Gzip,
        Compression::Zstd,
        Compression::Xz,
        Compression::Lz4,
        Compression::Bzip2,
        Compression::Lzma
    )]
    format: Compression,
) {
    let packed = compress(format, &vec![0; 24 << 20]);
    assert!(packed.len() < 1 << 20);
    let error = format.decompress(&packed, 1 << 20).unwrap_err();
    assert_eq!(error, DecompressError::TooLarge { format: format.name(), limit: 1 << 20 });
}

#[rstest]
// LZMA: properties, a dictionary of 4 GiB, an unknown size.
#[case::lzma_dictionary(Compression::Lzma, &[0x5d, 0xff, 0xff, 0xff, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0])]
// zstd: no single segment, a window of 2^41 bytes.
#[case::zstd_window(Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0])]
// LZ4: a block of 4 GiB.
#[case::lz4_block(Compression::Lz4, &[0x02, 0x21, 0x4c, 0x18, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])]
fn greedy_headers_are_refused(#[case] format: Compression, #[case] bytes: &[u8]) {
    let error = format.decompress(bytes, 1 << 20).unwrap_err();
    assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
}

#[rstest]
#[case::nothing(b"")]
#[case::elf(b"\x7fELF")]
// LZO is not a format that is known here.
#[case::lzo(&[0x89, b'L', b'Z', b'O'])]
#[case::half_a_magic(&[0xfd, b'7', b'z'])]
fn other_formats(#[case] bytes: &[u8]) {
    assert_eq!(Compression::of(bytes), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_answered(which in 0_usize..6, tail: Vec<u8>, flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4)) {
        let (magic, format) = MAGICS[which];
        let _ = format.decompress(&[magic, &tail].concat(), 1 << 16);
        let mut packed = compress(format, &sample(5000));
        for (at, bit) in flips {
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
        }
        if let Ok(out) = format.decompress(&packed, 1 << 16) {
            prop_assert!(out.len() <= 1 << 16);
        }
    }
}
