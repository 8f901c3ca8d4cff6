//! TDX evidence: the genuine quotes, what is changed in them, and any bytes.

#![expect(clippy::unwrap_used, reason = "only tests use this")]

#[path = "../common/damage.rs"]
mod damage;
mod flips;
mod genuine;
mod hostile;
mod show;

use std::path::Path;

use tsmsim_evidence::{
    Timestamp,
    tdx::{Bundle, Policy, TrustedRoot},
};

fn vector(name: &str) -> Vec<u8> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read(repository.join("tests/vectors/genuine/tdx").join(name)).unwrap()
}

/// The genuine quote that there is collateral for.
fn sample() -> Bundle {
    Bundle {
        quote: vector("tdx_quote"),
        collateral: Some(vector("tdx_quote_collateral.json")),
        ..Bundle::default()
    }
}

/// When its collateral was in force.
const THEN: Timestamp = Timestamp(1_750_415_547);

/// At that time, under Intel's root.
fn policy() -> Policy {
    Policy { trust: TrustedRoot::Vendor, ..Policy::at(THEN) }
}
