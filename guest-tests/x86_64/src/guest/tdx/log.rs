//! Run-time measurements and the event log of them.

use sha2::{Digest, Sha384};
use tsmsim_abi::{
    snp::PAGE_SIZE,
    tdx::{
        ccel::{EventType, LogWriter, MeasurementRegister},
        leaf::TdcallLeaf,
        report::Measurement,
    },
};

use super::{
    call::Tdcall,
    td::{Td, place},
};
use crate::guest::tap::{Check, Why};

/// The event log area of this TD.
pub(super) struct Log {
    area: [u8; PAGE_SIZE / 4],
    events: [Option<Event>; 8],
}

/// What was measured.
#[derive(Clone, Copy)]
struct Event {
    rtmr: u32,
    event_type: EventType,
    data: &'static [u8],
    digest: Measurement,
}

/// SHA-384.
pub(super) fn sha384(parts: &[&[u8]]) -> Measurement {
    let mut hash = Sha384::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

impl Log {
    /// Nothing measured yet.
    pub(super) const fn new() -> Self {
        Self { area: [0; PAGE_SIZE / 4], events: [None; 8] }
    }

    /// The log area, written anew.
    pub(super) fn bytes(&mut self) -> Check<&[u8]> {
        let failed = |error| Why::new(format_args!("event log: {error}"));
        self.area.fill(0);
        let mut writer = LogWriter::new(&mut self.area).map_err(failed)?;
        for event in self.events.iter().flatten() {
            let register = MeasurementRegister(event.rtmr + 1);
            writer.event(register, event.event_type, &event.digest, event.data).map_err(failed)?;
        }
        let len = writer.written();
        Ok(&self.area[..len])
    }
}

impl Td {
    /// `TDG.MR.RTMR.EXTEND` to be made.
    pub(super) fn extend_call(&self, rtmr: u64, digest: &Measurement) -> Tdcall {
        self.data.write(place::DIGEST, digest);
        Tdcall::new(TdcallLeaf::TDG_MR_RTMR_EXTEND).rcx(self.operand(place::DIGEST)).rdx(rtmr)
    }

    /// Extends a register by the digest of the data, and puts that into the log.
    pub(super) fn measure(&mut self, rtmr: u32, event_type: EventType, data: &'static [u8]) -> Check {
        let digest = sha384(&[data]);
        self.extend_call(rtmr.into(), &digest).succeed()?;
        let Some(slot) = self.log.events.iter_mut().find(|event| event.is_none()) else {
            return Err(Why::new(format_args!("the event log is full")));
        };
        *slot = Some(Event { rtmr, event_type, data, digest });
        Ok(())
    }
}
