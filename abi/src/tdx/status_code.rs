//! The codes of [`super::status`].

use super::status::{CompletionStatus, OperandId};

open_codes! {
    /// The upper half of a completion status: flags, class and first-level details; what `RAX` says without its
    /// second-level details.
    pub struct StatusCode(u32);
    /// The function completed.
    SUCCESS = 0x0000_0000;
    /// The VCPU cannot be entered again.
    NON_RECOVERABLE_VCPU = 0x4000_0001;
    /// The TD cannot be entered again.
    NON_RECOVERABLE_TD = 0x6000_0002;
    /// Interrupted; call again with the same operands to go on.
    INTERRUPTED_RESUMABLE = 0x8000_0003;
    /// Interrupted; call again to start over.
    INTERRUPTED_RESTARTABLE = 0x8000_0004;
    /// The TD cannot be entered again, nor its memory read.
    NON_RECOVERABLE_TD_NON_ACCESSIBLE = 0x6000_0005;
    /// Another function was resumed than the one that was interrupted.
    INVALID_RESUMPTION = 0xc000_0006;
    /// The TD cannot be entered: the local APIC is in the wrong mode.
    NON_RECOVERABLE_TD_WRONG_APIC_MODE = 0xe000_0007;
    /// A fault-like exit of another TD.
    CROSS_TD_FAULT = 0x8000_0008;
    /// A trap-like exit of another TD.
    CROSS_TD_TRAP = 0x9000_0009;
    /// The TD's metadata is corrupted.
    NON_RECOVERABLE_TD_CORRUPTED_MD = 0x6000_000a;
    /// An operand is invalid; details name it.
    OPERAND_INVALID = 0xc000_0100;
    /// An operand's address is out of range.
    OPERAND_ADDR_RANGE_ERROR = 0xc000_0101;
    /// An operand is in use by another function.
    OPERAND_BUSY = 0x8000_0200;
    /// VCPUs of the previous TLB epoch still run.
    PREVIOUS_TLB_EPOCH_BUSY = 0x8000_0201;
    /// The module is busy with a system function.
    SYS_BUSY = 0x8000_0202;
    /// RDRAND or RDSEED gave no number; may be retried.
    RND_NO_ENTROPY = 0x8000_0203;
    /// An operand is busy and the host has priority over the guest.
    OPERAND_BUSY_HOST_PRIORITY = 0x8000_0204;
    /// The guest held off the host for too long.
    HOST_PRIORITY_BUSY_TIMEOUT = 0x9000_0205;
    /// A physical page's metadata does not allow this.
    PAGE_METADATA_INCORRECT = 0xc000_0300;
    /// The physical page is free already.
    PAGE_ALREADY_FREE = 0x0000_0301;
    /// The physical page belongs to another TD.
    PAGE_NOT_OWNED_BY_TD = 0xc000_0302;
    /// The physical page is not free.
    PAGE_NOT_FREE = 0xc000_0303;
    /// Pages still belong to the TD.
    TD_ASSOCIATED_PAGES_EXIST = 0xc000_0400;
    /// TDH.SYS.INIT is not the step that is due.
    SYS_INIT_NOT_PENDING = 0xc000_0500;
    /// TDH.SYS.LP.INIT was not called on this logical processor.
    SYS_LP_INIT_NOT_DONE = 0xc000_0502;
    /// TDH.SYS.LP.INIT was called on this logical processor already.
    SYS_LP_INIT_DONE = 0xc000_0503;
    /// The module is not initialised yet.
    SYS_NOT_READY = 0xc000_0505;
    /// The module is being shut down.
    SYS_SHUTDOWN = 0xc000_0506;
    /// TDH.SYS.KEY.CONFIG is not the step that is due.
    SYS_KEY_CONFIG_NOT_PENDING = 0xc000_0507;
    /// The module's state does not allow this.
    SYS_STATE_INCORRECT = 0xc000_0508;
    /// Handoff data of the previous module is invalid.
    SYS_INVALID_HANDOFF = 0xc000_0509;
    /// The new module's SIGSTRUCT is not compatible.
    SYS_INCOMPATIBLE_SIGSTRUCT = 0xc000_050a;
    /// TDH.SYS.LP.INIT is not the step that is due.
    SYS_LP_INIT_NOT_PENDING = 0xc000_050b;
    /// TDH.SYS.CONFIG is not the step that is due.
    SYS_CONFIG_NOT_PENDING = 0xc000_050c;
    /// The processor lacks SEAM capabilities that the module needs.
    INCOMPATIBLE_SEAM_CAPABILITIES = 0xc000_050d;
    /// The TD is in a fatal state.
    TD_FATAL = 0xe000_0604;
    /// The TD is not a debug TD.
    TD_NON_DEBUG = 0xc000_0605;
    /// The TD's control structure is not allocated.
    TDCS_NOT_ALLOCATED = 0xc000_0606;
    /// The TD's life cycle state does not allow this.
    LIFECYCLE_STATE_INCORRECT = 0xc000_0607;
    /// The TD's operation state does not allow this (before or after TDH.MR.FINALIZE, say).
    OP_STATE_INCORRECT = 0xc000_0608;
    /// The TD has no VCPU.
    NO_VCPUS = 0xc000_0609;
    /// The number of TDCX pages is wrong.
    TDCX_NUM_INCORRECT = 0xc000_0610;
    /// The VCPU's state does not allow this.
    VCPU_STATE_INCORRECT = 0xc000_0700;
    /// The VCPU is associated with another logical processor.
    VCPU_ASSOCIATED = 0x8000_0701;
    /// The VCPU is not associated with this logical processor.
    VCPU_NOT_ASSOCIATED = 0x8000_0702;
    /// There is no virtualization exception to report.
    NO_VALID_VE_INFO = 0xc000_0704;
    /// The TD has its maximum of VCPUs already.
    MAX_VCPUS_EXCEEDED = 0xc000_0705;
    /// The time-stamp counter went back.
    TSC_ROLLBACK = 0xc000_0706;
    /// A VMCS field was not initialised.
    TD_VMCS_FIELD_NOT_INITIALIZED = 0xc000_0730;
    /// A VMCS field is wrong.
    TD_VMCS_FIELD_ERROR = 0xc000_0731;
    /// The processor could not make a key; may be retried.
    KEY_GENERATION_FAILED = 0x8000_0800;
    /// TDH.MNG.KEY.CONFIG was not called for the TD on all packages.
    TD_KEYS_NOT_CONFIGURED = 0x8000_0810;
    /// The key's state does not allow this.
    KEY_STATE_INCORRECT = 0xc000_0811;
    /// The key is configured on this package already.
    KEY_CONFIGURED = 0x0000_0815;
    /// Write-back of caches is not complete.
    WBCACHE_NOT_COMPLETE = 0x8000_0817;
    /// The key identifier is in use.
    HKID_NOT_FREE = 0xc000_0820;
    /// No key identifier waits for a write-back.
    NO_HKID_READY_TO_WBCACHE = 0x0000_0821;
    /// Write-back of caches cannot be resumed here.
    WBCACHE_RESUME_ERROR = 0xc000_0823;
    /// TDH.VP.FLUSH was not called for all VCPUs.
    FLUSHVP_NOT_DONE = 0x8000_0824;
    /// The number of activated key identifiers is not supported.
    NUM_ACTIVATED_HKIDS_NOT_SUPPORTED = 0xc000_0825;
    /// A CPUID value is not what the module needs.
    INCORRECT_CPUID_VALUE = 0xc000_0900;
    /// IA32_MISC_ENABLES limits the CPUID leaves.
    LIMIT_CPUID_MAXVAL_SET = 0xc000_0901;
    /// A CPUID field differs between logical processors.
    INCONSISTENT_CPUID_FIELD = 0xc000_0902;
    /// The number of CPUID sub-leaves is not recognised.
    CPUID_MAX_SUBLEAVES_UNRECOGNIZED = 0xc000_0903;
    /// The format of CPUID leaf 1Fh is not recognised.
    CPUID_LEAF_1F_FORMAT_UNRECOGNIZED = 0xc000_0904;
    /// The scope of WBINVD is not supported.
    INVALID_WBINVD_SCOPE = 0xc000_0905;
    /// The package identifier is out of range.
    INVALID_PKG_ID = 0xc000_0906;
    /// IA32_MISC_ENABLES does not enable MONITOR.
    ENABLE_MONITOR_FSM_NOT_SET = 0xc000_0907;
    /// The CPUID leaf is not supported.
    CPUID_LEAF_NOT_SUPPORTED = 0xc000_0908;
    /// An SMRR is not locked.
    SMRR_NOT_LOCKED = 0xc000_0910;
    /// An SMRR is configured wrongly.
    INVALID_SMRR_CONFIGURATION = 0xc000_0911;
    /// An SMRR overlaps convertible memory.
    SMRR_OVERLAPS_CMR = 0xc000_0912;
    /// SMRR locking is not supported.
    SMRR_LOCK_NOT_SUPPORTED = 0xc000_0913;
    /// SMRRs are not supported.
    SMRR_NOT_SUPPORTED = 0xc000_0914;
    /// An MSR differs between logical processors.
    INCONSISTENT_MSR = 0xc000_0920;
    /// An MSR's value is not what the module needs.
    INCORRECT_MSR_VALUE = 0xc000_0921;
    /// The processor lacks SEAMREPORT.
    SEAMREPORT_NOT_AVAILABLE = 0xc000_0930;
    /// The processor lacks SEAMDB_GETREF.
    SEAMDB_GETREF_NOT_AVAILABLE = 0xc000_0931;
    /// The processor lacks SEAMDB_REPORT.
    SEAMDB_REPORT_NOT_AVAILABLE = 0xc000_0932;
    /// The processor lacks SEAMVERIFYREPORT.
    SEAMVERIFYREPORT_NOT_AVAILABLE = 0xc000_0933;
    /// A TDMR is invalid.
    INVALID_TDMR = 0xc000_0a00;
    /// TDMRs are not in ascending order.
    NON_ORDERED_TDMR = 0xc000_0a01;
    /// A TDMR is not inside convertible memory.
    TDMR_OUTSIDE_CMRS = 0xc000_0a02;
    /// The TDMR is initialised already.
    TDMR_ALREADY_INITIALIZED = 0x0000_0a03;
    /// A PAMT is invalid.
    INVALID_PAMT = 0xc000_0a10;
    /// A PAMT is not inside convertible memory.
    PAMT_OUTSIDE_CMRS = 0xc000_0a11;
    /// A PAMT overlaps another range.
    PAMT_OVERLAP = 0xc000_0a12;
    /// A reserved area of a TDMR is invalid.
    INVALID_RESERVED_IN_TDMR = 0xc000_0a20;
    /// Reserved areas of a TDMR are not in ascending order.
    NON_ORDERED_RESERVED_IN_TDMR = 0xc000_0a21;
    /// The list of convertible memory is invalid.
    CMR_LIST_INVALID = 0xc000_0a22;
    /// The secure EPT has no entry at the level asked for.
    EPT_WALK_FAILED = 0xc000_0b00;
    /// The secure EPT entry is free.
    EPT_ENTRY_FREE = 0xc000_0b01;
    /// The secure EPT entry is not free.
    EPT_ENTRY_NOT_FREE = 0xc000_0b02;
    /// The secure EPT entry is not present.
    EPT_ENTRY_NOT_PRESENT = 0xc000_0b03;
    /// The secure EPT entry is not a leaf.
    EPT_ENTRY_NOT_LEAF = 0xc000_0b04;
    /// The secure EPT entry is a leaf.
    EPT_ENTRY_LEAF = 0xc000_0b05;
    /// The range is not blocked.
    GPA_RANGE_NOT_BLOCKED = 0xc000_0b06;
    /// The range is blocked already.
    GPA_RANGE_ALREADY_BLOCKED = 0x0000_0b07;
    /// TLB tracking is not complete.
    TLB_TRACKING_NOT_DONE = 0xc000_0b08;
    /// The pages cannot be promoted to a large one.
    EPT_INVALID_PROMOTE_CONDITIONS = 0xc000_0b09;
    /// The page was accepted before; details give its level.
    PAGE_ALREADY_ACCEPTED = 0x0000_0b0a;
    /// The page is mapped at another size; details give its level.
    PAGE_SIZE_MISMATCH = 0xc000_0b0b;
    /// The range is blocked.
    GPA_RANGE_BLOCKED = 0xc000_0b0c;
    /// The secure EPT entry's state does not allow this.
    EPT_ENTRY_STATE_INCORRECT = 0xc000_0b0d;
    /// The secure EPT page is not free.
    EPT_PAGE_NOT_FREE = 0xc000_0b0e;
    /// The L2 secure EPT has no entry at the level asked for.
    L2_SEPT_WALK_FAILED = 0xc000_0b0f;
    /// The L2 secure EPT entry is not free.
    L2_SEPT_ENTRY_NOT_FREE = 0xc000_0b10;
    /// Page attributes are invalid.
    PAGE_ATTR_INVALID = 0xc000_0b11;
    /// No page was given for an L2 secure EPT.
    L2_SEPT_PAGE_NOT_PROVIDED = 0xc000_0b12;
    /// The field identifier is unknown or malformed.
    METADATA_FIELD_ID_INCORRECT = 0xc000_0c00;
    /// The field, or the bits of the mask, cannot be written.
    METADATA_FIELD_NOT_WRITABLE = 0xc000_0c01;
    /// The field cannot be read.
    METADATA_FIELD_NOT_READABLE = 0xc000_0c02;
    /// The field cannot have this value.
    METADATA_FIELD_VALUE_NOT_VALID = 0xc000_0c03;
    /// A metadata list does not fit into its buffer.
    METADATA_LIST_OVERFLOW = 0xc000_0c04;
    /// A metadata list's header is invalid.
    INVALID_METADATA_LIST_HEADER = 0xc000_0c05;
    /// A metadata list lacks a field.
    REQUIRED_METADATA_FIELD_MISSING = 0xc000_0c06;
    /// An element has the wrong size.
    METADATA_ELEMENT_SIZE_INCORRECT = 0xc000_0c07;
    /// The last element's number is wrong.
    METADATA_LAST_ELEMENT_INCORRECT = 0xc000_0c08;
    /// The field cannot be written now.
    METADATA_FIELD_CURRENTLY_NOT_WRITABLE = 0xc000_0c09;
    /// The write mask is invalid.
    METADATA_WR_MASK_NOT_VALID = 0xc000_0c0a;
    /// No field was asked for; the first one's identifier is returned.
    METADATA_FIRST_FIELD_ID_IN_CONTEXT = 0x0000_0c0b;
    /// The field is skipped.
    METADATA_FIELD_SKIP = 0x0000_0c0c;
    /// A service TD of this type is bound already.
    SERVTD_ALREADY_BOUND_FOR_TYPE = 0xc000_0d00;
    /// The service TD's type is another one.
    SERVTD_TYPE_MISMATCH = 0xc000_0d01;
    /// The service TD's attributes are others.
    SERVTD_ATTR_MISMATCH = 0xc000_0d02;
    /// The service TD's TDINFO hash is another one.
    SERVTD_INFO_HASH_MISMATCH = 0xc000_0d03;
    /// The service TD's UUID is another one.
    SERVTD_UUID_MISMATCH = 0xc000_0d04;
    /// The service TD is not bound.
    SERVTD_NOT_BOUND = 0xc000_0d05;
    /// The service TD is bound.
    SERVTD_BOUND = 0xc000_0d06;
    /// The target TD's UUID is another one.
    TARGET_UUID_MISMATCH = 0xc000_0d07;
    /// The target TD's UUID changed.
    TARGET_UUID_UPDATED = 0xc000_0d08;
    /// The report is of another CPUSVN than the running one.
    INVALID_CPUSVN = 0xc000_1000;
    /// The report's MAC does not hold.
    INVALID_REPORTMACSTRUCT = 0xc000_1001;
    /// The L2 VM exited, routed by the host.
    L2_EXIT_HOST_ROUTED_ASYNC = 0x0000_1100;
    /// The L2 VM exited by TDVMCALL, routed by the host.
    L2_EXIT_HOST_ROUTED_TDVMCALL = 0x0000_1101;
    /// The L2 VM exited: an interrupt is pending.
    L2_EXIT_PENDING_INTERRUPT = 0x0000_1102;
    /// An interrupt is pending.
    PENDING_INTERRUPT = 0x0000_1120;
    /// The TD exited before L2 entry.
    TD_EXIT_BEFORE_L2_ENTRY = 0x0000_1140;
    /// The TD exited on an L2 VM exit.
    TD_EXIT_ON_L2_VM_EXIT = 0x0000_1141;
    /// The TD exited on the way from L2 to L1.
    TD_EXIT_ON_L2_TO_L1 = 0x0000_1142;
    /// A guest linear address is not canonical.
    GLA_NOT_CANONICAL = 0xc000_1160;
}

impl StatusCode {
    /// The status of this code without details.
    #[must_use]
    pub const fn status(self) -> CompletionStatus {
        CompletionStatus((self.0 as u64) << 32)
    }

    /// The status of this code about an operand.
    #[must_use]
    pub const fn of(self, operand: OperandId) -> CompletionStatus {
        self.with_details(operand.0)
    }

    /// The status of this code with second-level details.
    #[must_use]
    pub const fn with_details(self, details_l2: u32) -> CompletionStatus {
        CompletionStatus((self.0 as u64) << 32 | details_l2 as u64)
    }
}
