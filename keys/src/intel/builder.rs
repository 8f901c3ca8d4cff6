//! Hierarchies with something changed about them.

use std::sync::Arc;

use super::{CertificateKind, CrlKind, Hierarchy, JsonDraft, QeIdentity, TcbInfo};
use crate::{CertificateDraft, CrlDraft, Seed};

type Edit<Draft> = Arc<dyn Fn(&mut Draft) + Send + Sync>;

/// The changes to a hierarchy, applied in the order they were given.
#[derive(Clone, Default)]
pub(super) struct Edits {
    certificates: Vec<(CertificateKind, Edit<CertificateDraft>)>,
    crls: Vec<(CrlKind, Edit<CrlDraft>)>,
    tcb_info: Vec<Edit<JsonDraft<TcbInfo>>>,
    qe_identity: Vec<Edit<JsonDraft<QeIdentity>>>,
}

impl Edits {
    pub(super) fn certificate(&self, kind: CertificateKind, draft: &mut CertificateDraft) {
        self.certificates.iter().filter(|(edited, _)| *edited == kind).for_each(|(_, edit)| edit(draft));
    }

    pub(super) fn crl(&self, kind: CrlKind, draft: &mut CrlDraft) {
        self.crls.iter().filter(|(edited, _)| *edited == kind).for_each(|(_, edit)| edit(draft));
    }

    pub(super) fn tcb_info(&self, draft: &mut JsonDraft<TcbInfo>) {
        self.tcb_info.iter().for_each(|edit| edit(draft));
    }

    pub(super) fn qe_identity(&self, draft: &mut JsonDraft<QeIdentity>) {
        self.qe_identity.iter().for_each(|edit| edit(draft));
    }
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
        self.edits.certificates.push((kind, Arc::new(edit)));
        self
    }

    /// Changes every revocation list of a kind before it is signed.
    #[must_use]
    pub fn edit_crl(mut self, kind: CrlKind, edit: impl Fn(&mut CrlDraft) + Send + Sync + 'static) -> Self {
        self.edits.crls.push((kind, Arc::new(edit)));
        self
    }

    /// Changes every TCB info before it is written and signed.
    #[must_use]
    pub fn edit_tcb_info(mut self, edit: impl Fn(&mut JsonDraft<TcbInfo>) + Send + Sync + 'static) -> Self {
        self.edits.tcb_info.push(Arc::new(edit));
        self
    }

    /// Changes every QE identity before it is written and signed.
    #[must_use]
    pub fn edit_qe_identity(
        mut self,
        edit: impl Fn(&mut JsonDraft<QeIdentity>) + Send + Sync + 'static,
    ) -> Self {
        self.edits.qe_identity.push(Arc::new(edit));
        self
    }

    /// The hierarchy. Nothing is generated or signed until it is asked for.
    #[must_use]
    pub fn build(self) -> Hierarchy {
        Hierarchy::with_edits(self.seed, self.edits)
    }
}
