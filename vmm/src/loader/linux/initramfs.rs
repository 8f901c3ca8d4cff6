//! The archive that the kernel unpacks into its first file system: cpio in the "new ASCII" format
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Times are zero and inode numbers count up, so the same contents always give the same bytes.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tsmsim_abi::linux_guest::{CONFIGURATION, INIT, MODULES, Record};

use super::modules::Module;

/// Most bytes of an archive.
pub const MAX_ARCHIVE: usize = 1 << 30;
/// Most entries of an archive.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes of a path: Linux `PATH_MAX`, with the zero that ends it.
const MAX_PATH: usize = 4095;
/// How deep directories may lie in each other when they are copied in.
const MAX_DEPTH: usize = 32;
/// Types of files, as `stat` has them.
const S_IFDIR: u32 = 0o04_0000;
const S_IFREG: u32 = 0o10_0000;
const S_IFLNK: u32 = 0o12_0000;
const S_IFCHR: u32 = 0o02_0000;
/// The kernel takes an entry only at a multiple of this.
const ALIGNMENT: usize = 4;
/// The name of the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Why there is no archive.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// A file of the host cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path in the guest is no good.
    #[error("{path:?} cannot be a path in the guest: {problem}")]
    Path {
        /// Which.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// Something is neither file nor directory nor symbolic link.
    #[error("{}: only files, directories and symbolic links can be copied into a guest", .0.display())]
    Kind(PathBuf),
    /// Too much.
    #[error("the initial RAM disk would exceed {0}")]
    Limit(&'static str),
    /// A record of the configuration has a zero byte in it.
    #[error("a command, its environment and its directory cannot contain a zero byte")]
    Zero,
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    major: u32,
    minor: u32,
}

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    paths: BTreeSet<Vec<u8>>,
    entries: u32,
}

impl Initramfs {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, unless it is there, and those that it lies in.
    ///
    /// # Errors
    /// [`InitramfsError::Path`], [`InitramfsError::Limit`].
    pub fn directory(&mut self, path: impl AsRef<[u8]>, mode: u32) -> Result<(), InitramfsError> {
        self.new_entry(path.as_ref(), S_IFDIR | mode & 0o7777, &[], None)
    }

    /// Adds a file and the directories that it lies in. A file that is there already is replaced when the kernel unpacks
    /// the archive.
    ///
    /// # Errors
    /// [`InitramfsError::Path`], [`InitramfsError::Limit`].
    pub fn file(&mut self, path: impl AsRef<[u8]>, mode: u32, contents: &[u8]) -> Result<(), InitramfsError> {
        self.new_entry(path.as_ref(), S_IFREG | mode & 0o7777, contents, None)
    }

    /// Adds a symbolic link and the directories that it lies in.
    ///
    /// # Errors
    /// [`InitramfsError::Path`], also for a target that is empty or too long; [`InitramfsError::Limit`].
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: &[u8]) -> Result<(), InitramfsError> {
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return Err(path_error(target, "it is empty, too long or has a zero byte"));
        }
        self.new_entry(path.as_ref(), S_IFLNK | 0o777, target, None)
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// [`InitramfsError::Path`], [`InitramfsError::Limit`].
    pub fn character_device(
        &mut self,
        path: impl AsRef<[u8]>,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), InitramfsError> {
        self.new_entry(path.as_ref(), S_IFCHR | mode & 0o7777, &[], Some(Device { major, minor }))
    }

    /// Copies a file of the host, a symbolic link to one, or a directory with all that is in it; modes are kept, owners
    /// are not: in the guest all belongs to root.
    ///
    /// # Errors
    /// [`InitramfsError`].
    pub fn host(&mut self, host: &Path, guest: impl AsRef<[u8]>) -> Result<(), InitramfsError> {
        let data = fs::metadata(host).map_err(unreadable(host))?;
        self.copy(host, guest.as_ref(), &data, 0)
    }

    fn copy(
        &mut self,
        host: &Path,
        guest: &[u8],
        data: &Metadata,
        depth: usize,
    ) -> Result<(), InitramfsError> {
        let mode = data.permissions().mode();
        if data.is_file() {
            let contents = read(host)?;
            return self.file(guest, mode, &contents);
        }
        if data.is_symlink() {
            let target = fs::read_link(host).map_err(unreadable(host))?;
            return self.symlink(guest, target.as_os_str().as_bytes());
        }
        if !data.is_dir() {
            return Err(InitramfsError::Kind(host.to_path_buf()));
        }
        if depth == MAX_DEPTH {
            return Err(InitramfsError::Limit("32 directories in each other"));
        }
        self.directory(guest, mode)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(host).map_err(unreadable(host))? {
            names.push(entry.map_err(unreadable(host))?.file_name());
        }
        names.sort();
        for name in names {
            let below = host.join(&name);
            let data = fs::symlink_metadata(&below).map_err(unreadable(&below))?;
            self.copy(&below, &[guest, b"/", name.as_bytes()].concat(), &data, depth + 1)?;
        }
        Ok(())
    }

    /// The archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[], None);
        self.bytes
    }

    /// The archive behind one of the user's own, compressed or not: the kernel unpacks both, and files of this one win.
    ///
    /// # Errors
    /// [`InitramfsError::Limit`].
    pub fn finish_behind(self, mut first: Vec<u8>) -> Result<Vec<u8>, InitramfsError> {
        if first.len().saturating_add(self.bytes.len()) > MAX_ARCHIVE {
            return Err(InitramfsError::Limit("1 GiB"));
        }
        first.resize(first.len().next_multiple_of(ALIGNMENT), 0);
        first.extend_from_slice(&self.finish());
        Ok(first)
    }

    fn new_entry(
        &mut self,
        path: &[u8],
        mode: u32,
        contents: &[u8],
        device: Option<Device>,
    ) -> Result<(), InitramfsError> {
        let path = clean(path)?;
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = path.get(..at).unwrap_or_default();
            if self.paths.insert(parent.to_vec()) {
                self.checked_entry(parent, S_IFDIR | 0o755, &[], None)?;
            }
        }
        let is_new = self.paths.insert(path.clone());
        if is_new || mode & S_IFDIR != S_IFDIR || device.is_some() {
            self.checked_entry(&path, mode, contents, device)?;
        }
        Ok(())
    }

    fn checked_entry(
        &mut self,
        path: &[u8],
        mode: u32,
        contents: &[u8],
        device: Option<Device>,
    ) -> Result<(), InitramfsError> {
        // The longest head, the path, and what both are filled up with.
        let length = contents.len().saturating_add(path.len() + 128);
        if self.bytes.len().saturating_add(length) > MAX_ARCHIVE {
            return Err(InitramfsError::Limit("1 GiB"));
        }
        if usize::try_from(self.entries).is_ok_and(|entries| entries >= MAX_ENTRIES) {
            return Err(InitramfsError::Limit("200,000 files"));
        }
        self.entry(path, mode, contents, device);
        Ok(())
    }

    /// A head of 13 numbers of eight hexadecimal digits, the path and a zero, the contents; all filled up to four bytes.
    fn entry(&mut self, path: &[u8], mode: u32, contents: &[u8], device: Option<Device>) {
        self.entries += 1;
        // Checked against MAX_ARCHIVE and MAX_PATH.
        let size = u32::try_from(contents.len()).unwrap_or(0);
        let name = u32::try_from(path.len() + 1).unwrap_or(0);
        let Device { major, minor } = device.unwrap_or(Device { major: 0, minor: 0 });
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        // Inode, mode, owner, group, links, time, size, device, device of the node, length of the name, checksum.
        let head = [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in head {
            self.bytes.extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.fill();
        self.bytes.extend_from_slice(contents);
        self.fill();
    }

    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

fn path_error(path: &[u8], problem: &'static str) -> InitramfsError {
    InitramfsError::Path { path: String::from_utf8_lossy(path).into_owned(), problem }
}

/// A path without the slash in front, without empty parts and dots.
fn clean(path: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let error = |problem| path_error(path, problem);
    let parts: Vec<_> =
        path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.is_empty() {
        return Err(error("it names the root"));
    }
    if parts.contains(&b"..".as_slice()) {
        return Err(error("it has `..` in it"));
    }
    let path = parts.join(&b'/');
    if path.contains(&0) {
        return Err(error("it has a zero byte in it"));
    }
    if path.len() >= MAX_PATH {
        return Err(error("it is too long"));
    }
    if path == TRAILER {
        return Err(error("it is what ends an archive"));
    }
    Ok(path)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> InitramfsError {
    let path = path.to_path_buf();
    move |source| InitramfsError::Unreadable { path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_ARCHIVE).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() > MAX_ARCHIVE { Err(InitramfsError::Limit("1 GiB")) } else { Ok(bytes) }
}

/// A file or directory of the host for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// On the host.
    pub host: PathBuf,
    /// In the guest; all directories that it lies in are made.
    pub guest: PathBuf,
}

/// What the init program is to find.
#[derive(Clone, Debug, Default)]
pub struct GuestFiles<'a> {
    /// The init program, statically linked.
    pub init: &'a [u8],
    /// Modules, in the order in which they are to be loaded.
    pub modules: &'a [Module],
    /// The command and its arguments; empty: the built-in check.
    pub command: &'a [Vec<u8>],
    /// `NAME=VALUE`, for the command.
    pub environment: &'a [Vec<u8>],
    /// Where the command runs.
    pub directory: Option<&'a [u8]>,
    /// Files of the host.
    pub added: &'a [Added],
}

impl GuestFiles<'_> {
    /// The archive: `/init`, the modules, the configuration, what was added.
    ///
    /// # Errors
    /// [`InitramfsError`].
    pub fn archive(&self) -> Result<Initramfs, InitramfsError> {
        let mut archive = Initramfs::new();
        // The kernel opens it for the init program.
        archive.character_device("dev/console", 0o600, (5, 1))?;
        for added in self.added {
            archive.host(&added.host, added.guest.as_os_str().as_bytes())?;
        }
        archive.file(INIT, 0o755, self.init)?;
        let mut configuration = Vec::new();
        for module in self.modules {
            let name = format!("{}.ko", module.name);
            archive.file(format!("{MODULES}/{name}"), 0o644, &module.bytes)?;
            let name = name.as_bytes();
            let record = if module.optional { Record::Optional(name) } else { Record::Module(name) };
            put(&mut configuration, record)?;
        }
        let arguments = self.command.iter().map(|argument| Record::Argument(argument));
        let environment = self.environment.iter().map(|variable| Record::Environment(variable));
        for record in arguments.chain(environment).chain(self.directory.map(Record::Directory)) {
            put(&mut configuration, record)?;
        }
        archive.file(CONFIGURATION, 0o644, &configuration)?;
        Ok(archive)
    }
}

fn put(configuration: &mut Vec<u8>, record: Record<'_>) -> Result<(), InitramfsError> {
    let (name, value) = record.parts();
    if value.contains(&0) {
        return Err(InitramfsError::Zero);
    }
    configuration.extend_from_slice(name.as_bytes());
    configuration.push(b'=');
    configuration.extend_from_slice(value);
    configuration.push(0);
    Ok(())
}

#[cfg(test)]
#[path = "initramfs_tests.rs"]
mod tests;
