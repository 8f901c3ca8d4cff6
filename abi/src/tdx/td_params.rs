//! Building a TD: `TD_PARAMS` of `TDH.MNG.INIT` and what `MRTD` is a hash of (348551 TDX Module ABI Reference 1.5,
//! section "TD Parameters Types", and the module's own definitions).
//!
//! `MRTD` is one SHA-384 over, in the order of the calls: for each `TDH.MEM.PAGE.ADD` an [`MrtdBlock`]; for each
//! `TDH.MR.EXTEND` an [`MrtdBlock`] and the [`MR_EXTEND_CHUNK`] bytes at its address. `TDH.MR.FINALIZE` ends it.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U64};

use super::report::Measurement;

/// `ATTRIBUTES` of a TD. Any of the bits 7:0 makes the TD untrusted.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TdAttributes {
    /// The host may read and write the TD's state and memory.
    pub debug: bool,
    /// Reserved for what makes a TD untrusted.
    #[bits(3)]
    pub reserved_1: u8,
    /// HGS+ operation; later than the 1.5.01 module.
    pub hgs_plus_prof: bool,
    /// Performance profiling; later than the 1.5.01 module.
    pub perf_prof: bool,
    /// Platform monitoring profiling; later than the 1.5.01 module.
    pub pmt_prof: bool,
    /// Reserved for what makes a TD untrusted.
    pub reserved_7: bool,
    /// Reserved for what may touch the TD's security.
    #[bits(19)]
    pub reserved_8: u32,
    /// Linear address space separation; later than the 1.5.01 module.
    pub lass: bool,
    /// An access to a pending page ends in a TD exit, not in #VE.
    pub sept_ve_disable: bool,
    /// The TD may be migrated; needs a migration TD.
    pub migratable: bool,
    /// Supervisor protection keys.
    pub pks: bool,
    /// Key Locker.
    pub kl: bool,
    /// Reserved for what does not touch the TD's security.
    #[bits(30)]
    pub reserved_32: u32,
    /// The TD is a TDX Connect provisioning agent; later than the 1.5.01 module.
    pub tpa: bool,
    /// Performance monitoring.
    pub perfmon: bool,
}

impl TdAttributes {
    /// Bits that make a TD untrusted: TUD, 7:0.
    pub const TUD: u64 = 0xff;
    /// `ATTRIBUTES_FIXED0` of the 1.5.01 module: bits that may be one.
    pub const FIXED0: u64 = 1 << 0 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 63;
    /// `ATTRIBUTES_FIXED1` of the 1.5.01 module: bits that must be one.
    pub const FIXED1: u64 = 0;
}

/// `XFAM`: extended features that the TD may use; the bits of `XCR0` and `IA32_XSS` (Intel SDM volume 1, chapter 13).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Xfam {
    /// x87; must be one.
    pub x87: bool,
    /// SSE; must be one.
    pub sse: bool,
    /// AVX.
    pub avx: bool,
    /// MPX bounds; must be zero.
    #[bits(2)]
    pub mpx: u8,
    /// AVX-512: three bits, all or none, and only with AVX.
    #[bits(3)]
    pub avx512: u8,
    /// Processor trace.
    pub pt: bool,
    /// Protection keys.
    pub pkru: bool,
    /// PASID (ENQCMD).
    pub pasid: bool,
    /// Control-flow enforcement: user and supervisor, both or none.
    #[bits(2)]
    pub cet: u8,
    /// Hardware duty cycling.
    pub hdc: bool,
    /// User interrupts.
    pub uintr: bool,
    /// Last branch records.
    pub lbr: bool,
    /// Hardware P-states.
    pub hwp: bool,
    /// AMX: tile configuration and data, both or none.
    #[bits(2)]
    pub amx: u8,
    /// Reserved, zero.
    #[bits(45)]
    pub reserved: u64,
}

impl Xfam {
    /// `XFAM_FIXED0` of the 1.5.01 module: bits that may be one, if the processor has the feature.
    pub const FIXED0: u64 = 0x6_dbe7;
    /// `XFAM_FIXED1` of the 1.5.01 module: bits that must be one.
    pub const FIXED1: u64 = 0x3;

    /// Whether the groups are whole: AVX-512 three bits and AVX, CET two bits, AMX two bits.
    #[must_use]
    pub const fn groups_are_whole(self) -> bool {
        let avx512 = matches!((self.avx512(), self.avx()), (0, _) | (7, true));
        avx512 && matches!(self.cet(), 0 | 3) && matches!(self.amx(), 0 | 3)
    }
}

/// `EPTP_CONTROLS`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EptpControls {
    /// Memory type of the EPT: 6 (write back).
    #[bits(3)]
    pub memory_type: u8,
    /// Page-walk length less one: 3, or 4 for 5-level paging.
    #[bits(3)]
    pub page_walk_length_minus_one: u8,
    /// Reserved, zero (accessed and dirty bits, supervisor shadow stack, base address).
    #[bits(58)]
    pub reserved: u64,
}

/// `CONFIG_FLAGS` (`EXEC_CONTROLS` in TDX 1.0): not measured.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ConfigFlags {
    /// Guest-physical addresses are 52 bits wide, not 48; needs 5-level paging.
    pub gpaw: bool,
    /// The TD may choose whether pending pages raise #VE (`TD_CTLS.PENDING_VE_DISABLE`).
    pub flexible_pending_ve: bool,
    /// `TDG.VP.VMCALL` and `TDH.VP.ENTER` leave `RBP` alone.
    pub no_rbp_mod: bool,
    /// Reserved, zero.
    #[bits(61)]
    pub reserved: u64,
}

/// `TD_CTLS`: what the TD itself controls by `TDG.VM.WR`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TdCtls {
    /// An access to a pending page ends in a TD exit, not in #VE.
    pub pending_ve_disable: bool,
    /// Reserved, zero.
    #[bits(63)]
    pub reserved: u64,
}

/// `NOTIFY_ENABLES`: which events the TD hears of by #VE.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct NotifyEnables {
    /// Suspected zero-step attacks.
    pub ept_faults: bool,
    /// Reserved, zero.
    #[bits(63)]
    pub reserved: u64,
}

wire! {
    /// Configuration of a CPUID leaf: EAX, EBX, ECX, EDX. Which leaf follows from the position.
    pub struct CpuidValues {
        /// EAX, EBX, ECX, EDX, each little-endian.
        pub registers: [[u8; 4]; 4],
    }
}
assert_layout!(CpuidValues, 16, { registers: 0x0 });

/// CPUID configurations that `TD_PARAMS` has room for.
pub const MAX_CPUID_CONFIG: usize = 48;

wire! {
    /// `TD_PARAMS`.
    pub struct TdParams {
        /// The bits of [`TdAttributes`].
        pub attributes: U64,
        /// The bits of [`Xfam`].
        pub xfam: U64,
        /// The most VCPUs that the TD may have; not zero.
        pub max_vcpus: U16,
        /// Number of L2 VMs: 0 to 3; version 1.5.
        pub num_l2_vms: u8,
        /// Bit 0: `ia32_arch_capabilities_config` is given; version 1.5.
        pub msr_config_ctls: u8,
        /// Reserved, zero.
        pub reserved_0x14: [u8; 4],
        /// The bits of [`EptpControls`].
        pub eptp_controls: U64,
        /// The bits of [`ConfigFlags`].
        pub config_flags: U64,
        /// Virtual TSC frequency in units of 25 MHz: 4 to 400.
        pub tsc_frequency: U16,
        /// Reserved, zero.
        pub reserved_0x2a: [u8; 38],
        /// `MRCONFIGID`.
        pub mr_config_id: Measurement,
        /// `MROWNER`.
        pub mr_owner: Measurement,
        /// `MROWNERCONFIG`.
        pub mr_owner_config: Measurement,
        /// Virtual `IA32_ARCH_CAPABILITIES`; version 1.5.
        pub ia32_arch_capabilities_config: U64,
        /// Reserved, zero.
        pub reserved_0xe8: [u8; 24],
        /// CPUID configuration; entries beyond `NUM_CPUID_CONFIG` are reserved, zero.
        pub cpuid_config: [CpuidValues; MAX_CPUID_CONFIG],
    }
}
assert_layout!(TdParams, 0x400, {
    attributes: 0x0, xfam: 0x8, max_vcpus: 0x10, num_l2_vms: 0x12, msr_config_ctls: 0x13, reserved_0x14: 0x14,
    eptp_controls: 0x18, config_flags: 0x20, tsc_frequency: 0x28, reserved_0x2a: 0x2a, mr_config_id: 0x50,
    mr_owner: 0x80, mr_owner_config: 0xb0, ia32_arch_capabilities_config: 0xe0, reserved_0xe8: 0xe8,
    cpuid_config: 0x100,
});

/// Values that [`TdParams::tsc_frequency`] may have.
pub const TSC_FREQUENCIES: core::ops::RangeInclusive<u16> = 4..=400;

wire! {
    /// What `MRTD` takes in for a `TDH.MEM.PAGE.ADD`, and before the bytes of a `TDH.MR.EXTEND`.
    pub struct MrtdBlock {
        /// `MEM.PAGE.ADD` or `MR.EXTEND`, zero-padded.
        pub name: [u8; 16],
        /// Guest-physical address; aligned to 4 KiB or to [`MR_EXTEND_CHUNK`].
        pub gpa: U64,
        /// Zero.
        pub reserved: [u8; 104],
    }
}
assert_layout!(MrtdBlock, 128, { name: 0x0, gpa: 0x10, reserved: 0x18 });

/// Bytes that one `TDH.MR.EXTEND` measures.
pub const MR_EXTEND_CHUNK: usize = 256;

impl MrtdBlock {
    /// For `TDH.MEM.PAGE.ADD`. Flags of the call (level, bits 11:0 of the operand) are not measured.
    #[must_use]
    pub const fn page_add(gpa: u64) -> Self {
        Self { name: *b"MEM.PAGE.ADD\0\0\0\0", gpa: U64::new(gpa), reserved: [0; 104] }
    }

    /// For `TDH.MR.EXTEND`.
    #[must_use]
    pub const fn extend(gpa: u64) -> Self {
        Self { name: *b"MR.EXTEND\0\0\0\0\0\0\0", gpa: U64::new(gpa), reserved: [0; 104] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    #[test]
    fn attribute_bits_lie_where_the_module_has_them() {
        let bits = |attributes: TdAttributes| u64::from(attributes);
        assert_eq!(bits(TdAttributes::new().with_debug(true)), 1);
        assert_eq!(bits(TdAttributes::new().with_lass(true)), 1 << 27);
        assert_eq!(bits(TdAttributes::new().with_sept_ve_disable(true)), 1 << 28);
        assert_eq!(bits(TdAttributes::new().with_kl(true)), 1 << 31);
        assert_eq!(bits(TdAttributes::new().with_tpa(true)), 1 << 62);
        assert_eq!(bits(TdAttributes::new().with_perfmon(true)), 1 << 63);
    }

    #[rstest]
    #[case(0x3, true)]
    #[case(0xe7, true)]
    #[case(0xe3, false)]
    #[case(0x67, false)]
    #[case(0x803, false)]
    #[case(0x1803, true)]
    #[case(0x4_0003, false)]
    #[case(0x6_0003, true)]
    fn xfam_groups(#[case] xfam: u64, #[case] whole: bool) {
        assert_eq!(Xfam::from(xfam).groups_are_whole(), whole);
    }

    #[test]
    fn measured_blocks_begin_with_the_function() {
        let block = MrtdBlock::extend(0x1234_5600);
        assert_eq!(&block.as_bytes()[..24], b"MR.EXTEND\0\0\0\0\0\0\0\0\x56\x34\x12\0\0\0\0");
        assert_eq!(&MrtdBlock::page_add(0).as_bytes()[..13], b"MEM.PAGE.ADD\0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_and_come_back(bytes in prop::collection::vec(any::<u8>(), 0x400)) {
            let params = TdParams::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(params.as_bytes(), &bytes[..]);
        }
    }
}
