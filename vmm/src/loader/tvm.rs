//! Bare-metal TVMs: an ELF image, as `tsmsim_abi::guest_test::riscv64` lays it out.
//!
//! All pages of the image are measured, those of zeros as well. What else the guest uses is mapped on demand and begins as
//! zeros; parameters come into a page that the guest shares, so a nonce does not change the measurements.

use std::ops::Range;

use ::elf::abi::EM_RISCV;
use tsmsim_abi::{
    cove::covh::TVM_IDENTITY_SIZE,
    guest_test::{
        RAM_SIZE,
        riscv64::{IMAGE_GPA, PARAMETERS_GPA, RAM_END, RAM_GPA},
    },
};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    machine::{LaunchPlan, PlannedPage},
    measure::InitialRegisters,
};

use super::{bare_metal::LoadError, elf::ElfImage};
use crate::memory::{GuestRam, PlacedRam};

/// A TVM in RAM, ready to be launched.
#[derive(Clone, Debug)]
pub struct LoadedTvm {
    /// Its RAM. On Unix other processes can map it: [`GuestRam::shared_file`].
    pub ram: PlacedRam,
    /// The launch.
    pub plan: LaunchPlan,
}

/// Loads a TVM. `identity` is what the host calls it; it is attested and not measured.
///
/// # Errors
/// [`LoadError`].
pub fn load(elf: &[u8], identity: Option<[u8; TVM_IDENTITY_SIZE]>) -> Result<LoadedTvm, LoadError> {
    let ram = PlacedRam::new(new_ram()?, RAM_GPA)?;
    let image = ElfImage::parse_for(elf, EM_RISCV)?;
    let reserved: [Range<u64>; 2] = [RAM_GPA..IMAGE_GPA, PARAMETERS_GPA..RAM_END];
    let pages = image.load_placed(&ram, &reserved)?;
    let plan = LaunchPlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
        vcpus: 1,
        pages: pages.iter().map(|page| PlannedPage { gpa: page.gpa, contents: None }).collect(),
        entry_sepc: image.entry(),
        entry_arg: PARAMETERS_GPA,
        identity,
    };
    Ok(LoadedTvm { ram, plan })
}

#[cfg(unix)]
fn new_ram() -> Result<GuestRam, crate::memory::RamError> {
    GuestRam::new_shared(RAM_SIZE)
}

#[cfg(not(unix))]
fn new_ram() -> Result<GuestRam, crate::memory::RamError> {
    GuestRam::new(RAM_SIZE)
}

/// The initial registers that a TVM of this image will have, whatever its parameters. `registers` are those that the
/// platform gives every TVM ([`CovePlatform::initial_registers`](tsmsim_simulator::cove::platform::CovePlatform::initial_registers)).
///
/// # Errors
/// [`LoadError`].
pub fn measure(elf: &[u8], registers: &InitialRegisters) -> Result<InitialRegisters, LoadError> {
    load(elf, None)?.measure(registers)
}

impl LoadedTvm {
    /// The initial registers, before anything runs; see [`measure`].
    ///
    /// # Errors
    /// None with a plan of [`load`]'s making.
    pub fn measure(&self, registers: &InitialRegisters) -> Result<InitialRegisters, LoadError> {
        let mut registers = registers.clone();
        let mut contents = [0; PAGE_SIZE];
        for page in &self.plan.pages {
            self.ram.read(page.gpa, &mut contents)?;
            registers.measured_page(page.gpa, page.contents.as_deref().unwrap_or(&contents));
        }
        registers.entry(self.plan.entry_sepc, self.plan.entry_arg);
        Ok(registers)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tsmsim_keys::Seed;
    use tsmsim_simulator::cove::platform::CovePlatformConfig;

    use super::*;
    use crate::loader::elf::{
        ElfError,
        tests::{Part, build},
    };

    const CODE: [u8; 4] = [0x13, 0, 0, 0];

    /// An image of these parts for RISC-V.
    fn image(parts: &[Part]) -> Vec<u8> {
        let mut bytes = build(IMAGE_GPA, parts, &[]);
        bytes[18..20].copy_from_slice(&EM_RISCV.to_le_bytes());
        bytes
    }

    fn code(gpa: u64) -> Part {
        Part::code(gpa, &CODE)
    }

    #[test]
    fn every_page_of_the_image_is_measured() {
        let zeros = Part { memory_size: 2 * 4096, contents: Vec::new(), ..code(IMAGE_GPA + 0x1000) };
        let LoadedTvm { ram, plan } = load(&image(&[code(IMAGE_GPA), zeros]), Some([7; 64])).unwrap();
        let pages: Vec<u64> = plan.pages.iter().map(|page| page.gpa).collect();
        assert_eq!(pages, [IMAGE_GPA, IMAGE_GPA + 0x1000, IMAGE_GPA + 0x2000]);
        assert_eq!((plan.entry_sepc, plan.entry_arg), (IMAGE_GPA, PARAMETERS_GPA));
        assert!(plan.ram.into_iter().eq(std::iter::once(IMAGE_GPA..RAM_END)));
        assert_eq!(plan.identity, Some([7; 64]));
        let mut bytes = [0xff; 8];
        ram.read(IMAGE_GPA, &mut bytes).unwrap();
        assert_eq!(bytes, [0x13, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn registers_follow_the_image_alone() {
        let platform = CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap();
        let before = platform.initial_registers();
        let elf = image(&[code(IMAGE_GPA)]);
        let measured = measure(&elf, before).unwrap();
        assert_eq!(measured.values()[..4], before.values()[..4]);
        assert_eq!(load(&elf, Some([1; 64])).unwrap().measure(before).unwrap(), measured);
        let mut other = elf.clone();
        *other.last_mut().unwrap() ^= 1;
        let other = measure(&other, before).unwrap();
        assert_ne!(other.values()[4], measured.values()[4]);
        assert_eq!(other.values()[5], measured.values()[5]);
    }

    #[rstest]
    #[case::below_the_tvm(code(RAM_GPA))]
    #[case::across_its_beginning(Part { memory_size: 8, ..code(IMAGE_GPA - 4) })]
    #[case::buffers_of_the_guest(code(PARAMETERS_GPA))]
    #[case::behind_ram(code(RAM_END))]
    #[case::below_ram(code(0x1000))]
    fn images_elsewhere_are_refused(#[case] part: Part) {
        // The entry has to lie in code, wherever the other part is.
        let start = if part.gpa < IMAGE_GPA { IMAGE_GPA + 0x1000 } else { IMAGE_GPA };
        let mut elf = image(&[code(start), part]);
        elf[24..32].copy_from_slice(&start.to_le_bytes());
        assert!(matches!(load(&elf, None), Err(LoadError::Elf(ElfError::Segment { .. }))));
    }

    #[test]
    fn images_for_another_machine_are_refused() {
        let elf = build(IMAGE_GPA, &[code(IMAGE_GPA)], &[]);
        assert!(matches!(load(&elf, None), Err(LoadError::Elf(ElfError::WrongKind(_)))));
        assert!(load(b"", None).is_err());
    }
}
