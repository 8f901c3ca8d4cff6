//! SBI calls: `ecall` with `a7` = extension ID, `a6` = function ID, `a0` to `a5` = arguments; back come `a0` = error and
//! `a1` = value (RISC-V SBI 2.0, chapter 3; `sbi_cove.adoc`, "CoVE FID namespaces"). With the extensions of the SBI itself
//! that a guest without a driver of its own needs: base (chapter 4), system reset (10), debug console (12).

use bitfield_struct::bitfield;

open_codes! {
    /// `a7`: which extension.
    pub struct ExtensionId(u64);
    /// The base extension.
    BASE = 0x10;
    /// Debug console, "DBCN".
    DBCN = 0x4442_434e;
    /// System reset, "SRST".
    SRST = 0x5352_5354;
    /// Supervisor domains enumeration, "SUPD".
    SUPD = 0x5355_5044;
    /// CoVE, the host's calls, "COVH".
    COVH = 0x434f_5648;
    /// CoVE, interrupts, "COVI".
    COVI = 0x434f_5649;
    /// CoVE, the guest's calls, "COVG".
    COVG = 0x434f_5647;
}

open_codes! {
    /// Functions of the base extension.
    pub struct BaseFid(u16);
    /// `sbi_get_spec_version`.
    GET_SPEC_VERSION = 0;
    /// `sbi_get_impl_id`.
    GET_IMPL_ID = 1;
    /// `sbi_get_impl_version`.
    GET_IMPL_VERSION = 2;
    /// `sbi_probe_extension`: `a0` = extension ID; the value is 0 if there is no such extension.
    PROBE_EXTENSION = 3;
    /// `sbi_get_mvendorid`.
    GET_MVENDORID = 4;
    /// `sbi_get_marchid`.
    GET_MARCHID = 5;
    /// `sbi_get_mimpid`.
    GET_MIMPID = 6;
}

/// What `sbi_get_spec_version` gives for version 2.0: the major number in bits 30:24, the minor one in bits 23:0.
pub const SPEC_VERSION_2_0: u64 = 2 << 24;

open_codes! {
    /// Functions of the debug console extension.
    pub struct DbcnFid(u64);
    /// `sbi_debug_console_write`: `a0` = bytes, `a1` and `a2` = low and high part of their address; the value is how many
    /// were written.
    CONSOLE_WRITE = 0;
    /// `sbi_debug_console_read`: as for writing.
    CONSOLE_READ = 1;
    /// `sbi_debug_console_write_byte`: `a0` = the byte.
    CONSOLE_WRITE_BYTE = 2;
}

open_codes! {
    /// Functions of the system reset extension.
    pub struct SrstFid(u64);
    /// `sbi_system_reset`: `a0` = [`ResetType`], `a1` = [`ResetReason`]; does not return if it is done.
    SYSTEM_RESET = 0;
}

open_codes! {
    /// `reset_type` of `sbi_system_reset`.
    pub struct ResetType(u32);
    /// Shutdown.
    SHUTDOWN = 0;
    /// Cold reboot.
    COLD_REBOOT = 1;
    /// Warm reboot.
    WARM_REBOOT = 2;
}

/// [`ResetType`]s of vendors and platforms.
pub const VENDOR_RESET_TYPES: core::ops::RangeInclusive<u32> = 0xf000_0000..=u32::MAX;

open_codes! {
    /// `reset_reason` of `sbi_system_reset`.
    pub struct ResetReason(u32);
    /// No reason.
    NO_REASON = 0;
    /// System failure.
    SYSTEM_FAILURE = 1;
}

/// [`ResetReason`]s of SBI implementations, vendors and platforms.
pub const SPECIFIC_RESET_REASONS: core::ops::RangeInclusive<u32> = 0xe000_0000..=u32::MAX;

open_codes! {
    /// Functions of the supervisor domains extension.
    pub struct SupdFid(u16);
    /// `sbi_supd_get_active_domains`.
    GET_ACTIVE_DOMAINS = 0;
}

/// `a6` of the CoVE extensions ("Format of register a6 for CoVE SBI Extension").
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FunctionId {
    /// The function.
    pub fid: u16,
    /// Reserved, zero.
    #[bits(10)]
    pub reserved_16: u16,
    /// Supervisor domain. A guest leaves it zero; the root domain's manager fills it in.
    #[bits(6)]
    pub sdid: u8,
    /// Not in the figure, zero.
    #[bits(32)]
    pub reserved_32: u32,
}

/// Function IDs of the CoVE specification within each extension.
pub const COVE_FIDS: core::ops::RangeInclusive<u16> = 0..=1023;
/// Function IDs of CoVE-IO within each extension.
pub const COVE_IO_FIDS: core::ops::RangeInclusive<u16> = 1024..=1087;

open_codes! {
    /// `a0` on return (RISC-V SBI 3.0, table "Standard SBI Errors").
    pub struct SbiError(i64);
    /// Done.
    SUCCESS = 0;
    /// Failed for a reason without a code.
    FAILED = -1;
    /// Not supported.
    NOT_SUPPORTED = -2;
    /// An invalid parameter.
    INVALID_PARAM = -3;
    /// Denied.
    DENIED = -4;
    /// An invalid address.
    INVALID_ADDRESS = -5;
    /// Available already.
    ALREADY_AVAILABLE = -6;
    /// Started already.
    ALREADY_STARTED = -7;
    /// Stopped already.
    ALREADY_STOPPED = -8;
    /// Shared memory is not available.
    NO_SHMEM = -9;
    /// The state does not allow it.
    INVALID_STATE = -10;
    /// A bad or invalid range.
    BAD_RANGE = -11;
    /// Timed out.
    TIMEOUT = -12;
    /// Input or output failed.
    IO = -13;
    /// Denied because of a lock.
    DENIED_LOCKED = -14;
    /// `SBI_ERR_AUTH`, by our number ([`CoveErrors`]).
    AUTH = -1001;
    /// `SBI_ERR_BUSY`, by our number ([`CoveErrors`]).
    BUSY = -1002;
    /// `SBI_ERR_OUT_OF_MEMORY`, by our number ([`CoveErrors`]).
    OUT_OF_MEMORY = -1003;
    /// `SBI_ERR_OUT_OF_PTPAGES`, by our number ([`CoveErrors`]).
    OUT_OF_PTPAGES = -1004;
}

impl SbiError {
    /// The register's bits.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.0.cast_unsigned()
    }

    /// From the register's bits.
    #[must_use]
    pub const fn from_register(a0: u64) -> Self {
        Self(a0.cast_signed())
    }
}

/// Numbers of the errors that the CoVE specification names without giving a number. The defaults lie far from the standard
/// errors, which count down from -1 and grow with each version of the SBI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CoveErrors {
    /// `SBI_ERR_AUTH`: local attestation failed. Default -1001.
    pub auth: SbiError,
    /// `SBI_ERR_BUSY`: the evidence cannot be made now. Default -1002.
    pub busy: SbiError,
    /// `SBI_ERR_OUT_OF_MEMORY`: not enough confidential memory. Default -1003.
    pub out_of_memory: SbiError,
    /// `SBI_ERR_OUT_OF_PTPAGES`: not enough page table pages. Default -1004.
    pub out_of_ptpages: SbiError,
}

impl CoveErrors {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        auth: SbiError::AUTH,
        busy: SbiError::BUSY,
        out_of_memory: SbiError::OUT_OF_MEMORY,
        out_of_ptpages: SbiError::OUT_OF_PTPAGES,
    };
}

impl Default for CoveErrors {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whether this is an error's number, as RV64 shows it in `a0`: anything but success.
#[must_use]
pub const fn is_error(a0: u64) -> bool {
    a0 != 0
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn extension_ids_are_their_names() {
        for (id, name) in
            [(ExtensionId::SUPD, b"SUPD"), (ExtensionId::COVH, b"COVH"), (ExtensionId::COVG, b"COVG")]
        {
            assert_eq!(id.0, u64::from(u32::from_be_bytes(*name)));
        }
        assert_eq!(ExtensionId::COVI.0, u64::from(u32::from_be_bytes(*b"COVI")));
        assert_eq!(ExtensionId::DBCN.0, u64::from(u32::from_be_bytes(*b"DBCN")));
        assert_eq!(ExtensionId::SRST.0, u64::from(u32::from_be_bytes(*b"SRST")));
    }

    #[test]
    fn a6_holds_function_and_domain() {
        let a6 = FunctionId::from(0x0c00_0008);
        assert_eq!((a6.fid(), a6.sdid(), a6.reserved_16()), (8, 3, 0));
        assert_eq!(FunctionId::from(0x3ff_0000).reserved_16(), 0x3ff);
        assert_eq!(FunctionId::from(1 << 32).reserved_32(), 1);
    }

    #[test]
    fn errors_are_negative_registers() {
        assert_eq!(SbiError::INVALID_PARAM.to_register(), u64::MAX - 2);
        assert_eq!(SbiError::from_register(u64::MAX - 4), SbiError::INVALID_ADDRESS);
        assert_eq!(SbiError::from_register(7).to_string(), "0x7");
        let ours = [SbiError::AUTH, SbiError::BUSY, SbiError::OUT_OF_MEMORY, SbiError::OUT_OF_PTPAGES];
        assert!(ours.iter().all(|code| code.0 < -1000));
    }
}
