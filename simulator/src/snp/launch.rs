//! The launch digest: what `SNP_LAUNCH_UPDATE` makes of a guest's pages (56860 rev. 1.58, section 8.17.2, table 67).
//!
//! Pure computation, no state but the digest: `tsmsim measure` uses the same functions as the firmware model. Per page it
//! costs one SHA-384 of the page (types NORMAL and VMSA) and one of the 70h bytes of `PAGE_INFO`; nothing is allocated.

use aws_lc_rs::digest::{SHA384, digest};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    launch::{PageInfo, PageType, VmplPermissions},
    status::FirmwareStatus,
};
use zerocopy::{
    IntoBytes,
    little_endian::{U16, U64},
};

/// One 4 KiB page.
pub type Page = [u8; PAGE_SIZE];

/// `LENGTH` of `PAGE_INFO`.
const PAGE_INFO_SIZE: u16 = 0x70;
const _: () = assert!(size_of::<PageInfo>() == 0x70);

/// Where `GUEST_TSC_SCALE` and `GUEST_TSC_OFFSET` lie in a VMSA: measured as zero, because the firmware sets them.
pub(super) const VMSA_TSC_FIELDS: std::ops::Range<usize> = 0x2f0..0x300;

/// What `SNP_LAUNCH_UPDATE` needs of the reverse map table.
pub trait LaunchRmp {
    /// Whether the page is in a state in which it may be launched (`PRE_GUEST`), without changing it.
    ///
    /// # Errors
    /// The status that the command ends with, usually [`FirmwareStatus::INVALID_PAGE_STATE`].
    fn launch_check(&self, gfn: u64) -> Result<(), FirmwareStatus> {
        let _ = gfn;
        Ok(())
    }

    /// Makes the page the guest's: assigned, validated, with these permissions of VMPL1 to VMPL3, and a VMSA if it is one.
    ///
    /// # Errors
    /// The status that the command ends with; nothing is measured then.
    fn launch_convert(
        &mut self,
        gfn: u64,
        vmsa: bool,
        perms: [VmplPermissions; 3],
    ) -> Result<(), FirmwareStatus>;
}

/// A page as the launch digest sees it: its type, and its contents where they count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaunchPage<'a> {
    /// Data, measured.
    Normal(&'a Page),
    /// A save area, measured but for its TSC scale and offset.
    Vmsa(&'a Page),
    /// Zeros.
    Zero,
    /// Data, not measured.
    Unmeasured,
    /// The secrets page.
    Secrets,
    /// The CPUID page.
    Cpuid,
}

impl LaunchPage<'_> {
    /// `PAGE_TYPE`.
    #[must_use]
    pub const fn page_type(&self) -> PageType {
        match self {
            Self::Normal(_) => PageType::NORMAL,
            Self::Vmsa(_) => PageType::VMSA,
            Self::Zero => PageType::ZERO,
            Self::Unmeasured => PageType::UNMEASURED,
            Self::Secrets => PageType::SECRETS,
            Self::Cpuid => PageType::CPUID,
        }
    }

    /// `CONTENTS`: the SHA-384 of the page, or zero.
    fn contents(&self) -> [u8; 48] {
        match self {
            Self::Normal(page) => sha384(*page),
            Self::Vmsa(page) if page[VMSA_TSC_FIELDS].iter().all(|byte| *byte == 0) => sha384(*page),
            Self::Vmsa(page) => {
                let mut page = **page;
                page[VMSA_TSC_FIELDS].fill(0);
                sha384(&page)
            }
            Self::Zero | Self::Unmeasured | Self::Secrets | Self::Cpuid => [0; 48],
        }
    }
}

/// Where a page lies and what is measured of it besides its contents. Made from a guest-physical address alone, it is what
/// KVM launches with: no permissions for VMPL1 to VMPL3, not part of a migration image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageAttributes {
    /// Guest-physical address of the page.
    pub gpa: u64,
    /// Permissions of VMPL1, VMPL2 and VMPL3, in this order.
    pub vmpl_perms: [VmplPermissions; 3],
    /// `IMI_PAGE`: the page is part of the initial migration image.
    pub imi_page: bool,
}

impl From<u64> for PageAttributes {
    fn from(gpa: u64) -> Self {
        Self { gpa, vmpl_perms: [VmplPermissions::new(); 3], imi_page: false }
    }
}

/// A launch digest (`LD`): 48 bytes, zero before the first page.
///
/// ```
/// use tsmsim_simulator::snp::launch::{LaunchDigest, LaunchPage};
///
/// let mut digest = LaunchDigest::default();
/// digest.extend(0xffff_f000, LaunchPage::Normal(&[0x90; 4096]));
/// digest.extend(0x80_d000, LaunchPage::Secrets);
/// assert_ne!(digest, LaunchDigest::default());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaunchDigest([u8; 48]);

impl Default for LaunchDigest {
    fn default() -> Self {
        Self([0; 48])
    }
}

impl LaunchDigest {
    /// A digest so far, to go on from.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The 48 bytes, as `MEASUREMENT` of a report has them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// Adds a page.
    pub fn extend(&mut self, attributes: impl Into<PageAttributes>, page: LaunchPage<'_>) {
        self.extend_contents(&attributes.into(), page.page_type(), page.contents());
    }

    /// Adds a page by the digest of its contents, for a caller who computed that elsewhere (in parallel, say).
    pub fn extend_contents(&mut self, attributes: &PageAttributes, page_type: PageType, contents: [u8; 48]) {
        let [vmpl1, vmpl2, vmpl3] = attributes.vmpl_perms;
        let info = PageInfo {
            digest_cur: self.0,
            contents,
            length: U16::new(PAGE_INFO_SIZE),
            page_type: page_type.0,
            imi_page: u8::from(attributes.imi_page),
            reserved_0x64: 0,
            vmpl1_perms: vmpl1.into(),
            vmpl2_perms: vmpl2.into(),
            vmpl3_perms: vmpl3.into(),
            gpa: U64::new(attributes.gpa),
        };
        self.0 = sha384(info.as_bytes());
    }

    /// Adds a page to this digest and, where `IMI_PAGE` is set, to the one of the initial migration image; the contents
    /// are hashed once.
    pub(super) fn extend_with_imd(
        &mut self,
        imd: &mut Self,
        attributes: &PageAttributes,
        page: LaunchPage<'_>,
    ) {
        let contents = page.contents();
        self.extend_contents(attributes, page.page_type(), contents);
        if attributes.imi_page {
            imd.extend_contents(attributes, page.page_type(), contents);
        }
    }
}

/// The launch digest of pages in the order of their launch.
pub fn measure<'a, A: Into<PageAttributes>>(
    pages: impl IntoIterator<Item = (A, LaunchPage<'a>)>,
) -> LaunchDigest {
    let mut digest = LaunchDigest::default();
    for (attributes, page) in pages {
        digest.extend(attributes, page);
    }
    digest
}

/// SHA-384 in one go, without allocation.
pub(super) fn sha384(data: &[u8]) -> [u8; 48] {
    let mut out = [0; 48];
    out.copy_from_slice(digest(&SHA384, data).as_ref());
    out
}
