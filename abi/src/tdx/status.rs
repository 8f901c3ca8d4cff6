//! Completion status of TDCALL and SEAMCALL (348551 TDX Module ABI Reference 1.5, "Interface Functions Completion
//! Status Codes", and the module's own definitions). The migration functions' codes (class 0Eh) are left unnamed.

pub use super::status_code::StatusCode;

open_codes! {
    /// What the second-level details of [`StatusCode::OPERAND_INVALID`] and its like name.
    pub struct OperandId(u32);
    /// Register RAX.
    RAX = 0;
    /// Register RCX.
    RCX = 1;
    /// Register RDX.
    RDX = 2;
    /// Register RBX.
    RBX = 3;
    /// Register RBP.
    RBP = 5;
    /// Register RSI.
    RSI = 6;
    /// Register RDI.
    RDI = 7;
    /// Register R8.
    R8 = 8;
    /// Register R9.
    R9 = 9;
    /// Register R10.
    R10 = 10;
    /// Register R11.
    R11 = 11;
    /// Register R12.
    R12 = 12;
    /// Register R13.
    R13 = 13;
    /// Register R14.
    R14 = 14;
    /// Register R15.
    R15 = 15;
    /// `TD_PARAMS.ATTRIBUTES`.
    ATTRIBUTES = 64;
    /// `TD_PARAMS.XFAM`.
    XFAM = 65;
    /// `TD_PARAMS.EXEC_CONTROLS` (CONFIG_FLAGS).
    EXEC_CONTROLS = 66;
    /// `TD_PARAMS.EPTP_CONTROLS`.
    EPTP_CONTROLS = 67;
    /// `TD_PARAMS.MAX_VCPUS`.
    MAX_VCPUS = 68;
    /// `TD_PARAMS.CPUID_CONFIG`.
    CPUID_CONFIG = 69;
    /// `TD_PARAMS.TSC_FREQUENCY`.
    TSC_FREQUENCY = 70;
    /// `TD_PARAMS.NUM_L2_VMS`.
    NUM_L2_VMS = 71;
    /// `TD_PARAMS.IA32_ARCH_CAPABILITIES_CONFIG`.
    IA32_ARCH_CAPABILITIES_CONFIG = 72;
    /// A physical page.
    PAGE = 95;
    /// An entry of the TDMR_INFO array.
    TDMR_INFO_PA = 96;
    /// An entry of a GPA list.
    GPA_LIST_ENTRY = 97;
    /// An entry of a migration buffer list.
    MIG_BUFF_LIST_ENTRY = 98;
    /// An entry of a new page list.
    NEW_PAGE_LIST_ENTRY = 99;
    /// The TD root page.
    TDR = 128;
    /// A TD control extension page.
    TDCX = 129;
    /// A VCPU root page.
    TDVPR = 130;
    /// A page of TD memory.
    REG_PAGE = 132;
    /// The TD control structure.
    TDCS = 144;
    /// The VCPU state.
    TDVPS = 145;
    /// The secure EPT.
    SEPT_TREE = 146;
    /// A secure EPT entry.
    SEPT_ENTRY = 147;
    /// The run-time measurement registers.
    RTMR = 168;
    /// The TD epoch.
    TD_EPOCH = 169;
    /// The L2 virtual APIC page.
    L2_VAPIC_GPA = 170;
    /// A migration stream context.
    MIGSC = 171;
    /// The operation state.
    OP_STATE = 172;
    /// The migration state.
    MIG = 173;
    /// The service TD binding table.
    SERVTD_BINDINGS = 174;
    /// A metadata field.
    METADATA_FIELD = 176;
    /// The module.
    SYS = 184;
    /// A TDMR.
    TDMR = 185;
    /// The key ownership table.
    KOT = 186;
    /// The key encryption table.
    KET = 187;
    /// The cache write-back state.
    WBCACHE = 188;
}

/// What a TDCALL or SEAMCALL leaf leaves in `RAX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompletionStatus(pub u64);

impl CompletionStatus {
    /// Completed.
    pub const SUCCESS: Self = StatusCode::SUCCESS.status();

    /// The upper half: what happened.
    #[must_use]
    pub const fn code(self) -> StatusCode {
        StatusCode((self.0 >> 32) as u32)
    }

    /// The lower half: second-level details.
    #[must_use]
    pub const fn details_l2(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The second-level details as an operand; meaningful in classes 1 and 2 (operands) and wherever
    /// [`StatusCode::of`] made the status.
    #[must_use]
    pub const fn operand(self) -> OperandId {
        OperandId(self.details_l2())
    }

    /// First-level details, bits 39:32: which status of its class.
    #[must_use]
    pub const fn details_l1(self) -> u8 {
        self.0.to_le_bytes()[4]
    }

    /// Class, bits 47:40.
    #[must_use]
    pub const fn class(self) -> StatusClass {
        StatusClass(self.0.to_le_bytes()[5])
    }

    /// Bit 63: the function did not do what was asked. A clear bit with a code that is not zero is a warning or
    /// information.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >> 63 == 1
    }

    /// Bit 62: calling again cannot help.
    #[must_use]
    pub const fn is_non_recoverable(self) -> bool {
        self.0 >> 62 & 1 == 1
    }

    /// Bit 61: the TD or the module cannot go on.
    #[must_use]
    pub const fn is_fatal(self) -> bool {
        self.0 >> 61 & 1 == 1
    }

    /// Bit 60: the host may recover by calling again.
    #[must_use]
    pub const fn host_recoverability_hint(self) -> bool {
        self.0 >> 60 & 1 == 1
    }
}

open_codes! {
    /// Class of a [`CompletionStatus`].
    pub struct StatusClass(u8);
    /// General.
    GENERAL = 0x00;
    /// An operand is invalid.
    INVALID_OPERAND = 0x01;
    /// A resource is busy.
    RESOURCE_BUSY = 0x02;
    /// Physical page metadata.
    PAGE_METADATA = 0x03;
    /// Dependent resources.
    DEPENDENT_RESOURCES = 0x04;
    /// State of the module.
    MODULE_STATE = 0x05;
    /// State of the TD.
    TD_STATE = 0x06;
    /// State of the VCPU.
    VCPU_STATE = 0x07;
    /// Key management.
    KEY_MANAGEMENT = 0x08;
    /// Platform.
    PLATFORM = 0x09;
    /// Physical memory ranges.
    PHYSICAL_MEMORY = 0x0a;
    /// Guest-physical memory.
    GUEST_TD_MEMORY = 0x0b;
    /// Metadata.
    METADATA = 0x0c;
    /// Service TDs.
    SERVICE_TD = 0x0d;
    /// Migration.
    MIGRATION = 0x0e;
    /// Reports.
    REPORT = 0x10;
    /// TD partitioning.
    PARTITIONING = 0x11;
}

impl core::fmt::Display for CompletionStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.code())?;
        match (self.class(), self.details_l2()) {
            (_, 0) => Ok(()),
            (StatusClass::INVALID_OPERAND | StatusClass::RESOURCE_BUSY, _) => {
                write!(f, ", operand {}", self.operand())
            }
            (_, details) => write!(f, ", details {details:#x}"),
        }
    }
}

impl core::fmt::Debug for CompletionStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_invalid_operand_is_named() {
        let status = StatusCode::OPERAND_INVALID.of(OperandId::RDX);
        assert_eq!(status.0, 0xc000_0100_0000_0002);
        assert_eq!(status.to_string(), "OPERAND_INVALID (0xc0000100), operand RDX (0x2)");
        assert!(status.is_error() && status.is_non_recoverable() && !status.is_fatal());
        assert_eq!((status.class(), status.details_l1()), (StatusClass::INVALID_OPERAND, 0));
    }

    #[test]
    fn information_is_no_error() {
        let status = StatusCode::PAGE_ALREADY_ACCEPTED.with_details(1);
        assert!(!status.is_error());
        assert_eq!(status.to_string(), "PAGE_ALREADY_ACCEPTED (0xb0a), details 0x1");
        assert_eq!(CompletionStatus::SUCCESS.to_string(), "SUCCESS (0x0)");
        assert!(StatusCode::HOST_PRIORITY_BUSY_TIMEOUT.status().host_recoverability_hint());
        assert!(StatusCode::TD_FATAL.status().is_fatal());
    }

    #[test]
    fn every_named_code_is_of_a_named_class() {
        for (code, name) in StatusCode::NAMED {
            assert!(code.status().class().name().is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn halves_round_trip(value: u64) {
            let status = CompletionStatus(value);
            prop_assert_eq!(status.code().with_details(status.details_l2()), status);
            prop_assert!(!status.to_string().is_empty());
        }
    }
}
