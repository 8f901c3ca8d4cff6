//! The guest's side, for programs that have no virtual machine.
//!
//! [`InProcessTvmGuest`] does over plain memory what a guest's driver does in a TVM: it probes for COVG and asks by `ecall`,
//! with page-aligned buffers. Nothing is short-cut: every call goes through TSM and host.

use tsmsim_abi::cove::{
    attcaps::AttestationCapabilities,
    covg::{CHALLENGE_SIZE, CovgFid, MAX_SECRET_SIZE},
    sbi::{ExtensionId, SbiError},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    PAGE_SIZE,
    machine::{Action, HostConfig, LaunchError, LaunchPlan, Machine},
    platform::CovePlatform,
    promote::PromotePlan,
    registers::Registers,
};
use crate::env::OutOfRange;
pub use crate::snp::guest::World;

/// Guest-physical addresses of the guest's buffers.
mod place {
    pub(super) const PUBLIC_KEY: u64 = 0x1000;
    pub(super) const CHALLENGE: u64 = 0x2000;
    pub(super) const CAPABILITIES: u64 = 0x3000;
    pub(super) const DIGEST: u64 = 0x4000;
    pub(super) const SECRET: u64 = 0x5000;
    pub(super) const EVIDENCE: u64 = 0x8000;
    pub(super) const EVIDENCE_SIZE: u64 = 0x8000;
}

/// Lowest guest-physical address that a plan for [`InProcessTvmGuest::launch`] may use.
pub const IMAGE_GPA: u64 = 0x1_0000;

/// Why a TVM did not get what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum TvmGuestError {
    /// The TVM could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The TVM reached outside its memory.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The TSM refused.
    #[error("{function} failed: {error}")]
    Sbi {
        /// The function.
        function: CovgFid,
        /// What it returned.
        error: SbiError,
    },
    /// Nothing answers COVG calls.
    #[error("there is no COVG extension")]
    NoCovg,
    /// The TSM says that it wrote more than there is room for.
    #[error("{0} bytes do not fit into the buffer")]
    TooLong(u64),
}

/// A TVM without a virtual machine.
pub struct InProcessTvmGuest {
    machine: Machine,
    world: World,
}

impl InProcessTvmGuest {
    /// Launches a TVM with the pages of `plan` (at [`IMAGE_GPA`] and above). Memory must begin at zero and reach
    /// [`IMAGE_GPA`]; the guest's buffers lie below, in pages that are mapped on demand and not measured.
    ///
    /// # Errors
    /// [`TvmGuestError::Launch`].
    pub fn launch(
        platform: CovePlatform,
        config: HostConfig,
        plan: &LaunchPlan,
        mut world: World,
    ) -> Result<Self, TvmGuestError> {
        let (mut env, _) = world.env();
        let machine = Machine::launch(platform, config, plan, &mut env)?;
        Ok(Self { machine, world })
    }

    /// Promotes what lies in the world's memory.
    ///
    /// # Errors
    /// [`TvmGuestError::Launch`].
    pub fn promote(
        platform: CovePlatform,
        config: HostConfig,
        plan: &PromotePlan,
        mut world: World,
    ) -> Result<Self, TvmGuestError> {
        let (mut env, _) = world.env();
        let machine = Machine::promote(platform, config, plan, &mut env)?;
        Ok(Self { machine, world })
    }

    /// TSM and host.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Memory, journal, faults and the rest.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// An `ecall` on vCPU 0, with whatever registers.
    pub fn ecall(&mut self, registers: &mut Registers) -> Action {
        let (mut env, _) = self.world.env();
        self.machine.ecall(0, registers, &mut env)
    }

    /// `sbi_probe_extension` for COVG.
    pub fn probe(&mut self) -> bool {
        let mut registers = Registers::probe(ExtensionId::COVG);
        let action = self.ecall(&mut registers);
        (action, registers.error()) == (Action::Resume, SbiError::SUCCESS) && registers.value() != 0
    }

    /// A COVG call; gives the value.
    ///
    /// # Errors
    /// [`TvmGuestError::Sbi`] or [`TvmGuestError::NoCovg`].
    pub fn call(&mut self, function: CovgFid, arguments: &[u64]) -> Result<u64, TvmGuestError> {
        let mut registers = Registers::covg(function, arguments);
        match (self.ecall(&mut registers), registers.error()) {
            (Action::Forward, _) => Err(TvmGuestError::NoCovg),
            (Action::Resume, SbiError::SUCCESS) => Ok(registers.value()),
            (Action::Resume, error) => Err(TvmGuestError::Sbi { function, error }),
        }
    }

    /// `sbi_covg_get_attcaps`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn capabilities(&mut self) -> Result<AttestationCapabilities, TvmGuestError> {
        self.call(CovgFid::GET_ATTCAPS, &[place::CAPABILITIES, PAGE_SIZE as u64])?;
        let mut capabilities = AttestationCapabilities::new_zeroed();
        self.world.memory.read(place::CAPABILITIES, capabilities.as_mut_bytes())?;
        Ok(capabilities)
    }

    /// `sbi_covg_extend_measurement`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn extend(&mut self, index: u64, digest: &[u8]) -> Result<(), TvmGuestError> {
        self.world.memory.write(place::DIGEST, digest)?;
        let arguments = [place::DIGEST, digest.len() as u64, index];
        self.call(CovgFid::EXTEND_MEASUREMENT, &arguments).map(drop)
    }

    /// `sbi_covg_read_measurement`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn read_measurement(&mut self, index: u64) -> Result<Vec<u8>, TvmGuestError> {
        let size = PAGE_SIZE as u64;
        let len = self.call(CovgFid::READ_MEASUREMENT, &[place::DIGEST, size, index])?;
        self.answer(place::DIGEST, len, size)
    }

    /// `sbi_covg_get_evidence`: one format, a COSE_Key or the TVM's own key, a challenge.
    ///
    /// # Errors
    /// What went wrong.
    pub fn evidence(
        &mut self,
        format: u64,
        public_key: Option<&[u8]>,
        challenge: &[u8; CHALLENGE_SIZE],
    ) -> Result<Vec<u8>, TvmGuestError> {
        let key = public_key.unwrap_or_default();
        if key.len() > PAGE_SIZE {
            return Err(OutOfRange { gpa: place::PUBLIC_KEY, len: key.len() }.into());
        }
        self.world.memory.write(place::PUBLIC_KEY, key)?;
        self.world.memory.write(place::CHALLENGE, challenge)?;
        let arguments = [
            place::PUBLIC_KEY,
            key.len() as u64,
            place::CHALLENGE,
            format,
            place::EVIDENCE,
            place::EVIDENCE_SIZE,
        ];
        let len = self.call(CovgFid::GET_EVIDENCE, &arguments)?;
        self.answer(place::EVIDENCE, len, place::EVIDENCE_SIZE)
    }

    /// `sbi_covg_retrieve_secret`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn secret(&mut self) -> Result<Vec<u8>, TvmGuestError> {
        let size = MAX_SECRET_SIZE as u64;
        let len = self.call(CovgFid::RETRIEVE_SECRET, &[place::SECRET, size])?;
        self.answer(place::SECRET, len, size)
    }

    fn answer(&self, gpa: u64, len: u64, size: u64) -> Result<Vec<u8>, TvmGuestError> {
        let length = usize::try_from(len).ok().filter(|_| len <= size).ok_or(TvmGuestError::TooLong(len))?;
        let mut answer = vec![0; length];
        self.world.memory.read(gpa, &mut answer)?;
        Ok(answer)
    }
}
