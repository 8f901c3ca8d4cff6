//! Hierarchies with something changed about them.

use std::sync::Arc;

use super::{CertificateKind, Hierarchy};
use crate::{CertificateDraft, CrlDraft, Seed};

type Edit<Draft> = Arc<dyn Fn(&mut Draft) + Send + Sync>;

/// The changes to a hierarchy, applied in the order they were given.
#[derive(Clone, Default)]
pub(super) struct Edits {
    certificates: Vec<(CertificateKind, Edit<CertificateDraft>)>,
    crls: Vec<Edit<CrlDraft>>,
}

impl Edits {
    pub(super) fn certificate(&self, kind: CertificateKind, draft: &mut CertificateDraft) {
        self.certificates.iter().filter(|(edited, _)| *edited == kind).for_each(|(_, edit)| edit(draft));
    }

    pub(super) fn crl(&self, draft: &mut CrlDraft) {
        self.crls.iter().for_each(|edit| edit(draft));
    }
}

/// Makes hierarchies whose certificates and lists differ in any way wanted.
#[derive(Clone)]
pub struct HierarchyBuilder {
    seed: Seed,
    edits: Edits,
}

impl HierarchyBuilder {
    pub(super) fn new(seed: &Seed) -> Self {
        Self { seed: seed.clone(), edits: Edits::default() }
    }

    /// Changes every certificate of a kind before it is signed. Edits of one kind are made in the order of the calls.
    #[must_use]
    pub fn edit(
        mut self,
        kind: CertificateKind,
        edit: impl Fn(&mut CertificateDraft) + Send + Sync + 'static,
    ) -> Self {
        self.edits.certificates.push((kind, Arc::new(edit)));
        self
    }

    /// Changes every revocation list before it is signed.
    #[must_use]
    pub fn edit_crl(mut self, edit: impl Fn(&mut CrlDraft) + Send + Sync + 'static) -> Self {
        self.edits.crls.push(Arc::new(edit));
        self
    }

    /// The hierarchy. Nothing is generated or signed until it is asked for.
    #[must_use]
    pub fn build(self) -> Hierarchy {
        Hierarchy::with_edits(self.seed, self.edits)
    }
}
