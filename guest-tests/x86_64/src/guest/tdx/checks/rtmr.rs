//! `TDG.MR.RTMR.EXTEND`, and the event log.

use tsmsim_abi::tdx::{
    ccel::EventType,
    report::{Measurement, NUM_RTMRS},
    status::OperandId,
};

use super::super::{
    call::invalid,
    log::sha384,
    td::{Td, place},
};
use crate::guest::{
    serial::print_blob,
    tap::{Check, Tap, equal},
};

/// What is measured: as firmware, boot loader, system and application would.
const EVENTS: [(u32, EventType, &[u8], &str); 6] = [
    (0, EventType::EV_SEPARATOR, &[0; 4], "TDG.MR.RTMR.EXTEND: RTMR0"),
    (1, EventType::EV_EFI_ACTION, b"Exit Boot Services Invocation", "TDG.MR.RTMR.EXTEND: RTMR1"),
    (1, EventType::EV_SEPARATOR, &[0; 4], "TDG.MR.RTMR.EXTEND: RTMR1 again"),
    (2, EventType::EV_IPL, b"tsmsim bare-metal guest", "TDG.MR.RTMR.EXTEND: RTMR2"),
    (3, EventType::EV_EVENT_TAG, b"tsmsim: what an application measures", "TDG.MR.RTMR.EXTEND: RTMR3"),
    (3, EventType::EV_EVENT_TAG, b"tsmsim: and once more", "TDG.MR.RTMR.EXTEND: RTMR3 again"),
];

pub(super) fn run(td: &mut Td, tap: &mut Tap) {
    let mut expected = td.info().map(|info| info.rtmr).unwrap_or([[0xff; 48]; NUM_RTMRS]);
    tap.check("RTMRs begin as zero", equal("RTMRs are zero", expected == [[0; 48]; NUM_RTMRS], true));
    for (rtmr, event_type, data, name) in EVENTS {
        tap.check(name, extend(td, &mut expected, (rtmr, event_type, data)));
    }
    let digest = [1; 48];
    let call = td.extend_call(3, &digest);
    for (name, call, operand) in [
        ("TDG.MR.RTMR.EXTEND: no such RTMR", call.rdx(4), OperandId::RDX),
        ("TDG.MR.RTMR.EXTEND: index of 64 bits", call.rdx(1 << 32), OperandId::RDX),
        ("TDG.MR.RTMR.EXTEND: unaligned", call.rcx(td.operand(place::DIGEST) + 8), OperandId::RCX),
        ("TDG.MR.RTMR.EXTEND: shared address", call.rcx(td.shared_gpa(td.quote)), OperandId::RCX),
        ("TDG.MR.RTMR.EXTEND: beyond the address width", call.rcx(1 << td.gpa_width), OperandId::RCX),
    ] {
        tap.check(name, call.refused(invalid(operand)));
    }
    tap.check("RTMRs are what was measured", registers(td, &expected));
    tap.check("event log", log(td));
}

fn extend(
    td: &mut Td,
    expected: &mut [Measurement; NUM_RTMRS],
    (rtmr, event_type, data): (u32, EventType, &'static [u8]),
) -> Check {
    td.measure(rtmr, event_type, data)?;
    let register = &mut expected[rtmr as usize % NUM_RTMRS];
    *register = sha384(&[register.as_slice(), &sha384(&[data])]);
    Ok(())
}

fn registers(td: &Td, expected: &[Measurement; NUM_RTMRS]) -> Check {
    let found = td.info()?.rtmr;
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        equal("number of a register that differs", (index, found == expected), (index, true))?;
    }
    Ok(())
}

fn log(td: &mut Td) -> Check {
    print_blob("ccel", td.log.bytes()?.iter().copied());
    Ok(())
}
