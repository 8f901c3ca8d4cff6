//! TDREPORT: what `TDG.MR.REPORT` writes (348551 TDX Module ABI Reference 1.5, section "Measurement and Attestation
//! Data Types"; 348550 TDX Module Base Architecture, chapter on measurement and attestation).
//!
//! The MAC covers the first [`MACED_SIZE`] bytes of [`ReportMacStruct`], which hold the SHA-384 of [`TeeTcbInfo`] and
//! of [`TdInfo`].

use zerocopy::little_endian::{U16, U64};

use super::td_params::{TdAttributes, Xfam};

/// A measurement: SHA-384.
pub type Measurement = [u8; 48];

/// Number of run-time measurement registers.
pub const NUM_RTMRS: usize = 4;

wire! {
    /// `REPORTTYPE`: what kind of TEE reports.
    pub struct ReportType {
        /// A [`TeeType`].
        pub tee_type: u8,
        /// Sub-type: 0.
        pub subtype: u8,
        /// A [`ReportVersion`].
        pub version: u8,
        /// Reserved, zero.
        pub reserved: u8,
    }
}
assert_layout!(ReportType, 4, { tee_type: 0x0, subtype: 0x1, version: 0x2, reserved: 0x3 });

open_codes! {
    /// Kind of TEE.
    pub struct TeeType(u8);
    /// An SGX enclave.
    SGX = 0x00;
    /// A trust domain.
    TDX = 0x81;
}

open_codes! {
    /// Version of a TDX [`ReportType`].
    pub struct ReportVersion(u8);
    /// No service TD is bound: `SERVTD_HASH` is zero. All that TDX 1.0 knows.
    NO_SERVICE_TD = 0;
    /// Service TDs are bound: `SERVTD_HASH` is theirs.
    WITH_SERVICE_TD = 1;
}

wire! {
    /// `REPORTMACSTRUCT`: the part of a report that is common to SGX and TDX, with the MAC.
    pub struct ReportMacStruct {
        /// Kind and version.
        pub report_type: ReportType,
        /// Reserved, zero.
        pub reserved_0x4: [u8; 12],
        /// Security version number of the processor.
        pub cpusvn: [u8; 16],
        /// SHA-384 of the [`TeeTcbInfo`].
        pub tee_tcb_info_hash: Measurement,
        /// SHA-384 of the [`TdInfo`].
        pub tee_info_hash: Measurement,
        /// Given by the guest.
        pub report_data: [u8; 64],
        /// Reserved, zero.
        pub reserved_0xc0: [u8; 32],
        /// HMAC-SHA256 over the bytes before it, with a key that never leaves the processor.
        pub mac: [u8; 32],
    }
}
assert_layout!(ReportMacStruct, 0x100, {
    report_type: 0x0, reserved_0x4: 0x4, cpusvn: 0x10, tee_tcb_info_hash: 0x20, tee_info_hash: 0x50,
    report_data: 0x80, reserved_0xc0: 0xc0, mac: 0xe0,
});

/// Bytes of [`ReportMacStruct`] that its MAC covers.
pub const MACED_SIZE: usize = 0xe0;

wire! {
    /// Security version numbers of the SEAM components. Compare component by component.
    pub struct TeeTcbSvn {
        /// SVN of the module within its major version.
        pub module_svn: u8,
        /// Major version of the module: which of the `tdxModuleIdentities` applies (`TDX_01` is 1).
        pub module_major_version: u8,
        /// SVN of the last microcode patch loaded after the module (formerly of the SEAM loader).
        pub late_microcode_svn: u8,
        /// Reserved, zero.
        pub reserved: [u8; 13],
    }
}
assert_layout!(TeeTcbSvn, 16, { module_svn: 0x0, module_major_version: 0x1, late_microcode_svn: 0x2, reserved: 0x3 });

impl TeeTcbSvn {
    /// All zero.
    pub const ZERO: Self =
        Self { module_svn: 0, module_major_version: 0, late_microcode_svn: 0, reserved: [0; 13] };

    /// The sixteen components, as `tdxtcbcomponents` of TCB info orders them.
    #[must_use]
    pub const fn components(&self) -> [u8; 16] {
        let mut components = [0; 16];
        components[0] = self.module_svn;
        components[1] = self.module_major_version;
        components[2] = self.late_microcode_svn;
        let mut index = 0;
        while index < self.reserved.len() {
            components[index + 3] = self.reserved[index];
            index += 1;
        }
        components
    }
}

wire! {
    /// `TEE_TCB_INFO`: the SEAM components that stand between the processor and the TD.
    pub struct TeeTcbInfo {
        /// Which fields are given: bit *i* for the one at offset 8 *i*; [`VALID_1_0`] or [`VALID_1_5`].
        pub valid: U64,
        /// Security versions.
        pub tee_tcb_svn: TeeTcbSvn,
        /// Measurement of the module.
        pub mr_seam: Measurement,
        /// Signer of the module; zero for Intel's.
        pub mr_signer_seam: Measurement,
        /// Attributes of the module; zero.
        pub attributes: U64,
        /// Version 1.5: security versions of the module that runs now, if it was updated under a running TD (the
        /// first ones are those of the TD's launch).
        pub tee_tcb_svn2: TeeTcbSvn,
        /// Reserved, zero.
        pub reserved: [u8; 95],
    }
}
assert_layout!(TeeTcbInfo, 239, {
    valid: 0x0, tee_tcb_svn: 0x8, mr_seam: 0x18, mr_signer_seam: 0x48, attributes: 0x78, tee_tcb_svn2: 0x80,
    reserved: 0x90,
});

/// [`TeeTcbInfo::valid`] of TDX 1.0: all fields but `tee_tcb_svn2`.
pub const VALID_1_0: u64 = 0x1ff;
/// [`TeeTcbInfo::valid`] of TDX 1.5 with TD preserving.
pub const VALID_1_5: u64 = 0x3_01ff;

wire! {
    /// `TDINFO_STRUCT`: what the TD is. Version 1.0 ends with the RTMRs (`TDINFO_BASE`); the rest is zero there.
    pub struct TdInfo {
        /// The bits of [`TdAttributes`].
        pub attributes: U64,
        /// The bits of [`Xfam`].
        pub xfam: U64,
        /// Measurement of the TD's initial contents.
        pub mr_td: Measurement,
        /// Given by the host at build: configuration that the owner does not define.
        pub mr_config_id: Measurement,
        /// Given by the host at build: the owner.
        pub mr_owner: Measurement,
        /// Given by the host at build: configuration that the owner defines.
        pub mr_owner_config: Measurement,
        /// Run-time measurement registers.
        pub rtmr: [Measurement; NUM_RTMRS],
        /// Version 1.5: SHA-384 of the bound service TDs' `TDINFO`; zero if there is none.
        pub servtd_hash: Measurement,
        /// Reserved, zero.
        pub reserved: [u8; 64],
    }
}
assert_layout!(TdInfo, 0x200, {
    attributes: 0x0, xfam: 0x8, mr_td: 0x10, mr_config_id: 0x40, mr_owner: 0x70, mr_owner_config: 0xa0, rtmr: 0xd0,
    servtd_hash: 0x190, reserved: 0x1c0,
});

/// Bytes of `TDINFO_BASE`, the part of [`TdInfo`] that version 1.0 has.
pub const TDINFO_BASE_SIZE: usize = 0x190;

impl TdInfo {
    /// The attributes' bits.
    #[must_use]
    pub fn attribute_bits(&self) -> TdAttributes {
        self.attributes.get().into()
    }

    /// The extended features' bits.
    #[must_use]
    pub fn xfam_bits(&self) -> Xfam {
        self.xfam.get().into()
    }
}

wire! {
    /// `TDREPORT_STRUCT`.
    pub struct TdReport {
        /// Common part and MAC.
        pub report_mac_struct: ReportMacStruct,
        /// SEAM components.
        pub tee_tcb_info: TeeTcbInfo,
        /// Reserved, zero.
        pub reserved: [u8; 17],
        /// The TD.
        pub td_info: TdInfo,
    }
}
assert_layout!(TdReport, 0x400, { report_mac_struct: 0x0, tee_tcb_info: 0x100, reserved: 0x1ef, td_info: 0x200 });

wire! {
    /// A bound service TD as `SERVTD_HASH` takes it in: the hash is over these in ascending order of type.
    pub struct ServtdBindingHashEntry {
        /// SHA-384 of the service TD's `TDINFO`, with what its attributes leave out zeroed.
        pub info_hash: Measurement,
        /// Type of the service TD; 0: migration TD.
        pub servtd_type: U16,
        /// The bits of `SERVTD_ATTR`.
        pub attributes: U64,
    }
}
assert_layout!(ServtdBindingHashEntry, 58, { info_hash: 0x0, servtd_type: 0x30, attributes: 0x32 });

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_report_and_come_back(bytes in prop::collection::vec(any::<u8>(), 0x400)) {
            let report = TdReport::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(report.as_bytes(), &bytes[..]);
            let svn = report.tee_tcb_info.tee_tcb_svn;
            prop_assert_eq!(&svn.components()[..], svn.as_bytes());
        }

        #[test]
        fn other_sizes_are_no_report(len in 0_usize..0x800) {
            let bytes = std::vec![0; len];
            prop_assert_eq!(TdReport::read_from_bytes(&bytes).is_ok(), len == 0x400);
        }
    }

    #[test]
    fn valid_names_fields_that_exist() {
        let second_svn = core::mem::offset_of!(TeeTcbInfo, tee_tcb_svn2) / 8;
        assert_eq!(VALID_1_0 >> second_svn & 1, 0);
        assert_eq!(VALID_1_5 >> second_svn & 1, 1);
    }
}
