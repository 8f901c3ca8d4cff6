//! Any bytes give a verdict, a tree or an error.

use proptest::prelude::*;
use tsmsim_evidence::{
    cove::{Bundle, Claims, Policy, is_evidence, svg, verify},
    show::show,
};

use crate::{formats, maker::NOW};

fn everything(bundle: &Bundle) -> bool {
    let verdict = verify(bundle, &Policy::at(NOW));
    let _ = svg(bundle, &verdict);
    let _ = show(&bundle.evidence, None);
    let _ = Claims::read(&bundle.evidence);
    let _ = is_evidence(&bundle.evidence);
    verdict.accepted()
}

proptest! {
    #[test]
    fn any_bytes(
        evidence in prop::collection::vec(any::<u8>(), 0..600),
        first in prop::sample::select(vec![0x30, 0xd2, 0xd8]),
        chain in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let evidence = [vec![first], evidence].concat();
        let bundle = Bundle { evidence, root: Some(chain.clone()), chain: Some(chain.clone()), crl: Some(chain), inblob: None };
        prop_assert!(!everything(&bundle));
    }

    #[test]
    fn changed_cut_and_spliced(
        x509 in any::<bool>(),
        at in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 1..20),
        drop in 0_usize..20,
    ) {
        let made = &formats()[usize::from(x509)];
        let mut bundle = made.bundle.clone();
        let from = at.index(bundle.evidence.len());
        let to = (from + drop).min(bundle.evidence.len());
        prop_assume!(bundle.evidence[from..to] != put);
        bundle.evidence.splice(from..to, put);
        prop_assert!(!everything(&bundle));
    }
}

#[test]
fn every_cut_is_refused() {
    for made in formats() {
        for length in (0..made.bundle.evidence.len()).step_by(7) {
            let evidence = made.bundle.evidence[..length].to_vec();
            assert!(!everything(&Bundle { evidence, ..made.bundle.clone() }));
        }
        let longer = [&made.bundle.evidence[..], &[0]].concat();
        assert!(!everything(&Bundle { evidence: longer, ..made.bundle.clone() }));
    }
}

#[test]
fn deep_and_long_nesting_ends() {
    for head in [0x81, 0xa1, 0xd2, 0x9f, 0x5f, 0xbf] {
        let evidence = vec![head; 1 << 20];
        assert!(!everything(&Bundle { evidence, ..Bundle::default() }));
        let evidence = vec![head; 100_000];
        assert!(!everything(&Bundle { evidence, ..Bundle::default() }));
    }
}
