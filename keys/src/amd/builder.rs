//! Hierarchies with something changed about them.

use tsmsim_abi::snp::tcb::ProductLine;

use super::{CertificateKind, Hierarchy};
use crate::{CertificateDraft, CrlDraft, Seed, edits};

/// The changes to a hierarchy.
#[derive(Clone, Default)]
pub(super) struct Edits {
    pub(super) certificates: edits::Edits<CertificateKind, CertificateDraft>,
    pub(super) crls: edits::Edits<(), CrlDraft>,
}

impl Edits {
    /// Whether a certificate comes out as it would without any edits: nothing changed about it or what is above it.
    pub(super) fn spare(&self, kind: CertificateKind) -> bool {
        ![kind, kind.issuer(), CertificateKind::Ark].into_iter().any(|kind| self.certificates.touch(kind))
    }

    /// The same of the revocation list.
    pub(super) fn spare_crl(&self) -> bool {
        !self.crls.touch(()) && self.spare(CertificateKind::Ark)
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
        Hierarchy::with_edits(self.seed, self.line, self.edits)
    }
}
