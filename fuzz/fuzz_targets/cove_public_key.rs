//! The COSE_Keys that TVMs give to `get_evidence`. Input: the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_keys::der::{Decode, Encode};
use tsmsim_keys::spki::SubjectPublicKeyInfoOwned;
use tsmsim_simulator::cove::public_key::PublicKey;

fuzz_target!(|bytes: &[u8]| {
    let Some(key) = PublicKey::from_cose(bytes) else { return };
    assert_eq!(key.cose(), bytes);
    let spki = key.spki().to_der().expect("it stands in certificates");
    assert_eq!(SubjectPublicKeyInfoOwned::from_der(&spki).as_ref(), Ok(key.spki()));
});
