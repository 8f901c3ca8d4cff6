//! `GetQuote` and `SetupEventNotifyInterrupt`.

use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION, capacity},
    vmcall::{EVENT_NOTIFY_VECTORS, VmcallStatus},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Host, Request};
use crate::{
    env::Env,
    fault::{self, FaultAction, FaultPoint},
    journal::Event,
    tdx::{
        PAGE_SIZE,
        event::{TdxEvent, Violation},
        registers::Gpr,
        td::Td,
    },
};

/// Largest request: far more than a TDREPORT or a message that holds one.
const MAX_REQUEST: usize = 1 << 17;

/// An interrupt that the host injects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interrupt {
    /// Into which VCPU.
    pub vcpu: usize,
    /// Vector.
    pub vector: u8,
}

/// A request in flight.
#[derive(Clone, Debug)]
struct Pending {
    /// Address in memory and size of the buffer.
    gpa: u64,
    size: u64,
    header: GetQuoteHeader,
    request: Vec<u8>,
    due_ns: u64,
}

/// Requests in flight, and whom to tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Quotes {
    pending: Vec<Pending>,
    notify: Option<Interrupt>,
    interrupts: Vec<Interrupt>,
}

impl Host {
    /// `SetupEventNotifyInterrupt`: the VCPU that asks is the one to be told.
    pub(super) fn setup_event_notify_interrupt(
        &mut self,
        request: &Request<'_, '_>,
    ) -> Result<(), VmcallStatus> {
        let vector = request.registers[Gpr::R12];
        let vector = u8::try_from(vector).ok().filter(|_| EVENT_NOTIFY_VECTORS.contains(&vector));
        let vector = vector.ok_or(VmcallStatus::INVALID_OPERAND)?;
        self.quotes.notify = Some(Interrupt { vcpu: request.vcpu, vector });
        Ok(())
    }

    /// `GetQuote`: the request is copied in and judged once; the answer comes at once or with [`Host::poll`].
    pub(super) fn get_quote(&mut self, request: &mut Request<'_, '_>) -> Result<(), VmcallStatus> {
        let (gpa, size) = (request.registers[Gpr::R12], request.registers[Gpr::R13]);
        if !matches!(request.td.split_gpa(gpa), Some((_, true))) {
            return Err(VmcallStatus::INVALID_OPERAND);
        }
        let page = PAGE_SIZE as u64;
        if !gpa.is_multiple_of(page) || !size.is_multiple_of(page) {
            return Err(VmcallStatus::ALIGN_ERROR);
        }
        if size == 0 {
            return Err(VmcallStatus::INVALID_OPERAND);
        }
        let gpa = request.shared(gpa, size).inspect_err(|_| {
            let gpa = gpa & !request.td.shared_bit();
            let violation = Violation::SharedAccessToPrivate;
            request.env.journal.record(Event::Tdx(TdxEvent::Violation { gpa, violation }));
        })?;
        let overlaps = |other: &Pending| gpa < other.gpa + other.size && other.gpa < gpa + size;
        if self.quotes.pending.iter().any(overlaps) {
            return Err(VmcallStatus::INVALID_OPERAND);
        }
        let pending = self.read_request(gpa, size, request.env)?;
        if !self.config.quoting || self.quotes.pending.len() >= self.config.max_quotes {
            finish(&pending, GetQuoteStatus::SERVICE_UNAVAILABLE, &[], request.env);
            return Ok(());
        }
        if self.config.quote_delay_ns.is_none() {
            self.complete(&pending, request.td, request.env);
            return Ok(());
        }
        put_header(&pending, GetQuoteStatus::IN_FLIGHT, 0, request.env);
        self.quotes.pending.push(pending);
        Ok(())
    }

    fn read_request(&self, gpa: u64, size: u64, env: &Env<'_>) -> Result<Pending, VmcallStatus> {
        let invalid = VmcallStatus::INVALID_OPERAND;
        let mut header = GetQuoteHeader::new_zeroed();
        env.memory.read(gpa, header.as_mut_bytes()).map_err(|_| invalid)?;
        let room = capacity(usize::try_from(size).map_err(|_| invalid)?).min(MAX_REQUEST);
        let len = usize::try_from(header.in_len.get()).ok().filter(|len| *len <= room).ok_or(invalid)?;
        if header.version.get() != VERSION {
            return Err(invalid);
        }
        let mut request = vec![0; len];
        env.memory.read(gpa + size_of::<GetQuoteHeader>() as u64, &mut request).map_err(|_| invalid)?;
        let due_ns = env.clock.now_ns().saturating_add(self.config.quote_delay_ns.unwrap_or(0));
        Ok(Pending { gpa, size, header, request, due_ns })
    }

    /// Completes what is due by the clock, and gives the interrupts to be injected since the last call.
    pub fn poll(&mut self, td: &Td, env: &mut Env<'_>) -> Vec<Interrupt> {
        let now = env.clock.now_ns();
        let due: Vec<_> = self.quotes.pending.extract_if(.., |pending| pending.due_ns <= now).collect();
        for pending in &due {
            self.complete(pending, td, env);
        }
        std::mem::take(&mut self.quotes.interrupts)
    }

    /// When the next request in flight is due.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.quotes.pending.iter().map(|pending| pending.due_ns).min()
    }

    fn complete(&mut self, pending: &Pending, td: &Td, env: &mut Env<'_>) {
        if !td.sept().is_shared(pending.gpa, pending.size) {
            let violation = Violation::SharedAccessToPrivate;
            env.journal.record(Event::Tdx(TdxEvent::Violation { gpa: pending.gpa, violation }));
            return;
        }
        let room = capacity(usize::try_from(pending.size).unwrap_or(usize::MAX));
        let answer = self.service.respond_raw(&pending.request).ok().filter(|answer| answer.len() <= room);
        let mut status = if answer.is_some() { GetQuoteStatus::SUCCESS } else { GetQuoteStatus::ERROR };
        let mut answer = answer.unwrap_or_default();
        let point = FaultPoint::TDX_QUOTE;
        match fault::consult(env.faults, env.journal, point) {
            // The service never answers: the buffer stays in flight.
            Some(FaultAction::Drop) => return put_header(pending, GetQuoteStatus::IN_FLIGHT, 0, env),
            Some(FaultAction::Status(value)) => {
                status = GetQuoteStatus(value);
                answer.clear();
            }
            Some(action) => {
                fault::apply(env.journal, point, &action, &mut answer);
            }
            None => {}
        }
        finish(pending, status, &answer, env);
        self.quotes.interrupts.extend(self.quotes.notify.filter(|_| self.quotes.interrupts.len() < 256));
    }
}

/// Writes the answer, then the header whose status hands the buffer back.
fn finish(pending: &Pending, status: GetQuoteStatus, answer: &[u8], env: &mut Env<'_>) {
    // The buffer was read before, so it is memory.
    let _ = env.memory.write(pending.gpa + size_of::<GetQuoteHeader>() as u64, answer);
    put_header(pending, status, u32::try_from(answer.len()).unwrap_or(u32::MAX), env);
    let event = TdxEvent::Quote { gpa: pending.gpa, status, len: answer.len() };
    env.journal.record(Event::Tdx(event));
}

fn put_header(pending: &Pending, status: GetQuoteStatus, out_len: u32, env: &Env<'_>) {
    let header = GetQuoteHeader { status: status.0.into(), out_len: out_len.into(), ..pending.header };
    let _ = env.memory.write(pending.gpa, header.as_bytes());
}
