//! A named check: the rule, where the kernel has it, and what it needs.

use crate::{context::Context, outcome::Outcome};

/// Something that a check needs and a system may lack; a bit each.
pub(crate) type Need = u16;

/// The superuser.
pub(crate) const ROOT: Need = 1;
/// The provider `sev_guest`.
pub(crate) const SNP: Need = 1 << 1;
/// The provider `tdx_guest`.
pub(crate) const TDX: Need = 1 << 2;
/// The attributes of a service provider, as under an SVSM.
pub(crate) const SERVICE: Need = 1 << 3;
/// The provider's device file.
pub(crate) const DEVICE: Need = 1 << 4;
/// Leave to take minutes.
pub(crate) const SLOW: Need = 1 << 5;
/// The whole tree: the path ends in `tsm/report`.
pub(crate) const TREE: Need = 1 << 6;
/// Leave to extend a measurement register, which cannot be undone.
pub(crate) const EXTEND: Need = 1 << 7;
/// A provider whose reports carry `inblob` in a place that the suite knows.
pub(crate) const REPORT_DATA: Need = 1 << 8;
/// The provider `cove_guest`.
pub(crate) const COVE: Need = 1 << 9;

/// How long a check may take, in seconds, unless it says otherwise.
pub(crate) const SECONDS: u64 = 60;

/// A named check.
pub(crate) struct Check {
    /// `group/name`.
    pub(crate) name: &'static str,
    /// The rule, as a sentence.
    pub(crate) rule: &'static str,
    /// The function of the kernel that decides it.
    pub(crate) source: &'static str,
    /// What it needs, bit by bit.
    pub(crate) needs: Need,
    /// Why a FUSE server cannot decide it; set where the kernel answers before the server is asked.
    pub(crate) fuse: Option<&'static str>,
    /// How long it may take.
    pub(crate) seconds: u64,
    /// The check itself.
    pub(crate) run: fn(&Context) -> Outcome,
}

impl Check {
    /// A check without needs.
    pub(crate) const fn new(
        name: &'static str,
        rule: &'static str,
        source: &'static str,
        run: fn(&Context) -> Outcome,
    ) -> Self {
        Self { name, rule, source, needs: 0, fuse: None, seconds: SECONDS, run }
    }

    /// The same with needs.
    pub(crate) const fn needs(mut self, needs: Need) -> Self {
        self.needs |= needs;
        self
    }

    /// The same, left out on FUSE.
    pub(crate) const fn not_on_fuse(mut self, reason: &'static str) -> Self {
        self.fuse = Some(reason);
        self
    }

    /// The same with another time limit.
    pub(crate) const fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }
}
