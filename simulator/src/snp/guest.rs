//! The guest's side of the protocol, for programs that have no virtual machine.
//!
//! [`InProcessGuest`] does over plain memory what Linux's `sev-guest` driver and its GHCB code do in a guest: it
//! negotiates, shares pages, seals requests under a VMPCK and opens the responses. Nothing is short-cut: every call goes
//! through the hypervisor's VMGEXIT handler and the firmware's messages.

mod ghcb;
mod message;
mod request;
mod world;

use tsmsim_abi::snp::{
    PAGE_SIZE, ghcb::HostRequestError, launch::PageType, pages::CpuidPage, status::FirmwareStatus,
};
use zerocopy::{FromZeros, IntoBytes};

pub use self::{
    message::{ResponseError, open, seal},
    request::{CertTableError, ExtendedReport},
    world::{NoDevices, SeededEntropy, StillClock, VecMemory, World},
};
use super::{
    firmware::Firmware,
    host::{HostConfig, Hypervisor, LaunchError, LaunchPlan, PageContents, PlannedPage},
};
use crate::env::OutOfRange;

/// Where a guest has what it needs to talk to the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestLayout {
    /// Guest-physical address of the secrets page.
    pub secrets_gpa: u64,
    /// Guest-physical address of the buffers, page-aligned: GHCB, request page, response page, certificate buffer.
    pub buffers_gpa: u64,
    /// Pages of the certificate buffer. Linux has four.
    pub cert_pages: u64,
    /// Whether the buffers are validated private pages; if not, they were never given to the guest.
    pub buffers_are_private: bool,
}

/// Most pages of a certificate buffer: what fits into one page-state-change request besides the two message pages.
const MAX_CERT_PAGES: u64 = 250;

impl GuestLayout {
    const fn page(&self, index: u64) -> u64 {
        self.buffers_gpa + index * PAGE_SIZE as u64
    }

    /// Guest-physical address of the GHCB.
    #[must_use]
    pub const fn ghcb_gpa(&self) -> u64 {
        self.page(0)
    }

    /// Guest-physical address of the request page.
    #[must_use]
    pub const fn request_gpa(&self) -> u64 {
        self.page(1)
    }

    /// Guest-physical address of the response page.
    #[must_use]
    pub const fn response_gpa(&self) -> u64 {
        self.page(2)
    }

    /// Guest-physical address of the certificate buffer.
    #[must_use]
    pub const fn certs_gpa(&self) -> u64 {
        self.page(3)
    }

    const fn end_gpa(&self) -> u64 {
        self.page(3 + self.cert_pages)
    }
}

/// Guest-physical addresses of what [`InProcessGuest::launch`] launches besides the caller's pages.
mod place {
    pub(super) const BUFFERS: u64 = 0x1000;
    pub(super) const CERT_PAGES: u64 = 8;
    pub(super) const SECRETS: u64 = 0xe000;
    pub(super) const CPUID: u64 = 0xf000;
    /// Lowest address for the caller's pages.
    pub(super) const IMAGE: u64 = 0x1_0000;
}

/// Lowest guest-physical address that a plan for [`InProcessGuest::launch`] may use.
pub const IMAGE_GPA: u64 = place::IMAGE;

/// Why a guest did not get what it wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The guest reached outside its memory: its layout does not fit.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The hypervisor does not do what the guest needs; Linux would terminate.
    #[error("{0}")]
    Protocol(&'static str),
    /// The guest is over.
    #[error("the guest was terminated")]
    Terminated,
    /// The hypervisor did not serve an exit.
    #[error("the hypervisor refused: SW_EXITINFO1 {info1:#x}, SW_EXITINFO2 {info2:#x}")]
    Hypervisor {
        /// `SW_EXITINFO1`.
        info1: u64,
        /// `SW_EXITINFO2`.
        info2: u64,
    },
    /// The host or the firmware did not do a guest request. The VMPCK is wiped.
    #[error("guest request failed: host error {host}, firmware status {firmware}")]
    Request {
        /// The host's error.
        host: HostRequestError,
        /// The firmware's status.
        firmware: FirmwareStatus,
    },
    /// The host stayed busy for as long as the guest retried. The VMPCK is wiped.
    #[error("the host stayed busy")]
    Busy,
    /// The certificate buffer is too small; the VMPCK is still good.
    #[error("the certificates need {pages} pages")]
    CertificateBufferTooSmall {
        /// How many pages they need.
        pages: u64,
    },
    /// The response cannot be trusted. The VMPCK is wiped.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The firmware answered, and the answer is a refusal.
    #[error("the firmware refused the request: {0}")]
    Status(FirmwareStatus),
    /// The VMPCK was wiped after an earlier failure.
    #[error("VMPCK {0} is disabled")]
    KeyDisabled(u8),
    /// Linux keeps 32 bits of the sequence number and stops at their end.
    #[error("the message sequence number is used up")]
    SequenceNumberExhausted,
    /// A payload does not fit into a page.
    #[error("a payload of {0} bytes does not fit into a message")]
    PayloadTooLarge(usize),
}

/// A guest without a virtual machine.
pub struct InProcessGuest {
    hypervisor: Hypervisor,
    world: World,
    layout: GuestLayout,
    vmpck: u8,
    /// How often a busy host is asked again. Linux asks every 2 s for 60 s.
    busy_retries: u32,
}

impl InProcessGuest {
    /// Launches a guest with the pages of `plan` (at [`IMAGE_GPA`] and above), then a secrets page, an empty CPUID page
    /// and zeroed pages for its buffers, and negotiates. `config.ram` must reach beyond [`IMAGE_GPA`].
    ///
    /// # Errors
    /// [`GuestError::Launch`], or what went wrong in the negotiation.
    pub fn launch(
        firmware: Firmware,
        config: HostConfig,
        mut plan: LaunchPlan,
        mut world: World,
    ) -> Result<Self, GuestError> {
        let layout = GuestLayout {
            secrets_gpa: place::SECRETS,
            buffers_gpa: place::BUFFERS,
            cert_pages: place::CERT_PAGES,
            buffers_are_private: true,
        };
        let mut cpuid = Box::new([0; PAGE_SIZE]);
        cpuid.copy_from_slice(CpuidPage::new_zeroed().as_bytes());
        plan.pages.push(PlannedPage::memory(PageType::SECRETS, place::SECRETS));
        plan.pages.push(PlannedPage {
            page_type: PageType::CPUID,
            attributes: place::CPUID.into(),
            contents: PageContents::Given(cpuid),
        });
        let buffers = (0..3 + layout.cert_pages).map(|index| layout.page(index));
        plan.pages.extend(buffers.map(|gpa| PlannedPage::memory(PageType::ZERO, gpa)));
        let (mut env, _) = world.env();
        let hypervisor = Hypervisor::launch(firmware, config, &plan, &mut env)?;
        Self::attach(hypervisor, world, layout)
    }

    /// Becomes the guest that runs in a launched machine, and negotiates.
    ///
    /// # Errors
    /// What went wrong in the negotiation, or a layout that does not fit.
    pub fn attach(hypervisor: Hypervisor, world: World, layout: GuestLayout) -> Result<Self, GuestError> {
        let fits = layout.buffers_gpa.is_multiple_of(PAGE_SIZE as u64)
            && layout.cert_pages <= MAX_CERT_PAGES
            && hypervisor.rmp().contains(layout.buffers_gpa >> 12, 3 + layout.cert_pages)
            && hypervisor.rmp().contains(layout.secrets_gpa >> 12, 1);
        if !fits {
            return Err(OutOfRange { gpa: layout.buffers_gpa, len: 0 }.into());
        }
        let mut guest = Self { hypervisor, world, layout, vmpck: 0, busy_retries: 30 };
        guest.negotiate()?;
        Ok(guest)
    }

    /// Talks under another VMPCK (0 to 3; higher values mean 3) from now on. The VMPCK is also the VMPL that the firmware
    /// takes the guest to run at.
    #[must_use]
    pub const fn with_vmpck(mut self, vmpck: u8) -> Self {
        self.vmpck = if vmpck > 3 { 3 } else { vmpck };
        self
    }

    /// How often a busy host is asked again before the guest gives up: 30 unless set.
    #[must_use]
    pub const fn with_busy_retries(mut self, retries: u32) -> Self {
        self.busy_retries = retries;
        self
    }

    /// Which VMPCK the guest talks under.
    #[must_use]
    pub const fn vmpck(&self) -> u8 {
        self.vmpck
    }

    /// The host's side.
    #[must_use]
    pub const fn hypervisor(&self) -> &Hypervisor {
        &self.hypervisor
    }

    /// The host's side, for what a host does of its own accord.
    pub const fn hypervisor_mut(&mut self) -> &mut Hypervisor {
        &mut self.hypervisor
    }

    /// Memory, journal, faults and the rest.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Where the guest has its pages.
    #[must_use]
    pub const fn layout(&self) -> GuestLayout {
        self.layout
    }

    /// The machine without the guest, for a program that plays the guest by hand.
    #[must_use]
    pub fn into_parts(self) -> (Hypervisor, World, GuestLayout) {
        (self.hypervisor, self.world, self.layout)
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
