//! What a machine lends the simulator of the real world: time and randomness.

use std::time::Instant;

use tsmsim_simulator::env::{Clock, Entropy};

/// The host's monotonic clock, from zero at its creation on.
#[derive(Clone, Copy, Debug)]
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The host's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEntropy;

impl Entropy for HostEntropy {
    /// # Panics
    /// If the host has no randomness to give: then no key may be made.
    fn fill(&mut self, buf: &mut [u8]) {
        getrandom::fill(buf).expect("the host's random number generator works");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let clock = HostClock::default();
        assert!(clock.now_ns() <= clock.now_ns());
    }

    #[test]
    fn randomness_differs() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        HostEntropy.fill(&mut a);
        HostEntropy.fill(&mut b);
        assert_ne!(a, b);
    }
}
