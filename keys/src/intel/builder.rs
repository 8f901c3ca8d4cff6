//! Hierarchies with something changed about them.

use super::{CertificateKind, CrlKind, Hierarchy, JsonDraft, QeIdentity, TcbInfo};
use crate::{CertificateDraft, CrlDraft, Seed, edits};

/// The changes to a hierarchy.
#[derive(Clone, Default)]
pub(super) struct Edits {
    pub(super) certificates: edits::Edits<CertificateKind, CertificateDraft>,
    pub(super) crls: edits::Edits<CrlKind, CrlDraft>,
    pub(super) tcb_info: edits::Edits<(), JsonDraft<TcbInfo>>,
    pub(super) qe_identity: edits::Edits<(), JsonDraft<QeIdentity>>,
}

/// Makes hierarchies whose certificates, lists and collateral differ from Intel's in any way wanted.
#[derive(Clone)]
pub struct HierarchyBuilder {
    seed: Seed,
    edits: Edits,
}

impl HierarchyBuilder {
    pub(super) fn new(seed: &Seed) -> Self {
        Self { seed: seed.clone(), edits: Edits::default() }
    }

    /// Changes a certificate before it is signed: the closure sees every field with its usual value. For a PCK certificate,
    /// every one that the hierarchy issues. May be called again for more changes.
    #[must_use]
    pub fn edit(
        mut self,
        kind: CertificateKind,
        edit: impl Fn(&mut CertificateDraft) + Send + Sync + 'static,
    ) -> Self {
        self.edits.certificates.add(kind, edit);
        self
    }

    /// Changes every revocation list of a kind before it is signed.
    #[must_use]
    pub fn edit_crl(mut self, kind: CrlKind, edit: impl Fn(&mut CrlDraft) + Send + Sync + 'static) -> Self {
        self.edits.crls.add(kind, edit);
        self
    }

    /// Changes every TCB info before it is written and signed.
    #[must_use]
    pub fn edit_tcb_info(mut self, edit: impl Fn(&mut JsonDraft<TcbInfo>) + Send + Sync + 'static) -> Self {
        self.edits.tcb_info.add((), edit);
        self
    }

    /// Changes every QE identity before it is written and signed.
    #[must_use]
    pub fn edit_qe_identity(
        mut self,
        edit: impl Fn(&mut JsonDraft<QeIdentity>) + Send + Sync + 'static,
    ) -> Self {
        self.edits.qe_identity.add((), edit);
        self
    }

    /// The hierarchy. Nothing is generated or signed until it is asked for.
    #[must_use]
    pub fn build(self) -> Hierarchy {
        Hierarchy::with_edits(self.seed, self.edits)
    }
}
