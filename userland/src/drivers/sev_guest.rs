//! `sev-guest`: the ioctls of `/dev/sev-guest`, and reports for configfs.

mod request;

use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use tsmsim_abi::snp::{
    cert_table::{CertGuid, CertTableEntry},
    message::MessageType,
    status::FirmwareStatus,
};
use tsmsim_simulator::snp::guest::InProcessGuest;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use self::request::{Failure, Message, Told, handle_guest_request};
use super::{
    IoctlOutcome, TASK_SIZE_MAX, UserMemory, at_address, lock,
    time::{Sleeper, SleeperClock},
    uapi::{
        SNP_DERIVED_KEY_RESP_LEN, SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT, SNP_GET_REPORT,
        SNP_REPORT_RESP_LEN, SnpDerivedKeyReq, SnpExtReportReq, SnpGuestRequestIoctl, SnpReportReq,
    },
};
use crate::{
    configfs::KernelStyle,
    provider::{Attribute, Blobs, Provider, ReportRequest},
};

/// `SEV_FW_BLOB_MAX_SIZE`: the certificate buffer, in bytes.
pub const SEV_FW_BLOB_MAX_SIZE: u32 = 0x4000;

/// `PAGE_SHIFT` of x86.
const PAGE_SHIFT: u32 = 12;
/// `exitinfo2` before anything was sent.
const NOTHING_SENT: u64 = 0xff;
/// What a report's response has before the report: status, size, reserved bytes.
const REPORT_HEADER: usize = 32;
/// The buffer that `sev_report_new` receives a response in.
const REPORT_BUFFER: usize = 4096;

/// How the driver behaves where kernels differ, and its module parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SevGuestOptions {
    /// `vmpck_id`: the VMPCK to talk under, 0 to 3; also the `privlevel_floor`.
    pub vmpck: u8,
    /// Linux 6.14 looks at the VMPCK when a message is about to be sent, and has then nothing to tell in `exitinfo2`. Kernels
    /// before look first, so that a wiped key hides every other mistake of a caller.
    pub late_key_check: bool,
}

impl SevGuestOptions {
    /// Linux 6.7 to 6.13.
    pub const LINUX_6_12: Self = Self { vmpck: 0, late_key_check: false };
    /// Linux 6.14 and later.
    pub const LINUX_6_16: Self = Self { late_key_check: true, ..Self::LINUX_6_12 };
}

impl Default for SevGuestOptions {
    fn default() -> Self {
        Self::LINUX_6_12
    }
}

impl From<KernelStyle> for SevGuestOptions {
    fn from(style: KernelStyle) -> Self {
        match style {
            KernelStyle::V6_7 | KernelStyle::V6_12 => Self::LINUX_6_12,
            KernelStyle::V6_16 => Self::LINUX_6_16,
        }
    }
}

/// The driver. Clones are handles of the same device; one request is made at a time (`snp_cmd_mutex`), and the others wait
/// for it as long as it takes.
#[derive(Clone)]
pub struct SevGuest {
    guest: Arc<Mutex<InProcessGuest>>,
    sleeper: Arc<dyn Sleeper>,
    options: SevGuestOptions,
}

impl SevGuest {
    /// `sev_guest_probe`. The guest's clock is that of `sleeper` from now on.
    ///
    /// # Errors
    /// EINVAL if the VMPCK is empty or there is none of that number; ENOMEM if the guest's certificate buffer is smaller than
    /// [`SEV_FW_BLOB_MAX_SIZE`].
    pub fn new(
        guest: InProcessGuest,
        sleeper: Arc<dyn Sleeper>,
        options: SevGuestOptions,
    ) -> Result<Self, Errno> {
        if options.vmpck > 3 {
            return Err(Errno::EINVAL);
        }
        let mut guest = guest.with_vmpck(options.vmpck);
        guest.message_key().map_err(|_| Errno::EINVAL)?;
        if guest.layout().cert_pages < u64::from(SEV_FW_BLOB_MAX_SIZE >> PAGE_SHIFT) {
            return Err(Errno::ENOMEM);
        }
        guest.world().clock = Box::new(SleeperClock(Arc::clone(&sleeper)));
        Ok(Self { guest: Arc::new(Mutex::new(guest)), sleeper, options })
    }

    /// The guest below, for its journal and for faults. Waits while a request is on its way.
    pub fn with_guest<R>(&self, look: impl FnOnce(&mut InProcessGuest) -> R) -> R {
        look(&mut lock(&self.guest))
    }

    /// `snp_guest_ioctl` with the structure at an address of the caller's memory, whatever the command.
    ///
    /// # Errors
    /// See [`ioctl`](Self::ioctl); also EFAULT where the structure cannot be read or written.
    pub fn ioctl_at(&self, cmd: u32, arg: u64, user: &mut dyn UserMemory) -> Result<i32, Errno> {
        at_address::<{ size_of::<SnpGuestRequestIoctl>() }>(arg, user, |arg, user| self.ioctl(cmd, arg, user))
    }

    /// `snp_guest_ioctl` over the bytes of a `struct snp_guest_request_ioctl`. Linux writes the structure back if
    /// `exitinfo2` is then not zero: not after a success.
    ///
    /// The result may be a positive number: Linux has a code of its own for an exit that the hypervisor refuses to serve,
    /// and forgets to turn it into an error.
    ///
    /// # Errors
    /// | | |
    /// |---|---|
    /// | EFAULT | the structure is cut off, or what it points to cannot be reached |
    /// | EINVAL | version 0, a null pointer, room for certificates that is too large or not whole pages |
    /// | ENOTTY | an unknown command; or the VMPCK was wiped after an earlier failure |
    /// | EIO | host or firmware refused, see `exitinfo2`: `INVALID_LEN` leaves the VMPCK alone, anything else wipes it |
    /// | ETIMEDOUT | the host was busy for 60 s; the VMPCK is wiped |
    /// | EBADMSG | the response cannot be trusted; the VMPCK is wiped |
    pub fn ioctl(&self, cmd: u32, arg: &mut [u8], user: &mut dyn UserMemory) -> IoctlOutcome {
        let Ok((mut input, _)) = SnpGuestRequestIoctl::read_from_prefix(arg) else {
            return IoctlOutcome::early(Errno::EFAULT);
        };
        if input.msg_version == 0 {
            return IoctlOutcome::early(Errno::EINVAL);
        }
        let mut guest = lock(&self.guest);
        if !self.options.late_key_check && guest.message_key().is_err() {
            tracing::warn!("sev-guest: VMPCK is disabled");
            return IoctlOutcome::early(Errno::ENOTTY);
        }
        let mut call = Call {
            guest: &mut guest,
            sleeper: &*self.sleeper,
            options: self.options,
            told: Told { exitinfo2: NOTHING_SENT, cert_pages: 0 },
        };
        let result = match cmd {
            SNP_GET_REPORT => call.get_report(&input, user),
            SNP_GET_DERIVED_KEY => call.get_derived_key(&input, user),
            SNP_GET_EXT_REPORT => call.get_ext_report(&input, user),
            _ => Err(Errno::ENOTTY.into()),
        };
        input.exitinfo2.set(call.told.exitinfo2);
        let written = call.told.exitinfo2 != 0;
        if written {
            // It was read from there.
            let _ = input.write_to_prefix(arg);
        }
        let result = match result {
            Ok(()) => Ok(0),
            Err(Failure::Positive(code)) => Ok(code),
            Err(Failure::Errno(errno)) => Err(errno),
        };
        IoctlOutcome { result, written }
    }
}

/// One call of the driver, with the device locked.
struct Call<'a> {
    guest: &'a mut InProcessGuest,
    sleeper: &'a dyn Sleeper,
    options: SevGuestOptions,
    told: Told,
}

impl Call<'_> {
    /// Sends a message; the response is padded with zeros to `room` bytes, as the driver's buffer is.
    fn send(
        &mut self,
        msg_type: MessageType,
        version: u8,
        payload: &[u8],
        room: usize,
        cert_pages: Option<u32>,
    ) -> Result<Vec<u8>, Failure> {
        if self.options.late_key_check {
            self.told.exitinfo2 = 0;
        }
        let message = Message { msg_type, version, payload, room, cert_pages };
        let mut response = handle_guest_request(self.guest, self.sleeper, &message, &mut self.told)?;
        response.resize(room, 0);
        Ok(response)
    }

    fn get_report(&mut self, input: &SnpGuestRequestIoctl, user: &mut dyn UserMemory) -> Result<(), Failure> {
        let request: SnpReportReq = read_request(input, user)?;
        let (kind, room) = (MessageType::REPORT_REQ, SNP_REPORT_RESP_LEN);
        let response = self.send(kind, input.msg_version, request.as_bytes(), room, None)?;
        copy_out(user, input.resp_data.get(), &response)
    }

    fn get_derived_key(
        &mut self,
        input: &SnpGuestRequestIoctl,
        user: &mut dyn UserMemory,
    ) -> Result<(), Failure> {
        let request: SnpDerivedKeyReq = read_request(input, user)?;
        let (kind, room) = (MessageType::KEY_REQ, SNP_DERIVED_KEY_RESP_LEN);
        let response = self.send(kind, input.msg_version, request.as_bytes(), room, None)?;
        copy_out(user, input.resp_data.get(), &response)
    }

    fn get_ext_report(
        &mut self,
        input: &SnpGuestRequestIoctl,
        user: &mut dyn UserMemory,
    ) -> Result<(), Failure> {
        let mut request: SnpExtReportReq = read_request(input, user)?;
        let (address, len) = (request.certs_address.get(), request.certs_len.get());
        let wanted = address != 0 && len != 0;
        if wanted {
            if len > SEV_FW_BLOB_MAX_SIZE || !len.is_multiple_of(1 << PAGE_SHIFT) {
                return Err(Errno::EINVAL.into());
            }
            // access_ok
            if address.checked_add(len.into()).is_none_or(|end| end > TASK_SIZE_MAX) {
                return Err(Errno::EFAULT.into());
            }
        }
        let room = if wanted { len } else { 0 };
        let result = self.extended(&request.data, input.msg_version, room);
        if self.told.exitinfo2 >> 32 == 1 {
            // `data_npages << PAGE_SHIFT` in 32 bits.
            request.certs_len.set(self.told.cert_pages.wrapping_shl(PAGE_SHIFT));
            copy_out(user, input.req_data.get(), request.as_bytes())?;
        }
        let (response, certificates) = result?;
        if wanted {
            copy_out(user, address, &certificates)?;
        }
        copy_out(user, input.resp_data.get(), &response)
    }

    /// An extended guest request with this much room for certificates, in bytes of whole pages: the response, and the
    /// certificate buffer as the host left it.
    fn extended(
        &mut self,
        request: &SnpReportReq,
        version: u8,
        room: u32,
    ) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let mut certificates = vec![0; usize::try_from(room).unwrap_or_default()];
        let gpa = self.guest.layout().certs_gpa();
        self.guest.world().memory.write(gpa, &certificates).map_err(|_| Errno::EIO)?;
        self.told.cert_pages = room >> PAGE_SHIFT;
        let (pages, payload) = (Some(self.told.cert_pages), request.as_bytes());
        let response = self.send(MessageType::REPORT_REQ, version, payload, SNP_REPORT_RESP_LEN, pages)?;
        self.guest.world().memory.read(gpa, &mut certificates).map_err(|_| Errno::EIO)?;
        Ok((response, certificates))
    }
}

/// The request that the structure points to.
fn read_request<T: FromBytes + IntoBytes>(
    input: &SnpGuestRequestIoctl,
    user: &dyn UserMemory,
) -> Result<T, Failure> {
    if input.req_data.get() == 0 || input.resp_data.get() == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut request = T::new_zeroed();
    user.read(input.req_data.get(), request.as_mut_bytes()).map_err(|_| Errno::EFAULT)?;
    Ok(request)
}

fn copy_out(user: &mut dyn UserMemory, address: u64, data: &[u8]) -> Result<(), Failure> {
    user.write(address, data).map_err(|_| Errno::EFAULT.into())
}

impl Provider for SevGuest {
    fn name(&self) -> &'static str {
        "sev_guest"
    }

    fn privlevel_floor(&self) -> u32 {
        self.options.vmpck.into()
    }

    /// `sev_report_attr_visible`, `sev_report_bin_attr_visible`. Services need an SVSM, and there is none.
    fn is_visible(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Generation
            | Attribute::Provider
            | Attribute::Privlevel
            | Attribute::PrivlevelFloor
            | Attribute::Inblob
            | Attribute::Outblob
            | Attribute::Auxblob => true,
            Attribute::ServiceProvider
            | Attribute::ServiceGuid
            | Attribute::ServiceManifestVersion
            | Attribute::Manifestblob => false,
        }
    }

    /// `sev_report_new`: an extended report. Where the hypervisor refuses to serve the exit, Linux hands on a positive code,
    /// which the core takes for success without a report.
    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        let user_data: [u8; 64] = request.inblob.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
        if request.service_provider.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut guest = lock(&self.guest);
        if guest.message_key().is_err() {
            tracing::warn!("sev-guest: VMPCK is disabled");
            return Err(Errno::ENOTTY);
        }
        let mut call = Call {
            guest: &mut guest,
            sleeper: &*self.sleeper,
            options: self.options,
            told: Told { exitinfo2: NOTHING_SENT, cert_pages: 0 },
        };
        let message =
            SnpReportReq { user_data, vmpl: request.privlevel.into(), ..SnpReportReq::new_zeroed() };
        match call.extended(&message, 1, SEV_FW_BLOB_MAX_SIZE) {
            Ok((mut response, certificates)) => {
                response.resize(REPORT_BUFFER, 0);
                let outblob = Some(report_of(&response)?);
                Ok(Blobs { outblob, auxblob: table_of(certificates), manifestblob: None })
            }
            Err(Failure::Positive(_)) => Ok(Blobs::default()),
            Err(Failure::Errno(errno)) => Err(errno),
        }
    }
}

/// The report of a response, or what its status means.
fn report_of(response: &[u8]) -> Result<Vec<u8>, Errno> {
    let word = |offset: usize| response.get(offset..).and_then(|rest| rest.first_chunk()).copied();
    let status = FirmwareStatus(word(0).map_or(0, u32::from_le_bytes));
    match status {
        FirmwareStatus::SUCCESS => {}
        FirmwareStatus::INVALID_PARAM | FirmwareStatus::INVALID_KEY => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENXIO),
    }
    let size = usize::try_from(word(4).map_or(0, u32::from_le_bytes)).map_err(|_| Errno::ENOMEM)?;
    let end = size.checked_add(REPORT_HEADER).ok_or(Errno::ENOMEM)?;
    response.get(REPORT_HEADER..end).map(<[u8]>::to_vec).ok_or(Errno::ENOMEM)
}

/// As much of the certificate buffer as its entries speak of, in arithmetic of 32 bits; `None` if they speak of nothing. What
/// the entries say is not judged otherwise.
fn table_of(mut certificates: Vec<u8>) -> Option<Vec<u8>> {
    let entries = certificates.chunks_exact(size_of::<CertTableEntry>());
    let size = entries
        .map_while(|entry| CertTableEntry::read_from_bytes(entry).ok())
        .take_while(|entry| entry.guid != CertGuid::END || entry.offset.get() != 0 || entry.length.get() != 0)
        .map(|entry| entry.offset.get().wrapping_add(entry.length.get()))
        .max()
        .filter(|size| *size != 0)?;
    // `truncate` leaves a table alone that would be larger than the buffer.
    certificates.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Some(certificates)
}
