//! The SGX extension of PCK certificates, and TCB levels by component (Intel SGX PCK Certificate and CRL Profile
//! Specification 1.5, section 1.3.5 "SGX Certificate Extensions"; Intel PCS API 4, "TCB info").
//!
//! The extension is a SEQUENCE of SEQUENCE { OBJECT IDENTIFIER, value }. Object identifiers are in dotted form here.

/// The extension.
pub const SGX_EXTENSIONS: &str = "1.2.840.113741.1.13.1";
/// PPID: OCTET STRING of 16 bytes.
pub const PPID: &str = "1.2.840.113741.1.13.1.1";
/// TCB: SEQUENCE of the components, PCESVN and CPUSVN.
pub const TCB: &str = "1.2.840.113741.1.13.1.2";
/// SGX TCB component 01 to 16 SVN: INTEGER, 0 to 255.
pub const TCB_COMPONENTS: [&str; 16] = [
    "1.2.840.113741.1.13.1.2.1",
    "1.2.840.113741.1.13.1.2.2",
    "1.2.840.113741.1.13.1.2.3",
    "1.2.840.113741.1.13.1.2.4",
    "1.2.840.113741.1.13.1.2.5",
    "1.2.840.113741.1.13.1.2.6",
    "1.2.840.113741.1.13.1.2.7",
    "1.2.840.113741.1.13.1.2.8",
    "1.2.840.113741.1.13.1.2.9",
    "1.2.840.113741.1.13.1.2.10",
    "1.2.840.113741.1.13.1.2.11",
    "1.2.840.113741.1.13.1.2.12",
    "1.2.840.113741.1.13.1.2.13",
    "1.2.840.113741.1.13.1.2.14",
    "1.2.840.113741.1.13.1.2.15",
    "1.2.840.113741.1.13.1.2.16",
];
/// PCESVN: INTEGER, 0 to 65535.
pub const PCESVN: &str = "1.2.840.113741.1.13.1.2.17";
/// CPUSVN: OCTET STRING of 16 bytes.
pub const CPUSVN: &str = "1.2.840.113741.1.13.1.2.18";
/// PCE-ID: OCTET STRING of 2 bytes.
pub const PCEID: &str = "1.2.840.113741.1.13.1.3";
/// FMSPC: OCTET STRING of 6 bytes.
pub const FMSPC: &str = "1.2.840.113741.1.13.1.4";
/// SGX type: ENUMERATED, an [`SgxType`].
pub const SGX_TYPE: &str = "1.2.840.113741.1.13.1.5";
/// Platform instance ID: OCTET STRING of 16 bytes; platform CA only.
pub const PLATFORM_INSTANCE_ID: &str = "1.2.840.113741.1.13.1.6";
/// Configuration: SEQUENCE of flags; platform CA only.
pub const CONFIGURATION: &str = "1.2.840.113741.1.13.1.7";
/// Dynamic platform: BOOLEAN; packages may be added.
pub const DYNAMIC_PLATFORM: &str = "1.2.840.113741.1.13.1.7.1";
/// Cached keys: BOOLEAN; the registration service keeps the platform's keys.
pub const CACHED_KEYS: &str = "1.2.840.113741.1.13.1.7.2";
/// SMT enabled: BOOLEAN.
pub const SMT_ENABLED: &str = "1.2.840.113741.1.13.1.7.3";

open_codes! {
    /// What protects memory.
    pub struct SgxType(u8);
    /// Encrypted, with integrity and replay protection, small.
    STANDARD = 0;
    /// Encrypted, of any size.
    SCALABLE = 1;
    /// As scalable, with integrity.
    SCALABLE_WITH_INTEGRITY = 2;
}

/// Which CA issued a PCK certificate, as the provisioning service names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PckCa {
    /// `platform`: multi-package platforms, and all that do TDX.
    Platform,
    /// `processor`: single-package platforms.
    Processor,
}

impl PckCa {
    /// The name in requests: `platform`, `processor`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// The SGX part of a TCB level: what a PCK certificate states, and what TCB info lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SgxTcb {
    /// `sgxtcbcomponents`, 01 to 16.
    pub components: [u8; 16],
    /// `pcesvn`.
    pub pce_svn: u16,
}

impl SgxTcb {
    /// Whether every component and the PCESVN are at least the other's: how a TCB level is matched.
    #[must_use]
    pub fn at_least(&self, other: &Self) -> bool {
        at_least(&self.components, &other.components) && self.pce_svn >= other.pce_svn
    }
}

/// Whether every component is at least the other's.
#[must_use]
pub fn at_least(components: &[u8; 16], others: &[u8; 16]) -> bool {
    components.iter().zip(others).all(|(component, other)| component >= other)
}

#[cfg(test)]
mod tests {
    use std::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn components_are_numbered_from_one() {
        for (index, oid) in TCB_COMPONENTS.iter().enumerate() {
            assert_eq!(*oid, format!("{TCB}.{}", index + 1));
        }
    }

    #[test]
    fn a_tcb_is_matched_by_component() {
        let high = SgxTcb { components: [2; 16], pce_svn: 13 };
        let mut other = high;
        other.components[15] = 3;
        other.components[0] = 0;
        assert!(!high.at_least(&other) && !other.at_least(&high));
        assert!(!SgxTcb { pce_svn: 12, ..high }.at_least(&high));
    }

    proptest! {
        #[test]
        fn at_least_is_reflexive_and_holds_from_zero(components: [u8; 16], pce_svn: u16) {
            let tcb = SgxTcb { components, pce_svn };
            prop_assert!(tcb.at_least(&tcb) && tcb.at_least(&SgxTcb::default()));
        }
    }
}
