//! Bare-metal SNP guests: an ELF image and the pages around it, as `tsmsim_abi::guest_test` lays them out.

use std::ops::Range;

use tsmsim_abi::{
    guest_test::{
        CPUID_GPA, IMAGE_GPA, PAGE_TABLES_GPA, PARAMETERS_GPA, PARAMETERS_MAGIC, Parameters, RAM_SIZE,
        SECRETS_GPA,
    },
    snp::{
        PAGE_SIZE,
        launch::PageType,
        pages::{CpuidFunction, CpuidPage},
        policy::GuestPolicy,
        vmsa::Vmsa,
    },
};
use tsmsim_simulator::{
    env::OutOfRange,
    snp::{
        host::{LaunchPlan, PlannedPage},
        launch::LaunchDigest,
    },
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    boot::{BootError, write_identity_tables},
    elf::{Contents, ElfError, ElfImage},
    patch::{PatchError, PatchReport, patch},
    vmsa::long_mode_vmsa,
};
use crate::{
    engine::cpuid::CpuidTable,
    memory::{GuestRam, RamError},
};

/// Why a guest could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No RAM.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The image is no good, or lies where it must not.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The page tables.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Something lies outside RAM.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The instructions could not be patched.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The device tree cannot be made.
    #[error("the device tree: {0}")]
    DeviceTree(vm_fdt::Error),
    /// The CPUID page holds 64 functions.
    #[error("{0} CPUID functions do not fit into the CPUID page, which holds 64")]
    TooManyFunctions(usize),
}

/// What the host wants of a test guest; goes into the parameter page, which is not measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestTask {
    /// The test program: see [`Parameters::mode`].
    pub mode: u16,
    /// How many requests, for the program that repeats them.
    pub count: u32,
    /// For the report that the guest asks for.
    pub report_data: [u8; 64],
}

/// A guest in RAM, ready to be launched.
#[derive(Debug)]
pub struct LoadedGuest<'image> {
    image: ElfImage<'image>,
    /// Its RAM.
    pub ram: GuestRam,
    /// The launch.
    pub plan: LaunchPlan,
    /// Initial state of its vCPU, as the plan measures it.
    pub vmsa: Box<Vmsa>,
}

/// Loads a guest: image, page tables, parameters; secrets and CPUID page are the firmware's to fill and to check.
///
/// `cpuid` is what the CPUID page is to say.
///
/// # Errors
/// [`LoadError`].
pub fn load<'image>(
    elf: &'image [u8],
    policy: GuestPolicy,
    cpuid: &CpuidTable,
    task: GuestTask,
) -> Result<LoadedGuest<'image>, LoadError> {
    let ram = GuestRam::new(RAM_SIZE)?;
    let image = ElfImage::parse(elf)?;
    let own_pages: Range<u64> = 0..IMAGE_GPA;
    let mut plan = LaunchPlan::from(policy);
    for page in image.load(&ram, &[own_pages])? {
        let page_type = match page.contents {
            Contents::Data => PageType::NORMAL,
            Contents::Zero => PageType::ZERO,
        };
        plan.pages.push(PlannedPage::memory(page_type, page.gpa));
    }
    let tables = write_identity_tables(&ram, PAGE_TABLES_GPA)?;
    plan.pages.extend(tables.pages().map(|gpa| PlannedPage::memory(PageType::NORMAL, gpa)));
    let parameters =
        Parameters { secrets_gpa: SECRETS_GPA.into(), cpuid_gpa: CPUID_GPA.into(), ..parameters(task) };
    ram.write(PARAMETERS_GPA, parameters.as_bytes())?;
    ram.write(CPUID_GPA, cpuid_page(cpuid)?.as_bytes())?;
    plan.pages.push(PlannedPage::memory(PageType::UNMEASURED, PARAMETERS_GPA));
    plan.pages.push(PlannedPage::memory(PageType::SECRETS, SECRETS_GPA));
    plan.pages.push(PlannedPage::memory(PageType::CPUID, CPUID_GPA));
    let vmsa = Box::new(long_mode_vmsa(image.entry(), tables.cr3, PARAMETERS_GPA));
    let mut page = Box::new([0; PAGE_SIZE]);
    page.copy_from_slice(vmsa.as_bytes());
    plan.pages.push(PlannedPage::vmsa(page));
    Ok(LoadedGuest { image, ram, plan, vmsa })
}

impl LoadedGuest<'_> {
    /// The launch measurement; before [`Self::patch`].
    ///
    /// # Errors
    /// None with a plan of [`load`]'s making.
    pub fn measure(&self) -> Result<LaunchDigest, OutOfRange> {
        self.plan.measure(&self.ram)
    }

    /// Patches the instructions that this processor lacks; after the launch, before the guest runs.
    ///
    /// # Errors
    /// If RAM does not hold the image any more.
    pub fn patch(&self) -> Result<PatchReport, PatchError> {
        patch(&self.image, &self.ram)
    }
}

/// The parameter page of a guest that has neither secrets page nor CPUID page.
pub(crate) fn parameters(task: GuestTask) -> Parameters {
    Parameters {
        magic: PARAMETERS_MAGIC,
        secrets_gpa: 0.into(),
        cpuid_gpa: 0.into(),
        ram_size: RAM_SIZE.into(),
        report_data: task.report_data,
        mode: task.mode.into(),
        reserved_0x62: 0.into(),
        count: task.count.into(),
    }
}

pub(super) fn cpuid_page(cpuid: &CpuidTable) -> Result<CpuidPage, LoadError> {
    let mut page = CpuidPage::new_zeroed();
    let entries = cpuid.entries();
    let too_many = LoadError::TooManyFunctions(entries.len());
    let functions = page.functions.get_mut(..entries.len()).ok_or(too_many)?;
    for (function, entry) in functions.iter_mut().zip(entries) {
        *function = CpuidFunction {
            eax_in: entry.function.into(),
            ecx_in: entry.index.unwrap_or(0).into(),
            eax: entry.eax.into(),
            ebx: entry.ebx.into(),
            ecx: entry.ecx.into(),
            edx: entry.edx.into(),
            ..CpuidFunction::new_zeroed()
        };
    }
    page.count.set(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    Ok(page)
}
