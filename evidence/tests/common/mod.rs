//! The genuine evidence, and a small maker of synthetic evidence, apart from the one that tsmsim has.
#![expect(dead_code, reason = "every test binary uses another part of this")]
#![expect(clippy::unwrap_used, reason = "only tests use this")]

pub(crate) mod der;
pub(crate) mod maker;

use std::path::{Path, PathBuf};

use tsmsim_evidence::{
    Timestamp,
    snp::{Bundle, Policy},
};

pub(crate) fn genuine(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/vectors/genuine/snp").join(name)).unwrap()
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The genuine Milan report and its chain.
pub(crate) fn milan() -> Bundle {
    Bundle {
        report: genuine("milan-report.bin"),
        ark: Some(genuine("ark.der")),
        ask: Some(genuine("ask.der")),
        vcek: Some(genuine("milan-vcek.der")),
        ..Bundle::default()
    }
}

/// A time at which all genuine certificates are valid.
pub(crate) fn then() -> Timestamp {
    "2025-06-01".parse().unwrap()
}

/// The genuine report is of a guest that may be debugged.
pub(crate) fn debuggable() -> Policy {
    Policy { allow_debug: true, ..Policy::at(then()) }
}
