//! The guest's end of the GHCB protocol: negotiation, page states, exits.

use tsmsim_abi::snp::{
    PAGE_SIZE,
    ghcb::{ExitCode, ExitInfo1, Ghcb, GhcbField, SHARED_BUFFER_OFFSET},
    msr::{GhcbInfo, GhcbMsr, HypervisorFeatures},
    psc::{PscEntryBits, PscOperation},
    rmp::{RMP_PAGE_SIZE_4K, RmpReturn},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{GuestError, InProcessGuest};
use crate::snp::{
    host::{Action, WalkedPage},
    rmp::PageSize,
};

const VCPU: usize = 0;
/// The protocol version that SNP needs.
const PROTOCOL_VERSION: u16 = 2;

impl InProcessGuest {
    /// Agrees on protocol version 2 and SNP, shares and registers the GHCB, then shares the other buffers.
    pub(super) fn negotiate(&mut self) -> Result<(), GuestError> {
        let info =
            self.msr_request(GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST), GhcbInfo::SEV_INFO_RESPONSE)?;
        let (max, min) = (info.0 >> 48, info.0 >> 32 & 0xffff);
        if !(min..=max).contains(&PROTOCOL_VERSION.into()) {
            return Err(GuestError::Protocol("the hypervisor does not speak GHCB protocol version 2"));
        }
        let request = GhcbMsr::request(GhcbInfo::HYPERVISOR_FEATURES_REQUEST);
        let features = self.msr_request(request, GhcbInfo::HYPERVISOR_FEATURES_RESPONSE)?;
        if !HypervisorFeatures::from(features.data()).snp() {
            return Err(GuestError::Protocol("the hypervisor does not offer SNP"));
        }
        let gfn = self.layout.ghcb_gpa() >> 12;
        self.rescind(gfn)?;
        let request = GhcbMsr::page_state_change(gfn, PscOperation::SHARED.0);
        let shared = self.msr_request(request, GhcbInfo::PAGE_STATE_CHANGE_RESPONSE)?;
        if shared.0 >> 32 != 0 {
            return Err(GuestError::Protocol("the hypervisor does not share the GHCB page"));
        }
        let request = GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, gfn);
        if self.msr_request(request, GhcbInfo::REGISTER_GHCB_RESPONSE)?.data() != gfn {
            return Err(GuestError::Protocol("the hypervisor does not take the GHCB"));
        }
        self.share_buffers()
    }

    /// A request of the MSR protocol, and its response.
    fn msr_request(&mut self, request: GhcbMsr, response: GhcbInfo) -> Result<GhcbMsr, GuestError> {
        let msr = self.vmgexit(request)?;
        if msr.info() == response {
            return Ok(msr);
        }
        Err(GuestError::Protocol("the hypervisor does not answer a request of the MSR protocol"))
    }

    fn vmgexit(&mut self, msr: GhcbMsr) -> Result<GhcbMsr, GuestError> {
        let (mut env, devices) = self.world.env();
        let outcome = self.hypervisor.vmgexit(VCPU, msr, &mut env, devices);
        match outcome.action {
            Action::Terminated(_) => Err(GuestError::Terminated),
            _ => Ok(outcome.msr),
        }
    }

    /// Gives up a page that is private, so that it can be shared.
    fn rescind(&mut self, gfn: u64) -> Result<(), GuestError> {
        if !self.layout.buffers_are_private {
            return Ok(());
        }
        let page = WalkedPage { gpa: gfn << 12, c_bit: true, size: PageSize::Size4K };
        let (mut env, _) = self.world.env();
        let outcome = self.hypervisor.pvalidate(page, RMP_PAGE_SIZE_4K, 0, &mut env);
        if outcome.result != RmpReturn::SUCCESS || outcome.carry {
            return Err(GuestError::Protocol("a buffer of the guest is not a validated page"));
        }
        Ok(())
    }

    /// Shares request page, response page and certificate buffer by a page-state-change buffer in the GHCB.
    fn share_buffers(&mut self) -> Result<(), GuestError> {
        let (first, last) = (self.layout.request_gpa() >> 12, (self.layout.end_gpa() >> 12) - 1);
        for gfn in first..=last {
            self.rescind(gfn)?;
        }
        let entries: Vec<u64> = (first..=last)
            .map(|gfn| PscEntryBits::new().with_gfn(gfn).with_operation(PscOperation::SHARED.0).into())
            .collect();
        let end = u64::try_from(entries.len() - 1).unwrap_or(u64::MAX);
        let mut cur = 0;
        // A hypervisor may stop early; one that makes no progress at all is not waited for.
        while cur <= end {
            let header = cur | end << 16;
            let words = [header].into_iter().chain(entries.iter().copied());
            let buffer: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            let ghcb_gpa = self.layout.ghcb_gpa();
            let ghcb = self.ghcb_call(ExitCode::PAGE_STATE_CHANGE, 0, 0, |ghcb| {
                ghcb.shared_buffer[..buffer.len()].copy_from_slice(&buffer);
                ghcb.sw_scratch.set(ghcb_gpa + SHARED_BUFFER_OFFSET);
                ghcb.set_valid(GhcbField::SW_SCRATCH);
            })?;
            let next = u64::from(u16::from_le_bytes([ghcb.shared_buffer[0], ghcb.shared_buffer[1]]));
            if ghcb.sw_exit_info_2.get() != 0 || next <= cur {
                return Err(GuestError::Protocol("the hypervisor does not share the guest's buffers"));
            }
            cur = next;
        }
        Ok(())
    }

    /// A non-automatic exit. Returns the GHCB as the hypervisor left it.
    ///
    /// # Errors
    /// [`GuestError::Hypervisor`] where `SW_EXITINFO1` is not zero.
    pub fn ghcb_call(
        &mut self,
        code: ExitCode,
        info1: u64,
        info2: u64,
        fill: impl FnOnce(&mut Ghcb),
    ) -> Result<Box<Ghcb>, GuestError> {
        let mut ghcb = Box::new(Ghcb::new_zeroed());
        ghcb.protocol_version.set(PROTOCOL_VERSION);
        fill(&mut ghcb);
        ghcb.sw_exit_code.set(code.0);
        ghcb.sw_exit_info_1.set(info1);
        ghcb.sw_exit_info_2.set(info2);
        for field in [GhcbField::SW_EXIT_CODE, GhcbField::SW_EXIT_INFO_1, GhcbField::SW_EXIT_INFO_2] {
            ghcb.set_valid(field);
        }
        let gpa = self.layout.ghcb_gpa();
        self.world.memory.write(gpa, ghcb.as_bytes())?;
        self.vmgexit(GhcbMsr(gpa))?;
        self.world.memory.read(gpa, ghcb.as_mut_bytes())?;
        let (info1, info2) = (ghcb.sw_exit_info_1.get(), ghcb.sw_exit_info_2.get());
        if info1 & 0xffff_ffff != u64::from(ExitInfo1::NO_ACTION.0) {
            return Err(GuestError::Hypervisor { info1, info2 });
        }
        Ok(ghcb)
    }

    /// Copies a page of guest memory.
    pub(super) fn read_page(&self, gpa: u64) -> Result<Box<[u8; PAGE_SIZE]>, GuestError> {
        let mut page = Box::new([0; PAGE_SIZE]);
        self.world.memory.read(gpa, &mut *page)?;
        Ok(page)
    }
}
