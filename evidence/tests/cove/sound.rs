//! Sound evidence is accepted, and refused by a policy that expects something else.

use rstest::rstest;
use tsmsim_abi::cove::{
    attcaps::HashAlgorithm,
    claims::{PlatformState, register},
};
use tsmsim_evidence::{
    Root,
    cove::{Bundle, Claims, Policy, TrustedRoot, svg, verify},
    show::{detect, show},
};
use tsmsim_keys::{
    Seed,
    cove::{KeyAlgorithm, Scenario},
};
use tsmsim_simulator::cove::platform::CovePlatformConfig;

use crate::{
    fails, formats, judge,
    maker::{CHALLENGE, IDENTITY, Made, NOW, config},
    refused,
};

#[test]
fn both_formats_are_accepted() {
    for made in formats() {
        let verdict = judge(&made.bundle);
        assert_eq!(verdict.reason(), None, "{}", verdict.table());
        assert_eq!(verdict.root, Root::Synthetic);
    }
}

#[rstest]
fn all_hash_algorithms_are_accepted(
    #[values(
        HashAlgorithm::SHA_384,
        HashAlgorithm::SHA_512,
        HashAlgorithm::SHA3_384,
        HashAlgorithm::SHA3_512
    )]
    hash: HashAlgorithm,
    #[values(KeyAlgorithm::Ed25519, KeyAlgorithm::P256)] algorithm: KeyAlgorithm,
    #[values(0, 18)] runtime_measurements: u8,
) {
    let config = CovePlatformConfig::with_hash_algorithm(hash).unwrap();
    let config = CovePlatformConfig { runtime_measurements, ..config };
    let made = Made::of(config.build(&Seed::DEFAULT).unwrap(), algorithm, None);
    let verdict = judge(&made.bundle);
    assert_eq!(verdict.reason(), None, "{}", verdict.table());
}

/// A COSE_Key on P-256: the generator of the curve.
const KEY: &str = "a401022001215820\
    6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296225820\
    4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

#[test]
fn a_key_of_the_guest_stands_in_the_certificate() {
    let key: Vec<u8> =
        (0..KEY.len()).step_by(2).map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap()).collect();
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
        let made = Made::of(config().build(&Seed::DEFAULT).unwrap(), algorithm, Some(&key));
        let verdict = judge(&made.bundle);
        assert_eq!(verdict.reason(), None, "{}", verdict.table());
        assert_eq!(Claims::read(&made.bundle.evidence).unwrap().tvm.public_key.name(), "P-256");
    }
}

#[test]
fn without_certificates_of_the_layers_the_tokens_suffice() {
    for made in formats() {
        let rot = made.platform.chain(made.algorithm).rot().pem();
        let bundle = Bundle { chain: Some(rot.into_bytes()), ..made.bundle };
        assert_eq!(judge(&bundle).reason(), None, "{}", judge(&bundle).table());
        refused(&judge(&Bundle { chain: None, ..bundle.clone() }), "chain: certificates: none given");
        refused(&judge(&Bundle { root: None, ..bundle.clone() }), "root CA: certificate: none given");
        let crl = Policy { require_crl: true, ..Policy::at(NOW) };
        fails(&verify(&Bundle { crl: None, ..bundle.clone() }, &crl), "CRL", "list");
        assert!(judge(&Bundle { crl: None, ..bundle }).accepted());
    }
}

#[test]
fn expectations_are_compared() {
    for made in formats() {
        let tvm = Claims::read(&made.bundle.evidence).unwrap().tvm;
        assert_eq!((tvm.challenge, tvm.identity), (CHALLENGE, Some(IDENTITY)));
        let pages = register::TVM_PAGES as u64;
        let value = tvm.initial[register::TVM_PAGES].value.clone();
        let at = || Policy::at(NOW);
        let with = |registers| Policy { registers, ..at() };
        let verdict = |policy: Policy| verify(&made.bundle, &policy);
        assert!(verdict(with(vec![(pages, value)])).accepted());
        refused(&verdict(with(vec![(pages, vec![1; 48])])), "TVM token: register 4");
        refused(&verdict(with(vec![(99, vec![1; 48])])), "TVM token: register 99: there is no such");
        assert!(verdict(Policy { identity: Some(IDENTITY), ..at() }).accepted());
        refused(&verdict(Policy { identity: Some([0; 64]), ..at() }), "TVM token: tvm-identity");
        let manufacturer_id = Some(made.platform.config().manufacturer_id);
        assert!(verdict(Policy { manufacturer_id, ..at() }).accepted());
        let other = Policy { manufacturer_id: Some([0; 64]), ..at() };
        refused(&verdict(other), "platform token: platform-manufacturer-id");
        let mut bundle = made.bundle.clone();
        bundle.inblob.as_mut().unwrap()[63] ^= 1;
        refused(&judge(&bundle), "TVM token: tvm-challenge");
        bundle.inblob.as_mut().unwrap().pop();
        refused(&judge(&bundle), "TVM token: tvm-challenge");
    }
}

#[test]
fn roots_are_told_apart() {
    for made in formats() {
        let verdict = |trust| verify(&made.bundle, &Policy { trust, ..Policy::at(NOW) });
        assert!(verdict(TrustedRoot::Given(made.bundle.root.clone().unwrap())).accepted());
        refused(&verdict(TrustedRoot::Vendor), "root CA: root");
        let other = config().build(&Seed::from_bytes([9; 32])).unwrap();
        let other = Made::of(other, made.algorithm, None);
        let root = other.bundle.root.clone();
        refused(&verdict(TrustedRoot::Given(root.clone().unwrap())), "root CA: root: not the given root");
        fails(&judge(&Bundle { root, ..made.bundle.clone() }), "RoT", "signature");
        let chain = other.bundle.chain;
        fails(&judge(&Bundle { chain, ..made.bundle.clone() }), "platform token", "signature");
    }
}

#[rstest]
#[case::debug(PlatformState::DEBUG, true)]
#[case::recovery(PlatformState::RECOVERY, false)]
#[case::not_configured(PlatformState::NOT_CONFIGURED, false)]
#[case::unknown(PlatformState(9), false)]
fn only_secured_platforms(#[case] state: PlatformState, #[case] allowed: bool) {
    let config = CovePlatformConfig { state, ..config() };
    let made = Made::of(config.build(&Seed::DEFAULT).unwrap(), KeyAlgorithm::Ed25519, None);
    refused(&judge(&made.bundle), "platform token: platform-state");
    let policy = Policy { allow_debug: true, ..Policy::at(NOW) };
    assert_eq!(verify(&made.bundle, &policy).accepted(), allowed);
}

#[test]
fn another_devices_certificates_do_not_fit() {
    for made in formats() {
        let other = CovePlatformConfig { device: 1, ..config() }.build(&Seed::DEFAULT).unwrap();
        let other = Made::of(other, made.algorithm, None);
        let bundle = Bundle { chain: other.bundle.chain, ..made.bundle };
        refused(&judge(&bundle), "platform token: kid");
    }
}

#[test]
fn a_revoked_root_of_trust_is_refused() {
    for made in formats() {
        let made = made.with_crl(Scenario::RevokedRot);
        refused(&judge(&made.bundle), "RoT: revocation: serial number");
    }
}

#[test]
fn evidence_is_shown_and_drawn() {
    for made in formats() {
        let tree = show(&made.bundle.evidence, None).unwrap();
        let text = tree.to_text();
        for part in ["tvm-challenge", "platform-sw-components", "m-mode-firmware", "EDDSA", "ES256"] {
            let other = match made.algorithm {
                KeyAlgorithm::Ed25519 => "ES256",
                KeyAlgorithm::P256 => "EDDSA",
            };
            let expected = part != other;
            assert_eq!(text.contains(part), expected, "{part} in\n{text}");
        }
        assert_ne!(detect(&made.bundle.evidence), tsmsim_evidence::show::Kind::Unknown);
        let picture = svg(&made.bundle, &judge(&made.bundle));
        assert!(picture.contains("m-mode-firmware 3") && picture.contains("accepted"), "{picture}");
        let empty = svg(&Bundle::default(), &judge(&Bundle::default()));
        assert!(empty.contains("refused"));
    }
}

#[test]
fn a_directory_is_read() {
    let made = Made::cbor();
    let directory = tempfile::tempdir().unwrap();
    assert!(Bundle::from_dir(directory.path()).unwrap_err().to_string().contains("no evidence.bin"));
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    write("evidence.bin", &made.bundle.evidence);
    write("root.pem", made.platform.hierarchy().root().unwrap().pem().as_bytes());
    write("chain.pem", made.bundle.chain.as_ref().unwrap());
    write("crl.der", made.bundle.crl.as_ref().unwrap());
    write("inblob.bin", &CHALLENGE);
    assert_eq!(Bundle::from_dir(directory.path()).unwrap(), made.bundle);
}
