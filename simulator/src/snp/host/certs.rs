//! The certificate table of the extended guest request (56421 rev. 2.04, section 4.1.8.1).

use tsmsim_abi::snp::cert_table::{CertGuid, CertTableEntry, table_size};
use zerocopy::IntoBytes;

/// A certificate (or its place in the table) is beyond the table's 32-bit offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the certificate table would be larger than 4 GiB")]
pub struct CertTableTooLarge;

/// Builds a table: an entry for each certificate (DER) in the order given, the closing entry, then the certificates.
/// AMD's tools write VCEK (or VLEK), ASK (or ASVK), ARK.
///
/// # Errors
/// If an offset does not fit into 32 bits.
pub fn build_cert_table(certificates: &[(CertGuid, Vec<u8>)]) -> Result<Vec<u8>, CertTableTooLarge> {
    let lengths: Vec<usize> = certificates.iter().map(|(_, der)| der.len()).collect();
    let mut table = Vec::with_capacity(table_size(&lengths));
    let mut offset = table_size(&[0].repeat(certificates.len()));
    for (guid, der) in certificates {
        let entry = CertTableEntry {
            guid: *guid,
            offset: u32::try_from(offset).map_err(|_| CertTableTooLarge)?.into(),
            length: u32::try_from(der.len()).map_err(|_| CertTableTooLarge)?.into(),
        };
        table.extend_from_slice(entry.as_bytes());
        offset += der.len();
    }
    let end = CertTableEntry { guid: CertGuid::END, offset: 0.into(), length: 0.into() };
    table.extend_from_slice(end.as_bytes());
    for (_, der) in certificates {
        table.extend_from_slice(der);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tsmsim_abi::snp::cert_table::entries;

    use super::*;

    #[test]
    fn an_empty_table_is_the_closing_entry() {
        assert_eq!(build_cert_table(&[]).unwrap(), [0; 24]);
    }

    proptest! {
        #[test]
        fn what_is_built_can_be_read(ders in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let guids = [CertGuid::VCEK, CertGuid::ASK, CertGuid::ARK, CertGuid::CRL, CertGuid::VLEK];
            let certificates: Vec<_> = guids.into_iter().zip(ders).collect();
            let table = build_cert_table(&certificates).unwrap();
            let read: Vec<_> = entries(&table).map(|entry| entry.map(|(guid, der)| (guid, der.to_vec()))).collect();
            prop_assert_eq!(read.into_iter().collect::<Result<Vec<_>, _>>(), Ok(certificates));
        }
    }
}
