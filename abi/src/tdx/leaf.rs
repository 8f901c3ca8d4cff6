//! Leaf numbers of TDCALL and SEAMCALL, and the operands that are bit fields (348551 TDX Module ABI Reference 1.5,
//! "Guest-Side (TDCALL) Interface Functions", "Host-Side (SEAMCALL) Interface Functions", and the module's own
//! definitions).
//!
//! Registers of the guest-side functions; the status ([`super::status::CompletionStatus`]) is in `RAX`:
//!
//! | leaf | in | out |
//! |---|---|---|
//! | `TDG.VP.VMCALL` | `RCX`: [`VmcallControl`], selected registers | selected registers |
//! | `TDG.VP.INFO` | – | `RCX`: GPA width in bits 5:0, `RDX`: attributes, `R8`: [`VcpuCounts`], `R9`: VCPU index, `R10`: bit 0, TDG.SYS.RD is available, `R11`: 0 |
//! | `TDG.MR.RTMR.EXTEND` | `RCX`: GPA of 48 bytes, 64-byte aligned, `RDX`: index | – |
//! | `TDG.VP.VEINFO.GET` | – | `RCX`: exit reason, `RDX`: exit qualification, `R8`: GLA, `R9`: GPA, `R10`: [`VeInstruction`] |
//! | `TDG.MR.REPORT` | `RCX`: GPA of the report, 1024-byte aligned, `RDX`: GPA of report data, 64-byte aligned, `R8`: sub-type 0 | – |
//! | `TDG.VP.CPUIDVE.SET` | `RCX`: [`CpuidVeControl`] | – |
//! | `TDG.MEM.PAGE.ACCEPT` | `RCX`: [`PageInfo`] | – |
//! | `TDG.VM.RD` | `RCX`: 0, `RDX`: field identifier | `R8`: value, `RDX` (version 1): next identifier |
//! | `TDG.VM.WR` | `RCX`: 0, `RDX`: field identifier, `R8`: value, `R9`: mask | `R8`: previous value |
//! | `TDG.SYS.RD` | `RDX`: field identifier | `R8`: value, `RDX`: next identifier |
//! | `TDG.MR.VERIFYREPORT` | `RCX`: GPA of a REPORTMACSTRUCT, 256-byte aligned | – |

use bitfield_struct::bitfield;

open_codes! {
    /// Leaf numbers of TDCALL.
    pub struct TdcallLeaf(u16);
    /// `TDG.VP.VMCALL`.
    TDG_VP_VMCALL = 0;
    /// `TDG.VP.INFO`.
    TDG_VP_INFO = 1;
    /// `TDG.MR.RTMR.EXTEND`.
    TDG_MR_RTMR_EXTEND = 2;
    /// `TDG.VP.VEINFO.GET`.
    TDG_VP_VEINFO_GET = 3;
    /// `TDG.MR.REPORT`.
    TDG_MR_REPORT = 4;
    /// `TDG.VP.CPUIDVE.SET`.
    TDG_VP_CPUIDVE_SET = 5;
    /// `TDG.MEM.PAGE.ACCEPT`.
    TDG_MEM_PAGE_ACCEPT = 6;
    /// `TDG.VM.RD`.
    TDG_VM_RD = 7;
    /// `TDG.VM.WR`.
    TDG_VM_WR = 8;
    /// `TDG.VP.RD`.
    TDG_VP_RD = 9;
    /// `TDG.VP.WR`.
    TDG_VP_WR = 10;
    /// `TDG.SYS.RD`.
    TDG_SYS_RD = 11;
    /// `TDG.SYS.RDALL`.
    TDG_SYS_RDALL = 12;
    /// `TDG.SERVTD.RD`.
    TDG_SERVTD_RD = 18;
    /// `TDG.SERVTD.WR`.
    TDG_SERVTD_WR = 20;
    /// `TDG.MR.VERIFYREPORT`.
    TDG_MR_VERIFYREPORT = 22;
    /// `TDG.MEM.PAGE.ATTR.RD`.
    TDG_MEM_PAGE_ATTR_RD = 23;
    /// `TDG.MEM.PAGE.ATTR.WR`.
    TDG_MEM_PAGE_ATTR_WR = 24;
    /// `TDG.VP.ENTER`.
    TDG_VP_ENTER = 25;
    /// `TDG.VP.INVEPT`.
    TDG_VP_INVEPT = 26;
    /// `TDG.VP.INVVPID`.
    TDG_VP_INVVPID = 27;
}

open_codes! {
    /// Leaf numbers of SEAMCALL: those that build, run and take down a TD.
    pub struct SeamcallLeaf(u16);
    /// `TDH.VP.ENTER`.
    TDH_VP_ENTER = 0;
    /// `TDH.MNG.ADDCX`.
    TDH_MNG_ADDCX = 1;
    /// `TDH.MEM.PAGE.ADD`: adds a page and measures its address.
    TDH_MEM_PAGE_ADD = 2;
    /// `TDH.MEM.SEPT.ADD`.
    TDH_MEM_SEPT_ADD = 3;
    /// `TDH.VP.ADDCX`.
    TDH_VP_ADDCX = 4;
    /// `TDH.MEM.PAGE.RELOCATE`.
    TDH_MEM_PAGE_RELOCATE = 5;
    /// `TDH.MEM.PAGE.AUG`: adds a page that waits for `TDG.MEM.PAGE.ACCEPT`.
    TDH_MEM_PAGE_AUG = 6;
    /// `TDH.MEM.RANGE.BLOCK`.
    TDH_MEM_RANGE_BLOCK = 7;
    /// `TDH.MNG.KEY.CONFIG`.
    TDH_MNG_KEY_CONFIG = 8;
    /// `TDH.MNG.CREATE`.
    TDH_MNG_CREATE = 9;
    /// `TDH.VP.CREATE`.
    TDH_VP_CREATE = 10;
    /// `TDH.MNG.RD`.
    TDH_MNG_RD = 11;
    /// `TDH.MEM.RD`.
    TDH_MEM_RD = 12;
    /// `TDH.MNG.WR`.
    TDH_MNG_WR = 13;
    /// `TDH.MEM.WR`.
    TDH_MEM_WR = 14;
    /// `TDH.MEM.PAGE.DEMOTE`.
    TDH_MEM_PAGE_DEMOTE = 15;
    /// `TDH.MR.EXTEND`: measures 256 bytes.
    TDH_MR_EXTEND = 16;
    /// `TDH.MR.FINALIZE`: ends the measurement.
    TDH_MR_FINALIZE = 17;
    /// `TDH.VP.FLUSH`.
    TDH_VP_FLUSH = 18;
    /// `TDH.MNG.VPFLUSHDONE`.
    TDH_MNG_VPFLUSHDONE = 19;
    /// `TDH.MNG.KEY.FREEID`.
    TDH_MNG_KEY_FREEID = 20;
    /// `TDH.MNG.INIT`: takes `TD_PARAMS`.
    TDH_MNG_INIT = 21;
    /// `TDH.VP.INIT`.
    TDH_VP_INIT = 22;
    /// `TDH.MEM.PAGE.PROMOTE`.
    TDH_MEM_PAGE_PROMOTE = 23;
    /// `TDH.PHYMEM.PAGE.RDMD`.
    TDH_PHYMEM_PAGE_RDMD = 24;
    /// `TDH.MEM.SEPT.RD`.
    TDH_MEM_SEPT_RD = 25;
    /// `TDH.VP.RD`.
    TDH_VP_RD = 26;
    /// `TDH.MNG.KEY.RECLAIMID`.
    TDH_MNG_KEY_RECLAIMID = 27;
    /// `TDH.PHYMEM.PAGE.RECLAIM`.
    TDH_PHYMEM_PAGE_RECLAIM = 28;
    /// `TDH.MEM.PAGE.REMOVE`.
    TDH_MEM_PAGE_REMOVE = 29;
    /// `TDH.MEM.SEPT.REMOVE`.
    TDH_MEM_SEPT_REMOVE = 30;
    /// `TDH.SYS.KEY.CONFIG`.
    TDH_SYS_KEY_CONFIG = 31;
    /// `TDH.SYS.INFO`.
    TDH_SYS_INFO = 32;
    /// `TDH.SYS.INIT`.
    TDH_SYS_INIT = 33;
    /// `TDH.SYS.RD`.
    TDH_SYS_RD = 34;
    /// `TDH.SYS.LP.INIT`.
    TDH_SYS_LP_INIT = 35;
    /// `TDH.SYS.TDMR.INIT`.
    TDH_SYS_TDMR_INIT = 36;
    /// `TDH.SYS.RDALL`.
    TDH_SYS_RDALL = 37;
    /// `TDH.MEM.TRACK`.
    TDH_MEM_TRACK = 38;
    /// `TDH.MEM.RANGE.UNBLOCK`.
    TDH_MEM_RANGE_UNBLOCK = 39;
    /// `TDH.PHYMEM.CACHE.WB`.
    TDH_PHYMEM_CACHE_WB = 40;
    /// `TDH.PHYMEM.PAGE.WBINVD`.
    TDH_PHYMEM_PAGE_WBINVD = 41;
    /// `TDH.MEM.SEPT.WR`.
    TDH_MEM_SEPT_WR = 42;
    /// `TDH.VP.WR`.
    TDH_VP_WR = 43;
    /// `TDH.SYS.CONFIG`.
    TDH_SYS_CONFIG = 45;
    /// `TDH.SERVTD.BIND`.
    TDH_SERVTD_BIND = 48;
    /// `TDH.SERVTD.PREBIND`.
    TDH_SERVTD_PREBIND = 49;
    /// `TDH.SYS.SHUTDOWN`.
    TDH_SYS_SHUTDOWN = 52;
    /// `TDH.SYS.UPDATE`.
    TDH_SYS_UPDATE = 53;
}

/// `RAX` of TDCALL and SEAMCALL: which function, and which version of it.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct LeafAndVersion {
    /// A [`TdcallLeaf`] or [`SeamcallLeaf`].
    pub leaf: u16,
    /// Version of the function; of the guest-side ones only `TDG.VM.RD` has a version 1.
    pub version: u8,
    /// Reserved, zero.
    #[bits(40)]
    pub reserved: u64,
}

/// `RCX` of `TDG.VP.VMCALL`: which registers the host sees and may change.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct VmcallControl {
    /// General registers by their encoding: bit 2 `RDX`, 3 `RBX`, 5 `RBP`, 6 `RSI`, 7 `RDI`, 8 to 15 `R8` to `R15`.
    pub gpr_select: u16,
    /// `XMM0` to `XMM15`.
    pub xmm_select: u16,
    /// Reserved, zero.
    pub reserved: u32,
}

impl VmcallControl {
    /// Bits of `gpr_select` that must be zero: `RAX`, `RCX` and `RSP`.
    pub const GPR_MUST_BE_ZERO: u16 = 1 << 0 | 1 << 1 | 1 << 4;
    /// `RBP`: must be zero as well if the TD's `CONFIG_FLAGS.NO_RBP_MOD` is set.
    pub const GPR_RBP: u16 = 1 << 5;
    /// `R10` to `R15`, which every TDVMCALL of the GHCI uses.
    pub const GPR_R10_TO_R15: u16 = 0xfc00;
}

/// `R8` of `TDG.VP.INFO`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct VcpuCounts {
    /// VCPUs that can be used.
    pub num_vcpus: u32,
    /// The most that the TD may have.
    pub max_vcpus: u32,
}

/// Width of guest-physical addresses that `TDG.VP.INFO` reports for `CONFIG_FLAGS.GPAW` = 0.
pub const GPA_WIDTH_48: u64 = 48;
/// Width of guest-physical addresses that `TDG.VP.INFO` reports for `CONFIG_FLAGS.GPAW` = 1.
pub const GPA_WIDTH_52: u64 = 52;

/// The bit that makes a guest-physical address a shared one: the highest of the width that `TDG.VP.INFO` reports
/// (1 to 64), or `None` for another width.
#[must_use]
pub const fn shared_bit(gpa_width: u64) -> Option<u64> {
    match gpa_width {
        1..=64 => Some(1 << (gpa_width - 1)),
        _ => None,
    }
}

/// `RCX` of `TDG.VP.CPUIDVE.SET`: when CPUID raises #VE unconditionally.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CpuidVeControl {
    /// At CPL 0.
    pub supervisor: bool,
    /// At CPL 3.
    pub user: bool,
    /// Reserved, zero.
    #[bits(62)]
    pub reserved: u64,
}

/// `R10` of `TDG.VP.VEINFO.GET`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct VeInstruction {
    /// VM-exit instruction length.
    pub length: u32,
    /// VM-exit instruction information.
    pub information: u32,
}

/// `RCX` of `TDG.MEM.PAGE.ACCEPT` and of the host-side memory functions: a page and its level.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageInfo {
    /// A [`PageLevel`].
    #[bits(3)]
    pub level: u8,
    /// Reserved, zero.
    #[bits(9)]
    pub reserved_3: u16,
    /// Number of the 4-KiB page: guest-physical address bits 51:12.
    #[bits(40)]
    pub page: u64,
    /// Reserved, zero.
    #[bits(12)]
    pub reserved_52: u16,
}

impl PageInfo {
    /// The guest-physical address, page-aligned.
    #[must_use]
    pub const fn gpa(self) -> u64 {
        self.page() << 12
    }
}

open_codes! {
    /// Levels of the secure EPT.
    pub struct PageLevel(u8);
    /// 4 KiB.
    PT = 0;
    /// 2 MiB.
    PD = 1;
    /// 1 GiB.
    PDPT = 2;
    /// 512 GiB.
    PML4 = 3;
    /// 256 TiB.
    PML5 = 4;
}

impl PageLevel {
    /// Bytes that an entry of this level covers; `None` for a level that does not exist.
    #[must_use]
    pub const fn size(self) -> Option<u64> {
        match self.0 {
            0..=4 => Some(1 << (12 + 9 * self.0)),
            _ => None,
        }
    }
}

/// #VE exit reasons that a TD sees are VM-exit reasons (Intel SDM volume 3, appendix C, table C-1).
pub mod exit_reason {
    /// CPUID.
    pub const CPUID: u64 = 10;
    /// HLT.
    pub const HLT: u64 = 12;
    /// I/O instruction.
    pub const IO_INSTRUCTION: u64 = 30;
    /// RDMSR.
    pub const MSR_READ: u64 = 31;
    /// WRMSR.
    pub const MSR_WRITE: u64 = 32;
    /// EPT violation: MMIO, or a private page that is not accepted.
    pub const EPT_VIOLATION: u64 = 48;
    /// WBINVD.
    pub const WBINVD: u64 = 54;
    /// TDCALL: what the host sees of a TDVMCALL.
    pub const TDCALL: u64 = 77;
}

/// Alignment that each function asks of its addresses, in bytes.
pub mod alignment {
    /// The report of `TDG.MR.REPORT`.
    pub const TDREPORT: u64 = 1024;
    /// Report data of `TDG.MR.REPORT`.
    pub const REPORTDATA: u64 = 64;
    /// The 48 bytes of `TDG.MR.RTMR.EXTEND`.
    pub const RTMR_EXTEND: u64 = 64;
    /// The structure of `TDG.MR.VERIFYREPORT`.
    pub const REPORTMACSTRUCT: u64 = 256;
    /// `TD_PARAMS` of `TDH.MNG.INIT`.
    pub const TD_PARAMS: u64 = 1024;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn leaf_and_version_lie_where_the_module_reads_them() {
        let rax = LeafAndVersion::new().with_leaf(TdcallLeaf::TDG_VM_RD.0).with_version(1);
        assert_eq!(u64::from(rax), 0x1_0007);
        assert_eq!(LeafAndVersion::from(0x100_0000).reserved(), 1);
    }

    #[rstest]
    #[case(48, Some(1 << 47))]
    #[case(52, Some(1 << 51))]
    #[case(0, None)]
    #[case(65, None)]
    fn shared_bits(#[case] width: u64, #[case] bit: Option<u64>) {
        assert_eq!(shared_bit(width), bit);
    }

    #[test]
    fn levels_have_sizes() {
        assert_eq!(PageLevel::PT.size(), Some(4096));
        assert_eq!(PageLevel::PD.size(), Some(2 << 20));
        assert_eq!(PageLevel::PML5.size(), Some(1 << 48));
        assert_eq!(PageLevel(5).size(), None);
    }

    proptest! {
        #[test]
        fn page_info_round_trips(value: u64) {
            let info = PageInfo::from(value);
            prop_assert_eq!(u64::from(info), value);
            prop_assert_eq!(info.gpa(), value & 0x000f_ffff_ffff_f000);
        }
    }
}
