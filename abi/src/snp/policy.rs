//! Guest policy and platform information (56860 rev. 1.58, tables 10 and 24).

use bitfield_struct::bitfield;

/// Guest policy (section 4.3, table 10); eight bytes, little-endian.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GuestPolicy {
    /// Lowest ABI minor version that the guest accepts.
    pub abi_minor: u8,
    /// Lowest ABI major version that the guest accepts.
    pub abi_major: u8,
    /// SMT is allowed.
    pub smt: bool,
    /// Must be one.
    pub reserved_must_be_one: bool,
    /// Association with a migration agent is allowed.
    pub migrate_ma: bool,
    /// Debugging is allowed.
    pub debug: bool,
    /// The guest may run on one socket only.
    pub single_socket: bool,
    /// CXL devices may be populated.
    pub cxl_allow: bool,
    /// Memory must be encrypted with AES-256-XTS.
    pub mem_aes_256_xts: bool,
    /// Running average power limit must be disabled.
    pub rapl_dis: bool,
    /// Ciphertext hiding for DRAM must be enabled.
    pub ciphertext_hiding_dram: bool,
    /// `SNP_PAGE_MOVE`, `SNP_SWAP_OUT` and `SNP_SWAP_IN` are not allowed on this guest.
    pub page_swap_disable: bool,
    /// Reserved, zero.
    #[bits(38)]
    pub reserved: u64,
}

impl GuestPolicy {
    /// The policy that QEMU launches with when none is given: SMT allowed, nothing else.
    pub const DEFAULT: Self = Self::new().with_smt(true).with_reserved_must_be_one(true);
}

/// Platform information (section 7.3, table 24); eight bytes, little-endian.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PlatformInfo {
    /// SMT is enabled.
    pub smt_en: bool,
    /// Transparent SME is enabled.
    pub tsme_en: bool,
    /// Memory uses ECC.
    pub ecc_en: bool,
    /// Running average power limit is disabled.
    pub rapl_dis: bool,
    /// Ciphertext hiding for DRAM is enabled.
    pub ciphertext_hiding_dram_en: bool,
    /// No address aliases were found since the last reset.
    pub alias_check_complete: bool,
    /// Reserved, zero.
    pub reserved_6: bool,
    /// SEV-TIO is enabled.
    pub tio_en: bool,
    /// Reserved, zero.
    #[bits(56)]
    pub reserved: u64,
}

/// Which key signed a report (section 7.3, `SIGNING_KEY`, three bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SigningKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// Reserved encodings 2 to 6.
    Reserved(u8),
    /// None: the signature is zero.
    None,
}

impl SigningKey {
    /// From the three bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Vcek,
            1 => Self::Vlek,
            7 => Self::None,
            other => Self::Reserved(other),
        }
    }

    /// The three bits.
    #[must_use]
    pub const fn into_bits(self) -> u8 {
        match self {
            Self::Vcek => 0,
            Self::Vlek => 1,
            Self::Reserved(bits) => bits,
            Self::None => 7,
        }
    }
}

/// `KEY_INFO` of a report, offset 48h (section 7.3, table 23).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct KeyInfo {
    /// An author key certified the ID key.
    pub author_key_en: bool,
    /// The chip key is masked: the report is not signed.
    pub mask_chip_key: bool,
    /// Which key signed.
    #[bits(3, from = SigningKey::from_bits, into = SigningKey::into_bits)]
    pub signing_key: SigningKey,
    /// Reserved, zero.
    #[bits(27)]
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_what_qemu_uses() {
        assert_eq!(u64::from(GuestPolicy::DEFAULT), 0x3_0000);
    }

    #[test]
    fn bit_places() {
        assert_eq!(u64::from(GuestPolicy::new().with_page_swap_disable(true)), 1 << 25);
        assert_eq!(u64::from(PlatformInfo::new().with_tio_en(true)), 1 << 7);
        assert_eq!(u32::from(KeyInfo::new().with_signing_key(SigningKey::None)), 7 << 2);
        assert_eq!(KeyInfo::from(1 << 2).signing_key(), SigningKey::Vlek);
    }
}
