//! Hierarchies with something changed about them.

use std::sync::Arc;

use tsmsim_abi::snp::tcb::ProductLine;

use super::{CertificateKind, Hierarchy};
use crate::{CertificateDraft, CrlDraft, Seed};

type Edit<Draft> = Arc<dyn Fn(&mut Draft) + Send + Sync>;

/// The changes to a hierarchy, applied in the order they were given.
#[derive(Clone, Default)]
pub(super) struct Edits {
    certificates: Vec<(CertificateKind, Edit<CertificateDraft>)>,
    crl: Vec<Edit<CrlDraft>>,
}

impl Edits {
    /// Whether a certificate comes out as it would without any edits: nothing changed about it or what is above it.
    pub(super) fn spare(&self, kind: CertificateKind) -> bool {
        let touched = |kind| self.certificates.iter().any(|(edited, _)| *edited == kind);
        !touched(kind) && !touched(CertificateKind::Ark) && !touched(kind.issuer())
    }

    /// The same of the revocation list.
    pub(super) fn spare_crl(&self) -> bool {
        self.crl.is_empty() && self.spare(CertificateKind::Ark)
    }

    pub(super) fn apply(&self, kind: CertificateKind, draft: &mut CertificateDraft) {
        self.certificates.iter().filter(|(edited, _)| *edited == kind).for_each(|(_, edit)| edit(draft));
    }

    pub(super) fn apply_crl(&self, draft: &mut CrlDraft) {
        self.crl.iter().for_each(|edit| edit(draft));
    }
}

/// Makes hierarchies whose certificates differ from AMD's in any way wanted.
#[derive(Clone)]
pub struct HierarchyBuilder {
    seed: Seed,
    line: ProductLine,
    edits: Edits,
}

impl HierarchyBuilder {
    pub(super) fn new(seed: &Seed, line: ProductLine) -> Self {
        Self { seed: seed.clone(), line, edits: Edits::default() }
    }

    /// Changes a certificate before it is signed: the closure sees every field with its usual value. For a VCEK or VLEK, every
    /// one that the hierarchy issues. May be called again for more changes.
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
        self.edits.crl.push(Arc::new(edit));
        self
    }

    /// The hierarchy. Nothing is generated or signed until it is asked for.
    #[must_use]
    pub fn build(self) -> Hierarchy {
        Hierarchy::with_edits(self.seed, self.line, self.edits)
    }
}
