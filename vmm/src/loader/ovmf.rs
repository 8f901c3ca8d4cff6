//! OVMF images: which pages their launch as an SNP guest consists of, in the order in which QEMU adds them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tsmsim_abi::{
    guid::Guid,
    snp::{
        PAGE_SIZE,
        launch::{PageType, VMSA_GPA},
        ovmf,
        vmsa::Vmsa,
    },
};
use tsmsim_simulator::snp::launch::{LaunchDigest, LaunchPage};
use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32},
};

use super::vmsa::{VmmType, reset_vmsa};

/// The image ends here.
const FOUR_GIB: u64 = 1 << 32;
/// Larger images are refused: the flash of a guest lies below 4 GiB and above its RAM.
const MAX_IMAGE: usize = 64 << 20;
/// Pages that the sections of an image may ask for at most: 4 GiB.
const MAX_SECTION_PAGES: u64 = 1 << 20;

/// Why an image cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OvmfError {
    /// Size.
    #[error("OVMF image has {0} bytes; it must be whole 4 KiB pages, and 64 MiB at most")]
    ImageSize(usize),
    /// The footer table is broken.
    #[error("OVMF image: the entry at {0} bytes from the end of the footer table is broken")]
    BrokenFooter(usize),
    /// An entry that a launch needs is missing.
    #[error("OVMF image has no {0}: is this a build with SEV-SNP support (edk2-stable202205 or later)?")]
    Missing(&'static str),
    /// The SEV metadata are broken.
    #[error("OVMF image: SEV metadata are broken ({0})")]
    BrokenMetadata(&'static str),
    /// A section of a kind that is not known.
    #[error("OVMF image: SEV metadata section of unknown kind {0:#x}")]
    UnknownSection(u32),
    /// Kernel hashes are wanted, but the image has no place for them.
    #[error(
        "a kernel was given, but the OVMF image has no place for kernel hashes: use the AmdSev build of OVMF"
    )]
    NoKernelHashes,
}

/// A range of pages of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchRange<'a> {
    /// Guest-physical address of the first page.
    pub gpa: u64,
    /// Type of the pages.
    pub page_type: PageType,
    /// How many pages.
    pub pages: u64,
    /// What they hold (whole pages); zeros if `None`.
    pub contents: Option<std::borrow::Cow<'a, [u8]>>,
}

/// Kernel, initrd and command line for direct boot; only their hashes are measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectBoot<'a> {
    /// The kernel image.
    pub kernel: &'a [u8],
    /// The initrd; empty if there is none.
    pub initrd: &'a [u8],
    /// The command line, without closing zero.
    pub append: &'a str,
}

/// An OVMF image.
#[derive(Clone, Debug)]
pub struct Ovmf<'a> {
    image: &'a [u8],
    table: BTreeMap<[u8; 16], &'a [u8]>,
    sections: Vec<ovmf::Section>,
}

impl<'a> Ovmf<'a> {
    /// Reads the footer table and the SEV metadata of an image.
    ///
    /// # Errors
    /// If the image is not whole pages, or its tables are broken or absent.
    pub fn parse(image: &'a [u8]) -> Result<Self, OvmfError> {
        if image.is_empty() || image.len() > MAX_IMAGE || !image.len().is_multiple_of(PAGE_SIZE) {
            return Err(OvmfError::ImageSize(image.len()));
        }
        let table = footer_table(image)?;
        let sections = metadata(image, &table)?;
        Ok(Self { image, table, sections })
    }

    /// Where application processors start (the SEV-ES reset block).
    ///
    /// # Errors
    /// If the image has none.
    pub fn ap_reset_eip(&self) -> Result<u32, OvmfError> {
        self.word(ovmf::RESET_BLOCK_GUID).ok_or(OvmfError::Missing("SEV-ES reset block"))
    }

    /// The pages of the launch, without the VMSAs: the image, then its sections in order.
    ///
    /// # Errors
    /// If kernel hashes are wanted and the image has no place for them.
    pub fn ranges(
        &self,
        vmm: VmmType,
        boot: Option<DirectBoot<'_>>,
    ) -> Result<Vec<LaunchRange<'a>>, OvmfError> {
        let mut ranges = vec![LaunchRange {
            gpa: FOUR_GIB - self.image.len() as u64,
            page_type: PageType::NORMAL,
            pages: (self.image.len() / PAGE_SIZE) as u64,
            contents: Some(self.image.into()),
        }];
        let hashes = boot.map(|boot| self.hashes_page(boot)).transpose()?;
        for section in &self.sections {
            ranges.push(section_range(*section, vmm, hashes.as_ref())?);
        }
        if hashes.is_some() && !self.sections.iter().any(|s| s.kind.get() == HASHES) {
            return Err(OvmfError::NoKernelHashes);
        }
        if vmm == VmmType::Ec2 {
            // EC2 adds the CPUID page after all others.
            let (cpuid, mut others): (Vec<_>, Vec<_>) =
                ranges.into_iter().partition(|range| range.page_type == PageType::CPUID);
            others.extend(cpuid);
            return Ok(others);
        }
        Ok(ranges)
    }

    /// The VMSAs of `count` vCPUs: the first starts at the reset vector, the others at the reset block's address.
    ///
    /// # Errors
    /// If there is more than one vCPU and the image has no reset block.
    pub fn vmsas(
        &self,
        vmm: VmmType,
        count: usize,
        signature: u32,
        features: u64,
    ) -> Result<Vec<Vmsa>, OvmfError> {
        let mut vmsas = vec![reset_vmsa(vmm, None, signature, features)];
        if count > 1 {
            let ap = reset_vmsa(vmm, Some(self.ap_reset_eip()?), signature, features);
            vmsas.resize(count, ap);
        }
        Ok(vmsas)
    }

    /// First 32 bits of a footer entry's data.
    fn word(&self, guid: Guid) -> Option<u32> {
        let (word, _) = U32::read_from_prefix(self.table.get(&guid.0)?).ok()?;
        Some(word.get())
    }

    fn hashes_page(&self, boot: DirectBoot<'_>) -> Result<Vec<u8>, OvmfError> {
        let address = match self.word(ovmf::HASH_TABLE_AREA_GUID) {
            None | Some(0) => return Err(OvmfError::NoKernelHashes),
            Some(address) => address,
        };
        let table = hash_table(boot);
        let offset = address as usize % PAGE_SIZE;
        let mut page = vec![0; PAGE_SIZE];
        page.get_mut(offset..offset + size_of_val(&table))
            .ok_or(OvmfError::BrokenMetadata("the kernel hash table crosses a page"))?
            .copy_from_slice(table.as_bytes());
        Ok(page)
    }
}

/// The launch digest of these ranges, in order, and then of the VMSAs.
#[must_use]
pub fn measure(ranges: &[LaunchRange<'_>], vmsas: &[Vmsa]) -> LaunchDigest {
    let mut digest = LaunchDigest::default();
    for range in ranges {
        for index in 0..range.pages {
            digest.extend(range.gpa + index * PAGE_SIZE as u64, range.page(index));
        }
    }
    for vmsa in vmsas {
        let page: &[u8; PAGE_SIZE] = zerocopy::transmute_ref!(vmsa);
        digest.extend(VMSA_GPA, LaunchPage::Vmsa(page));
    }
    digest
}

impl LaunchRange<'_> {
    /// A page of the range, as the launch digest sees it.
    fn page(&self, index: u64) -> LaunchPage<'_> {
        const ZEROS: &[u8; PAGE_SIZE] = &[0; PAGE_SIZE];
        match self.page_type {
            PageType::ZERO => LaunchPage::Zero,
            PageType::UNMEASURED => LaunchPage::Unmeasured,
            PageType::SECRETS => LaunchPage::Secrets,
            PageType::CPUID => LaunchPage::Cpuid,
            _ => LaunchPage::Normal(self.contents_of(index).unwrap_or(ZEROS)),
        }
    }

    fn contents_of(&self, index: u64) -> Option<&[u8; PAGE_SIZE]> {
        let (pages, _) = self.contents.as_ref()?.as_chunks();
        pages.get(usize::try_from(index).ok()?)
    }
}

const HASHES: u32 = ovmf::SectionKind::SNP_KERNEL_HASHES.0;

fn section_range<'a>(
    section: ovmf::Section,
    vmm: VmmType,
    hashes: Option<&Vec<u8>>,
) -> Result<LaunchRange<'a>, OvmfError> {
    let gpa = u64::from(section.gpa.get());
    let mut pages = u64::from(section.size.get()) / PAGE_SIZE as u64;
    let mut contents = None;
    let page_type = match ovmf::SectionKind(section.kind.get()) {
        ovmf::SectionKind::SNP_SEC_MEM if vmm == VmmType::Gce => PageType::UNMEASURED,
        ovmf::SectionKind::SNP_SEC_MEM | ovmf::SectionKind::SVSM_CAA => PageType::ZERO,
        ovmf::SectionKind::SNP_SECRETS => PageType::SECRETS,
        ovmf::SectionKind::CPUID => PageType::CPUID,
        ovmf::SectionKind::SNP_KERNEL_HASHES => match hashes {
            None => PageType::ZERO,
            Some(page) if pages == 1 => {
                contents = Some(page.clone().into());
                PageType::NORMAL
            }
            Some(_) => return Err(OvmfError::BrokenMetadata("the kernel hashes section is not one page")),
        },
        other => return Err(OvmfError::UnknownSection(other.0)),
    };
    if matches!(page_type, PageType::SECRETS | PageType::CPUID) {
        pages = 1;
    }
    Ok(LaunchRange { gpa, page_type, pages, contents })
}

fn hash_table(boot: DirectBoot<'_>) -> ovmf::HashTable {
    let entry = |guid, data: &[&[u8]]| {
        let hash = data.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
        ovmf::HashEntry { guid, length: U16::new(HASH_ENTRY_LENGTH), hash: hash.finalize().into() }
    };
    ovmf::HashTable {
        guid: ovmf::HASH_TABLE_GUID,
        length: U16::new(HASH_TABLE_LENGTH),
        cmdline: entry(ovmf::CMDLINE_GUID, &[boot.append.as_bytes(), &[0]]),
        initrd: entry(ovmf::INITRD_GUID, &[boot.initrd]),
        kernel: entry(ovmf::KERNEL_GUID, &[boot.kernel]),
        padding: [0; 8],
    }
}

/// Size of a hash entry, as it states it.
const HASH_ENTRY_LENGTH: u16 = 50;
/// Size of the hash table without its padding, as its header states it.
const HASH_TABLE_LENGTH: u16 = 168;

/// The footer table: data by GUID.
fn footer_table(image: &[u8]) -> Result<BTreeMap<[u8; 16], &[u8]>, OvmfError> {
    let table = ovmf::FooterTable::find(image)?.ok_or(OvmfError::Missing("footer table"))?;
    table.map(|entry| entry.map(|(guid, data)| (guid.0, data)).map_err(OvmfError::from)).collect()
}

impl From<ovmf::BrokenEntry> for OvmfError {
    fn from(broken: ovmf::BrokenEntry) -> Self {
        Self::BrokenFooter(broken.from_end)
    }
}

fn metadata(image: &[u8], table: &BTreeMap<[u8; 16], &[u8]>) -> Result<Vec<ovmf::Section>, OvmfError> {
    let missing = OvmfError::Missing("SEV metadata");
    let entry = table.get(&ovmf::METADATA_GUID.0).ok_or(missing.clone())?;
    let (offset, _) = U32::read_from_prefix(entry).map_err(|_| missing)?;
    let start = usize::try_from(offset.get()).ok().and_then(|offset| image.len().checked_sub(offset));
    let start = start.ok_or(OvmfError::BrokenMetadata("they lie outside the image"))?;
    let (header, rest) = ovmf::MetadataHeader::read_from_prefix(&image[start..])
        .map_err(|_| OvmfError::BrokenMetadata("they end with the image"))?;
    if header.signature != *b"ASEV" || header.version.get() != 1 {
        return Err(OvmfError::BrokenMetadata("signature or version is wrong"));
    }
    let count = usize::try_from(header.count.get()).unwrap_or(usize::MAX);
    let bytes = count
        .checked_mul(size_of::<ovmf::Section>())
        .and_then(|size| rest.get(..size))
        .ok_or(OvmfError::BrokenMetadata("they end before their last section"))?;
    let sections: Vec<_> = bytes
        .chunks_exact(size_of::<ovmf::Section>())
        .filter_map(|chunk| ovmf::Section::read_from_bytes(chunk).ok())
        .collect();
    let aligned = |s: &ovmf::Section| {
        s.gpa.get().is_multiple_of(4096) && s.size.get().is_multiple_of(4096) && s.size.get() > 0
    };
    if !sections.iter().all(aligned) {
        return Err(OvmfError::BrokenMetadata("a section is not made of whole pages"));
    }
    let pages: u64 = sections.iter().map(|s| u64::from(s.size.get()) / PAGE_SIZE as u64).sum();
    if pages > MAX_SECTION_PAGES {
        return Err(OvmfError::BrokenMetadata("the sections are larger than 4 GiB"));
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An image of two pages with a footer table of the given entries, and metadata of the given sections.
    fn image(sections: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut metadata = ovmf::MetadataHeader {
            signature: *b"ASEV",
            size: U32::new(16 + 12 * u32::try_from(sections.len()).unwrap()),
            version: U32::new(1),
            count: U32::new(u32::try_from(sections.len()).unwrap()),
        }
        .as_bytes()
        .to_vec();
        for (gpa, size, kind) in sections {
            for word in [gpa, size, kind] {
                metadata.extend_from_slice(&word.to_le_bytes());
            }
        }
        let mut image = vec![0; 2 * PAGE_SIZE];
        image[..metadata.len()].copy_from_slice(&metadata);
        let mut table = Vec::new();
        let mut entry = |guid: Guid, data: &[u8]| {
            table.extend_from_slice(data);
            table.extend_from_slice(&u16::try_from(data.len() + 18).unwrap().to_le_bytes());
            table.extend_from_slice(&guid.0);
        };
        entry(ovmf::METADATA_GUID, &u32::try_from(2 * PAGE_SIZE).unwrap().to_le_bytes());
        entry(ovmf::RESET_BLOCK_GUID, &0x80_b004_u32.to_le_bytes());
        table.extend_from_slice(&u16::try_from(table.len() + 18).unwrap().to_le_bytes());
        table.extend_from_slice(&ovmf::FOOTER_GUID.0);
        let end = 2 * PAGE_SIZE - ovmf::FOOTER_FROM_END;
        image[end - table.len()..end].copy_from_slice(&table);
        image
    }

    #[test]
    fn reads_sections_and_reset_block() {
        let bytes = image(&[(0x80_0000, 0x9000, 1), (0x80_d000, 0x1000, 2), (0x80_e000, 0x1000, 3)]);
        let ovmf = Ovmf::parse(&bytes).unwrap();
        assert_eq!(ovmf.ap_reset_eip(), Ok(0x80_b004));
        let ranges = ovmf.ranges(VmmType::Qemu, None).unwrap();
        let shape: Vec<_> = ranges.iter().map(|r| (r.gpa, r.page_type, r.pages)).collect();
        assert_eq!(
            shape,
            [
                (0xffff_e000, PageType::NORMAL, 2),
                (0x80_0000, PageType::ZERO, 9),
                (0x80_d000, PageType::SECRETS, 1),
                (0x80_e000, PageType::CPUID, 1),
            ]
        );
    }

    #[test]
    fn a_broken_footer_table_is_refused() {
        let good = image(&[(0x80_0000, 0x1000, 1)]);
        for from_end in [0_usize, 22] {
            let mut bytes = good.clone();
            // The table's own header, and behind it the entry before the last.
            let header = bytes.len() - ovmf::FOOTER_FROM_END - 18;
            let at = if from_end == 0 { header } else { header - from_end - 18 };
            bytes[at..at + 2].copy_from_slice(&17_u16.to_le_bytes());
            assert_eq!(Ovmf::parse(&bytes).unwrap_err(), OvmfError::BrokenFooter(from_end));
        }
    }

    #[test]
    fn refuses_what_it_cannot_launch() {
        assert_eq!(Ovmf::parse(&[0; 100]).unwrap_err(), OvmfError::ImageSize(100));
        assert_eq!(Ovmf::parse(&[0; 4096]).unwrap_err(), OvmfError::Missing("footer table"));
        let unaligned = image(&[(0x80_0001, 0x1000, 1)]);
        assert!(matches!(Ovmf::parse(&unaligned), Err(OvmfError::BrokenMetadata(_))));
        let unknown = image(&[(0x80_0000, 0x1000, 77)]);
        let ovmf = Ovmf::parse(&unknown).unwrap();
        assert_eq!(ovmf.ranges(VmmType::Qemu, None).unwrap_err(), OvmfError::UnknownSection(77));
        let boot = DirectBoot { kernel: b"k", initrd: b"", append: "" };
        assert_eq!(ovmf.ranges(VmmType::Qemu, Some(boot)).unwrap_err(), OvmfError::NoKernelHashes);
    }

    proptest! {
        #[test]
        fn any_footer_is_read_or_refused(tail in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..4000) {
            let mut bytes = image(&[(0x80_0000, 0x1000, 1)]);
            let start = PAGE_SIZE + at.min(PAGE_SIZE - tail.len());
            bytes[start..start + tail.len()].copy_from_slice(&tail);
            if let Ok(ovmf) = Ovmf::parse(&bytes) {
                let _ = ovmf.ranges(VmmType::Qemu, None);
            }
        }
    }
}
