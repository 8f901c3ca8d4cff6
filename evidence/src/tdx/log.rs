//! The event log, and what it makes of the RTMRs.
//!
//! `ccel.bin` is the log area that the CCEL ACPI table names, as Linux shows it in `/sys/firmware/acpi/tables/data/CCEL`: a
//! `TCG_PCR_EVENT` that says which algorithms the log has, then `TCG_PCR_EVENT2` records, little-endian, whose register is 1
//! for RTMR 0 to 4 for RTMR 3 and whose SHA-384 digest is what the register was extended with; zeros or ones may follow.
//! Every register begins as zero, and all four must come out as the quote has them.

use aws_lc_rs::digest::{SHA384, digest};
use tsmsim_abi::tdx::{
    ccel::{CCEL_SIGNATURE, CcType, CcelTable, Event, EventLog},
    codec::ReadError,
    report::{Measurement, NUM_RTMRS},
};
use zerocopy::FromBytes;

use crate::{Node, tree::printable};

/// Extends a register: SHA-384 of what it holds and the digest.
fn extend(register: &mut Measurement, value: &Measurement) {
    let hash = digest(&SHA384, &[*register, *value].concat());
    register.copy_from_slice(hash.as_ref());
}

/// SHA-384, as registers and reports use it.
pub(super) fn sha384(bytes: &[u8]) -> Measurement {
    let mut out = [0; 48];
    out.copy_from_slice(digest(&SHA384, bytes).as_ref());
    out
}

/// The values that the RTMRs have after every record of a log area was extended, in order, from zero.
///
/// # Errors
/// The log or a record cannot be read; a measured record has no SHA-384 digest, or is of no RTMR.
pub fn replay(log: &[u8]) -> Result<[Measurement; NUM_RTMRS], ReadError> {
    let mut registers = [[0; 48]; NUM_RTMRS];
    for event in EventLog::read(log)?.events() {
        let event = event?;
        if event.event_type == tsmsim_abi::tdx::ccel::EventType::EV_NO_ACTION {
            continue;
        }
        let Some(value) = event.extended_digest() else {
            let value = event.event_type.0.into();
            return Err(ReadError::Unsupported { what: "record without a SHA-384 digest: its type", value });
        };
        match event.register.rtmr().and_then(|index| registers.get_mut(index)) {
            Some(register) => extend(register, value),
            None => {
                let value = event.register.0.into();
                return Err(ReadError::Unsupported { what: "measurement register of a record", value });
            }
        }
    }
    Ok(registers)
}

/// Whether bytes are an event log area.
pub(crate) fn is_log(bytes: &[u8]) -> bool {
    EventLog::read(bytes).is_ok()
}

/// Whether bytes are a CCEL ACPI table.
pub(crate) fn is_table(bytes: &[u8]) -> bool {
    bytes.len() == size_of::<CcelTable>() && bytes.starts_with(&CCEL_SIGNATURE)
}

/// The records and the replayed registers.
pub(crate) fn show_log(bytes: &[u8]) -> Option<Node> {
    let log = EventLog::read(bytes).ok()?;
    let mut records = Vec::new();
    for event in log.events() {
        records.push(match event {
            Ok(event) => show_event(&event),
            Err(error) => Node::group("malformed", error.to_string(), Vec::new()),
        });
    }
    let replayed = match replay(bytes) {
        Ok(registers) => {
            let registers = registers.iter().zip(0..);
            registers.map(|(value, index)| Node::bytes(format!("rtmr{index}"), value, "")).collect()
        }
        Err(error) => vec![Node::group("not possible", error.to_string(), Vec::new())],
    };
    let meaning = format!("{} records in {} bytes", records.len(), bytes.len());
    let fields = vec![
        Node::group("records", "", records),
        Node::group("replay", "the RTMRs after these records", replayed),
    ];
    Some(Node::group("CC event log", meaning, fields))
}

fn show_event(event: &Event<'_>) -> Node {
    let mut fields: Vec<Node> =
        event.digests().map(|(algorithm, value)| Node::bytes(algorithm.to_string(), value, "")).collect();
    fields.push(Node::number("event size", event.data.len() as u64, describe(event.data)));
    Node::group(event.register.to_string(), event.event_type.to_string(), fields)
}

/// Readable beginnings of an event, in UTF-8 or UTF-16.
fn describe(data: &[u8]) -> String {
    const LONGEST: usize = 100;
    let bytes: Vec<u8> = data.iter().copied().filter(|byte| *byte != 0).collect();
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| !c.is_control() || c == '\n') => {
            let head: String = text.chars().take(LONGEST).collect();
            printable(&head)
        }
        _ => String::new(),
    }
}

/// The ACPI table.
pub(crate) fn show_table(bytes: &[u8]) -> Option<Node> {
    let table = CcelTable::read_from_bytes(bytes).ok()?;
    let checksum = if table.checksum_holds() { "holds" } else { "does not hold" };
    let fields = vec![
        Node::number("length", table.length.get().into(), ""),
        Node::number("revision", table.revision.into(), ""),
        Node::number("checksum", table.checksum.into(), checksum),
        Node::bytes("OEM ID", &table.oem_id, printable(&String::from_utf8_lossy(&table.oem_id))),
        Node::bytes(
            "OEM table ID",
            &table.oem_table_id,
            printable(&String::from_utf8_lossy(&table.oem_table_id)),
        ),
        Node::number("OEM revision", table.oem_revision.get().into(), ""),
        Node::number("creator ID", table.creator_id.get().into(), ""),
        Node::number("creator revision", table.creator_revision.get().into(), ""),
        Node::number("CC type", table.cc_type.into(), CcType(table.cc_type).name().unwrap_or("unknown")),
        Node::number("CC subtype", table.cc_subtype.into(), ""),
        Node::number("log area minimum length", table.log_area_minimum_length.get(), "bytes"),
        Node::number("log area start address", table.log_area_start_address.get(), "guest-physical"),
    ];
    Some(Node::group("CCEL ACPI table", "", fields))
}
