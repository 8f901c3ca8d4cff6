//! Device files: ioctls of `/dev/sev-guest` and `/dev/tdx_guest`.
//!
//! # Why FUSE
//! Two ways lead an ioctl of an unmodified program here without a kernel module: a FUSE file, or a seccomp filter that
//! notifies a supervisor of every ioctl. FUSE was chosen:
//!
//! - The kernel copies the argument in and out by the size that the command's number states (`_IOC_SIZE`), as a driver
//!   would, also when the ioctl fails. Only the requests and responses that `SNP_GET_*` point to are copied by
//!   `process_vm_readv` and `process_vm_writev`, while the caller waits for the answer and so cannot be replaced by
//!   another process with its number.
//! - A filter costs every system call of every descendant, cannot be taken off, forces `no_new_privs` on ordinary users,
//!   and a program that installs a notifying filter itself (container runtimes do) is refused.
//! - The supervisor of a filter would have to find out which file a descriptor number stands for at that moment; here
//!   the kernel knows.
//!
//! What it costs: `stat` calls the device a regular file, since FUSE cannot serve character devices.

use std::io::{IoSlice, IoSliceMut};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev},
    unistd::Pid,
};

use super::{server::Shared, tree::Entry};
use crate::drivers::{
    IoctlOutcome, UserMemory, sev_guest::SevGuest, tdx_guest::TdxGuest, uapi::SnpGuestRequestIoctl,
};

/// What answers the ioctls of a device file.
pub trait Device: Send + Sync {
    /// An ioctl whose argument is a structure, which the caller's kernel copied in.
    fn ioctl(&self, command: u32, argument: &mut [u8], memory: &mut dyn UserMemory) -> IoctlOutcome;
}

impl Device for SevGuest {
    fn ioctl(&self, command: u32, argument: &mut [u8], memory: &mut dyn UserMemory) -> IoctlOutcome {
        Self::ioctl(self, command, argument, memory)
    }
}

impl Device for TdxGuest {
    fn ioctl(&self, command: u32, argument: &mut [u8], memory: &mut dyn UserMemory) -> IoctlOutcome {
        Self::ioctl(self, command, argument, memory)
    }
}

/// What an ioctl of a node of the tree returns, and the argument as it goes back to the caller.
pub(super) fn answer(
    shared: &Shared,
    number: usize,
    caller: Pid,
    command: u32,
    mut argument: Vec<u8>,
) -> Result<(i32, Vec<u8>), Errno> {
    /// `_IOC_WRITE` and `_IOC_READ` in their place: programs and drivers exchange a structure.
    const BOTH_WAYS: u32 = 0xc000_0000;
    let Entry::Device(device, _) = shared.entry(number)? else { return Err(Errno::ENOTTY) };
    // All commands of the drivers are of this kind. Of others FUSE copies less than the drivers read before they find
    // that they do not know the command.
    if command & BOTH_WAYS != BOTH_WAYS || argument.len() < size_of::<SnpGuestRequestIoctl>() {
        return Err(Errno::ENOTTY);
    }
    let outcome = device.ioctl(command, &mut argument, &mut ProcessMemory(caller));
    if !outcome.written {
        argument.clear();
    }
    Ok((outcome.result.unwrap_or_else(|error| -(error as i32)), argument))
}

/// Memory of a process, or of a thread's process.
pub(super) struct ProcessMemory(pub(super) Pid);

impl ProcessMemory {
    /// All bytes were copied, or the caller is to see `EFAULT`, as from `copy_from_user`.
    fn all(&self, copied: Result<usize, Errno>, len: usize) -> Result<(), Errno> {
        match copied {
            Ok(copied) if copied == len => Ok(()),
            Ok(_) | Err(Errno::EFAULT) => Err(Errno::EFAULT),
            Err(errno) => {
                tracing::warn!(
                    "memory of process {} cannot be reached: {}; CAP_SYS_PTRACE helps if it runs as another user",
                    self.0,
                    errno.desc()
                );
                Err(Errno::EFAULT)
            }
        }
    }
}

fn remote(address: u64, len: usize) -> Result<[RemoteIoVec; 1], Errno> {
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    Ok([RemoteIoVec { base, len }])
}

impl UserMemory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let len = buffer.len();
        let copied = process_vm_readv(self.0, &mut [IoSliceMut::new(buffer)], &remote(address, len)?);
        self.all(copied, len)
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let copied = process_vm_writev(self.0, &[IoSlice::new(data)], &remote(address, data.len())?);
        self.all(copied, data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_this_process_is_reached() {
        let mut memory = ProcessMemory(Pid::this());
        let (source, mut target) = ([1_u8, 2, 3], [0_u8; 3]);
        assert_eq!(memory.read(source.as_ptr().addr() as u64, &mut target), Ok(()));
        assert_eq!(target, source);
        let address = target.as_mut_ptr().addr() as u64;
        assert_eq!(memory.write(address, &[9, 8, 7]), Ok(()));
        assert_eq!(std::hint::black_box(&mut target), &[9, 8, 7]);
    }

    #[test]
    fn wild_addresses_are_bad_addresses() {
        let mut memory = ProcessMemory(Pid::this());
        for address in [0, 1, u64::MAX, u64::MAX - 4095, 1 << 63] {
            assert_eq!(memory.read(address, &mut [0; 16]), Err(Errno::EFAULT), "{address:#x}");
            assert_eq!(memory.write(address, &[0; 16]), Err(Errno::EFAULT), "{address:#x}");
        }
        let nobody = ProcessMemory(Pid::from_raw(i32::MAX));
        assert_eq!(nobody.read(4096, &mut [0; 1]), Err(Errno::EFAULT));
    }
}
