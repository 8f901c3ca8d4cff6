//! Writing an event log, as firmware does that measures with SHA-384 alone.

use zerocopy::IntoBytes;

use super::{
    super::{
        codec::{WriteError, Writer, size_u32},
        report::Measurement,
    },
    AlgorithmId, AlgorithmSize, EventType, MeasurementRegister, PcrEvent2Header, PcrEventHeader,
    SPEC_ID_SIGNATURE, SpecIdEventHeader,
};

/// Size of the first record's event: head, one algorithm, and no vendor information.
const SPEC_ID_SIZE: usize = size_of::<SpecIdEventHeader>() + size_of::<AlgorithmSize>() + 1;

/// Appends records to a log area. What lies behind the last record stays as it is: zeros or ones there end the log.
pub struct LogWriter<'a> {
    area: &'a mut [u8],
    len: usize,
}

impl<'a> LogWriter<'a> {
    /// Size of the first record.
    pub const FIRST: usize = size_of::<PcrEventHeader>() + SPEC_ID_SIZE;

    /// Begins a log with the record that says: SHA-384.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    pub fn new(area: &'a mut [u8]) -> Result<Self, WriteError> {
        let mut writer = Writer::new(area, Self::FIRST)?;
        writer.part(&PcrEventHeader {
            // TCG has zero here; edk2 writes the first register that it extends.
            register: MeasurementRegister::RTMR0.0.into(),
            event_type: EventType::EV_NO_ACTION.0.into(),
            digest: [0; 20],
            event_size: size_u32(SPEC_ID_SIZE, "event of the first record")?.into(),
        })?;
        writer.part(&SpecIdEventHeader {
            signature: SPEC_ID_SIGNATURE,
            platform_class: 0.into(),
            spec_version_minor: 0,
            spec_version_major: 2,
            spec_errata: 0,
            uintn_size: 2,
            number_of_algorithms: 1.into(),
        })?;
        writer.part(&AlgorithmSize { algorithm: AlgorithmId::SHA384.0.into(), digest_size: 48.into() })?;
        writer.bytes(&[0])?;
        let len = writer.written();
        Ok(Self { area, len })
    }

    /// Size of a record whose event has this size.
    #[must_use]
    pub const fn record_size(event: usize) -> usize {
        size_of::<PcrEvent2Header>() + size_of::<u16>() + size_of::<Measurement>() + size_of::<u32>() + event
    }

    /// Appends a record: the digest as it was given to `TDG.MR.RTMR.EXTEND`, and what it is the digest of, or a
    /// description of that.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`], [`WriteError::TooLong`]; then the log is as it was.
    pub fn event(
        &mut self,
        register: MeasurementRegister,
        event_type: EventType,
        digest: &Measurement,
        data: &[u8],
    ) -> Result<(), WriteError> {
        let size = size_u32(data.len(), "event")?;
        let rest = self.area.get_mut(self.len..).unwrap_or_default();
        let mut writer = Writer::new(rest, Self::record_size(data.len()))?;
        writer.part(&PcrEvent2Header {
            register: register.0.into(),
            event_type: event_type.0.into(),
            digest_count: 1.into(),
        })?;
        writer.bytes(&AlgorithmId::SHA384.0.to_le_bytes())?;
        writer.bytes(digest)?;
        writer.bytes(size.as_bytes())?;
        writer.bytes(data)?;
        self.len += writer.written();
        Ok(())
    }

    /// Bytes that the log has so far.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::{super::EventLog, *};

    /// A genuine log begins in the same way.
    #[test]
    fn the_first_record_is_a_genuine_one() {
        let genuine: &[u8] = include_bytes!("../../../../tests/vectors/genuine/tdx/ccel_data.dat");
        let mut area = [0; LogWriter::FIRST];
        assert_eq!(LogWriter::new(&mut area).unwrap().written(), LogWriter::FIRST);
        assert_eq!(area, genuine[..LogWriter::FIRST]);
        let error = LogWriter::new(&mut area[1..]).err();
        assert_eq!(error, Some(WriteError::BufferTooSmall { needed: 65, capacity: 64 }));
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let mut area = [0; LogWriter::FIRST + LogWriter::record_size(3)];
        let mut writer = LogWriter::new(&mut area).unwrap();
        let (register, kind) = (MeasurementRegister::RTMR3, EventType::EV_EVENT_TAG);
        assert!(writer.event(register, kind, &[7; 48], b"four").is_err());
        assert_eq!(writer.written(), LogWriter::FIRST);
        writer.event(register, kind, &[7; 48], b"abc").unwrap();
        assert!(writer.event(register, kind, &[7; 48], b"").is_err());
        let log = EventLog::read(&area).unwrap();
        let mut events = log.events();
        let event = events.next().unwrap().unwrap();
        assert_eq!((event.register, event.event_type, event.data), (register, kind, &b"abc"[..]));
        assert_eq!(event.extended_digest(), Some(&[7; 48]));
        assert!(events.next().is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            records in prop::collection::vec((1..5_u32, 1..12_u32, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let mut area = [0; 2048];
            let mut log = LogWriter::new(&mut area).unwrap();
            for (register, kind, digest, data) in &records {
                log.event((*register).into(), (*kind).into(), &[*digest; 48], data).unwrap();
            }
            let written = log.written();
            let log = EventLog::read(&area[..written]).unwrap();
            let read: Vec<_> = log.events().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), records.len());
            for (event, (register, kind, digest, data)) in read.iter().zip(&records) {
                prop_assert_eq!((event.register.0, event.event_type.0, event.data), (*register, *kind, &data[..]));
                let expected = [*digest; 48];
                prop_assert_eq!(event.digest(AlgorithmId::SHA384), Some(&expected[..]));
            }
        }
    }
}
