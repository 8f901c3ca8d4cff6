//! Any bytes give a verdict or an error, never a panic.

mod common;

use common::{debuggable, genuine, milan};
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

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1600)
}

/// Genuine bytes with some of them overwritten, and cut or lengthened.
fn damaged(file: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    (edits, any::<prop::sample::Index>(), 0..8_u8).prop_map(move |(edits, cut, how)| {
        let mut bytes = genuine(file);
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        match how {
            0 => bytes.truncate(cut.index(bytes.len())),
            1 => bytes.push(how),
            _ => {}
        }
        bytes
    })
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
    fn damaged_certificates(ark in damaged("ark.der"), ask in damaged("ask.der"), vcek in damaged("milan-vcek.der")) {
        let fits = ark == genuine("ark.der") && ask == genuine("ask.der") && vcek == genuine("milan-vcek.der");
        let _ = (show(&ark, None), show(&ask, None), show(&vcek, None));
        let bundle = Bundle { ark: Some(ark), ask: Some(ask), vcek: Some(vcek), ..milan() };
        prop_assert_eq!(judge(&bundle), fits);
    }

    #[test]
    fn damaged_reports(report in damaged("milan-report.bin")) {
        let fits = report == genuine("milan-report.bin");
        let _ = show(&report, None);
        prop_assert_eq!(judge(&Bundle { report, ..milan() }), fits);
    }

    #[test]
    fn damaged_pem(pem in damaged("milan-ask-ark.pem")) {
        let _ = (pem_blocks(&pem), show(&pem, None));
        let _ = snp::verify_bytes(&genuine("milan-report.bin"), &pem, &debuggable()).map(|verdict| verdict.table());
    }

    #[test]
    fn what_is_read_is_all_of_it(mut der in damaged("milan-vcek.der")) {
        if Certificate::read(&der).is_ok() {
            der.push(0);
            prop_assert!(Certificate::read(&der).is_err());
        }
        prop_assert!(RevocationList::read(&der).is_err());
    }
}
