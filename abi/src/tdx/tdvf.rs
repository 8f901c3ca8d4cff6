//! What a firmware image (TDVF) says about its launch as a TD: the TDX metadata (Intel, *TDX Virtual Firmware Design Guide*,
//! "TDVF Metadata"; edk2 `OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm`). What is refused is what QEMU refuses
//! (`hw/i386/tdvf.c`), and what could not be measured.

use zerocopy::{
    FromBytes,
    little_endian::{U32, U64},
};

use super::codec::{ReadError, Reader};
use crate::{
    guid::Guid,
    snp::ovmf::{BrokenEntry, FooterTable},
};

/// Entry of the footer table that says where the metadata begin: bytes from the end of the image.
/// e47a6535-984a-4798-865e-4685a7bf8ec2.
pub const METADATA_OFFSET_GUID: Guid = Guid::from_fields(0xe47a_6535, 0x984a, 0x4798, 0x865e_4685_a7bf_8ec2);
/// The signature of [`Metadata`].
pub const METADATA_SIGNATURE: [u8; 4] = *b"TDVF";
/// The version that is known.
pub const METADATA_VERSION: u32 = 1;

/// Addresses and sizes in memory are multiples of this.
const PAGE: u64 = PAGE_SIZE as u64;
const PAGE_SIZE: usize = 4096;
/// Pages that the sections of an image may ask for at most: 4 GiB.
const MAX_PAGES: u64 = 1 << 20;

wire! {
    /// Head of the metadata; the sections follow.
    pub struct Metadata {
        /// [`METADATA_SIGNATURE`].
        pub signature: [u8; 4],
        /// Size of head and sections.
        pub length: U32,
        /// [`METADATA_VERSION`].
        pub version: U32,
        /// Number of sections.
        pub number_of_section_entries: U32,
    }
}
assert_layout!(Metadata, 16, { signature: 0x0, length: 0x4, version: 0x8, number_of_section_entries: 0xc });

wire! {
    /// A section: a range of memory that the host prepares before the TD starts.
    pub struct Section {
        /// Where its contents lie in the image.
        pub data_offset: U32,
        /// Size of its contents in the image; zeros follow up to the size in memory.
        pub raw_data_size: U32,
        /// Guest-physical address.
        pub memory_address: U64,
        /// Size in memory.
        pub memory_data_size: U64,
        /// A [`SectionType`].
        pub section_type: U32,
        /// The bits of [`SectionAttributes`].
        pub attributes: U32,
    }
}
assert_layout!(Section, 32, {
    data_offset: 0x0, raw_data_size: 0x4, memory_address: 0x8, memory_data_size: 0x10, section_type: 0x18,
    attributes: 0x1c,
});

open_codes! {
    /// What a [`Section`] is for.
    pub struct SectionType(u32);
    /// Boot firmware volume: code.
    BFV = 0;
    /// Configuration firmware volume: variables.
    CFV = 1;
    /// Where the host puts the list of hand-off blocks.
    TD_HOB = 2;
    /// Memory for the firmware.
    TEMP_MEM = 3;
}

/// Attributes of a [`Section`].
#[bitfield_struct::bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SectionAttributes {
    /// The contents are measured.
    pub mr_extend: bool,
    /// The pages are added while the TD runs, not before.
    pub page_aug: bool,
    /// Reserved, zero.
    #[bits(30)]
    pub reserved: u32,
}

impl Section {
    /// Guest-physical addresses of its pages, and for each what lies in the image from there on: a page, less, or nothing.
    fn pages<'a>(&self, image: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let start = usize::try_from(self.data_offset.get()).unwrap_or(usize::MAX);
        let size = usize::try_from(self.raw_data_size.get()).unwrap_or(usize::MAX);
        let data = image.get(start..).and_then(|rest| rest.get(..size)).unwrap_or_default();
        let (address, pages) = (self.memory_address.get(), self.memory_data_size.get() / PAGE);
        let mut left = data;
        (0..pages).map(move |index| {
            let (page, rest) = left.split_at(left.len().min(PAGE_SIZE));
            left = rest;
            (address + index * PAGE, page)
        })
    }

    fn check(&self, image: &[u8]) -> Result<u64, ReadError> {
        let (address, size) = (self.memory_address.get(), self.memory_data_size.get());
        let raw = u64::from(self.raw_data_size.get());
        let unsupported = |what, value| Err(ReadError::Unsupported { what, value });
        if !address.is_multiple_of(PAGE) {
            return unsupported("address of a section", address);
        }
        if !size.is_multiple_of(PAGE) || size / PAGE > MAX_PAGES || address.checked_add(size).is_none() {
            return unsupported("size of a section in memory", size);
        }
        if raw > size {
            return Err(ReadError::Size { what: "a section's contents", stated: raw, expected: size });
        }
        let kind = SectionType(self.section_type.get());
        match kind {
            SectionType::BFV | SectionType::CFV if raw > 0 => {}
            SectionType::TD_HOB | SectionType::TEMP_MEM if raw == 0 => {}
            SectionType::BFV | SectionType::CFV | SectionType::TD_HOB | SectionType::TEMP_MEM => {
                return unsupported("size of the contents of such a section", raw);
            }
            other => return unsupported("type of a section", other.0.into()),
        }
        let end = u64::from(self.data_offset.get()) + raw;
        if end > image.len() as u64 {
            let (what, expected) = ("image, by the end of a section,", image.len() as u64);
            return Err(ReadError::Size { what, stated: end, expected });
        }
        Ok(size / PAGE)
    }
}

/// A page that the host adds before the TD starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page<'a> {
    /// Guest-physical address.
    pub gpa: u64,
    /// How its contents begin; zeros follow.
    pub contents: &'a [u8],
    /// Whether the contents are measured; the address always is.
    pub measured: bool,
}

/// An image with its metadata, which have been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tdvf<'a> {
    image: &'a [u8],
    sections: &'a [Section],
}

impl<'a> Tdvf<'a> {
    /// Finds and checks the metadata of an image; `None` if it has none.
    ///
    /// # Errors
    /// The footer table or the metadata are broken, or ask for what no host does.
    pub fn read(image: &'a [u8]) -> Result<Option<Self>, ReadError> {
        let Some(entry) = footer_entry(image, METADATA_OFFSET_GUID)? else { return Ok(None) };
        let offset: &U32 = Reader::new(entry).part("offset of the TDX metadata")?;
        let from_end = usize::try_from(offset.get()).unwrap_or(usize::MAX);
        let start = image.len().checked_sub(from_end).ok_or(ReadError::Size {
            what: "offset of the TDX metadata from the end",
            stated: offset.get().into(),
            expected: image.len() as u64,
        })?;
        let mut reader = Reader::new(image.get(start..).unwrap_or_default());
        let head: &Metadata = reader.part("TDX metadata")?;
        if head.signature != METADATA_SIGNATURE {
            return Err(ReadError::Text { what: "signature of the TDX metadata" });
        }
        if head.version.get() != METADATA_VERSION {
            let value = head.version.get().into();
            return Err(ReadError::Unsupported { what: "version of the TDX metadata", value });
        }
        let count = head.number_of_section_entries.get();
        let size = count.saturating_mul(32);
        let expected = u64::from(size) + 16;
        if u64::from(head.length.get()) != expected {
            let stated = head.length.get().into();
            return Err(ReadError::Size { what: "TDX metadata", stated, expected });
        }
        let bytes = reader.sized(size, "sections of the TDX metadata")?;
        let sections = <[Section]>::ref_from_bytes(bytes).map_err(|_| ReadError::Size {
            what: "sections of the TDX metadata",
            stated: size.into(),
            expected,
        })?;
        let mut pages = 0_u64;
        for section in sections {
            pages = pages.saturating_add(section.check(image)?);
        }
        if pages > MAX_PAGES {
            return Err(ReadError::Unsupported { what: "number of pages of all sections", value: pages });
        }
        Ok(Some(Self { image, sections }))
    }

    /// The sections, in their order.
    #[must_use]
    pub const fn sections(&self) -> &'a [Section] {
        self.sections
    }

    /// The pages that are added before the TD starts, in the order in which QEMU and KVM add them: section by section, each
    /// page measured as soon as it is added (`KVM_TDX_INIT_MEM_REGION`, one call a section).
    pub fn pages(&self) -> impl Iterator<Item = Page<'a>> + use<'a> {
        let image = self.image;
        self.sections.iter().flat_map(move |section| {
            let attributes = SectionAttributes::from(section.attributes.get());
            let added = section.pages(image).take_while(move |_| !attributes.page_aug());
            added.map(move |(gpa, contents)| Page { gpa, contents, measured: attributes.mr_extend() })
        })
    }
}

/// Data of an entry of the footer table.
fn footer_entry(image: &[u8], wanted: Guid) -> Result<Option<&[u8]>, ReadError> {
    for entry in FooterTable::find(image)?.into_iter().flatten() {
        let (guid, data) = entry?;
        if guid == wanted {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

impl From<BrokenEntry> for ReadError {
    fn from(BrokenEntry { stated, available, .. }: BrokenEntry) -> Self {
        let (stated, expected) = (stated as u64, available as u64);
        Self::Size { what: "an entry of the footer table", stated, expected }
    }
}

#[cfg(test)]
#[path = "tdvf_tests.rs"]
mod tests;
