//! The certificate table, read strictly: every byte is an entry, a certificate, or zero.

use tsmsim_abi::snp::cert_table::{CertGuid, CertTableEntry, CertTableError, entries};

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableEntry<'a> {
    /// For which certificate.
    pub guid: CertGuid,
    /// Where it starts, counted from the start of the table.
    pub offset: usize,
    /// The certificate, DER.
    pub certificate: &'a [u8],
}

/// Why a table is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableFault {
    /// It cannot be read at all.
    #[error("{0}")]
    Layout(CertTableError),
    /// The closing entry is not all zero.
    #[error("the closing entry has an offset or a length")]
    Closing,
    /// An entry without a certificate.
    #[error("entry {0} is empty")]
    Empty(usize),
    /// Two entries for one GUID.
    #[error("two entries for {0}")]
    Twice(CertGuid),
    /// Two certificates share bytes.
    #[error("the certificates of two entries overlap at byte {0:#x}")]
    Overlap(usize),
    /// A byte that belongs to nothing and is not zero.
    #[error("byte {0:#x} belongs to no entry and is not zero")]
    Padding(usize),
}

/// Reads a table.
///
/// # Errors
/// The first [`TableFault`].
pub fn read_table(table: &[u8]) -> Result<Vec<TableEntry<'_>>, TableFault> {
    let mut read: Vec<TableEntry<'_>> = Vec::new();
    for (index, entry) in entries(table).enumerate() {
        let (guid, certificate) = entry.map_err(TableFault::Layout)?;
        if certificate.is_empty() {
            return Err(TableFault::Empty(index));
        }
        if read.iter().any(|present| present.guid == guid) {
            return Err(TableFault::Twice(guid));
        }
        let offset = certificate.as_ptr().addr() - table.as_ptr().addr();
        read.push(TableEntry { guid, offset, certificate });
    }
    let closing = read.len() * size_of::<CertTableEntry>();
    let data = closing + size_of::<CertTableEntry>();
    if table.get(closing..data).is_none_or(|entry| entry.iter().any(|byte| *byte != 0)) {
        return Err(TableFault::Closing);
    }
    check_coverage(table, data, &read)?;
    Ok(read)
}

/// Certificates do not overlap each other, and what is between and behind them is zero.
fn check_coverage(table: &[u8], data: usize, read: &[TableEntry<'_>]) -> Result<(), TableFault> {
    let mut ranges: Vec<(usize, usize)> =
        read.iter().map(|entry| (entry.offset, entry.offset + entry.certificate.len())).collect();
    ranges.sort_unstable();
    let mut covered = data;
    for (start, end) in ranges.into_iter().chain([(table.len(), table.len())]) {
        let gap = table.get(covered..start).ok_or(TableFault::Overlap(start))?;
        if let Some(at) = gap.iter().position(|byte| *byte != 0) {
            return Err(TableFault::Padding(covered + at));
        }
        covered = end;
    }
    Ok(())
}
