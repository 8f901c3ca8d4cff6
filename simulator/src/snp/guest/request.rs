//! Guest requests as Linux's `sev-guest` driver sends them, and typed calls on top.

use tsmsim_abi::snp::{
    PAGE_SIZE,
    cert_table::{CertGuid, entries},
    ghcb::{ExitCode, Ghcb, GhcbField, HostRequestError, guest_request_result},
    message::MessageType,
    pages::{CpuidFunction, SecretsPage},
    payload::{
        CPUID_MAX, CpuidReq, CpuidRsp, KeyReq, KeyRsp, KeySel, ReportReq, ReportReqFlags, ReportRsp,
        TscInfoReq, TscInfoRsp,
    },
    report::AttestationReport,
    status::FirmwareStatus,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};
use zeroize::Zeroizing;

pub use tsmsim_abi::snp::cert_table::CertTableError;

use super::{
    GuestError, InProcessGuest,
    message::{ResponseError, open, seal},
};

/// A report and the certificate table that came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtendedReport {
    /// The report.
    pub report: Box<AttestationReport>,
    /// The certificate buffer, as the host left it; whole pages.
    pub certificates: Vec<u8>,
}

impl ExtendedReport {
    /// The certificates (DER) of the table.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn certificates(&self) -> Result<Vec<(CertGuid, &[u8])>, CertTableError> {
        entries(&self.certificates).collect()
    }
}

/// `SW_EXITINFO2` of a host that wants the same message again.
const BUSY: u64 = guest_request_result(HostRequestError::BUSY, FirmwareStatus::SUCCESS);
/// `SW_EXITINFO2` of a host that needs more certificate pages.
const INVALID_LEN: u64 = guest_request_result(HostRequestError::INVALID_LEN, FirmwareStatus::SUCCESS);

impl InProcessGuest {
    /// `MSG_REPORT_REQ`.
    ///
    /// # Errors
    /// See [`GuestError`].
    pub fn report(
        &mut self,
        report_data: &[u8; 64],
        vmpl: u32,
        key_sel: KeySel,
    ) -> Result<Box<AttestationReport>, GuestError> {
        let request = report_request(report_data, vmpl, key_sel);
        report_of(&self.raw(MessageType::REPORT_REQ, 1, request.as_bytes())?)
    }

    /// `MSG_REPORT_REQ` in an extended guest request that offers `pages` pages for certificates (at most those of the
    /// layout).
    ///
    /// # Errors
    /// [`GuestError::CertificateBufferTooSmall`] if the host needs more; else see [`GuestError`].
    pub fn extended_report(
        &mut self,
        report_data: &[u8; 64],
        vmpl: u32,
        key_sel: KeySel,
        pages: u64,
    ) -> Result<ExtendedReport, GuestError> {
        let pages = pages.min(self.layout.cert_pages);
        let size = usize::try_from(pages).unwrap_or(0) * PAGE_SIZE;
        let mut certificates = vec![0; size];
        self.world.memory.write(self.layout.certs_gpa(), &certificates)?;
        let request = report_request(report_data, vmpl, key_sel);
        let response = self.send(MessageType::REPORT_REQ, 1, request.as_bytes(), Some(pages))?;
        self.world.memory.read(self.layout.certs_gpa(), &mut certificates)?;
        Ok(ExtendedReport { report: report_of(&response)?, certificates })
    }

    /// `MSG_KEY_REQ`, version 1.
    ///
    /// # Errors
    /// See [`GuestError`].
    pub fn derive_key(&mut self, request: &KeyReq) -> Result<Zeroizing<[u8; 32]>, GuestError> {
        let response = Zeroizing::new(self.raw(MessageType::KEY_REQ, 1, request.as_bytes())?);
        let response: KeyRsp = typed(&response, |response: &KeyRsp| response.status.get())?;
        Ok(Zeroizing::new(response.derived_key))
    }

    /// `MSG_CPUID_REQ`: the functions (64 at most; more are left out) as the firmware corrects them, and its status.
    ///
    /// # Errors
    /// See [`GuestError`]; a refusal of the values is not one.
    pub fn cpuid(
        &mut self,
        functions: &[CpuidFunction],
    ) -> Result<(FirmwareStatus, Vec<CpuidFunction>), GuestError> {
        let mut request = CpuidReq::new_zeroed();
        let count = functions.len().min(CPUID_MAX);
        request.functions[..count].copy_from_slice(&functions[..count]);
        request.count.set(u32::try_from(count).unwrap_or(0));
        let response = self.raw(MessageType::CPUID_REQ, 1, request.as_bytes())?;
        let response: CpuidRsp = typed(&response, |_: &CpuidRsp| 0)?;
        Ok((FirmwareStatus(response.status.get()), response.functions[..count].to_vec()))
    }

    /// `MSG_TSC_INFO_REQ`.
    ///
    /// # Errors
    /// See [`GuestError`].
    pub fn tsc_info(&mut self) -> Result<TscInfoRsp, GuestError> {
        let request = TscInfoReq::new_zeroed();
        let response = self.raw(MessageType::TSC_INFO_REQ, 1, request.as_bytes())?;
        typed(&response, |response: &TscInfoRsp| response.status.get())
    }

    /// Any message: payload to payload. The response's `STATUS` is not looked at.
    ///
    /// # Errors
    /// See [`GuestError`].
    pub fn raw(&mut self, msg_type: MessageType, version: u8, payload: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.send(msg_type, version, payload, None)
    }

    /// Sends a message as Linux does: the sequence number goes up by two whatever comes of it, and whatever goes wrong
    /// wipes the VMPCK, so that no sequence number is ever used for two messages.
    fn send(
        &mut self,
        msg_type: MessageType,
        version: u8,
        payload: &[u8],
        cert_pages: Option<u64>,
    ) -> Result<Vec<u8>, GuestError> {
        let key = self.message_key()?;
        let count = self.message_count()?;
        let seqno = count.checked_add(1).filter(|seqno| *seqno < u32::MAX);
        let seqno = seqno.ok_or(GuestError::SequenceNumberExhausted)?;
        self.world.memory.write(self.layout.response_gpa(), &[0; PAGE_SIZE])?;
        let request = seal(&key, self.vmpck, seqno.into(), (msg_type, version), payload)?;
        self.world.memory.write(self.layout.request_gpa(), &*request)?;

        let issued = self.issue(cert_pages);
        self.set_message_count(count.wrapping_add(2))?;
        match issued {
            Ok(()) => {}
            Err(error @ GuestError::CertificateBufferTooSmall { .. }) => return Err(error),
            Err(error) => return self.fail(error),
        }
        let response = self.read_page(self.layout.response_gpa())?;
        match open(&key, &request, &response) {
            Ok(payload) => Ok(payload),
            Err(error) => self.fail(error.into()),
        }
    }

    /// Issues the request, again while the host is busy. Where the certificates do not fit, the same message goes out as a
    /// plain request, so that the firmware sees it and its sequence number is used.
    fn issue(&mut self, cert_pages: Option<u64>) -> Result<(), GuestError> {
        let mut extended = cert_pages;
        let mut needed = None;
        let mut retries = self.busy_retries;
        loop {
            let ghcb = self.guest_request(extended)?;
            match (ghcb.sw_exit_info_2.get(), needed) {
                (0, None) => return Ok(()),
                (0, Some(pages)) => return Err(GuestError::CertificateBufferTooSmall { pages }),
                (BUSY, _) if retries == 0 => return Err(GuestError::Busy),
                (BUSY, _) => retries -= 1,
                (INVALID_LEN, _) if extended.is_some() => {
                    needed = Some(ghcb.rbx.get());
                    extended = None;
                }
                (result, _) => {
                    let [host, firmware] = [result >> 32, result].map(|half| (half & 0xffff_ffff) as u32);
                    let (host, firmware) = (HostRequestError(host), FirmwareStatus(firmware));
                    return Err(GuestError::Request { host, firmware });
                }
            }
        }
    }

    /// One guest request of the message in the request page; an extended one if there are pages for certificates. Returns
    /// the GHCB as the hypervisor left it. Neither sequence number nor VMPCK are touched: what is to become of them is the
    /// caller's matter.
    ///
    /// # Errors
    /// [`GuestError::Hypervisor`] where the exit was not served.
    pub fn guest_request(&mut self, cert_pages: Option<u64>) -> Result<Box<Ghcb>, GuestError> {
        let (request, response) = (self.layout.request_gpa(), self.layout.response_gpa());
        let certs_gpa = self.layout.certs_gpa();
        let code =
            if cert_pages.is_some() { ExitCode::EXTENDED_GUEST_REQUEST } else { ExitCode::GUEST_REQUEST };
        self.ghcb_call(code, request, response, |ghcb| {
            if let Some(pages) = cert_pages {
                ghcb.rax.set(certs_gpa);
                ghcb.rbx.set(pages);
                ghcb.set_valid(GhcbField::RAX);
                ghcb.set_valid(GhcbField::RBX);
            }
        })
    }

    /// Wipes the VMPCK in the secrets page, so that no sequence number is used for a second message under it.
    ///
    /// # Errors
    /// [`GuestError::Memory`].
    pub fn wipe_message_key(&mut self) -> Result<(), GuestError> {
        Ok(self.world.memory.write(self.key_gpa(), &[0; 32])?)
    }

    fn fail<T>(&mut self, error: GuestError) -> Result<T, GuestError> {
        self.wipe_message_key()?;
        Err(error)
    }

    /// The VMPCK in the secrets page.
    ///
    /// # Errors
    /// [`GuestError::KeyDisabled`] if it is zero: wiped.
    pub fn message_key(&self) -> Result<Zeroizing<[u8; 32]>, GuestError> {
        let mut key = Zeroizing::new([0; 32]);
        self.world.memory.read(self.key_gpa(), &mut *key)?;
        if *key == [0; 32] {
            return Err(GuestError::KeyDisabled(self.vmpck));
        }
        Ok(key)
    }

    fn key_gpa(&self) -> u64 {
        let offset = core::mem::offset_of!(SecretsPage, vmpck) as u64;
        self.layout.secrets_gpa + offset + 32 * u64::from(self.vmpck)
    }

    /// Where the secrets page keeps the number of messages under the VMPCK.
    fn count_gpa(&self) -> u64 {
        let offset = core::mem::offset_of!(SecretsPage, os_area.msg_seqno) as u64;
        self.layout.secrets_gpa + offset + 4 * u64::from(self.vmpck)
    }

    /// How many messages there were under the VMPCK, requests and responses, by the secrets page.
    ///
    /// # Errors
    /// [`GuestError::Memory`].
    pub fn message_count(&self) -> Result<u32, GuestError> {
        let mut count = [0; 4];
        self.world.memory.read(self.count_gpa(), &mut count)?;
        Ok(u32::from_le_bytes(count))
    }

    /// Notes in the secrets page how many messages there were under the VMPCK.
    ///
    /// # Errors
    /// [`GuestError::Memory`].
    pub fn set_message_count(&self, count: u32) -> Result<(), GuestError> {
        Ok(self.world.memory.write(self.count_gpa(), &count.to_le_bytes())?)
    }
}

fn report_request(report_data: &[u8; 64], vmpl: u32, key_sel: KeySel) -> ReportReq {
    let mut request = ReportReq::new_zeroed();
    request.report_data = *report_data;
    request.vmpl.set(vmpl);
    request.flags.set(ReportReqFlags::new().with_key_sel(key_sel).into());
    request
}

fn report_of(response: &[u8]) -> Result<Box<AttestationReport>, GuestError> {
    let response: ReportRsp = typed(response, |response: &ReportRsp| response.status.get())?;
    Ok(Box::new(response.report))
}

/// A response as a structure, if its status is success. A refusal may be as short as its status.
fn typed<T: FromBytes + KnownLayout + Immutable>(
    response: &[u8],
    status: impl FnOnce(&T) -> u32,
) -> Result<T, GuestError> {
    match T::read_from_prefix(response) {
        Ok((value, _)) => match FirmwareStatus(status(&value)) {
            FirmwareStatus::SUCCESS => Ok(value),
            status => Err(GuestError::Status(status)),
        },
        Err(_) => match response.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) {
            Some(status) if status != 0 => Err(GuestError::Status(FirmwareStatus(status))),
            _ => Err(ResponseError::Size(response.len()).into()),
        },
    }
}
