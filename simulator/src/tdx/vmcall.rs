//! The host's side of `TDG.VP.VMCALL` (348552 Guest-Host-Communication Interface for Intel TDX 1.5, chapter 3).
//!
//! | file | sub-functions |
//! |---|---|
//! | `map_gpa.rs` | `MapGPA` |
//! | `get_quote.rs` | `GetQuote`, `SetupEventNotifyInterrupt` |
//! | `service.rs` | `Service` |
//! | `instruction.rs` | the forms that stand for one instruction |

mod get_quote;
mod instruction;
mod map_gpa;
mod service;
#[cfg(test)]
mod tests;

use tsmsim_abi::tdx::vmcall::{
    FATAL_ERROR_TEXT_REGISTERS, FatalError, STANDARD, SupportedSubFunctions, VmcallStatus, VmcallSubFunction,
};

pub use self::get_quote::Interrupt;
use self::get_quote::Quotes;
use super::{
    event::TdxEvent,
    qgs::QuoteService,
    registers::{Gpr, Registers},
    td::Td,
};
use crate::{
    env::{Env, HostDevices},
    fault::{self, FaultAction, FaultPoint},
    journal::Event,
};

/// What a host offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// Most pages that one `MapGPA` converts before it answers RETRY; at least one.
    pub map_gpa_pages: u64,
    /// Nanoseconds until a quote is there; `None`: `GetQuote` returns with it.
    pub quote_delay_ns: Option<u64>,
    /// Whether there is a quoting service. If not, requests end with `SERVICE_UNAVAILABLE`.
    pub quoting: bool,
    /// Requests that may be in flight; more end with `SERVICE_UNAVAILABLE`.
    pub max_quotes: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { map_gpa_pages: 1 << 16, quote_delay_ns: None, quoting: true, max_quotes: 16 }
    }
}

/// Why a TD ended itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FatalReport {
    /// `R12`.
    pub error: FatalError,
    /// `R13`, if the TD says that it is the address of a page that tells more.
    pub gpa: Option<u64>,
    /// The text, zero-padded; not necessarily UTF-8.
    pub text: [u8; 64],
}

/// What a TDVMCALL has the monitor do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostAction {
    /// Run the VCPU on.
    #[default]
    Resume,
    /// The VCPU executed HLT: run it on at the next interrupt.
    Halted {
        /// The TD says that interrupts are blocked, so only an NMI wakes it.
        interrupts_blocked: bool,
    },
    /// The TD is over.
    Terminated(FatalReport),
}

/// The host's side of one TD.
#[derive(Clone)]
pub struct Host {
    config: HostConfig,
    service: QuoteService,
    quotes: Quotes,
}

/// What a sub-function sees. Registers that the TD does not show are zero.
struct Request<'a, 'b> {
    td: &'a mut Td,
    vcpu: usize,
    registers: &'a mut Registers,
    env: &'a mut Env<'b>,
    devices: &'a mut dyn HostDevices,
}

impl Request<'_, '_> {
    /// The address in memory of a range that the TD names as shared, if all of it is shared RAM.
    fn shared(&self, gpa: u64, len: u64) -> Result<u64, VmcallStatus> {
        match self.td.split_gpa(gpa) {
            Some((address, true)) if self.td.sept().is_shared(address, len) => Ok(address),
            _ => Err(VmcallStatus::INVALID_OPERAND),
        }
    }
}

impl Host {
    /// A host with nothing in flight.
    #[must_use]
    pub fn new(config: HostConfig, service: QuoteService) -> Self {
        Self { config, service, quotes: Quotes::default() }
    }

    /// What it offers.
    #[must_use]
    pub const fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The quote generation service.
    #[must_use]
    pub const fn service(&self) -> &QuoteService {
        &self.service
    }

    /// Serves a TDVMCALL. `registers` are what the TD shows; they are changed as the sub-function says, `R10` always.
    pub fn vmcall(
        &mut self,
        td: &mut Td,
        vcpu: usize,
        registers: &mut Registers,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> HostAction {
        let sub_function = VmcallSubFunction(registers[Gpr::R11]);
        let fault = fault::consult(env.faults, env.journal, FaultPoint::TDX_VMCALL);
        let mut request = Request { td, vcpu, registers, env, devices };
        let result = match fault {
            Some(FaultAction::Status(status)) => Err(VmcallStatus(status)),
            Some(other) => {
                fault::ignored(request.env.journal, FaultPoint::TDX_VMCALL, &other);
                self.serve(sub_function, &mut request)
            }
            None => self.serve(sub_function, &mut request),
        };
        let (status, action) = match result {
            Ok(action) => (VmcallStatus::SUCCESS, action),
            Err(status) => (status, HostAction::Resume),
        };
        registers[Gpr::R10] = status.0;
        env.journal.record(Event::Tdx(TdxEvent::VmCall { vcpu, sub_function, status }));
        action
    }

    fn serve(
        &mut self,
        sub_function: VmcallSubFunction,
        request: &mut Request<'_, '_>,
    ) -> Result<HostAction, VmcallStatus> {
        if request.registers[Gpr::R10] != STANDARD {
            return Err(VmcallStatus::SUBFUNC_UNSUPPORTED);
        }
        match sub_function {
            VmcallSubFunction::GET_TD_VM_CALL_INFO => get_td_vm_call_info(request.registers)?,
            VmcallSubFunction::MAP_GPA => self.map_gpa(request)?,
            VmcallSubFunction::GET_QUOTE => self.get_quote(request)?,
            VmcallSubFunction::REPORT_FATAL_ERROR => return Ok(report_fatal_error(request)),
            VmcallSubFunction::SETUP_EVENT_NOTIFY_INTERRUPT => self.setup_event_notify_interrupt(request)?,
            VmcallSubFunction::SERVICE => self.service_call(request)?,
            VmcallSubFunction::INSTRUCTION_HLT => {
                return Ok(HostAction::Halted { interrupts_blocked: request.registers[Gpr::R12] & 1 == 1 });
            }
            _ => instruction::serve(sub_function, request)?,
        }
        Ok(HostAction::Resume)
    }
}

fn get_td_vm_call_info(registers: &mut Registers) -> Result<(), VmcallStatus> {
    let supported = match registers[Gpr::R12] {
        0 => SupportedSubFunctions::new(),
        1 => SupportedSubFunctions::new().with_get_quote(true).with_setup_event_notify_interrupt(true),
        _ => return Err(VmcallStatus::INVALID_OPERAND),
    };
    registers[Gpr::R11] = supported.into();
    [Gpr::R12, Gpr::R13, Gpr::R14].into_iter().for_each(|register| registers[register] = 0);
    Ok(())
}

fn report_fatal_error(request: &mut Request<'_, '_>) -> HostAction {
    let error = FatalError::from(request.registers[Gpr::R12]);
    let mut text = [0; 64];
    for (eight, register) in text.as_chunks_mut::<8>().0.iter_mut().zip(FATAL_ERROR_TEXT_REGISTERS) {
        *eight = request.registers.0[usize::from(register)].to_le_bytes();
    }
    let gpa = error.gpa_valid().then_some(request.registers[Gpr::R13]);
    request.env.journal.record(Event::Tdx(TdxEvent::Terminated { error }));
    HostAction::Terminated(FatalReport { error, gpa, text })
}
