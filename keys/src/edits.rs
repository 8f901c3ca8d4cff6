//! Changes to what is about to be signed.

use std::sync::Arc;

/// Changes to drafts of some kinds, made in the order in which they were given.
pub(crate) struct Edits<Kind, Draft> {
    list: Vec<(Kind, Edit<Draft>)>,
}

type Edit<Draft> = Arc<dyn Fn(&mut Draft) + Send + Sync>;

impl<Kind: Copy + PartialEq, Draft> Edits<Kind, Draft> {
    pub(crate) fn add(&mut self, kind: Kind, edit: impl Fn(&mut Draft) + Send + Sync + 'static) {
        self.list.push((kind, Arc::new(edit)));
    }

    /// Makes the changes to this kind.
    pub(crate) fn apply(&self, kind: Kind, draft: &mut Draft) {
        self.list.iter().filter(|(edited, _)| *edited == kind).for_each(|(_, edit)| edit(draft));
    }

    /// Whether there is any to this kind.
    pub(crate) fn touch(&self, kind: Kind) -> bool {
        self.list.iter().any(|(edited, _)| *edited == kind)
    }
}

// Derived, they would ask the same of the draft.
impl<Kind: Clone, Draft> Clone for Edits<Kind, Draft> {
    fn clone(&self) -> Self {
        Self { list: self.list.clone() }
    }
}

impl<Kind, Draft> Default for Edits<Kind, Draft> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_a_kind_are_made_in_their_order() {
        let mut edits = Edits::<u8, String>::default();
        edits.add(1, |draft| draft.push('a'));
        edits.add(2, |draft| draft.push('b'));
        edits.add(1, |draft| draft.push('c'));
        let edits = edits.clone();
        let mut draft = String::new();
        edits.apply(1, &mut draft);
        assert_eq!(draft, "ac");
        edits.apply(3, &mut draft);
        assert_eq!(draft, "ac");
        assert!(edits.touch(2) && !edits.touch(3));
    }
}
