//! Measurement registers as files: `tsm-mr.c` over the table `tdx_mrs` of `tdx-guest.c` (Linux 6.16), below
//! `/sys/devices/virtual/misc/tdx_guest/measurements`.

use nix::errno::Errno;
use tsmsim_abi::tdx::report::{Measurement, NUM_RTMRS};
use zerocopy::IntoBytes;

use super::{Td, TdxGuest};
use crate::drivers::lock;

/// A register's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeasurementFile {
    /// Name.
    pub name: &'static str,
    /// Permission bits. Opening a file without write bits for writing is EINVAL (kernfs), for root too.
    pub mode: u32,
    /// Size, in bytes.
    pub size: u64,
}

const SIZE: usize = size_of::<Measurement>();

const fn file(name: &'static str, mode: u32) -> MeasurementFile {
    MeasurementFile { name, mode, size: SIZE as u64 }
}

/// `tdx_mrs`, in its order. The first four are live and can be extended.
const FILES: [MeasurementFile; 8] = [
    file("rtmr0:sha384", 0o644),
    file("rtmr1:sha384", 0o644),
    file("rtmr2:sha384", 0o644),
    file("rtmr3:sha384", 0o644),
    file("mrtd:sha384", 0o444),
    file("mrconfigid", 0o444),
    file("mrowner", 0o444),
    file("mrownerconfig", 0o444),
];

/// The register's value in the last TDREPORT.
fn value(td: &Td, index: usize) -> &Measurement {
    let info = &td.report.td_info;
    match index {
        0..NUM_RTMRS => &info.rtmr[index],
        4 => &info.mr_td,
        5 => &info.mr_config_id,
        6 => &info.mr_owner,
        _ => &info.mr_owner_config,
    }
}

impl TdxGuest {
    /// The files of the directory `measurements`. None: the kernel has no such directory.
    #[must_use]
    pub fn measurements(&self) -> &'static [MeasurementFile] {
        if self.options.measurements { &FILES } else { &[] }
    }

    /// Reads a register's file (its place in [`measurements`](Self::measurements)); nothing at its end. An RTMR is read from
    /// a new TDREPORT if anything was extended since the last.
    ///
    /// # Errors
    /// ENOENT: there is no such file. EIO, ENXIO, EBUSY: TDG.MR.REPORT failed.
    pub fn read_measurement(&self, index: usize, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.measurements().get(index).ok_or(Errno::ENOENT)?;
        let start = usize::try_from(offset).unwrap_or(SIZE).min(SIZE);
        let end = start.saturating_add(len).min(SIZE);
        if start == end {
            return Ok(Vec::new());
        }
        let mut td = lock(&self.td);
        if index < NUM_RTMRS && !td.in_sync {
            self.refresh(&mut td, None)?;
            td.in_sync = true;
        }
        Ok(value(&td, index).as_bytes()[start..end].to_vec())
    }

    /// Writes to a register's file: extends an RTMR. Returns how much was taken; sysfs takes no more than the file's size.
    ///
    /// # Errors
    /// ENOENT: there is no such file. EFBIG: behind its end. EINVAL: a part of a value. EIO: the register cannot be written;
    /// or, with ENXIO and EBUSY, TDG.MR.RTMR.EXTEND failed.
    pub fn write_measurement(&self, index: usize, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.measurements().get(index).ok_or(Errno::ENOENT)?;
        if offset >= SIZE as u64 {
            return Err(Errno::EFBIG);
        }
        if data.is_empty() {
            return Ok(0);
        }
        if index >= NUM_RTMRS {
            return Err(Errno::EIO);
        }
        let digest = data.first_chunk::<SIZE>().filter(|_| offset == 0).ok_or(Errno::EINVAL)?;
        let mut td = lock(&self.td);
        td.guest.extend_rtmr(index as u64, digest).map_err(|error| self.errno(&error))?;
        td.in_sync = false;
        Ok(SIZE)
    }
}
