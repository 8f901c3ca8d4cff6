//! Guest-physical memory of a TVM: regions, and the pages mapped in them.
//!
//! | region | who defines it | pages |
//! |---|---|---|
//! | [`RegionKind::Confidential`] | the host before finalize; the TVM by unshare | measured, or zero on demand |
//! | [`RegionKind::Shared`] | the TVM by share | the host's, on demand |
//! | [`RegionKind::Mmio`] | the TVM | none, every access traps |
//!
//! | page state | who moves it on |
//! |---|---|
//! | [`PageState::Absent`] | the host, by `add_tvm_measured_pages`, `add_tvm_zero_pages`, `add_tvm_shared_pages` |
//! | [`PageState::Mapped`] | the host, by `tvm_invalidate_pages` |
//! | [`PageState::Invalidated`] | the host, by `tvm_fence`, or `tvm_validate_pages` |
//! | [`PageState::Fenced`] | the host, by `tvm_remove_pages`, or `tvm_validate_pages` |

use std::{collections::BTreeMap, ops::Range};

use super::PAGE_SIZE;

/// Bits of a guest-physical address: Sv48x4.
pub const GPA_BITS: u32 = 50;
/// MMIO regions of a TVM at most.
pub const MAX_MMIO_REGIONS: usize = 1024;

const PAGE: u64 = PAGE_SIZE as u64;

/// What a region is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RegionKind {
    /// The TVM's own.
    Confidential,
    /// Shared with the host.
    Shared,
    /// Emulated by the host.
    Mmio,
}

/// State of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PageState {
    /// Not mapped.
    #[default]
    Absent,
    /// In use.
    Mapped,
    /// Blocked by the host.
    Invalidated,
    /// Blocked, and no translation is left.
    Fenced,
}

/// Whether there is a guest-physical range with this start and length.
#[must_use]
pub fn range(gpa: u64, len: u64) -> Option<Range<u64>> {
    gpa.checked_add(len).filter(|end| *end <= 1 << GPA_BITS).map(|end| gpa..end)
}

/// Whether an address or a length is a multiple of 4 KiB.
#[must_use]
pub const fn is_aligned(value: u64) -> bool {
    value.is_multiple_of(PAGE)
}

/// Regions and pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Regions {
    /// By start: end and kind. They do not overlap; neighbours of one kind are one, unless they are MMIO.
    regions: BTreeMap<u64, (u64, RegionKind)>,
    /// By frame number; what is missing is absent.
    pages: BTreeMap<u64, PageState>,
}

impl Regions {
    /// The regions in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, RegionKind)> {
        self.regions.iter().map(|(start, (end, kind))| (*start..*end, *kind))
    }

    /// Regions that share an address with the range.
    fn overlapping(&self, range: &Range<u64>) -> Vec<(Range<u64>, RegionKind)> {
        let Range { start, end } = *range;
        let below = self.regions.range(..end).rev().map(|(start, (end, kind))| (*start..*end, *kind));
        // They do not overlap each other, so their ends are in the order of their starts.
        below.take_while(|(region, _)| region.end > start).collect()
    }

    /// Whether any region shares an address with the range.
    #[must_use]
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        !self.overlapping(range).is_empty()
    }

    /// The kind of the region that has all of the range; an empty range counts as its first byte.
    #[must_use]
    pub fn kind(&self, range: &Range<u64>) -> Option<RegionKind> {
        let (_, (end, kind)) = self.regions.range(..=range.start).next_back()?;
        (range.end.max(range.start.saturating_add(1)) <= *end).then_some(*kind)
    }

    /// Whether all of the range lies in regions that are confidential or shared.
    #[must_use]
    pub fn is_memory(&self, range: &Range<u64>) -> bool {
        let mut next = range.start;
        while let Some((_, (end, kind))) = self.regions.range(..=next).next_back() {
            if *kind == RegionKind::Mmio || *end <= next {
                return false;
            }
            if *end >= range.end {
                return true;
            }
            next = *end;
        }
        false
    }

    /// MMIO regions that there are.
    #[must_use]
    pub fn mmio_regions(&self) -> usize {
        self.regions.values().filter(|(_, kind)| *kind == RegionKind::Mmio).count()
    }

    /// Makes a range a region of a kind, whatever it was; pages in it go.
    pub fn define(&mut self, range: &Range<u64>, kind: RegionKind) {
        for (old, old_kind) in self.overlapping(range) {
            self.regions.remove(&old.start);
            if old.start < range.start {
                self.regions.insert(old.start, (range.start, old_kind));
            }
            if old.end > range.end {
                self.regions.insert(range.end, (old.end, old_kind));
            }
        }
        self.forget_pages(range);
        let mut merged = range.clone();
        if kind != RegionKind::Mmio {
            if let Some((end, next)) = self.regions.get(&range.end).copied()
                && next == kind
            {
                self.regions.remove(&range.end);
                merged.end = end;
            }
            let before =
                self.regions.range(..range.start).next_back().map(|(start, region)| (*start, *region));
            if let Some((start, (end, before))) = before
                && (end, before) == (range.start, kind)
            {
                merged.start = start;
            }
        }
        self.regions.insert(merged.start, (merged.end, kind));
    }

    /// Removes every MMIO region that shares an address with the range. Returns how many there were.
    pub fn remove_mmio(&mut self, range: &Range<u64>) -> usize {
        let overlapping = self.overlapping(range).into_iter();
        let mmio: Vec<_> = overlapping.filter(|(_, kind)| *kind == RegionKind::Mmio).collect();
        for (region, _) in &mmio {
            self.regions.remove(&region.start);
        }
        mmio.len()
    }

    fn frames(range: &Range<u64>) -> Range<u64> {
        range.start / PAGE..range.end.div_ceil(PAGE).max(range.start / PAGE)
    }

    fn forget_pages(&mut self, range: &Range<u64>) {
        let frames: Vec<u64> = self.pages.range(Self::frames(range)).map(|(frame, _)| *frame).collect();
        for frame in frames {
            self.pages.remove(&frame);
        }
    }

    /// The state of the page at an address.
    #[must_use]
    pub fn page(&self, gpa: u64) -> PageState {
        self.pages.get(&(gpa / PAGE)).copied().unwrap_or_default()
    }

    /// Sets the state of the page at an address.
    pub fn set_page(&mut self, gpa: u64, state: PageState) {
        let _ = match state {
            PageState::Absent => self.pages.remove(&(gpa / PAGE)),
            _ => self.pages.insert(gpa / PAGE, state),
        };
    }

    /// The first page of a range that is not mapped.
    #[must_use]
    pub fn unmapped(&self, range: &Range<u64>) -> Option<u64> {
        let mut frames = Self::frames(range);
        frames.find(|frame| self.pages.get(frame) != Some(&PageState::Mapped)).map(|frame| frame * PAGE)
    }

    /// Addresses of the pages of a range that are not absent.
    #[must_use]
    pub fn present(&self, range: &Range<u64>) -> Vec<u64> {
        self.pages.range(Self::frames(range)).map(|(frame, _)| frame * PAGE).collect()
    }

    /// `tvm_fence`: no translation of an invalidated page is left.
    pub fn fence(&mut self) {
        for state in self.pages.values_mut().filter(|state| **state == PageState::Invalidated) {
            *state = PageState::Fenced;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn regions() -> Regions {
        let mut regions = Regions::default();
        regions.define(&(0x1000..0x9000), RegionKind::Confidential);
        regions.define(&(0x3000..0x5000), RegionKind::Shared);
        regions.define(&(0xa000..0xb000), RegionKind::Mmio);
        regions
    }

    #[rstest]
    #[case(0x1000..0x3000, Some(RegionKind::Confidential))]
    #[case(0x2000..0x4000, None)]
    #[case(0x3000..0x5000, Some(RegionKind::Shared))]
    #[case(0x5fff..0x5fff, Some(RegionKind::Confidential))]
    #[case(0x9000..0xa000, None)]
    #[case(0xa000..0xa001, Some(RegionKind::Mmio))]
    #[case(0..1, None)]
    fn kinds(#[case] range: Range<u64>, #[case] kind: Option<RegionKind>) {
        assert_eq!(regions().kind(&range), kind);
    }

    #[rstest]
    #[case(0x1000..0x9000, true)]
    #[case(0x8000..0x9001, false)]
    #[case(0xa000..0xa001, false)]
    #[case(0..0x2000, false)]
    fn memory(#[case] range: Range<u64>, #[case] expected: bool) {
        assert_eq!(regions().is_memory(&range), expected);
    }

    #[test]
    fn what_is_shared_and_unshared_is_one_region_again() {
        let mut regions = regions();
        regions.set_page(0x3000, PageState::Mapped);
        regions.define(&(0x3000..0x5000), RegionKind::Confidential);
        assert_eq!(regions.iter().count(), 2);
        assert_eq!(regions.kind(&(0x1000..0x9000)), Some(RegionKind::Confidential));
        assert_eq!(regions.page(0x3000), PageState::Absent);
    }

    #[test]
    fn mmio_regions_stay_apart_and_go_whole() {
        let mut regions = regions();
        regions.define(&(0xb000..0xd000), RegionKind::Mmio);
        assert_eq!(regions.mmio_regions(), 2);
        assert_eq!(regions.remove_mmio(&(0xc000..0xd000)), 1);
        assert_eq!(regions.remove_mmio(&(0..0x9000)), 0);
        assert!(!regions.overlaps(&(0xb000..0xd000)));
        assert!(regions.overlaps(&(0xa000..0xd000)));
    }

    proptest! {
        #[test]
        fn regions_agree_with_a_table(steps in prop::collection::vec((0_u64..16, 1_u64..8, 0_usize..3), 0..24)) {
            let kinds = [RegionKind::Confidential, RegionKind::Shared, RegionKind::Mmio];
            let (mut regions, mut table) = (Regions::default(), [None; 24]);
            for (start, pages, kind) in steps {
                regions.define(&(start * PAGE..(start + pages) * PAGE), kinds[kind]);
                (start..start + pages).for_each(|page| table[usize::try_from(page).unwrap()] = Some(kinds[kind]));
            }
            for (page, kind) in (0..).zip(table) {
                prop_assert_eq!(regions.kind(&(page * PAGE..(page + 1) * PAGE)), kind);
            }
            let ends: Vec<_> = regions.iter().map(|(region, _)| region).collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
