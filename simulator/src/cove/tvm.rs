//! A TVM as the TSM knows it.

use std::{ops::Range, sync::Arc};

use tsmsim_abi::cove::{
    claims::register,
    covg::{ALL_INTERRUPTS, MAX_INTERRUPT_ID},
    covh::{TVM_IDENTITY_SIZE, TvmState},
};
use tsmsim_keys::cove::AttestationKey;
use zeroize::Zeroizing;

use super::{
    measure::InitialRegisters,
    regions::{RegionKind, Regions},
};

/// The external interrupts that a vCPU takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interrupts([u64; 32]);

impl Interrupts {
    /// Whether an identity is one, or stands for all.
    #[must_use]
    pub const fn is_valid(id: u64) -> bool {
        id == ALL_INTERRUPTS || (id != 0 && id <= MAX_INTERRUPT_ID)
    }

    /// Whether the host may inject it.
    #[must_use]
    pub fn allows(&self, id: u64) -> bool {
        let word = usize::try_from(id / 64).ok().and_then(|index| self.0.get(index));
        Self::is_valid(id) && word.is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    pub(super) fn set(&mut self, id: u64, allowed: bool) {
        if id == ALL_INTERRUPTS {
            self.0 = [if allowed { u64::MAX } else { 0 }; 32];
        } else if let Some(word) = usize::try_from(id / 64).ok().and_then(|index| self.0.get_mut(index)) {
            let bit = 1 << (id % 64);
            *word = if allowed { *word | bit } else { *word & !bit };
        }
    }
}

/// A change of memory that the host has not finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversion {
    /// Guest-physical addresses.
    pub range: Range<u64>,
    /// What it is to become.
    pub to: RegionKind,
}

/// A vCPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vcpu {
    /// Its ID.
    pub id: u64,
    pub(super) interrupts: Interrupts,
    pub(super) conversion: Option<Conversion>,
    /// Its call met a page that is not mapped, and is made again.
    pub(super) again: bool,
}

impl Vcpu {
    pub(super) const fn new(id: u64) -> Self {
        Self { id, interrupts: Interrupts([0; 32]), conversion: None, again: false }
    }

    /// The external interrupts that it takes; none at first.
    #[must_use]
    pub const fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// What it waits for: it cannot run before the host is done.
    #[must_use]
    pub const fn conversion(&self) -> Option<&Conversion> {
        self.conversion.as_ref()
    }
}

/// A TVM.
#[derive(Clone)]
pub struct Tvm {
    pub(super) state: TvmState,
    pub(super) destroyed: bool,
    pub(super) regions: Regions,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) max_vcpus: u16,
    pub(super) page_table_pages: u64,
    pub(super) initial: InitialRegisters,
    pub(super) runtime: Vec<Vec<u8>>,
    pub(super) identity: Option<[u8; TVM_IDENTITY_SIZE]>,
    /// Ed25519 and P-256, from the TVM's CDI, once it is final.
    pub(super) keys: Option<Arc<[AttestationKey; 2]>>,
    pub(super) secret: Option<Arc<Zeroizing<Vec<u8>>>>,
}

impl Tvm {
    /// Whether it can run.
    #[must_use]
    pub const fn state(&self) -> TvmState {
        self.state
    }

    /// Its memory.
    #[must_use]
    pub const fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Its vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus
    }

    /// Pages donated for page tables.
    #[must_use]
    pub const fn page_table_pages(&self) -> u64 {
        self.page_table_pages
    }

    /// The initial registers.
    #[must_use]
    pub const fn initial_registers(&self) -> &InitialRegisters {
        &self.initial
    }

    /// The runtime registers.
    #[must_use]
    pub fn runtime_registers(&self) -> &[Vec<u8>] {
        &self.runtime
    }

    /// What the host calls it.
    #[must_use]
    pub const fn identity(&self) -> Option<&[u8; TVM_IDENTITY_SIZE]> {
        self.identity.as_ref()
    }

    /// A register by its index: the initial ones first.
    #[must_use]
    pub fn register(&self, index: u64) -> Option<&[u8]> {
        let index = usize::try_from(index).ok()?;
        let value = match index.checked_sub(register::COUNT) {
            None => self.initial.values().get(index),
            Some(runtime) => self.runtime.get(runtime),
        };
        value.map(Vec::as_slice)
    }

    /// Extends a runtime register by a digest. Returns whether there is one with this index.
    pub(super) fn extend(&mut self, index: u64, digest: &[u8]) -> bool {
        let hash = self.initial.hash();
        let runtime = usize::try_from(index).ok().and_then(|index| index.checked_sub(register::COUNT));
        let register = runtime.and_then(|index| self.runtime.get_mut(index));
        register.map(|register| hash.extend(register, &[digest])).is_some()
    }

    /// The call that waits for a page is not made again.
    pub(super) fn abandon_call(&mut self, vcpu: usize) {
        if let Some(vcpu) = self.vcpus.get_mut(vcpu) {
            vcpu.again = false;
        }
    }

    /// Whether a vCPU can run.
    #[must_use]
    pub fn can_run(&self, vcpu: usize) -> bool {
        let waits = self.vcpus.get(vcpu).is_none_or(|vcpu| vcpu.conversion.is_some());
        !waits && self.state == TvmState::RUNNABLE && !self.destroyed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_single_or_all() {
        let mut interrupts = Vcpu::new(0).interrupts;
        assert!(!interrupts.allows(5));
        interrupts.set(5, true);
        assert!(interrupts.allows(5) && !interrupts.allows(6) && !interrupts.allows(u64::MAX));
        interrupts.set(ALL_INTERRUPTS, true);
        interrupts.set(2047, false);
        assert!(interrupts.allows(2046) && !interrupts.allows(2047) && !interrupts.allows(2048));
        assert!(!interrupts.allows(0) && !interrupts.allows(ALL_INTERRUPTS), "they are no single interrupts");
        interrupts.set(ALL_INTERRUPTS, false);
        assert!(!interrupts.allows(5));
    }
}
