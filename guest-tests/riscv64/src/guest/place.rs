//! Where the guest's buffers lie: behind the image, in pages that are not measured and are mapped when they are first used.

use tsmsim_abi::guest_test::riscv64::{PARAMETERS_GPA, RAM_END};

/// Bytes of a page.
pub(super) const PAGE: u64 = tsmsim_abi::cove::PAGE_SIZE as u64;

/// Shared: the parameters.
pub(super) const PARAMETERS: u64 = PARAMETERS_GPA;
/// Shared: what is printed.
pub(super) const CONSOLE: u64 = PARAMETERS_GPA + 0x1000;
/// Shared, for buffers that the TSM refuses there, or takes; four pages.
pub(super) const SHARED: u64 = PARAMETERS_GPA + 0x2000;
/// Pages of [`SHARED`].
pub(super) const SHARED_PAGES: u64 = 4;

/// A public key.
pub(super) const KEY: u64 = PARAMETERS_GPA + 0x1_0000;
/// A challenge.
pub(super) const CHALLENGE: u64 = PARAMETERS_GPA + 0x1_2000;
/// Attestation capabilities.
pub(super) const CAPABILITIES: u64 = PARAMETERS_GPA + 0x1_3000;
/// A digest.
pub(super) const DIGEST: u64 = PARAMETERS_GPA + 0x1_4000;
/// A secret; two pages.
pub(super) const SECRET: u64 = PARAMETERS_GPA + 0x1_5000;
/// Evidence.
pub(super) const EVIDENCE: u64 = PARAMETERS_GPA + 0x2_0000;
/// Bytes of [`EVIDENCE`].
pub(super) const EVIDENCE_SIZE: u64 = 0x1_0000;
/// Pages for conversions, eight of them.
pub(super) const SPARE: u64 = PARAMETERS_GPA + 0x10_0000;

/// An MMIO region that the TVM defines, of four pages. Nobody accesses it.
pub(super) const MMIO: u64 = 0x4000_0000;
/// The first address that no guest can have.
pub(super) const BEYOND: u64 = 1 << 50;
/// The last page of RAM.
pub(super) const LAST_PAGE: u64 = RAM_END - PAGE;

/// Whether a range lies in buffers.
pub(super) fn is_buffer(gpa: u64, length: usize) -> bool {
    gpa >= PARAMETERS_GPA && gpa.checked_add(length as u64).is_some_and(|end| end <= RAM_END)
}
