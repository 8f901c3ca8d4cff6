//! The attestation report (56860 rev. 1.58, section 7.3, tables 23 and 113): 1184 bytes, of which the first 2A0h are
//! signed.
//!
//! | version | adds |
//! |---|---|
//! | 2 | – |
//! | 3 | `CPUID_FAM_ID`, `CPUID_MOD_ID`, `CPUID_STEP` at 188h; `ALIAS_CHECK_COMPLETE` |
//! | 5 | `LAUNCH_MIT_VECTOR`, `CURRENT_MIT_VECTOR` at 1F8h; `PAGE_SWAP_DISABLE`, `TIO_EN` |

use zerocopy::little_endian::{U32, U64};

use super::{
    policy::{GuestPolicy, KeyInfo, PlatformInfo},
    tcb::{ProductLine, TcbVersion},
};

wire! {
    /// A firmware version as reports state it.
    pub struct FirmwareVersion {
        /// Build number.
        pub build: u8,
        /// Minor version of the ABI.
        pub minor: u8,
        /// Major version of the ABI.
        pub major: u8,
    }
}
assert_layout!(FirmwareVersion, 3, { build: 0, minor: 1, major: 2 });

impl FirmwareVersion {
    /// A version from its parts.
    #[must_use]
    pub const fn new(major: u8, minor: u8, build: u8) -> Self {
        Self { build, minor, major }
    }
}

impl core::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

wire! {
    /// `ATTESTATION_REPORT`.
    pub struct AttestationReport {
        /// Version of this structure: 2, 3 or 5.
        pub version: U32,
        /// Guest SVN of the ID block.
        pub guest_svn: U32,
        /// The bits of [`GuestPolicy`].
        pub policy: U64,
        /// Family ID of the ID block.
        pub family_id: [u8; 16],
        /// Image ID of the ID block.
        pub image_id: [u8; 16],
        /// VMPL of the request; all ones if the host asked.
        pub vmpl: U32,
        /// A [`SignatureAlgorithm`].
        pub signature_algo: U32,
        /// `CURRENT_TCB`.
        pub current_tcb: TcbVersion,
        /// The bits of [`PlatformInfo`].
        pub platform_info: U64,
        /// The bits of [`KeyInfo`].
        pub key_info: U32,
        /// Reserved, zero.
        pub reserved_0x4c: U32,
        /// Given by the guest.
        pub report_data: [u8; 64],
        /// Launch digest.
        pub measurement: [u8; 48],
        /// Given by the host at launch.
        pub host_data: [u8; 32],
        /// SHA-384 of the ID key.
        pub id_key_digest: [u8; 48],
        /// SHA-384 of the author key.
        pub author_key_digest: [u8; 48],
        /// Identifier of this guest.
        pub report_id: [u8; 32],
        /// Identifier of its migration agent; all ones if none.
        pub report_id_ma: [u8; 32],
        /// `REPORTED_TCB`: the VCEK is derived from this one.
        pub reported_tcb: TcbVersion,
        /// Combined family; version 3.
        pub cpuid_fam_id: u8,
        /// Combined model; version 3.
        pub cpuid_mod_id: u8,
        /// Stepping; version 3.
        pub cpuid_step: u8,
        /// Reserved, zero.
        pub reserved_0x18b: [u8; 21],
        /// Chip identifier; zero if masked (`MASK_CHIP_ID`), whichever key signs.
        pub chip_id: [u8; 64],
        /// `COMMITTED_TCB`.
        pub committed_tcb: TcbVersion,
        /// `CURRENT_VERSION`.
        pub current_version: FirmwareVersion,
        /// Reserved, zero.
        pub reserved_0x1eb: u8,
        /// `COMMITTED_VERSION`.
        pub committed_version: FirmwareVersion,
        /// Reserved, zero.
        pub reserved_0x1ef: u8,
        /// `LAUNCH_TCB`: current TCB when the guest was launched or imported.
        pub launch_tcb: TcbVersion,
        /// `LAUNCH_MIT_VECTOR`; version 5.
        pub launch_mit_vector: U64,
        /// `CURRENT_MIT_VECTOR`; version 5.
        pub current_mit_vector: U64,
        /// Reserved, zero.
        pub reserved_0x208: [u8; 152],
        /// Over the bytes before it.
        pub signature: Signature,
    }
}
assert_layout!(AttestationReport, 0x4a0, {
    version: 0x0, guest_svn: 0x4, policy: 0x8, family_id: 0x10, image_id: 0x20, vmpl: 0x30, signature_algo: 0x34,
    current_tcb: 0x38, platform_info: 0x40, key_info: 0x48, reserved_0x4c: 0x4c, report_data: 0x50,
    measurement: 0x90, host_data: 0xc0, id_key_digest: 0xe0, author_key_digest: 0x110, report_id: 0x140,
    report_id_ma: 0x160, reported_tcb: 0x180, cpuid_fam_id: 0x188, cpuid_mod_id: 0x189, cpuid_step: 0x18a,
    reserved_0x18b: 0x18b, chip_id: 0x1a0, committed_tcb: 0x1e0, current_version: 0x1e8, reserved_0x1eb: 0x1eb,
    committed_version: 0x1ec, reserved_0x1ef: 0x1ef, launch_tcb: 0x1f0, launch_mit_vector: 0x1f8,
    current_mit_vector: 0x200, reserved_0x208: 0x208, signature: 0x2a0,
});

/// Bytes of the report that the signature covers.
pub const SIGNED_SIZE: usize = 0x2a0;

open_codes! {
    /// Signature algorithm encodings (chapter 10, table 140).
    pub struct SignatureAlgorithm(u32);
    /// Not an algorithm.
    INVALID = 0;
    /// ECDSA P-384 with SHA-384.
    ECDSA_P384_SHA384 = 1;
}

wire! {
    /// ECDSA P-384 signature (chapter 10, table 141): little-endian, zero-extended scalars.
    pub struct Signature {
        /// R.
        pub r: [u8; 72],
        /// S.
        pub s: [u8; 72],
        /// Reserved, zero.
        pub reserved_0x90: [u8; 368],
    }
}
assert_layout!(Signature, 512, { r: 0x0, s: 0x48, reserved_0x90: 0x90 });

impl Signature {
    /// Unsigned: all zero.
    pub const ZERO: Self = Self { r: [0; 72], s: [0; 72], reserved_0x90: [0; 368] };

    /// From two big-endian scalars.
    #[must_use]
    pub fn from_big_endian(r: &[u8; 48], s: &[u8; 48]) -> Self {
        Self { r: widen(r), s: widen(s), reserved_0x90: [0; 368] }
    }

    /// The two scalars, big-endian; `None` if one does not fit into 384 bits.
    #[must_use]
    pub fn to_big_endian(&self) -> Option<([u8; 48], [u8; 48])> {
        Some((narrow(&self.r)?, narrow(&self.s)?))
    }
}

fn widen(scalar: &[u8; 48]) -> [u8; 72] {
    let mut out = [0; 72];
    for (to, from) in out.iter_mut().zip(scalar.iter().rev()) {
        *to = *from;
    }
    out
}

fn narrow(field: &[u8; 72]) -> Option<[u8; 48]> {
    let (scalar, rest) = field.split_at(48);
    let mut out = [0; 48];
    for (to, from) in out.iter_mut().zip(scalar.iter().rev()) {
        *to = *from;
    }
    rest.iter().all(|byte| *byte == 0).then_some(out)
}

wire! {
    /// ECDSA P-384 public key (chapter 10, table 142): little-endian, zero-extended coordinates.
    pub struct EcdsaPublicKey {
        /// Curve: 2 is P-384.
        pub curve: U32,
        /// X.
        pub qx: [u8; 72],
        /// Y.
        pub qy: [u8; 72],
        /// Reserved, zero.
        pub reserved_0x94: [u8; 880],
    }
}
assert_layout!(EcdsaPublicKey, 0x404, { curve: 0x0, qx: 0x4, qy: 0x4c, reserved_0x94: 0x94 });

/// [`EcdsaPublicKey::curve`] of P-384.
pub const CURVE_P384: u32 = 2;

impl EcdsaPublicKey {
    /// A P-384 point from big-endian coordinates.
    #[must_use]
    pub fn from_big_endian(x: &[u8; 48], y: &[u8; 48]) -> Self {
        Self { curve: U32::new(CURVE_P384), qx: widen(x), qy: widen(y), reserved_0x94: [0; 880] }
    }

    /// The coordinates, big-endian; `None` if the curve is not P-384 or one does not fit.
    #[must_use]
    pub fn to_big_endian(&self) -> Option<([u8; 48], [u8; 48])> {
        if self.curve.get() != CURVE_P384 {
            return None;
        }
        Some((narrow(&self.qx)?, narrow(&self.qy)?))
    }
}

impl AttestationReport {
    /// The policy's bits.
    #[must_use]
    pub fn policy_bits(&self) -> GuestPolicy {
        self.policy.get().into()
    }

    /// The platform information's bits.
    #[must_use]
    pub fn platform_info_bits(&self) -> PlatformInfo {
        self.platform_info.get().into()
    }

    /// The key information's bits.
    #[must_use]
    pub fn key_info_bits(&self) -> KeyInfo {
        self.key_info.get().into()
    }

    /// The product line that the report names: by CPUID from version 3 on. A version 2 report names none; there, a
    /// chip identifier whose last 56 bytes are zero is Turin's (56860, `CHIP_ID`).
    #[must_use]
    pub fn product_line(&self) -> Option<ProductLine> {
        match self.version.get() {
            0..=2 => None,
            _ => ProductLine::from_family_model(self.cpuid_fam_id, self.cpuid_mod_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_report_and_come_back(bytes in prop::collection::vec(any::<u8>(), 0x4a0)) {
            let report = AttestationReport::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(report.as_bytes(), &bytes[..]);
        }

        #[test]
        fn scalars_round_trip(r: [u8; 32], s: [u8; 32], last: [u8; 16]) {
            let join = |a: &[u8; 32]| { let mut out = [0; 48]; out[..32].copy_from_slice(a); out[32..].copy_from_slice(&last); out };
            let (r, s) = (join(&r), join(&s));
            let signature = Signature::from_big_endian(&r, &s);
            prop_assert_eq!(signature.to_big_endian(), Some((r, s)));
            let point = EcdsaPublicKey::from_big_endian(&r, &s);
            prop_assert_eq!(point.to_big_endian(), Some((r, s)));
        }
    }

    #[test]
    fn a_scalar_over_384_bits_is_refused() {
        let mut signature = Signature::ZERO;
        signature.r[48] = 1;
        assert_eq!(signature.to_big_endian(), None);
    }

    #[test]
    fn scalars_are_little_endian() {
        let mut one = [0; 48];
        one[47] = 1;
        assert_eq!(Signature::from_big_endian(&one, &one).r[0], 1);
    }
}
