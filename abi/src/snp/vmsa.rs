//! The virtual machine save area (APM volume 2 24593 rev. 3.42, appendix B, table B-4): a vCPU's measured state.

use zerocopy::little_endian::{U16, U32, U64};

wire! {
    /// A segment register as the VMSA holds it.
    pub struct VmsaSegment {
        /// Selector.
        pub selector: U16,
        /// Attributes: descriptor bits 55:52 and 47:40 packed into 12 bits.
        pub attrib: U16,
        /// Limit in bytes.
        pub limit: U32,
        /// Base address.
        pub base: U64,
    }
}
assert_layout!(VmsaSegment, 16, { selector: 0x0, attrib: 0x2, limit: 0x4, base: 0x8 });

impl VmsaSegment {
    /// A segment from its parts.
    #[must_use]
    pub const fn new(selector: u16, attrib: u16, limit: u32, base: u64) -> Self {
        Self {
            selector: U16::new(selector),
            attrib: U16::new(attrib),
            limit: U32::new(limit),
            base: U64::new(base),
        }
    }
}

wire! {
    /// The VMSA page: save area for SEV-ES and SEV-SNP guests.
    pub struct Vmsa {
        /// ES.
        pub es: VmsaSegment,
        /// CS.
        pub cs: VmsaSegment,
        /// SS.
        pub ss: VmsaSegment,
        /// DS.
        pub ds: VmsaSegment,
        /// FS.
        pub fs: VmsaSegment,
        /// GS.
        pub gs: VmsaSegment,
        /// GDTR.
        pub gdtr: VmsaSegment,
        /// LDTR.
        pub ldtr: VmsaSegment,
        /// IDTR.
        pub idtr: VmsaSegment,
        /// TR.
        pub tr: VmsaSegment,
        /// Shadow stack pointers of privilege level 0 to 3.
        pub pl_ssp: [U64; 4],
        /// `U_CET`.
        pub u_cet: U64,
        /// Reserved.
        pub reserved_0xc8: [u8; 2],
        /// VMPL of this save area.
        pub vmpl: u8,
        /// Current privilege level.
        pub cpl: u8,
        /// Reserved.
        pub reserved_0xcc: [u8; 4],
        /// EFER.
        pub efer: U64,
        /// Reserved.
        pub reserved_0xd8: [u8; 104],
        /// XSS.
        pub xss: U64,
        /// CR4.
        pub cr4: U64,
        /// CR3.
        pub cr3: U64,
        /// CR0.
        pub cr0: U64,
        /// DR7.
        pub dr7: U64,
        /// DR6.
        pub dr6: U64,
        /// RFLAGS.
        pub rflags: U64,
        /// RIP.
        pub rip: U64,
        /// DR0 to DR3.
        pub dr: [U64; 4],
        /// Address masks of DR0 to DR3.
        pub dr_addr_mask: [U64; 4],
        /// Reserved.
        pub reserved_0x1c0: [u8; 24],
        /// RSP.
        pub rsp: U64,
        /// `S_CET`.
        pub s_cet: U64,
        /// SSP.
        pub ssp: U64,
        /// `ISST_ADDR`.
        pub isst_addr: U64,
        /// RAX.
        pub rax: U64,
        /// STAR.
        pub star: U64,
        /// LSTAR.
        pub lstar: U64,
        /// CSTAR.
        pub cstar: U64,
        /// SFMASK.
        pub sfmask: U64,
        /// KernelGSBase.
        pub kernel_gs_base: U64,
        /// `SYSENTER_CS`.
        pub sysenter_cs: U64,
        /// `SYSENTER_ESP`.
        pub sysenter_esp: U64,
        /// `SYSENTER_EIP`.
        pub sysenter_eip: U64,
        /// CR2.
        pub cr2: U64,
        /// Reserved.
        pub reserved_0x248: [u8; 32],
        /// Guest PAT.
        pub g_pat: U64,
        /// DebugCtl.
        pub dbgctl: U64,
        /// Last branch from.
        pub br_from: U64,
        /// Last branch to.
        pub br_to: U64,
        /// Last exception from.
        pub last_excp_from: U64,
        /// Last exception to.
        pub last_excp_to: U64,
        /// Reserved.
        pub reserved_0x298: [u8; 80],
        /// PKRU.
        pub pkru: U32,
        /// `TSC_AUX`.
        pub tsc_aux: U32,
        /// Reserved.
        pub reserved_0x2f0: [u8; 24],
        /// RCX.
        pub rcx: U64,
        /// RDX.
        pub rdx: U64,
        /// RBX.
        pub rbx: U64,
        /// Reserved (RSP stands above).
        pub reserved_0x320: U64,
        /// RBP.
        pub rbp: U64,
        /// RSI.
        pub rsi: U64,
        /// RDI.
        pub rdi: U64,
        /// R8 to R15.
        pub r8_r15: [U64; 8],
        /// Reserved.
        pub reserved_0x380: [u8; 16],
        /// Exit information 1.
        pub guest_exit_info_1: U64,
        /// Exit information 2.
        pub guest_exit_info_2: U64,
        /// Exit interrupt information.
        pub guest_exit_int_info: U64,
        /// Next RIP.
        pub guest_nrip: U64,
        /// Features: [`SEV_FEATURE_SNP_ACTIVE`] and others.
        pub sev_features: U64,
        /// Virtual interrupt control.
        pub vintr_ctrl: U64,
        /// Exit code.
        pub guest_exit_code: U64,
        /// Virtual top of memory.
        pub virtual_tom: U64,
        /// TLB ID.
        pub tlb_id: U64,
        /// Physical CPU ID.
        pub pcpu_id: U64,
        /// Event to inject.
        pub event_inj: U64,
        /// XCR0.
        pub xcr0: U64,
        /// Reserved.
        pub reserved_0x3f0: [u8; 16],
        /// x87 data pointer.
        pub x87_dp: U64,
        /// MXCSR.
        pub mxcsr: U32,
        /// x87 tag word.
        pub x87_ftw: U16,
        /// x87 status word.
        pub x87_fsw: U16,
        /// x87 control word.
        pub x87_fcw: U16,
        /// x87 opcode.
        pub x87_fop: U16,
        /// x87 DS.
        pub x87_ds: U16,
        /// x87 CS.
        pub x87_cs: U16,
        /// x87 RIP.
        pub x87_rip: U64,
        /// x87 registers.
        pub fpreg_x87: [u8; 80],
        /// XMM registers.
        pub fpreg_xmm: [u8; 256],
        /// YMM registers, high halves.
        pub fpreg_ymm: [u8; 256],
        /// The rest of the page, zero.
        pub reserved_0x670: [u8; 2448],
    }
}
assert_layout!(Vmsa, 0x1000, {
    es: 0x0, cs: 0x10, ss: 0x20, ds: 0x30, fs: 0x40, gs: 0x50, gdtr: 0x60, ldtr: 0x70, idtr: 0x80, tr: 0x90,
    pl_ssp: 0xa0, u_cet: 0xc0, reserved_0xc8: 0xc8, vmpl: 0xca, cpl: 0xcb, reserved_0xcc: 0xcc, efer: 0xd0,
    reserved_0xd8: 0xd8, xss: 0x140, cr4: 0x148, cr3: 0x150, cr0: 0x158, dr7: 0x160, dr6: 0x168, rflags: 0x170,
    rip: 0x178, dr: 0x180, dr_addr_mask: 0x1a0, reserved_0x1c0: 0x1c0, rsp: 0x1d8, s_cet: 0x1e0, ssp: 0x1e8,
    isst_addr: 0x1f0, rax: 0x1f8, star: 0x200, lstar: 0x208, cstar: 0x210, sfmask: 0x218, kernel_gs_base: 0x220,
    sysenter_cs: 0x228, sysenter_esp: 0x230, sysenter_eip: 0x238, cr2: 0x240, reserved_0x248: 0x248, g_pat: 0x268,
    dbgctl: 0x270, br_from: 0x278, br_to: 0x280, last_excp_from: 0x288, last_excp_to: 0x290, reserved_0x298: 0x298,
    pkru: 0x2e8, tsc_aux: 0x2ec, reserved_0x2f0: 0x2f0, rcx: 0x308, rdx: 0x310, rbx: 0x318, reserved_0x320: 0x320,
    rbp: 0x328, rsi: 0x330, rdi: 0x338, r8_r15: 0x340, reserved_0x380: 0x380, guest_exit_info_1: 0x390,
    guest_exit_info_2: 0x398, guest_exit_int_info: 0x3a0, guest_nrip: 0x3a8, sev_features: 0x3b0,
    vintr_ctrl: 0x3b8, guest_exit_code: 0x3c0, virtual_tom: 0x3c8, tlb_id: 0x3d0, pcpu_id: 0x3d8, event_inj: 0x3e0,
    xcr0: 0x3e8, reserved_0x3f0: 0x3f0, x87_dp: 0x400, mxcsr: 0x408, x87_ftw: 0x40c, x87_fsw: 0x40e, x87_fcw: 0x410,
    x87_fop: 0x412, x87_ds: 0x414, x87_cs: 0x416, x87_rip: 0x418, fpreg_x87: 0x420, fpreg_xmm: 0x470,
    fpreg_ymm: 0x570, reserved_0x670: 0x670,
});

/// `SEV_FEATURES`: SNP is active.
pub const SEV_FEATURE_SNP_ACTIVE: u64 = 1 << 0;
