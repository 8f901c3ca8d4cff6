//! The secure processor's commands on guests (56860 rev. 1.58, chapter 8).
//!
//! Checks and their order are those of the specification; where it leaves the order open, that of AMD's published firmware
//! (AMD-ASPFW). A command's status is a `Result<_, FirmwareStatus>`: whatever a hypervisor or guest gives, it gets a status.

mod launch_commands;

use std::collections::BTreeMap;

use tsmsim_abi::snp::{PAGE_SIZE, status::FirmwareStatus};

pub use self::launch_commands::{LaunchFinish, LaunchStart, LaunchUpdate};
use super::{
    context::{Gctx, GuestState, GuestStatus},
    event::SnpEvent,
    launch::Page,
    message,
    platform::{Platform, SnpConfig},
};
use crate::{
    env::Env,
    fault::{FaultAction, FaultPoint, consult, ignored},
    journal::{Event, Journal},
};

/// Guest contexts that exist at once, at most.
pub const MAX_GUESTS: usize = 1024;
/// Highest ASID (CPUID Fn8000_001F_ECX of the parts that are modelled).
pub const MAX_ASID: u32 = 1006;

/// The firmware of one platform, and the guests that it knows. The platform is in the state INIT.
///
/// Guest contexts are named by the system-physical address of their page, as in the specification: any page-aligned value
/// that the caller likes.
pub struct Firmware {
    pub(super) platform: Platform,
    pub(super) guests: BTreeMap<u64, Gctx>,
}

impl Firmware {
    /// Firmware without guests.
    #[must_use]
    pub const fn new(platform: Platform) -> Self {
        Self { platform, guests: BTreeMap::new() }
    }

    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// A guest's context.
    #[must_use]
    pub fn guest(&self, gctx_paddr: u64) -> Option<&Gctx> {
        self.guests.get(&gctx_paddr)
    }

    /// `SNP_CONFIG`.
    ///
    /// # Errors
    /// See [`Platform::configure`].
    pub fn snp_config(&mut self, env: &mut Env<'_>, config: SnpConfig) -> Result<(), FirmwareStatus> {
        let result = self.platform.configure(config);
        journalled(env.journal, "SNP_CONFIG", result)
    }

    /// `SNP_GCTX_CREATE`.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] for an address that is not page-aligned, [`FirmwareStatus::INVALID_PAGE_STATE`] for
    /// one that is a context already, [`FirmwareStatus::RESOURCE_LIMIT`] for one guest more than [`MAX_GUESTS`].
    pub fn snp_gctx_create(&mut self, env: &mut Env<'_>, gctx_paddr: u64) -> Result<(), FirmwareStatus> {
        let result = self.gctx_create(gctx_paddr);
        journalled(env.journal, "SNP_GCTX_CREATE", result)
    }

    fn gctx_create(&mut self, gctx_paddr: u64) -> Result<(), FirmwareStatus> {
        check_aligned(gctx_paddr)?;
        if self.guests.contains_key(&gctx_paddr) {
            return Err(FirmwareStatus::INVALID_PAGE_STATE);
        }
        if self.guests.len() >= MAX_GUESTS {
            return Err(FirmwareStatus::RESOURCE_LIMIT);
        }
        let gctx = Gctx::new(self.platform.launch_tcb(), self.platform.current_mit_vector());
        self.guests.insert(gctx_paddr, gctx);
        Ok(())
    }

    /// `SNP_ACTIVATE`: binds the guest to an ASID.
    ///
    /// # Errors
    /// In this order: [`FirmwareStatus::INVALID_PARAM`] (address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no
    /// context), [`FirmwareStatus::INVALID_GUEST_STATE`] (before the launch), [`FirmwareStatus::POLICY_FAILURE`] (policy
    /// wants a single socket), [`FirmwareStatus::INVALID_ASID`], [`FirmwareStatus::ASID_OWNED`],
    /// [`FirmwareStatus::ACTIVE`].
    pub fn snp_activate(
        &mut self,
        env: &mut Env<'_>,
        gctx_paddr: u64,
        asid: u32,
    ) -> Result<(), FirmwareStatus> {
        let result = self.activate(gctx_paddr, asid);
        journalled(env.journal, "SNP_ACTIVATE", result)
    }

    fn activate(&mut self, gctx_paddr: u64, asid: u32) -> Result<(), FirmwareStatus> {
        let sockets = self.platform.sockets();
        let owned = self.guests.values().any(|guest| guest.asid == Some(asid));
        let gctx = context(&mut self.guests, gctx_paddr)?;
        if gctx.state == GuestState::Init {
            return Err(FirmwareStatus::INVALID_GUEST_STATE);
        }
        if gctx.policy.single_socket() && sockets > 1 {
            return Err(FirmwareStatus::POLICY_FAILURE);
        }
        if asid == 0 || asid > MAX_ASID {
            return Err(FirmwareStatus::INVALID_ASID);
        }
        if owned {
            return Err(FirmwareStatus::ASID_OWNED);
        }
        if gctx.asid.is_some() {
            return Err(FirmwareStatus::ACTIVE);
        }
        gctx.asid = Some(asid);
        Ok(())
    }

    /// `SNP_GUEST_STATUS`.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] (address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no context).
    pub fn snp_guest_status(
        &mut self,
        env: &mut Env<'_>,
        gctx_paddr: u64,
    ) -> Result<GuestStatus, FirmwareStatus> {
        let result = context(&mut self.guests, gctx_paddr).map(|gctx| gctx.status());
        journalled(env.journal, "SNP_GUEST_STATUS", result)
    }

    /// `SNP_DECOMMISSION`: the guest is no more, its keys are wiped, its ASID is free.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] (address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no context).
    pub fn snp_decommission(&mut self, env: &mut Env<'_>, gctx_paddr: u64) -> Result<(), FirmwareStatus> {
        let result = context(&mut self.guests, gctx_paddr).map(drop);
        if result.is_ok() {
            self.guests.remove(&gctx_paddr);
        }
        journalled(env.journal, "SNP_DECOMMISSION", result)
    }

    /// `SNP_GUEST_REQUEST`: decrypts a guest's message, does what it asks for and encrypts the response.
    ///
    /// What is wrong with the envelope ends the command with a status (the hypervisor is told). What is wrong with the
    /// message inside is told to the guest: the command succeeds, and `STATUS` of the response says what it was (56860
    /// rev. 1.58, `SNP_GUEST_REQUEST` and chapter 7). The response is a page; what follows the message in it is zero.
    ///
    /// # Errors
    /// In this order: [`FirmwareStatus::INVALID_PARAM`] (context address not aligned), [`FirmwareStatus::INVALID_GUEST`]
    /// (no context), [`FirmwareStatus::INVALID_GUEST_STATE`] (not running); then those of [`message`].
    pub fn snp_guest_request(
        &mut self,
        env: &mut Env<'_>,
        gctx_paddr: u64,
        request: &Page,
    ) -> Result<Box<Page>, FirmwareStatus> {
        let result = match command_fault(env, FaultPoint::SNP_GUEST_REQUEST) {
            Some(status) => Err(status),
            None => message::guest_request(self, env, gctx_paddr, request),
        };
        journalled(env.journal, "SNP_GUEST_REQUEST", result)
    }
}

/// The context at an address.
pub(super) fn context(
    guests: &mut BTreeMap<u64, Gctx>,
    gctx_paddr: u64,
) -> Result<&mut Gctx, FirmwareStatus> {
    check_aligned(gctx_paddr)?;
    guests.get_mut(&gctx_paddr).ok_or(FirmwareStatus::INVALID_GUEST)
}

/// The low 12 bits of an address of a page are reserved.
pub(super) fn check_aligned(paddr: u64) -> Result<(), FirmwareStatus> {
    if paddr.is_multiple_of(PAGE_SIZE as u64) { Ok(()) } else { Err(FirmwareStatus::INVALID_PARAM) }
}

/// The status that a fault plan wants a command to end with. A status of zero or of more than 32 bits cannot be an error
/// of the mailbox, and other actions make no sense here.
fn command_fault(env: &mut Env<'_>, point: FaultPoint) -> Option<FirmwareStatus> {
    let action = consult(env.faults, env.journal, point)?;
    let status = fault_status(&action).filter(|status| *status != FirmwareStatus::SUCCESS);
    if status.is_none() {
        ignored(env.journal, point, &action);
    }
    status
}

/// A fault as a firmware status, if it is one.
pub(super) fn fault_status(action: &FaultAction) -> Option<FirmwareStatus> {
    match action {
        FaultAction::Status(status) => u32::try_from(*status).ok().map(FirmwareStatus),
        _ => None,
    }
}

/// Writes down how a command ended.
fn journalled<T>(
    journal: &mut Journal,
    name: &'static str,
    result: Result<T, FirmwareStatus>,
) -> Result<T, FirmwareStatus> {
    let status = result.as_ref().err().copied().unwrap_or(FirmwareStatus::SUCCESS);
    journal.record(Event::Snp(SnpEvent::Command { name, status }));
    result
}
