//! What firmware leaves of a measured boot: events extended into RTMRs, their log, and the ACPI table that names the log.
//!
//! The boot is one that a TD without disks and devices can have had: TDVF with secure boot off and no keys enrolled starts
//! a Linux kernel as a boot option, and the kernel's EFI stub measures its load options. Every record of the log was
//! extended into its register, in this order:
//!
//! | register | event | digest of |
//! |---|---|---|
//! | RTMR 0 | `EV_EFI_VARIABLE_DRIVER_CONFIG`: `SecureBoot`, `PK`, `KEK`, `db`, `dbx` | the event (`UEFI_VARIABLE_DATA`) |
//! | RTMR 0 | `EV_SEPARATOR`: four zero bytes | the event |
//! | RTMR 1 | `EV_EFI_ACTION`: `Calling EFI Application from Boot Option` | the event |
//! | RTMR 1 | `EV_SEPARATOR`: four zero bytes | the event |
//! | RTMR 2 | `EV_EVENT_TAG`: `LOADED_IMAGE::LoadOptions` | the command line, UTF-16LE with a closing zero |
//! | RTMR 1 | `EV_EFI_ACTION`: `Exit Boot Services Invocation` | the event |
//! | RTMR 1 | `EV_EFI_ACTION`: `Exit Boot Services Returned with Success` | the event |
//!
//! Sources: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4 and 10; Linux 6.12,
//! `drivers/firmware/efi/libstub/efi-stub-helper.c`; a log of a genuine TD (`tests/vectors/genuine/tdx/ccel_data.dat`).

use tsmsim_abi::{
    guid::Guid,
    tdx::{
        ccel::{CCEL_SIGNATURE, CcType, CcelTable, EventType, LogWriter, MeasurementRegister},
        report::Measurement,
    },
};
use tsmsim_simulator::tdx::{
    guest::{InProcessTdGuest, TdGuestError},
    mrtd::sha384,
};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of the log area, as TDVF allocates it.
pub const LOG_AREA_SIZE: usize = 0x1_0000;

/// Longest command line, in bytes: that of x86 Linux (`COMMAND_LINE_SIZE`).
pub const COMMAND_LINE_MAX: usize = 2048;

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL_VARIABLE: Guid = Guid::from_fields(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
const IMAGE_SECURITY_DATABASE: Guid = Guid::from_fields(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);

/// `LOAD_OPTIONS_EVENT_TAG_ID` of Linux's EFI stub.
const LOAD_OPTIONS_EVENT_TAG_ID: u32 = 0x8f3b_22ed;

/// An event: into which register, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootEvent {
    /// An RTMR.
    pub register: MeasurementRegister,
    /// Type.
    pub event_type: EventType,
    /// What the register is extended with.
    pub digest: Measurement,
    /// What the log has.
    pub data: Vec<u8>,
}

impl BootEvent {
    /// An event whose digest is that of the event itself.
    fn of(register: MeasurementRegister, event_type: EventType, data: &[u8]) -> Self {
        Self { register, event_type, digest: sha384(&[data]), data: data.to_vec() }
    }
}

/// `UEFI_VARIABLE_DATA`: vendor, sizes, name in UTF-16LE without an end, value.
fn variable(vendor: Guid, name: &str, value: &[u8]) -> BootEvent {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let sizes = [units.len() / 2, value.len()].map(|size| (size as u64).to_le_bytes());
    let data = [&vendor.0[..], &sizes[0], &sizes[1], &units, value].concat();
    BootEvent::of(MeasurementRegister::RTMR0, EventType::EV_EFI_VARIABLE_DRIVER_CONFIG, &data)
}

/// `TCG_PCClientTaggedEvent`, as the EFI stub writes it when it measures the load options.
fn load_options(command_line: &str) -> BootEvent {
    const TEXT: &[u8; 26] = b"LOADED_IMAGE::LoadOptions\0";
    let size = (TEXT.len() as u64).to_le_bytes();
    let data = [&LOAD_OPTIONS_EVENT_TAG_ID.to_le_bytes()[..], &size[..4], TEXT].concat();
    let options: Vec<u8> = command_line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    BootEvent {
        register: MeasurementRegister::RTMR2,
        event_type: EventType::EV_EVENT_TAG,
        digest: sha384(&[&options]),
        data,
    }
}

/// The events of a boot with this command line, in order.
#[must_use]
pub fn boot_events(command_line: &str) -> Vec<BootEvent> {
    let separator = |register| BootEvent::of(register, EventType::EV_SEPARATOR, &[0; 4]);
    let action =
        |text: &str| BootEvent::of(MeasurementRegister::RTMR1, EventType::EV_EFI_ACTION, text.as_bytes());
    vec![
        variable(GLOBAL_VARIABLE, "SecureBoot", &[0]),
        variable(GLOBAL_VARIABLE, "PK", &[]),
        variable(GLOBAL_VARIABLE, "KEK", &[]),
        variable(IMAGE_SECURITY_DATABASE, "db", &[]),
        variable(IMAGE_SECURITY_DATABASE, "dbx", &[]),
        separator(MeasurementRegister::RTMR0),
        action("Calling EFI Application from Boot Option"),
        separator(MeasurementRegister::RTMR1),
        load_options(command_line),
        action("Exit Boot Services Invocation"),
        action("Exit Boot Services Returned with Success"),
    ]
}

/// Extends the events into the TD's registers and writes the log at a guest-physical address, [`LOG_AREA_SIZE`] bytes, unused
/// ones all ones. Gives the table that names it.
///
/// # Errors
/// What went wrong in the TD; an event that fits no more is neither extended nor logged.
pub(super) fn boot(
    guest: &mut InProcessTdGuest,
    events: &[BootEvent],
    log_gpa: u64,
) -> Result<CcelTable, TdGuestError> {
    let mut area = vec![0xff; LOG_AREA_SIZE];
    if let Ok(mut log) = LogWriter::new(&mut area) {
        for event in events {
            let Some(rtmr) = event.register.rtmr() else { continue };
            if log.event(event.register, event.event_type, &event.digest, &event.data).is_ok() {
                guest.extend_rtmr(rtmr as u64, &event.digest)?;
            }
        }
    }
    guest.world().memory.write(log_gpa, &area)?;
    Ok(table(log_gpa))
}

/// The ACPI table (ACPI 6.5, section 5.2.34) for a log area at this guest-physical address.
#[must_use]
pub fn table(log_gpa: u64) -> CcelTable {
    let mut table = CcelTable {
        signature: CCEL_SIGNATURE,
        length: 56.into(),
        revision: 1,
        oem_id: *b"TSMSIM",
        oem_table_id: *b"TSMSIM  ",
        oem_revision: 1.into(),
        creator_id: u32::from_le_bytes(*b"TSMS").into(),
        creator_revision: 1.into(),
        cc_type: CcType::TDX.0,
        log_area_minimum_length: (LOG_AREA_SIZE as u64).into(),
        log_area_start_address: log_gpa.into(),
        ..CcelTable::new_zeroed()
    };
    let sum = table.as_bytes().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table.checksum = sum.wrapping_neg();
    table
}

#[cfg(test)]
mod tests {
    use tsmsim_abi::tdx::ccel::{AlgorithmId, EventLog};

    use super::*;

    /// Written by the firmware of a genuine TD; see the vectors' provenance.
    const GENUINE: &[u8] = include_bytes!("../../../tests/vectors/genuine/tdx/ccel_data.dat");

    #[test]
    fn the_table_holds_together() {
        let table = table(0x7f_0000);
        assert!(table.checksum_holds());
        assert_eq!((table.length.get(), CcType(table.cc_type)), (56, CcType::TDX));
        assert_eq!(table.log_area_start_address.get(), 0x7f_0000);
    }

    #[test]
    fn events_are_those_of_a_genuine_log_where_they_say_the_same() {
        let genuine = EventLog::read(GENUINE).unwrap();
        let genuine: Vec<_> = genuine.events().map(Result::unwrap).collect();
        let same = |event: &&BootEvent| {
            genuine.iter().any(|other| {
                (other.register, other.event_type, other.data)
                    == (event.register, event.event_type, &event.data)
                    && other.digest(AlgorithmId::SHA384) == Some(&event.digest[..])
            })
        };
        let events = boot_events("console=ttyS0");
        assert_eq!(events.iter().filter(same).count(), 6, "SecureBoot, two separators, three actions");
    }

    #[test]
    fn a_variable_is_laid_out_as_in_a_genuine_log() {
        let genuine = EventLog::read(GENUINE).unwrap();
        let genuine: Vec<_> = genuine.events().map(Result::unwrap).collect();
        let of = |name: &str| {
            let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            genuine.iter().find(|event| event.data.get(32..32 + units.len()) == Some(&units)).unwrap().data
        };
        for event in &boot_events("")[..5] {
            let name_len = usize::from(event.data[16]) * 2;
            let name: Vec<u16> = event.data[32..32 + name_len]
                .chunks(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect();
            let other = of(&String::from_utf16(&name).unwrap());
            assert_eq!(event.data[..24], other[..24]);
            assert_eq!(event.data[32..32 + name_len], other[32..32 + name_len]);
        }
    }

    #[test]
    fn load_options_are_measured_not_logged() {
        let [one, two] = ["a", "b"].map(load_options);
        assert_eq!(one.data, two.data);
        assert_ne!(one.digest, two.digest);
        assert_eq!(one.digest, sha384(&[&[b'a', 0, 0, 0]]));
    }
}
