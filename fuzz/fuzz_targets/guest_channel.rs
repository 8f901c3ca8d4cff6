//! What a guest sends to its host. The first byte: files are written if bits 1:0 are 01. One step: kind (1), then
//! 0 any bytes: length (2) and bytes; 1 a file's beginning: mode (2), size (2), path: length and bytes; otherwise a frame: type (1),
//! payload: length and bytes. Bit 7 of the kind: a frame is lost before.
#![no_main]

use std::{fs, path::Path, path::PathBuf};

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::guest_channel::{Decoder, FileHeader, Found, FrameType, MAX_FRAME, MAX_PAYLOAD, encode};
use tsmsim_fuzz::{Input, STEPS};
use tsmsim_vmm::guest_channel::{GuestChannel, Limits};
use zerocopy::IntoBytes;

const LIMITS: Limits = Limits { files: 4, bytes: 4096, depth: 3 };

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let writes = input.u8() & 3 == 1;
    let stream = stream(&mut input);
    assert_eq!(frames(&stream, 7), frames(&stream, usize::MAX), "it does not matter how the bytes come");
    let out =
        writes.then(|| std::env::temp_dir().join(format!("tsmsim-fuzz-channel-{}", std::process::id())));
    let mut channel = GuestChannel::new(out.as_deref(), LIMITS);
    let mut said = 0;
    for chunk in stream.chunks(1000) {
        channel.push(chunk, &mut |_| said += 1);
    }
    let report = channel.finish();
    assert!(said <= stream.len() && report.files.len() <= LIMITS.files && report.problems.len() <= 50);
    if let Some(out) = &out {
        let written = files(out);
        assert!(written.len() <= LIMITS.files, "{written:?}");
        assert!(report.files.iter().all(|file| written.contains(&out.join(file))), "{report:?} {written:?}");
        assert!(written.iter().all(|file| report.files.iter().any(|kept| out.join(kept) == *file)));
        if out.exists() {
            fs::remove_dir_all(out).expect("what was written can be removed");
        }
    }
});

/// What the guest sends.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut sequence = 0_u32;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        sequence = sequence.wrapping_add(u32::from(kind >> 7));
        let (kind, payload) = match kind & 3 {
            0 => {
                stream.extend(input.sized());
                continue;
            }
            1 => {
                let header =
                    FileHeader { mode: u32::from(input.u16()).into(), size: u64::from(input.u16()).into() };
                (FrameType::FILE, [header.as_bytes(), input.sized()].concat())
            }
            _ => (FrameType(input.u8()), input.sized().to_vec()),
        };
        let mut buffer = [0; MAX_FRAME];
        let Ok(length) = encode(kind, sequence, &payload, &mut buffer) else {
            assert!(payload.len() > MAX_PAYLOAD);
            continue;
        };
        sequence = sequence.wrapping_add(1);
        stream.extend(&buffer[..length]);
    }
    stream
}

/// The frames in a stream that comes in pieces, and the number of bytes that belong to none.
fn frames(stream: &[u8], piece: usize) -> (Vec<(u8, u32, Vec<u8>)>, usize) {
    let mut decoder = Decoder::default();
    let (mut frames, mut noise) = (Vec::new(), 0);
    for mut rest in stream.chunks(piece.min(stream.len()).max(1)) {
        while !rest.is_empty() {
            rest = decoder.push(rest);
            loop {
                match decoder.next_frame() {
                    Found::Frame(frame) => {
                        frames.push((frame.kind.0, frame.sequence, frame.payload.to_vec()));
                    }
                    Found::Noise(bytes) => noise += bytes,
                    Found::Nothing => break,
                }
            }
        }
    }
    (frames, noise)
}

/// All files below a directory; nothing else lies there but directories.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    let below = |path: PathBuf| {
        let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
        assert!(kind.is_dir() || kind.is_file(), "{}", path.display());
        if kind.is_dir() { files(&path) } else { vec![path] }
    };
    paths.flat_map(below).collect()
}
