//! Guest RAM: one region from guest-physical address zero, or seen from another address on.

use std::sync::{Arc, atomic::Ordering};

use thiserror::Error;
use tsmsim_simulator::env::{GuestMemory, OutOfRange};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

/// Bytes of a page, the unit of launch and of page states.
pub const PAGE_SIZE: u64 = 4096;

/// The most RAM a guest gets: it has to end below the addresses of the PCI hole, the I/O APIC and the local APIC.
pub const MAX_RAM_SIZE: u64 = 3 << 30;

/// Why guest RAM could not be had.
#[derive(Debug, Error)]
pub enum RamError {
    /// Not a whole number of pages, none at all, or more than [`MAX_RAM_SIZE`].
    #[error("guest RAM of {0:#x} bytes: needs a multiple of 4 KiB between 4 KiB and 3 GiB")]
    Size(u64),
    /// The host has no memory or no address space left for it.
    #[error("guest RAM of {size:#x} bytes could not be mapped: {reason}")]
    Map {
        /// Bytes asked for.
        size: u64,
        /// What the host said.
        reason: String,
    },
}

/// Guest RAM, zeroed when new. Clones name the same memory.
///
/// The guest may write at any time, so every access copies; a caller that checks data and then uses it has to do both
/// on its copy.
#[derive(Clone, Debug)]
pub struct GuestRam {
    region: Arc<GuestRegionMmap>,
    size: u64,
}

impl GuestRam {
    /// Maps `size` bytes of RAM, at guest-physical address zero.
    pub fn new(size: u64) -> Result<Self, RamError> {
        Self::map(size, None)
    }

    fn map(size: u64, file: Option<FileOffset>) -> Result<Self, RamError> {
        let region = GuestRegionMmap::from_range(GuestAddress(0), checked_length(size)?, file);
        let region = region.map_err(|error| RamError::Map { size, reason: error.to_string() })?;
        Ok(Self { region: Arc::new(region), size })
    }

    /// [`Self::new`] in a file that another process can map too; see [`Self::shared_file`]. The file has no name, so it
    /// is gone with the last process that has it.
    #[cfg(unix)]
    pub fn new_shared(size: u64) -> Result<Self, RamError> {
        checked_length(size)?;
        let reason = |error: &dyn std::fmt::Display| RamError::Map { size, reason: error.to_string() };
        let file = nameless_file().map_err(|error| reason(&error))?;
        file.set_len(size).map_err(|error| reason(&error))?;
        Self::map(size, Some(FileOffset::new(file, 0)))
    }

    /// The file that holds this RAM, from its first byte on; `None` unless [`Self::new_shared`] made it.
    #[cfg(unix)]
    pub fn shared_file(&self) -> Option<&std::fs::File> {
        Some(self.region.file_offset()?.file())
    }

    /// Memory that lies behind this RAM in its file, which grows for it if it is not there yet: a process that maps the whole
    /// file has both, one behind the other. `None` unless [`Self::new_shared`] made this RAM.
    #[cfg(unix)]
    pub(crate) fn behind(&self, size: u64) -> Result<Option<Self>, RamError> {
        let Some(file) = self.shared_file() else { return Ok(None) };
        checked_length(size)?;
        let reason = |error: &dyn std::fmt::Display| RamError::Map { size, reason: error.to_string() };
        let end = self.size.saturating_add(size);
        if file.metadata().map_err(|error| reason(&error))?.len() < end {
            file.set_len(end).map_err(|error| reason(&error))?;
        }
        let file = file.try_clone().map_err(|error| reason(&error))?;
        Self::map(size, Some(FileOffset::new(file, self.size))).map(Some)
    }

    /// Reads four bytes at once, before anything that is read later.
    pub(crate) fn load_acquire(&self, gpa: u64) -> Result<u32, OutOfRange> {
        let value = self.region.load(MemoryRegionAddress(gpa), Ordering::Acquire);
        value.map_err(|_| OutOfRange { gpa, len: 4 })
    }

    /// Writes four bytes at once, after everything that was written earlier.
    pub(crate) fn store_release(&self, gpa: u64, value: u32) -> Result<(), OutOfRange> {
        let stored = self.region.store(value, MemoryRegionAddress(gpa), Ordering::Release);
        stored.map_err(|_| OutOfRange { gpa, len: 4 })
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether `length` bytes from `gpa` on lie wholly within RAM.
    pub fn contains(&self, gpa: u64, length: u64) -> bool {
        gpa.checked_add(length).is_some_and(|end| end <= self.size)
    }

    /// Copies out of guest RAM. Fails as a whole, with `buf` untouched, if the range is not RAM.
    pub fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        let len = buf.len();
        self.check(gpa, len)?;
        if buf.is_empty() {
            return Ok(());
        }
        self.region.read_slice(buf, MemoryRegionAddress(gpa)).map_err(|_| OutOfRange { gpa, len })
    }

    /// Copies into guest RAM. Fails as a whole, with RAM untouched, if the range is not RAM.
    pub fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        self.check(gpa, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        self.region
            .write_slice(data, MemoryRegionAddress(gpa))
            .map_err(|_| OutOfRange { gpa, len: data.len() })
    }

    /// Where this process has the first byte of RAM: what a memory slot of a hypervisor is made from.
    ///
    /// The mapping lives as long as any clone of this value.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) fn host_address(&self) -> Result<u64, OutOfRange> {
        let nowhere = OutOfRange { gpa: 0, len: 0 };
        let pointer = self.region.get_host_address(MemoryRegionAddress(0)).map_err(|_| nowhere)?;
        u64::try_from(pointer.addr()).map_err(|_| nowhere)
    }

    fn check(&self, gpa: u64, len: usize) -> Result<(), OutOfRange> {
        let fits = u64::try_from(len).is_ok_and(|length| self.contains(gpa, length));
        if fits { Ok(()) } else { Err(OutOfRange { gpa, len }) }
    }
}

fn checked_length(size: u64) -> Result<usize, RamError> {
    if size == 0 || !size.is_multiple_of(PAGE_SIZE) || size > MAX_RAM_SIZE {
        return Err(RamError::Size(size));
    }
    usize::try_from(size).map_err(|_| RamError::Size(size))
}

/// A new file in memory, or else in the directory for temporary files, that only this process has.
#[cfg(unix)]
fn nameless_file() -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    let name = format!("tsmsim-ram-{:016x}", u64::from_ne_bytes(random));
    let create = |directory: &std::path::Path| {
        let path = directory.join(&name);
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    create(std::path::Path::new("/dev/shm")).or_else(|_: std::io::Error| create(&std::env::temp_dir()))
}

impl GuestMemory for GuestRam {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        Self::read(self, gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        Self::write(self, gpa, data)
    }
}

/// Guest RAM that begins at another guest-physical address than zero, as RISC-V machines have it. Clones name the same
/// memory.
///
/// A [`GuestRam`] knows offsets from its first byte; here addresses are the guest's.
#[derive(Clone, Debug)]
pub struct PlacedRam {
    ram: GuestRam,
    base: u64,
}

impl PlacedRam {
    /// `ram` from guest-physical address `base` on. Fails if it would end beyond the address space.
    pub fn new(ram: GuestRam, base: u64) -> Result<Self, OutOfRange> {
        let out_of_range = OutOfRange { gpa: base, len: usize::MAX };
        base.checked_add(ram.size()).map(|_| Self { ram, base }).ok_or(out_of_range)
    }

    /// The RAM, whose first byte is at offset zero.
    #[must_use]
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Guest-physical addresses of the RAM.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        self.base..self.base.saturating_add(self.ram.size())
    }

    /// Whether `length` bytes from `gpa` on lie wholly within RAM.
    #[must_use]
    pub fn contains(&self, gpa: u64, length: u64) -> bool {
        gpa.checked_sub(self.base).is_some_and(|offset| self.ram.contains(offset, length))
    }

    /// Copies out of guest RAM. Fails as a whole, with `buf` untouched, if the range is not RAM.
    pub fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        let out_of_range = OutOfRange { gpa, len: buf.len() };
        let offset = gpa.checked_sub(self.base).ok_or(out_of_range)?;
        self.ram.read(offset, buf).map_err(|_| out_of_range)
    }

    /// Copies into guest RAM. Fails as a whole, with RAM untouched, if the range is not RAM.
    pub fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let out_of_range = OutOfRange { gpa, len: data.len() };
        let offset = gpa.checked_sub(self.base).ok_or(out_of_range)?;
        self.ram.write(offset, data).map_err(|_| out_of_range)
    }
}

impl GuestMemory for PlacedRam {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        Self::read(self, gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        Self::write(self, gpa, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(0)]
    #[case::not_whole_pages(4097)]
    #[case::too_much(MAX_RAM_SIZE + PAGE_SIZE)]
    #[case::overflowing(u64::MAX)]
    fn size_is_refused(#[case] size: u64) {
        assert!(matches!(GuestRam::new(size), Err(RamError::Size(refused)) if refused == size));
    }

    #[test]
    fn what_was_written_is_read_through_a_clone() {
        let ram = GuestRam::new(2 * PAGE_SIZE).unwrap();
        ram.clone().write(PAGE_SIZE - 2, b"over").unwrap();
        let mut buf = [0; 6];
        ram.read(PAGE_SIZE - 3, &mut buf).unwrap();
        assert_eq!(&buf, b"\0over\0");
    }

    #[cfg(unix)]
    #[test]
    fn shared_ram_is_its_file() {
        use std::os::unix::fs::FileExt as _;
        let ram = GuestRam::new_shared(2 * PAGE_SIZE).unwrap();
        ram.write(PAGE_SIZE, b"here").unwrap();
        let file = ram.shared_file().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 * PAGE_SIZE);
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, PAGE_SIZE).unwrap();
        assert_eq!(&bytes, b"here");
        file.write_all_at(b"back", 0).unwrap();
        ram.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"back");
        assert!(GuestRam::new(PAGE_SIZE).unwrap().shared_file().is_none());
        assert!(GuestRam::new_shared(1).is_err());
    }

    #[rstest]
    #[case::last_byte(PAGE_SIZE - 1, 1, true)]
    #[case::nothing_at_the_end(PAGE_SIZE, 0, true)]
    #[case::nothing_beyond(PAGE_SIZE + 1, 0, false)]
    #[case::one_too_many(PAGE_SIZE - 1, 2, false)]
    #[case::wrapping(u64::MAX, 2, false)]
    #[case::all(0, 4096, true)]
    fn bounds(#[case] gpa: u64, #[case] len: usize, #[case] fits: bool) {
        let ram = GuestRam::new(PAGE_SIZE).unwrap();
        let expected = if fits { Ok(()) } else { Err(OutOfRange { gpa, len }) };
        assert_eq!(ram.read(gpa, &mut vec![0; len]), expected);
        assert_eq!(ram.write(gpa, &vec![1; len]), expected);
        if !fits {
            let mut all = vec![0; 4096];
            ram.read(0, &mut all).unwrap();
            assert!(all.iter().all(|&byte| byte == 0), "a refused write must leave RAM alone");
        }
    }

    #[cfg(unix)]
    #[test]
    fn memory_behind_ram_is_in_its_file() {
        use std::os::unix::fs::FileExt as _;
        assert!(GuestRam::new(PAGE_SIZE).unwrap().behind(PAGE_SIZE).unwrap().is_none());
        let ram = GuestRam::new_shared(PAGE_SIZE).unwrap();
        let behind = ram.behind(PAGE_SIZE).unwrap().unwrap();
        behind.write(0, b"abcd").unwrap();
        assert_eq!(behind.load_acquire(0), Ok(u32::from_le_bytes(*b"abcd")));
        behind.store_release(PAGE_SIZE - 4, 7).unwrap();
        let mut file = [0; 4];
        ram.shared_file().unwrap().read_exact_at(&mut file, PAGE_SIZE).unwrap();
        assert_eq!(&file, b"abcd");
        assert_eq!(ram.behind(PAGE_SIZE).unwrap().unwrap().load_acquire(PAGE_SIZE - 4), Ok(7));
        for outside in [PAGE_SIZE - 3, PAGE_SIZE, u64::MAX] {
            assert!(behind.load_acquire(outside).is_err() && behind.store_release(outside, 1).is_err());
        }
        assert_eq!(ram.load_acquire(0), Ok(0), "RAM itself is as it was");
    }

    #[rstest]
    #[case::first(0x8000_0000, 1, true)]
    #[case::below(0x7fff_ffff, 1, false)]
    #[case::across_the_beginning(0x7fff_ffff, 2, false)]
    #[case::last(0x8000_0ffe, 2, true)]
    #[case::across_the_end(0x8000_0fff, 2, false)]
    #[case::offset_zero(0, 1, false)]
    #[case::wrapping(u64::MAX, 2, false)]
    fn placed_ram_is_found_where_it_is(#[case] gpa: u64, #[case] len: usize, #[case] fits: bool) {
        let ram = PlacedRam::new(GuestRam::new(PAGE_SIZE).unwrap(), 0x8000_0000).unwrap();
        assert_eq!(ram.range(), 0x8000_0000..0x8000_1000);
        let expected = if fits { Ok(()) } else { Err(OutOfRange { gpa, len }) };
        assert_eq!(ram.write(gpa, &vec![7; len]), expected);
        let mut buf = vec![0; len];
        assert_eq!(ram.read(gpa, &mut buf), expected);
        assert_eq!(ram.contains(gpa, u64::try_from(len).unwrap()), fits);
        if fits {
            assert_eq!(buf, vec![7; len]);
            ram.ram().read(gpa - 0x8000_0000, &mut buf).unwrap();
            assert_eq!(buf, vec![7; len], "offsets count from the first byte of RAM");
        }
    }

    #[test]
    fn ram_is_not_placed_beyond_the_address_space() {
        let ram = GuestRam::new(PAGE_SIZE).unwrap();
        assert!(PlacedRam::new(ram.clone(), u64::MAX - PAGE_SIZE + 1).is_err());
        assert!(PlacedRam::new(ram, u64::MAX - PAGE_SIZE).is_ok());
    }

    proptest! {
        #[test]
        fn any_access_is_answered(gpa: u64, len in 0usize..10_000) {
            let ram = GuestRam::new(PAGE_SIZE).unwrap();
            let fits = gpa <= PAGE_SIZE && u64::try_from(len).unwrap() <= PAGE_SIZE - gpa;
            prop_assert_eq!(ram.write(gpa, &vec![7; len]).is_ok(), fits);
            prop_assert_eq!(ram.read(gpa, &mut vec![0; len]).is_ok(), fits);
        }
    }
}
