//! Compound device identifiers.

use hkdf::Hkdf;
use sha2::Sha512;
use tsmsim_abi::cove::claims::CDI_SIZE;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::key::{AttestationKey, KeyAlgorithm};
use crate::{KeysError, Seed};

/// A UDS or CDI: the secret of a layer. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Cdi([u8; CDI_SIZE]);

impl Cdi {
    /// The unique device secret of a device.
    #[must_use]
    pub fn uds(seed: &Seed, device: u32) -> Self {
        Self(*seed.derive(&[b"cove", b"uds", &device.to_le_bytes()]).expose())
    }

    /// The CDI of the layer above, by the hash of what was measured of it:
    /// HKDF-SHA-512 without salt over this secret and the hash, info `CoVE CDI`.
    #[must_use]
    pub fn next(&self, measurement: &[u8]) -> Self {
        let material = Zeroizing::new([&self.0, measurement].concat());
        let mut next = Self([0; CDI_SIZE]);
        let expanded = Hkdf::<Sha512>::new(None, &material).expand(b"CoVE CDI", &mut next.0);
        debug_assert!(expanded.is_ok(), "32 bytes are few");
        next
    }

    /// The layer's attestation key.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn key(&self, algorithm: KeyAlgorithm) -> Result<AttestationKey, KeysError> {
        AttestationKey::derive(self, algorithm)
    }

    /// Another secret of the layer: HKDF-SHA-512 without salt over this one.
    #[must_use]
    pub fn expand<const N: usize>(&self, info: &[u8]) -> Zeroizing<[u8; N]> {
        const { assert!(N <= 255 * 64, "RFC 5869 section 2.3 bounds the output") };
        let mut secret = Zeroizing::new([0; N]);
        let expanded = Hkdf::<Sha512>::new(None, &self.0).expand(info, &mut *secret);
        debug_assert!(expanded.is_ok(), "the length was checked at compile time");
        secret
    }

    pub(super) const fn expose(&self) -> &[u8; CDI_SIZE] {
        &self.0
    }
}

/// What a device's layers are derived for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DeviceIdentity {
    /// Which device: its UDS.
    pub number: u32,
    /// `H(Meas(TCB_0))`: of the platform's software.
    pub platform: Vec<u8>,
    /// `H(Meas(TCB_1))`: of TSM-driver and TSM.
    pub tsm: Vec<u8>,
}

/// The layers of a device up to the TSM.
#[derive(Clone)]
pub struct Device {
    rot: Cdi,
    platform: Cdi,
    tsm: Cdi,
}

impl Device {
    pub(super) fn new(seed: &Seed, identity: &DeviceIdentity) -> Self {
        let rot = Cdi::uds(seed, identity.number);
        let platform = rot.next(&identity.platform);
        let tsm = platform.next(&identity.tsm);
        Self { rot, platform, tsm }
    }

    /// The UDS.
    #[must_use]
    pub const fn rot(&self) -> &Cdi {
        &self.rot
    }

    /// The platform's CDI.
    #[must_use]
    pub const fn platform(&self) -> &Cdi {
        &self.platform
    }

    /// The TSM's CDI.
    #[must_use]
    pub const fn tsm(&self) -> &Cdi {
        &self.tsm
    }
}
