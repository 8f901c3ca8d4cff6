//! Which instructions are watched, and until when.

use std::collections::{BTreeMap, BTreeSet};

use super::protocol::{Client, ProtocolError};
use crate::loader::patch::PatchedInstruction;

/// An instruction that QEMU's processor must not execute by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// One that only a processor with SNP or TDX has: exits as [`PatchedInstruction`] does.
    Confidential(PatchedInstruction),
    /// Answered from the engine's table; leaves that are not in it are QEMU's.
    Cpuid,
    /// Exits for the registers that the engine was told of.
    Rdmsr,
    /// The same.
    Wrmsr,
}

impl Watched {
    /// The instruction's bytes.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Confidential(PatchedInstruction::Vmgexit) => &[0xf3, 0x0f, 0x01, 0xd9],
            Self::Confidential(PatchedInstruction::Pvalidate) => &[0xf2, 0x0f, 0x01, 0xff],
            Self::Confidential(PatchedInstruction::Rmpadjust) => &[0xf3, 0x0f, 0x01, 0xfe],
            Self::Confidential(PatchedInstruction::Tdcall) => &[0x66, 0x0f, 0x01, 0xcc],
            Self::Cpuid => &[0x0f, 0xa2],
            Self::Rdmsr => &[0x0f, 0x32],
            Self::Wrmsr => &[0x0f, 0x30],
        }
    }

    /// The length of the instruction.
    pub fn length(self) -> u64 {
        match self {
            Self::Confidential(_) => 4,
            Self::Cpuid | Self::Rdmsr | Self::Wrmsr => 2,
        }
    }

    /// Its name, for statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confidential(PatchedInstruction::Vmgexit) => "VMGEXIT",
            Self::Confidential(PatchedInstruction::Pvalidate) => "PVALIDATE",
            Self::Confidential(PatchedInstruction::Rmpadjust) => "RMPADJUST",
            Self::Confidential(PatchedInstruction::Tdcall) => "TDCALL",
            Self::Cpuid => "CPUID",
            Self::Rdmsr => "RDMSR",
            Self::Wrmsr => "WRMSR",
        }
    }
}

/// How long an instruction is watched. QEMU compares with every breakpoint at each indirect jump, and executes a page with a
/// breakpoint one instruction at a time; so what is not needed any more is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end.
    End,
    /// Until the guest first stops in the upper half of its addresses: for what it executes where it was loaded, before
    /// it turns to its own page tables.
    UpperHalf,
    /// Until the guest has asked for this CPUID leaf.
    Leaf(u32),
    /// Until the guest has written a value with these low 12 bits to an MSR that exits: has made this request of the GHCB
    /// MSR protocol.
    Request(u16),
}

/// One watched instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its address, as the guest executes it.
    pub address: u64,
    /// What it is.
    pub instruction: Watched,
    /// How long it is watched.
    pub until: Until,
    /// The instruction before is watched too, and the guest can come here no other way: there is no breakpoint, it is seen
    /// when the other was answered.
    pub follows: bool,
}

/// The watches that are on.
#[derive(Debug, Default)]
pub(super) struct Watches {
    on: BTreeMap<u64, Watch>,
    /// What was dropped and may still be a breakpoint of QEMU's.
    dropped: BTreeSet<u64>,
}

impl Watches {
    pub(super) fn new(watches: impl IntoIterator<Item = Watch>) -> Self {
        let on = watches.into_iter().map(|watch| (watch.address, watch)).collect();
        Self { on, dropped: BTreeSet::new() }
    }

    /// What is watched at an address.
    pub(super) fn at(&self, address: u64) -> Option<Watched> {
        self.on.get(&address).map(|watch| watch.instruction)
    }

    /// Drops what is over.
    pub(super) fn drop_until(&mut self, over: Until) {
        let over_now = self.on.values().filter(|watch| watch.until == over && !watch.follows);
        self.dropped.extend(over_now.map(|watch| watch.address));
        self.on.retain(|_, watch| watch.until != over);
    }

    /// Sets all breakpoints.
    pub(super) fn arm(&self, client: &mut Client) -> Result<(), ProtocolError> {
        let mut breakpoints = self.on.values().filter(|watch| !watch.follows);
        breakpoints.try_for_each(|watch| client.insert_breakpoint(watch.address))
    }

    /// Takes the breakpoints away that are over.
    pub(super) fn disarm(&mut self, client: &mut Client) -> Result<(), ProtocolError> {
        while let Some(address) = self.dropped.pop_first() {
            client.remove_breakpoint(address)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_dropped() {
        let watch = |address, until, follows| Watch { address, instruction: Watched::Cpuid, until, follows };
        let mut watches = Watches::new([
            watch(1, Until::End, false),
            watch(2, Until::UpperHalf, false),
            watch(3, Until::Leaf(0x21), false),
            watch(4, Until::UpperHalf, true),
        ]);
        watches.drop_until(Until::Leaf(0x20));
        assert!(watches.dropped.is_empty());
        watches.drop_until(Until::UpperHalf);
        watches.drop_until(Until::Leaf(0x21));
        assert_eq!([1, 2, 3, 4].map(|address| watches.at(address).is_some()), [true, false, false, false]);
        assert_eq!(watches.dropped, BTreeSet::from([2, 3]));
    }

    #[test]
    fn lengths_are_those_of_the_bytes() {
        let all = PatchedInstruction::ALL.map(Watched::Confidential);
        for watched in all.into_iter().chain([Watched::Cpuid, Watched::Rdmsr, Watched::Wrmsr]) {
            assert_eq!(u64::try_from(watched.bytes().len()).unwrap(), watched.length());
        }
        for instruction in PatchedInstruction::ALL {
            assert_eq!(Watched::Confidential(instruction).bytes(), instruction.bytes());
        }
    }
}
