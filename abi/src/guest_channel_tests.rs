use proptest::prelude::*;
use rstest::rstest;
use std::{vec, vec::Vec};

use super::*;

type Owned = (u8, u32, Vec<u8>);

fn frame(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME];
    let length = encode(FrameType(kind), sequence, payload, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// Everything that a decoder makes of these pieces: frames, and the number of bytes that belonged to none.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Owned>, usize) {
    let mut decoder = Decoder::default();
    let (mut frames, mut noise) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        loop {
            let before = rest.len();
            rest = decoder.push(rest);
            let mut moved = before != rest.len();
            loop {
                match decoder.next_frame() {
                    Found::Frame(frame) => {
                        frames.push((frame.kind.0, frame.sequence, frame.payload.to_vec()));
                    }
                    Found::Noise(bytes) => noise += bytes,
                    Found::Nothing => break,
                }
                moved = true;
            }
            if rest.is_empty() {
                break;
            }
            assert!(moved, "the decoder is full and finds nothing");
        }
    }
    (frames, noise)
}

#[test]
fn the_checksum_is_that_of_zlib() {
    assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
    assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    assert_eq!(crc32(&[]), 0);
}

#[rstest]
#[case::empty(0, true)]
#[case::longest(MAX_PAYLOAD, true)]
#[case::too_long(MAX_PAYLOAD + 1, false)]
#[case::longer_than_the_field(0x1_0000, false)]
fn lengths(#[case] length: usize, #[case] fits: bool) {
    let payload = vec![7; length];
    let mut buffer = [0; MAX_FRAME];
    let written = encode(FrameType::STDOUT, 3, &payload, &mut buffer);
    if fits {
        let written = written.unwrap();
        assert_eq!(written, HEADER + length + TRAILER);
        assert_eq!(decode([&buffer[..written]]), (vec![(2, 3, payload)], 0));
    } else {
        assert_eq!(written, Err(PayloadTooLong));
    }
}

#[rstest]
#[case::flipped_payload(HEADER + 2)]
#[case::flipped_checksum(HEADER + 5)]
#[case::flipped_kind(4)]
#[case::flipped_reserved(5)]
#[case::flipped_length(6)]
#[case::flipped_magic(0)]
fn a_damaged_frame_costs_itself_alone(#[case] at: usize) {
    let mut bytes = frame(1, 0, b"hello");
    bytes[at] ^= 1;
    let damaged = bytes.len();
    bytes.extend(frame(2, 1, b"there"));
    assert_eq!(decode([&*bytes]), (vec![(2, 1, b"there".to_vec())], damaged));
}

#[test]
fn a_false_length_ends_with_what_it_swallowed() {
    // The length promises more than comes; the frames inside are found once it is given up.
    let mut bytes = frame(1, 0, b"");
    bytes[6..8].copy_from_slice(&4096_u16.to_le_bytes());
    for sequence in 1..400 {
        bytes.extend(frame(2, sequence, b"payload"));
    }
    let (frames, noise) = decode([&*bytes]);
    assert_eq!((frames.len(), noise), (399, HEADER + TRAILER));
}

proptest! {
    #[test]
    fn frames_survive_noise_and_any_cut(
        frames in proptest::collection::vec((any::<u8>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..600)), 0..12),
        // Without the first byte of the magic number, so that no noise looks like a frame's beginning.
        noise in proptest::collection::vec(proptest::collection::vec(0_u8..0xf5, 0..40), 13),
        piece in 1_usize..5000,
    ) {
        let mut bytes = noise[12].clone();
        for ((kind, sequence, payload), noise) in frames.iter().zip(&noise) {
            bytes.extend(frame(*kind, *sequence, payload));
            bytes.extend(noise);
        }
        let expected_noise = noise[12].len() + noise.iter().take(frames.len()).map(Vec::len).sum::<usize>();
        let (found, skipped) = decode(bytes.chunks(piece));
        prop_assert_eq!(found, frames);
        prop_assert_eq!(skipped, expected_noise);
    }

    #[test]
    fn any_bytes_are_answered(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..8)) {
        let total: usize = pieces.iter().map(Vec::len).sum();
        let (frames, noise) = decode(pieces.iter().map(Vec::as_slice));
        prop_assert!(frames.len() * (HEADER + TRAILER) + noise <= total);
    }
}
