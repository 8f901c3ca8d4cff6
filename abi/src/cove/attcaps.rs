//! `AttestationCapabilities` (`sbi_cove.adoc`, "COVE Guest Get Attestation Capabilities"), in C's layout for RV64: the
//! specification does not say that the structures are packed.

use zerocopy::little_endian::{U32, U64};

open_codes! {
    /// `HashAlgorithm`.
    pub struct HashAlgorithm(u32);
    /// SHA-384.
    SHA_384 = 0;
    /// SHA-512.
    SHA_512 = 1;
    /// SHA3-384.
    SHA3_384 = 2;
    /// SHA3-512.
    SHA3_512 = 3;
}

impl HashAlgorithm {
    /// Bytes of a digest; `None` of an unknown algorithm.
    #[must_use]
    pub const fn digest_size(self) -> Option<usize> {
        match self {
            Self::SHA_384 | Self::SHA3_384 => Some(48),
            Self::SHA_512 | Self::SHA3_512 => Some(64),
            _ => None,
        }
    }

    /// The name in evidence, of IANA's registry "Named Information Hash Algorithm Registry".
    #[must_use]
    pub const fn iana_name(self) -> Option<&'static str> {
        match self {
            Self::SHA_384 => Some("sha-384"),
            Self::SHA_512 => Some("sha-512"),
            Self::SHA3_384 => Some("sha3-384"),
            Self::SHA3_512 => Some("sha3-512"),
            _ => None,
        }
    }

    /// The algorithm of a name in evidence.
    #[must_use]
    pub fn from_iana_name(name: &str) -> Option<Self> {
        Self::NAMED
            .iter()
            .map(|(algorithm, _)| *algorithm)
            .find(|algorithm| algorithm.iana_name() == Some(name))
    }
}

open_codes! {
    /// `MeasurementType`.
    pub struct MeasurementType(u32);
    /// Extended while the TVM is built; final before it runs.
    INITIAL = 0;
    /// Extended by the TVM.
    RUNTIME = 1;
}

/// `UNMAPPED_TCG_PCR`.
pub const UNMAPPED_TCG_PCR: u8 = 0xff;
/// `MAX_INITIAL_MEASUREMENT_REGISTERS`.
pub const MAX_INITIAL_MEASUREMENT_REGISTERS: usize = 8;
/// `MAX_RUNTIME_MEASUREMENT_REGISTERS`.
pub const MAX_RUNTIME_MEASUREMENT_REGISTERS: usize = 18;
/// `MAX_MEASUREMENT_REGISTERS`.
pub const MAX_MEASUREMENT_REGISTERS: usize =
    MAX_INITIAL_MEASUREMENT_REGISTERS + MAX_RUNTIME_MEASUREMENT_REGISTERS;
/// Bytes of the longest digest.
pub const MAX_DIGEST_SIZE: usize = 64;

wire! {
    /// `struct MeasurementRegisterDescriptor`.
    pub struct MeasurementRegisterDescriptor {
        /// The [`HashAlgorithm`], the same as in the capabilities.
        pub hash_algorithm: U32,
        /// A [`MeasurementType`].
        pub measurement_type: U32,
        /// The TCG PCR that this register stands for, 0 to 16 or 23, or [`UNMAPPED_TCG_PCR`].
        pub tcg_pcr_index: u8,
        /// Padding, zero.
        pub padding: [u8; 3],
    }
}
assert_layout!(MeasurementRegisterDescriptor, 12, {
    hash_algorithm: 0x0, measurement_type: 0x4, tcg_pcr_index: 0x8, padding: 0x9,
});

wire! {
    /// `struct AttestationCapabilities`.
    pub struct AttestationCapabilities {
        /// Security version of the TCB.
        pub tcb_svn: U64,
        /// The [`HashAlgorithm`] of all registers.
        pub hash_algorithm: U32,
        /// [`CertificateFormats`](super::covg::CertificateFormats).
        pub certificate_formats: U32,
        /// Initial registers, 1 to 8.
        pub initial_measurements: u8,
        /// Runtime registers, 0 to 18.
        pub runtime_measurements: u8,
        /// Padding, zero.
        pub padding_18: [u8; 2],
        /// The registers, the initial ones first; what is beyond is zero.
        pub msmt_regs: [MeasurementRegisterDescriptor; MAX_MEASUREMENT_REGISTERS],
        /// Padding, zero.
        pub padding_332: [u8; 4],
    }
}
assert_layout!(AttestationCapabilities, 336, {
    tcb_svn: 0x0, hash_algorithm: 0x8, certificate_formats: 0xc, initial_measurements: 0x10,
    runtime_measurements: 0x11, padding_18: 0x12, msmt_regs: 0x14, padding_332: 0x14c,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for (algorithm, _) in HashAlgorithm::NAMED {
            let name = algorithm.iana_name().unwrap();
            assert_eq!(HashAlgorithm::from_iana_name(name), Some(*algorithm));
            assert!(algorithm.digest_size().unwrap() <= MAX_DIGEST_SIZE);
        }
        assert_eq!(HashAlgorithm::from_iana_name("sha-256"), None);
        assert_eq!(HashAlgorithm(4).digest_size(), None);
    }
}
