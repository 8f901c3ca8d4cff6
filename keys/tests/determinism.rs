//! The same seed gives the same bytes; anything else gives other keys.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

mod common;

use common::{chip, tcb};
use rstest::rstest;
use tsmsim_abi::snp::tcb::{ProductLine, TcbVersion};
use tsmsim_keys::amd::{CertificateKind, ChipIdentity, EndorsementKey, Hierarchy};
use tsmsim_keys::{Fingerprint, KeysError, RsaKey, RsaScheme, Seed, SignatureMode};

fn other_seed() -> Seed {
    Seed::from_bytes([7; 32])
}

fn public_key(key: &EndorsementKey) -> Fingerprint {
    key.certificate().public_key_fingerprint().unwrap()
}

/// Pinned, so that no change of a library or of ours changes issued evidence unseen.
#[rstest]
#[case(
    ProductLine::Milan,
    "40d56a01e2c0f0eeb1fe677e35001f4dbabcb260ad3f8902626341629d708920",
    "73a411925f01fbcd78750847e462fe3495222d2fddf5aa6970e61e8af9708fdf"
)]
#[case(
    ProductLine::Genoa,
    "4f55abe3c48cee010bde5bac0da503393b022ecc653bb0c21c41900251a43d85",
    "0d66bea3f6f596ba56e8425a75624ecace6bb242a33a33b0a878d4c1e861b80e"
)]
#[case(
    ProductLine::Turin,
    "0a7123f968631a66e408aa874045484f662a0cee7380099c47aeef49e8e8bdee",
    "7bee27585ec2b3f0a6f60b06d970ffc46f94696bbdaf4f8340c3e93b6aba1e95"
)]
fn certificates_of_the_default_seed_stay(#[case] line: ProductLine, #[case] vcek: &str, #[case] vlek: &str) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let keys = [hierarchy.vcek(&chip(line), tcb(line)), hierarchy.vlek("example", tcb(line))];
    let fingerprints = keys.map(|key| key.unwrap().certificate().fingerprint().to_string());
    assert_eq!(fingerprints, [vcek, vlek]);
}

/// A whole hierarchy from a seed of one's own: generated, not committed; twice the same; none of the default's keys.
#[test]
fn another_seed_is_another_hierarchy_each_time_the_same() {
    let line = ProductLine::Milan;
    let [one, two] = [(); 2].map(|()| Hierarchy::new(&other_seed(), line));
    let default = Hierarchy::new(&Seed::DEFAULT, line);
    let [a, b, c] = [&one, &two, &default].map(|hierarchy| {
        let vcek = hierarchy.vcek(&chip(line), tcb(line)).unwrap();
        [hierarchy.ark().unwrap(), hierarchy.ask().unwrap(), vcek.certificate()].map(Clone::clone)
    });
    assert_eq!(a, b);
    for (ours, default) in a.iter().zip(&c) {
        assert_ne!(ours.public_key_fingerprint().unwrap(), default.public_key_fingerprint().unwrap());
        assert_ne!(ours.fingerprint(), default.fingerprint());
    }
    assert_eq!(one.crl().unwrap(), two.crl().unwrap());
}

#[test]
fn clones_share_what_was_made() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, ProductLine::Turin);
    let ark = hierarchy.ark().unwrap();
    assert!(std::ptr::eq(ark, hierarchy.clone().ark().unwrap()));
    assert_eq!(hierarchy.line(), ProductLine::Turin);
}

#[test]
fn endorsement_keys_differ_by_chip_provider_tcb_and_line() {
    let (milan, genoa) = (ProductLine::Milan, ProductLine::Genoa);
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, milan);
    let usual = public_key(&hierarchy.vcek(&chip(milan), tcb(milan)).unwrap());
    let next_tcb = TcbVersion::new(tcb(milan).get() + 1);
    let others = [
        hierarchy.vcek(&chip(milan), next_tcb),
        hierarchy.vcek(&ChipIdentity::new([0; 64]), tcb(milan)),
        hierarchy.vlek("example", tcb(milan)),
        hierarchy.vlek("another", tcb(milan)),
        hierarchy.vlek("example", next_tcb),
        Hierarchy::new(&Seed::DEFAULT, genoa).vcek(&chip(genoa), tcb(genoa)),
    ];
    let mut keys: Vec<_> = others.into_iter().map(|key| public_key(&key.unwrap()).to_string()).collect();
    keys.push(usual.to_string());
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 7);
    let renamed = hierarchy.vcek(&chip(milan).with_product_name("Milan-B1"), tcb(milan)).unwrap();
    assert_eq!(public_key(&renamed), usual);
}

#[test]
fn what_a_line_does_not_have_is_an_error() {
    let turin = Hierarchy::new(&Seed::DEFAULT, ProductLine::Turin);
    let milan = Hierarchy::new(&Seed::DEFAULT, ProductLine::Milan);
    let tcb_milan = tcb(ProductLine::Milan);
    let long = chip(ProductLine::Milan);
    assert!(matches!(turin.vcek(&long, tcb(ProductLine::Turin)), Err(KeysError::ChipId(8))));
    let reserved = TcbVersion::new(1 << 16);
    assert!(matches!(milan.vcek(&long, reserved), Err(KeysError::Tcb(0x1_0000))));
    assert!(matches!(milan.vlek("example", reserved), Err(KeysError::Tcb(_))));
    for csp_id in ["", "é", "a\nb", &"x".repeat(65)] {
        assert!(matches!(milan.vlek(csp_id, tcb_milan), Err(KeysError::CspId)), "{csp_id:?}");
    }
    assert!(milan.vlek(&"x".repeat(64), tcb_milan).is_ok());
    let name = long.with_product_name("é");
    assert!(matches!(milan.vcek(&name, tcb_milan), Err(KeysError::ProductName)));
}

#[rstest]
#[case(SignatureMode::Deterministic, true)]
#[case(SignatureMode::Randomized, false)]
fn report_signatures_verify_and_repeat_as_promised(#[case] mode: SignatureMode, #[case] repeats: bool) {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
    let line = ProductLine::Milan;
    let key = Hierarchy::new(&Seed::DEFAULT, line).vcek(&chip(line), tcb(line)).unwrap();
    let message = [0xa5; 0x2a0];
    let [one, two] = [(); 2].map(|()| key.sign(mode, &message).unwrap());
    assert_eq!(one == two, repeats);
    let certificate = key.certificate().parse().unwrap();
    let point = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    let verifier = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
    for signature in [one, two] {
        verifier.verify(&message, &signature.to_fixed()).unwrap();
        let mut forged = signature;
        forged.s[47] ^= 1;
        assert!(verifier.verify(&message, &forged.to_fixed()).is_err());
        assert!(verifier.verify(&message[1..], &signature.to_fixed()).is_err());
    }
    assert_eq!((key.kind(), key.tcb()), (CertificateKind::Vcek, tcb(line)));
}

/// The modes are two libraries, and each takes the other's signatures.
#[test]
fn other_library_verifies_randomized_signatures() {
    use p384::ecdsa::signature::Verifier;
    let line = ProductLine::Turin;
    let key = Hierarchy::new(&Seed::DEFAULT, line).vcek(&chip(line), tcb(line)).unwrap();
    let signature = key.sign(SignatureMode::Randomized, b"message").unwrap();
    let point = key.certificate().public_key().subject_public_key.raw_bytes();
    let verifier = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
    let signature = p384::ecdsa::Signature::from_slice(&signature.to_fixed()).unwrap();
    verifier.verify(b"message", &signature).unwrap();
    assert!(verifier.verify(b"massage", &signature).is_err());
}

#[rstest]
fn rsa_signatures_are_functions_of_key_and_message(
    #[values(RsaScheme::PssSha384, RsaScheme::PssSha256, RsaScheme::Pkcs1v15Sha384)] scheme: RsaScheme,
) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, ProductLine::Milan);
    let key: &RsaKey = hierarchy.key(CertificateKind::Ark).unwrap();
    let signer = key.signer(scheme).unwrap();
    let signature = signer.sign(b"message").unwrap();
    assert_eq!(signature.len(), 512);
    assert_eq!(signature, signer.sign(b"message").unwrap());
    assert_ne!(signature, signer.sign(b"massage").unwrap());
}
