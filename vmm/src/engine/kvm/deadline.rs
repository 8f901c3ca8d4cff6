//! The bound on KVM_RUN: a timer's signal that only KVM_RUN lets through.
//!
//! No signal handler is installed, and nothing of the process changes: one real-time signal is blocked in the thread
//! that owns the virtual CPU, and KVM_RUN alone runs with it unblocked (KVM_SET_SIGNAL_MASK). A timer sends it to that
//! thread at the deadline. If it comes while the guest runs, KVM_RUN returns EINTR with the signal blocked again, so it
//! is never delivered but stays pending, and is taken from there. If it comes between the check of the clock and
//! KVM_RUN, it is pending by then, and KVM_RUN returns at once. So there is no window in which it could be lost.
//!
//! What a program that embeds this sees: while a virtual CPU lives, `SIGRTMIN` is blocked in its thread, and the signal
//! mask that this thread had when the CPU was made is what holds during KVM_RUN. Other signals with handlers work as
//! ever; the guest goes on after them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::raw::c_int;
use std::time::Instant;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{
    Error as SignalError, SIGRTMIN, block_signal, clear_signal, get_blocked_signals, unblock_signal,
};

use super::sys::{ThreadTimer, set_signal_mask};
use crate::engine::EngineError;

thread_local! {
    /// How many virtual CPUs of this thread need the signal blocked, and whether it was blocked before the first.
    static BLOCKED: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// Keeps the signal blocked in this thread, until the last of its kind goes.
struct BlockedSignal {
    signal: c_int,
    /// Belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl BlockedSignal {
    fn new(signal: c_int) -> Result<Self, EngineError> {
        let (count, before) = BLOCKED.get();
        let before = match block_signal(signal) {
            Ok(()) => false,
            Err(SignalError::SignalAlreadyBlocked(_)) => count == 0 || before,
            Err(error) => return Err(EngineError::Configuration(error.to_string())),
        };
        BLOCKED.set((count + 1, before));
        Ok(Self { signal, _not_send: PhantomData })
    }
}

impl Drop for BlockedSignal {
    fn drop(&mut self) {
        let (count, before) = BLOCKED.get();
        BLOCKED.set((count.saturating_sub(1), before));
        if count == 1 {
            // One that is still pending would end the process once unblocked. Neither call fails for a valid signal.
            let _ = clear_signal(self.signal);
            if !before {
                let _ = unblock_signal(self.signal);
            }
        }
    }
}

/// Ends KVM_RUN at a point in time. Belongs to the thread that made it.
pub(super) struct DeadlineTimer {
    armed_for: Option<Instant>,
    // Dropped in this order: the timer must be gone before the signal is unblocked.
    timer: ThreadTimer,
    blocked: BlockedSignal,
}

impl DeadlineTimer {
    /// A timer for KVM_RUN of `vcpu` in the calling thread.
    pub(super) fn new(vcpu: &VcpuFd) -> Result<Self, EngineError> {
        let signal = SIGRTMIN();
        let blocked = BlockedSignal::new(signal)?;
        let signals = get_blocked_signals().map_err(|error| EngineError::Configuration(error.to_string()))?;
        let mask =
            signals.iter().filter(|&&number| number != signal).fold(0, |mask, &number| mask | bit(number));
        set_signal_mask(vcpu, mask)?;
        Ok(Self { armed_for: None, timer: ThreadTimer::new(signal)?, blocked })
    }

    /// Makes sure that the signal comes at `deadline`. Costs nothing while the deadline stays the same.
    pub(super) fn arm(&mut self, deadline: Instant) -> Result<(), EngineError> {
        if self.armed_for != Some(deadline) {
            self.timer.set(deadline.saturating_duration_since(Instant::now()))?;
            self.armed_for = Some(deadline);
        }
        Ok(())
    }

    /// Takes a pending signal, or several: what KVM_RUN's EINTR may have left.
    pub(super) fn acknowledge(&self) -> Result<(), EngineError> {
        clear_signal(self.blocked.signal).map_err(|error| EngineError::Configuration(error.to_string()))
    }
}

/// A signal's bit in the kernel's 64-bit set.
fn bit(signal: c_int) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn is_blocked(signal: c_int) -> bool {
        get_blocked_signals().unwrap().contains(&signal)
    }

    /// In a thread of its own, so that nothing else of the test process has touched its mask.
    fn in_new_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn the_last_one_unblocks_in_whatever_order() {
        in_new_thread(|| {
            let signal = SIGRTMIN();
            let first = BlockedSignal::new(signal).unwrap();
            let second = BlockedSignal::new(signal).unwrap();
            drop(first);
            assert!(is_blocked(signal));
            drop(second);
            assert!(!is_blocked(signal));
        });
    }

    #[test]
    fn a_signal_blocked_before_stays_blocked() {
        in_new_thread(|| {
            let signal = SIGRTMIN();
            block_signal(signal).unwrap();
            let first = BlockedSignal::new(signal).unwrap();
            let second = BlockedSignal::new(signal).unwrap();
            drop((second, first));
            assert!(is_blocked(signal));
        });
    }

    #[test]
    fn a_fired_timer_leaves_nothing_pending() {
        in_new_thread(|| {
            let signal = SIGRTMIN();
            let blocked = BlockedSignal::new(signal).unwrap();
            let timer = ThreadTimer::new(signal).unwrap();
            timer.set(Duration::from_millis(1)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            drop(timer);
            // Were the signal still pending, unblocking it would end the test process.
            drop(blocked);
            assert!(!is_blocked(signal));
        });
    }

    #[test]
    fn bits() {
        assert_eq!((bit(1), bit(64), bit(0), bit(65)), (1, 1 << 63, 0, 0));
    }
}
