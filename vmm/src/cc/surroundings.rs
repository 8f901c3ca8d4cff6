//! What a machine stands in: time, randomness and faults.

use tsmsim_simulator::{
    env::{Clock, Entropy},
    fault::{FaultHook, NoFaults},
};

use super::host::{HostClock, HostEntropy};

/// The time, randomness and faults of a machine.
pub struct Surroundings {
    /// By which what is delayed is due.
    pub clock: Box<dyn Clock>,
    /// The randomness of the technology's firmware.
    pub entropy: Box<dyn Entropy>,
    /// Faults that are planned.
    pub faults: Box<dyn FaultHook>,
}

impl Default for Surroundings {
    /// The host's time and randomness, no faults.
    fn default() -> Self {
        Self {
            clock: Box::new(HostClock::default()),
            entropy: Box::new(HostEntropy),
            faults: Box::new(NoFaults),
        }
    }
}
