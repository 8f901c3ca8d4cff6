//! The memory that a host hart shares with the TSM (`sbi_cove.adoc`, "vCPU shared state"; RISC-V SBI 2.0, chapter 15).

use zerocopy::little_endian::U64;

wire! {
    /// `struct nacl_shmem`.
    pub struct NaclShmem {
        /// Scratch space; a [`TsmShmemScratch`] while a TVM runs.
        pub scratch: [U64; 256],
        /// Reserved, zero.
        pub reserved: [U64; 240],
        /// Which CSRs were changed.
        pub dirty_bitmap: [U64; 16],
        /// CSRs, by [`csr_index`].
        pub csrs: [U64; 1024],
    }
}
assert_layout!(NaclShmem, 12288, { scratch: 0x0, reserved: 0x800, dirty_bitmap: 0xf80, csrs: 0x1000 });

wire! {
    /// `struct tsm_shmem_scratch`: the scratch space as TSM and host use it.
    pub struct TsmShmemScratch {
        /// The guest's general registers, by number.
        pub guest_gprs: [U64; 32],
        /// Reserved, zero.
        pub reserved: [U64; 224],
    }
}
assert_layout!(TsmShmemScratch, 2048, { guest_gprs: 0x0, reserved: 0x100 });

/// Where a CSR lies in [`NaclShmem::csrs`]: bits 11:10 of its number, then bits 7:0.
#[must_use]
pub const fn csr_index(csr: u16) -> usize {
    ((csr >> 2) & 0x300 | csr & 0xff) as usize
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::htval(0x643, 0x143)]
    #[case::vsstatus(0x200, 0)]
    #[case::last(0xfff, 0x3ff)]
    fn indices(#[case] csr: u16, #[case] index: usize) {
        assert_eq!(csr_index(csr), index);
    }
}
