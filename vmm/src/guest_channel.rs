//! The host's end of a Linux guest's channel: output, files, exit status ([`tsmsim_abi::guest_channel`]).
//!
//! All of it comes from the guest, so it is bounded, and files are written only below the directory that the caller names:
//! paths go downwards, directories on the way are real ones, and a file comes under its name only when it is complete, by
//! renaming, which follows no symbolic link.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tsmsim_abi::guest_channel::{Decoder, ExitStatus, FileHeader, Found, Frame, FrameType, MAX_PATH};
use zerocopy::FromBytes;

/// What a guest may send at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Files.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Directories in each other, the file's own name among them.
    pub depth: usize,
}

impl Default for Limits {
    /// 10,000 files of 256 MiB together, 16 deep.
    fn default() -> Self {
        Self { files: 10_000, bytes: 256 << 20, depth: 16 }
    }
}

/// Most problems that are kept; there may be any number.
const MAX_PROBLEMS: usize = 50;

/// What a guest said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said<'a> {
    /// The init program has begun.
    Hello,
    /// The command's standard output.
    Stdout(&'a [u8]),
    /// The command's standard error output.
    Stderr(&'a [u8]),
    /// The init program's own words.
    Log(&'a [u8]),
    /// The command's exit status; 128 and more: a signal.
    Exit(u32),
}

/// What came of it all.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ChannelReport {
    /// Whether the init program has begun.
    pub hello: bool,
    /// The command's exit status; `None`: the guest never came to its end.
    pub status: Option<u32>,
    /// The files that were written, relative to the directory, in the order in which they came.
    pub files: Vec<PathBuf>,
    /// What went wrong: lost bytes, files that were not written and why. At most 50 are kept.
    pub problems: Vec<String>,
}

/// A file that is being received.
struct Receiving {
    path: PathBuf,
    mode: u32,
    left: u64,
    part: PathBuf,
    file: File,
}

/// Receives what a guest sends.
pub struct GuestChannel {
    decoder: Decoder,
    next: u32,
    noise: u64,
    out: Option<PathBuf>,
    limits: Limits,
    files: usize,
    bytes: u64,
    receiving: Option<Receiving>,
    report: ChannelReport,
}

impl GuestChannel {
    /// A channel whose files go below `out`, a directory that is made when the first file comes; without one, files are
    /// passed over.
    #[must_use]
    pub fn new(out: Option<&Path>, limits: Limits) -> Self {
        Self {
            decoder: Decoder::default(),
            next: 0,
            noise: 0,
            out: out.map(Path::to_path_buf),
            limits,
            files: 0,
            bytes: 0,
            receiving: None,
            report: ChannelReport::default(),
        }
    }

    /// Takes in what came over the line; `listener` hears what is neither a file nor noise.
    pub fn push(&mut self, bytes: &[u8], listener: &mut dyn FnMut(Said<'_>)) {
        let mut rest = bytes;
        loop {
            rest = self.decoder.push(rest);
            // The decoder lends a frame out while the rest of this is changed.
            let mut decoder = std::mem::take(&mut self.decoder);
            loop {
                match decoder.next_frame() {
                    Found::Frame(frame) => self.frame(&frame, listener),
                    Found::Noise(bytes) => self.noise += u64::try_from(bytes).unwrap_or(0),
                    Found::Nothing => break,
                }
            }
            self.decoder = decoder;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The exit status, once it is known: nothing follows it.
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        self.report.status
    }

    /// What came of it all; a file that is not complete is given up.
    #[must_use]
    pub fn finish(mut self) -> ChannelReport {
        self.give_up("the guest ended before all of it came");
        if self.noise > 0 {
            let text = format!("{} bytes on the channel belonged to no frame", self.noise);
            self.problem(text);
        }
        std::mem::take(&mut self.report)
    }

    fn problem(&mut self, text: String) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(text);
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, listener: &mut dyn FnMut(Said<'_>)) {
        if frame.sequence != self.next {
            let text = format!("frame {} came where {} was expected", frame.sequence, self.next);
            self.problem(text);
            self.give_up("part of it was lost");
        }
        self.next = frame.sequence.wrapping_add(1);
        match frame.kind {
            FrameType::HELLO => {
                self.report.hello = true;
                listener(Said::Hello);
            }
            FrameType::STDOUT => listener(Said::Stdout(frame.payload)),
            FrameType::STDERR => listener(Said::Stderr(frame.payload)),
            FrameType::LOG => listener(Said::Log(frame.payload)),
            FrameType::FILE => self.begin(frame.payload),
            FrameType::FILE_DATA => self.data(frame.payload),
            FrameType::EXIT => {
                if let Ok((exit, _)) = ExitStatus::read_from_prefix(frame.payload) {
                    self.report.status = Some(exit.status.get());
                    listener(Said::Exit(exit.status.get()));
                }
            }
            kind => self.problem(format!("a frame of unknown type {kind}")),
        }
    }

    fn begin(&mut self, payload: &[u8]) {
        self.give_up("another one began before it was complete");
        let Ok((header, path)) = FileHeader::read_from_prefix(payload) else {
            return self.problem("a file without a header".to_owned());
        };
        let Some(out) = self.out.clone() else {
            return;
        };
        match self.open(&out, &header, path) {
            Ok(receiving) => {
                self.files += 1;
                self.bytes += receiving.left;
                let done = receiving.left == 0;
                self.receiving = Some(receiving);
                if done {
                    self.complete();
                }
            }
            Err(problem) => {
                let text = format!("file {:?} was not written: {problem}", String::from_utf8_lossy(path));
                self.problem(text);
            }
        }
    }

    fn open(&self, out: &Path, header: &FileHeader, path: &[u8]) -> Result<Receiving, String> {
        let relative = relative(path, self.limits.depth)?;
        if self.files >= self.limits.files {
            return Err(format!("more than {} files", self.limits.files));
        }
        let left = header.size.get();
        if left > self.limits.bytes.saturating_sub(self.bytes) {
            return Err(format!("more than {} bytes of files", self.limits.bytes));
        }
        let text = |error: io::Error| error.to_string();
        fs::create_dir_all(out).map_err(text)?;
        make_directories(out, relative.parent().unwrap_or(Path::new("")))?;
        // The number makes the name differ from that of another run that was cut short.
        let name = format!(".tsmsim-part-{}-{}", std::process::id(), self.files);
        let part = out.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(text)?;
        // Its owner can always read and write it; nobody else can write it, whatever the guest says.
        let mode = header.mode.get() & 0o755 | 0o600;
        Ok(Receiving { path: relative, mode, left, part, file })
    }

    fn data(&mut self, payload: &[u8]) {
        let Some(receiving) = &mut self.receiving else {
            // Of a file that was refused, or given up; that has been told.
            return;
        };
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let Some(left) = receiving.left.checked_sub(length) else {
            return self.give_up("more came than was announced");
        };
        receiving.left = left;
        match receiving.file.write_all(payload) {
            Err(error) => self.give_up(&error.to_string()),
            Ok(()) if left == 0 => self.complete(),
            Ok(()) => {}
        }
    }

    /// The file under its name.
    fn complete(&mut self) {
        let (Some(receiving), Some(out)) = (&self.receiving, &self.out) else {
            return;
        };
        let permissions = Permissions::from_mode(receiving.mode);
        let renamed = receiving
            .file
            .set_permissions(permissions)
            .and_then(|()| fs::rename(&receiving.part, out.join(&receiving.path)));
        match renamed {
            Ok(()) => self.report.files.extend(self.receiving.take().map(|receiving| receiving.path)),
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    fn give_up(&mut self, why: &str) {
        if let Some(receiving) = self.receiving.take() {
            let removed = fs::remove_file(&receiving.part);
            let mut text = format!("file {:?} was not written: {why}", receiving.path.display());
            if let Err(error) = removed {
                text += &format!("; {} is left: {error}", receiving.part.display());
            }
            self.problem(text);
        }
    }
}

impl Drop for GuestChannel {
    fn drop(&mut self) {
        self.give_up("the channel was closed");
    }
}

/// The path, if it goes nowhere but down.
fn relative(path: &[u8], depth: usize) -> Result<PathBuf, String> {
    let parts: Vec<_> = path.split(|&byte| byte == b'/').collect();
    let bad = |part: &&[u8]| matches!(*part, b"" | b"." | b"..") || part.contains(&0) || part.len() > 255;
    if parts.iter().any(bad) {
        return Err("its path has empty parts, dots, zeros or too long names".to_owned());
    }
    if path.len() > MAX_PATH || parts.len() > depth {
        return Err("its path is too long".to_owned());
    }
    Ok(parts.iter().map(|part| std::ffi::OsStr::from_bytes(part)).collect())
}

/// Makes the directories of a path below `out`; one that is there has to be a directory, not a link to one.
fn make_directories(out: &Path, below: &Path) -> Result<(), String> {
    let mut directory = out.to_path_buf();
    for part in below {
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => continue,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.to_string()),
        }
        if !fs::symlink_metadata(&directory).is_ok_and(|data| data.is_dir()) {
            return Err(format!("{} is no directory", directory.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "guest_channel_tests.rs"]
mod tests;
