//! Judging any CoVE evidence: good but for a few edits, or made of the input altogether.
//!
//! Input: kind (1). Bits 1:0: 0 edits of a good bundle: place (1), offset (2), bytes (length in one byte); a length of 255 cuts
//! the place off there; 1 every place in turn (length and bytes; no bytes: absent); 2 and 3 the evidence (all that is left),
//! with the rest of a good bundle. Bit 2: the X.509 format. Bits 3 and 4: the policy.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tsmsim_evidence::{
    Timestamp,
    cove::{Bundle, Claims, Policy, svg, verify},
};
use tsmsim_fuzz::{Input, STEPS, cove};

/// Within the validity of the default seed's certificates.
const MOMENT: Timestamp = Timestamp(1_750_000_000);

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let good = good(kind & 4 != 0);
    let bundle = match kind & 3 {
        0 => edited(good, &mut input),
        1 => any(&mut input),
        _ => Bundle { evidence: input.rest().to_vec(), ..good.clone() },
    };
    let policy = Policy { allow_debug: kind & 8 != 0, require_crl: kind & 16 != 0, ..Policy::at(MOMENT) };
    let verdict = verify(&bundle, &policy);
    let _ = (verdict.table(), verdict.to_json(), verdict.summary(), svg(&bundle, &verdict));
    assert_eq!(verdict.accepted(), verdict.first_failure().is_none());
    let claims = Claims::read(&bundle.evidence).ok();
    let signed = [false, true].map(|x509| Claims::read(&self::good(x509).evidence).ok());
    assert!(!verdict.accepted() || signed.contains(&claims), "only what was signed is accepted");
});

fn good(x509: bool) -> &'static Bundle {
    static GOOD: [OnceLock<Bundle>; 2] = [const { OnceLock::new() }; 2];
    GOOD[usize::from(x509)].get_or_init(|| cove::bundle(x509))
}

fn edited(good: &Bundle, input: &mut Input<'_>) -> Bundle {
    let mut bundle = good.clone();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let place = match input.u8() & 7 {
            0..=3 => &mut bundle.evidence,
            4 => bundle.root.get_or_insert_default(),
            5 => bundle.chain.get_or_insert_default(),
            6 => bundle.crl.get_or_insert_default(),
            _ => bundle.inblob.get_or_insert_default(),
        };
        input.edit(place);
    }
    bundle
}

fn any(input: &mut Input<'_>) -> Bundle {
    let evidence = input.sized().to_vec();
    let mut place = || Some(input.sized().to_vec()).filter(|bytes| !bytes.is_empty());
    Bundle { evidence, root: place(), chain: place(), crl: place(), inblob: place() }
}
