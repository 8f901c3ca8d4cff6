//! Bare-metal TVMs: an ELF image, as `tsmsim_abi::guest_test::riscv64` lays it out.
//!
//! Of a TVM that is built in steps, all pages of the image are measured, those of zeros as well. What else the guest uses is
//! mapped on demand and begins as zeros. Of one that is promoted, all of memory is measured, with the image and a device tree in
//! it. Parameters come into a page that the guest shares, so a nonce does not change the measurements.

use std::ops::Range;

use ::elf::abi::EM_RISCV;
use tsmsim_abi::{
    cove::covh::TVM_IDENTITY_SIZE,
    guest_test::{
        RAM_SIZE,
        riscv64::{FDT_GPA, IMAGE_GPA, PARAMETERS_GPA, RAM_END, RAM_GPA, TAP_GPA},
    },
};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    machine::{LaunchPlan, PlannedPage},
    measure::InitialRegisters,
    promote::PromotePlan,
};
use vm_fdt::FdtWriter;

use super::{
    bare_metal::LoadError,
    elf::{ElfError, ElfImage, LoadedPage},
};
use crate::memory::{GuestRam, PlacedRam};

/// A TVM in RAM, ready to be launched as its plan says.
#[derive(Clone, Debug)]
pub struct LoadedTvm<P = LaunchPlan> {
    /// Its RAM. On Unix other processes can map it: [`GuestRam::shared_file`].
    pub ram: PlacedRam,
    /// The launch.
    pub plan: P,
}

/// Loads a TVM that is built in steps. `identity` is what the host calls it; it is attested and not measured.
///
/// # Errors
/// [`LoadError`].
pub fn load(elf: &[u8], identity: Option<[u8; TVM_IDENTITY_SIZE]>) -> Result<LoadedTvm, LoadError> {
    let ram = PlacedRam::new(new_ram()?, RAM_GPA)?;
    let (entry_sepc, pages) = load_image(elf, &ram)?;
    let plan = LaunchPlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
        vcpus: 1,
        pages: pages.iter().map(|page| PlannedPage { gpa: page.gpa, contents: None }).collect(),
        entry_sepc,
        entry_arg: PARAMETERS_GPA,
        identity,
    };
    Ok(LoadedTvm { ram, plan })
}

/// Loads a virtual machine that is to be promoted. `tap` is its attestation payload
/// ([`CovePlatform::seal_tap`](tsmsim_simulator::cove::platform::CovePlatform::seal_tap)); whether it is one, the TSM says.
///
/// # Errors
/// [`LoadError`].
pub fn load_to_promote(
    elf: &[u8],
    tap: Option<&[u8]>,
    identity: Option<[u8; TVM_IDENTITY_SIZE]>,
) -> Result<LoadedTvm<PromotePlan>, LoadError> {
    let ram = PlacedRam::new(new_ram()?, RAM_GPA)?;
    let (entry_sepc, _) = load_image(elf, &ram)?;
    ram.write(FDT_GPA, &device_tree()?)?;
    if let Some(tap) = tap {
        ram.write(TAP_GPA, tap)?;
    }
    let plan = PromotePlan {
        ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
        vcpus: 1,
        fdt_addr: FDT_GPA,
        tap_addr: if tap.is_some() { TAP_GPA } else { 0 },
        entry_sepc,
        identity,
    };
    Ok(LoadedTvm { ram, plan })
}

/// Puts the image into RAM; gives the entry and its pages. A TVM begins without address translation, so its entry is a
/// guest-physical address.
fn load_image(elf: &[u8], ram: &PlacedRam) -> Result<(u64, Vec<LoadedPage>), LoadError> {
    let image = ElfImage::parse_for(elf, EM_RISCV)?;
    let entry = image.entry();
    let code = image.segments().iter().filter(|segment| segment.executable);
    let offsets = code.map(|segment| (entry.checked_sub(segment.gpa), segment.contents.len()));
    let mut within = offsets.map(|(offset, length)| {
        offset.is_some_and(|offset| usize::try_from(offset).is_ok_and(|offset| offset < length))
    });
    if !within.any(|within| within) {
        return Err(ElfError::Entry(entry).into());
    }
    let reserved: [Range<u64>; 2] = [RAM_GPA..IMAGE_GPA, PARAMETERS_GPA..RAM_END];
    Ok((entry, image.load_placed(ram, &reserved)?))
}

/// A device tree with memory and one hart: there are no devices.
fn device_tree() -> Result<Vec<u8>, LoadError> {
    let write = || {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        let node = fdt.begin_node(&format!("memory@{IMAGE_GPA:x}"))?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[IMAGE_GPA, RAM_END - IMAGE_GPA])?;
        fdt.end_node(node)?;
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        let hart = fdt.begin_node("cpu@0")?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_u32("reg", 0)?;
        fdt.property_string("compatible", "riscv")?;
        fdt.property_string("riscv,isa", "rv64imac")?;
        fdt.end_node(hart)?;
        fdt.end_node(cpus)?;
        fdt.end_node(root)?;
        fdt.finish()
    };
    write().map_err(LoadError::DeviceTree)
}

#[cfg(unix)]
fn new_ram() -> Result<GuestRam, crate::memory::RamError> {
    GuestRam::new_shared(RAM_SIZE)
}

#[cfg(not(unix))]
fn new_ram() -> Result<GuestRam, crate::memory::RamError> {
    GuestRam::new(RAM_SIZE)
}

/// The initial registers that a TVM of this image that is built in steps will have, whatever its parameters. `registers` are those that the
/// platform gives every TVM ([`CovePlatform::initial_registers`](tsmsim_simulator::cove::platform::CovePlatform::initial_registers)).
///
/// # Errors
/// [`LoadError`].
pub fn measure(elf: &[u8], registers: &InitialRegisters) -> Result<InitialRegisters, LoadError> {
    load(elf, None)?.measure(registers)
}

/// [`measure`] for a TVM that is promoted, with any TAP or without.
///
/// # Errors
/// [`LoadError`].
pub fn measure_promoted(elf: &[u8], registers: &InitialRegisters) -> Result<InitialRegisters, LoadError> {
    let LoadedTvm { ram, plan } = load_to_promote(elf, None, None)?;
    Ok(plan.measure(&ram, registers.clone())?)
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
    use crate::loader::elf::tests::{Part, build};

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

    #[test]
    fn a_machine_to_promote_has_image_and_device_tree() {
        let elf = image(&[code(IMAGE_GPA)]);
        let LoadedTvm { ram, plan } = load_to_promote(&elf, None, Some([7; 64])).unwrap();
        let expected = PromotePlan {
            ram: std::iter::once(IMAGE_GPA..RAM_END).collect(),
            vcpus: 1,
            fdt_addr: FDT_GPA,
            tap_addr: 0,
            entry_sepc: IMAGE_GPA,
            identity: Some([7; 64]),
        };
        assert_eq!(plan, expected);
        let word = |ram: &PlacedRam, gpa| {
            let mut word = [0; 4];
            ram.read(gpa, &mut word).unwrap();
            word
        };
        assert_eq!((word(&ram, IMAGE_GPA), word(&ram, FDT_GPA)), (CODE, 0xd00d_feed_u32.to_be_bytes()));
        assert_eq!(word(&ram, TAP_GPA), [0; 4]);
        let LoadedTvm { ram, plan } = load_to_promote(&elf, Some(b"any bytes"), None).unwrap();
        assert_eq!((word(&ram, TAP_GPA), plan.tap_addr), (*b"any ", TAP_GPA));
        assert!(device_tree().unwrap().len() <= PAGE_SIZE);
        let large = vec![1; usize::try_from(RAM_END - TAP_GPA).unwrap() + 1];
        assert!(matches!(load_to_promote(&elf, Some(&large), None), Err(LoadError::Memory(_))));
    }

    #[test]
    fn registers_of_a_promoted_tvm_follow_the_image_alone() {
        let platform = CovePlatformConfig::new().build(&Seed::DEFAULT).unwrap();
        let before = platform.initial_registers();
        let elf = image(&[code(IMAGE_GPA)]);
        let measured = measure_promoted(&elf, before).unwrap();
        assert_eq!(measured.values()[..4], before.values()[..4]);
        let tap = platform.seal_tap(&measured.local_measurement(), b"secret", [0; 12]).unwrap();
        let LoadedTvm { ram, plan } = load_to_promote(&elf, Some(&tap), Some([1; 64])).unwrap();
        assert_eq!(plan.measure(&ram, before.clone()).unwrap(), measured);
        let mut other = elf.clone();
        *other.last_mut().unwrap() ^= 1;
        let other = measure_promoted(&other, before).unwrap();
        assert_ne!(other.values()[4], measured.values()[4]);
        assert_eq!(other.values()[5], measured.values()[5]);
        let steps = measure(&elf, before).unwrap();
        assert!(steps.values()[4] != measured.values()[4] && steps.values()[5] != measured.values()[5]);
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

    /// Nothing translates addresses when a TVM begins.
    #[test]
    fn an_entry_that_is_virtual_alone_is_refused() {
        let mut elf = image(&[code(IMAGE_GPA + 0x1000)]);
        elf[24..32].copy_from_slice(&IMAGE_GPA.to_le_bytes());
        // The first program header's p_vaddr.
        elf[80..88].copy_from_slice(&IMAGE_GPA.to_le_bytes());
        assert!(ElfImage::parse_for(&elf, EM_RISCV).is_ok());
        let wrong = |error| matches!(error, LoadError::Elf(ElfError::Entry(IMAGE_GPA)));
        assert!(load(&elf, None).is_err_and(wrong) && load_to_promote(&elf, None, None).is_err_and(wrong));
    }

    #[test]
    fn images_for_another_machine_are_refused() {
        let elf = build(IMAGE_GPA, &[code(IMAGE_GPA)], &[]);
        assert!(matches!(load(&elf, None), Err(LoadError::Elf(ElfError::WrongKind(_)))));
        assert!(load(b"", None).is_err());
    }
}
