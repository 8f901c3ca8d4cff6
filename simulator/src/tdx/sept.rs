//! The secure EPT: which pages are private, and whether the TD accepted them (348550 TDX Module Base Architecture, "Secure
//! EPT entry state").
//!
//! Private and shared mappings are two trees on hardware, and a host may map the same address in both. Hosts do not, and
//! here a page is one or the other. Physical addresses do not occur: there is one TD, and its addresses are the host's.
//!
//! | state | private mapping | who moves it on |
//! |---|---|---|
//! | [`PageState::Free`] | none | the host, by `TDH.MEM.PAGE.AUG` (or `ADD` before the TD runs) |
//! | [`PageState::Pending`] | waits for the TD | the TD, by `TDG.MEM.PAGE.ACCEPT` |
//! | [`PageState::Mapped`] | in use | the host, by `TDH.MEM.RANGE.BLOCK` |
//! | [`PageState::Blocked`], [`PageState::PendingBlocked`] | no access | the host, by `UNBLOCK` or `REMOVE` |
//! | [`PageState::Shared`] | none; the shared tree maps it | the host, when the TD asks by `MapGPA` |

use std::{collections::BTreeMap, ops::Range};

use tsmsim_abi::tdx::{
    leaf::PageLevel,
    status::{CompletionStatus, StatusCode},
};

/// 4-KiB pages below one entry of level [`PageLevel::PD`].
const FRAMES: usize = 512;
const FRAMES_2M: u64 = 512;

/// State of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PageState {
    /// Private, and not mapped.
    #[default]
    Free,
    /// Mapped, not accepted.
    Pending,
    /// Mapped and accepted.
    Mapped,
    /// Mapped and accepted, then blocked by the host.
    Blocked,
    /// Mapped and not accepted, then blocked by the host.
    PendingBlocked,
    /// Shared with the host.
    Shared,
}

/// What lies below one entry of level [`PageLevel::PD`].
#[derive(Clone, PartialEq, Eq, Debug)]
enum Chunk {
    /// A 2-MiB leaf.
    Whole(PageState),
    /// 4-KiB leaves.
    Split(Box<[PageState; FRAMES]>),
}

/// What comes of accepting a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accept {
    /// The page is the TD's now; it reads as zero.
    Accepted,
    /// The function ends with this status.
    Status(CompletionStatus),
    /// An EPT violation exits to the host.
    Violation,
}

/// The secure EPT of one TD, and which of its pages are shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sept {
    /// Frame numbers of RAM.
    ram: Vec<Range<u64>>,
    /// By number of the 2-MiB page; what is missing is free.
    chunks: BTreeMap<u64, Chunk>,
}

const fn split(gpa: u64) -> (u64, usize) {
    let frame = gpa >> 12;
    (frame / FRAMES_2M, (frame % FRAMES_2M) as usize)
}

impl Sept {
    /// Nothing mapped. `ram` are ranges of guest-physical addresses; what is not whole pages is left out.
    #[must_use]
    pub fn new(ram: &[Range<u64>]) -> Self {
        let frames = |range: &Range<u64>| range.start.div_ceil(4096)..range.end / 4096;
        Self { ram: ram.iter().map(frames).collect(), chunks: BTreeMap::new() }
    }

    /// Whether all pages that the range touches are RAM; an empty range counts as its first byte.
    #[must_use]
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        let Some(last) = gpa.checked_add(len.max(1) - 1) else { return false };
        let (first, last) = (gpa >> 12, last >> 12);
        self.ram.iter().any(|range| range.contains(&first) && range.contains(&last))
    }

    /// The state of the page at an address; free where there is no RAM.
    #[must_use]
    pub fn state(&self, gpa: u64) -> PageState {
        let (chunk, index) = split(gpa);
        match self.chunks.get(&chunk) {
            Some(Chunk::Whole(state)) => *state,
            Some(Chunk::Split(states)) => states[index],
            None => PageState::Free,
        }
    }

    /// Whether all pages that the range touches are RAM and shared.
    #[must_use]
    pub fn is_shared(&self, gpa: u64, len: u64) -> bool {
        self.contains(gpa, len)
            && (gpa >> 12..=(gpa + len.max(1) - 1) >> 12)
                .all(|frame| self.state(frame << 12) == PageState::Shared)
    }

    /// Sets the state of one 4-KiB page, splitting a larger one.
    fn set(&mut self, gpa: u64, state: PageState) {
        let (chunk, index) = split(gpa);
        let entry =
            self.chunks.entry(chunk).or_insert_with(|| Chunk::Split(Box::new([PageState::Free; FRAMES])));
        if let Chunk::Whole(whole) = *entry {
            *entry = Chunk::Split(Box::new([whole; FRAMES]));
        }
        if let Chunk::Split(states) = entry {
            states[index] = state;
        }
    }

    fn is_free(&self, chunk: u64) -> bool {
        match self.chunks.get(&chunk) {
            None => true,
            Some(Chunk::Whole(state)) => *state == PageState::Free,
            Some(Chunk::Split(states)) => states.iter().all(|state| *state == PageState::Free),
        }
    }

    /// `TDH.MEM.PAGE.ADD` of a 4-KiB page: free to mapped.
    ///
    /// # Errors
    /// The state that the page is in instead of free.
    pub fn page_add(&mut self, gpa: u64) -> Result<(), PageState> {
        match self.state(gpa) {
            PageState::Free => {
                self.set(gpa, PageState::Mapped);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// `TDH.MEM.PAGE.AUG` as a host does after an EPT violation: maps the page for the TD to accept, at the level asked
    /// for if all of it is free RAM, else at 4 KiB; or splits a larger page that is not yet accepted
    /// (`TDH.MEM.PAGE.DEMOTE`). Returns whether anything was done.
    pub fn page_aug(&mut self, gpa: u64, level: PageLevel) -> bool {
        let (chunk, _) = split(gpa);
        let base = chunk * FRAMES_2M * 4096;
        if level == PageLevel::PD && self.is_free(chunk) && self.contains(base, FRAMES_2M * 4096) {
            self.chunks.insert(chunk, Chunk::Whole(PageState::Pending));
            return true;
        }
        if level == PageLevel::PT && self.chunks.get(&chunk) == Some(&Chunk::Whole(PageState::Pending)) {
            self.chunks.insert(chunk, Chunk::Split(Box::new([PageState::Pending; FRAMES])));
            return true;
        }
        let free = self.contains(gpa, 1) && self.state(gpa) == PageState::Free;
        if free {
            self.set(gpa, PageState::Pending);
        }
        free
    }

    /// `TDG.MEM.PAGE.ACCEPT` of the page at an address aligned to its level, [`PageLevel::PT`] or [`PageLevel::PD`].
    pub fn accept(&mut self, gpa: u64, level: PageLevel) -> Accept {
        let (chunk, index) = split(gpa);
        let at = |code: StatusCode, level: PageLevel| Accept::Status(code.with_details(level.0.into()));
        let entry = self.chunks.get_mut(&chunk);
        let (state, found) = match entry {
            None => return Accept::Violation,
            Some(Chunk::Whole(state)) => {
                if level == PageLevel::PT && *state != PageState::Mapped {
                    return Accept::Violation;
                }
                (state, PageLevel::PD)
            }
            Some(Chunk::Split(states)) if level == PageLevel::PD => {
                let free = states.iter().all(|state| *state == PageState::Free);
                return if free {
                    Accept::Violation
                } else {
                    at(StatusCode::PAGE_SIZE_MISMATCH, PageLevel::PD)
                };
            }
            Some(Chunk::Split(states)) => (&mut states[index], PageLevel::PT),
        };
        match state {
            PageState::Mapped => at(StatusCode::PAGE_ALREADY_ACCEPTED, found),
            PageState::Pending => {
                *state = PageState::Mapped;
                Accept::Accepted
            }
            _ => Accept::Violation,
        }
    }

    /// `TDH.MEM.RANGE.BLOCK` of one 4-KiB page. Returns whether there was something to block.
    pub fn block(&mut self, gpa: u64) -> bool {
        self.shift(gpa, |state| match state {
            PageState::Mapped => Some(PageState::Blocked),
            PageState::Pending => Some(PageState::PendingBlocked),
            _ => None,
        })
    }

    /// `TDH.MEM.RANGE.UNBLOCK` of one 4-KiB page. Returns whether it was blocked.
    pub fn unblock(&mut self, gpa: u64) -> bool {
        self.shift(gpa, |state| match state {
            PageState::Blocked => Some(PageState::Mapped),
            PageState::PendingBlocked => Some(PageState::Pending),
            _ => None,
        })
    }

    fn shift(&mut self, gpa: u64, next: impl Fn(PageState) -> Option<PageState>) -> bool {
        let next = next(self.state(gpa));
        if let Some(state) = next {
            self.set(gpa, state);
        }
        next.is_some()
    }

    /// Makes the RAM in a range shared (its private mapping, if any, is removed) or private (free, for the TD to accept
    /// once the host mapped it). What already is so stays as it is; what is not RAM is left alone.
    pub fn convert(&mut self, frames: Range<u64>, shared: bool) {
        for ram in self.ram.clone() {
            for frame in frames.start.max(ram.start)..frames.end.min(ram.end) {
                let gpa = frame << 12;
                match (shared, self.state(gpa)) {
                    (true, PageState::Shared) => {}
                    (true, _) => self.set(gpa, PageState::Shared),
                    (false, PageState::Shared) => self.set(gpa, PageState::Free),
                    (false, _) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn sept() -> Sept {
        Sept::new(&[0..8 << 20, 12 << 20..(12 << 20) + 0x1800])
    }

    fn status(code: StatusCode, level: PageLevel) -> Accept {
        Accept::Status(code.with_details(level.0.into()))
    }

    #[rstest]
    #[case(0, 0, true)]
    #[case(0, 8 << 20, true)]
    #[case(0, (8 << 20) + 1, false)]
    #[case(12 << 20, 0x1000, true)]
    #[case::part_of_a_page(12 << 20, 0x1800, false)]
    #[case::between_two_ranges(8 << 20, 1, false)]
    #[case::wraps(u64::MAX, 2, false)]
    fn ram_is_whole_pages(#[case] gpa: u64, #[case] len: u64, #[case] inside: bool) {
        assert_eq!(sept().contains(gpa, len), inside);
    }

    #[test]
    fn a_page_lives() {
        let mut sept = sept();
        assert_eq!(sept.accept(0x1000, PageLevel::PT), Accept::Violation);
        assert!(sept.page_aug(0x1000, PageLevel::PT));
        assert!(!sept.page_aug(0x1000, PageLevel::PT));
        assert_eq!(sept.state(0x1000), PageState::Pending);
        assert!(sept.block(0x1000));
        assert_eq!(sept.accept(0x1000, PageLevel::PT), Accept::Violation);
        assert!(sept.unblock(0x1000) && !sept.unblock(0x1000));
        assert_eq!(sept.accept(0x1000, PageLevel::PT), Accept::Accepted);
        let again = status(StatusCode::PAGE_ALREADY_ACCEPTED, PageLevel::PT);
        assert_eq!(sept.accept(0x1000, PageLevel::PT), again);
        assert_eq!(sept.page_add(0x1000), Err(PageState::Mapped));
        sept.convert(1..2, true);
        assert!(sept.is_shared(0x1000, 0x1000) && !sept.is_shared(0x1000, 0x1001) && !sept.block(0x1000));
        sept.convert(1..2, false);
        assert_eq!(sept.state(0x1000), PageState::Free);
    }

    #[test]
    fn large_pages() {
        let (mut sept, two_mib) = (sept(), 2 << 20);
        assert!(sept.page_aug(two_mib, PageLevel::PD));
        assert_eq!(sept.accept(two_mib, PageLevel::PT), Accept::Violation);
        assert_eq!(sept.accept(two_mib, PageLevel::PD), Accept::Accepted);
        let again = status(StatusCode::PAGE_ALREADY_ACCEPTED, PageLevel::PD);
        assert_eq!(sept.accept(two_mib, PageLevel::PD), again);
        assert_eq!(sept.accept(two_mib + 0x1000, PageLevel::PT), again);
        sept.convert(512..513, true);
        let mismatch = status(StatusCode::PAGE_SIZE_MISMATCH, PageLevel::PD);
        assert_eq!(sept.accept(two_mib, PageLevel::PD), mismatch);
        assert_eq!(sept.state(two_mib + 0x1000), PageState::Mapped);
    }

    #[test]
    fn the_host_maps_as_large_as_it_can() {
        let mut sept = sept();
        assert!(sept.page_aug(0, PageLevel::PD) && sept.page_aug(0x5000, PageLevel::PT));
        assert_eq!(sept.accept(0x5000, PageLevel::PT), Accept::Accepted);
        assert!(sept.page_aug(12 << 20, PageLevel::PD), "falls back to 4 KiB");
        assert_eq!(sept.state((12 << 20) + 0x1000), PageState::Free);
        assert!(!sept.page_aug(9 << 20, PageLevel::PT), "no RAM there");
    }

    proptest! {
        #[test]
        fn accepted_means_pending_before(steps in prop::collection::vec((0_u8..6, 0_u64..1024, any::<bool>()), 0..60)) {
            let mut sept = sept();
            for (step, frame, flag) in steps {
                let (gpa, level) = (frame << 12, if flag { PageLevel::PD } else { PageLevel::PT });
                let aligned = if flag { gpa & !0x1f_ffff } else { gpa };
                match step {
                    0 => { let _ = sept.page_add(gpa); }
                    1 => { sept.page_aug(gpa, level); }
                    2 => { sept.block(gpa); }
                    3 => { sept.unblock(gpa); }
                    4 => sept.convert(frame..frame + 3, flag),
                    _ => {
                        let before = sept.state(aligned);
                        let accepted = sept.accept(aligned, level) == Accept::Accepted;
                        prop_assert!(!accepted || before == PageState::Pending);
                        prop_assert!(!accepted || sept.state(aligned) == PageState::Mapped);
                    }
                }
            }
        }
    }
}
