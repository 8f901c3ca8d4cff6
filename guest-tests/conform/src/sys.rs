//! System calls as the checks need them: an `Errno` for everything, raw pointers where a check wants a bad one.

use std::{
    ffi::{CString, OsStr, OsString},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag},
    libc,
    sys::stat::{FileStat, Mode},
    unistd::UnlinkatFlags,
};

/// What a system call gives.
pub(crate) type Sys<T> = Result<T, Errno>;

/// The most that a blob may hold before reading it counts as endless: `TSM_REPORT_OUTBLOB_MAX` of Linux 6.16 is 16 MiB.
const MOST_BYTES: usize = 17 << 20;

/// `open`; a file that it were to make would get mode 0644.
pub(crate) fn open(path: &Path, flags: OFlag) -> Sys<OwnedFd> {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644))
}

/// `openat`.
pub(crate) fn openat(dir: BorrowedFd<'_>, name: &str, flags: OFlag) -> Sys<OwnedFd> {
    nix::fcntl::openat(dir, name, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// `mkdir` with mode 0755.
pub(crate) fn mkdir(path: &Path) -> Sys<()> {
    nix::unistd::mkdir(path, Mode::from_bits_truncate(0o755))
}

/// `rmdir`.
pub(crate) fn rmdir(path: &Path) -> Sys<()> {
    nix::unistd::unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}

/// `stat` without following a symbolic link.
pub(crate) fn lstat(path: &Path) -> Sys<FileStat> {
    nix::sys::stat::lstat(path)
}

/// `read` into a buffer of `size` bytes.
pub(crate) fn read(fd: impl AsFd, size: usize) -> Sys<Vec<u8>> {
    let mut buffer = vec![0; size];
    let count = nix::unistd::read(fd, &mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// `pread` into a buffer of `size` bytes.
pub(crate) fn pread(fd: impl AsFd, size: usize, offset: i64) -> Sys<Vec<u8>> {
    let mut buffer = vec![0; size];
    let count = nix::sys::uio::pread(fd, &mut buffer, offset)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// `read` in pieces of up to `piece` bytes until the end.
pub(crate) fn read_pieces(fd: impl AsFd, piece: usize) -> Sys<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let more = read(&fd, piece)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
        if all.len() > MOST_BYTES {
            return Err(Errno::EFBIG);
        }
    }
}

/// Opens for reading and reads to the end.
pub(crate) fn read_file(path: &Path) -> Sys<Vec<u8>> {
    read_pieces(open(path, OFlag::O_RDONLY)?, 65_536)
}

/// Opens for writing, makes one `write`, closes.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Sys<usize> {
    let fd = open(path, OFlag::O_WRONLY)?;
    nix::unistd::write(&fd, bytes)
}

/// The names in a directory with what `d_type` says of each; `.` and `..` left out.
pub(crate) fn names(path: &Path) -> Sys<Vec<(OsString, Type)>> {
    entries_of(open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)
}

/// [`names`] of an open directory. `readdir` of the C library would take ENOENT for the end.
pub(crate) fn entries_of(fd: OwnedFd) -> Sys<Vec<(OsString, Type)>> {
    let mut all = Vec::new();
    loop {
        let bytes = getdents(&fd)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        let mut rest = bytes.as_slice();
        while let Some((name, kind, length)) = dirent(rest) {
            if name != b"." && name != b".." {
                all.push((OsString::from_vec(name.to_vec()), kind));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// What `d_type` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    /// DT_DIR.
    Directory,
    /// DT_REG.
    File,
    /// Any other.
    Other(u8),
}

/// `getdents64`.
#[expect(unsafe_code, reason = "the C library has no function for it")]
fn getdents(fd: impl AsFd) -> Sys<Vec<u8>> {
    let mut buffer = vec![0_u8; 32_768];
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let count = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
    buffer.truncate(usize::try_from(Errno::result(count)?).unwrap_or(0));
    Ok(buffer)
}

/// `struct linux_dirent64`: inode number and offset of 8 bytes each, length of 2, type of 1, name with a zero byte.
fn dirent(bytes: &[u8]) -> Option<(&[u8], Type, usize)> {
    let length = usize::from(u16::from_ne_bytes(*bytes.get(16..)?.first_chunk()?));
    let name = bytes.get(19..length)?.split(|byte| *byte == 0).next()?;
    let kind = match *bytes.get(18)? {
        4 => Type::Directory,
        8 => Type::File,
        other => Type::Other(other),
    };
    Some((name, kind, length))
}

/// An address that no process has mapped.
pub(crate) const NOWHERE: usize = 0x10;

/// `read` to an address that is not mapped.
#[expect(unsafe_code, reason = "the system call is made with a pointer on purpose bad")]
pub(crate) fn read_to_nowhere(fd: impl AsFd, size: usize) -> Sys<isize> {
    // SAFETY: the kernel checks the address; nothing is mapped there, so nothing is written.
    Errno::result(unsafe { libc::read(fd.as_fd().as_raw_fd(), NOWHERE as *mut _, size) })
}

/// `write` from an address that is not mapped.
#[expect(unsafe_code, reason = "the system call is made with a pointer on purpose bad")]
pub(crate) fn write_from_nowhere(fd: impl AsFd, size: usize) -> Sys<isize> {
    // SAFETY: the kernel checks the address and reads nothing.
    Errno::result(unsafe { libc::write(fd.as_fd().as_raw_fd(), NOWHERE as *const _, size) })
}

/// `mmap` of one page for reading; unmapped at once if it is given.
#[expect(unsafe_code, reason = "nix has mmap only with a feature that nothing else needs")]
pub(crate) fn mmap(fd: impl AsFd, flags: libc::c_int) -> Sys<()> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, fd.as_fd().as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: exactly the mapping that was just made; no reference to it exists.
    unsafe { libc::munmap(address, 4096) };
    Ok(())
}

/// `ioctl` with a number and the address of a structure, or any address.
#[expect(unsafe_code, reason = "device requests carry an address")]
pub(crate) fn ioctl(fd: impl AsFd, request: u32, address: usize) -> Sys<i32> {
    // SAFETY: the callers pass the address of a live structure of the size that the request states, or one that is not
    // mapped, which the kernel refuses.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as libc::Ioctl, address) })
}

/// `flock`.
#[expect(unsafe_code, reason = "nix's lock owns the file; a check wants to go on using it")]
pub(crate) fn flock(fd: impl AsFd, operation: libc::c_int) -> Sys<i32> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::flock(fd.as_fd().as_raw_fd(), operation) })
}

/// `fcntl(F_SETLK)` of a lock for writing over the whole file.
pub(crate) fn lock_range(fd: impl AsFd) -> Sys<i32> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).map_err(|_| Errno::EINVAL)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETLK(&lock))
}

/// `setxattr` of a short value.
#[expect(unsafe_code, reason = "nix has no extended attributes")]
pub(crate) fn setxattr(path: &Path, name: &str) -> Sys<i32> {
    let path = c_string(path.as_os_str())?;
    let name = c_string(OsStr::new(name))?;
    // SAFETY: both strings end with a zero byte and live through the call; the value is one byte of ours.
    Errno::result(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), b"1".as_ptr().cast(), 1, 0) })
}

/// `sendfile` of up to 64 bytes.
#[expect(unsafe_code, reason = "nix has sendfile only with a feature that nothing else needs")]
pub(crate) fn sendfile(to: impl AsFd, from: impl AsFd) -> Sys<isize> {
    let (to, from) = (to.as_fd().as_raw_fd(), from.as_fd().as_raw_fd());
    // SAFETY: no memory is passed; without an offset the file's own is used.
    Errno::result(unsafe { libc::sendfile(to, from, std::ptr::null_mut(), 64) })
}

/// `renameat`, within whatever the paths name.
pub(crate) fn rename(from: &Path, to: &Path) -> Sys<()> {
    nix::fcntl::renameat(AT_FDCWD, from, AT_FDCWD, to)
}

/// `fork`: the child runs `work` and exits, with 0 if that gave `true`; the parent gets its process id.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork(work: impl FnOnce() -> bool) -> Sys<nix::unistd::Pid> {
    // SAFETY: the child runs `work` and leaves by `_exit`. Forking happens where no other thread of this process holds a
    // lock for long: the C library makes its allocator usable in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends this process; no destructor of the parent's state runs twice.
            unsafe { libc::_exit(i32::from(!matches!(outcome, Ok(true)))) }
        }
    }
}

fn c_string(text: &OsStr) -> Sys<CString> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}
