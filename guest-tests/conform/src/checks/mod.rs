//! The checks, group by group.

mod attr;
mod device;
mod dir;
mod entry;
mod generation;
mod inblob;
mod names;
mod open;
mod outblob;
mod privlevel;
mod race;
mod service;
mod sev_guest;
mod sysfs;

use crate::check::Check;

/// All checks, in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    [
        names::CHECKS,
        dir::CHECKS,
        entry::CHECKS,
        open::CHECKS,
        attr::CHECKS,
        inblob::CHECKS,
        privlevel::CHECKS,
        outblob::CHECKS,
        generation::CHECKS,
        service::CHECKS,
        device::CHECKS,
        sev_guest::CHECKS,
        sysfs::CHECKS,
        race::CHECKS,
    ]
    .into_iter()
    .flatten()
}
