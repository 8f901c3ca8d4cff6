//! `tdx-guest`: the ioctl of `/dev/tdx_guest`, reports for configfs, measurement registers, and the event log of the boot.

mod measurements;
mod quote;

use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use tsmsim_abi::tdx::{ccel::CcelTable, report::TdReport, status::StatusCode};
use tsmsim_simulator::tdx::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, InProcessTdGuest, TdGuestError},
};
use zerocopy::{FromZeros, IntoBytes};

pub use self::measurements::MeasurementFile;
use super::{
    IoctlOutcome, UserMemory,
    ccel::{self, COMMAND_LINE_MAX, LOG_AREA_SIZE},
    lock,
    time::{Sleeper, SleeperClock},
    uapi::{TDX_CMD_GET_REPORT0, TdxReportReq},
};
use crate::{
    configfs::KernelStyle,
    provider::{Attribute, Blobs, Provider, ReportRequest},
};

/// How the driver behaves where kernels differ, and what there was before the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TdxGuestOptions {
    /// `GET_QUOTE_BUF_SIZE`: the shared buffer, in bytes; whole pages.
    pub quote_buffer_size: usize,
    /// Whether a quote whose status is an error is EIO. Kernels before 7.1 do not look at the status: an error's empty
    /// answer becomes an empty report.
    pub quote_status_checked: bool,
    /// Linux 6.16: measurement registers in sysfs, and EBUSY and ENXIO for what the module says of a TDCALL, where kernels
    /// before have EIO and EINVAL.
    pub measurements: bool,
    /// The command line of the kernel that was booted; `None`: nothing was measured, and there is no CCEL table.
    pub command_line: Option<String>,
}

impl TdxGuestOptions {
    /// Linux 6.7 to 6.15.
    pub const LINUX_6_12: Self = Self {
        quote_buffer_size: 0x2000,
        quote_status_checked: false,
        measurements: false,
        command_line: None,
    };
    /// Linux 6.16 to 7.0.
    pub const LINUX_6_16: Self = Self { measurements: true, ..Self::LINUX_6_12 };
    /// Linux 7.1.
    pub const LINUX_7_1: Self =
        Self { quote_buffer_size: 0x2_0000, quote_status_checked: true, ..Self::LINUX_6_16 };
}

impl Default for TdxGuestOptions {
    fn default() -> Self {
        Self::LINUX_6_12
    }
}

impl From<KernelStyle> for TdxGuestOptions {
    fn from(style: KernelStyle) -> Self {
        match style {
            KernelStyle::V6_7 | KernelStyle::V6_12 => Self::LINUX_6_12,
            KernelStyle::V6_16 => Self::LINUX_6_16,
        }
    }
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum TdxGuestError {
    /// The quote buffer is not whole pages.
    #[error("a quote buffer of {0} bytes is not whole pages")]
    QuoteBuffer(usize),
    /// The command line is longer than [`COMMAND_LINE_MAX`] bytes.
    #[error("a kernel command line has at most {COMMAND_LINE_MAX} bytes, not {0}")]
    CommandLine(usize),
    /// The TD's first memory has no room for quote buffer and log behind its image.
    #[error("the TD has no memory for a quote buffer of {0} bytes and an event log")]
    NoMemory(usize),
    /// The TD failed.
    #[error(transparent)]
    Guest(#[from] TdGuestError),
}

/// The TD with what the driver keeps of it.
struct Td {
    guest: InProcessTdGuest,
    /// `tdx_report_buf`: the last TDREPORT.
    report: Box<TdReport>,
    /// `tm_context.in_sync`: nothing was extended since.
    in_sync: bool,
}

/// The driver. Clones are handles of the same device. Quotes are made one at a time (`quote_lock`); the ioctl and the
/// measurement registers do not wait for them.
#[derive(Clone)]
pub struct TdxGuest {
    td: Arc<Mutex<Td>>,
    quote_lock: Arc<Mutex<()>>,
    sleeper: Arc<dyn Sleeper>,
    options: Arc<TdxGuestOptions>,
    quote_gpa: u64,
    table: Option<CcelTable>,
}

impl TdxGuest {
    /// Boots what the options say, and `tdx_guest_init`. The TD's clock is that of `sleeper` from now on. The last bytes of
    /// its first memory range become the event log and, before it, the quote buffer: no page of the launch may lie there.
    ///
    /// # Errors
    /// [`TdxGuestError`].
    pub fn new(
        mut guest: InProcessTdGuest,
        sleeper: Arc<dyn Sleeper>,
        options: TdxGuestOptions,
    ) -> Result<Self, TdxGuestError> {
        let size = options.quote_buffer_size;
        if size == 0 || !size.is_multiple_of(PAGE_SIZE) {
            return Err(TdxGuestError::QuoteBuffer(size));
        }
        let taken = size.checked_add(LOG_AREA_SIZE).and_then(|taken| u64::try_from(taken).ok());
        let quote_gpa = taken.and_then(|taken| guest.ram_end().checked_sub(taken));
        let quote_gpa =
            quote_gpa.filter(|gpa| *gpa > IMAGE_GPA).ok_or(TdxGuestError::NoMemory(size))? & !0xfff;
        let log_gpa = quote_gpa + size as u64;
        guest.world().clock = Box::new(SleeperClock(Arc::clone(&sleeper)));
        let table = match &options.command_line {
            Some(line) if line.len() > COMMAND_LINE_MAX => {
                return Err(TdxGuestError::CommandLine(line.len()));
            }
            Some(line) => Some(ccel::boot(&mut guest, &ccel::boot_events(line), log_gpa)?),
            None => None,
        };
        guest.world().memory.write(quote_gpa, &vec![0; size]).map_err(TdGuestError::from)?;
        guest.share(quote_gpa, size as u64)?;
        let mut td = Td { guest, report: Box::new(TdReport::new_zeroed()), in_sync: false };
        if options.measurements {
            *td.report = td.guest.report(&[0; 64])?;
        }
        Ok(Self {
            td: Arc::new(Mutex::new(td)),
            quote_lock: Arc::new(Mutex::new(())),
            sleeper,
            options: Arc::new(options),
            quote_gpa,
            table,
        })
    }

    /// The TD below, for its journal and for faults.
    pub fn with_guest<R>(&self, look: impl FnOnce(&mut InProcessTdGuest) -> R) -> R {
        look(&mut lock(&self.td).guest)
    }

    /// `tdx_guest_ioctl` with the structure at an address of the caller's memory.
    ///
    /// # Errors
    /// See [`ioctl`](Self::ioctl); also EFAULT where the structure cannot be read or written.
    pub fn ioctl_at(&self, cmd: u32, arg: u64, user: &mut dyn UserMemory) -> Result<i32, Errno> {
        if cmd != TDX_CMD_GET_REPORT0 {
            return Err(Errno::ENOTTY);
        }
        // Only the report data are read, and only the TDREPORT is written.
        let reportdata = size_of::<TdxReportReq>() - size_of::<TdReport>();
        let mut data = [0; 64];
        user.read(arg, &mut data).map_err(|_| Errno::EFAULT)?;
        let report = self.tdreport(Some(&data))?;
        let tdreport = arg.checked_add(reportdata as u64).ok_or(Errno::EFAULT)?;
        user.write(tdreport, report.as_bytes()).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    /// `tdx_guest_ioctl` over the bytes of a `struct tdx_report_req`.
    ///
    /// # Errors
    /// ENOTTY for an unknown command, EFAULT for a structure that is cut off, else what the module's refusal means.
    pub fn ioctl(&self, cmd: u32, arg: &mut [u8], _: &mut dyn UserMemory) -> IoctlOutcome {
        if cmd != TDX_CMD_GET_REPORT0 {
            return IoctlOutcome::early(Errno::ENOTTY);
        }
        let Some((data, rest)) = arg.split_first_chunk_mut::<64>() else {
            return IoctlOutcome::early(Errno::EFAULT);
        };
        let report = match self.tdreport(Some(data)) {
            Ok(report) => report,
            Err(errno) => return IoctlOutcome::early(errno),
        };
        match report.write_to_prefix(rest) {
            Ok(()) => IoctlOutcome { result: Ok(0), written: true },
            Err(_) => IoctlOutcome::early(Errno::EFAULT),
        }
    }

    /// `tdx_do_report`.
    fn tdreport(&self, data: Option<&[u8; 64]>) -> Result<Box<TdReport>, Errno> {
        let mut td = lock(&self.td);
        self.refresh(&mut td, data)?;
        Ok(td.report.clone())
    }

    /// A new TDREPORT, with these report data or those of the last.
    fn refresh(&self, td: &mut Td, data: Option<&[u8; 64]>) -> Result<(), Errno> {
        let data = *data.unwrap_or(&td.report.report_mac_struct.report_data);
        *td.report = td.guest.report(&data).map_err(|error| self.errno(&error))?;
        Ok(())
    }

    /// `tdx_mcall_get_report0`, `tdx_mcall_extend_rtmr`: what a TDCALL's status becomes.
    fn errno(&self, error: &TdGuestError) -> Errno {
        tracing::warn!(%error, "tdx-guest: a TDCALL failed");
        let TdGuestError::Module(status) = error else { return Errno::EIO };
        match (status.code(), self.options.measurements) {
            (StatusCode::OPERAND_INVALID, true) => Errno::ENXIO,
            (StatusCode::OPERAND_INVALID, false) => Errno::EINVAL,
            (StatusCode::OPERAND_BUSY, true) => Errno::EBUSY,
            _ => Errno::EIO,
        }
    }

    /// The CCEL table: `/sys/firmware/acpi/tables/CCEL`.
    #[must_use]
    pub fn ccel_table(&self) -> Option<[u8; size_of::<CcelTable>()]> {
        self.table.map(|table| zerocopy::transmute!(table))
    }

    /// The log area that the table names, read from the TD's memory: `/sys/firmware/acpi/tables/data/CCEL`.
    #[must_use]
    pub fn ccel_data(&self) -> Option<Vec<u8>> {
        let gpa = self.table?.log_area_start_address.get();
        let mut area = vec![0; LOG_AREA_SIZE];
        lock(&self.td).guest.world().memory.read(gpa, &mut area).ok()?;
        Some(area)
    }
}

impl Provider for TdxGuest {
    fn name(&self) -> &'static str {
        "tdx_guest"
    }

    /// `tdx_report_attr_visible`, `tdx_report_bin_attr_visible`.
    fn is_visible(&self, attribute: Attribute) -> bool {
        matches!(
            attribute,
            Attribute::Generation | Attribute::Provider | Attribute::Inblob | Attribute::Outblob
        )
    }

    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        let outblob = self.quote(&request.inblob)?;
        Ok(Blobs { outblob: Some(outblob), ..Blobs::default() })
    }
}
