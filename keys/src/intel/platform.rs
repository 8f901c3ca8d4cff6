//! A platform as its PCK certificate names it, and the SGX extension that does so.

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode, Sequence, Tag};

use super::{PckCa, oid};
use crate::{KeysError, Seed};

/// The FMSPC of made-up platforms: the ASCII bytes `tsmsim`, which no processor of Intel's has. It keeps collateral apart in
/// caches, which file it by FMSPC.
pub const SYNTHETIC_FMSPC: [u8; 6] = *b"tsmsim";

/// The security version numbers in a PCK certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PckTcb {
    /// `SGX TCB Comp01 SVN` to `Comp16 SVN`.
    pub components: [u8; 16],
    /// `PCESVN`.
    pub pcesvn: u16,
    /// `CPUSVN`, as the processor reports it. On platforms with TDX the same bytes as the components.
    pub cpusvn: [u8; 16],
}

/// `SGX Type`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SgxType {
    /// Memory with integrity and replay protection, of limited size.
    Standard = 0,
    /// Memory encrypted without integrity protection.
    Scalable = 1,
    /// Memory encrypted with integrity protection.
    ScalableWithIntegrity = 2,
}

/// `Configuration`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Configuration {
    /// `Dynamic Platform`: packages can be added.
    pub dynamic_platform: bool,
    /// `Cached Keys`: the registration service keeps the platform's root keys.
    pub cached_keys: bool,
    /// `SMT Enabled`: simultaneous multithreading is on.
    pub smt_enabled: bool,
}

/// What only certificates below the platform CA have: those of registered platforms, of one or more packages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MultiPackage {
    /// `PlatformInstanceID`.
    pub platform_instance_id: [u8; 16],
    /// `Configuration`.
    pub configuration: Configuration,
}

/// A platform, as its PCK certificate names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PlatformIdentity {
    /// The platform provisioning identifier.
    pub ppid: [u8; 16],
    /// Its security version numbers.
    pub tcb: PckTcb,
    /// `PCE-ID`, in the order of the certificate.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// How it protects memory.
    pub sgx_type: SgxType,
    /// Present on platforms certified by the platform CA, absent below the processor CA.
    pub multi_package: Option<MultiPackage>,
}

impl PlatformIdentity {
    /// A made-up platform: identifiers from the seed and a number, [`SYNTHETIC_FMSPC`], version numbers as of a platform with
    /// TDX 1.5, certified by the platform CA.
    #[must_use]
    pub fn synthetic(seed: &Seed, number: u32) -> Self {
        let number = number.to_le_bytes();
        let components = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let configuration = Configuration { dynamic_platform: true, cached_keys: true, smt_enabled: true };
        Self {
            ppid: *seed.derive::<16>(&[b"intel", b"ppid", &number]).expose(),
            tcb: PckTcb { components, pcesvn: 11, cpusvn: components },
            pce_id: [0, 0],
            fmspc: SYNTHETIC_FMSPC,
            sgx_type: SgxType::Scalable,
            multi_package: Some(MultiPackage {
                platform_instance_id: *seed.derive::<16>(&[b"intel", b"platform-instance", &number]).expose(),
                configuration,
            }),
        }
    }

    /// Which CA certifies it.
    #[must_use]
    pub const fn ca(&self) -> PckCa {
        if self.multi_package.is_some() { PckCa::Platform } else { PckCa::Processor }
    }

    /// The SGX extension's value, DER: what stands in `extnValue`.
    ///
    /// # Errors
    /// [`KeysError::Der`] when the library fails.
    pub fn sgx_extension(&self) -> Result<Vec<u8>, KeysError> {
        let mut entries = vec![
            octets(oid::PPID, &self.ppid)?,
            entry(oid::TCB, &self.tcb.entries()?)?,
            octets(oid::PCEID, &self.pce_id)?,
            octets(oid::FMSPC, &self.fmspc)?,
            Entry { id: oid::SGX_TYPE, value: Any::new(Tag::Enumerated, [self.sgx_type as u8])? },
        ];
        if let Some(MultiPackage { platform_instance_id, configuration }) = &self.multi_package {
            entries.push(octets(oid::PLATFORM_INSTANCE_ID, platform_instance_id)?);
            let flags = [
                entry(oid::DYNAMIC_PLATFORM, &configuration.dynamic_platform)?,
                entry(oid::CACHED_KEYS, &configuration.cached_keys)?,
                entry(oid::SMT_ENABLED, &configuration.smt_enabled)?,
            ];
            entries.push(entry(oid::CONFIGURATION, &flags.to_vec())?);
        }
        Ok(entries.to_der()?)
    }

    /// What the PCK and its serial number are derived for, after the fixed part of the label.
    pub(super) fn pck_label(&self) -> [Vec<u8>; 3] {
        let PckTcb { pcesvn, cpusvn, .. } = self.tcb;
        [self.ppid.to_vec(), cpusvn.to_vec(), pcesvn.to_le_bytes().to_vec()]
    }
}

impl PckTcb {
    fn entries(&self) -> Result<Vec<Entry>, KeysError> {
        let mut entries = Vec::with_capacity(18);
        for (arc, svn) in (1..).zip(&self.components) {
            entries.push(entry(oid::TCB.push_arc(arc).map_err(der::Error::from)?, svn)?);
        }
        entries.push(entry(oid::PCESVN, &self.pcesvn)?);
        entries.push(octets(oid::CPUSVN, &self.cpusvn)?);
        Ok(entries)
    }
}

/// One entry of the extension, or of a sequence in it.
#[derive(Clone, Sequence)]
struct Entry {
    id: ObjectIdentifier,
    value: Any,
}

fn entry(id: ObjectIdentifier, value: &impl Encode) -> Result<Entry, KeysError> {
    Ok(Entry { id, value: der::Decode::from_der(&value.to_der()?)? })
}

fn octets(id: ObjectIdentifier, value: &[u8]) -> Result<Entry, KeysError> {
    entry(id, &OctetString::new(value)?)
}
