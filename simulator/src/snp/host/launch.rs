//! Launching a guest: the firmware's commands in the order in which a hypervisor gives them.

use tsmsim_abi::snp::{
    launch::{IdAuth, IdBlock, PageType, VMSA_GPA, VmplPermissions},
    policy::GuestPolicy,
    status::FirmwareStatus,
};

use super::{HostConfig, Hypervisor};
use crate::{
    env::{Env, GuestMemory, OutOfRange},
    snp::{
        firmware::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate},
        launch::{LaunchDigest, LaunchPage, LaunchRmp, Page, PageAttributes},
        rmp::{FRAMES_2M, PageSize, PageState, Rmp, RmpUpdateError},
    },
};

/// Bytes of a large page.
const BYTES_2M: u64 = FRAMES_2M << 12;

/// The ID block and what certifies it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdAuthentication {
    /// `ID_BLOCK`.
    pub block: IdBlock,
    /// `ID_AUTH`.
    pub auth: Box<IdAuth>,
    /// `AUTH_KEY_EN`: an author key certifies the ID key.
    pub author_key: bool,
}

/// Where the contents of a page to launch come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PageContents {
    /// They lie in guest memory at the page's address, and what the firmware makes of them is written back there.
    Memory,
    /// They are given. In guest memory they replace what is there; a VMSA at [`VMSA_GPA`] is in no memory.
    Given(Box<Page>),
}

/// One page to launch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedPage {
    /// `PAGE_TYPE`.
    pub page_type: PageType,
    /// Guest-physical address, permissions of VMPL1 to VMPL3, `IMI_PAGE`.
    pub attributes: PageAttributes,
    /// What is in it.
    pub contents: PageContents,
}

impl PlannedPage {
    /// A page of guest memory, launched as KVM does.
    #[must_use]
    pub fn memory(page_type: PageType, gpa: u64) -> Self {
        Self { page_type, attributes: gpa.into(), contents: PageContents::Memory }
    }

    /// The initial VMSA of a vCPU, outside guest memory, as KVM has it.
    #[must_use]
    pub fn vmsa(contents: Box<Page>) -> Self {
        let contents = PageContents::Given(contents);
        Self { page_type: PageType::VMSA, attributes: VMSA_GPA.into(), contents }
    }

    const fn in_memory(&self) -> bool {
        !(self.page_type.0 == PageType::VMSA.0 && self.attributes.gpa == VMSA_GPA)
    }

    /// The contents, copied out of guest memory if they lie there.
    fn read(&self, memory: &dyn GuestMemory) -> Result<Box<Page>, OutOfRange> {
        match &self.contents {
            PageContents::Given(page) => Ok(page.clone()),
            PageContents::Memory => {
                let mut page = Box::new([0; size_of::<Page>()]);
                memory.read(self.attributes.gpa, &mut *page)?;
                Ok(page)
            }
        }
    }
}

/// Everything about a launch that its measurement and its reports depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchPlan {
    /// Parameters of `SNP_LAUNCH_START`.
    pub start: LaunchStart,
    /// `ASID` for `SNP_ACTIVATE`.
    pub asid: u32,
    /// The pages, in the order of the measurement.
    pub pages: Vec<PlannedPage>,
    /// ID block, if there is one.
    pub id: Option<IdAuthentication>,
    /// `VCEK_DIS`: the VCEK is not for this guest.
    pub vcek_dis: bool,
    /// `HOST_DATA`.
    pub host_data: [u8; 32],
}

impl From<GuestPolicy> for LaunchPlan {
    /// Without pages, ID block and host data.
    fn from(policy: GuestPolicy) -> Self {
        let start = LaunchStart::from(policy);
        Self { start, asid: 1, pages: Vec::new(), id: None, vcek_dis: false, host_data: [0; 32] }
    }
}

impl LaunchPlan {
    /// The launch digest that this plan gives, before anything runs.
    ///
    /// # Errors
    /// If a page that should be in guest memory is not.
    pub fn measure(&self, memory: &dyn GuestMemory) -> Result<LaunchDigest, OutOfRange> {
        let mut digest = LaunchDigest::default();
        for planned in &self.pages {
            let page = planned.read(memory)?;
            let measured = match planned.page_type {
                PageType::NORMAL => LaunchPage::Normal(&page),
                PageType::VMSA => LaunchPage::Vmsa(&page),
                PageType::ZERO => LaunchPage::Zero,
                PageType::UNMEASURED => LaunchPage::Unmeasured,
                PageType::SECRETS => LaunchPage::Secrets,
                _ => LaunchPage::Cpuid,
            };
            digest.extend(planned.attributes, measured);
        }
        Ok(digest)
    }
}

/// Why a launch came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LaunchError {
    /// A page of the plan is not guest memory.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// A page of the plan could not be given to the guest; mostly it is there twice, or not RAM.
    #[error("the page at {gpa:#x} cannot be given to the guest: {source}")]
    Rmp {
        /// Which page.
        gpa: u64,
        /// Why not.
        source: RmpUpdateError,
    },
    /// The firmware refused a command.
    #[error("{command} failed: {status}")]
    Command {
        /// Name of the command.
        command: &'static str,
        /// What it returned.
        status: FirmwareStatus,
    },
    /// The firmware refused a page.
    #[error("SNP_LAUNCH_UPDATE of the {page_type} page at {gpa:#x} failed: {status}")]
    Page {
        /// Which page.
        gpa: u64,
        /// Its type.
        page_type: PageType,
        /// What the command returned.
        status: FirmwareStatus,
    },
}

fn command(command: &'static str) -> impl Fn(FirmwareStatus) -> LaunchError {
    move |status| LaunchError::Command { command, status }
}

impl Hypervisor {
    /// Launches a guest: `SNP_GCTX_CREATE`, `SNP_LAUNCH_START`, `SNP_ACTIVATE`, `SNP_LAUNCH_UPDATE` for each page (which
    /// becomes Pre-Guest before), `SNP_LAUNCH_FINISH`.
    ///
    /// A CPUID page that the firmware refuses because it corrected values is launched once more, corrected.
    ///
    /// # Errors
    /// What the plan lacks, or the command that failed and its status. The firmware is gone then.
    pub fn launch(
        firmware: Firmware,
        config: HostConfig,
        plan: &LaunchPlan,
        env: &mut Env<'_>,
    ) -> Result<Self, LaunchError> {
        // A context page is the firmware's, so it lies outside guest memory.
        let end_of_ram = config.ram.iter().map(|range| range.end).max().unwrap_or(0);
        let gctx_paddr = end_of_ram.checked_next_multiple_of(0x1000).unwrap_or(0);
        let mut hypervisor = Self::new(firmware, gctx_paddr, config);
        let firmware = &mut hypervisor.firmware;
        firmware.snp_gctx_create(env, gctx_paddr).map_err(command("SNP_GCTX_CREATE"))?;
        firmware.snp_launch_start(env, gctx_paddr, &plan.start).map_err(command("SNP_LAUNCH_START"))?;
        firmware.snp_activate(env, gctx_paddr, plan.asid).map_err(command("SNP_ACTIVATE"))?;
        for planned in &plan.pages {
            hypervisor.launch_page(planned, env)?;
        }
        let finish = LaunchFinish {
            id_block: plan.id.as_ref().map(|id| (&id.block, &*id.auth)),
            auth_key_en: plan.id.as_ref().is_some_and(|id| id.author_key),
            vcek_dis: plan.vcek_dis,
            host_data: plan.host_data,
        };
        let firmware = &mut hypervisor.firmware;
        firmware.snp_launch_finish(env, gctx_paddr, &finish).map_err(command("SNP_LAUNCH_FINISH"))?;
        if hypervisor.config.huge_pages {
            hypervisor.join_pages();
        }
        Ok(hypervisor)
    }

    /// Makes one entry of the reverse map of each 2 MiB that are alike.
    fn join_pages(&mut self) {
        for range in self.config.ram.clone() {
            let (first, end) = (range.start.div_ceil(BYTES_2M), range.end / BYTES_2M);
            for chunk in first..end {
                self.rmp.unsmash(chunk * FRAMES_2M);
            }
        }
    }

    fn launch_page(&mut self, planned: &PlannedPage, env: &mut Env<'_>) -> Result<(), LaunchError> {
        let PlannedPage { page_type, attributes, .. } = *planned;
        let gpa = attributes.gpa;
        let mut page = planned.read(env.memory)?;
        if planned.in_memory() {
            let assigned = self.rmp.assign(gpa >> 12, PageSize::Size4K, true);
            assigned.map_err(|source| LaunchError::Rmp { gpa, source })?;
        }
        let before = page.clone();
        let mut status = self.launch_update(&mut page, page_type, attributes, env);
        if page_type == PageType::CPUID && status.is_err() && page != before {
            status = self.launch_update(&mut page, page_type, attributes, env);
        }
        status.map_err(|status| LaunchError::Page { gpa, page_type, status })?;
        if planned.in_memory() {
            env.memory.write(gpa, &*page)?;
            self.remember_vmsa(page_type, gpa);
        }
        Ok(())
    }

    fn launch_update(
        &mut self,
        page: &mut Page,
        page_type: PageType,
        attributes: PageAttributes,
        env: &mut Env<'_>,
    ) -> Result<(), FirmwareStatus> {
        let update = LaunchUpdate { page, page_type, attributes };
        self.firmware.snp_launch_update(env, &mut self.rmp, self.gctx_paddr, update)
    }

    /// VMSA pages in guest memory belong to the vCPUs in their order.
    fn remember_vmsa(&mut self, page_type: PageType, gpa: u64) {
        let free = self.vcpus.iter_mut().find(|vcpu| vcpu.vmsa.is_none());
        if let (PageType::VMSA, Some(vcpu)) = (page_type, free) {
            vcpu.vmsa = Some(gpa);
        }
    }
}

impl LaunchRmp for Rmp {
    fn launch_check(&self, gfn: u64) -> Result<(), FirmwareStatus> {
        match self.state(gfn) {
            Some(PageState::PreGuest) => Ok(()),
            Some(_) => Err(FirmwareStatus::INVALID_PAGE_STATE),
            None => Err(FirmwareStatus::INVALID_ADDRESS),
        }
    }

    fn launch_convert(
        &mut self,
        gfn: u64,
        vmsa: bool,
        perms: [VmplPermissions; 3],
    ) -> Result<(), FirmwareStatus> {
        self.launch_check(gfn)?;
        Self::launch_convert(self, gfn, vmsa, perms).map_err(|_| FirmwareStatus::INVALID_PAGE_STATE)
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
