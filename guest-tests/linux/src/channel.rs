//! The guest's end of the channel.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{self, ControlFlags, SetArg};
use tsmsim_abi::guest_channel::{ExitStatus, FileHeader, FrameType, MAX_FRAME, MAX_PAYLOAD, encode};
use zerocopy::IntoBytes;

/// A line to the host. Without one, all that is text goes to the console.
pub(crate) struct Channel {
    line: Mutex<Line>,
}

struct Line {
    port: Option<Box<dyn Write + Send>>,
    sequence: u32,
}

impl Channel {
    /// The serial port at this path, which must be there; else the console.
    pub(crate) fn open(path: &str) -> Self {
        let port = serial_port(path);
        if let Err(error) = &port {
            eprintln!("tsmsim: no channel to the host: {path}: {error}");
        }
        Self::new(port.ok().map(|port| Box::new(port) as Box<dyn Write + Send>))
    }

    fn new(port: Option<Box<dyn Write + Send>>) -> Self {
        Self { line: Mutex::new(Line { port, sequence: 0 }) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The init program has begun.
    pub(crate) fn hello(&self) {
        self.line().send(FrameType::HELLO, &[]);
    }

    /// Something to say, for the host and on the console.
    pub(crate) fn log(&self, text: &str) {
        eprintln!("tsmsim: {text}");
        self.output(FrameType::LOG, text.as_bytes());
    }

    /// Bytes of any number, as frames of this type.
    pub(crate) fn output(&self, kind: FrameType, bytes: &[u8]) {
        let mut line = self.line();
        for piece in bytes.chunks(MAX_PAYLOAD) {
            line.send(kind, piece);
        }
    }

    /// A file with contents of a known size; `contents` is read to that size, and filled up with zeros if it is shorter.
    pub(crate) fn file(
        &self,
        path: &[u8],
        header: FileHeader,
        contents: &mut dyn io::Read,
    ) -> io::Result<()> {
        let mut line = self.line();
        line.send(FrameType::FILE, &[header.as_bytes(), path].concat());
        let mut left = header.size.get();
        let mut piece = [0; MAX_PAYLOAD];
        while left > 0 {
            let most = usize::try_from(left).map_or(MAX_PAYLOAD, |left| left.min(MAX_PAYLOAD));
            let place = piece.get_mut(..most).unwrap_or_default();
            match contents.read(place)? {
                0 => {
                    place.fill(0);
                    line.send(FrameType::FILE_DATA, place);
                    left -= u64::try_from(most).unwrap_or(left);
                }
                read => {
                    line.send(FrameType::FILE_DATA, place.get(..read).unwrap_or_default());
                    left -= u64::try_from(read).unwrap_or(left);
                }
            }
        }
        Ok(())
    }

    /// The last frame.
    pub(crate) fn exit(&self, status: u32) {
        let mut line = self.line();
        line.send(FrameType::EXIT, ExitStatus { status: status.into() }.as_bytes());
        line.flush();
        if line.port.is_none() {
            eprintln!("tsmsim: exit status {status}");
        }
    }
}

impl Line {
    fn send(&mut self, kind: FrameType, payload: &[u8]) {
        let Some(port) = &mut self.port else {
            if matches!(kind, FrameType::STDOUT | FrameType::STDERR) {
                // The console is all there is, and nobody to tell if it fails.
                let _gone = io::stdout().write_all(payload);
            }
            return;
        };
        let mut frame = [0; MAX_FRAME];
        let Ok(length) = encode(kind, self.sequence, payload, &mut frame) else {
            return;
        };
        self.sequence = self.sequence.wrapping_add(1);
        if let Err(error) = port.write_all(frame.get(..length).unwrap_or_default()) {
            eprintln!("tsmsim: the channel to the host is gone: {error}");
            self.port = None;
        }
    }

    /// Waits until all is out.
    fn flush(&mut self) {
        if let Some(Err(error)) = self.port.as_mut().map(Write::flush) {
            eprintln!("tsmsim: the channel to the host is gone: {error}");
        }
    }
}

/// A serial port that changes nothing of what goes through, and waits until all is out when it is flushed.
struct SerialPort(File);

fn serial_port(path: &str) -> io::Result<SerialPort> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // Fails with EIO where the driver found no such port.
    let mut settings = termios::tcgetattr(&file)?;
    termios::cfmakeraw(&mut settings);
    // Linux has the speed among the flags. The C library's function for it is one of those whose versions a static program cannot
    // name on every processor.
    settings.control_flags.remove(ControlFlags::CBAUD);
    settings.control_flags.insert(ControlFlags::from_bits_retain(nix::libc::B115200));
    termios::tcsetattr(&file, SetArg::TCSANOW, &settings)?;
    Ok(SerialPort(file))
}

impl Write for SerialPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(termios::tcdrain(self.0.as_fd())?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use tsmsim_abi::guest_channel::{Decoder, Found};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What goes through a channel, as type, sequence number and payload.
    pub(crate) fn sent(talk: impl FnOnce(&Channel)) -> Vec<(FrameType, u32, Vec<u8>)> {
        let kept = Kept::default();
        talk(&Channel::new(Some(Box::new(kept.clone()))));
        let bytes = kept.0.lock().unwrap().clone();
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(MAX_FRAME) {
            assert!(decoder.push(piece).is_empty());
            loop {
                match decoder.next_frame() {
                    Found::Frame(frame) => frames.push((frame.kind, frame.sequence, frame.payload.to_vec())),
                    Found::Noise(bytes) => panic!("{bytes} bytes of noise"),
                    Found::Nothing => break,
                }
            }
        }
        frames
    }

    #[test]
    fn long_output_is_cut_and_numbered() {
        let text = vec![b'x'; MAX_PAYLOAD + 1];
        let frames = sent(|channel| {
            channel.hello();
            channel.output(FrameType::STDOUT, &text);
            channel.exit(3);
        });
        let shapes: Vec<_> = frames.iter().map(|(kind, number, data)| (*kind, *number, data.len())).collect();
        assert_eq!(
            shapes,
            [
                (FrameType::HELLO, 0, 0),
                (FrameType::STDOUT, 1, MAX_PAYLOAD),
                (FrameType::STDOUT, 2, 1),
                (FrameType::EXIT, 3, 4)
            ]
        );
        assert_eq!(frames[3].2, [3, 0, 0, 0]);
    }

    #[test]
    fn a_file_that_shrinks_is_filled_up() {
        let header = FileHeader { mode: 0o644.into(), size: 10.into() };
        let frames = sent(|channel| channel.file(b"a", header, &mut &b"12345"[..]).unwrap());
        let data: Vec<u8> = frames[1..].iter().flat_map(|(_, _, data)| data.clone()).collect();
        assert_eq!(data, b"12345\0\0\0\0\0");
        assert_eq!(frames[0].2, [&[0xa4, 1, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0], &b"a"[..]].concat());
    }
}
