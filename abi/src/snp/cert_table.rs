//! The certificate table of the extended guest request (56421 rev. 2.04, section 4.1.8.1, tables 17 and 18).
//!
//! Entries of 24 bytes, closed by a zero entry, then the certificates (DER) at the offsets that the entries name,
//! counted from the start of the table. The bytes of a GUID lie in the order of its text (RFC 4122), not in the mixed order
//! of EFI: the document leaves that open, and every host and every reader of the table has settled on it (`go-sev-guest`,
//! the `sev` crate, `snpguest`).

use zerocopy::{FromBytes, little_endian::U32};

wire! {
    /// One entry.
    pub struct CertTableEntry {
        /// What it is; all zero closes the table.
        pub guid: CertGuid,
        /// Offset of the certificate from the start of the table.
        pub offset: U32,
        /// Size of the certificate in bytes.
        pub length: U32,
    }
}
assert_layout!(CertTableEntry, 24, { guid: 0x0, offset: 0x10, length: 0x14 });

/// Which certificate an entry is for: 16 bytes in the order of the GUID's text.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct CertGuid(pub [u8; 16]);

impl CertGuid {
    /// The closing entry.
    pub const END: Self = Self([0; 16]);
    /// ARK, c0b406a4-a803-4952-9743-3fb6014cd0ae.
    pub const ARK: Self = Self::from_text(0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae);
    /// ASK (or ASVK), 4ab7b379-bbac-4fe4-a02f-05aef327c782.
    pub const ASK: Self = Self::from_text(0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782);
    /// VCEK, 63da758d-e664-4564-adc5-f4b93be8accd.
    pub const VCEK: Self = Self::from_text(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd);
    /// VLEK, a8074bc2-a25a-483e-aae6-39c045a0b8a1.
    pub const VLEK: Self = Self::from_text(0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1);
    /// CRL, 92f81bc3-5811-4d3d-97ff-d19f88dc67ea.
    pub const CRL: Self = Self::from_text(0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea);

    /// From the digits of the text.
    const fn from_text(digits: u128) -> Self {
        Self(digits.to_be_bytes())
    }

    /// `ARK`, `ASK`, `VCEK`, `VLEK`, `CRL`, or `None`.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ARK => "ARK",
            Self::ASK => "ASK",
            Self::VCEK => "VCEK",
            Self::VLEK => "VLEK",
            Self::CRL => "CRL",
            _ => return None,
        })
    }
}

impl core::fmt::Display for CertGuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl core::fmt::Debug for CertGuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// Why a certificate table cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertTableError {
    /// No closing entry before the end of the buffer.
    NotTerminated,
    /// Entry `index` names bytes outside the buffer or inside the entries.
    OutOfRange {
        /// Which entry.
        index: usize,
    },
}

impl core::fmt::Display for CertTableError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotTerminated => f.write_str("certificate table has no closing zero entry"),
            Self::OutOfRange { index } => {
                write!(f, "certificate table entry {index} points outside the table's data")
            }
        }
    }
}

impl core::error::Error for CertTableError {}

/// Size of a table of these certificate sizes: entries, closing entry, certificates.
#[must_use]
pub fn table_size(lengths: &[usize]) -> usize {
    (lengths.len() + 1) * size_of::<CertTableEntry>() + lengths.iter().sum::<usize>()
}

/// Reads a table: yields GUID and certificate of each entry, or the reason why an entry cannot be read.
///
/// The iterator ends at the closing entry, or after the first error.
pub fn entries(table: &[u8]) -> impl Iterator<Item = Result<(CertGuid, &[u8]), CertTableError>> {
    let mut index = 0;
    let mut done = false;
    core::iter::from_fn(move || {
        if done {
            return None;
        }
        let start = index * size_of::<CertTableEntry>();
        let entry = table.get(start..).and_then(|rest| CertTableEntry::read_from_prefix(rest).ok());
        let item = match entry {
            None => Err(CertTableError::NotTerminated),
            Some((entry, _)) if entry.guid == CertGuid::END => {
                done = true;
                return None;
            }
            Some((entry, _)) => certificate(table, &entry, index).map(|cert| (entry.guid, cert)),
        };
        done = item.is_err();
        index += 1;
        Some(item)
    })
}

fn certificate<'a>(
    table: &'a [u8],
    entry: &CertTableEntry,
    index: usize,
) -> Result<&'a [u8], CertTableError> {
    let out_of_range = CertTableError::OutOfRange { index };
    let offset = usize::try_from(entry.offset.get()).map_err(|_| out_of_range)?;
    let length = usize::try_from(entry.length.get()).map_err(|_| out_of_range)?;
    let end = offset.checked_add(length).ok_or(out_of_range)?;
    if offset < (index + 2) * size_of::<CertTableEntry>() {
        return Err(out_of_range);
    }
    table.get(offset..end).ok_or(out_of_range)
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec, vec::Vec};

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn table(entries: &[(CertGuid, u32, u32)], data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (guid, offset, length) in entries {
            let entry = CertTableEntry { guid: *guid, offset: U32::new(*offset), length: U32::new(*length) };
            out.extend_from_slice(entry.as_bytes());
        }
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn guids_print_as_published() {
        assert_eq!(CertGuid::VCEK.to_string(), "63da758d-e664-4564-adc5-f4b93be8accd");
        assert_eq!(CertGuid::ARK.to_string(), "c0b406a4-a803-4952-9743-3fb6014cd0ae");
        assert_eq!(CertGuid::CRL.name(), Some("CRL"));
        assert_eq!(CertGuid([1; 16]).name(), None);
    }

    #[test]
    fn bytes_lie_in_the_order_of_the_text() {
        assert_eq!(CertGuid::VCEK.as_bytes()[..8], [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64]);
    }

    #[test]
    fn reads_a_table() {
        let bytes = table(&[(CertGuid::ARK, 48, 3), (CertGuid::END, 0, 0)], b"abc");
        assert_eq!(entries(&bytes).collect::<Vec<_>>(), vec![Ok((CertGuid::ARK, &b"abc"[..]))]);
    }

    #[test]
    fn refuses_bad_tables() {
        let unterminated = table(&[(CertGuid::ARK, 24, 0)], b"");
        assert_eq!(entries(&unterminated).last(), Some(Err(CertTableError::OutOfRange { index: 0 })));
        assert_eq!(entries(b"").last(), Some(Err(CertTableError::NotTerminated)));
        let far = table(&[(CertGuid::ARK, 48, 4), (CertGuid::END, 0, 0)], b"abc");
        assert_eq!(entries(&far).last(), Some(Err(CertTableError::OutOfRange { index: 0 })));
        let wrapping = table(&[(CertGuid::ARK, 48, u32::MAX), (CertGuid::END, 0, 0)], b"abc");
        assert_eq!(entries(&wrapping).last(), Some(Err(CertTableError::OutOfRange { index: 0 })));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(entries(&bytes).count() <= bytes.len() / 24 + 1);
        }
    }
}
