//! A firmware image as the launch of a TD: which pages are added, and `MRTD` of them.
//!
//! RTMRs are not told: what the firmware extends them with depends on the host (hand-off blocks, ACPI tables, variables).

use tsmsim_abi::tdx::{report::Measurement, tdvf::Tdvf};

use super::{PAGE_SIZE, machine::PlannedPage, mrtd::Mrtd};

fn contents(begin: &[u8]) -> Box<[u8; PAGE_SIZE]> {
    let mut page = Box::new([0; PAGE_SIZE]);
    let len = begin.len().min(PAGE_SIZE);
    page[..len].copy_from_slice(&begin[..len]);
    page
}

/// The pages for a [`LaunchPlan`](super::machine::LaunchPlan), in order. The hand-off blocks, which the host writes and nobody
/// measures, are zeros.
pub fn pages<'a>(image: &Tdvf<'a>) -> impl Iterator<Item = PlannedPage> + use<'a> {
    image.pages().map(|page| PlannedPage {
        gpa: page.gpa,
        contents: Some(contents(page.contents)),
        measured: page.measured,
    })
}

/// `MRTD` of a TD that is launched with this image and nothing else.
#[must_use]
pub fn measure(image: &Tdvf<'_>) -> Measurement {
    let mut mrtd = Mrtd::new();
    for page in image.pages() {
        if page.measured {
            mrtd.measured_page(page.gpa, &contents(page.contents));
        } else {
            mrtd.page_add(page.gpa);
        }
    }
    mrtd.finish()
}
