//! Any bytes give a verdict or an error, never a panic.

use proptest::prelude::*;
use tsmsim_evidence::{
    show::{detect, show},
    tdx::{Bundle, Collateral, SgxExtension, replay, verify},
};

use super::{
    damage::{bytes, damaged},
    policy, sample, vector,
};

fn judge(bundle: &Bundle) -> bool {
    let verdict = verify(bundle, &policy());
    let _ = (verdict.table(), verdict.to_json());
    verdict.accepted()
}

proptest! {
    #[test]
    fn any_bytes_in_any_place(quote in bytes(), report in bytes(), other in bytes()) {
        let bundle = Bundle {
            quote,
            td_report: Some(report),
            root: Some(other.clone()),
            collateral: Some(other.clone()),
            inblob: Some(other.clone()),
            event_log: Some(other),
        };
        prop_assert!(!judge(&bundle));
        let _ = (Collateral::read(&bundle.quote), SgxExtension::read(&bundle.quote), replay(&bundle.quote));
    }

    #[test]
    fn damaged_quotes(quote in damaged(vector("tdx_quote"))) {
        let _ = (detect(&quote), show(&quote, None));
        let genuine = sample().quote;
        // Zeros may be put on, and taken off from what lies behind the quote.
        let same = |a: &[u8], b: &[u8]| a.iter().rposition(|x| *x != 0) == b.iter().rposition(|x| *x != 0)
            && a.iter().zip(b).all(|(a, b)| a == b);
        let accepted = judge(&Bundle { quote: quote.clone(), ..sample() });
        prop_assert!(!accepted || same(&quote, &genuine));
    }

    #[test]
    fn damaged_collateral(collateral in damaged(vector("tdx_quote_collateral.json"))) {
        let _ = (detect(&collateral), show(&collateral, None));
        let _ = judge(&Bundle { collateral: Some(collateral), ..sample() });
    }

    #[test]
    fn damaged_logs(log in damaged(vector("ccel_data.dat"))) {
        let _ = (detect(&log), show(&log, None), replay(&log));
    }
}
