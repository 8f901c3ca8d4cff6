//! COVG: what a TVM asks of the TSM (`sbi_cove.adoc`, "COVE Guest Extension").
//!
//! | function | `a0` to `a5` | value |
//! |---|---|---|
//! | 0, 1: MMIO region | address, length | 0 |
//! | 2, 3: share, unshare | address, length | 0 |
//! | 4, 5: external interrupt | identity, or [`ALL_INTERRUPTS`] | 0 |
//! | 6: capabilities | address, size; both page-aligned | bytes written |
//! | 7: extend | address of a digest, its length, register | 0 |
//! | 8: evidence | address of a COSE_Key, its size, address of [`CHALLENGE_SIZE`] bytes, one [`CertificateFormats`] bit, address of the output, its size | bytes written |
//! | 9: secret | address, size | bytes written |
//! | 10: read a register | address, size, register | bytes written |
//!
//! The specification leaves the values of 6 to 10 open; the choice is in [`claims::CHOICES`](super::claims::CHOICES).

use bitfield_struct::bitfield;

open_codes! {
    /// `a6`: which function.
    pub struct CovgFid(u16);
    /// `sbi_covg_add_mmio_region`.
    ADD_MMIO_REGION = 0;
    /// `sbi_covg_remove_mmio_region`.
    REMOVE_MMIO_REGION = 1;
    /// `sbi_covg_share_memory_region`.
    SHARE_MEMORY_REGION = 2;
    /// `sbi_covg_unshare_memory_region`.
    UNSHARE_MEMORY_REGION = 3;
    /// `sbi_covg_allow_external_interrupt`.
    ALLOW_EXTERNAL_INTERRUPT = 4;
    /// `sbi_covg_deny_external_interrupt`.
    DENY_EXTERNAL_INTERRUPT = 5;
    /// `sbi_covg_get_attcaps`.
    GET_ATTCAPS = 6;
    /// `sbi_covg_extend_measurement`.
    EXTEND_MEASUREMENT = 7;
    /// `sbi_covg_get_evidence`.
    GET_EVIDENCE = 8;
    /// `sbi_covg_retrieve_secret`.
    RETRIEVE_SECRET = 9;
    /// `sbi_covg_read_measurement`.
    READ_MEASUREMENT = 10;
}

/// `interrupt_id` that stands for all external interrupts.
pub const ALL_INTERRUPTS: u64 = u64::MAX;
/// The highest external interrupt identity (RISC-V AIA 1.0, section 3.1).
pub const MAX_INTERRUPT_ID: u64 = 2047;

/// Bytes of a challenge: the claim is `bytes .size 64`, and `get_evidence` has no argument for a length.
pub const CHALLENGE_SIZE: usize = 64;
/// The largest secret, and the largest buffer, of `retrieve_secret`.
pub const MAX_SECRET_SIZE: usize = super::PAGE_SIZE;
/// The largest public key that `get_evidence` takes here; the specification has no bound.
pub const MAX_PUBLIC_KEY_SIZE: usize = super::PAGE_SIZE;

/// Bits of `AttestationCapabilities.certificate_formats`, and of `cert_format`, where exactly one is to be set:
/// `ATTESTATION_CERTIFICATE_*`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CertificateFormats {
    /// `ATTESTATION_CERTIFICATE_CBOR`.
    pub cbor: bool,
    /// `ATTESTATION_CERTIFICATE_X509`.
    pub x509: bool,
    /// Of other formats.
    #[bits(30)]
    pub reserved: u32,
}

/// `ATTESTATION_CERTIFICATE_CBOR`, for `cert_format`.
pub const ATTESTATION_CERTIFICATE_CBOR: u64 = 1 << 0;
/// `ATTESTATION_CERTIFICATE_X509`, for `cert_format`.
pub const ATTESTATION_CERTIFICATE_X509: u64 = 1 << 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_the_flags() {
        let both = CertificateFormats::new().with_cbor(true).with_x509(true);
        assert_eq!(u64::from(u32::from(both)), ATTESTATION_CERTIFICATE_CBOR | ATTESTATION_CERTIFICATE_X509);
    }

    #[test]
    fn functions_count_from_zero_to_ten() {
        assert!(CovgFid::NAMED.iter().map(|(fid, _)| fid.0).eq(0..=10));
        assert_eq!(CovgFid(11).name(), None);
    }
}
