//! The reverse map table: who owns a page, and whether the guest accepted it.
//!
//! The real table is indexed by system-physical address and each entry also names the guest-physical address at which
//! the page must be mapped. Here there is one guest, and its addresses are the system's, so the table is indexed by
//! guest frame number and that check cannot fail. Pages outside guest RAM have no entry.
//!
//! Page states and the entry's fields: 56860 rev. 1.58, section 5.3; instructions: APM volume 3 (24594) "PVALIDATE",
//! "RMPADJUST", and APM volume 2 (24593), section 15.36, for RMPUPDATE and PSMASH, which hypervisors use.

use std::{collections::BTreeMap, ops::Range};

use bitfield_struct::bitfield;
use tsmsim_abi::snp::{
    launch::VmplPermissions,
    rmp::{RmpAdjustOperand, RmpReturn},
};

use super::event::Violation;

/// 4 KiB pages in a 2 MiB page.
pub const FRAMES_2M: u64 = 512;
const FRAMES: usize = 512;

/// Every VMPL permission, which VMPL0 always has.
const FULL_PERMISSIONS: u8 = 0x1f;

/// Size of a page, of a mapping, or of an RMP entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
}

impl PageSize {
    /// How many 4 KiB pages.
    #[must_use]
    pub const fn frames(self) -> u64 {
        match self {
            Self::Size4K => 1,
            Self::Size2M => FRAMES_2M,
        }
    }
}

/// One RMP entry.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RmpEntry {
    /// The page is not the hypervisor's.
    pub assigned: bool,
    /// The page belongs to the guest: `ASID` is not zero.
    pub guest: bool,
    /// The guest validated the page.
    pub validated: bool,
    /// Software on the x86 cores cannot change the entry.
    pub immutable: bool,
    /// The page is a VMSA.
    pub vmsa: bool,
    /// The entry is one of 2 MiB.
    pub large: bool,
    #[bits(2)]
    _unused: u8,
    /// What VMPL1 may do.
    #[bits(8)]
    pub vmpl1: VmplPermissions,
    /// What VMPL2 may do.
    #[bits(8)]
    pub vmpl2: VmplPermissions,
    /// What VMPL3 may do.
    #[bits(8)]
    pub vmpl3: VmplPermissions,
}

impl RmpEntry {
    /// The page state that the entry's fields stand for.
    #[must_use]
    pub const fn state(self) -> PageState {
        match (self.assigned(), self.guest(), self.validated(), self.immutable()) {
            (false, _, _, false) => PageState::Hypervisor,
            (false, _, _, true) => PageState::HypervisorFixed,
            (true, false, _, true) => PageState::Firmware,
            (true, false, _, false) => PageState::Reclaim,
            (true, true, false, true) => PageState::PreGuest,
            (true, true, true, true) => PageState::PreSwap,
            (true, true, false, false) => PageState::GuestInvalid,
            (true, true, true, false) => PageState::GuestValid,
        }
    }

    fn permissions(self, vmpl: u8) -> VmplPermissions {
        match vmpl {
            0 => VmplPermissions::from(FULL_PERMISSIONS),
            1 => self.vmpl1(),
            2 => self.vmpl2(),
            _ => self.vmpl3(),
        }
    }

    const fn with_permissions(self, vmpl: u8, permissions: VmplPermissions) -> Self {
        match vmpl {
            1 => self.with_vmpl1(permissions),
            2 => self.with_vmpl2(permissions),
            _ => self.with_vmpl3(permissions),
        }
    }
}

/// Page states (56860 rev. 1.58, section 5.3, "Page States").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageState {
    /// The hypervisor's; the guest may use it as shared memory.
    Hypervisor,
    /// The hypervisor's, and it cannot be given away.
    HypervisorFixed,
    /// The firmware's.
    Firmware,
    /// On its way back from the firmware to the hypervisor.
    Reclaim,
    /// Given to the guest that is being launched; the firmware is to fill it.
    PreGuest,
    /// On its way out of memory.
    PreSwap,
    /// The guest's, but the guest did not accept it yet.
    GuestInvalid,
    /// The guest's.
    GuestValid,
}

/// Why the hypervisor could not change an entry (the results of RMPUPDATE and PSMASH, in effect).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RmpUpdateError {
    /// The page is not guest RAM.
    #[error("guest frame {0:#x} is not guest RAM")]
    OutOfRange(u64),
    /// A 2 MiB page does not begin at a multiple of 2 MiB.
    #[error("guest frame {0:#x} does not begin a 2 MiB page")]
    Misaligned(u64),
    /// A 2 MiB entry would cover 4 KiB entries that differ.
    #[error("the 2 MiB page at guest frame {0:#x} holds 4 KiB entries")]
    Overlap(u64),
    /// The page is in a state in which the hypervisor cannot touch it.
    #[error("guest frame {gfn:#x} is in state {state:?}")]
    State {
        /// Which page.
        gfn: u64,
        /// Its state.
        state: PageState,
    },
}

/// What an instruction of the guest did to the RMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RmpOutcome {
    /// EAX.
    pub result: RmpReturn,
    /// The carry flag (PVALIDATE only): the page already was in the wanted state.
    pub carry: bool,
    /// What was wrong, for the journal.
    pub violation: Option<Violation>,
}

impl RmpOutcome {
    const SUCCESS: Self = Self { result: RmpReturn::SUCCESS, carry: false, violation: None };

    const fn fail(result: RmpReturn, violation: Option<Violation>) -> Self {
        Self { result, carry: false, violation }
    }
}

enum Chunk {
    Uniform(RmpEntry),
    Split(Box<[RmpEntry; FRAMES]>),
}

/// The table. Memory is kept per 2 MiB page that is not simply the hypervisor's, so it is bounded by guest RAM.
pub struct Rmp {
    ram: Vec<Range<u64>>,
    chunks: BTreeMap<u64, Chunk>,
}

impl Rmp {
    /// A table for guest RAM, given as ranges of guest-physical addresses (bytes; cut to whole pages). Every page is
    /// the hypervisor's.
    #[must_use]
    pub fn new(ram: &[Range<u64>]) -> Self {
        let ram = ram.iter().map(|range| range.start.div_ceil(0x1000)..range.end / 0x1000);
        Self { ram: ram.filter(|range| !range.is_empty()).collect(), chunks: BTreeMap::new() }
    }

    /// Whether all these frames are guest RAM.
    #[must_use]
    pub fn contains(&self, gfn: u64, frames: u64) -> bool {
        gfn.checked_add(frames)
            .is_some_and(|end| self.ram.iter().any(|range| range.start <= gfn && end <= range.end))
    }

    /// The entry of a page; `None` outside RAM.
    #[must_use]
    pub fn entry(&self, gfn: u64) -> Option<RmpEntry> {
        self.contains(gfn, 1).then(|| self.get(gfn))
    }

    /// The state of a page; `None` outside RAM.
    #[must_use]
    pub fn state(&self, gfn: u64) -> Option<PageState> {
        self.entry(gfn).map(RmpEntry::state)
    }

    /// Whether the hypervisor may read and write the page: it is RAM and in the Hypervisor state.
    #[must_use]
    pub fn is_shared(&self, gfn: u64) -> bool {
        self.state(gfn) == Some(PageState::Hypervisor)
    }

    /// Gives a page to the guest, as the hypervisor does with RMPUPDATE: Hypervisor becomes Guest-Invalid, or with
    /// `immutable` Pre-Guest. A page that is the guest's already stays as it is.
    ///
    /// # Errors
    /// If the page is not RAM, not aligned, or in another state; nothing changed then.
    pub fn assign(&mut self, gfn: u64, size: PageSize, immutable: bool) -> Result<(), RmpUpdateError> {
        let old = self.hypervisor_target(gfn, size)?;
        match old.state() {
            PageState::GuestInvalid | PageState::GuestValid if !immutable => return Ok(()),
            PageState::Hypervisor => {}
            state => return Err(RmpUpdateError::State { gfn, state }),
        }
        let entry = RmpEntry::new().with_assigned(true).with_guest(true).with_immutable(immutable);
        self.put(gfn, size, entry);
        Ok(())
    }

    /// Takes a page from the guest, as the hypervisor does with RMPUPDATE. Says whether the guest still held it valid.
    ///
    /// # Errors
    /// If the page is not RAM, not aligned, or immutable; nothing changed then.
    pub fn unassign(&mut self, gfn: u64, size: PageSize) -> Result<bool, RmpUpdateError> {
        let old = self.hypervisor_target(gfn, size)?;
        if old.immutable() {
            return Err(RmpUpdateError::State { gfn, state: old.state() });
        }
        self.put(gfn, size, RmpEntry::new());
        Ok(old.validated())
    }

    /// Splits a 2 MiB entry into 4 KiB entries that are otherwise the same. Other pages stay as they are.
    pub fn psmash(&mut self, gfn: u64) {
        let index = gfn / FRAMES_2M;
        if let Some(Chunk::Uniform(entry)) = self.chunks.get(&index)
            && entry.large()
        {
            let entry = entry.with_large(false);
            self.chunks.insert(index, Chunk::Uniform(entry));
        }
    }

    /// Joins 512 equal 4 KiB guest entries into one of 2 MiB. Says whether that was possible.
    pub fn unsmash(&mut self, gfn: u64) -> bool {
        let base = gfn - gfn % FRAMES_2M;
        if !self.contains(base, FRAMES_2M) {
            return false;
        }
        let entry = self.get(base);
        let joinable = entry.guest() && !entry.immutable() && !entry.vmsa() && self.is_uniform(base);
        if joinable {
            self.chunks.insert(base / FRAMES_2M, Chunk::Uniform(entry.with_large(true)));
        }
        joinable
    }

    /// What the firmware does to a page in a launch: Pre-Guest becomes Guest-Valid.
    ///
    /// # Errors
    /// The state the page is in instead, `None` if it is not RAM.
    pub fn launch_convert(
        &mut self,
        gfn: u64,
        vmsa: bool,
        permissions: [VmplPermissions; 3],
    ) -> Result<(), Option<PageState>> {
        let entry = self.entry(gfn).ok_or(None)?;
        if entry.state() != PageState::PreGuest {
            return Err(Some(entry.state()));
        }
        let [vmpl1, vmpl2, vmpl3] = permissions;
        let entry = entry.with_immutable(false).with_validated(true).with_vmsa(vmsa);
        self.psmash(gfn);
        self.set(gfn, entry.with_large(false).with_vmpl1(vmpl1).with_vmpl2(vmpl2).with_vmpl3(vmpl3));
        Ok(())
    }

    /// PVALIDATE, executed at a VMPL, for the page of `size` at a guest frame.
    ///
    /// Where hardware would exit with a nested page fault (the page is not the guest's), the result is
    /// [`RmpReturn::FAIL_INPUT`] and a violation. A 4 KiB operation on a 2 MiB entry splits the entry, as hypervisors
    /// do on the page fault that it causes.
    pub fn pvalidate(&mut self, vmpl: u8, gfn: u64, size: PageSize, validate: bool) -> RmpOutcome {
        if vmpl != 0 {
            return RmpOutcome::fail(RmpReturn::FAIL_PERMISSION, None);
        }
        let entry = match self.guest_target(gfn, size) {
            Ok(entry) => entry,
            Err(outcome) => return outcome,
        };
        if entry.vmsa() {
            return RmpOutcome::fail(RmpReturn::FAIL_INPUT, Some(Violation::VmsaMismatch));
        }
        if entry.validated() == validate {
            let violation = validate.then_some(Violation::AlreadyValidated);
            return RmpOutcome { carry: true, violation, ..RmpOutcome::SUCCESS };
        }
        self.put(gfn, size, entry.with_validated(validate));
        RmpOutcome::SUCCESS
    }

    /// RMPADJUST, executed at a VMPL, for the page of `size` at a guest frame.
    ///
    /// Where hardware would raise #VC or exit with a nested page fault (the page is not validated, or not the
    /// guest's), the result is [`RmpReturn::FAIL_INPUT`] and a violation.
    pub fn rmpadjust(&mut self, vmpl: u8, gfn: u64, size: PageSize, operand: RmpAdjustOperand) -> RmpOutcome {
        let permissions = VmplPermissions::from(operand.permissions());
        let target = operand.target_vmpl();
        let vmsa_too_large = operand.vmsa() && size == PageSize::Size2M;
        if operand.reserved() != 0 || permissions.reserved() != 0 || target > 3 || vmsa_too_large {
            return RmpOutcome::fail(RmpReturn::FAIL_INPUT, None);
        }
        if target <= vmpl {
            return RmpOutcome::fail(RmpReturn::FAIL_PERMISSION, None);
        }
        let entry = match self.guest_target(gfn, size) {
            Ok(entry) if entry.validated() => entry,
            Ok(_) => return RmpOutcome::fail(RmpReturn::FAIL_INPUT, Some(Violation::AdjustInvalid)),
            Err(RmpOutcome { violation: Some(Violation::ValidateShared), .. }) => {
                return RmpOutcome::fail(RmpReturn::FAIL_INPUT, Some(Violation::AdjustInvalid));
            }
            Err(outcome) => return outcome,
        };
        let own = u8::from(entry.permissions(vmpl));
        if u8::from(permissions) & !own != 0 {
            return RmpOutcome::fail(RmpReturn::FAIL_PERMISSION, None);
        }
        let vmsa = if vmpl == 0 { operand.vmsa() } else { entry.vmsa() };
        self.put(gfn, size, entry.with_permissions(target, permissions).with_vmsa(vmsa));
        RmpOutcome::SUCCESS
    }

    /// The entry that a hypervisor's operation on a page of this size would replace.
    fn hypervisor_target(&mut self, gfn: u64, size: PageSize) -> Result<RmpEntry, RmpUpdateError> {
        if !gfn.is_multiple_of(size.frames()) {
            return Err(RmpUpdateError::Misaligned(gfn));
        }
        if !self.contains(gfn, size.frames()) {
            return Err(RmpUpdateError::OutOfRange(gfn));
        }
        if size == PageSize::Size2M && !self.is_uniform(gfn) {
            return Err(RmpUpdateError::Overlap(gfn));
        }
        Ok(self.get(gfn))
    }

    /// The entry that an instruction of the guest works on.
    fn guest_target(&mut self, gfn: u64, size: PageSize) -> Result<RmpEntry, RmpOutcome> {
        let fail = |violation| RmpOutcome::fail(RmpReturn::FAIL_INPUT, Some(violation));
        if !gfn.is_multiple_of(size.frames()) {
            return Err(RmpOutcome::fail(RmpReturn::FAIL_INPUT, None));
        }
        if !self.contains(gfn, size.frames()) {
            return Err(fail(Violation::OutOfRange));
        }
        let entry = self.get(gfn);
        match (entry.state(), size) {
            (PageState::GuestInvalid | PageState::GuestValid, PageSize::Size2M) if !entry.large() => {
                Err(RmpOutcome::fail(RmpReturn::FAIL_SIZEMISMATCH, None))
            }
            (PageState::GuestInvalid | PageState::GuestValid, _) => Ok(entry),
            _ => Err(fail(Violation::ValidateShared)),
        }
    }

    fn is_uniform(&self, base: u64) -> bool {
        match self.chunks.get(&(base / FRAMES_2M)) {
            None | Some(Chunk::Uniform(_)) => true,
            Some(Chunk::Split(entries)) => entries.iter().all(|entry| *entry == entries[0]),
        }
    }

    fn get(&self, gfn: u64) -> RmpEntry {
        match self.chunks.get(&(gfn / FRAMES_2M)) {
            None => RmpEntry::new(),
            Some(Chunk::Uniform(entry)) => *entry,
            Some(Chunk::Split(entries)) => entries[slot(gfn)],
        }
    }

    fn put(&mut self, gfn: u64, size: PageSize, entry: RmpEntry) {
        match size {
            PageSize::Size4K => {
                self.psmash(gfn);
                self.set(gfn, entry.with_large(false));
            }
            PageSize::Size2M if entry.assigned() => {
                self.chunks.insert(gfn / FRAMES_2M, Chunk::Uniform(entry.with_large(true)));
            }
            PageSize::Size2M => {
                self.chunks.remove(&(gfn / FRAMES_2M));
            }
        }
    }

    fn set(&mut self, gfn: u64, entry: RmpEntry) {
        let chunk = self.chunks.entry(gfn / FRAMES_2M).or_insert(Chunk::Uniform(RmpEntry::new()));
        match chunk {
            Chunk::Uniform(old) if *old == entry => {}
            Chunk::Uniform(old) => {
                let mut entries = Box::new([*old; FRAMES]);
                entries[slot(gfn)] = entry;
                *chunk = Chunk::Split(entries);
            }
            Chunk::Split(entries) => entries[slot(gfn)] = entry,
        }
    }
}

const fn slot(gfn: u64) -> usize {
    (gfn % FRAMES_2M) as usize
}

#[cfg(test)]
#[path = "rmp_tests.rs"]
mod tests;
