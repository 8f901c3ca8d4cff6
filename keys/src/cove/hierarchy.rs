//! The hierarchy of one seed.

use std::sync::{Arc, OnceLock};

use der::asn1::OctetString;

use super::builder::{Edits, HierarchyBuilder};
use super::draft::{self, Issuer, TvmCertificate};
use super::{AttestationKey, CertificateKind, Device, DeviceIdentity, KeyAlgorithm};
use crate::profile::get_or_try_init;
use crate::{Certificate, Crl, CrlDraft, EcdsaP256Key, KeysError, Seed};

/// The hierarchy of one seed. Cheap to clone: clones share the root.
#[derive(Clone)]
pub struct Hierarchy {
    inner: Arc<Inner>,
}

struct Inner {
    seed: Seed,
    edits: Edits,
    key: OnceLock<Arc<EcdsaP256Key>>,
    root: OnceLock<Certificate>,
}

/// Keys and certificates of a device's layers up to the TSM, of one algorithm. Cheap to clone.
#[derive(Clone)]
pub struct Chain {
    keys: [Arc<AttestationKey>; 3],
    certificates: [Certificate; 3],
}

impl Chain {
    /// The RoT's key: signs the platform token.
    #[must_use]
    pub const fn rot_key(&self) -> &Arc<AttestationKey> {
        &self.keys[0]
    }

    /// The platform's key: signs the TSM token.
    #[must_use]
    pub const fn platform_key(&self) -> &Arc<AttestationKey> {
        &self.keys[1]
    }

    /// The TSM's key: signs TVM tokens and certificates.
    #[must_use]
    pub const fn tsm_key(&self) -> &Arc<AttestationKey> {
        &self.keys[2]
    }

    /// The RoT's certificate, signed by the root.
    #[must_use]
    pub const fn rot(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// The platform's certificate, signed by the RoT.
    #[must_use]
    pub const fn platform(&self) -> &Certificate {
        &self.certificates[1]
    }

    /// The TSM's certificate, signed by the platform.
    #[must_use]
    pub const fn tsm(&self) -> &Certificate {
        &self.certificates[2]
    }

    /// TSM, platform, RoT as PEM: from the leaf's issuer up to, and without, the root.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificates.iter().rev().map(Certificate::pem).collect()
    }
}

impl Hierarchy {
    /// The hierarchy. Nothing is generated until it is asked for.
    #[must_use]
    pub fn new(seed: &Seed) -> Self {
        Self::builder(seed).build()
    }

    /// A hierarchy with something to be changed about it.
    #[must_use]
    pub fn builder(seed: &Seed) -> HierarchyBuilder {
        HierarchyBuilder::new(seed)
    }

    pub(super) fn with_edits(seed: Seed, edits: Edits) -> Self {
        Self { inner: Arc::new(Inner { seed, edits, key: OnceLock::new(), root: OnceLock::new() }) }
    }

    /// The manufacturer's root certificate, signed by itself.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails, or an edit gave a field that does not encode.
    pub fn root(&self) -> Result<&Certificate, KeysError> {
        get_or_try_init(&self.inner.root, || {
            let key = self.root_key()?;
            let mut draft = draft::root(key.public_key()?, key.signer())?;
            self.inner.edits.certificates.apply(CertificateKind::Root, &mut draft);
            draft.sign()
        })
    }

    /// The root's private key, to sign something else with.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn root_key(&self) -> Result<&Arc<EcdsaP256Key>, KeysError> {
        let label: &[&[u8]] = &[b"cove", b"root"];
        get_or_try_init(&self.inner.key, || Ok(Arc::new(EcdsaP256Key::generate(&self.inner.seed, label)?)))
    }

    /// The layers of a device.
    #[must_use]
    pub fn device(&self, identity: &DeviceIdentity) -> Device {
        Device::new(&self.inner.seed, identity)
    }

    /// Keys and certificates of a device's layers.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn chain(&self, device: &Device, algorithm: KeyAlgorithm) -> Result<Chain, KeysError> {
        let key = |cdi: &super::Cdi| cdi.key(algorithm).map(Arc::new);
        let keys = [key(device.rot())?, key(device.platform())?, key(device.tsm())?];
        let root = self.root()?;
        let issuer = Issuer {
            name: root.subject(),
            key_identifier: draft::root_key_identifier(root.public_key())?,
            signer: self.root_key()?.signer(),
        };
        let rot = self.layer(CertificateKind::Rot, &keys[0], issuer)?;
        let platform = self.layer(CertificateKind::Platform, &keys[1], issued_by(&rot, &keys[0])?)?;
        let tsm = self.layer(CertificateKind::Tsm, &keys[2], issued_by(&platform, &keys[1])?)?;
        Ok(Chain { keys, certificates: [rot, platform, tsm] })
    }

    fn layer(
        &self,
        kind: CertificateKind,
        key: &AttestationKey,
        issuer: Issuer<'_>,
    ) -> Result<Certificate, KeysError> {
        let mut draft = draft::layer(kind, key.id(), key.spki()?, issuer)?;
        self.inner.edits.certificates.apply(kind, &mut draft);
        draft.sign()
    }

    /// A TVM's certificate, signed by the TSM: evidence in the X.509 format.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn tvm(&self, chain: &Chain, spec: TvmCertificate) -> Result<Certificate, KeysError> {
        let key = chain.tsm_key();
        let mut draft = draft::tvm(spec, key.id(), issued_by(chain.tsm(), key)?)?;
        self.inner.edits.certificates.apply(CertificateKind::Tvm, &mut draft);
        draft.sign()
    }

    /// The root's revocation list with the given CRL number, which revokes RoT certificates by their serial numbers (content
    /// octets of the INTEGER, the `UDS_ID`), with the reason `keyCompromise`. Version 2, with CRL number and authority key
    /// identifier.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn crl(&self, number: u32, revoked: &[&[u8]]) -> Result<Crl, KeysError> {
        let root = self.root()?;
        let mut crl = CrlDraft::new(root.subject(), self.root_key()?.signer())?;
        crl.extensions = draft::crl_extensions(root, number)?;
        revoked.iter().try_for_each(|serial| crl.revoke_compromised(serial))?;
        self.inner.edits.crls.apply((), &mut crl);
        crl.sign()
    }
}

fn issued_by<'a>(certificate: &'a Certificate, key: &Arc<AttestationKey>) -> Result<Issuer<'a>, KeysError> {
    let key_identifier = OctetString::new(key.id().0)?;
    Ok(Issuer { name: certificate.subject(), key_identifier, signer: key.signer() })
}
