//! What the guest checks, grouped by function; each line is named after the specification's term.

mod base;
mod capabilities;
mod console;
mod convention;
pub(super) mod evidence;
mod interrupts;
pub(super) mod measurement;
mod memory;
mod mmio;
mod promotion;
mod secret;

use super::{
    place::{PAGE, SHARED, SHARED_PAGES},
    tap::Tap,
    tvm::{Tvm, share},
};

/// Everything.
pub(super) fn all(tvm: &Tvm, tap: &mut Tap) {
    if tvm.promoted {
        promotion::run(tap);
    }
    base::run(tap);
    console::run(tap);
    convention::run(tap);
    memory::run(tap);
    tap.check("share_memory_region: buffers that are shared", share(SHARED, SHARED_PAGES * PAGE).gives(0));
    mmio::run(tap);
    interrupts::run(tap);
    capabilities::run(tvm, tap);
    measurement::run(tvm, tap);
    secret::run(tvm, tap);
    evidence::wanted(tvm, tap);
    evidence::run(tvm, tap);
}
