//! The same seed gives the same bytes; anything else gives other keys.

use rstest::rstest;
use tsmsim_keys::intel::{Hierarchy, PckCa, PlatformIdentity, QeIdentitySpec, TcbInfoSpec};
use tsmsim_keys::{EcdsaP256Key, Fingerprint, Seed, SignatureMode};

use crate::{TEE_TCB_SVN, platform, single_package};

/// Everything there is, as text.
fn everything(seed: &Seed) -> String {
    let hierarchy = Hierarchy::new(seed);
    let platform = PlatformIdentity::synthetic(seed, 0);
    let pck = hierarchy.pck(&platform).unwrap();
    let single = hierarchy.pck(&PlatformIdentity { multi_package: None, ..platform.clone() }).unwrap();
    let spec = TcbInfoSpec::tdx(&platform, TEE_TCB_SVN);
    let collateral = |ca| hierarchy.collateral(ca, &spec, &QeIdentitySpec::td_qe()).unwrap();
    let attestation = hierarchy.attestation_key(&platform).unwrap().public_point();
    let [of_platform, of_processor] = [PckCa::Platform, PckCa::Processor].map(collateral);
    [
        pck.chain().to_owned(),
        single.chain().to_owned(),
        of_platform.to_json().unwrap(),
        of_processor.to_json().unwrap(),
        Fingerprint::of(&attestation).to_string(),
    ]
    .concat()
}

/// Pinned, so that no change of a library or of ours changes issued evidence unseen.
#[test]
fn everything_of_the_default_seed_stays() {
    let fingerprint = Fingerprint::of(everything(&Seed::DEFAULT).as_bytes()).to_string();
    assert_eq!(fingerprint, "baf6a1b251b4bf5a77fb3e478a3916be347e03f0a55b495c9c84cc358566c685");
}

#[test]
fn another_seed_is_another_hierarchy_each_time_the_same() {
    let other = Seed::from_bytes([7; 32]);
    assert_eq!(everything(&other), everything(&other));
    assert_ne!(everything(&other), everything(&Seed::DEFAULT));
}

#[test]
fn clones_share_what_was_made() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let root = hierarchy.root().unwrap();
    assert!(std::ptr::eq(root, hierarchy.clone().root().unwrap()));
}

#[test]
fn keys_differ_by_role_platform_and_version() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let [mut cpusvn, mut pcesvn] = [platform(), platform()];
    cpusvn.tcb.cpusvn[0] += 1;
    pcesvn.tcb.pcesvn += 1;
    let other = PlatformIdentity::synthetic(&Seed::DEFAULT, 1);
    assert_ne!(other.ppid, platform().ppid);
    assert_ne!(other.multi_package, platform().multi_package);
    let pck = |platform: &PlatformIdentity| hierarchy.pck(platform).unwrap().key().public_point();
    let mut points = vec![pck(&platform()), pck(&cpusvn), pck(&pcesvn), pck(&other)];
    for platform in [platform(), cpusvn, other] {
        points.push(hierarchy.attestation_key(&platform).unwrap().public_point());
    }
    for kind in tsmsim_keys::intel::CertificateKind::AUTHORITIES {
        points.push(hierarchy.key(kind).unwrap().public_point());
    }
    let total = points.len();
    points.sort_unstable();
    points.dedup();
    assert_eq!(points.len(), total);
    // The CA is no part of what a key is derived for.
    assert_eq!(pck(&platform()), pck(&single_package()));
}

#[rstest]
#[case(SignatureMode::Deterministic, true)]
#[case(SignatureMode::Randomized, false)]
fn quote_signatures_verify_and_repeat_as_promised(#[case] mode: SignatureMode, #[case] repeats: bool) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use p256::ecdsa::signature::Verifier;
    let key: &EcdsaP256Key = &Hierarchy::new(&Seed::DEFAULT).attestation_key(&platform()).unwrap();
    let message = [0xa5; 632];
    let [one, two] = [(); 2].map(|()| key.sign(mode, &message).unwrap());
    assert_eq!(one == two, repeats);
    let point = key.public_point();
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    let other_library = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
    for signature in [one, two] {
        verifier.verify(&message, &signature.to_fixed()).unwrap();
        let parsed = p256::ecdsa::Signature::from_slice(&signature.to_fixed()).unwrap();
        other_library.verify(&message, &parsed).unwrap();
        let mut forged = signature;
        forged.s[31] ^= 1;
        assert!(verifier.verify(&message, &forged.to_fixed()).is_err());
        assert!(verifier.verify(&message[1..], &signature.to_fixed()).is_err());
    }
}

/// The private key that is handed out belongs to the public one.
#[test]
fn exported_key_is_the_key() {
    use p256::pkcs8::DecodePrivateKey;
    let key = Hierarchy::new(&Seed::DEFAULT).attestation_key(&platform()).unwrap();
    let secret = p256::SecretKey::from_pkcs8_der(key.to_pkcs8_der().unwrap().as_bytes()).unwrap();
    assert_eq!(secret.public_key().to_sec1_bytes().as_ref(), key.public_point());
    assert_eq!(key.public_key().unwrap().subject_public_key.raw_bytes(), key.public_point());
}
