//! Evidence without a virtual machine: a guest of one page inside this process.

use tsmsim_abi::snp::{PAGE_SIZE, launch::PageType, payload::KeySel, policy::GuestPolicy};
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::{ExtendedReport, GuestError, IMAGE_GPA, InProcessGuest, World},
    host::{HostConfig, LaunchPlan, PageContents, PlannedPage},
    platform::Platform,
};

/// Memory of the guest.
const RAM: usize = 1 << 20;
/// What its one page holds.
const IMAGE: &[u8] = b"tsmsim report: a guest of one page, which asks for a report and ends";

/// A guest, and what it is to ask for.
pub(crate) struct Local {
    /// Guest policy.
    pub(crate) policy: GuestPolicy,
    /// `HOST_DATA`.
    pub(crate) host_data: [u8; 32],
    /// VMPL that the report states.
    pub(crate) vmpl: u32,
    /// What the report carries.
    pub(crate) inblob: [u8; 64],
}

impl Local {
    /// The default guest, whose report carries this.
    pub(crate) const fn new(inblob: [u8; 64]) -> Self {
        Self { policy: GuestPolicy::DEFAULT, host_data: [0; 32], vmpl: 0, inblob }
    }

    /// Launches the guest. Its entropy follows from the seed and the user data, so that the same arguments give the same
    /// evidence.
    pub(crate) fn launch(
        &self,
        platform: Platform,
        certificates: &[u8],
        seed: &Seed,
    ) -> Result<InProcessGuest, GuestError> {
        let mut image = Box::new([0; PAGE_SIZE]);
        image[..IMAGE.len()].copy_from_slice(IMAGE);
        let mut plan = LaunchPlan::from(self.policy);
        plan.host_data = self.host_data;
        plan.pages.push(PlannedPage {
            page_type: PageType::NORMAL,
            attributes: IMAGE_GPA.into(),
            contents: PageContents::Given(image),
        });
        let config = HostConfig {
            ram: std::iter::once(0..RAM as u64).collect(),
            certificates: certificates.to_vec(),
            ..HostConfig::default()
        };
        let world = World::new(RAM, seed.derive_seed(&[b"tsmsim report", &self.inblob]));
        InProcessGuest::launch(Firmware::new(platform), config, plan, world)
    }

    /// Asks for the report and the certificates.
    pub(crate) fn ask(&self, guest: &mut InProcessGuest) -> Result<ExtendedReport, GuestError> {
        let pages = guest.layout().cert_pages;
        guest.extended_report(&self.inblob, self.vmpl, KeySel::VlekElseVcek, pages)
    }
}
