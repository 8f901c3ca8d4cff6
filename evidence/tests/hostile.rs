//! Any bytes give a verdict or an error, never a panic.

mod common;
#[path = "common/damage.rs"]
mod damage;

use common::{debuggable, genuine, milan};
use damage::{bytes, damaged};
use proptest::prelude::*;
use tsmsim_evidence::{
    show::show,
    snp::{self, Bundle},
    x509::{Certificate, RevocationList, pem_blocks},
};

fn judge(bundle: &Bundle) -> bool {
    let verdict = snp::verify(bundle, &debuggable());
    let _ = (verdict.table(), verdict.to_json(), snp::svg(bundle, &verdict));
    verdict.accepted()
}

proptest! {
    #[test]
    fn any_bytes_in_any_place(report in bytes(), certificate in bytes(), crl in bytes(), table in bytes(), inblob in bytes()) {
        let bundle = Bundle {
            report,
            ark: Some(certificate.clone()),
            ask: Some(certificate.clone()),
            vcek: Some(certificate.clone()),
            vlek: Some(certificate),
            crl: Some(crl),
            table: Some(table),
            inblob: Some(inblob),
        };
        prop_assert!(!judge(&bundle));
    }

    #[test]
    fn damaged_certificates(ark in damaged(genuine("ark.der")), ask in damaged(genuine("ask.der")), vcek in damaged(genuine("milan-vcek.der"))) {
        let fits = ark == genuine("ark.der") && ask == genuine("ask.der") && vcek == genuine("milan-vcek.der");
        let _ = (show(&ark, None), show(&ask, None), show(&vcek, None));
        let bundle = Bundle { ark: Some(ark), ask: Some(ask), vcek: Some(vcek), ..milan() };
        prop_assert_eq!(judge(&bundle), fits);
    }

    #[test]
    fn damaged_reports(report in damaged(genuine("milan-report.bin"))) {
        let fits = report == genuine("milan-report.bin");
        let _ = show(&report, None);
        prop_assert_eq!(judge(&Bundle { report, ..milan() }), fits);
    }

    #[test]
    fn damaged_pem(pem in damaged(genuine("milan-ask-ark.pem"))) {
        let _ = (pem_blocks(&pem), show(&pem, None));
        let _ = snp::verify_bytes(&genuine("milan-report.bin"), &pem, &debuggable()).map(|verdict| verdict.table());
    }

    #[test]
    fn what_is_read_is_all_of_it(mut der in damaged(genuine("milan-vcek.der"))) {
        if Certificate::read(&der).is_ok() {
            der.push(0);
            prop_assert!(Certificate::read(&der).is_err());
        }
        prop_assert!(RevocationList::read(&der).is_err());
    }
}
