//! GetQuote: a TDREPORT into the shared buffer, a hypercall, and waiting.

use std::time::Duration;

use nix::errno::Errno;
use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION, capacity},
    report::TdReport,
    vmcall::{VmcallStatus, VmcallSubFunction},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Td, TdxGuest};
use crate::drivers::lock;

/// `getquote_timeout`, in seconds.
const TIMEOUT: u32 = 30;
/// `TDX_REPORT_LEN`.
const TDX_REPORT_LEN: u32 = 1024;
const _: () = assert!(size_of::<TdReport>() == 1024);
/// How often the driver looks.
const INTERVAL: Duration = Duration::from_secs(1);

impl TdxGuest {
    /// `tdx_report_new`.
    ///
    /// # Errors
    /// | | |
    /// |---|---|
    /// | EBUSY | the buffer is still the host's, from a request that was given up |
    /// | EINVAL | not 64 bytes |
    /// | EIO | the hypercall failed; or, from 7.1, the status is an error |
    /// | EINTR | the session ended meanwhile |
    /// | ETIMEDOUT | the quote was there at the last look, after 30 s, and not before |
    /// | EFBIG | the host says that the quote is larger than the buffer |
    pub(super) fn quote(&self, inblob: &[u8]) -> Result<Vec<u8>, Errno> {
        let _quote = lock(&self.quote_lock);
        if self.header()?.status.get() == GetQuoteStatus::IN_FLIGHT.0 {
            return Err(Errno::EBUSY);
        }
        let data: &[u8; 64] = inblob.try_into().map_err(|_| Errno::EINVAL)?;
        self.request(data)?;
        self.wait()?;
        let header = self.header()?;
        if self.options.quote_status_checked && header.status.get() != GetQuoteStatus::SUCCESS.0 {
            return Err(Errno::EIO);
        }
        let len = usize::try_from(header.out_len.get()).map_err(|_| Errno::EFBIG)?;
        if len > capacity(self.options.quote_buffer_size) {
            return Err(Errno::EFBIG);
        }
        let mut quote = vec![0; len];
        let gpa = self.quote_gpa + size_of::<GetQuoteHeader>() as u64;
        lock(&self.td).guest.world().memory.read(gpa, &mut quote).map_err(|_| Errno::EIO)?;
        Ok(quote)
    }

    /// The TDREPORT and the hypercall.
    fn request(&self, data: &[u8; 64]) -> Result<(), Errno> {
        let mut td = lock(&self.td);
        self.refresh(&mut td, Some(data))?;
        let header = GetQuoteHeader {
            version: VERSION.into(),
            in_len: TDX_REPORT_LEN.into(),
            ..GetQuoteHeader::new_zeroed()
        };
        let mut buffer = [header.as_bytes(), td.report.as_bytes()].concat();
        buffer.resize(self.options.quote_buffer_size, 0);
        let Td { guest, .. } = &mut *td;
        guest.world().memory.write(self.quote_gpa, &buffer).map_err(|_| Errno::EIO)?;
        let gpa = self.quote_gpa | guest.machine().td().shared_bit();
        match guest.vmcall(VmcallSubFunction::GET_QUOTE, [gpa, buffer.len() as u64]) {
            Ok((VmcallStatus::SUCCESS, _)) => Ok(()),
            refused => {
                tracing::warn!(?refused, "tdx-guest: GetQuote hypercall failed");
                Err(Errno::EIO)
            }
        }
    }

    /// `wait_for_quote_completion`, with its count as it is in C: a quote that is never there runs one past the limit and so
    /// passes for one that is (its length is then zero), and one that comes with the last look is called late.
    fn wait(&self) -> Result<(), Errno> {
        let mut looks = 0;
        while self.header()?.status.get() == GetQuoteStatus::IN_FLIGHT.0 {
            looks += 1;
            if looks > TIMEOUT {
                break;
            }
            self.sleeper.sleep(INTERVAL).map_err(|_| Errno::EINTR)?;
        }
        if looks == TIMEOUT {
            tracing::warn!("tdx-guest: GetQuote request timedout");
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }

    /// The head of the buffer, once the host did what is due.
    fn header(&self) -> Result<GetQuoteHeader, Errno> {
        let mut td = lock(&self.td);
        td.guest.poll();
        let mut header = GetQuoteHeader::new_zeroed();
        td.guest.world().memory.read(self.quote_gpa, header.as_mut_bytes()).map_err(|_| Errno::EIO)?;
        Ok(header)
    }
}
