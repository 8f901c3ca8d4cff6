//! Hierarchies with something changed about them.

use super::{CertificateKind, Hierarchy};
use crate::{CertificateDraft, CrlDraft, Seed, edits};

/// The changes to a hierarchy.
#[derive(Clone, Default)]
pub(super) struct Edits {
    pub(super) certificates: edits::Edits<CertificateKind, CertificateDraft>,
    pub(super) crls: edits::Edits<(), CrlDraft>,
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
        self.edits.certificates.add(kind, edit);
        self
    }

    /// Changes every revocation list before it is signed.
    #[must_use]
    pub fn edit_crl(mut self, edit: impl Fn(&mut CrlDraft) + Send + Sync + 'static) -> Self {
        self.edits.crls.add((), edit);
        self
    }

    /// The hierarchy. Nothing is generated or signed until it is asked for.
    #[must_use]
    pub fn build(self) -> Hierarchy {
        Hierarchy::with_edits(self.seed, self.edits)
    }
}
