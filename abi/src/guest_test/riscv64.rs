//! How a bare-metal RISC-V TVM and its host talk.
//!
//! The loader puts the ELF image at its own addresses, [`IMAGE_GPA`] and up; its pages are all that is measured. RAM begins
//! at [`RAM_GPA`]; what lies below the image belongs to an engine's firmware if it has one, and is no memory of the TVM. The
//! guest starts in supervisor mode, without address translation, with the hart's number in `a0`. A TVM that was built in
//! steps has in `a1` the address of the parameter page ([`PARAMETERS_GPA`]), which is `entry_arg` of `finalize_tvm`. One that
//! was promoted has that of a device tree there ([`FDT_GPA`]), the `fdt_addr` of `promote_to_tvm`; all of its memory is
//! measured, and there is nothing in it but the image, the device tree, and the TVM attestation payload at [`TAP_GPA`], if there
//! is one.
//!
//! The parameters, a nonce among them, are not measured, and nothing that is not measured lies in confidential memory. So the
//! guest shares the parameter page by `share_memory_region`, which loses its contents, and the host fills it then, each time:
//! [`Parameters`](super::Parameters) with `cpuid_gpa` zero, the challenge for evidence in `report_data`, and in `secrets_gpa`
//! where the TVM attestation payload was, zero if there was none. The secret that it held, the guest prints as a blob.
//!
//! It prints by the SBI debug console out of a page that it shares as well, the lines of [`guest_test`](super), and ends the
//! run by `sbi_system_reset`: shutdown without a reason, it is done (whatever its checks came to); with `SYSTEM_FAILURE`, it
//! gave up. It prints nothing that depends on the engine: the same platform and parameters give the same lines.

/// Guest-physical address of RAM.
pub const RAM_GPA: u64 = 0x8000_0000;
/// Lowest address of a guest image, and of the TVM's memory.
pub const IMAGE_GPA: u64 = 0x8020_0000;
/// Guest-physical address of the parameter page.
pub const PARAMETERS_GPA: u64 = 0x8040_0000;
/// Guest-physical address of the device tree of a TVM that was promoted; at most a page.
pub const FDT_GPA: u64 = 0x8060_0000;
/// Guest-physical address of the TVM attestation payload of a TVM that was promoted, if there is one.
pub const TAP_GPA: u64 = 0x8061_0000;
/// Guest-physical address of the first byte that is not RAM.
pub const RAM_END: u64 = RAM_GPA + super::RAM_SIZE;
