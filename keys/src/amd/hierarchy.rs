//! One product line's hierarchy.

use std::sync::{Arc, OnceLock};

use tsmsim_abi::snp::tcb::{ProductLine, TcbVersion};

use super::builder::{Edits, HierarchyBuilder};
use super::draft::{self, Holder};
use super::endorsement::{check_csp_id, check_tcb};
use super::{CertificateKind, ChipIdentity, EndorsementKey, default};
use crate::certificate::key_identifier;
use crate::crl::crl_number;
use crate::profile::{authority_key, get_or_try_init};
use crate::{Certificate, Crl, CrlDraft, EcdsaP384Key, KeysError, RsaKey, RsaScheme, Seed};

/// The hierarchy of one product line from one seed. Cheap to clone: clones share keys and certificates.
///
/// Keys and certificates are made when first asked for and kept, except VCEKs and VLEKs, which belong to the caller. From
/// [`Seed::DEFAULT`] the RSA keys and the certificates above VCEK and VLEK are compiled in; from any other seed an RSA key
/// takes 0.05 to 0.85 seconds to generate. Issuing a certificate costs one RSA-4096 signature, about 10 ms.
#[derive(Clone)]
pub struct Hierarchy {
    inner: Arc<Inner>,
}

struct Inner {
    seed: Seed,
    line: ProductLine,
    edits: Edits,
    committed: bool,
    ark: Authority,
    ask: Authority,
    asvk: Authority,
    crl: OnceLock<Crl>,
}

#[derive(Default)]
struct Authority {
    key: OnceLock<RsaKey>,
    certificate: OnceLock<Certificate>,
}

impl Hierarchy {
    /// The hierarchy of a line, as AMD's looks. Nothing is generated until it is asked for.
    #[must_use]
    pub fn new(seed: &Seed, line: ProductLine) -> Self {
        Self::builder(seed, line).build()
    }

    /// A hierarchy with something to be changed about it.
    #[must_use]
    pub fn builder(seed: &Seed, line: ProductLine) -> HierarchyBuilder {
        HierarchyBuilder::new(seed, line)
    }

    pub(super) fn with_edits(seed: Seed, line: ProductLine, edits: Edits) -> Self {
        let committed = seed.is_default();
        Self::from_parts(seed, line, edits, committed)
    }

    /// The default seed's hierarchy, made from the seed and not from what was committed.
    pub(super) fn regenerated(line: ProductLine) -> Self {
        Self::from_parts(Seed::DEFAULT, line, Edits::default(), false)
    }

    fn from_parts(seed: Seed, line: ProductLine, edits: Edits, committed: bool) -> Self {
        let [ark, ask, asvk] = Default::default();
        let inner = Inner { seed, line, edits, committed, ark, ask, asvk, crl: OnceLock::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The product line.
    #[must_use]
    pub fn line(&self) -> ProductLine {
        self.inner.line
    }

    /// The AMD root key's certificate, signed by itself.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails, or an edit gave a field that does not encode.
    pub fn ark(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::Ark)
    }

    /// The AMD SEV key's certificate, signed by the ARK.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn ask(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::Ask)
    }

    /// The AMD SEV VLEK key's certificate, signed by the ARK.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn asvk(&self) -> Result<&Certificate, KeysError> {
        self.authority(CertificateKind::Asvk)
    }

    /// The certificate that signs a kind of certificate.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn issuer_of(&self, kind: CertificateKind) -> Result<&Certificate, KeysError> {
        self.authority(kind.issuer())
    }

    /// The revocation list, signed by the ARK: version 2, CRL number 1, authority key identifier; nothing revoked.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn crl(&self) -> Result<&Crl, KeysError> {
        get_or_try_init(&self.inner.crl, || {
            if self.inner.committed && self.inner.edits.spare_crl() {
                return Ok(Crl::from_der(default::crl(self.inner.line)));
            }
            self.crl_number(1, &[])
        })
    }

    /// A revocation list with the given CRL number that revokes certificates by their serial numbers (content octets of the
    /// INTEGER). Only what the ARK issued can be revoked by it: the ASK, the ASVK, the ARK itself.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn crl_number(&self, number: u32, revoked: &[&[u8]]) -> Result<Crl, KeysError> {
        let signer = self.key(CertificateKind::Ark)?.signer(RsaScheme::PssSha384)?;
        let ark = self.ark()?;
        let mut crl = CrlDraft::new(ark.subject(), signer)?;
        crl.extensions = vec![authority_key(key_identifier(ark.public_key())?)?, crl_number(number)?];
        revoked.iter().for_each(|serial| crl.revoke(serial));
        self.inner.edits.crls.apply((), &mut crl);
        crl.sign()
    }

    /// The chip's key for a `TCB_VERSION`, with a certificate signed by the ASK. Another chip, line or TCB has another key.
    ///
    /// # Errors
    /// [`KeysError::ChipId`] and [`KeysError::Tcb`] for values that the line does not have; else as [`ark`](Self::ark).
    pub fn vcek(&self, chip: &ChipIdentity, tcb: TcbVersion) -> Result<EndorsementKey, KeysError> {
        chip.check(self.inner.line)?;
        let identity = chip.hwid(self.inner.line);
        self.endorsement(CertificateKind::Vcek, identity, &Holder::Chip(chip), tcb)
    }

    /// The cloud provider's key for a `TCB_VERSION`, with a certificate signed by the ASVK. `csp_id` is the provider's name
    /// for the key distribution service: 1 to 64 printable ASCII characters.
    ///
    /// # Errors
    /// [`KeysError::CspId`] and [`KeysError::Tcb`] for values that cannot be; else as [`ark`](Self::ark).
    pub fn vlek(&self, csp_id: &str, tcb: TcbVersion) -> Result<EndorsementKey, KeysError> {
        check_csp_id(csp_id)?;
        self.endorsement(CertificateKind::Vlek, csp_id.as_bytes(), &Holder::Csp(csp_id), tcb)
    }

    /// What the key distribution service answers to `cert_chain`: the signing key's certificate, then the ARK's, PEM.
    /// `kind` is that of the key whose chain is asked for: [`CertificateKind::Vlek`] gives ASVK and ARK, others ASK and ARK.
    ///
    /// # Errors
    /// As [`ark`](Self::ark).
    pub fn cert_chain(&self, kind: CertificateKind) -> Result<String, KeysError> {
        let signing = if kind == CertificateKind::Vlek { self.asvk()? } else { self.ask()? };
        Ok(signing.pem() + &self.ark()?.pem())
    }

    /// The RSA key of an authority, to sign something else with. For a VCEK or VLEK, the key that signs it.
    ///
    /// # Errors
    /// [`KeysError::Rsa`] or [`KeysError::KeyEncoding`] when the library fails.
    pub fn key(&self, kind: CertificateKind) -> Result<&RsaKey, KeysError> {
        let Inner { seed, line, .. } = &*self.inner;
        let kind = if CertificateKind::AUTHORITIES.contains(&kind) { kind } else { kind.issuer() };
        let label: &[&[u8]] = &[b"amd", line.name().as_bytes(), kind.name().as_bytes()];
        get_or_try_init(&self.inner.slot(kind).key, || {
            if self.inner.committed {
                return RsaKey::from_pkcs8_der(seed, label, default::authority(*line, kind).key);
            }
            RsaKey::generate(seed, label)
        })
    }

    fn authority(&self, kind: CertificateKind) -> Result<&Certificate, KeysError> {
        let Inner { line, edits, committed, .. } = &*self.inner;
        get_or_try_init(&self.inner.slot(kind).certificate, || {
            if *committed && edits.spare(kind) {
                return Certificate::from_der(default::authority(*line, kind).certificate);
            }
            let issuer = match kind {
                CertificateKind::Ark => None,
                _ => Some((self.ark()?, self.key(CertificateKind::Ark)?)),
            };
            let mut draft = draft::authority(kind, *line, self.key(kind)?, issuer)?;
            edits.certificates.apply(kind, &mut draft);
            draft.sign()
        })
    }

    fn endorsement(
        &self,
        kind: CertificateKind,
        identity: &[u8],
        holder: &Holder<'_>,
        tcb: TcbVersion,
    ) -> Result<EndorsementKey, KeysError> {
        let Inner { seed, line, edits, .. } = &*self.inner;
        check_tcb(*line, tcb)?;
        let label: &[&[u8]] =
            &[b"amd", line.name().as_bytes(), kind.name().as_bytes(), identity, &tcb.get().to_le_bytes()];
        let key = EcdsaP384Key::generate(seed, label)?;
        let issuer = (self.issuer_of(kind)?, self.key(kind.issuer())?);
        let mut draft = draft::endorsement(*line, holder, tcb, key.public_key()?, issuer)?;
        edits.certificates.apply(kind, &mut draft);
        Ok(EndorsementKey { kind, tcb, key: Arc::new(key), certificate: draft.sign()? })
    }
}

impl Inner {
    fn slot(&self, kind: CertificateKind) -> &Authority {
        match kind {
            CertificateKind::Ark => &self.ark,
            CertificateKind::Ask | CertificateKind::Vcek => &self.ask,
            CertificateKind::Asvk | CertificateKind::Vlek => &self.asvk,
        }
    }
}
