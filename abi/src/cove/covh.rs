//! COVH: what a host asks of the TSM (`sbi_cove.adoc`, "COVE Host Extension"). The structures have the alignment of C on
//! RV64; the specification does not say that they are packed.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U32, U64};

open_codes! {
    /// `a6`: which function.
    pub struct CovhFid(u16);
    /// `sbi_covh_get_tsm_info`.
    GET_TSM_INFO = 0;
    /// `sbi_covh_convert_pages`.
    CONVERT_PAGES = 1;
    /// `sbi_covh_reclaim_pages`.
    RECLAIM_PAGES = 2;
    /// `sbi_covh_global_fence`.
    GLOBAL_FENCE = 3;
    /// `sbi_covh_local_fence`.
    LOCAL_FENCE = 4;
    /// `sbi_covh_create_tvm`.
    CREATE_TVM = 5;
    /// `sbi_covh_finalize_tvm`.
    FINALIZE_TVM = 6;
    /// `sbi_covh_promote_to_tvm`.
    PROMOTE_TO_TVM = 7;
    /// `sbi_covh_destroy_tvm`.
    DESTROY_TVM = 8;
    /// `sbi_covh_add_tvm_memory_region`.
    ADD_TVM_MEMORY_REGION = 9;
    /// `sbi_covh_add_tvm_page_table_pages`.
    ADD_TVM_PAGE_TABLE_PAGES = 10;
    /// `sbi_covh_add_tvm_measured_pages`.
    ADD_TVM_MEASURED_PAGES = 11;
    /// `sbi_covh_add_tvm_zero_pages`.
    ADD_TVM_ZERO_PAGES = 12;
    /// `sbi_covh_add_tvm_shared_pages`.
    ADD_TVM_SHARED_PAGES = 13;
    /// `sbi_covh_create_tvm_vcpu`.
    CREATE_TVM_VCPU = 14;
    /// `sbi_covh_run_tvm_vcpu`.
    RUN_TVM_VCPU = 15;
    /// `sbi_covh_tvm_fence`.
    TVM_FENCE = 16;
    /// `sbi_covh_tvm_invalidate_pages`.
    TVM_INVALIDATE_PAGES = 17;
    /// `sbi_covh_tvm_validate_pages`.
    TVM_VALIDATE_PAGES = 18;
    /// `sbi_covh_tvm_remove_pages`.
    TVM_REMOVE_PAGES = 19;
}

open_codes! {
    /// `tsm_page_type`.
    pub struct TsmPageType(u64);
    /// 4 KiB.
    PAGE_4K = 0;
    /// 2 MiB.
    PAGE_2MB = 1;
    /// 1 GiB.
    PAGE_1GB = 2;
    /// 512 GiB.
    PAGE_512GB = 3;
}

open_codes! {
    /// `tvm_state`.
    pub struct TvmState(u32);
    /// Created, not yet ready to run.
    INITIALIZING = 0;
    /// Can run.
    RUNNABLE = 1;
}

open_codes! {
    /// `tsm_state`.
    pub struct TsmState(u32);
    /// Not loaded.
    NOT_LOADED = 0;
    /// Loaded, not yet initialized.
    LOADED = 1;
    /// Ready for calls.
    READY = 2;
}

open_codes! {
    /// `tsm_impl_id`.
    pub struct TsmImplId(u32);
    /// Salus.
    SALUS = 1;
    /// ACE.
    ACE = 2;
}

/// `tsm_capabilities`.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct TsmCapabilities {
    /// `COVE_TSM_CAP_PROMOTE_TVM`: creation in a single step.
    pub promote_tvm: bool,
    /// `COVE_TSM_CAP_ATTESTATION_LOCAL`.
    pub attestation_local: bool,
    /// `COVE_TSM_CAP_ATTESTATION_REMOTE`.
    pub attestation_remote: bool,
    /// `COVE_TSM_CAP_AIA`.
    pub aia: bool,
    /// `COVE_TSM_CAP_MRIF`.
    pub mrif: bool,
    /// `COVE_TSM_CAP_MEMORY_ALLOCATION`: dynamic memory allocation.
    pub memory_allocation: bool,
    /// Reserved, zero.
    #[bits(58)]
    pub reserved: u64,
}

wire! {
    /// `struct tsm_info`.
    pub struct TsmInfo {
        /// A [`TsmState`]. Unless it is ready, the rest is zero.
        pub tsm_state: U32,
        /// A [`TsmImplId`].
        pub tsm_impl_id: U32,
        /// Version of the TSM.
        pub tsm_version: U32,
        /// Padding, zero.
        pub padding: U32,
        /// [`TsmCapabilities`].
        pub tsm_capabilities: U64,
        /// 4-KiB pages to be donated for a TVM.
        pub tvm_state_pages: U64,
        /// Most vCPUs of a TVM.
        pub tvm_max_vcpus: U64,
        /// 4-KiB pages to be donated for a vCPU.
        pub tvm_vcpu_state_pages: U64,
    }
}
assert_layout!(TsmInfo, 48, {
    tsm_state: 0x0, tsm_impl_id: 0x4, tsm_version: 0x8, padding: 0xc, tsm_capabilities: 0x10,
    tvm_state_pages: 0x18, tvm_max_vcpus: 0x20, tvm_vcpu_state_pages: 0x28,
});

wire! {
    /// `struct tvm_create_params`.
    pub struct TvmCreateParams {
        /// Physical address of the page directory: confidential, 16 KiB, aligned to as much.
        pub tvm_page_directory_addr: U64,
        /// Physical address of the TVM's state: confidential, page-aligned, `tvm_state_pages` pages.
        pub tvm_state_addr: U64,
    }
}
assert_layout!(TvmCreateParams, 16, { tvm_page_directory_addr: 0x0, tvm_state_addr: 0x8 });

/// Size and alignment of a TVM's page directory.
pub const PAGE_DIRECTORY_SIZE: u64 = 16 << 10;
/// Bytes, and alignment, of a TVM identity.
pub const TVM_IDENTITY_SIZE: usize = 64;
/// Alignment of the addresses of FDT and TAP in `promote_to_tvm`.
pub const PROMOTE_ALIGNMENT: u64 = 8;
