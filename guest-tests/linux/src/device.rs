//! Requests to `/dev/sev-guest` and `/dev/tdx_guest` (Linux 6.12, `include/uapi/linux/sev-guest.h` and
//! `include/uapi/linux/tdx-guest.h`).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Bytes of an answer to a report request (`struct snp_report_resp`).
const REPORT_RESPONSE: usize = 4000;
/// Bytes of an answer to a key request (`struct snp_derived_key_resp`).
const KEY_RESPONSE: usize = 64;
/// Most bytes of certificates (`SEV_FW_BLOB_MAX_SIZE`).
const CERTIFICATES: usize = 0x4000;
/// Bytes of a `TDREPORT_STRUCT`.
const TD_REPORT: usize = 1024;

/// `struct snp_report_req`.
#[derive(IntoBytes, FromZeros, Immutable, Clone, Copy)]
#[repr(C)]
struct ReportRequest {
    user_data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
}

/// `struct snp_ext_report_req`.
#[derive(IntoBytes, FromZeros, Immutable, Clone, Copy)]
#[repr(C)]
struct ExtendedReportRequest {
    data: ReportRequest,
    certificates: u64,
    length: u32,
    padding: u32,
}

/// `struct snp_derived_key_req`.
#[derive(IntoBytes, FromZeros, Immutable, Clone, Copy)]
#[repr(C)]
struct KeyRequest {
    root_key_select: u32,
    reserved: u32,
    guest_field_select: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb_version: u64,
}

/// `struct snp_guest_request_ioctl`.
#[derive(IntoBytes, FromZeros, Immutable, Clone, Copy)]
#[repr(C)]
struct GuestRequest {
    message_version: u8,
    padding: [u8; 7],
    request: u64,
    response: u64,
    exit_info_2: u64,
}

const _: () = assert!(size_of::<ReportRequest>() == 96);
const _: () = assert!(size_of::<ExtendedReportRequest>() == 112);
const _: () = assert!(size_of::<KeyRequest>() == 32);
const _: () = assert!(size_of::<GuestRequest>() == 32);

mod raw {
    nix::ioctl_readwrite!(snp_get_report, b'S', 0, super::GuestRequest);
    nix::ioctl_readwrite!(snp_get_derived_key, b'S', 1, super::GuestRequest);
    nix::ioctl_readwrite!(snp_get_ext_report, b'S', 2, super::GuestRequest);
    nix::ioctl_readwrite!(tdx_get_report0, b'T', 1, [u8; 64 + super::TD_REPORT]);
}

/// An open `/dev/sev-guest`.
pub(crate) struct SevGuest(File);

/// One of the three requests.
#[derive(Clone, Copy)]
enum Which {
    Report,
    Key,
    ExtendedReport,
}

impl SevGuest {
    /// Opens the device.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// `SNP_GET_REPORT` at VMPL0: `MSG_REPORT_RSP`, that is status, size and the report.
    pub(crate) fn report(&self, user_data: [u8; 64]) -> io::Result<Vec<u8>> {
        let request = ReportRequest { user_data, ..ReportRequest::new_zeroed() };
        self.request(Which::Report, request.as_bytes(), REPORT_RESPONSE)
    }

    /// `SNP_GET_DERIVED_KEY` with this selection of fields: `MSG_KEY_RSP`, that is status and the key.
    pub(crate) fn derived_key(&self, guest_field_select: u64) -> io::Result<Vec<u8>> {
        let request = KeyRequest { guest_field_select, ..KeyRequest::new_zeroed() };
        self.request(Which::Key, request.as_bytes(), KEY_RESPONSE)
    }

    /// `SNP_GET_EXT_REPORT` at VMPL0: `MSG_REPORT_RSP` and the certificates.
    pub(crate) fn extended_report(&self, user_data: [u8; 64]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut certificates = vec![0; CERTIFICATES];
        let request = ExtendedReportRequest {
            data: ReportRequest { user_data, ..ReportRequest::new_zeroed() },
            certificates: address(certificates.as_mut_ptr()),
            length: 0x4000,
            padding: 0,
        };
        let report = self.request(Which::ExtendedReport, request.as_bytes(), REPORT_RESPONSE)?;
        Ok((report, certificates))
    }

    #[expect(unsafe_code, reason = "the kernel follows addresses in the request")]
    fn request(&self, which: Which, request: &[u8], response: usize) -> io::Result<Vec<u8>> {
        use std::os::fd::AsRawFd;
        let mut response = vec![0; response];
        let mut guest_request = GuestRequest {
            message_version: 1,
            padding: [0; 7],
            request: address(request.as_ptr()),
            response: address(response.as_mut_ptr()),
            exit_info_2: 0,
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the structure lives through the call. The kernel reads as many bytes from `request` as the request's
        // structure has, which is what the callers pass, and writes as many to `response` as it was made with; the
        // certificates' address is that of a buffer of the length given beside it, which the caller keeps alive.
        let result = unsafe {
            match which {
                Which::Report => raw::snp_get_report(fd, &raw mut guest_request),
                Which::Key => raw::snp_get_derived_key(fd, &raw mut guest_request),
                Which::ExtendedReport => raw::snp_get_ext_report(fd, &raw mut guest_request),
            }
        };
        match result {
            Ok(_) => Ok(response),
            Err(error) => {
                let what = guest_request.exit_info_2;
                Err(io::Error::other(format!("{error} (exitinfo2 {what:#x})")))
            }
        }
    }
}

fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

/// `TDX_CMD_GET_REPORT0`: the `TDREPORT_STRUCT` for this data.
#[expect(unsafe_code, reason = "the kernel writes to the request")]
pub(crate) fn td_report(device: &Path, report_data: [u8; 64]) -> io::Result<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let file = OpenOptions::new().read(true).write(true).open(device)?;
    let mut request = [0; 64 + TD_REPORT];
    let (data, _) = request.split_at_mut(64);
    data.copy_from_slice(&report_data);
    // SAFETY: the array lives through the call and has the size that the request's number states.
    unsafe { raw::tdx_get_report0(file.as_raw_fd(), &raw mut request) }?;
    Ok(request.get(64..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_there_is_an_error() {
        assert!(SevGuest::open(Path::new("/no/such/device")).is_err());
        assert!(td_report(Path::new("/dev/null"), [0; 64]).is_err());
        let null = SevGuest::open(Path::new("/dev/null")).unwrap();
        assert!(null.report([0; 64]).is_err());
        assert!(null.derived_key(0).is_err());
        assert!(null.extended_report([0; 64]).is_err());
    }
}
