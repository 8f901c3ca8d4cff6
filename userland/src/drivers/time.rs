//! Time as the drivers see it: it can be read and slept through.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_simulator::env::Clock;

use super::lock;

/// A sleep ended early: the sleeper is to give up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the sleep was interrupted")]
pub struct Interrupted;

/// Where a driver waits.
pub trait Sleeper: Send + Sync {
    /// Waits for that long; never shorter, unless it fails.
    ///
    /// # Errors
    /// [`Interrupted`]: the session ends.
    fn sleep(&self, duration: Duration) -> Result<(), Interrupted>;

    /// Time since some fixed point; never goes back.
    fn now(&self) -> Duration;
}

/// Real time, until [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct SystemSleeper {
    start: Instant,
    down: Mutex<bool>,
    changed: Condvar,
}

impl Default for SystemSleeper {
    fn default() -> Self {
        Self { start: Instant::now(), down: Mutex::new(false), changed: Condvar::new() }
    }
}

impl SystemSleeper {
    /// Time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every sleep, of now and later, so that nobody waits for a driver whose session is over.
    pub fn shutdown(&self) {
        *lock(&self.down) = true;
        self.changed.notify_all();
    }
}

impl Sleeper for SystemSleeper {
    fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        let down = lock(&self.down);
        let (down, _) = self
            .changed
            .wait_timeout_while(down, duration, |down| !*down)
            .unwrap_or_else(PoisonError::into_inner);
        if *down { Err(Interrupted) } else { Ok(()) }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Time that passes by sleeping and by nothing else, at once.
#[derive(Debug, Default)]
pub struct VirtualSleeper {
    now: Mutex<Duration>,
    late: Duration,
}

impl VirtualSleeper {
    /// Time begins at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with timers that are late by so much, as those of a kernel are.
    #[must_use]
    pub fn late_by(late: Duration) -> Self {
        Self { late, ..Self::default() }
    }
}

impl Sleeper for VirtualSleeper {
    fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        let mut now = lock(&self.now);
        *now = now.saturating_add(duration).saturating_add(self.late);
        Ok(())
    }

    fn now(&self) -> Duration {
        *lock(&self.now)
    }
}

/// The simulated machine's clock goes with the driver's, so that what a host delays is due when the driver asks again.
pub(super) struct SleeperClock(pub(super) Arc<dyn Sleeper>);

impl Clock for SleeperClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.now().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_passes_by_sleeping() {
        let sleeper = Arc::new(VirtualSleeper::late_by(Duration::from_millis(4)));
        let clock = SleeperClock(sleeper.clone());
        assert_eq!(clock.now_ns(), 0);
        assert_eq!(sleeper.sleep(Duration::from_secs(3600)), Ok(()));
        assert_eq!((sleeper.now(), clock.now_ns()), (Duration::from_millis(3_600_004), 3_600_004_000_000));
    }

    #[test]
    fn real_time_passes_until_the_session_ends() {
        let sleeper = Arc::new(SystemSleeper::new());
        let before = sleeper.now();
        assert_eq!(sleeper.sleep(Duration::from_millis(1)), Ok(()));
        assert!(sleeper.now() >= before + Duration::from_millis(1));
        let other = sleeper.clone();
        let sleeping = std::thread::spawn(move || other.sleep(Duration::from_secs(3600)));
        sleeper.shutdown();
        assert_eq!(sleeping.join().unwrap(), Err(Interrupted));
        assert_eq!(sleeper.sleep(Duration::from_secs(3600)), Err(Interrupted));
    }
}
