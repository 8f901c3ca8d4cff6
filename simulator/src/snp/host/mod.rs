//! The hypervisor's side of the GHCB protocol (56421 rev. 2.04), for one guest.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what the hypervisor offers |
//! | `launch.rs` | launching a guest through the firmware's commands |
//! | `msr.rs` | the GHCB MSR protocol |
//! | `nae.rs` | non-automatic exits: checks, dispatch, writing back |
//! | `instruction.rs` | exits that stand for one instruction: CPUID, MSR, port and memory-mapped I/O, TSC |
//! | `psc.rs` | page state change, by buffer and by MSR |
//! | `guest_request.rs` | guest requests, plain and extended |
//! | `ap.rs` | starting and stopping application processors |
//! | `certs.rs` | the certificate table |
//! | `exit.rs` | what all exits share: scratch area, reply, refusals |
//!
//! The monitor calls [`Hypervisor::vmgexit`] at each VMGEXIT with the value of the GHCB MSR, and
//! [`Hypervisor::pvalidate`] and [`Hypervisor::rmpadjust`] at those instructions; what it is to do then is an [`Action`].

mod ap;
mod certs;
mod config;
mod exit;
mod guest_request;
mod instruction;
mod launch;
mod msr;
mod nae;
mod psc;
#[cfg(test)]
mod testing;

use tsmsim_abi::snp::{
    msr::{GhcbInfo, GhcbMsr, TerminationReason},
    rmp::{RMP_PAGE_SIZE_4K, RmpAdjustOperand, RmpReturn},
};

pub use self::{
    ap::Wake,
    certs::{CertTableTooLarge, build_cert_table},
    config::{HostConfig, SUPPORTED_FEATURES},
    launch::{IdAuthentication, LaunchError, LaunchPlan, PageContents, PlannedPage},
};
use super::{
    context::Gctx,
    event::{SnpEvent, Violation},
    firmware::Firmware,
    rmp::{PageSize, Rmp, RmpOutcome},
};
use crate::{
    env::{Env, HostDevices},
    journal::Event,
};

/// The host's side of one SNP guest.
pub struct Hypervisor {
    firmware: Firmware,
    gctx_paddr: u64,
    rmp: Rmp,
    config: HostConfig,
    vcpus: Vec<Vcpu>,
    ap_jump_table: u64,
    ended: Option<Termination>,
}

/// What the hypervisor knows about a vCPU.
#[derive(Clone, Debug)]
struct Vcpu {
    apic_id: u32,
    /// Guest-physical address of the registered GHCB.
    ghcb: Option<u64>,
    dr7: u64,
    /// VMSA in guest memory with which the vCPU runs. The boot processor's initial one is not in guest memory.
    vmsa: Option<u64>,
    /// VMSA for the next INIT.
    next_vmsa: Option<u64>,
    reset_hold: Option<ap::ResetHold>,
}

/// What the monitor is to do after an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// Run the vCPU on.
    #[default]
    Resume,
    /// The vCPU executed HLT: run it on at the next interrupt.
    Halted,
    /// The vCPU waits for INIT-SIPI: see [`Hypervisor::init_sipi`].
    ResetHold,
    /// Start another vCPU (or restart it) with the VMSA at this guest-physical address; run this one on.
    StartVcpu {
        /// Which vCPU.
        vcpu: usize,
        /// Where its VMSA is.
        vmsa_gpa: u64,
    },
    /// Stop a vCPU, maybe this one; run the others on.
    StopVcpu {
        /// Which vCPU.
        vcpu: usize,
    },
    /// The guest is over.
    Terminated(Termination),
}

/// Why a guest is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Termination {
    /// It asked for it.
    Requested(TerminationReason),
    /// It met a #VC that it cannot handle ([`tsmsim_abi::snp::ghcb::ExitCode::UNSUPPORTED_EVENT`]).
    UnsupportedEvent {
        /// `SW_EXITINFO1`: the exit code of the event.
        exit_code: u64,
        /// `SW_EXITINFO2`: what the guest adds to it.
        info: u64,
    },
}

/// What comes of a VMGEXIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The GHCB MSR's value from now on.
    pub msr: GhcbMsr,
    /// What the monitor is to do.
    pub action: Action,
}

/// Where the operand of PVALIDATE or RMPADJUST lies, as the guest's page tables say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkedPage {
    /// Guest-physical address, without C-bit.
    pub gpa: u64,
    /// Whether the mapping has the C-bit set.
    pub c_bit: bool,
    /// Size of the mapping.
    pub size: PageSize,
}

impl Hypervisor {
    /// A hypervisor for a guest that is launched already: `gctx_paddr` is its context. See [`Self::launch`].
    #[must_use]
    pub fn new(firmware: Firmware, gctx_paddr: u64, config: HostConfig) -> Self {
        let features = u64::from(config.features) & u64::from(SUPPORTED_FEATURES);
        let vcpu = |apic_id: &u32| Vcpu {
            apic_id: *apic_id,
            ghcb: None,
            dr7: 0x400,
            vmsa: None,
            next_vmsa: None,
            reset_hold: None,
        };
        Self {
            firmware,
            gctx_paddr,
            rmp: Rmp::new(&config.ram),
            vcpus: config.apic_ids.iter().map(vcpu).collect(),
            config: HostConfig { features: features.into(), ..config },
            ap_jump_table: 0,
            ended: None,
        }
    }

    /// The reverse map table.
    #[must_use]
    pub const fn rmp(&self) -> &Rmp {
        &self.rmp
    }

    /// What the hypervisor offers.
    #[must_use]
    pub const fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The firmware.
    #[must_use]
    pub const fn firmware(&self) -> &Firmware {
        &self.firmware
    }

    /// The firmware, for commands that a host gives it directly.
    pub const fn firmware_mut(&mut self) -> &mut Firmware {
        &mut self.firmware
    }

    /// The guest's context, as the firmware has it.
    #[must_use]
    pub fn guest_context(&self) -> Option<&Gctx> {
        self.firmware.guest(self.gctx_paddr)
    }

    /// Where the firmware keeps the guest's context.
    #[must_use]
    pub const fn gctx_paddr(&self) -> u64 {
        self.gctx_paddr
    }

    /// Replaces the certificate table, as a host does when the endorsement key changes. Empty: none.
    pub fn set_certificates(&mut self, table: Vec<u8>) {
        self.config.certificates = table;
    }

    /// Why the guest is over, if it is.
    #[must_use]
    pub const fn terminated(&self) -> Option<Termination> {
        self.ended
    }

    /// Serves a VMGEXIT of a vCPU whose GHCB MSR holds `msr`.
    ///
    /// Where there is nothing to answer into (an address that is not shared guest memory), the vCPU just runs on, as
    /// with KVM; the journal says why. A vCPU that does not exist is treated alike.
    pub fn vmgexit(
        &mut self,
        vcpu: usize,
        msr: GhcbMsr,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Outcome {
        if let Some(termination) = self.ended {
            return Outcome { msr, action: Action::Terminated(termination) };
        }
        if vcpu >= self.vcpus.len() {
            return Outcome { msr, action: Action::Resume };
        }
        let outcome = if msr.info() == GhcbInfo::GHCB_ADDRESS {
            Outcome { msr, action: self.exit(vcpu, msr.ghcb_gpa(), env, devices) }
        } else {
            self.msr_protocol(vcpu, msr, env, devices)
        };
        if let Action::Terminated(termination) = outcome.action {
            self.ended = Some(termination);
            if let Termination::Requested(reason) = termination {
                env.journal.record(Event::Snp(SnpEvent::Terminated { reason }));
            }
        }
        outcome
    }

    /// PVALIDATE at VMPL0: `rcx` and `rdx` are the instruction's operands. Returns EAX and the carry flag.
    ///
    /// Of both operands bit 0 counts alone. Linux hands over a `bool` in DL, with anything in the rest of EDX
    /// (`pvalidate()` in `arch/x86/include/asm/sev.h`), and processors take it.
    pub fn pvalidate(&mut self, page: WalkedPage, rcx: u64, rdx: u64, env: &mut Env<'_>) -> RmpOutcome {
        let outcome = match self.instruction_operand(page, rcx, env) {
            Ok(size) => self.rmp.pvalidate(0, page.gpa >> 12, size, rdx & 1 == 1),
            Err(result) => RmpOutcome { result, carry: false, violation: None },
        };
        self.journal_outcome(page.gpa, outcome, env)
    }

    /// RMPADJUST at VMPL0: `rcx` and `rdx` are the instruction's operands. Returns EAX.
    pub fn rmpadjust(&mut self, page: WalkedPage, rcx: u64, rdx: u64, env: &mut Env<'_>) -> RmpOutcome {
        let operand = RmpAdjustOperand::from(rdx);
        let outcome = match self.instruction_operand(page, rcx, env) {
            Ok(size) => self.rmp.rmpadjust(0, page.gpa >> 12, size, operand),
            Err(result) => RmpOutcome { result, carry: false, violation: None },
        };
        self.journal_outcome(page.gpa, outcome, env)
    }

    fn instruction_operand(
        &self,
        page: WalkedPage,
        rcx: u64,
        env: &mut Env<'_>,
    ) -> Result<PageSize, RmpReturn> {
        if !page.c_bit {
            self.violation(page.gpa, Violation::MappedWithoutCBit, env);
            if self.config.refuse_without_c_bit {
                return Err(RmpReturn::FAIL_INPUT);
            }
        }
        match rcx & 1 {
            RMP_PAGE_SIZE_4K => Ok(PageSize::Size4K),
            _ if page.size == PageSize::Size4K => Err(RmpReturn::FAIL_SIZEMISMATCH),
            _ => Ok(PageSize::Size2M),
        }
    }

    fn journal_outcome(&self, gpa: u64, outcome: RmpOutcome, env: &mut Env<'_>) -> RmpOutcome {
        if let Some(violation) = outcome.violation {
            self.violation(gpa, violation, env);
        }
        outcome
    }

    #[expect(clippy::unused_self, reason = "reads as what the hypervisor notices")]
    fn violation(&self, gpa: u64, violation: Violation, env: &mut Env<'_>) {
        env.journal.record(Event::Snp(SnpEvent::Violation { gpa, violation }));
    }
}
