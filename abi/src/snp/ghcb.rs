//! The GHCB page (56421 rev. 2.04, section 2.6, table 4), its exit codes (table 7) and the hypervisor's answers.

use zerocopy::little_endian::{U16, U32, U64};

wire! {
    /// The guest-hypervisor communication block: one shared page. Field names and places are the VMSA's.
    pub struct Ghcb {
        /// Reserved.
        pub reserved_0x0: [u8; 0xcb],
        /// Current privilege level.
        pub cpl: u8,
        /// Reserved.
        pub reserved_0xcc: [u8; 0x74],
        /// `IA32_XSS`.
        pub xss: U64,
        /// Reserved.
        pub reserved_0x148: [u8; 0x18],
        /// DR7.
        pub dr7: U64,
        /// Reserved.
        pub reserved_0x168: [u8; 0x10],
        /// RIP.
        pub rip: U64,
        /// Reserved.
        pub reserved_0x180: [u8; 0x58],
        /// RSP.
        pub rsp: U64,
        /// Reserved.
        pub reserved_0x1e0: [u8; 0x18],
        /// RAX; for an extended guest request the guest-physical address of the certificate buffer.
        pub rax: U64,
        /// Reserved.
        pub reserved_0x200: [u8; 0x108],
        /// RCX.
        pub rcx: U64,
        /// RDX.
        pub rdx: U64,
        /// RBX; for an extended guest request the number of pages of the certificate buffer.
        pub rbx: U64,
        /// Reserved.
        pub reserved_0x320: [u8; 8],
        /// RBP.
        pub rbp: U64,
        /// RSI.
        pub rsi: U64,
        /// RDI.
        pub rdi: U64,
        /// R8 to R15.
        pub r8_r15: [U64; 8],
        /// Reserved.
        pub reserved_0x380: [u8; 0x10],
        /// Why the guest exits: an [`ExitCode`].
        pub sw_exit_code: U64,
        /// In: first operand of the exit. Out: [`ExitInfo1`].
        pub sw_exit_info_1: U64,
        /// In: second operand of the exit. Out: what goes with [`ExitInfo1`], or the exit's own result.
        pub sw_exit_info_2: U64,
        /// Guest-physical address of a scratch area.
        pub sw_scratch: U64,
        /// Reserved.
        pub reserved_0x3b0: [u8; 0x38],
        /// XCR0.
        pub xcr0: U64,
        /// Bit n: the quadword at offset 8 n holds a value for the other side.
        pub valid_bitmap: [u8; 16],
        /// Guest-physical address of x87 state.
        pub x87_state_gpa: U64,
        /// Reserved.
        pub reserved_0x408: [u8; 0x3f8],
        /// Scratch space inside the page.
        pub shared_buffer: [u8; SHARED_BUFFER_SIZE],
        /// Reserved.
        pub reserved_0xff0: [u8; 10],
        /// The negotiated protocol version.
        pub protocol_version: U16,
        /// Zero: the page is laid out as here.
        pub ghcb_usage: U32,
    }
}
assert_layout!(Ghcb, 4096, {
    reserved_0x0: 0x0, cpl: 0xcb, reserved_0xcc: 0xcc, xss: 0x140, reserved_0x148: 0x148, dr7: 0x160,
    reserved_0x168: 0x168, rip: 0x178, reserved_0x180: 0x180, rsp: 0x1d8, reserved_0x1e0: 0x1e0, rax: 0x1f8,
    reserved_0x200: 0x200, rcx: 0x308, rdx: 0x310, rbx: 0x318, reserved_0x320: 0x320, rbp: 0x328, rsi: 0x330,
    rdi: 0x338, r8_r15: 0x340, reserved_0x380: 0x380, sw_exit_code: 0x390, sw_exit_info_1: 0x398,
    sw_exit_info_2: 0x3a0, sw_scratch: 0x3a8, reserved_0x3b0: 0x3b0, xcr0: 0x3e8, valid_bitmap: 0x3f0,
    x87_state_gpa: 0x400, reserved_0x408: 0x408, shared_buffer: 0x800, reserved_0xff0: 0xff0,
    protocol_version: 0xffa, ghcb_usage: 0xffc,
});

/// Bytes of [`Ghcb::shared_buffer`].
pub const SHARED_BUFFER_SIZE: usize = 0x7f0;
/// Offset of [`Ghcb::shared_buffer`] in the page.
pub const SHARED_BUFFER_OFFSET: u64 = 0x800;

/// A field of the GHCB that the valid bitmap covers, by its offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GhcbField(u16);

impl GhcbField {
    /// `CPL`, part of the quadword at 0xc8.
    pub const CPL: Self = Self(0xc8);
    /// `XSS`.
    pub const XSS: Self = Self(0x140);
    /// `DR7`.
    pub const DR7: Self = Self(0x160);
    /// `RSP`.
    pub const RSP: Self = Self(0x1d8);
    /// `RAX`.
    pub const RAX: Self = Self(0x1f8);
    /// `RCX`.
    pub const RCX: Self = Self(0x308);
    /// `RDX`.
    pub const RDX: Self = Self(0x310);
    /// `RBX`.
    pub const RBX: Self = Self(0x318);
    /// `RSI`.
    pub const RSI: Self = Self(0x330);
    /// `RDI`.
    pub const RDI: Self = Self(0x338);
    /// `R8`.
    pub const R8: Self = Self(0x340);
    /// `SW_EXITCODE`.
    pub const SW_EXIT_CODE: Self = Self(0x390);
    /// `SW_EXITINFO1`.
    pub const SW_EXIT_INFO_1: Self = Self(0x398);
    /// `SW_EXITINFO2`.
    pub const SW_EXIT_INFO_2: Self = Self(0x3a0);
    /// `SW_SCRATCH`.
    pub const SW_SCRATCH: Self = Self(0x3a8);
    /// `XCR0`.
    pub const XCR0: Self = Self(0x3e8);

    /// Offset of the field's quadword.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.0 as usize
    }

    const fn bit(self) -> (usize, u8) {
        let bit = self.offset() / 8;
        (bit / 8, 1 << (bit % 8))
    }
}

impl Ghcb {
    /// Whether the valid bitmap marks the field.
    #[must_use]
    pub const fn is_valid(&self, field: GhcbField) -> bool {
        let (byte, mask) = field.bit();
        self.valid_bitmap[byte] & mask != 0
    }

    /// Marks the field in the valid bitmap.
    pub const fn set_valid(&mut self, field: GhcbField) {
        let (byte, mask) = field.bit();
        self.valid_bitmap[byte] |= mask;
    }

    /// Clears the valid bitmap, as a guest does before each exit.
    pub const fn clear_valid(&mut self) {
        self.valid_bitmap = [0; 16];
    }
}

open_codes! {
    /// `SW_EXITCODE`: an SVM exit code for an emulated instruction, or a software-defined one.
    pub struct ExitCode(u64);
    /// Read of DR7.
    READ_DR7 = 0x27;
    /// Write of DR7.
    WRITE_DR7 = 0x37;
    /// RDTSC.
    RDTSC = 0x6e;
    /// RDPMC.
    RDPMC = 0x6f;
    /// CPUID.
    CPUID = 0x72;
    /// INVD.
    INVD = 0x76;
    /// HLT, in the table of optional events.
    HLT = 0x78;
    /// Port input and output.
    IOIO = 0x7b;
    /// RDMSR (`SW_EXITINFO1` 0) and WRMSR (1).
    MSR = 0x7c;
    /// Shutdown, in the table of optional events.
    SHUTDOWN = 0x7f;
    /// VMMCALL.
    VMMCALL = 0x81;
    /// RDTSCP.
    RDTSCP = 0x87;
    /// WBINVD.
    WBINVD = 0x89;
    /// MONITOR, MONITORX.
    MONITOR = 0x8a;
    /// MWAIT, MWAITX.
    MWAIT = 0x8b;
    /// Nested page fault.
    NPF = 0x400;
    /// MMIO read.
    MMIO_READ = 0x8000_0001;
    /// MMIO write.
    MMIO_WRITE = 0x8000_0002;
    /// NMI complete.
    NMI_COMPLETE = 0x8000_0003;
    /// AP reset hold.
    AP_RESET_HOLD = 0x8000_0004;
    /// AP jump table.
    AP_JUMP_TABLE = 0x8000_0005;
    /// SNP page state change by buffer.
    PAGE_STATE_CHANGE = 0x8000_0010;
    /// SNP guest request.
    GUEST_REQUEST = 0x8000_0011;
    /// SNP extended guest request.
    EXTENDED_GUEST_REQUEST = 0x8000_0012;
    /// SNP AP creation.
    AP_CREATION = 0x8000_0013;
    /// #HV doorbell page.
    HV_DOORBELL_PAGE = 0x8000_0014;
    /// #HV interprocessor interrupt.
    HV_IPI = 0x8000_0015;
    /// #HV timer.
    HV_TIMER = 0x8000_0016;
    /// APIC ID list.
    APIC_ID_LIST = 0x8000_0017;
    /// Run at VMPL.
    RUN_VMPL = 0x8000_0018;
    /// Secure AVIC.
    SECURE_AVIC = 0x8000_001a;
    /// Hypervisor feature support.
    HYPERVISOR_FEATURES = 0x8000_fffd;
    /// Termination request.
    TERMINATION_REQUEST = 0x8000_fffe;
    /// Unsupported event: the guest saw a #VC that it cannot handle.
    UNSUPPORTED_EVENT = 0x8000_ffff;
}

open_codes! {
    /// `SW_EXITINFO1`, low 32 bits, as the hypervisor leaves it (56421, section 4.1, table 6).
    pub struct ExitInfo1(u32);
    /// The exit was served, or its own result stands in `SW_EXITINFO2`.
    NO_ACTION = 0;
    /// The guest is to raise the exception in `SW_EXITINFO2` (the layout of EVENTINJ).
    ISSUE_EXCEPTION = 1;
    /// The request was malformed; `SW_EXITINFO2` is a [`MalformedInput`].
    MALFORMED_INPUT = 2;
}

open_codes! {
    /// `SW_EXITINFO2` with [`ExitInfo1::MALFORMED_INPUT`] (56421, section 4.1, table 6).
    pub struct MalformedInput(u64);
    /// The GHCB's address was not registered.
    GHCB_NOT_REGISTERED = 1;
    /// `GHCB_USAGE` is not one that the hypervisor knows.
    INVALID_GHCB_USAGE = 2;
    /// `SW_SCRATCH` lies where the hypervisor cannot use it.
    INVALID_SCRATCH_AREA = 3;
    /// A field that the exit needs is not marked in the valid bitmap.
    MISSING_INPUT = 4;
    /// A field holds an invalid value.
    INVALID_INPUT = 5;
    /// The exit code is unknown or not supported.
    INVALID_EVENT = 6;
}

/// Event injection value (APM volume 2, section 15.20): a hardware exception without (#UD) or with (#GP) error code.
#[must_use]
pub const fn event_injection(vector: u8, error_code: Option<u32>) -> u64 {
    let base = 1 << 31 | 3 << 8 | vector as u64;
    match error_code {
        Some(code) => base | 1 << 11 | (code as u64) << 32,
        None => base,
    }
}

open_codes! {
    /// `SW_EXITINFO2`, high 32 bits, of a guest request: what the hypervisor (not the firmware) says
    /// (56421, sections 4.1.7 and 4.1.8). The low 32 bits are the firmware's status.
    pub struct HostRequestError(u32);
    /// None.
    NONE = 0;
    /// The certificate buffer is too small; RBX holds the pages needed.
    INVALID_LEN = 1;
    /// The hypervisor is busy; the guest is to send the *same* message again.
    BUSY = 2;
    /// Anything else.
    GENERIC = 0xffff_ffff;
}

/// `SW_EXITINFO2` of a guest request.
#[must_use]
pub const fn guest_request_result(host: HostRequestError, firmware: super::status::FirmwareStatus) -> u64 {
    (host.0 as u64) << 32 | firmware.0 as u64
}

open_codes! {
    /// `SW_EXITINFO1`, low 32 bits, of an AP creation request (56421, section 4.1.9); the APIC ID stands in the high 32.
    pub struct ApCreationRequest(u32);
    /// Use the VMSA at the AP's next INIT.
    CREATE_ON_INIT = 0;
    /// Run the AP with the VMSA now.
    CREATE = 1;
    /// End the AP.
    DESTROY = 2;
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn valid_bitmap_bits_are_where_linux_sets_them() {
        let mut ghcb = Ghcb::new_zeroed();
        ghcb.set_valid(GhcbField::SW_EXIT_CODE);
        assert_eq!(0x390 / 8, 114);
        assert_eq!(ghcb.valid_bitmap[114 / 8], 1 << (114 % 8));
        assert!(ghcb.is_valid(GhcbField::SW_EXIT_CODE) && !ghcb.is_valid(GhcbField::SW_EXIT_INFO_1));
        ghcb.clear_valid();
        assert!(!ghcb.is_valid(GhcbField::SW_EXIT_CODE));
    }

    #[test]
    fn injected_exceptions() {
        assert_eq!(event_injection(6, None), 0x8000_0306);
        assert_eq!(event_injection(13, Some(0)), 0x8000_0b0d);
    }

    #[test]
    fn unknown_codes_survive() {
        assert_eq!(std::format!("{}", ExitCode(0x1234)), "0x1234");
        assert_eq!(std::format!("{}", ExitCode::GUEST_REQUEST), "GUEST_REQUEST (0x80000011)");
    }
}
