//! One non-automatic exit: what came in, and what goes back.

use tsmsim_abi::snp::{
    ghcb::{ExitCode, ExitInfo1, Ghcb, GhcbField, MalformedInput, SHARED_BUFFER_OFFSET, SHARED_BUFFER_SIZE},
    msr::PROTOCOL_MAX,
};

use super::{Action, Hypervisor};
use crate::{
    env::{Env, HostDevices},
    snp::event::Violation,
};

/// Bytes of a scratch area outside the GHCB at most, as KVM has it.
const SCRATCH_LIMIT: usize = 4 * 4096;

/// An exit being served. The GHCB is a copy, read once.
pub(super) struct Exit<'a, 'e> {
    pub(super) vcpu: usize,
    pub(super) ghcb_gpa: u64,
    pub(super) ghcb: &'a Ghcb,
    pub(super) env: &'a mut Env<'e>,
    pub(super) devices: &'a mut dyn HostDevices,
}

impl Exit<'_, '_> {
    pub(super) fn code(&self) -> ExitCode {
        ExitCode(self.ghcb.sw_exit_code.get())
    }

    pub(super) fn info1(&self) -> u64 {
        self.ghcb.sw_exit_info_1.get()
    }

    pub(super) fn info2(&self) -> u64 {
        self.ghcb.sw_exit_info_2.get()
    }
}

/// Bits 31:0, as 32-bit registers hold them.
pub(super) const fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Why an exit is not served: what `SW_EXITINFO1` and `SW_EXITINFO2` say then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) info1: ExitInfo1,
    pub(super) info2: u64,
}

impl Refusal {
    /// The guest is to raise this exception ([`tsmsim_abi::snp::ghcb::event_injection`]).
    pub(super) const fn exception(event: u64) -> Self {
        Self { info1: ExitInfo1::ISSUE_EXCEPTION, info2: event }
    }
}

impl From<MalformedInput> for Refusal {
    fn from(reason: MalformedInput) -> Self {
        Self { info1: ExitInfo1::MALFORMED_INPUT, info2: reason.0 }
    }
}

/// What goes back to the guest. Only what is named here is written, and marked valid.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) info1: u64,
    pub(super) info2: u64,
    pub(super) registers: Vec<(GhcbField, u64)>,
    pub(super) scratch: Option<(u64, Vec<u8>)>,
    pub(super) action: Action,
}

impl Reply {
    pub(super) fn info2(value: u64) -> Self {
        Self { info2: value, ..Self::default() }
    }

    pub(super) fn action(action: Action) -> Self {
        Self { action, ..Self::default() }
    }

    pub(super) fn with(mut self, field: GhcbField, value: u64) -> Self {
        self.registers.push((field, value));
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self { info1: refusal.info1.0.into(), info2: refusal.info2, ..Self::default() }
    }
}

/// Where an exit's scratch area lies: in the GHCB's shared buffer, or in shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scratch {
    pub(super) gpa: u64,
    /// Offset in the shared buffer, if it lies there.
    in_ghcb: Option<usize>,
    /// Bytes from `gpa` to the end of the area.
    pub(super) capacity: usize,
}

impl Hypervisor {
    /// Finds the scratch area, which must hold `len` bytes.
    ///
    /// Protocol version 2 wants it to lie wholly inside the GHCB's shared buffer (56421, section 2.6); version 1 also
    /// has shared memory elsewhere.
    pub(super) fn scratch(&self, exit: &mut Exit<'_, '_>, len: usize) -> Result<Scratch, Refusal> {
        let refused = Refusal::from(MalformedInput::INVALID_SCRATCH_AREA);
        let gpa = exit.ghcb.sw_scratch.get();
        let buffer = exit.ghcb_gpa + SHARED_BUFFER_OFFSET;
        if gpa & !0xfff == exit.ghcb_gpa {
            let offset =
                gpa.checked_sub(buffer).and_then(|offset| usize::try_from(offset).ok()).ok_or(refused)?;
            let capacity = SHARED_BUFFER_SIZE.checked_sub(offset).ok_or(refused)?;
            if len > capacity {
                return Err(refused);
            }
            return Ok(Scratch { gpa, in_ghcb: Some(offset), capacity });
        }
        let outside = self.config.scratch_outside_ghcb || exit.ghcb.protocol_version.get() < PROTOCOL_MAX;
        if !outside || len > SCRATCH_LIMIT || !self.reachable(gpa, len, exit.env) {
            return Err(refused);
        }
        let page_end = 4096 - usize::try_from(gpa & 0xfff).map_err(|_| refused)?;
        Ok(Scratch { gpa, in_ghcb: None, capacity: len.max(page_end) })
    }

    /// Copies `len` bytes of the scratch area; those in the GHCB from the copy that was read once.
    pub(super) fn read_scratch(
        &self,
        exit: &Exit<'_, '_>,
        scratch: Scratch,
        len: usize,
    ) -> Result<Vec<u8>, Refusal> {
        let refused = Refusal::from(MalformedInput::INVALID_SCRATCH_AREA);
        if let Some(offset) = scratch.in_ghcb {
            return exit.ghcb.shared_buffer.get(offset..offset + len).map(<[u8]>::to_vec).ok_or(refused);
        }
        let mut data = vec![0; len];
        exit.env.memory.read(scratch.gpa, &mut data).map_err(|_| refused)?;
        Ok(data)
    }

    /// Whether the hypervisor may read and write these bytes: all in RAM, all shared. Journals why not.
    pub(super) fn reachable(&self, gpa: u64, len: usize, env: &mut Env<'_>) -> bool {
        let last = u64::try_from(len.saturating_sub(1)).ok().and_then(|len| gpa.checked_add(len));
        let Some(last) = last else {
            self.violation(gpa, Violation::OutOfRange, env);
            return false;
        };
        for gfn in gpa >> 12..=last >> 12 {
            let violation = match self.rmp.entry(gfn) {
                None => Violation::OutOfRange,
                Some(entry) if entry.assigned() => Violation::HostAccessToPrivate,
                Some(_) => continue,
            };
            self.violation(gfn << 12, violation, env);
            return false;
        }
        true
    }
}
