//! `GetQuote` as it must not be used.

use tsmsim_abi::{
    snp::PAGE_SIZE,
    tdx::{
        get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION},
        vmcall::{VmcallStatus, VmcallSubFunction},
    },
};

use super::{
    super::{
        call::Vmcall,
        td::{QUOTE_PAGES, QUOTE_SIZE, Td},
    },
    quote::{call, ended, fill, header},
};
use crate::guest::tap::{Check, Tap, Why, equal};

pub(super) fn run(td: &Td, tap: &mut Tap) {
    let gpa = td.shared_gpa(td.quote);
    let page = PAGE_SIZE as u64;
    for (name, operands, status) in [
        ("GetQuote: unaligned buffer", [gpa + 0x10, QUOTE_SIZE], VmcallStatus::ALIGN_ERROR),
        ("GetQuote: unaligned size", [gpa, page + 1], VmcallStatus::ALIGN_ERROR),
        ("GetQuote: no size", [gpa, 0], VmcallStatus::INVALID_OPERAND),
        ("GetQuote: private address", [td.quote.gpa(), QUOTE_SIZE], VmcallStatus::INVALID_OPERAND),
        (
            "GetQuote: buffer that is not shared",
            [td.private.gpa() | td.shared, page],
            VmcallStatus::INVALID_OPERAND,
        ),
        ("GetQuote: buffer that is shared in part", [gpa, 32 * page], VmcallStatus::INVALID_OPERAND),
        ("GetQuote: beyond the address width", [1 << td.gpa_width, page], VmcallStatus::INVALID_OPERAND),
        (
            "GetQuote: where there is no memory",
            [td.shared | 0xd000_0000, page],
            VmcallStatus::INVALID_OPERAND,
        ),
    ] {
        let call = Vmcall::new(VmcallSubFunction::GET_QUOTE).operands(operands);
        tap.check(name, filled(td, |_| {}).and_then(|_| call.refused(status)));
    }
    for (name, version, in_len) in [
        ("GetQuote: version 2", 2, 1024),
        ("GetQuote: more than the buffer holds", VERSION, QUOTE_PAGES * 4096),
        ("GetQuote: far more than the buffer holds", VERSION, u32::MAX),
    ] {
        let change =
            |header: &mut GetQuoteHeader| (header.version, header.in_len) = (version.into(), in_len.into());
        tap.check(name, filled(td, change).and_then(|_| call(td).refused(VmcallStatus::INVALID_OPERAND)));
    }
    tap.check("GetQuote: nothing asked", failed(td, |header| header.in_len.set(0)));
    tap.check("GetQuote: half a report", failed(td, |header| header.in_len.set(512)));
    tap.check("GetQuote: report with a reserved byte", reserved(td));
    tap.check("GetQuote: report that was changed", changed(td));
    tap.check("GetQuote: the header is kept", kept(td));
}

/// A buffer with a report and a changed header.
fn filled(td: &Td, change: impl FnOnce(&mut GetQuoteHeader)) -> Check<GetQuoteHeader> {
    let report = td.report(&td.report_data)?;
    let mut header = fill(td, &report);
    change(&mut header);
    td.quote.write(0, &header);
    Ok(header)
}

/// The host takes the request, and the quoting service refuses it.
fn failed(td: &Td, change: impl FnOnce(&mut GetQuoteHeader)) -> Check {
    filled(td, change)?;
    call(td).succeed()?;
    ended(td, GetQuoteStatus::ERROR)
}

fn changed(td: &Td) -> Check {
    let mut report = td.report(&td.report_data)?;
    report.report_mac_struct.report_data[0] ^= 1;
    fill(td, &report);
    call(td).succeed()?;
    ended(td, GetQuoteStatus::ERROR)
}

fn reserved(td: &Td) -> Check {
    let mut report = td.report(&td.report_data)?;
    report.report_mac_struct.reserved_0xc0[0] = 1;
    fill(td, &report);
    call(td).succeed()?;
    ended(td, GetQuoteStatus::ERROR)
}

/// Version and length of the request stay where the TD wrote them.
fn kept(td: &Td) -> Check {
    let before = filled(td, |_| {})?;
    call(td).succeed()?;
    ended(td, GetQuoteStatus::SUCCESS)?;
    let after = header(td);
    if after.out_len.get() == 0 {
        return Err(Why::new(format_args!("there is no quote")));
    }
    equal("version, in_len", (after.version, after.in_len), (before.version, before.in_len))
}
