//! Evidence, taken apart and verified layer by layer with what is in it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use rstest::rstest;
use sha2::{Digest, Sha384};
use tsmsim_abi::cove::{
    attcaps::{HashAlgorithm, MeasurementType, UNMAPPED_TCG_PCR},
    claims::{
        EAT_PROFILE, EAT_PROFILE_VALUE, EVIDENCE, ISSUER, PLATFORM_MANUFACTURER_ID, PLATFORM_PUBLIC_KEY,
        PLATFORM_STATE, PLATFORM_SW_COMPONENTS, SUBJECT, SUBMODULES, TSM_PUBLIC_KEY, TSM_SW_COMPONENTS,
        TVM_CHALLENGE, TVM_IDENTITY, TVM_INITIAL_MEASUREMENTS, TVM_PUBLIC_KEY, TVM_RUNTIME_MEASUREMENTS,
    },
};
use tsmsim_keys::{
    Seed,
    cove::{CdiId, CertificateKind, Hierarchy, KeyAlgorithm},
    der::Decode,
    x509_cert,
};
use tsmsim_simulator::cove::{
    guest::IMAGE_GPA,
    platform::{Component, CovePlatform, CovePlatformConfig, PlatformError},
};

use super::{
    CBOR, X509,
    encoding::{Item, hex, read, sig_structure},
    guest, platform,
};

/// OKP, X25519.
fn guest_key() -> Vec<u8> {
    [&[0xa3, 1, 1, 0x20, 4, 0x21, 0x58, 32][..], &[5; 32]].concat()
}

fn challenge() -> [u8; 64] {
    core::array::from_fn(|index| u8::try_from(index).unwrap())
}

/// A public key: its raw bytes.
fn raw_key(cose_key: &[u8]) -> Vec<u8> {
    let key = read(cose_key);
    match key.at(1) {
        Item::Int(1) => key.at(-2).bytes().to_vec(),
        _ => [&[4], key.at(-2).bytes(), key.at(-3).bytes()].concat(),
    }
}

/// Verifies a COSE_Sign1 and gives its claims, and the header's key identifier.
fn open(token: &Item, key: &[u8]) -> Result<(Item, Option<Vec<u8>>), ()> {
    let [protected, unprotected, payload, signature] = token.untag(18).array() else { panic!("four parts") };
    assert_eq!(*unprotected, Item::Map(Vec::new()));
    let header = read(protected.bytes());
    let message = sig_structure(protected.bytes(), payload.bytes());
    let verified = match header.at(1) {
        Item::Int(-8) => UnparsedPublicKey::new(&ED25519, key).verify(&message, signature.bytes()),
        Item::Int(-7) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(&message, signature.bytes())
        }
        other => panic!("algorithm {other:?}"),
    };
    verified.map_err(drop)?;
    let claims = read(payload.bytes()).untag(61).clone();
    Ok((claims, header.get(4).map(|kid| kid.bytes().to_vec())))
}

/// Claims of platform, TSM, TVM, each verified by the key that the one before names; the first by the RoT's certificate.
fn layers(evidence: &Item, platform: &CovePlatform, algorithm: KeyAlgorithm) -> [Item; 3] {
    let submodules = evidence.at(SUBMODULES);
    let rot = platform.chain(algorithm).rot().public_key().subject_public_key.raw_bytes().to_vec();
    let (platform, kid) = open(submodules.named("platform"), &rot).unwrap();
    assert_eq!(kid.unwrap(), CdiId::of(&rot).0);
    let (tsm, kid) =
        open(submodules.named("tsm"), &raw_key(platform.at(PLATFORM_PUBLIC_KEY).bytes())).unwrap();
    assert_eq!(kid, None);
    let (tvm, _) = open(submodules.named("tvm"), &raw_key(tsm.at(TSM_PUBLIC_KEY).bytes())).unwrap();
    // No layer's key verifies another's token.
    assert!(open(submodules.named("tsm"), &rot).is_err() && open(submodules.named("tvm"), &rot).is_err());
    [platform, tsm, tvm]
}

fn extended(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().fold(vec![0; 48], |register, part| Sha384::digest([&register, *part].concat()).to_vec())
}

fn registers(list: &Item) -> Vec<(Item, Vec<u8>)> {
    let entry = |entry: &Item| {
        assert_eq!(entry.at(3).text(), "sha-384");
        (entry.at(1).clone(), entry.at(2).bytes().to_vec())
    };
    list.array().iter().map(entry).collect()
}

/// What a verifier computes of the tokens and of what it knows of the TVM.
fn assert_measurements([platform, tsm, tvm]: &[Item; 3]) {
    let components: Vec<&Item> = [platform.at(PLATFORM_SW_COMPONENTS), tsm.at(TSM_SW_COMPONENTS)]
        .iter()
        .flat_map(|list| list.array())
        .collect();
    let names: Vec<&str> = components.iter().map(|component| component.at(1).text()).collect();
    assert_eq!(names, ["rot-firmware", "m-mode-firmware", "tsm-driver", "tsm"]);
    let all =
        |label| -> Vec<&[u8]> { components.iter().map(|component| component.at(label).bytes()).collect() };
    let (software, manifests) = (all(2), all(4));
    let page = [IMAGE_GPA.to_le_bytes().as_slice(), &[0xa5; 4096]].concat();
    let expected = [
        extended(&software[..3]),
        extended(&manifests[..3]),
        extended(&software[3..]),
        extended(&manifests[3..]),
        extended(&[&page]),
        extended(&[&IMAGE_GPA.to_le_bytes(), &0x2_0000_u64.to_le_bytes()]),
    ];
    let expected: Vec<_> = (0..).map(Item::Int).zip(expected).collect();
    assert_eq!(registers(tvm.at(TVM_INITIAL_MEASUREMENTS)), expected);
    let runtime = registers(tvm.at(TVM_RUNTIME_MEASUREMENTS));
    assert_eq!(runtime.len(), 18);
    assert_eq!(runtime[2], (Item::Int(8), extended(&[&[9; 48]])));
    assert!(runtime.iter().enumerate().all(|(at, (_, value))| (at == 2) != (*value == vec![0; 48])));
}

fn assert_layers(layers: &[Item; 3]) {
    let [platform, tsm, tvm] = layers;
    let labels =
        [EAT_PROFILE, PLATFORM_PUBLIC_KEY, PLATFORM_MANUFACTURER_ID, PLATFORM_STATE, PLATFORM_SW_COMPONENTS];
    assert_eq!(platform.labels(), labels);
    assert_eq!(platform.at(EAT_PROFILE).text(), EAT_PROFILE_VALUE);
    assert_eq!(*platform.at(PLATFORM_STATE), Item::Int(2));
    assert_eq!(platform.at(PLATFORM_MANUFACTURER_ID).bytes().len(), 64);
    assert_eq!(tsm.labels(), [TSM_PUBLIC_KEY, TSM_SW_COMPONENTS]);
    assert_eq!(tvm.at(TVM_CHALLENGE).bytes(), challenge());
    assert_eq!(tvm.at(TVM_IDENTITY).bytes(), [0x1d; 64]);
    assert_eq!(tvm.at(TVM_PUBLIC_KEY).bytes(), guest_key());
    assert_measurements(layers);
}

#[test]
fn cbor_evidence_is_signed_by_each_layer() {
    let platform = platform(&CovePlatformConfig::new());
    let mut guest = guest(platform.clone());
    guest.extend(8, &[9; 48]).unwrap();
    let evidence = read(&guest.evidence(CBOR, Some(&guest_key()), &challenge()).unwrap());
    let chain = platform.chain(KeyAlgorithm::Ed25519);
    let (certificate, _) = open(&evidence, chain.tsm_key().public_key()).unwrap();
    assert_eq!(certificate.labels(), [ISSUER, SUBJECT, EVIDENCE]);
    assert_eq!(certificate.at(ISSUER).text(), hex(&chain.tsm_key().id().0));
    assert_eq!(certificate.at(SUBJECT).text().len(), 40);
    let layers = layers(certificate.at(EVIDENCE), &platform, KeyAlgorithm::Ed25519);
    assert_layers(&layers);
    let [named_platform, tsm, _] = &layers;
    assert_eq!(raw_key(tsm.at(TSM_PUBLIC_KEY).bytes()), chain.tsm_key().public_key());
    assert_eq!(raw_key(named_platform.at(PLATFORM_PUBLIC_KEY).bytes()), chain.platform_key().public_key());
}

#[test]
fn x509_evidence_is_signed_by_each_layer() {
    let platform = platform(&CovePlatformConfig::new());
    let mut guest = guest(platform.clone());
    guest.extend(8, &[9; 48]).unwrap();
    let der = guest.evidence(X509, Some(&guest_key()), &challenge()).unwrap();
    let certificate = x509_cert::Certificate::from_der(&der).unwrap();
    let tbs = certificate.tbs_certificate();
    assert_eq!(tbs.serial_number().as_bytes(), platform.chain(KeyAlgorithm::P256).tsm_key().id().0);
    assert_eq!(tbs.subject_public_key_info().subject_public_key.raw_bytes(), [5; 32]);
    let extension = tbs.extensions().unwrap().last().unwrap();
    assert_eq!((extension.extn_id.to_string().as_str(), extension.critical), ("2.23.133.5.4.6", true));
    let evidence = read(extension.extn_value.as_bytes());
    assert_layers(&layers(evidence.untag(601), &platform, KeyAlgorithm::P256));
}

#[rstest]
fn a_guest_without_a_key_gets_its_own(#[values(CBOR, X509)] format: u64) {
    let platform = platform(&CovePlatformConfig::new());
    let bytes = guest(platform.clone()).evidence(format, None, &challenge()).unwrap();
    let (own, subject) = if format == CBOR {
        let tsm = platform.chain(KeyAlgorithm::Ed25519).tsm_key();
        let (certificate, _) = open(&read(&bytes), tsm.public_key()).unwrap();
        let [.., tvm] = layers(certificate.at(EVIDENCE), &platform, KeyAlgorithm::Ed25519);
        (raw_key(tvm.at(TVM_PUBLIC_KEY).bytes()), certificate.at(SUBJECT).text().to_owned())
    } else {
        let certificate = x509_cert::Certificate::from_der(&bytes).unwrap();
        let tbs = certificate.tbs_certificate();
        let subject = tbs.subject().to_string().to_lowercase();
        let own = tbs.subject_public_key_info().subject_public_key.raw_bytes().to_vec();
        (own, subject.trim_start_matches("serialnumber=").to_owned())
    };
    assert_eq!(subject, hex(&CdiId::of(&own).0));
}

#[rstest]
fn deterministic_platforms_repeat_themselves_and_challenges_matter(#[values(CBOR, X509)] format: u64) {
    let evidence = |challenge: [u8; 64]| {
        guest(platform(&CovePlatformConfig::new())).evidence(format, None, &challenge).unwrap()
    };
    assert_eq!(evidence(challenge()), evidence(challenge()));
    assert_ne!(evidence(challenge()), evidence([0; 64]));
}

#[rstest]
#[case(HashAlgorithm::SHA_384, 48, "sha-384")]
#[case(HashAlgorithm::SHA_512, 64, "sha-512")]
#[case(HashAlgorithm::SHA3_384, 48, "sha3-384")]
#[case(HashAlgorithm::SHA3_512, 64, "sha3-512")]
fn every_hash_algorithm(#[case] algorithm: HashAlgorithm, #[case] size: usize, #[case] name: &str) {
    let platform = platform(&CovePlatformConfig::with_hash_algorithm(algorithm).unwrap());
    let mut guest = guest(platform.clone());
    guest.extend(6, &vec![1; size]).unwrap();
    let register = guest.read_measurement(6).unwrap();
    let evidence = read(&guest.evidence(CBOR, None, &challenge()).unwrap());
    let tsm = platform.chain(KeyAlgorithm::Ed25519).tsm_key();
    let (certificate, _) = open(&evidence, tsm.public_key()).unwrap();
    let [.., tvm] = layers(certificate.at(EVIDENCE), &platform, KeyAlgorithm::Ed25519);
    let first = &tvm.at(TVM_RUNTIME_MEASUREMENTS).array()[0];
    assert_eq!((first.at(2).bytes(), first.at(3).text()), (register.as_slice(), name));
    assert_eq!(register.len(), size);
    assert_eq!(guest.capabilities().unwrap().hash_algorithm.get(), algorithm.0);
}

#[test]
fn capabilities_describe_every_register() {
    let mut guest = guest(platform(&CovePlatformConfig::new()));
    assert!(guest.probe());
    let capabilities = guest.capabilities().unwrap();
    assert_eq!((capabilities.initial_measurements, capabilities.runtime_measurements), (6, 18));
    assert_eq!((capabilities.certificate_formats.get(), capabilities.tcb_svn.get()), (3, 1));
    let registers = capabilities.msmt_regs;
    for (at, register) in registers.iter().enumerate().take(24) {
        let expected = if at < 6 { MeasurementType::INITIAL } else { MeasurementType::RUNTIME };
        assert_eq!(MeasurementType(register.measurement_type.get()), expected);
    }
    let pcrs: Vec<u8> = registers.iter().map(|register| register.tcg_pcr_index).collect();
    assert_eq!(pcrs[..6], [UNMAPPED_TCG_PCR; 6]);
    assert_eq!((pcrs[6], pcrs[22], pcrs[23], pcrs[24]), (0, 16, 23, 0));
}

#[test]
fn without_runtime_registers_there_is_no_claim() {
    let config = CovePlatformConfig { runtime_measurements: 0, ..CovePlatformConfig::new() };
    let platform = platform(&config);
    let mut guest = guest(platform.clone());
    assert!(guest.extend(6, &[0; 48]).is_err());
    let evidence = read(&guest.evidence(CBOR, None, &challenge()).unwrap());
    let tsm = platform.chain(KeyAlgorithm::Ed25519).tsm_key();
    let (certificate, _) = open(&evidence, tsm.public_key()).unwrap();
    let [.., tvm] = layers(certificate.at(EVIDENCE), &platform, KeyAlgorithm::Ed25519);
    assert_eq!(tvm.get(TVM_RUNTIME_MEASUREMENTS), None);
}

#[test]
fn software_decides_the_keys() {
    let id = |config: &CovePlatformConfig| *platform(config).chain(KeyAlgorithm::Ed25519).tsm_key().id();
    let base = CovePlatformConfig::new();
    let newer = CovePlatformConfig { tsm: Component { svn: 2, ..base.tsm.clone() }, ..base.clone() };
    assert_ne!(id(&base), id(&newer));
    assert_ne!(id(&base), id(&CovePlatformConfig { device: 1, ..base.clone() }));
    assert_eq!(id(&base), id(&CovePlatformConfig { tcb_svn: 9, ..base }));
}

#[rstest]
#[case::hash(|config: &mut CovePlatformConfig| config.hash_algorithm = HashAlgorithm(4))]
#[case::registers(|config: &mut CovePlatformConfig| config.runtime_measurements = 19)]
#[case::no_format(|config: &mut CovePlatformConfig| config.formats = 0.into())]
#[case::unknown_format(|config: &mut CovePlatformConfig| config.formats = 5.into())]
#[case::no_components(|config: &mut CovePlatformConfig| config.platform_components.clear())]
fn platforms_that_there_cannot_be(#[case] change: fn(&mut CovePlatformConfig)) {
    let mut config = CovePlatformConfig::new();
    change(&mut config);
    let error = config.build(&Seed::DEFAULT).map(drop).unwrap_err();
    assert!(!matches!(error, PlatformError::Keys(_) | PlatformError::Evidence(_)));
}

#[test]
fn certificates_of_tvms_can_be_edited() {
    let hierarchy = Hierarchy::builder(&Seed::DEFAULT)
        .edit(CertificateKind::Tvm, |tvm| tvm.extensions.truncate(2))
        .build();
    let platform = CovePlatformConfig::new().build_under(hierarchy).unwrap();
    let der = guest(platform).evidence(X509, None, &challenge()).unwrap();
    let certificate = x509_cert::Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.tbs_certificate().extensions().unwrap().len(), 2);
}
