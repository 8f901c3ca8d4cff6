//! Showing any file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_evidence::{
    show::{Kind, detect, show},
    snp::Bundle,
};

fuzz_target!(|bytes: &[u8]| {
    for line in [None, Some(ProductLine::Turin)] {
        let shown = show(bytes, line);
        assert!(shown.is_err() || detect(bytes) != Kind::Unknown);
        if let Ok(node) = shown {
            let _ = (node.to_text(), node.to_json());
        }
    }
    let _ = Bundle::default().add_certificates("file", bytes);
});
