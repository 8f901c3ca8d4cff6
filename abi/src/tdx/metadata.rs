//! Field identifiers of `TDG.VM.RD`, `TDG.VM.WR`, `TDG.SYS.RD` and their host-side kin (348551 TDX Module ABI
//! Reference 1.5, section "Metadata Access Types"; the values are those of the 1.5.01 module's tables).

use bitfield_struct::bitfield;

/// The parts of a [`FieldId`].
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FieldIdBits {
    /// Field code; the elements of a field have consecutive ones.
    #[bits(24)]
    pub field_code: u32,
    /// Reserved, zero.
    pub reserved_24: u8,
    /// Element size in bytes: 1 << code.
    #[bits(2)]
    pub element_size_code: u8,
    /// Elements of the field less one; zero where one element is asked for.
    #[bits(4)]
    pub last_element_in_field: u8,
    /// Fields of the sequence less one; zero where one element is asked for.
    #[bits(9)]
    pub last_field_in_sequence: u16,
    /// Reserved, zero.
    #[bits(3)]
    pub reserved_47: u8,
    /// Field codes go up by two from element to element, not by one.
    pub inc_size: bool,
    /// A write mask follows in a list.
    pub write_mask_valid: bool,
    /// A [`ContextCode`]; not looked at where the function implies it.
    #[bits(3)]
    pub context_code: u8,
    /// Reserved, zero.
    pub reserved_55: bool,
    /// Class within the context.
    #[bits(6)]
    pub class_code: u8,
    /// Reserved, zero.
    pub reserved_62: bool,
    /// The field is not architectural: another module version may not have it.
    pub non_arch: bool,
}

impl FieldIdBits {
    /// Whether the identifier is well-formed where one element is asked for; else
    /// `METADATA_FIELD_ID_INCORRECT`. Element size, step, mask flag and context are not looked at.
    #[must_use]
    pub const fn names_one_element(self) -> bool {
        self.reserved_24() == 0
            && self.reserved_47() == 0
            && !self.reserved_55()
            && !self.reserved_62()
            && self.last_element_in_field() == 0
            && self.last_field_in_sequence() == 0
    }
}

open_codes! {
    /// To what a field belongs.
    pub struct ContextCode(u8);
    /// The module.
    SYS = 0;
    /// The TD.
    TD = 1;
    /// The VCPU.
    VP = 2;
}

open_codes! {
    /// Metadata fields: those that a guest may read, and those that tell a host how to build a TD.
    pub struct FieldId(u64);
    /// 8086h.
    VENDOR_ID = 0x0800_0002_0000_0000;
    /// Minor version of the module.
    MINOR_VERSION = 0x0800_0001_0000_0003;
    /// Major version of the module.
    MAJOR_VERSION = 0x0800_0001_0000_0004;
    /// Attributes of the module; zero.
    SYS_ATTRIBUTES = 0x0a00_0002_0000_0000;
    /// Number of `TDX_FEATURES` fields.
    NUM_TDX_FEATURES = 0x0a00_0000_0000_0001;
    /// The bits of [`TdxFeatures0`].
    TDX_FEATURES0 = 0x0a00_0003_0000_0008;
    /// Bits that may be one in a TD's attributes (host only).
    ATTRIBUTES_FIXED0 = 0x1900_0003_0000_0000;
    /// Bits that must be one in a TD's attributes (host only).
    ATTRIBUTES_FIXED1 = 0x1900_0003_0000_0001;
    /// Bits that may be one in a TD's XFAM (host only).
    XFAM_FIXED0 = 0x1900_0003_0000_0002;
    /// Bits that must be one in a TD's XFAM (host only).
    XFAM_FIXED1 = 0x1900_0003_0000_0003;
    /// Number of CPUID configurations of `TD_PARAMS` (host only).
    NUM_CPUID_CONFIG = 0x9900_0001_0000_0004;
    /// Lowest migration version that can be exported.
    MIN_EXPORT_VERSION = 0x2000_0001_0000_0001;
    /// Highest migration version that can be exported.
    MAX_EXPORT_VERSION = 0x2000_0001_0000_0002;
    /// Lowest migration version that can be imported.
    MIN_IMPORT_VERSION = 0x2000_0001_0000_0003;
    /// Highest migration version that can be imported.
    MAX_IMPORT_VERSION = 0x2000_0001_0000_0004;
    /// Migration attributes of the module.
    MIG_ATTRIBUTES = 0xa000_0003_0000_0000;
    /// Page attributes that an L1 VMM may give to L2 VMs.
    GUEST_L2_GPA_ATTR_MASK = 0xa200_0001_0000_0000;
    /// Identifier of the TD: four elements.
    TD_UUID = 0x8010_0003_0000_0020;
    /// VCPUs that can be used.
    NUM_VCPUS = 0x9010_0002_0000_0001;
    /// L2 VMs.
    NUM_L2_VMS = 0x9010_0001_0000_0005;
    /// The bits of [`super::td_params::TdAttributes`].
    ATTRIBUTES = 0x1110_0003_0000_0000;
    /// The bits of [`super::td_params::Xfam`].
    XFAM = 0x1110_0003_0000_0001;
    /// The most VCPUs that the TD may have.
    MAX_VCPUS = 0x1110_0002_0000_0002;
    /// 1: addresses are 52 bits wide, 0: 48.
    GPAW = 0x1110_0000_0000_0003;
    /// Virtual TSC frequency in units of 25 MHz.
    TSC_FREQUENCY = 0x1110_0001_0000_000c;
    /// The bits of [`super::td_params::NotifyEnables`]; writable.
    NOTIFY_ENABLES = 0x9110_0003_0000_0010;
    /// The bits of [`super::td_params::ConfigFlags`].
    CONFIG_FLAGS = 0x1110_0003_0000_0016;
    /// The bits of [`super::td_params::TdCtls`]; writable if `CONFIG_FLAGS.FLEXIBLE_PENDING_VE`.
    TD_CTLS = 0x1110_0003_0000_0017;
    /// Measurement of the TD: six elements.
    MRTD = 0x1310_0003_0000_0000;
    /// Six elements.
    MRCONFIGID = 0x1310_0003_0000_0010;
    /// Six elements.
    MROWNER = 0x1310_0003_0000_0018;
    /// Six elements.
    MROWNERCONFIG = 0x1310_0003_0000_0020;
    /// Four registers of six elements.
    RTMR = 0x1310_0003_0000_0040;
    /// Identifier before migration: four elements.
    PRE_IMPORT_UUID = 0x9810_0003_0000_0040;
    /// Hash of the service TDs: six elements.
    SERVTD_HASH = 0x9910_0003_0000_0000;
    /// Service TDs.
    SERVTD_NUM = 0x9910_0001_0000_0006;
    /// Service TD bindings: sixteen elements.
    SERVTD_BINDINGS_TABLE = 0x9910_0003_0000_0080;
}

impl FieldId {
    /// No field: all ones. As the input of a read function that gives the next identifier, with any context: asks
    /// for the first one.
    pub const NONE: Self = Self(u64::MAX);

    /// The parts.
    #[must_use]
    pub fn bits(self) -> FieldIdBits {
        self.0.into()
    }

    /// Whether this is [`FieldId::NONE`], the context left aside.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 | u64::from(FieldIdBits::new().with_context_code(7)) == u64::MAX
    }

    /// The element after this one by `index`.
    #[must_use]
    pub const fn element(self, index: u32) -> Self {
        Self(self.0.wrapping_add(index as u64))
    }
}

/// A field that a guest may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Identifier of the first element.
    pub id: FieldId,
    /// Elements, with consecutive field codes.
    pub elements: u32,
    /// Bits that `TDG.VM.WR` may change.
    pub guest_write_mask: u64,
}

const fn read_only(id: FieldId, elements: u32) -> Field {
    Field { id, elements, guest_write_mask: 0 }
}

impl Field {
    /// The fields of the TD that `TDG.VM.RD` reads, in the order of context, class and field code.
    pub const TD: &'static [Self] = &[
        read_only(FieldId::TD_UUID, 4),
        read_only(FieldId::NUM_VCPUS, 1),
        read_only(FieldId::NUM_L2_VMS, 1),
        read_only(FieldId::ATTRIBUTES, 1),
        read_only(FieldId::XFAM, 1),
        read_only(FieldId::MAX_VCPUS, 1),
        read_only(FieldId::GPAW, 1),
        read_only(FieldId::TSC_FREQUENCY, 1),
        Self { id: FieldId::NOTIFY_ENABLES, elements: 1, guest_write_mask: 1 },
        read_only(FieldId::CONFIG_FLAGS, 1),
        Self { id: FieldId::TD_CTLS, elements: 1, guest_write_mask: 1 },
        read_only(FieldId::MRTD, 6),
        read_only(FieldId::MRCONFIGID, 6),
        read_only(FieldId::MROWNER, 6),
        read_only(FieldId::MROWNERCONFIG, 6),
        read_only(FieldId::RTMR, 24),
        read_only(FieldId::PRE_IMPORT_UUID, 4),
        read_only(FieldId::SERVTD_HASH, 6),
        read_only(FieldId::SERVTD_NUM, 1),
        read_only(FieldId::SERVTD_BINDINGS_TABLE, 16),
    ];

    /// The fields of the module that `TDG.SYS.RD` reads, in the order of the module's table.
    pub const SYS: &'static [Self] = &[
        read_only(FieldId::VENDOR_ID, 1),
        read_only(FieldId::MINOR_VERSION, 1),
        read_only(FieldId::MAJOR_VERSION, 1),
        read_only(FieldId::SYS_ATTRIBUTES, 1),
        read_only(FieldId::NUM_TDX_FEATURES, 1),
        read_only(FieldId::TDX_FEATURES0, 1),
        read_only(FieldId::MIG_ATTRIBUTES, 1),
        read_only(FieldId::MIN_EXPORT_VERSION, 1),
        read_only(FieldId::MAX_EXPORT_VERSION, 1),
        read_only(FieldId::MIN_IMPORT_VERSION, 1),
        read_only(FieldId::MAX_IMPORT_VERSION, 1),
        read_only(FieldId::GUEST_L2_GPA_ATTR_MASK, 1),
    ];

    /// The field and the element of it that `id` names, among `fields`: by class and field code, as the module looks
    /// it up.
    #[must_use]
    pub fn find(fields: &'static [Self], id: FieldId) -> Option<(&'static Self, u32)> {
        let wanted = id.bits();
        fields.iter().find_map(|field| {
            let bits = field.id.bits();
            let element = wanted.field_code().checked_sub(bits.field_code())?;
            (wanted.class_code() == bits.class_code() && element < field.elements).then_some((field, element))
        })
    }
}

/// `TDX_FEATURES0`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TdxFeatures0 {
    /// TDs can be migrated.
    pub td_migration: bool,
    /// The module can be updated under running TDs.
    pub td_preserving: bool,
    /// Service TDs.
    pub service_td: bool,
    /// `TDG.VP.RD` and `TDG.VP.WR`.
    pub tdg_vp_rdwr: bool,
    /// Relaxed concurrency of memory management.
    pub relaxed_mem_mng_concurrency: bool,
    /// The guest controls CPUID virtualization.
    pub cpuid_virt_guest_ctrl: bool,
    /// Reserved.
    pub reserved_6: bool,
    /// L2 VMs.
    pub td_partitioning: bool,
    /// `TDG.MR.VERIFYREPORT`.
    pub local_attestation: bool,
    /// TD entry enhancements.
    pub td_entry_enhancements: bool,
    /// Locks with host priority.
    pub host_priority_locks: bool,
    /// `IA32_ARCH_CAPABILITIES` can be configured.
    pub config_ia32_arch_cap: bool,
    /// Reserved.
    #[bits(4)]
    pub reserved_12: u8,
    /// `FLEXIBLE_PENDING_VE`.
    pub pending_ept_violation_v2: bool,
    /// Family, model and stepping can be configured.
    pub fms_config: bool,
    /// `NO_RBP_MOD`.
    pub no_rbp_mod: bool,
    /// L2 TLB invalidation is optimised.
    pub l2_tlb_invd_opt: bool,
    /// Later features.
    #[bits(44)]
    pub reserved_20: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_published(0x9110_0003_0000_0010, Some((FieldId::NOTIFY_ENABLES, 0)))]
    #[case::as_linux_asks(0x9100_0000_0000_0010, Some((FieldId::NOTIFY_ENABLES, 0)))]
    #[case::second_rtmr(0x1310_0003_0000_0047, Some((FieldId::RTMR, 7)))]
    #[case::behind_the_rtmrs(0x1310_0003_0000_0058, None)]
    #[case::host_only(0x1110_0003_0000_0004, None)]
    fn fields_are_found(#[case] id: u64, #[case] expected: Option<(FieldId, u32)>) {
        assert_eq!(Field::find(Field::TD, FieldId(id)).map(|(field, element)| (field.id, element)), expected);
    }

    #[test]
    fn fields_are_of_their_context() {
        let all = |fields: &[Field], context: ContextCode| {
            fields.iter().all(|field| ContextCode(field.id.bits().context_code()) == context)
        };
        assert!(all(Field::TD, ContextCode::TD) && all(Field::SYS, ContextCode::SYS));
        assert!(Field::TD.iter().chain(Field::SYS).all(|field| field.id.bits().names_one_element()));
    }

    #[test]
    fn no_field_is_all_ones_but_the_context() {
        assert!(FieldId::NONE.is_null() && FieldId(0xff9f_ffff_ffff_ffff).is_null());
        assert!(!FieldId(0x7fff_ffff_ffff_ffff).is_null());
    }

    proptest! {
        #[test]
        fn parts_round_trip(id: u64) {
            prop_assert_eq!(u64::from(FieldId(id).bits()), id);
            let _ = Field::find(Field::TD, FieldId(id));
        }

        #[test]
        fn reserved_bits_are_malformed(bit in prop_oneof![24_u32..32, 34_u32..50, Just(55), Just(62)]) {
            prop_assert!(!FieldId(FieldId::XFAM.0 | 1 << bit).bits().names_one_element());
        }
    }
}
