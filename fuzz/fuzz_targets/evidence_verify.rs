//! Judging any evidence: genuine but for a few edits, or made of the input altogether.
//!
//! Input: kind (1). Bit 0 clear: edits of a good bundle: place (1), offset (2), bytes (length in one byte); a length of 255
//! cuts the place off there. Bit 0 set: every place in turn (length and bytes; no bytes: absent).
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tsmsim_evidence::{
    Timestamp,
    snp::{Bundle, Policy, svg, verify, verify_chain},
};
use tsmsim_fuzz::{Input, STEPS, samples};

/// Within the validity of the default seed's certificates.
const MOMENT: Timestamp = Timestamp(1_750_000_000);

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let edited = kind & 1 == 0;
    let bundle = if edited { edited_bundle(&mut input) } else { any_bundle(&mut input) };
    let policy = Policy {
        allow_debug: kind & 2 != 0,
        allow_masked_chip_id: kind & 4 != 0,
        require_crl: kind & 8 != 0,
        ..Policy::at(MOMENT)
    };
    let verdict = verify(&bundle, &policy);
    let _ = (verdict.table(), verdict.to_json(), verdict.summary(), svg(&bundle, &verdict));
    assert_eq!(verdict.accepted(), verdict.first_failure().is_none());
    let same_report = bundle.report == good().report;
    assert!(!verdict.accepted() || same_report, "only the report that was signed is accepted");
    let _ = verify_chain(&bundle, &policy).table();
});

fn good() -> &'static Bundle {
    static GOOD: OnceLock<Bundle> = OnceLock::new();
    GOOD.get_or_init(samples::bundle)
}

fn edited_bundle(input: &mut Input<'_>) -> Bundle {
    let mut bundle = good().clone();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let mut nothing = Vec::new();
        let place = match input.u8() & 7 {
            0 | 1 => &mut bundle.report,
            2 => bundle.ark.as_mut().unwrap_or(&mut nothing),
            3 => bundle.ask.as_mut().unwrap_or(&mut nothing),
            4 => bundle.vcek.as_mut().unwrap_or(&mut nothing),
            5 => bundle.crl.as_mut().unwrap_or(&mut nothing),
            6 => bundle.table.as_mut().unwrap_or(&mut nothing),
            _ => bundle.inblob.get_or_insert_default(),
        };
        input.edit(place);
    }
    bundle
}

fn any_bundle(input: &mut Input<'_>) -> Bundle {
    let report = input.sized().to_vec();
    let mut place = || Some(input.sized().to_vec()).filter(|bytes| !bytes.is_empty());
    Bundle {
        report,
        ark: place(),
        ask: place(),
        vcek: place(),
        vlek: place(),
        crl: place(),
        table: place(),
        inblob: place(),
    }
}
