//! Non-automatic exits: what a guest asks through the GHCB page (56421, section 4).

use tsmsim_abi::snp::{
    ghcb::{ExitCode, ExitInfo1, Ghcb, GhcbField, MalformedInput},
    msr::PROTOCOL_MAX,
};
use zerocopy::FromZeros;

use super::{
    arch::{memory::GuestPage, user},
    tap::{Check, equal},
};

/// An exit to be made: the GHCB page as the guest fills it in.
pub(super) struct Exit(pub(super) Ghcb);

impl Exit {
    /// With its code and operands, all three marked valid.
    pub(super) fn new(code: ExitCode, info1: u64, info2: u64) -> Self {
        let mut ghcb = Ghcb::new_zeroed();
        ghcb.protocol_version.set(PROTOCOL_MAX);
        ghcb.sw_exit_code.set(code.0);
        ghcb.sw_exit_info_1.set(info1);
        ghcb.sw_exit_info_2.set(info2);
        ghcb.set_valid(GhcbField::SW_EXIT_CODE);
        ghcb.set_valid(GhcbField::SW_EXIT_INFO_1);
        ghcb.set_valid(GhcbField::SW_EXIT_INFO_2);
        Self(ghcb)
    }

    /// With RAX.
    pub(super) fn rax(mut self, value: u64) -> Self {
        self.0.rax.set(value);
        self.0.set_valid(GhcbField::RAX);
        self
    }

    /// With RBX.
    pub(super) fn rbx(mut self, value: u64) -> Self {
        self.0.rbx.set(value);
        self.0.set_valid(GhcbField::RBX);
        self
    }

    /// With RCX.
    pub(super) fn rcx(mut self, value: u64) -> Self {
        self.0.rcx.set(value);
        self.0.set_valid(GhcbField::RCX);
        self
    }

    /// With RDX.
    pub(super) fn rdx(mut self, value: u64) -> Self {
        self.0.rdx.set(value);
        self.0.set_valid(GhcbField::RDX);
        self
    }

    /// With `SW_SCRATCH`.
    pub(super) fn scratch(mut self, gpa: u64) -> Self {
        self.0.sw_scratch.set(gpa);
        self.0.set_valid(GhcbField::SW_SCRATCH);
        self
    }

    /// With a field's mark in the valid bitmap taken away.
    pub(super) fn without(mut self, field: GhcbField) -> Self {
        let bit = field.offset() / 8;
        self.0.valid_bitmap[bit / 8] &= !(1 << (bit % 8));
        self
    }

    /// Makes the exit through this page.
    pub(super) fn run(self, page: GuestPage) -> Answer {
        page.write(0, &self.0);
        user::vmgexit(page.gpa());
        Answer(page.read(0))
    }
}

/// The GHCB page as the hypervisor left it.
pub(super) struct Answer(pub(super) Ghcb);

impl Answer {
    /// `SW_EXITINFO1`, low half.
    pub(super) fn info1(&self) -> ExitInfo1 {
        ExitInfo1((self.0.sw_exit_info_1.get() & 0xffff_ffff) as u32)
    }

    /// `SW_EXITINFO2`.
    pub(super) fn info2(&self) -> u64 {
        self.0.sw_exit_info_2.get()
    }

    /// The exit was served.
    pub(super) fn served(self) -> Check<Self> {
        let served = (ExitInfo1::NO_ACTION, 0);
        let found = (self.info1(), if self.info1() == ExitInfo1::NO_ACTION { 0 } else { self.info2() });
        equal("SW_EXITINFO1, 2", found, served)?;
        Ok(self)
    }

    /// The exit was refused for this reason.
    pub(super) fn malformed(&self, reason: MalformedInput) -> Check {
        equal("SW_EXITINFO1", self.info1(), ExitInfo1::MALFORMED_INPUT)?;
        equal("SW_EXITINFO2", MalformedInput(self.info2()), reason)
    }

    /// The guest is to raise this exception.
    pub(super) fn exception(&self, event: u64) -> Check {
        equal("SW_EXITINFO1", self.info1(), ExitInfo1::ISSUE_EXCEPTION)?;
        equal("SW_EXITINFO2", self.info2(), event)
    }

    /// The hypervisor gave a value for the field.
    pub(super) fn has(&self, field: GhcbField) -> Check {
        equal("valid bit of the result", self.0.is_valid(field), true)
    }
}
