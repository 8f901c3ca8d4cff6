//! COVI: interrupts of TVMs (`sbi_cove.adoc`, "COVE Interrupt Extension").

use zerocopy::little_endian::{U32, U64};

open_codes! {
    /// `a6`: which function.
    pub struct CoviFid(u16);
    /// `sbi_covi_init_tvm_aia`.
    INIT_TVM_AIA = 0;
    /// `sbi_covi_set_tvm_aia_cpu_imsic_addr`.
    SET_TVM_AIA_CPU_IMSIC_ADDR = 1;
    /// `sbi_covi_convert_imsic`.
    CONVERT_IMSIC = 2;
    /// `sbi_covi_reclaim_imsic`.
    RECLAIM_IMSIC = 3;
    /// `sbi_covi_bind_imsic`.
    BIND_IMSIC = 4;
    /// `sbi_covi_unbind_imsic_begin`.
    UNBIND_IMSIC_BEGIN = 5;
    /// `sbi_covi_unbind_imsic_end`.
    UNBIND_IMSIC_END = 6;
    /// `sbi_covi_inject_tvm_cpu`.
    INJECT_TVM_CPU = 7;
    /// `sbi_covi_rebind_imsic_begin`.
    REBIND_IMSIC_BEGIN = 8;
    /// `sbi_covi_rebind_imsic_clone`.
    REBIND_IMSIC_CLONE = 9;
    /// `sbi_covi_rebind_imsic_end`.
    REBIND_IMSIC_END = 10;
}

wire! {
    /// `struct tvm_aia_params`.
    pub struct TvmAiaParams {
        /// Base of the IMSIC addresses, guest-physical.
        pub imsic_base_addr: U64,
        /// Bits of the group index.
        pub group_index_bits: U32,
        /// Where the group index begins in an address.
        pub group_index_shift: U32,
        /// Bits of the hart index.
        pub hart_index_bits: U32,
        /// Bits of the guest index.
        pub guest_index_bits: U32,
        /// Guest interrupt files of a hart.
        pub guests_per_hart: U32,
        /// Padding, zero.
        pub padding: U32,
    }
}
assert_layout!(TvmAiaParams, 32, {
    imsic_base_addr: 0x0, group_index_bits: 0x8, group_index_shift: 0xc, hart_index_bits: 0x10,
    guest_index_bits: 0x14, guests_per_hart: 0x18, padding: 0x1c,
});
