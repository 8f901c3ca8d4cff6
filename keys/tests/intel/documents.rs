//! JSON documents: signed over the bytes that are handed out, by the certificate that comes with them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rstest::rstest;
use serde_json::Value;
use tsmsim_keys::Seed;
use tsmsim_keys::intel::{Hierarchy, PckCa, QeIdentitySpec, SignedJson, TcbInfoSpec};
use tsmsim_keys::x509_cert::Certificate;

use crate::{TEE_TCB_SVN, platform};

fn signed(which: &str) -> SignedJson {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let document = match which {
        "tdx tcb" => hierarchy.tcb_info(&TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN)),
        "sgx tcb" => hierarchy.tcb_info(&TcbInfoSpec::sgx(&platform())),
        "td qe" => hierarchy.qe_identity(&QeIdentitySpec::td_qe()),
        _ => hierarchy.qe_identity(&QeIdentitySpec::qe()),
    };
    document.unwrap()
}

fn accepts(chain: &str, text: &[u8], signature: &[u8]) -> bool {
    let certificate = Certificate::load_pem_chain(chain.as_bytes()).unwrap().remove(0);
    let point = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature).is_ok()
}

#[rstest]
#[case("tdx tcb", "tcbInfo", "TDX")]
#[case("sgx tcb", "tcbInfo", "SGX")]
#[case("td qe", "enclaveIdentity", "TD_QE")]
#[case("qe", "enclaveIdentity", "QE")]
fn signature_is_over_the_raw_bytes(#[case] which: &str, #[case] member: &str, #[case] id: &str) {
    let document = signed(which);
    let (text, signature) = (document.json().as_bytes(), document.signature());
    assert!(accepts(document.issuer_chain(), text, signature));
    for position in 0..text.len() {
        let mut flipped = text.to_vec();
        flipped[position] ^= 1;
        assert!(!accepts(document.issuer_chain(), &flipped, signature), "byte {position}");
    }
    for position in 0..signature.len() {
        let mut flipped = *signature;
        flipped[position] ^= 1;
        assert!(!accepts(document.issuer_chain(), text, &flipped), "signature byte {position}");
    }
    // The answer of the service holds the same bytes, and what stands there is JSON.
    let response = document.response();
    let start = format!(r#"{{"{member}":"#);
    let end = format!(r#","signature":"{}"}}"#, document.signature_hex());
    assert_eq!(response.strip_prefix(&start).unwrap().strip_suffix(&end).unwrap(), document.json());
    let parsed: Value = serde_json::from_str(&response).unwrap();
    assert_eq!(parsed[member]["id"], id);
    assert_eq!(document.signature_hex().len(), 128);
}

/// No blanks outside of strings, and none of the members that only the other kind has.
#[test]
fn documents_are_compact_and_of_their_kind() {
    for which in ["tdx tcb", "sgx tcb", "td qe", "qe"] {
        let document = signed(which);
        let outside: String = document.json().split('"').step_by(2).collect();
        assert!(outside.chars().all(|character| !character.is_whitespace()), "{which}");
        assert_eq!(document.json().contains("tdx"), which == "tdx tcb", "{which}");
    }
}

#[rstest]
fn chains_lead_to_the_root(#[values(PckCa::Platform, PckCa::Processor)] ca: PckCa) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let root = hierarchy.root().unwrap().pem();
    let spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let collateral = hierarchy.collateral(ca, &spec, &QeIdentitySpec::td_qe()).unwrap();
    assert_eq!(collateral.pck_crl_issuer_chain, hierarchy.pck_ca(ca).unwrap().pem() + &root);
    assert_eq!(collateral.tcb_info_issuer_chain, hierarchy.tcb_signing().unwrap().pem() + &root);
    assert_eq!(collateral.qe_identity_issuer_chain, collateral.tcb_info_issuer_chain);
    assert_eq!(collateral.pck_crl, hierarchy.pck_crl(ca).unwrap().der());
    assert_eq!(collateral.root_ca_crl, hierarchy.root_crl().unwrap().der());
}

#[test]
fn certificate_chain_is_in_the_file_where_there_is_one() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let mut collateral = hierarchy.collateral(PckCa::Platform, &spec, &QeIdentitySpec::td_qe()).unwrap();
    assert!(!collateral.to_json().unwrap().contains("pck_certificate_chain"));
    let chain = hierarchy.pck(&platform()).unwrap().chain().to_owned();
    collateral.pck_certificate_chain = Some(chain.clone());
    let read: dcap_qvl::QuoteCollateralV3 = serde_json::from_str(&collateral.to_json().unwrap()).unwrap();
    assert_eq!(read.pck_certificate_chain, Some(chain));
    assert_eq!(read.tcb_info_signature, collateral.tcb_info_signature);
    assert_eq!(read.pck_crl, collateral.pck_crl);
}
