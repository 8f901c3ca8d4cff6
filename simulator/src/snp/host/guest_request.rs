//! Guest requests, plain and extended (56421 rev. 2.04, sections 4.1.7 and 4.1.8).

use tsmsim_abi::snp::{
    PAGE_SIZE,
    cert_table::CertTableEntry,
    ghcb::{GhcbField, HostRequestError, MalformedInput, guest_request_result},
    message::{MessageHeader, MessageType},
    status::FirmwareStatus,
};

use super::{
    Hypervisor,
    exit::{Exit, Refusal, Reply},
};
use crate::{
    fault::{FaultAction, FaultPoint, apply, consult},
    snp::launch::Page,
};

impl Hypervisor {
    /// `SW_EXITINFO1` is the request page, `SW_EXITINFO2` the response page; `SW_EXITINFO2` becomes the host's error and
    /// the firmware's status ([`guest_request_result`]).
    pub(super) fn guest_request(&mut self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let mut request = self.request_page(exit)?;
        let fault = consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_GUEST_REQUEST);
        self.forward(exit, &mut request, fault)
    }

    /// The same, and where the message asks for a report the certificate table goes to the pages at RAX, of which there
    /// are RBX. Too few: [`HostRequestError::INVALID_LEN`], RBX is what is needed, and the firmware is not called.
    pub(super) fn extended_guest_request(&mut self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let mut request = self.request_page(exit)?;
        let is_report = request[core::mem::offset_of!(MessageHeader, msg_type)] == MessageType::REPORT_REQ.0;
        let table = if is_report { self.certificates(exit)? } else { Certificates::None };
        if let Certificates::Answer(reply) = table {
            return Ok(reply);
        }
        let fault = consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_GUEST_REQUEST);
        if let (Certificates::Write { gpa, table }, None | Some(FaultAction::Drop)) = (&table, &fault) {
            exit.env.memory.write(*gpa, table).map_err(|_| MalformedInput::INVALID_INPUT)?;
        }
        self.forward(exit, &mut request, fault)
    }

    /// Checks both pages and copies the request.
    fn request_page(&self, exit: &mut Exit<'_, '_>) -> Result<Box<Page>, Refusal> {
        let (request, response) = (exit.info1(), exit.info2());
        let aligned = [request, response].iter().all(|gpa| gpa.is_multiple_of(PAGE_SIZE as u64));
        if !aligned || request == response {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        if !self.reachable(request, PAGE_SIZE, exit.env) || !self.reachable(response, PAGE_SIZE, exit.env) {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        let mut page = Box::new([0; PAGE_SIZE]);
        exit.env.memory.read(request, &mut *page).map_err(|_| MalformedInput::INVALID_INPUT)?;
        Ok(page)
    }

    /// Hands the request to the firmware. The response page is written only if the firmware made a response.
    fn forward(
        &mut self,
        exit: &mut Exit<'_, '_>,
        request: &mut Page,
        fault: Option<FaultAction>,
    ) -> Result<Reply, Refusal> {
        match &fault {
            Some(FaultAction::Status(result)) => return Ok(Reply::info2(*result)),
            Some(FaultAction::Drop) | None => {}
            Some(action) => {
                apply(exit.env.journal, FaultPoint::GHCB_GUEST_REQUEST, action, request);
            }
        }
        let response = exit.info2();
        let status = match self.firmware.snp_guest_request(exit.env, self.gctx_paddr, request) {
            Ok(_) if fault == Some(FaultAction::Drop) => FirmwareStatus::SUCCESS,
            Ok(page) => {
                exit.env.memory.write(response, &*page).map_err(|_| MalformedInput::INVALID_INPUT)?;
                FirmwareStatus::SUCCESS
            }
            Err(status) => status,
        };
        Ok(Reply::info2(guest_request_result(HostRequestError::NONE, status)))
    }

    /// What to do about certificates. A host that has none gives the closing entry, if there is room for anything.
    fn certificates(&self, exit: &mut Exit<'_, '_>) -> Result<Certificates, Refusal> {
        if !exit.ghcb.is_valid(GhcbField::RAX) || !exit.ghcb.is_valid(GhcbField::RBX) {
            return Err(MalformedInput::MISSING_INPUT.into());
        }
        let (gpa, pages) = (exit.ghcb.rax.get(), exit.ghcb.rbx.get());
        if !gpa.is_multiple_of(PAGE_SIZE as u64) {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        let mut table = self.config.certificates.clone();
        let needed = table.len().div_ceil(PAGE_SIZE) as u64;
        if pages < needed {
            let result = guest_request_result(HostRequestError::INVALID_LEN, FirmwareStatus::SUCCESS);
            return Ok(Certificates::Answer(Reply::info2(result).with(GhcbField::RBX, needed)));
        }
        if pages == 0 {
            return Ok(Certificates::None);
        }
        if table.is_empty() {
            table.resize(size_of::<CertTableEntry>(), 0);
        }
        if !self.reachable(gpa, table.len(), exit.env) {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        match consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_CERTIFICATES) {
            Some(FaultAction::Status(result)) => return Ok(Certificates::Answer(Reply::info2(result))),
            Some(FaultAction::Drop) => return Ok(Certificates::None),
            Some(action) => {
                apply(exit.env.journal, FaultPoint::GHCB_CERTIFICATES, &action, &mut table);
            }
            None => {}
        }
        Ok(Certificates::Write { gpa, table })
    }
}

enum Certificates {
    /// There is nothing to write.
    None,
    /// The table goes there, once it is clear that the request is to be done.
    Write { gpa: u64, table: Vec<u8> },
    /// The request is answered without being done.
    Answer(Reply),
}

#[cfg(test)]
#[path = "guest_request_tests.rs"]
mod tests;
