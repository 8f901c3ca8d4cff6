//! Reading any certificate table, and making one of what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::cert_table::{CertGuid, entries};
use tsmsim_evidence::snp::read_table;
use tsmsim_simulator::snp::host::build_cert_table;

fuzz_target!(|bytes: &[u8]| {
    let lax: Vec<_> = entries(bytes).collect();
    assert!(lax.len() <= bytes.len() / 24 + 1);
    let Ok(strict) = read_table(bytes) else { return };
    // What the strict reader takes, the lax one takes too, and a table made of it reads the same.
    let read: Vec<(CertGuid, &[u8])> = strict.iter().map(|entry| (entry.guid, entry.certificate)).collect();
    assert!(lax.into_iter().map(|entry| entry.expect("it was read")).eq(read.iter().copied()));
    let owned: Vec<_> = read.iter().map(|(guid, bytes)| (*guid, bytes.to_vec())).collect();
    if let Ok(table) = build_cert_table(&owned) {
        let again = read_table(&table).expect("a table that was made can be read");
        assert!(again.iter().map(|entry| (entry.guid, entry.certificate)).eq(read));
    }
});
