//! The hierarchy of one seed.

use std::sync::{Arc, OnceLock};

use super::builder::{Edits, HierarchyBuilder};
use super::{
    CertificateKind, CrlKind, JsonDraft, PckCa, PckKey, PlatformIdentity, QeIdentitySpec, QuoteCollateral,
    SignedJson, TcbInfoSpec, draft,
};
use crate::profile::get_or_try_init;
use crate::{Certificate, Crl, CrlDraft, EcdsaP256Key, KeysError, Seed};

/// The hierarchy of one seed. Cheap to clone: clones share keys and certificates.
///
/// Keys and certificates are made when first asked for and kept, except what belongs to a platform and what is made to
/// measure, which belong to the caller.
#[derive(Clone)]
pub struct Hierarchy {
    inner: Arc<Inner>,
}

struct Inner {
    seed: Seed,
    edits: Edits,
    authorities: [Authority; 4],
}

#[derive(Default)]
struct Authority {
    key: OnceLock<Arc<EcdsaP256Key>>,
    certificate: OnceLock<Certificate>,
}

impl Hierarchy {
    /// The hierarchy, as Intel's looks. Nothing is generated until it is asked for.
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
        Self { inner: Arc::new(Inner { seed, edits, authorities: Default::default() }) }
    }

    /// The root CA's certificate, signed by itself.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails, or an edit gave a field that does not encode.
    pub fn root(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::Root)
    }

    /// The PCK platform CA's certificate, signed by the root.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn platform_ca(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::PlatformCa)
    }

    /// The PCK processor CA's certificate, signed by the root.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn processor_ca(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::ProcessorCa)
    }

    /// The certificate of a PCK CA.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn pck_ca(&self, ca: PckCa) -> Result<&Certificate, KeysError> {
        self.authority(ca.kind())
    }

    /// The TCB signing certificate, signed by the root.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn tcb_signing(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::TcbSigning)
    }

    /// The private key of the root, a CA or the TCB signer, to sign something else with. For a PCK certificate, the
    /// platform CA's.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn key(&self, kind: CertificateKind) -> Result<&Arc<EcdsaP256Key>, KeysError> {
        let kind = if kind == CertificateKind::Pck { CertificateKind::PlatformCa } else { kind };
        get_or_try_init(&self.inner.slot(kind).key, || {
            let label: &[&[u8]] = &[b"intel", kind.name().as_bytes()];
            Ok(Arc::new(EcdsaP256Key::generate(&self.inner.seed, label)?))
        })
    }

    /// The platform's provisioning certification key, with a certificate signed by the CA that the platform belongs to.
    /// Another PPID, CPUSVN or PCESVN has another key.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn pck(&self, platform: &PlatformIdentity) -> Result<PckKey, KeysError> {
        let Inner { seed, edits, .. } = &*self.inner;
        let [ppid, cpusvn, pcesvn] = platform.pck_label();
        let key = EcdsaP256Key::generate(seed, &[b"intel", b"pck", &ppid, &cpusvn, &pcesvn])?;
        let ca = platform.ca();
        let issuer = self.pck_ca(ca)?;
        let mut draft = draft::pck(platform, key.public_key()?, issuer, self.key(ca.kind())?.signer())?;
        edits.certificates.apply(CertificateKind::Pck, &mut draft);
        let certificate = draft.sign()?;
        let chain = certificate.pem() + &self.pck_crl_issuer_chain(ca)?;
        Ok(PckKey { platform: platform.clone(), key: Arc::new(key), certificate, chain })
    }

    /// The key with which a platform's quoting enclave signs quotes. Another PPID or CPUSVN has another key.
    ///
    /// # Errors
    /// [`KeysError::Ecdsa`] when a library refuses the key.
    pub fn attestation_key(&self, platform: &PlatformIdentity) -> Result<Arc<EcdsaP256Key>, KeysError> {
        let label: &[&[u8]] = &[b"intel", b"attestation", &platform.ppid, &platform.tcb.cpusvn];
        Ok(Arc::new(EcdsaP256Key::generate(&self.inner.seed, label)?))
    }

    /// The root's revocation list: version 2, CRL number 1, authority key identifier; nothing revoked.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn root_crl(&self) -> Result<Crl, KeysError> {
        self.crl(CrlKind::Root, 1, &[])
    }

    /// A PCK CA's revocation list: version 2, CRL number 1, authority key identifier; nothing revoked.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn pck_crl(&self, ca: PckCa) -> Result<Crl, KeysError> {
        self.crl(CrlKind::Pck(ca), 1, &[])
    }

    /// A revocation list with the given CRL number that revokes certificates by their serial numbers (content octets of the
    /// INTEGER), with the reason `keyCompromise` as Intel's. The root's list can revoke CAs and the TCB signing certificate,
    /// a PCK CA's list PCK certificates.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn crl(&self, kind: CrlKind, number: u32, revoked: &[&[u8]]) -> Result<Crl, KeysError> {
        let issuer = kind.issuer();
        let certificate = self.authority(issuer)?;
        let mut crl = CrlDraft::new(certificate.subject(), self.key(issuer)?.signer())?;
        crl.extensions = draft::crl_extensions(certificate, number)?;
        revoked.iter().try_for_each(|serial| crl.revoke_compromised(serial))?;
        self.inner.edits.crls.apply(kind, &mut crl);
        crl.sign()
    }

    /// TCB info, signed by the TCB signing key.
    ///
    /// # Errors
    /// As [`root`](Self::root), and [`KeysError::Json`].
    pub fn tcb_info(&self, spec: &TcbInfoSpec) -> Result<SignedJson, KeysError> {
        let mut draft = self.json(spec.body())?;
        self.inner.edits.tcb_info.apply((), &mut draft);
        draft.sign("tcbInfo")
    }

    /// A QE identity, signed by the TCB signing key.
    ///
    /// # Errors
    /// As [`root`](Self::root), and [`KeysError::Json`].
    pub fn qe_identity(&self, spec: &QeIdentitySpec) -> Result<SignedJson, KeysError> {
        let mut draft = self.json(spec.body())?;
        self.inner.edits.qe_identity.apply((), &mut draft);
        draft.sign("enclaveIdentity")
    }

    /// The certificate of a PCK CA, then the root's, PEM.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn pck_crl_issuer_chain(&self, ca: PckCa) -> Result<String, KeysError> {
        Ok(self.pck_ca(ca)?.pem() + &self.root()?.pem())
    }

    /// The TCB signing certificate, then the root's, PEM.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn tcb_issuer_chain(&self) -> Result<String, KeysError> {
        Ok(self.tcb_signing()?.pem() + &self.root()?.pem())
    }

    /// Everything a verifier needs beside a quote that carries its PCK certificates.
    ///
    /// # Errors
    /// As [`root`](Self::root), and [`KeysError::Json`].
    pub fn collateral(
        &self,
        ca: PckCa,
        tcb_info: &TcbInfoSpec,
        qe_identity: &QeIdentitySpec,
    ) -> Result<QuoteCollateral, KeysError> {
        let mut collateral = QuoteCollateral {
            pck_crl_issuer_chain: self.pck_crl_issuer_chain(ca)?,
            root_ca_crl: self.root_crl()?.der().to_vec(),
            pck_crl: self.pck_crl(ca)?.der().to_vec(),
            tcb_info_issuer_chain: String::new(),
            tcb_info: String::new(),
            tcb_info_signature: Vec::new(),
            qe_identity_issuer_chain: String::new(),
            qe_identity: String::new(),
            qe_identity_signature: Vec::new(),
            pck_certificate_chain: None,
        };
        collateral.set_tcb_info(&self.tcb_info(tcb_info)?);
        collateral.set_qe_identity(&self.qe_identity(qe_identity)?);
        Ok(collateral)
    }

    fn json<T>(&self, body: T) -> Result<JsonDraft<T>, KeysError> {
        Ok(JsonDraft {
            body,
            text: None,
            signer: Arc::clone(self.key(CertificateKind::TcbSigning)?),
            issuer_chain: self.tcb_issuer_chain()?,
            flip_signature_bits: Vec::new(),
        })
    }

    pub(super) fn authority(&self, kind: CertificateKind) -> Result<&Certificate, KeysError> {
        get_or_try_init(&self.inner.slot(kind).certificate, || {
            let issuer = if kind == CertificateKind::Root { None } else { Some(self.root()?) };
            let public_key = self.key(kind)?.public_key()?;
            let signer = self.key(CertificateKind::Root)?.signer();
            let mut draft = draft::certificate(kind, public_key, issuer, signer)?;
            self.inner.edits.certificates.apply(kind, &mut draft);
            draft.sign()
        })
    }
}

impl Inner {
    fn slot(&self, kind: CertificateKind) -> &Authority {
        let [root, platform, processor, signing] = &self.authorities;
        match kind {
            CertificateKind::Root => root,
            CertificateKind::PlatformCa | CertificateKind::Pck => platform,
            CertificateKind::ProcessorCa => processor,
            CertificateKind::TcbSigning => signing,
        }
    }
}
