//! Bare-metal TDs: an ELF image and the pages around it, as `tsmsim_abi::guest_test` lays them out.
//!
//! Every page that the guest finds in memory is added by `TDH.MEM.PAGE.ADD`: a page that a TD accepts by itself reads as
//! zero. All of them are extended into `MRTD` but the parameter page, of which only the address is measured, so that a nonce
//! does not change the measurement.
//!
//! A VCPU of a real TD begins in 32-bit protected mode at FFFF_FFF0h, in firmware. This guest brings none, so the engine
//! begins where firmware would end: at the image's entry, in 64-bit mode, with the page tables that were measured.

use std::ops::Range;

use tsmsim_abi::{
    guest_test::{IMAGE_GPA, PAGE_TABLES_GPA, PARAMETERS_GPA, RAM_SIZE},
    tdx::{report::Measurement, td_params::TdParams},
};
use tsmsim_simulator::{
    env::OutOfRange,
    tdx::{
        PAGE_SIZE,
        guest::default_params,
        machine::{LaunchPlan, PlannedPage},
        mrtd::Mrtd,
    },
};
use zerocopy::IntoBytes;

use super::{
    bare_metal::{GuestTask, LoadError, parameters},
    boot::write_identity_tables,
    elf::ElfImage,
    patch::{PatchError, PatchReport, patch},
};
use crate::{engine::InitialState, memory::GuestRam};

/// A TD in RAM, ready to be launched.
#[derive(Debug)]
pub struct LoadedTd<'image> {
    image: ElfImage<'image>,
    /// Its RAM.
    pub ram: GuestRam,
    /// The launch.
    pub plan: LaunchPlan,
    /// How its VCPU begins.
    pub state: InitialState,
}

/// Loads a TD: image, page tables, parameters.
///
/// # Errors
/// [`LoadError`].
pub fn load(elf: &[u8], params: TdParams, task: GuestTask) -> Result<LoadedTd<'_>, LoadError> {
    let ram = GuestRam::new(RAM_SIZE)?;
    let image = ElfImage::parse(elf)?;
    let own_pages: Range<u64> = 0..IMAGE_GPA;
    let mut measured: Vec<u64> = image.load(&ram, &[own_pages])?.iter().map(|page| page.gpa).collect();
    let tables = write_identity_tables(&ram, PAGE_TABLES_GPA)?;
    measured.extend(tables.pages());
    ram.write(PARAMETERS_GPA, parameters(task).as_bytes())?;
    let page = |gpa, measured| PlannedPage { gpa, contents: None, measured };
    let mut pages: Vec<_> = measured.into_iter().map(|gpa| page(gpa, true)).collect();
    pages.push(page(PARAMETERS_GPA, false));
    let plan = LaunchPlan { params, ram: std::iter::once(0..RAM_SIZE).collect(), vcpus: 1, pages };
    let mut state = InitialState::long_mode(image.entry(), tables.cr3);
    state.registers.rdi = PARAMETERS_GPA;
    Ok(LoadedTd { image, ram, plan, state })
}

/// The `MRTD` that a TD of this image will have, whatever its parameters and its task.
///
/// # Errors
/// [`LoadError`].
pub fn measure(elf: &[u8]) -> Result<Measurement, LoadError> {
    let task = GuestTask { mode: 0, count: 0, report_data: [0; 64] };
    Ok(load(elf, default_params(), task)?.measure()?)
}

/// The `MRTD` that a plan gives; before anything is patched.
pub(crate) fn measure_plan(plan: &LaunchPlan, ram: &GuestRam) -> Result<Measurement, OutOfRange> {
    let mut mrtd = Mrtd::new();
    let mut contents = [0; PAGE_SIZE];
    for page in &plan.pages {
        if page.measured {
            ram.read(page.gpa, &mut contents)?;
            mrtd.measured_page(page.gpa, page.contents.as_deref().unwrap_or(&contents));
        } else {
            mrtd.page_add(page.gpa);
        }
    }
    Ok(mrtd.finish())
}

impl LoadedTd<'_> {
    /// The `MRTD` of the plan; before [`Self::patch`].
    ///
    /// # Errors
    /// None with a plan of [`load`]'s making.
    pub fn measure(&self) -> Result<Measurement, OutOfRange> {
        measure_plan(&self.plan, &self.ram)
    }

    /// Patches the instructions that this processor lacks; after the launch, before the guest runs.
    ///
    /// # Errors
    /// If RAM does not hold the image any more.
    pub fn patch(&self) -> Result<PatchReport, PatchError> {
        patch(&self.image, &self.ram)
    }
}
