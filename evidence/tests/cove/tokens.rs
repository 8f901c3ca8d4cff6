//! One rule of the tokens broken at a time; all signatures are sound.

use ciborium::Value;
use rstest::rstest;
use tsmsim_abi::cove::claims::{self, component, measurement};

use crate::{
    fails, judge,
    maker::{Forged, Made, Map, at, remove},
};

/// An item of an array below a label.
fn item(map: &mut Map, label: i64, index: usize) -> &mut Map {
    at(map, label).as_array_mut().unwrap()[index].as_map_mut().unwrap()
}

#[test]
fn signed_anew_it_is_accepted() {
    let verdict = judge(&Made::forged(|_| {}));
    assert_eq!(verdict.reason(), None, "{}", verdict.table());
}

type Edit = fn(&mut Forged);

#[rstest]
#[case::platform_key(|it: &mut Forged| remove(&mut it.platform.claims, claims::PLATFORM_PUBLIC_KEY), "platform-public-key")]
#[case::profile(|it: &mut Forged| remove(&mut it.platform.claims, claims::EAT_PROFILE), "eat-profile")]
#[case::profile_other(|it: &mut Forged| *at(&mut it.platform.claims, claims::EAT_PROFILE) = "x".into(), "eat-profile")]
#[case::manufacturer(|it: &mut Forged| remove(&mut it.platform.claims, claims::PLATFORM_MANUFACTURER_ID), "platform-manufacturer-id")]
#[case::manufacturer_size(|it: &mut Forged| *at(&mut it.platform.claims, claims::PLATFORM_MANUFACTURER_ID) = vec![0_u8; 63].into(), "platform-manufacturer-id")]
#[case::state(|it: &mut Forged| remove(&mut it.platform.claims, claims::PLATFORM_STATE), "platform-state")]
#[case::state_text(|it: &mut Forged| *at(&mut it.platform.claims, claims::PLATFORM_STATE) = "2".into(), "platform-state")]
#[case::components(|it: &mut Forged| remove(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS), "platform-sw-components")]
#[case::no_components(|it: &mut Forged| *at(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS) = Value::Array(vec![]), "platform-sw-components")]
#[case::component_field(|it: &mut Forged| remove(item(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS, 0), component::SIGNER), "software component")]
#[case::component_more(|it: &mut Forged| item(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS, 0).push((7.into(), 7.into())), "software component")]
#[case::component_hash(|it: &mut Forged| *at(item(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS, 0), component::HASH_ALGORITHM) = "sha-1".into(), "software component")]
#[case::component_hash_length(|it: &mut Forged| *at(item(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS, 0), component::HASH_ALGORITHM) = "sha-512".into(), "software component")]
#[case::unknown_claim(|it: &mut Forged| it.platform.claims.push((99.into(), 0.into())), "payload")]
#[case::text_label(|it: &mut Forged| it.platform.claims.push(("x".into(), 0.into())), "payload")]
#[case::claim_twice(|it: &mut Forged| { let first = it.platform.claims[0].clone(); it.platform.claims.push(first); }, "payload")]
#[case::no_cwt(|it: &mut Forged| it.platform.tag = 60, "payload")]
#[case::no_kid(|it: &mut Forged| remove(&mut it.platform.protected, 4), "kid")]
#[case::other_kid(|it: &mut Forged| *at(&mut it.platform.protected, 4) = vec![1_u8; 20].into(), "kid")]
#[case::algorithm(|it: &mut Forged| *at(&mut it.platform.protected, 1) = (-7).into(), "signature")]
fn the_platform_token_is_refused(#[case] edit: Edit, #[case] field: &str) {
    fails(&judge(&Made::forged(edit)), "platform token", field);
}

#[rstest]
#[case::key(|it: &mut Forged| remove(&mut it.tsm.claims, claims::TSM_PUBLIC_KEY), "tsm-public-key")]
#[case::key_bytes(|it: &mut Forged| *at(&mut it.tsm.claims, claims::TSM_PUBLIC_KEY) = vec![0_u8].into(), "tsm-public-key")]
#[case::key_of_the_platform(|it: &mut Forged| {
    let key = at(&mut it.platform.claims, claims::PLATFORM_PUBLIC_KEY).clone();
    *at(&mut it.tsm.claims, claims::TSM_PUBLIC_KEY) = key;
}, "key = certificate's")]
#[case::components(|it: &mut Forged| remove(&mut it.tsm.claims, claims::TSM_SW_COMPONENTS), "tsm-sw-components")]
#[case::one_component(|it: &mut Forged| { at(&mut it.tsm.claims, claims::TSM_SW_COMPONENTS).as_array_mut().unwrap().pop(); }, "tsm-sw-components")]
#[case::kid(|it: &mut Forged| it.tsm.protected.push((4.into(), vec![0_u8].into())), "kid")]
#[case::unknown_claim(|it: &mut Forged| it.tsm.claims.push((10.into(), 0.into())), "payload")]
fn the_tsm_token_is_refused(#[case] edit: Edit, #[case] field: &str) {
    fails(&judge(&Made::forged(edit)), "TSM token", field);
}

#[rstest]
#[case::challenge(|it: &mut Forged| remove(&mut it.tvm.claims, claims::TVM_CHALLENGE), "tvm-challenge")]
#[case::other_challenge(|it: &mut Forged| *at(&mut it.tvm.claims, claims::TVM_CHALLENGE) = vec![0_u8; 64].into(), "tvm-challenge")]
#[case::challenge_size(|it: &mut Forged| *at(&mut it.tvm.claims, claims::TVM_CHALLENGE) = vec![0_u8; 32].into(), "tvm-challenge")]
#[case::identity_size(|it: &mut Forged| *at(&mut it.tvm.claims, claims::TVM_IDENTITY) = vec![0_u8; 32].into(), "tvm-identity")]
#[case::key(|it: &mut Forged| remove(&mut it.tvm.claims, claims::TVM_PUBLIC_KEY), "tvm-public-key")]
#[case::private_key(|it: &mut Forged| {
    // The same, with a private part.
    let key = at(&mut it.tvm.claims, claims::TVM_PUBLIC_KEY);
    let mut map = crate::maker::decode(key.as_bytes().unwrap()).into_map().unwrap();
    map.push(((-4).into(), vec![0_u8; 32].into()));
    *key = crate::maker::encode(&Value::Map(map)).into();
}, "tvm-public-key")]
#[case::no_registers(|it: &mut Forged| *at(&mut it.tvm.claims, claims::TVM_INITIAL_MEASUREMENTS) = Value::Array(vec![]), "tvm-initial-measurements")]
#[case::register_index(|it: &mut Forged| *at(item(&mut it.tvm.claims, claims::TVM_INITIAL_MEASUREMENTS, 1), measurement::INDEX) = 2.into(), "tvm-initial-measurements")]
#[case::runtime_index(|it: &mut Forged| *at(item(&mut it.tvm.claims, claims::TVM_RUNTIME_MEASUREMENTS, 0), measurement::INDEX) = 0.into(), "tvm-runtime-measurements")]
#[case::empty_runtime(|it: &mut Forged| *at(&mut it.tvm.claims, claims::TVM_RUNTIME_MEASUREMENTS) = Value::Array(vec![]), "tvm-runtime-measurements")]
#[case::register_value(|it: &mut Forged| *at(item(&mut it.tvm.claims, claims::TVM_INITIAL_MEASUREMENTS, 1), measurement::VALUE) = vec![0_u8; 47].into(), "measurement")]
#[case::kid(|it: &mut Forged| it.tvm.protected.push((4.into(), vec![0_u8].into())), "kid")]
fn the_tvm_token_is_refused(#[case] edit: Edit, #[case] field: &str) {
    fails(&judge(&Made::forged(edit)), "TVM token", field);
}

/// Sets an initial register to ones.
fn set(it: &mut Forged, index: usize) {
    *at(item(&mut it.tvm.claims, claims::TVM_INITIAL_MEASUREMENTS, index), measurement::VALUE) =
        vec![1_u8; 48].into();
}

#[rstest]
#[case::firmware(|it: &mut Forged| set(it, 0), "platform firmware")]
#[case::configuration(|it: &mut Forged| set(it, 1), "platform configuration")]
#[case::tsm(|it: &mut Forged| set(it, 2), "TSM")]
#[case::tsm_configuration(|it: &mut Forged| set(it, 3), "TSM configuration")]
#[case::component(|it: &mut Forged| *at(item(&mut it.platform.claims, claims::PLATFORM_SW_COMPONENTS, 1), component::MEASUREMENT) = vec![1_u8; 48].into(), "platform firmware")]
#[case::no_manifest(|it: &mut Forged| remove(item(&mut it.tsm.claims, claims::TSM_SW_COMPONENTS, 1), component::MANIFEST), "TSM configuration")]
#[case::number(|it: &mut Forged| {
    remove(&mut it.tvm.claims, claims::TVM_RUNTIME_MEASUREMENTS);
    at(&mut it.tvm.claims, claims::TVM_INITIAL_MEASUREMENTS).as_array_mut().unwrap().pop();
}, "number")]
#[case::algorithm(|it: &mut Forged| *at(item(&mut it.tvm.claims, claims::TVM_RUNTIME_MEASUREMENTS, 1), measurement::HASH_ALGORITHM) = "sha3-384".into(), "hash algorithm")]
fn registers_that_do_not_fit_are_refused(#[case] edit: Edit, #[case] field: &str) {
    fails(&judge(&Made::forged(edit)), "registers", field);
}

#[rstest]
#[case::issuer(|it: &mut Forged| remove(&mut it.certificate.claims, claims::ISSUER), "issuer")]
#[case::other_issuer(|it: &mut Forged| *at(&mut it.certificate.claims, claims::ISSUER) = "01".into(), "issuer")]
#[case::subject(|it: &mut Forged| remove(&mut it.certificate.claims, claims::SUBJECT), "subject")]
#[case::subject_in_capitals(|it: &mut Forged| {
    let subject = at(&mut it.certificate.claims, claims::SUBJECT);
    *subject = subject.as_text().unwrap().to_uppercase().into();
}, "subject")]
#[case::negative_subject(|it: &mut Forged| *at(&mut it.certificate.claims, claims::SUBJECT) = "81".repeat(20).into(), "subject")]
#[case::unknown_claim(|it: &mut Forged| it.certificate.claims.push((99.into(), 0.into())), "payload")]
#[case::kid(|it: &mut Forged| it.certificate.protected.push((4.into(), vec![0_u8].into())), "kid")]
#[case::unprotected(|it: &mut Forged| it.certificate.unprotected.push((4.into(), vec![0_u8].into())), "unprotected header")]
#[case::unprotected_of_a_token(|it: &mut Forged| it.tvm.unprotected.push((4.into(), vec![0_u8].into())), "unprotected header")]
#[case::no_algorithm(|it: &mut Forged| it.tsm.protected.clear(), "alg")]
#[case::unknown_header(|it: &mut Forged| it.tsm.protected.push((2.into(), Value::Array(vec![4.into()]))), "protected header")]
#[case::unknown_submodule(|it: &mut Forged| it.more.push(("other".into(), 0.into())), "submodules")]
#[case::no_cwt(|it: &mut Forged| it.certificate.tag = 601, "payload")]
fn the_certificate_is_refused(#[case] edit: Edit, #[case] field: &str) {
    fails(&judge(&Made::forged(edit)), "certificate", field);
}
