//! The GHCB MSR protocol (56421 rev. 2.04, section 2.3.1, tables 2 and 3).
//!
//! The guest writes a request to MSR C001_0130h and executes VMGEXIT; the hypervisor leaves the response in the same
//! MSR. Bits 11:0 (`GHCBInfo`) select the request or response; zero there means that the value is the guest-physical
//! address of a GHCB page.

/// `GHCB` MSR number.
pub const MSR_GHCB: u32 = 0xc001_0130;
/// `SEV_STATUS` MSR number (APM volume 2, section 15.34.10).
pub const MSR_SEV_STATUS: u32 = 0xc001_0131;
/// `SEV_STATUS`: SEV, SEV-ES and SEV-SNP active.
pub const SEV_STATUS_SNP_ACTIVE: u64 = 0b111;

/// Lowest GHCB protocol version that this code speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Highest GHCB protocol version that this code speaks; SNP needs 2.
pub const PROTOCOL_MAX: u16 = 2;

open_codes! {
    /// `GHCBInfo`, bits 11:0 of the GHCB MSR.
    pub struct GhcbInfo(u16);
    /// The value is a GHCB's guest-physical address.
    GHCB_ADDRESS = 0x000;
    /// SEV information response.
    SEV_INFO_RESPONSE = 0x001;
    /// SEV information request.
    SEV_INFO_REQUEST = 0x002;
    /// CPUID request.
    CPUID_REQUEST = 0x004;
    /// CPUID response.
    CPUID_RESPONSE = 0x005;
    /// AP reset hold request.
    AP_RESET_HOLD_REQUEST = 0x006;
    /// AP reset hold response.
    AP_RESET_HOLD_RESPONSE = 0x007;
    /// Preferred GHCB guest-physical address request.
    PREFERRED_GHCB_REQUEST = 0x010;
    /// Preferred GHCB guest-physical address response.
    PREFERRED_GHCB_RESPONSE = 0x011;
    /// Register GHCB guest-physical address request.
    REGISTER_GHCB_REQUEST = 0x012;
    /// Register GHCB guest-physical address response.
    REGISTER_GHCB_RESPONSE = 0x013;
    /// SNP page state change request.
    PAGE_STATE_CHANGE_REQUEST = 0x014;
    /// SNP page state change response.
    PAGE_STATE_CHANGE_RESPONSE = 0x015;
    /// Run at VMPL request.
    RUN_VMPL_REQUEST = 0x016;
    /// Run at VMPL response.
    RUN_VMPL_RESPONSE = 0x017;
    /// Hypervisor feature support request.
    HYPERVISOR_FEATURES_REQUEST = 0x080;
    /// Hypervisor feature support response.
    HYPERVISOR_FEATURES_RESPONSE = 0x081;
    /// Termination request; there is no response.
    TERMINATION_REQUEST = 0x100;
}

/// A value of the GHCB MSR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GhcbMsr(pub u64);

/// `GHCBData`, bits 63:12, all ones: "no preferred GHCB", and a refused registration.
pub const NO_GHCB: u64 = (1 << 52) - 1;

impl GhcbMsr {
    /// Puts `GHCBData` (52 bits; higher bits are dropped) and `GHCBInfo` together.
    #[must_use]
    pub const fn new(info: GhcbInfo, data: u64) -> Self {
        Self(data << 12 | (info.0 as u64 & 0xfff))
    }

    /// Bits 11:0.
    #[must_use]
    pub const fn info(self) -> GhcbInfo {
        GhcbInfo((self.0 & 0xfff) as u16)
    }

    /// Bits 63:12.
    #[must_use]
    pub const fn data(self) -> u64 {
        self.0 >> 12
    }

    /// The GHCB's guest-physical address; meaningful when [`Self::info`] is [`GhcbInfo::GHCB_ADDRESS`].
    #[must_use]
    pub const fn ghcb_gpa(self) -> u64 {
        self.0 & !0xfff
    }

    /// SEV information response: maximum (63:48) and minimum (47:32) protocol version, C-bit position (31:24).
    #[must_use]
    pub const fn sev_info(max: u16, min: u16, c_bit: u8) -> Self {
        Self(
            (max as u64) << 48
                | (min as u64) << 32
                | (c_bit as u64) << 24
                | GhcbInfo::SEV_INFO_RESPONSE.0 as u64,
        )
    }

    /// A request without operands.
    #[must_use]
    pub const fn request(info: GhcbInfo) -> Self {
        Self::new(info, 0)
    }

    /// Page state change request: operation in 55:52, guest frame number in 51:12.
    #[must_use]
    pub const fn page_state_change(gfn: u64, operation: u8) -> Self {
        Self::new(GhcbInfo::PAGE_STATE_CHANGE_REQUEST, (operation as u64 & 0xf) << 40 | gfn & ((1 << 40) - 1))
    }

    /// CPUID request: function in 63:32, register (0 EAX, 1 EBX, 2 ECX, 3 EDX) in 31:30.
    #[must_use]
    pub const fn cpuid(function: u32, register: u8) -> Self {
        Self((function as u64) << 32 | (register as u64 & 3) << 30 | GhcbInfo::CPUID_REQUEST.0 as u64)
    }

    /// Termination request: reason code set in 15:12, reason code in 23:16.
    #[must_use]
    pub const fn terminate(reason: TerminationReason) -> Self {
        Self(
            (reason.code as u64) << 16
                | (reason.set as u64 & 0xf) << 12
                | GhcbInfo::TERMINATION_REQUEST.0 as u64,
        )
    }

    /// The reason in a termination request.
    #[must_use]
    pub const fn termination_reason(self) -> TerminationReason {
        TerminationReason { set: (self.0 >> 12 & 0xf) as u8, code: (self.0 >> 16 & 0xff) as u8 }
    }
}

impl core::fmt::Debug for GhcbMsr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GhcbMsr({:#018x}, {})", self.0, self.info())
    }
}

/// Why a guest ended itself (56421, section 2.3.1, "Termination Request").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TerminationReason {
    /// Reason code set, 4 bits; set 0 is the specification's, set 1 Linux's.
    pub set: u8,
    /// Reason code within the set.
    pub code: u8,
}

impl TerminationReason {
    /// General termination.
    pub const GENERAL: Self = Self { set: 0, code: 0 };
    /// The hypervisor's protocol versions do not suit the guest.
    pub const PROTOCOL_UNSUPPORTED: Self = Self { set: 0, code: 1 };
    /// The hypervisor does not offer SNP.
    pub const SNP_UNSUPPORTED: Self = Self { set: 0, code: 2 };

    /// A name for the reason, where the specification or Linux (`sev-common.h`) gives one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match (self.set, self.code) {
            (0, 0) => "general termination request",
            (0, 1) => "SEV-ES/GHCB protocol range is not supported",
            (0, 2) => "SNP features are not supported",
            (1, 0) => "Linux: GHCB registration failed",
            (1, 1) => "Linux: page state change failed",
            (1, 2) => "Linux: PVALIDATE failed",
            (1, 3) => "Linux: not running at VMPL0",
            (1, 4) => "Linux: CPUID validation failed",
            (1, 5) => "Linux: CPUID through the hypervisor failed",
            (1, 6) => "Linux: secrets page is unusable",
            (1, 7) => "Linux: no SVSM is advertised",
            (1, 8) => "Linux: SVSM present but guest runs at VMPL0",
            (1, 9) => "Linux: SVSM calling area is not page aligned",
            _ => return None,
        })
    }
}

/// Hypervisor features (56421, section 2.3.1 and table 8); 64-bit bitmap, of which the MSR protocol carries 52 bits.
#[bitfield_struct::bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct HypervisorFeatures {
    /// SEV-SNP.
    pub snp: bool,
    /// SNP AP creation; needs `snp`.
    pub ap_creation: bool,
    /// Restricted injection.
    pub restricted_injection: bool,
    /// Restricted injection timer.
    pub restricted_injection_timer: bool,
    /// APIC ID list.
    pub apic_id_list: bool,
    /// Several VMPLs (Run VMPL).
    pub multi_vmpl: bool,
    #[bits(58)]
    reserved: u64,
}

/// `GHCBData` 51:20 of a page state change response (MSR bits 63:32): non-zero is an error.
#[must_use]
pub const fn page_state_change_response(error: u32) -> GhcbMsr {
    GhcbMsr((error as u64) << 32 | GhcbInfo::PAGE_STATE_CHANGE_RESPONSE.0 as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_as_linux_composes_them() {
        assert_eq!(GhcbMsr::sev_info(2, 1, 51).0, 2 << 48 | 1 << 32 | 51 << 24 | 1);
        assert_eq!(GhcbMsr::page_state_change(0x1234, 2).0, 2 << 52 | 0x1234 << 12 | 0x14);
        assert_eq!(GhcbMsr::cpuid(0x8000_001f, 1).0, 0x8000_001f_4000_0004);
        assert_eq!(GhcbMsr::terminate(TerminationReason { set: 1, code: 3 }).0, 0x3_1100);
        assert_eq!(std::format!("{:?}", GhcbMsr(0x2)), "GhcbMsr(0x0000000000000002, SEV_INFO_REQUEST (0x2))");
    }

    proptest! {
        #[test]
        fn info_and_data_cover_the_value(value: u64) {
            let msr = GhcbMsr(value);
            prop_assert_eq!(GhcbMsr::new(msr.info(), msr.data()), msr);
        }

        #[test]
        fn termination_reason_round_trips(set in 0u8..16, code: u8) {
            let reason = TerminationReason { set, code };
            prop_assert_eq!(GhcbMsr::terminate(reason).termination_reason(), reason);
        }
    }
}
