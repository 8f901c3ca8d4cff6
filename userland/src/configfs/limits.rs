//! What a hostile program may use up.
//!
//! Linux has no limits of its own here: a program that makes entries or opens files without end runs into the machine's
//! memory, its memory control group, or `RLIMIT_NOFILE`. This copy lives in a process of its own, so it sets limits far
//! above what any agent needs and answers as Linux does when an allocation fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

/// How many entries there may be; `mkdir` of one more answers ENOMEM.
pub const MAX_ENTRIES: usize = 1 << 14;

/// How many files may be open; one more answers ENOMEM.
pub const MAX_OPEN_FILES: usize = 1 << 16;

/// How many bytes the blobs of all entries and the buffers of all open files may hold together; what would need more
/// answers ENOMEM.
pub const MAX_HELD_BYTES: usize = 256 << 20;

/// The bytes held at this moment.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// Takes `bytes` until the charge is dropped.
    ///
    /// # Errors
    /// ENOMEM when there would be more than [`MAX_HELD_BYTES`].
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Errno> {
        let more = |held: usize| held.checked_add(bytes).filter(|&held| held <= MAX_HELD_BYTES);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Charge { budget: Arc::clone(self), bytes }),
            Err(_) => Err(Errno::ENOMEM),
        }
    }

    /// The bytes held.
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes taken from the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back_and_never_exceed_the_limit() {
        let budget = Arc::new(Budget::default());
        let whole = budget.charge(MAX_HELD_BYTES).unwrap();
        assert_eq!(budget.charge(1).unwrap_err(), Errno::ENOMEM);
        drop(whole);
        let one = budget.charge(1).unwrap();
        assert_eq!(budget.charge(usize::MAX).unwrap_err(), Errno::ENOMEM);
        assert_eq!(budget.held(), 1);
        drop(one);
        assert_eq!(budget.held(), 0);
    }
}
