//! `GetQuote` and `SetupEventNotifyInterrupt`.

use tsmsim_abi::{
    snp::PAGE_SIZE,
    tdx::{
        get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION, capacity},
        leaf::exit_reason,
        report::TdReport,
        vmcall::{VmcallStatus, VmcallSubFunction},
    },
};
use zerocopy::{FromZeros, IntoBytes};

use super::super::{
    call::Vmcall,
    td::{QUOTE_PAGES, QUOTE_SIZE, Td},
};
use crate::guest::{
    arch::{
        memory::GuestPage,
        td::{NOTIFY_VECTOR, halt, notified, time},
    },
    serial::print_blob,
    tap::{Check, Tap, Why, ensure, equal},
};

/// Ticks of the time-stamp counter after which a quote will not come any more: many seconds on any processor.
const PATIENCE: u64 = 1 << 37;
/// Size of the header.
const HEADER: usize = size_of::<GetQuoteHeader>();

/// The report and the quote that the host wants, as blobs; the quote by polling.
pub(in crate::guest::tdx) fn wanted(td: &Td, tap: &mut Tap) {
    let report = td.report(&td.report_data);
    tap.check(
        "GetQuote: polling",
        report.and_then(|report| {
            let quote = ask(td, &report)?;
            print_blob("tdreport", report.as_bytes().iter().copied());
            print_blob("quote", contents(td, quote));
            Ok(())
        }),
    );
}

/// The same quote by interrupt, by both forms of HLT.
pub(super) fn run(td: &Td, tap: &mut Tap) {
    let vector =
        |vector: u64| Vmcall::new(VmcallSubFunction::SETUP_EVENT_NOTIFY_INTERRUPT).operands([vector]);
    tap.check("SetupEventNotifyInterrupt: exception", vector(31).refused(VmcallStatus::INVALID_OPERAND));
    tap.check("SetupEventNotifyInterrupt: 256", vector(256).refused(VmcallStatus::INVALID_OPERAND));
    tap.check("SetupEventNotifyInterrupt", vector(NOTIFY_VECTOR.into()).succeed().map(drop));
    let halted = by_interrupt(td, || {
        Vmcall::new(VmcallSubFunction::INSTRUCTION_HLT).operands([0]).run_with_interrupts().map(drop)
    });
    tap.check("GetQuote: event-notify interrupt, TDG.VP.VMCALL<Instruction.HLT>", halted);
    let halted = by_interrupt(td, || {
        halt();
        super::exceptions::last_ve(exit_reason::HLT).and_then(|info| equal("length", info.length, 1))
    });
    tap.check("GetQuote: event-notify interrupt, HLT that raises #VE", halted);
}

/// As many quotes as the host wants.
pub(in crate::guest::tdx) fn repeat(td: &Td, count: u32) -> Check {
    let report = td.report(&td.report_data)?;
    for _ in 0..count {
        ask(td, &report)?;
    }
    Ok(())
}

/// Puts a report and its header into the buffer.
pub(super) fn fill(td: &Td, report: &TdReport) -> GetQuoteHeader {
    let len = u32::try_from(size_of::<TdReport>()).unwrap_or(u32::MAX);
    let header =
        GetQuoteHeader { version: VERSION.into(), in_len: len.into(), ..GetQuoteHeader::new_zeroed() };
    td.quote.write(0, &header);
    td.quote.write(HEADER, report);
    header
}

/// `GetQuote` of the buffer to be made.
pub(super) fn call(td: &Td) -> Vmcall {
    Vmcall::new(VmcallSubFunction::GET_QUOTE).operands([td.shared_gpa(td.quote), QUOTE_SIZE])
}

/// The header of the buffer.
pub(super) fn header(td: &Td) -> GetQuoteHeader {
    td.quote.read(0)
}

fn status(td: &Td) -> GetQuoteStatus {
    GetQuoteStatus(header(td).status.get())
}

/// Bytes of the quote, once it is there.
fn arrived(td: &Td) -> Check<usize> {
    equal("status of the buffer", status(td), GetQuoteStatus::SUCCESS)?;
    let len = header(td).out_len.get() as usize;
    ensure!(
        len > size_of::<TdReport>() && len <= capacity(QUOTE_PAGES as usize * PAGE_SIZE),
        "{len} bytes of quote"
    );
    Ok(len)
}

/// Asks for a quote and waits for it by looking.
fn ask(td: &Td, report: &TdReport) -> Check<usize> {
    fill(td, report);
    call(td).succeed()?;
    let start = time();
    while status(td) == GetQuoteStatus::IN_FLIGHT && time().wrapping_sub(start) < PATIENCE {
        core::hint::spin_loop();
    }
    arrived(td)
}

/// Asks for a quote and waits for its interrupt. Interrupts are off but while the processor waits, so none is missed.
fn by_interrupt(td: &Td, wait: impl Fn() -> Check) -> Check {
    let report = td.report(&td.report_data)?;
    let before = notified();
    fill(td, &report);
    call(td).succeed()?;
    for _ in 0..4 {
        if notified() != before {
            break;
        }
        wait()?;
    }
    equal("number of interrupts", notified().wrapping_sub(before), 1)?;
    arrived(td).map(drop)
}

/// What lies behind the header.
fn contents(td: &Td, len: usize) -> impl Iterator<Item = u8> {
    let mut page = Some(td.quote);
    let pages = core::iter::from_fn(move || {
        let this = page?;
        page = (this.gpa() + (PAGE_SIZE as u64) < td.quote.gpa() + QUOTE_SIZE).then(|| this.next());
        Some(this)
    });
    pages.flat_map(bytes).skip(HEADER).take(len)
}

fn bytes(page: GuestPage) -> impl Iterator<Item = u8> {
    (0..PAGE_SIZE).map(move |offset| page.read(offset))
}

/// A status that is not the one expected, in words.
pub(super) fn ended(td: &Td, expected: GetQuoteStatus) -> Check {
    let start = time();
    while status(td) == GetQuoteStatus::IN_FLIGHT && time().wrapping_sub(start) < PATIENCE {
        core::hint::spin_loop();
    }
    match status(td) {
        found if found == expected => Ok(()),
        found => Err(Why::new(format_args!("status of the buffer is {found:?}, not {expected:?}"))),
    }
}
