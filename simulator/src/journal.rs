//! What happened, in order: requests, violations, faults. Bounded: the oldest entries make way and are counted.

use std::collections::VecDeque;

use crate::{
    cove,
    fault::{FaultAction, FaultPoint},
    snp, tdx,
};

/// Entries that a journal keeps at most.
pub const CAPACITY: usize = 16 * 1024;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Of an SNP guest, its hypervisor or its firmware.
    Snp(snp::event::SnpEvent),
    /// Of a TD, its host or the TDX module.
    Tdx(tdx::event::TdxEvent),
    /// Of a TVM, its host or the TSM.
    Cove(cove::event::CoveEvent),
    /// A fault was wanted at a point.
    Fault {
        /// Where.
        point: FaultPoint,
        /// What.
        action: FaultAction,
    },
    /// The fault that was wanted came to nothing: the action makes no sense at the point, or lies outside the data.
    FaultIgnored {
        /// Where.
        point: FaultPoint,
        /// What.
        action: FaultAction,
    },
}

/// The journal.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: VecDeque<(u64, Event)>,
    recorded: u64,
}

impl Journal {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    pub fn record(&mut self, event: Event) {
        if self.entries.len() == CAPACITY {
            self.entries.pop_front();
        }
        self.entries.push_back((self.recorded, event));
        self.recorded += 1;
    }

    /// The entries that are kept, oldest first, each with its number.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &Event)> {
        self.entries.iter().map(|(number, event)| (*number, event))
    }

    /// How many entries were recorded, those included that made way.
    #[must_use]
    pub const fn recorded(&self) -> u64 {
        self.recorded
    }
}
