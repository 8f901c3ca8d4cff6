//! The CCEL ACPI table and the event log that it names (ACPI 6.5, section 5.2.34 "CC Event Log ACPI Table"; UEFI 2.10,
//! chapter 38 "Confidential Computing"; TCG PC Client Platform Firmware Profile 1.06, section 10).
//!
//! The log is that of a TPM 2.0: a [`PcrEventHeader`] with a [`SpecIdEventHeader`], then `TCG_PCR_EVENT2` records, whose
//! register index is that of a measurement register: 0 is MRTD, 1 to 4 are RTMR 0 to 3.

use zerocopy::{
    FromBytes,
    little_endian::{U16, U32, U64},
};

use super::codec::{ReadError, Reader};
pub use write::LogWriter;

mod write;

wire! {
    /// The CCEL ACPI table.
    pub struct CcelTable {
        /// `CCEL`.
        pub signature: [u8; 4],
        /// Size of the table: 56.
        pub length: U32,
        /// Revision: 1.
        pub revision: u8,
        /// Makes the sum of all bytes zero.
        pub checksum: u8,
        /// OEM identifier.
        pub oem_id: [u8; 6],
        /// OEM table identifier.
        pub oem_table_id: [u8; 8],
        /// OEM revision.
        pub oem_revision: U32,
        /// Vendor of the tool that made the table.
        pub creator_id: U32,
        /// Revision of that tool.
        pub creator_revision: U32,
        /// A [`CcType`].
        pub cc_type: u8,
        /// Sub-type: 0.
        pub cc_subtype: u8,
        /// Reserved, zero.
        pub reserved: U16,
        /// Size of the log area.
        pub log_area_minimum_length: U64,
        /// Guest-physical address of the log area.
        pub log_area_start_address: U64,
    }
}
assert_layout!(CcelTable, 56, {
    signature: 0x0, length: 0x4, revision: 0x8, checksum: 0x9, oem_id: 0xa, oem_table_id: 0x10, oem_revision: 0x18,
    creator_id: 0x1c, creator_revision: 0x20, cc_type: 0x24, cc_subtype: 0x25, reserved: 0x26,
    log_area_minimum_length: 0x28, log_area_start_address: 0x30,
});

/// The signature of [`CcelTable`].
pub const CCEL_SIGNATURE: [u8; 4] = *b"CCEL";

impl CcelTable {
    /// Whether all bytes add up to zero.
    #[must_use]
    pub fn checksum_holds(&self) -> bool {
        zerocopy::IntoBytes::as_bytes(self).iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }
}

open_codes! {
    /// Which technique of confidential computing.
    pub struct CcType(u8);
    /// AMD SEV.
    SEV = 1;
    /// Intel TDX.
    TDX = 2;
}

open_codes! {
    /// Algorithms of digests (TCG Algorithm Registry).
    pub struct AlgorithmId(u16);
    /// SHA-1.
    SHA1 = 0x4;
    /// SHA-256.
    SHA256 = 0xb;
    /// SHA-384: what TDX uses.
    SHA384 = 0xc;
    /// SHA-512.
    SHA512 = 0xd;
    /// SM3.
    SM3_256 = 0x12;
}

open_codes! {
    /// Types of events.
    pub struct EventType(u32);
    /// Reserved.
    EV_PREBOOT_CERT = 0x0;
    /// Part of the firmware.
    EV_POST_CODE = 0x1;
    /// Not measured.
    EV_NO_ACTION = 0x3;
    /// Ends what comes before the operating system.
    EV_SEPARATOR = 0x4;
    /// What was done.
    EV_ACTION = 0x5;
    /// Of the event's writer.
    EV_EVENT_TAG = 0x6;
    /// Version of the firmware's measuring part.
    EV_S_CRTM_CONTENTS = 0x7;
    /// Version of the firmware's measuring part.
    EV_S_CRTM_VERSION = 0x8;
    /// Microcode.
    EV_CPU_MICROCODE = 0x9;
    /// Platform configuration.
    EV_PLATFORM_CONFIG_FLAGS = 0xa;
    /// Devices.
    EV_TABLE_OF_DEVICES = 0xb;
    /// Boot loader's own.
    EV_COMPACT_HASH = 0xc;
    /// Initial program loader (GRUB, systemd-boot).
    EV_IPL = 0xd;
    /// Data of the initial program loader.
    EV_IPL_PARTITION_DATA = 0xe;
    /// Firmware of a device or of the host.
    EV_NONHOST_INFO = 0x11;
    /// UEFI variable of the driver configuration.
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001;
    /// UEFI variable of boot.
    EV_EFI_VARIABLE_BOOT = 0x8000_0002;
    /// UEFI application.
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003;
    /// UEFI driver.
    EV_EFI_BOOT_SERVICES_DRIVER = 0x8000_0004;
    /// UEFI run-time driver.
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005;
    /// Partition table.
    EV_EFI_GPT_EVENT = 0x8000_0006;
    /// What UEFI did.
    EV_EFI_ACTION = 0x8000_0007;
    /// Part of the firmware's image.
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008;
    /// UEFI tables.
    EV_EFI_HANDOFF_TABLES = 0x8000_0009;
    /// Part of the firmware's image, named.
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a;
    /// UEFI tables, named.
    EV_EFI_HANDOFF_TABLES2 = 0x8000_000b;
    /// UEFI variable of boot, as it was read.
    EV_EFI_VARIABLE_BOOT2 = 0x8000_000c;
    /// UEFI variable that let an image pass.
    EV_EFI_VARIABLE_AUTHORITY = 0x8000_00e0;
}

open_codes! {
    /// Which register a record is of.
    pub struct MeasurementRegister(u32);
    /// MRTD: not extended at run time.
    MRTD = 0;
    /// RTMR 0: firmware configuration.
    RTMR0 = 1;
    /// RTMR 1: boot loader and kernel.
    RTMR1 = 2;
    /// RTMR 2: operating system.
    RTMR2 = 3;
    /// RTMR 3: free for the guest.
    RTMR3 = 4;
}

impl MeasurementRegister {
    /// Index of the RTMR.
    #[must_use]
    pub fn rtmr(self) -> Option<usize> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        (index < super::report::NUM_RTMRS).then_some(index)
    }
}

wire! {
    /// `TCG_PCR_EVENT`: head of the first record; the event follows.
    pub struct PcrEventHeader {
        /// Register: 0.
        pub register: U32,
        /// `EV_NO_ACTION`.
        pub event_type: U32,
        /// Zero.
        pub digest: [u8; 20],
        /// Size of the event.
        pub event_size: U32,
    }
}
assert_layout!(PcrEventHeader, 32, { register: 0x0, event_type: 0x4, digest: 0x8, event_size: 0x1c });

wire! {
    /// `TCG_EfiSpecIDEvent`: head of the first record's event. [`AlgorithmSize`]s follow, then a byte, the size of
    /// vendor information, and that.
    pub struct SpecIdEventHeader {
        /// [`SPEC_ID_SIGNATURE`].
        pub signature: [u8; 16],
        /// 0: client.
        pub platform_class: U32,
        /// Minor version: 0.
        pub spec_version_minor: u8,
        /// Major version: 2.
        pub spec_version_major: u8,
        /// Errata.
        pub spec_errata: u8,
        /// Size of UINTN in 4 bytes: 1 or 2.
        pub uintn_size: u8,
        /// Algorithms.
        pub number_of_algorithms: U32,
    }
}
assert_layout!(SpecIdEventHeader, 28, {
    signature: 0x0, platform_class: 0x10, spec_version_minor: 0x14, spec_version_major: 0x15, spec_errata: 0x16,
    uintn_size: 0x17, number_of_algorithms: 0x18,
});

/// The signature of [`SpecIdEventHeader`].
pub const SPEC_ID_SIGNATURE: [u8; 16] = *b"Spec ID Event03\0";

wire! {
    /// An algorithm of the log and the size of its digests.
    pub struct AlgorithmSize {
        /// An [`AlgorithmId`].
        pub algorithm: U16,
        /// Size of its digest.
        pub digest_size: U16,
    }
}
assert_layout!(AlgorithmSize, 4, { algorithm: 0x0, digest_size: 0x2 });

wire! {
    /// `TCG_PCR_EVENT2`: head of a record. Digests follow, each an algorithm (`u16`) and its bytes; then the size of
    /// the event (`u32`), and the event.
    pub struct PcrEvent2Header {
        /// A [`MeasurementRegister`].
        pub register: U32,
        /// An [`EventType`].
        pub event_type: U32,
        /// Digests.
        pub digest_count: U32,
    }
}
assert_layout!(PcrEvent2Header, 12, { register: 0x0, event_type: 0x4, digest_count: 0x8 });

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Where it begins in the log.
    pub offset: usize,
    /// Register that it was extended into.
    pub register: MeasurementRegister,
    /// Type.
    pub event_type: EventType,
    /// What was measured, or a description of it.
    pub data: &'a [u8],
    digests: &'a [u8],
    algorithms: &'a [AlgorithmSize],
}

impl<'a> Event<'a> {
    /// Algorithm and digest, in the order of the record.
    pub fn digests(&self) -> impl Iterator<Item = (AlgorithmId, &'a [u8])> {
        let mut reader = Reader::new(self.digests);
        let algorithms = self.algorithms;
        core::iter::from_fn(move || read_digest(&mut reader, algorithms).ok())
    }

    /// The digest of an algorithm.
    #[must_use]
    pub fn digest(&self, algorithm: AlgorithmId) -> Option<&'a [u8]> {
        self.digests().find_map(|(id, digest)| (id == algorithm).then_some(digest))
    }

    /// The SHA-384 digest that the register was extended with; `None` for a record that is not measured
    /// (`EV_NO_ACTION`) or has no such digest.
    #[must_use]
    pub fn extended_digest(&self) -> Option<&'a [u8; 48]> {
        match self.event_type {
            EventType::EV_NO_ACTION => None,
            _ => self.digest(AlgorithmId::SHA384)?.try_into().ok(),
        }
    }
}

/// An event log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventLog<'a> {
    /// The first record's event.
    pub spec_id: SpecIdEventHeader,
    /// The algorithms of the log.
    pub algorithms: &'a [AlgorithmSize],
    /// Vendor information of the first record.
    pub vendor_info: &'a [u8],
    log: &'a [u8],
    first: usize,
}

impl<'a> EventLog<'a> {
    /// Reads the first record of a log area; the area may be longer than the log.
    ///
    /// # Errors
    /// The first record is cut off, or is not the one that TPM 2.0 logs begin with.
    pub fn read(log: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(log);
        let header: &PcrEventHeader = reader.part("first record")?;
        if EventType(header.event_type.get()) != EventType::EV_NO_ACTION {
            let value = header.event_type.get().into();
            return Err(ReadError::Unsupported { what: "type of the first record", value });
        }
        let event = reader.sized(header.event_size.get(), "event of the first record")?;
        let first = reader.offset();
        let mut reader = Reader::new(event);
        let spec_id: SpecIdEventHeader = *reader.part("specification identifier event")?;
        if spec_id.signature != SPEC_ID_SIGNATURE {
            return Err(ReadError::Text { what: "signature of the specification identifier event" });
        }
        let count = spec_id.number_of_algorithms.get();
        let size = count.saturating_mul(4);
        let algorithms =
            <[AlgorithmSize]>::ref_from_bytes(reader.sized(size, "algorithms")?).map_err(|_| {
                ReadError::Size { what: "algorithms", stated: count.into(), expected: u64::from(size) / 4 }
            })?;
        let vendor_size: &[u8; 1] = reader.part("size of the vendor information")?;
        let vendor_info = reader.sized(vendor_size[0].into(), "vendor information")?;
        reader.end("first record's event")?;
        Ok(Self { spec_id, algorithms, vendor_info, log, first })
    }

    /// The other records, or the reason why one cannot be read.
    ///
    /// Ends with the log, at padding (a record head of all ones or all zeros), or after the first error.
    pub fn events(&self) -> impl Iterator<Item = Result<Event<'a>, ReadError>> {
        let mut reader = Reader::new(self.log);
        let mut done = reader.bytes(self.first, "first record").is_err();
        let algorithms = self.algorithms;
        core::iter::from_fn(move || {
            if done || is_padding(reader.rest()) {
                return None;
            }
            let event = read_event(&mut reader, algorithms);
            done = event.is_err();
            Some(event)
        })
    }
}

fn is_padding(rest: &[u8]) -> bool {
    let head = rest.get(..size_of::<PcrEvent2Header>()).unwrap_or(rest);
    head.iter().all(|byte| *byte == 0xff) || head.iter().all(|byte| *byte == 0)
}

fn read_event<'a>(reader: &mut Reader<'a>, algorithms: &'a [AlgorithmSize]) -> Result<Event<'a>, ReadError> {
    let offset = reader.offset();
    let header: &PcrEvent2Header = reader.part("record")?;
    let before = reader.rest();
    // A record has at most one digest per algorithm, so a log cannot make this loop long.
    let count = header.digest_count.get();
    if usize::try_from(count).map_or(true, |count| count > algorithms.len()) {
        return Err(ReadError::Unsupported { what: "number of digests of the record", value: count.into() });
    }
    for _ in 0..count {
        read_digest(reader, algorithms)?;
    }
    let digests = before.get(..before.len() - reader.rest().len()).unwrap_or_default();
    let size: &U32 = reader.part("size of the event")?;
    let data = reader.sized(size.get(), "event")?;
    let (register, event_type) = (header.register.get().into(), header.event_type.get().into());
    Ok(Event { offset, register, event_type, data, digests, algorithms })
}

fn read_digest<'a>(
    reader: &mut Reader<'a>,
    algorithms: &[AlgorithmSize],
) -> Result<(AlgorithmId, &'a [u8]), ReadError> {
    let id: &U16 = reader.part("algorithm of the digest")?;
    let Some(known) = algorithms.iter().find(|known| known.algorithm == *id) else {
        return Err(ReadError::Unsupported { what: "algorithm of the digest", value: id.get().into() });
    };
    Ok((id.get().into(), reader.sized(known.digest_size.get().into(), "digest")?))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::{super::quote::Quote, *};

    const TABLE: &[u8] = include_bytes!("../../../tests/vectors/genuine/tdx/ccel_table.dat");
    const LOG: &[u8] = include_bytes!("../../../tests/vectors/genuine/tdx/ccel_data.dat");
    const QUOTE: &[u8] = include_bytes!("../../../tests/vectors/genuine/tdx/cos-113-tdx-quote.dat");

    #[test]
    fn the_genuine_table_names_the_log() {
        let table = CcelTable::read_from_bytes(TABLE).unwrap();
        assert_eq!((table.signature, table.length.get()), (CCEL_SIGNATURE, 56));
        assert_eq!(CcType(table.cc_type), CcType::TDX);
        assert_eq!(table.log_area_minimum_length.get(), LOG.len() as u64);
        assert_eq!(table.as_bytes(), TABLE);
        assert!(table.checksum_holds());
        let mut other = table;
        other.cc_type = 1;
        assert!(!other.checksum_holds());
    }

    #[test]
    fn the_genuine_log_is_read_to_its_end() {
        let log = EventLog::read(LOG).unwrap();
        assert_eq!(log.algorithms.len(), 1);
        assert_eq!(AlgorithmId(log.algorithms[0].algorithm.get()), AlgorithmId::SHA384);
        let events: Vec<_> = log.events().collect::<Result<_, _>>().unwrap();
        assert_eq!(events.len(), 43);
        assert!(events.iter().all(|event| event.event_type.name().is_some()));
        assert!(events.iter().all(|event| event.extended_digest().is_some()));
        assert!(events.iter().all(|event| event.register.rtmr().is_some()));
        assert_eq!(events[0].event_type, EventType::EV_EFI_HANDOFF_TABLES2);
        assert_eq!(&events[0].data[1..9], b"TdxTable");
        assert_eq!(log.events().filter_map(Result::ok).map(|event| event.register.0).max(), Some(3));
    }

    #[test]
    fn the_genuine_quote_has_extended_registers_where_the_log_has_records() {
        let quote = Quote::read(QUOTE).unwrap();
        let td = quote.signed.body.td().unwrap();
        let log = EventLog::read(LOG).unwrap();
        for (index, rtmr) in td.rtmr.iter().enumerate() {
            let used = log.events().flatten().any(|event| event.register.rtmr() == Some(index));
            assert_eq!(used, *rtmr != [0; 48], "RTMR {index}");
        }
    }

    fn log(digests: &[(u16, &[u8])], event: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut out = LOG[..65].to_vec();
        let count = u32::try_from(digests.len()).unwrap();
        let header =
            PcrEvent2Header { register: 2.into(), event_type: 0xd.into(), digest_count: count.into() };
        out.extend_from_slice(header.as_bytes());
        for (id, digest) in digests {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(digest);
        }
        out.extend_from_slice(&u32::try_from(event.len()).unwrap().to_le_bytes());
        out.extend_from_slice(event);
        out.extend_from_slice(tail);
        out
    }

    #[test]
    fn padding_of_either_kind_ends_a_log() {
        for tail in [&[][..], &[0; 100], &[0xff; 100], &[0; 3]] {
            let bytes = log(&[(0xc, &[7; 48])], b"kernel", tail);
            let events: Vec<_> = EventLog::read(&bytes).unwrap().events().collect::<Result<_, _>>().unwrap();
            assert_eq!(events.len(), 1);
            assert_eq!(events[0].data, b"kernel");
            assert_eq!(events[0].extended_digest(), Some(&[7; 48]));
            assert_eq!(events[0].digest(AlgorithmId::SHA256), None);
        }
    }

    #[test]
    fn bad_records_are_refused() {
        let last = |bytes: &[u8]| EventLog::read(bytes).unwrap().events().last().unwrap().map(|_| ());
        assert!(last(&log(&[(0xb, &[7; 48])], b"", &[])).is_err());
        assert!(last(&log(&[(0xc, &[7; 48]), (0xc, &[7; 48])], b"", &[])).is_err());
        let whole = log(&[(0xc, &[7; 48])], b"kernel", &[]);
        for len in 66..whole.len() {
            if !is_padding(&whole[65..len]) {
                assert!(last(&whole[..len]).is_err(), "{len}");
            }
        }
        for len in 0..65 {
            assert!(EventLog::read(&LOG[..len]).is_err(), "{len}");
        }
        assert!(EventLog::read(&[0; 200]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end(tail in prop::collection::vec(any::<u8>(), 0..600)) {
            let bytes = [&LOG[..65], &tail[..]].concat();
            prop_assert!(EventLog::read(&bytes).unwrap().events().count() <= tail.len() / 16 + 1);
            let _ = EventLog::read(&tail).map(|log| log.events().count());
        }
    }
}
