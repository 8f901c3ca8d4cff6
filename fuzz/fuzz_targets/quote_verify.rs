//! Judging any TDX evidence: good but for a few edits, or a quote made of the input altogether, with good collateral.
//!
//! Input: kind (1). Bit 0 clear: edits of a good bundle: place (1), offset (2), bytes (length in one byte); a length of 255
//! cuts the place off there. Bit 0 set: the quote (all that is left). Bit 3 set: no collateral, which is much faster.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::tdx::quote::Quote;
use tsmsim_evidence::{
    Timestamp,
    tdx::{Bundle, Policy, appraise},
};
use tsmsim_fuzz::{Input, STEPS, tdx};

/// Within the validity of the default seed's certificates.
const MOMENT: Timestamp = Timestamp(1_750_000_000);

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let mut bundle = match kind & 1 {
        0 => edited(&mut input),
        _ => Bundle { quote: input.rest().to_vec(), ..good().clone() },
    };
    if kind & 8 != 0 {
        bundle.collateral = None;
    }
    let policy = Policy {
        allow_debug: kind & 2 != 0,
        allow_trailing: kind & 4 != 0,
        require_collateral: kind & 8 == 0,
        ..Policy::at(MOMENT)
    };
    let appraisal = appraise(&bundle, &policy);
    let verdict = &appraisal.verdict;
    let _ = (verdict.table(), verdict.to_json(), verdict.summary());
    assert_eq!(verdict.accepted(), verdict.first_failure().is_none());
    assert!(!verdict.accepted() || signed(&bundle) == signed(good()), "only what was signed is accepted");
});

fn good() -> &'static Bundle {
    static GOOD: OnceLock<Bundle> = OnceLock::new();
    GOOD.get_or_init(tdx::bundle)
}

/// The bytes that the attestation key signed.
fn signed(bundle: &Bundle) -> Option<&[u8]> {
    let size = Quote::read(&bundle.quote).ok()?.signed.size();
    bundle.quote.get(..size)
}

fn edited(input: &mut Input<'_>) -> Bundle {
    let mut bundle = good().clone();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (place, offset, length) = (input.u8(), usize::from(input.u16()), usize::from(input.u8()));
        let place = match place & 7 {
            0..=2 => &mut bundle.quote,
            3 => bundle.collateral.get_or_insert_default(),
            4 => bundle.td_report.get_or_insert_default(),
            5 => bundle.root.get_or_insert_default(),
            6 => bundle.inblob.get_or_insert_default(),
            // There is no log to edit: the bytes are one.
            _ => {
                bundle.event_log = Some(input.bytes(length).to_vec());
                continue;
            }
        };
        if length == 255 {
            place.truncate(offset);
            continue;
        }
        for (old, new) in place.iter_mut().skip(offset).zip(input.bytes(length)) {
            *old = *new;
        }
    }
    bundle
}
