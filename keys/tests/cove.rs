//! The layers of CoVE, and what openssl says of their certificates.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use tsmsim_keys::cove::{
    Cdi, CdiId, CertificateKind, Chain, Device, DeviceIdentity, Hierarchy, KeyAlgorithm,
    SYNTHETIC_SERIAL_PREFIX, Scenario, TvmCertificate,
};
use tsmsim_keys::{Certificate, Seed, SignatureMode};

const BOTH: [KeyAlgorithm; 2] = [KeyAlgorithm::Ed25519, KeyAlgorithm::P256];

fn identity() -> DeviceIdentity {
    DeviceIdentity { number: 0, platform: vec![1; 48], tsm: vec![2; 48] }
}

fn device() -> Device {
    Hierarchy::new(&Seed::DEFAULT).device(&identity())
}

/// A TVM's certificate with something as evidence.
fn tvm(hierarchy: &Hierarchy, chain: &Chain) -> Certificate {
    let key = device().tsm().next(&[3; 48]).key(KeyAlgorithm::P256).unwrap();
    let public_key = key.spki().unwrap();
    let spec = TvmCertificate { subject: *key.id(), public_key, evidence: vec![0xd9, 0x02, 0x59, 0xa0] };
    hierarchy.tvm(chain, spec).unwrap()
}

/// HKDF of the specification's formulas written out.
#[test]
fn a_cdi_is_hkdf_of_the_one_below_and_the_hash() {
    let uds = Seed::DEFAULT.derive::<32>(&[b"cove", b"uds", &[0; 4]]);
    let material = [uds.expose().as_slice(), &[1; 48]].concat();
    let mut cdi = [0; 32];
    hkdf::Hkdf::<sha2::Sha512>::new(None, &material).expand(b"CoVE CDI", &mut cdi).unwrap();
    let mut expected = [0; 16];
    hkdf::Hkdf::<sha2::Sha512>::new(None, &cdi).expand(b"anything", &mut expected).unwrap();
    assert_eq!(*device().platform().expand::<16>(b"anything"), expected);
    assert_eq!(*Cdi::uds(&Seed::DEFAULT, 0).next(&[1; 48]).expand::<16>(b"anything"), expected);
}

#[rstest]
#[case::device(|identity: &mut DeviceIdentity| identity.number = 1, [true, true, true])]
#[case::platform(|identity: &mut DeviceIdentity| identity.platform[0] ^= 1, [false, true, true])]
#[case::tsm(|identity: &mut DeviceIdentity| identity.tsm[0] ^= 1, [false, false, true])]
fn layers_above_what_changed_change(
    #[case] change: fn(&mut DeviceIdentity),
    #[case] expected: [bool; 3],
    #[values(KeyAlgorithm::Ed25519, KeyAlgorithm::P256)] algorithm: KeyAlgorithm,
) {
    let ids = |identity: &DeviceIdentity| {
        let device = Hierarchy::new(&Seed::DEFAULT).device(identity);
        [device.rot(), device.platform(), device.tsm()].map(|cdi| *cdi.key(algorithm).unwrap().id())
    };
    let (before, mut identity) = (ids(&identity()), identity());
    assert_eq!(ids(&identity), before);
    change(&mut identity);
    let after = ids(&identity);
    assert_eq!([0, 1, 2].map(|layer| before[layer] != after[layer]), expected);
}

#[rstest]
#[case(b"a")]
#[case(&[0; 65])]
#[case(&[0xff; 32])]
fn identifiers_are_positive_integers_of_twenty_octets(#[case] public_key: &[u8]) {
    let id = CdiId::of(public_key);
    assert_eq!(id.0[0] & 0x81, 1);
    assert_eq!(id.to_string().len(), 40);
}

#[test]
fn chains_are_the_same_each_time_and_marked() {
    let chain = |seed: &Seed, algorithm| {
        let hierarchy = Hierarchy::new(seed);
        let chain = hierarchy.chain(&hierarchy.device(&identity()), algorithm).unwrap();
        hierarchy.root().unwrap().pem() + &chain.pem()
    };
    for algorithm in BOTH {
        assert_eq!(chain(&Seed::DEFAULT, algorithm), chain(&Seed::DEFAULT, algorithm));
        assert_ne!(chain(&Seed::DEFAULT, algorithm), chain(&Seed::from_bytes([1; 32]), algorithm));
    }
    let root = Hierarchy::new(&Seed::DEFAULT).root().unwrap().parse().unwrap();
    let tbs = root.tbs_certificate();
    assert!(tbs.serial_number().as_bytes().starts_with(SYNTHETIC_SERIAL_PREFIX));
    assert!(tbs.subject().to_string().contains("tsmsim"));
}

#[rstest]
fn tokens_are_signed(
    #[values(KeyAlgorithm::Ed25519, KeyAlgorithm::P256)] algorithm: KeyAlgorithm,
    #[values(SignatureMode::Deterministic, SignatureMode::Randomized)] mode: SignatureMode,
) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
    let key = device().tsm().key(algorithm).unwrap();
    let verifier: &'static dyn VerificationAlgorithm = match algorithm {
        KeyAlgorithm::Ed25519 => &ED25519,
        KeyAlgorithm::P256 => &ECDSA_P256_SHA256_FIXED,
    };
    let public = UnparsedPublicKey::new(verifier, key.public_key());
    let mut signature = key.sign_token(mode, b"token").unwrap();
    assert!(public.verify(b"token", &signature).is_ok());
    signature[40] ^= 1;
    assert!(public.verify(b"token", &signature).is_err());
    let again = key.sign_token(mode, b"token").unwrap() == key.sign_token(mode, b"token").unwrap();
    assert_eq!(again, mode == SignatureMode::Deterministic || algorithm == KeyAlgorithm::Ed25519);
}

#[test]
fn a_tvm_certificate_has_the_fields_of_the_specification() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let chain = hierarchy.chain(&device(), KeyAlgorithm::P256).unwrap();
    let certificate = tvm(&hierarchy, &chain).parse().unwrap();
    let tbs = certificate.tbs_certificate();
    let tsm = chain.tsm_key().id();
    assert_eq!(tbs.serial_number().as_bytes(), tsm.0);
    assert!(tbs.issuer().to_string().to_lowercase().contains(&tsm.to_string()));
    assert_eq!(tbs.validity().not_after, x509_cert::time::Time::INFINITY);
    let critical = tbs.extensions().unwrap().iter().map(|one| (one.extn_id.to_string(), one.critical));
    let expected = [
        ("2.5.29.35", false),
        ("2.5.29.14", false),
        ("2.5.29.15", true),
        ("2.5.29.19", true),
        ("2.23.133.5.4.6", true),
    ];
    assert!(critical.eq(expected.map(|(oid, critical)| (oid.to_owned(), critical))));
    assert_eq!(certificate.signature_algorithm().oid.to_string(), "1.2.840.10045.4.3.4");
}

/// `openssl verify`; nothing where openssl is not installed.
fn assert_openssl(directory: &Path, arguments: &[&str], accepted: bool, says: &str) {
    let Some(openssl) = tsmsim_tests::need::program("openssl") else { return };
    let mut command = Command::new(openssl);
    command.current_dir(directory).args(["verify", "-attime", "1750000000", "-CAfile", "root.pem"]);
    let output = command.args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.success(), accepted, "{arguments:?}: {text}");
    assert!(text.contains(says), "{arguments:?}: {text}");
}

#[rstest]
fn openssl_checks_chains(#[values(KeyAlgorithm::Ed25519, KeyAlgorithm::P256)] algorithm: KeyAlgorithm) {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let chain = hierarchy.chain(&device(), algorithm).unwrap();
    let untrusted = chain.platform().pem() + &chain.rot().pem();
    put("root.pem", hierarchy.root().unwrap().pem());
    put("untrusted.pem", untrusted.clone());
    put("chain.pem", chain.pem());
    put("tsm.pem", chain.tsm().pem());
    put("tvm.pem", tvm(&hierarchy, &chain).pem());
    put("crl.pem", Scenario::Sound.crl(&hierarchy, &device()).unwrap().pem());
    put("revoked.pem", Scenario::RevokedRot.crl(&hierarchy, &device()).unwrap().pem());
    put("rot.pem", chain.rot().pem());
    let flip =
        |kind| Hierarchy::builder(&Seed::DEFAULT).edit(kind, |draft| draft.flip_signature_bits.push(300));
    let forged = flip(CertificateKind::Tsm).build();
    put("forged.pem", forged.chain(&device(), algorithm).unwrap().tsm().pem());
    let forged = flip(CertificateKind::Tvm).build();
    put("forged-tvm.pem", tvm(&forged, &chain).pem());
    let late = Hierarchy::builder(&Seed::DEFAULT).edit_crl(|crl| crl.flip_signature_bits.push(300)).build();
    put("forged-crl.pem", late.crl(1, &[]).unwrap().pem());

    let check =
        |arguments: &[&str], accepted, says| assert_openssl(directory.path(), arguments, accepted, says);
    check(&["-x509_strict", "-untrusted", "untrusted.pem", "tsm.pem"], true, "tsm.pem: OK");
    check(&["tsm.pem"], false, "unable to get local issuer");
    check(&["-untrusted", "untrusted.pem", "forged.pem"], false, "certificate signature failure");
    // The evidence extension is critical, and openssl does not know it.
    check(&["-untrusted", "chain.pem", "tvm.pem"], false, "unhandled critical extension");
    check(&["-ignore_critical", "-untrusted", "chain.pem", "tvm.pem"], true, "tvm.pem: OK");
    let forged = ["-ignore_critical", "-untrusted", "chain.pem", "forged-tvm.pem"];
    check(&forged, false, "certificate signature failure");
    check(&["-crl_check", "-CRLfile", "crl.pem", "rot.pem"], true, "rot.pem: OK");
    check(&["-crl_check", "-CRLfile", "revoked.pem", "rot.pem"], false, "certificate revoked");
    check(&["-crl_check", "-CRLfile", "forged-crl.pem", "rot.pem"], false, "CRL signature failure");
}
