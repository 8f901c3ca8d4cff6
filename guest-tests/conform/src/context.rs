//! What is under test, and entries to test it with.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write as _,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::{
    outcome::{Outcome, equal, failed, gives, ok, skipped},
    sys::{self, Sys},
};

/// Who makes the reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Provider {
    /// `sev_guest`.
    Snp,
    /// `tdx_guest`.
    Tdx,
    /// `cove_guest`: not in Linux, but a module of this project.
    Cove,
    /// Another one, by its name.
    Other(String),
}

/// Which generation of the kernel's interface is expected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Style {
    /// Linux 6.7 to 6.10: no services.
    V6_7,
    /// Linux 6.11 to 6.15: services under an SVSM.
    V6_12,
    /// Linux 6.16 and later: measurement registers of TDX in sysfs.
    V6_16,
}

/// What is under test.
pub(crate) struct Context {
    /// The directory of the entries.
    pub(crate) report: PathBuf,
    /// Who makes the reports.
    pub(crate) provider: Provider,
    /// Which generation of the interface is expected.
    pub(crate) style: Style,
    /// The provider's device file, if it has one.
    pub(crate) device: Option<PathBuf>,
    /// How many threads race.
    pub(crate) threads: u32,
    /// Whether checks may take minutes.
    pub(crate) slow: bool,
    /// Whether measurement registers may be extended.
    pub(crate) extend: bool,
    /// Whether the directory is on FUSE.
    pub(crate) fuse: bool,
    /// Whether entries have the attributes of a service provider.
    pub(crate) service: bool,
    /// Where the names of entries are told to the process that tidies up.
    pub(crate) told: Mutex<Option<File>>,
    /// What is done to a new entry; tests make files there.
    #[cfg(test)]
    pub(crate) furnish: Option<fn(&Path)>,
}

/// Makes names and nonces differ within a process.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Context {
    /// The provider's device file; where it has none, no file.
    pub(crate) fn device(&self) -> &Path {
        self.device.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// Tells the name of an entry of this check, so that it goes away whatever happens.
    pub(crate) fn tell(&self, name: &OsStr) {
        let mut frame = vec![b'n'];
        frame.extend(u32::try_from(name.len()).unwrap_or(0).to_le_bytes());
        frame.extend(name.as_bytes());
        if let Some(pipe) = self.told.lock().ok().as_mut().and_then(|told| told.as_mut()) {
            // If the other end is gone, so is whoever would tidy up.
            let _gone = pipe.write_all(&frame);
        }
    }

    /// A name that no other entry has; told.
    pub(crate) fn fresh(&self, suffix: &[u8]) -> OsString {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("tsmsim-conform.{}.{number}", process::id()).into_bytes();
        name.extend(suffix);
        let name = OsStr::from_bytes(&name).to_owned();
        self.tell(&name);
        name
    }

    /// A new entry.
    pub(crate) fn entry(&self) -> Outcome<Entry> {
        self.named(&self.fresh(b""))
    }

    /// A new entry of this name, told once it is there: if the name is taken, it is somebody else's.
    pub(crate) fn named(&self, name: &OsStr) -> Outcome<Entry> {
        let path = self.report.join(name);
        ok(format!("mkdir {}", path.display()), sys::mkdir(&path))?;
        self.tell(name);
        #[cfg(test)]
        if let Some(furnish) = self.furnish {
            furnish(&path);
        }
        Ok(Entry { path, gone: AtomicBool::new(false) })
    }

    /// What the report carries of `inblob`: SNP has it at 0x50 of the report; TDX in the quote's body, which begins
    /// after a header of 48 bytes and, from version 5 on, six bytes of type and size; CoVE as the challenge of the TVM token.
    pub(crate) fn report_data(&self, outblob: &[u8]) -> Outcome<[u8; 64]> {
        let offset = match (&self.provider, outblob.first()) {
            (Provider::Snp, _) => 0x50,
            (Provider::Tdx, Some(4)) => 48 + 520,
            (Provider::Tdx, Some(5)) => 48 + 6 + 520,
            (Provider::Tdx, version) => {
                return failed("outblob", "a quote of version 4 or 5", format!("version {version:?}"));
            }
            (Provider::Cove, _) => return challenge(outblob),
            (Provider::Other(name), _) => {
                return skipped(format!("where reports of {name} have inblob is not known here"));
            }
        };
        match outblob.get(offset..).and_then(|rest| rest.first_chunk()) {
            Some(data) => Ok(*data),
            None => failed(
                "outblob",
                format!("at least {} bytes", offset + 64),
                format!("{} bytes", outblob.len()),
            ),
        }
    }
}

/// The challenge of CoVE evidence of either format. In CBOR's deterministic order it is the first claim of the TVM token: its
/// label, 10, is the only one that is not negative.
fn challenge(outblob: &[u8]) -> Outcome<[u8; 64]> {
    // Tag 61, a map of three to six claims, label 10, a byte string of 64.
    let starts = |bytes: &&[u8]| matches!(bytes, [0xd8, 0x3d, 0xa3..=0xa6, 0x0a, 0x58, 0x40, ..]);
    let token = (0..outblob.len()).filter_map(|start| outblob.get(start..)).find(starts);
    match token.and_then(|token| token.get(6..)).and_then(|rest| rest.first_chunk()) {
        Some(challenge) => Ok(*challenge),
        None => failed("outblob", "a TVM token with a challenge", format!("{} bytes without", outblob.len())),
    }
}

/// An entry; removed when it goes out of scope.
pub(crate) struct Entry {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// Whether it was removed: another entry may have its name by then.
    gone: AtomicBool,
}

impl Entry {
    /// The path of an attribute.
    pub(crate) fn at(&self, attribute: &str) -> PathBuf {
        self.path.join(attribute)
    }

    /// Opens an attribute.
    pub(crate) fn open(&self, attribute: &str, flags: OFlag) -> Sys<OwnedFd> {
        sys::open(&self.at(attribute), flags)
    }

    /// Opens an attribute for writing, which is to succeed.
    pub(crate) fn writer(&self, attribute: &str) -> Outcome<OwnedFd> {
        ok(format!("open {attribute} for writing"), self.open(attribute, OFlag::O_WRONLY))
    }

    /// Opens an attribute for reading, which is to succeed.
    pub(crate) fn reader(&self, attribute: &str) -> Outcome<OwnedFd> {
        ok(format!("open {attribute} for reading"), self.open(attribute, OFlag::O_RDONLY))
    }

    /// Opens, reads to the end, closes.
    pub(crate) fn read(&self, attribute: &str) -> Sys<Vec<u8>> {
        sys::read_file(&self.at(attribute))
    }

    /// Opens, writes once, closes.
    pub(crate) fn write(&self, attribute: &str, bytes: &[u8]) -> Sys<usize> {
        sys::write_file(&self.at(attribute), bytes)
    }

    /// Writes `inblob`, which is to take all of it.
    pub(crate) fn inblob(&self, bytes: &[u8]) -> Outcome {
        gives(format!("write {} bytes of inblob", bytes.len()), self.write("inblob", bytes), bytes.len())
    }

    /// Reads `outblob`, which is to succeed and not to be empty.
    pub(crate) fn outblob(&self) -> Outcome<Vec<u8>> {
        let report = ok("read outblob", self.read("outblob"))?;
        if report.is_empty() { failed("outblob", "some bytes", "none") } else { Ok(report) }
    }

    /// The number in a text attribute.
    pub(crate) fn number(&self, attribute: &str) -> Outcome<u64> {
        let bytes = ok(format!("read {attribute}"), self.read(attribute))?;
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_suffix('\n').and_then(|digits| digits.parse().ok()) {
            Some(number) => Ok(number),
            None => failed(attribute, "a decimal number and a newline", format!("{text:?}")),
        }
    }

    /// The number in `generation`.
    pub(crate) fn generation(&self) -> Outcome<u64> {
        self.number("generation")
    }

    /// `generation` is to be this.
    pub(crate) fn generation_is(&self, when: &str, expected: u64) -> Outcome {
        equal(format!("generation {when}"), self.generation()?, expected)
    }

    /// `outblob` is to carry this as the caller's data.
    pub(crate) fn carries(&self, context: &Context, inblob: &[u8]) -> Outcome {
        let data = context.report_data(&self.outblob()?)?;
        equal("the caller's data in outblob", hex(&data), hex(inblob))
    }

    /// Removes it, which is to succeed.
    pub(crate) fn remove(&self) -> Outcome {
        ok("rmdir of the entry", self.rmdir())
    }

    /// Removes it.
    pub(crate) fn rmdir(&self) -> Sys<()> {
        #[cfg(test)]
        unfurnish(&self.path);
        let removed = sys::rmdir(&self.path);
        if removed.is_ok() {
            self.gone.store(true, Ordering::Relaxed);
        }
        removed
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.gone.load(Ordering::Relaxed) {
            // If this fails, whoever was told the name tries again.
            let _left: Result<(), Errno> = self.rmdir();
        }
    }
}

/// A directory that imitates an entry on an ordinary file system cannot be removed while files are in it.
#[cfg(test)]
pub(crate) fn unfurnish(path: &Path) {
    for file in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let _other: std::io::Result<()> = std::fs::remove_file(file.path());
    }
}

/// 64 bytes that nobody else writes; `salt` makes them predictable within a process.
pub(crate) fn nonce_of(base: u64, salt: u64) -> [u8; 64] {
    let mut state = base ^ salt.wrapping_mul(0xd134_2543_de82_ef95);
    let mut bytes = [0; 64];
    for chunk in bytes.chunks_exact_mut(8) {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}

/// A number that differs from run to run.
pub(crate) fn seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ (u64::from(since.subsec_nanos()) << 32) ^ (u64::from(process::id()) << 12)
}

/// 64 bytes that nobody else writes.
pub(crate) fn nonce() -> [u8; 64] {
    nonce_of(seed(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Bytes in hexadecimal, for messages.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `write` on an open file, which is to take all of it.
pub(crate) fn write_all(what: &str, fd: BorrowedFd<'_>, bytes: &[u8]) -> Outcome {
    gives(format!("write {what}"), nix::unistd::write(fd, bytes), bytes.len())
}
