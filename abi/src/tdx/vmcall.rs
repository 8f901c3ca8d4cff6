//! `TDG.VP.VMCALL`: what a TD asks its host (348552 Guest-Host-Communication Interface for Intel TDX 1.5, chapter 3;
//! 344426 for version 1.0).
//!
//! `R10` = 0 and `R11` = sub-function go in, `R10` = [`VmcallStatus`] comes out; operands are in `R12` to `R15`.
//!
//! | sub-function | in | out |
//! |---|---|---|
//! | `GetTdVmCallInfo` | `R12`: leaf 0 or 1 | `R11` to `R14`: leaf 0, zero; leaf 1, what is supported beyond the base |
//! | `MapGPA` | `R12`: address with or without the shared bit, `R13`: size | `R11`: on RETRY or an error, the address to go on from |
//! | `GetQuote` | `R12`: shared buffer, `R13`: its size; both page-aligned | – |
//! | `ReportFatalError` | `R12`: [`FatalError`], `R13`: shared page, other registers: text | does not return |
//! | `SetupEventNotifyInterrupt` | `R12`: vector, 32 to 255 | – |
//! | `Service` | `R12`: command, `R13`: response, both shared, `R14`: vector or 0, `R15`: timeout in ms or 0 | – |
//! | `Instruction.CPUID` | `R12`: leaf, `R13`: sub-leaf | `R12` to `R15`: EAX, EBX, ECX, EDX |
//! | `Instruction.HLT` | `R12`: interrupts are blocked | – |
//! | `Instruction.IO` | `R12`: size 1, 2, 4, `R13`: [`Direction`], `R14`: port, `R15`: value | `R11`: value |
//! | `Instruction.RDMSR` | `R12`: MSR | `R11`: value |
//! | `Instruction.WRMSR` | `R12`: MSR, `R13`: value | – |
//! | `#VE.RequestMMIO` | `R12`: size 1, 2, 4, 8, `R13`: [`Direction`], `R14`: address, `R15`: value | `R11`: value |

use bitfield_struct::bitfield;
use zerocopy::little_endian::U32;

use crate::guid::Guid;

/// `R10` of a TDVMCALL that follows the GHCI; other values are the vendor's.
pub const STANDARD: u64 = 0;

open_codes! {
    /// `R11`: which sub-function. Below 1_0000h they are VM-exit reasons.
    pub struct VmcallSubFunction(u64);
    /// `Instruction.CPUID`.
    INSTRUCTION_CPUID = 10;
    /// `Instruction.HLT`.
    INSTRUCTION_HLT = 12;
    /// `Instruction.IO`.
    INSTRUCTION_IO = 30;
    /// `Instruction.RDMSR`.
    INSTRUCTION_RDMSR = 31;
    /// `Instruction.WRMSR`.
    INSTRUCTION_WRMSR = 32;
    /// `#VE.RequestMMIO`.
    VE_REQUEST_MMIO = 48;
    /// `Instruction.WBINVD`.
    INSTRUCTION_WBINVD = 54;
    /// `Instruction.PCONFIG`.
    INSTRUCTION_PCONFIG = 65;
    /// `GetTdVmCallInfo`.
    GET_TD_VM_CALL_INFO = 0x1_0000;
    /// `MapGPA`.
    MAP_GPA = 0x1_0001;
    /// `GetQuote`.
    GET_QUOTE = 0x1_0002;
    /// `ReportFatalError`.
    REPORT_FATAL_ERROR = 0x1_0003;
    /// `SetupEventNotifyInterrupt`.
    SETUP_EVENT_NOTIFY_INTERRUPT = 0x1_0004;
    /// `Service`.
    SERVICE = 0x1_0005;
}

open_codes! {
    /// `R10` on return.
    pub struct VmcallStatus(u64);
    /// Done.
    SUCCESS = 0;
    /// Done in part; call again from where `R11` says (`MapGPA`).
    RETRY = 1;
    /// An operand is invalid.
    INVALID_OPERAND = 0x8000_0000_0000_0000;
    /// The address is in use (`MapGPA`).
    GPA_INUSE = 0x8000_0000_0000_0001;
    /// An address or size is not aligned.
    ALIGN_ERROR = 0x8000_0000_0000_0002;
    /// The sub-function is not supported.
    SUBFUNC_UNSUPPORTED = 0x8000_0000_0000_0003;
}

open_codes! {
    /// `R13` of `Instruction.IO` and `#VE.RequestMMIO`.
    pub struct Direction(u64);
    /// To the guest.
    READ = 0;
    /// From the guest.
    WRITE = 1;
}

/// `R11` of `GetTdVmCallInfo` leaf 1 (GHCI 1.5): sub-functions beyond the base that the host supports.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SupportedSubFunctions {
    /// `GetQuote`.
    pub get_quote: bool,
    /// `SetupEventNotifyInterrupt`.
    pub setup_event_notify_interrupt: bool,
    /// Of other sub-functions.
    #[bits(62)]
    pub reserved: u64,
}

/// Vectors that `SetupEventNotifyInterrupt` and `Service` take.
pub const EVENT_NOTIFY_VECTORS: core::ops::RangeInclusive<u64> = 32..=255;

/// `R12` of `ReportFatalError`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FatalError {
    /// 0: panic; the rest is the TD's own.
    pub error_code: u32,
    /// Extended code of the TD.
    #[bits(31)]
    pub extended: u32,
    /// `R13` is the address of a shared page that tells more.
    pub gpa_valid: bool,
}

/// The registers that hold the text of `ReportFatalError`, eight bytes each, in the order of the text, by their
/// encoding: `R14`, `R15`, `RBX`, `RDI`, `RSI`, `R8`, `R9`, `RDX`.
pub const FATAL_ERROR_TEXT_REGISTERS: [u8; 8] = [14, 15, 3, 7, 6, 8, 9, 2];

wire! {
    /// Head of the command and of the response buffer of `Service`; data follow. Both lie in shared pages.
    pub struct ServiceHeader {
        /// Which service.
        pub guid: Guid,
        /// Size of head and data; in a response buffer before the call, its capacity.
        pub length: U32,
        /// Command: reserved, zero. Response: a [`ServiceStatus`].
        pub status: U32,
    }
}
assert_layout!(ServiceHeader, 24, { guid: 0x0, length: 0x10, status: 0x14 });

open_codes! {
    /// `STATUS` of a response of `Service`.
    pub struct ServiceStatus(u32);
    /// Done.
    SUCCESS = 0;
    /// The device failed.
    DEVICE_ERROR = 1;
    /// The timeout passed.
    TIMEOUT = 2;
    /// The response buffer is too small; its length says what is needed.
    RESPONSE_BUFFER_TOO_SMALL = 3;
    /// The command buffer's length is wrong.
    BAD_COMMAND_BUFFER_SIZE = 4;
    /// The response buffer's length is wrong.
    BAD_RESPONSE_BUFFER_SIZE = 5;
    /// The service is busy.
    SERVICE_BUSY = 6;
    /// A parameter is invalid.
    INVALID_PARAMETER = 7;
    /// Resources are exhausted.
    OUT_OF_RESOURCE = 8;
    /// The service or command is not supported.
    UNSUPPORTED = 0xffff_fffe;
    /// What the guest puts there before the call.
    RESERVED = 0xffff_ffff;
}

/// `Service.Query`, fb6fc5e1-3378-4acb-8964-fa5ee43b9c8a.
pub const SERVICE_QUERY_GUID: Guid = Guid::from_fields(0xfb6f_c5e1, 0x3378, 0x4acb, 0x8964_fa5e_e43b_9c8a);
/// `Service.MigTD`, e60e6330-1e09-4387-a444-8f32b8d611e5.
pub const SERVICE_MIGTD_GUID: Guid = Guid::from_fields(0xe60e_6330, 0x1e09, 0x4387, 0xa444_8f32_b8d6_11e5);

wire! {
    /// Command of `Service.Query`.
    pub struct ServiceQueryCommand {
        /// Version: 0.
        pub version: u8,
        /// Command: 0.
        pub command: u8,
        /// Reserved, zero.
        pub reserved: [u8; 2],
        /// The service asked about.
        pub guid: Guid,
    }
}
assert_layout!(ServiceQueryCommand, 20, { version: 0x0, command: 0x1, reserved: 0x2, guid: 0x4 });

wire! {
    /// Response of `Service.Query`.
    pub struct ServiceQueryResponse {
        /// Version: 0.
        pub version: u8,
        /// Command: 0.
        pub command: u8,
        /// 0: the service is supported; 1: it is not.
        pub status: u8,
        /// Reserved, zero.
        pub reserved: u8,
        /// The service asked about.
        pub guid: Guid,
    }
}
assert_layout!(ServiceQueryResponse, 20, { version: 0x0, command: 0x1, status: 0x2, reserved: 0x3, guid: 0x4 });

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn codes_print_with_their_names() {
        assert_eq!(VmcallSubFunction::GET_QUOTE.to_string(), "GET_QUOTE (0x10002)");
        assert_eq!(VmcallSubFunction(0x1_0009).to_string(), "0x10009");
        assert_eq!(SERVICE_QUERY_GUID.to_string(), "fb6fc5e1-3378-4acb-8964-fa5ee43b9c8a");
    }

    #[test]
    fn a_fatal_error_has_its_page_flag_on_top() {
        assert_eq!(u64::from(FatalError::new().with_gpa_valid(true).with_error_code(7)), 1 << 63 | 7);
    }

    #[test]
    fn vectors_below_32_are_exceptions() {
        assert!(!EVENT_NOTIFY_VECTORS.contains(&31) && !EVENT_NOTIFY_VECTORS.contains(&256));
        assert!(EVENT_NOTIFY_VECTORS.contains(&32));
    }
}
