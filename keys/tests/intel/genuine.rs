//! Our certificates, lists and documents beside Intel's own: every field that Intel chose has the same bytes.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use const_oid::db::rfc5280::{ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_SUBJECT_KEY_IDENTIFIER};
use der::{Decode, Encode};
use rstest::rstest;
use serde_json::Value;
use tsmsim_keys::der::asn1::ObjectIdentifier;
use tsmsim_keys::intel::{
    CertificateKind, Configuration, CrlKind, Hierarchy, MultiPackage, PckCa, PckTcb, PlatformIdentity,
    QeIdentitySpec, SYNTHETIC_SERIAL_PREFIX, SgxType, TcbInfo, TcbInfoSpec, TcbLevel, TcbStatus, Update, oid,
};
use tsmsim_keys::x509_cert::Certificate;
use tsmsim_keys::x509_cert::crl::CertificateList;
use tsmsim_keys::x509_cert::ext::Extension;
use tsmsim_keys::{Seed, der};

use crate::platform;

fn genuine(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/genuine/tdx").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collateral() -> Value {
    serde_json::from_slice(&genuine("tdx_quote_collateral.json")).unwrap()
}

fn text(name: &str) -> String {
    collateral()[name].as_str().unwrap().to_owned()
}

fn bytes(name: &str) -> Vec<u8> {
    let text = text(name);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// PCK, platform CA and root from the genuine quote.
fn pck_chain() -> Vec<Certificate> {
    let quote = genuine("tdx_quote");
    let find = |what: &[u8]| quote.windows(what.len()).rposition(|window| window == what);
    let start = quote.windows(10).position(|window| window == b"-----BEGIN").unwrap();
    let end = find(b"-----END CERTIFICATE-----").unwrap() + 25;
    Certificate::load_pem_chain(&quote[start..end]).unwrap()
}

fn theirs(kind: CertificateKind) -> Certificate {
    match kind {
        CertificateKind::Pck => pck_chain().remove(0),
        CertificateKind::PlatformCa | CertificateKind::ProcessorCa => pck_chain().remove(1),
        CertificateKind::Root => pck_chain().remove(2),
        CertificateKind::TcbSigning => {
            Certificate::load_pem_chain(text("tcb_info_issuer_chain").as_bytes()).unwrap().remove(0)
        }
    }
}

fn ours(kind: CertificateKind) -> Certificate {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let certificate = match kind {
        CertificateKind::Root => hierarchy.root(),
        CertificateKind::PlatformCa => hierarchy.platform_ca(),
        CertificateKind::ProcessorCa => hierarchy.processor_ca(),
        CertificateKind::TcbSigning => hierarchy.tcb_signing(),
        CertificateKind::Pck => return hierarchy.pck(&platform()).unwrap().certificate().parse().unwrap(),
    };
    certificate.unwrap().parse().unwrap()
}

fn extensions(certificate: &Certificate) -> &[Extension] {
    certificate.tbs_certificate().extensions().unwrap()
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> &[u8] {
    let found = extensions(certificate).iter().find(|extension| extension.extn_id == oid);
    found.unwrap().extn_value.as_bytes()
}

/// All but serial number, validity, keys and their identifiers of two certificates, byte for byte.
fn assert_same_shape(ours: &Certificate, theirs: &Certificate) {
    let (our, their) = (ours.tbs_certificate(), theirs.tbs_certificate());
    assert_eq!(our.version(), their.version());
    assert_eq!(our.serial_number().as_bytes().len(), 20);
    assert_eq!(our.signature().to_der().unwrap(), their.signature().to_der().unwrap());
    assert_eq!(ours.signature_algorithm().to_der().unwrap(), theirs.signature_algorithm().to_der().unwrap());
    assert_eq!(our.issuer().to_der().unwrap(), their.issuer().to_der().unwrap());
    assert_eq!(our.subject().to_der().unwrap(), their.subject().to_der().unwrap());
    let [our_key, their_key] = [our, their].map(|tbs| tbs.subject_public_key_info());
    assert_eq!(our_key.algorithm.to_der().unwrap(), their_key.algorithm.to_der().unwrap());
    assert_eq!(our_key.subject_public_key.bit_len(), their_key.subject_public_key.bit_len());
    assert_eq!(extensions(ours).len(), extensions(theirs).len());
    for (our, their) in extensions(ours).iter().zip(extensions(theirs)) {
        assert_eq!((our.extn_id, our.critical), (their.extn_id, their.critical));
        let identifiers = [ID_CE_SUBJECT_KEY_IDENTIFIER, ID_CE_AUTHORITY_KEY_IDENTIFIER];
        if identifiers.contains(&our.extn_id) {
            assert_eq!(our.extn_value.as_bytes().len(), their.extn_value.as_bytes().len());
        } else {
            assert_eq!(our.extn_value, their.extn_value, "{}", our.extn_id);
        }
    }
}

#[rstest]
fn authorities_have_the_genuine_shape(
    #[values(CertificateKind::Root, CertificateKind::PlatformCa, CertificateKind::TcbSigning)]
    kind: CertificateKind,
) {
    let (ours, theirs) = (ours(kind), theirs(kind));
    assert_same_shape(&ours, &theirs);
    assert!(ours.tbs_certificate().serial_number().as_bytes().starts_with(SYNTHETIC_SERIAL_PREFIX));
    assert!(!theirs.tbs_certificate().serial_number().as_bytes().starts_with(SYNTHETIC_SERIAL_PREFIX));
}

/// No genuine certificate of the processor CA is at hand: it is the platform CA by another name.
#[test]
fn processor_ca_differs_from_the_platform_ca_by_its_name() {
    let (ours, theirs) = (ours(CertificateKind::ProcessorCa), theirs(CertificateKind::ProcessorCa));
    assert_eq!(extensions(&ours)[1], extensions(&theirs)[1]);
    assert_eq!(extensions(&ours)[3..], extensions(&theirs)[3..]);
    let renamed = theirs.tbs_certificate().subject().to_string().replace("Platform", "Processor");
    assert_eq!(ours.tbs_certificate().subject().to_string(), renamed);
}

/// The genuine identifiers are SHA-1 over the whole SubjectPublicKeyInfo; ours are made by the same rule. Intel's authorities
/// have their identifier as serial number, ours its last 14 octets.
#[rstest]
fn key_identifiers_follow_the_genuine_rule(
    #[values(
        CertificateKind::Root,
        CertificateKind::PlatformCa,
        CertificateKind::TcbSigning,
        CertificateKind::Pck
    )]
    kind: CertificateKind,
) {
    let issuer =
        if kind == CertificateKind::Pck { CertificateKind::PlatformCa } else { CertificateKind::Root };
    for (certificate, issuer) in [(ours(kind), ours(issuer)), (theirs(kind), theirs(issuer))] {
        let key = certificate.tbs_certificate().subject_public_key_info().to_der().unwrap();
        let identifier = digest(&SHA1_FOR_LEGACY_USE_ONLY, &key);
        assert_eq!(&extension(&certificate, ID_CE_SUBJECT_KEY_IDENTIFIER)[2..], identifier.as_ref());
        let of_issuer = &extension(&issuer, ID_CE_SUBJECT_KEY_IDENTIFIER)[2..];
        assert_eq!(&extension(&certificate, ID_CE_AUTHORITY_KEY_IDENTIFIER)[4..], of_issuer);
        let serial = certificate.tbs_certificate().serial_number().as_bytes();
        if kind != CertificateKind::Pck || serial.starts_with(SYNTHETIC_SERIAL_PREFIX) {
            assert!(serial.ends_with(&identifier.as_ref()[6..]));
        }
    }
}

/// The genuine quote's platform, read by a parser that is not ours.
fn genuine_platform() -> PlatformIdentity {
    let pck = theirs(CertificateKind::Pck).to_der().unwrap();
    let parsed = dcap_qvl::intel::parse_pck_extension(&pck).unwrap();
    let components = std::array::from_fn(|index| {
        let oid = oid::TCB.push_arc(u32::try_from(index + 1).unwrap()).unwrap();
        parsed.get_value(&oid).unwrap().unwrap().last().copied().unwrap()
    });
    PlatformIdentity {
        ppid: parsed.ppid.try_into().unwrap(),
        tcb: PckTcb { components, pcesvn: parsed.pce_svn, cpusvn: parsed.cpu_svn },
        pce_id: parsed.pce_id.try_into().unwrap(),
        fmspc: parsed.fmspc,
        sgx_type: [SgxType::Standard, SgxType::Scalable, SgxType::ScalableWithIntegrity]
            [usize::try_from(parsed.sgx_type).unwrap()],
        multi_package: Some(MultiPackage {
            platform_instance_id: parsed.platform_instance_id.unwrap().try_into().unwrap(),
            configuration: Configuration {
                dynamic_platform: parsed.dynamic_platform.unwrap(),
                cached_keys: parsed.cached_keys.unwrap(),
                smt_enabled: parsed.smt_enabled.unwrap(),
            },
        }),
    }
}

/// For the same platform we issue the same certificate but for serial number, validity, keys and signature.
#[test]
fn pck_of_a_genuine_platform() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let pck = hierarchy.pck(&genuine_platform()).unwrap();
    assert_same_shape(&pck.certificate().parse().unwrap(), &theirs(CertificateKind::Pck));
}

/// The comparison above can fail: anything else about the platform is another extension.
#[test]
fn pck_of_another_platform_differs_from_the_genuine() {
    let theirs = theirs(CertificateKind::Pck);
    let genuine = genuine_platform();
    let multi_package = genuine.multi_package.unwrap();
    let configuration = Configuration { smt_enabled: false, ..multi_package.configuration };
    let others = [
        PlatformIdentity { ppid: [0; 16], ..genuine.clone() },
        PlatformIdentity { tcb: PckTcb { pcesvn: 12, ..genuine.tcb }, ..genuine.clone() },
        PlatformIdentity { tcb: PckTcb { components: [0; 16], ..genuine.tcb }, ..genuine.clone() },
        PlatformIdentity { tcb: PckTcb { cpusvn: [0; 16], ..genuine.tcb }, ..genuine.clone() },
        PlatformIdentity { pce_id: [0, 1], ..genuine.clone() },
        PlatformIdentity { fmspc: [0; 6], ..genuine.clone() },
        PlatformIdentity { sgx_type: SgxType::Standard, ..genuine.clone() },
        PlatformIdentity {
            multi_package: Some(MultiPackage { configuration, ..multi_package }),
            ..genuine.clone()
        },
        PlatformIdentity { multi_package: None, ..genuine },
    ];
    for other in others {
        assert_ne!(other.sgx_extension().unwrap(), extension(&theirs, oid::SGX_EXTENSION), "{other:?}");
    }
}

/// Genuine revocation lists, made again with their dates, numbers and entries: equal but for the key's identifier.
#[rstest]
#[case(CrlKind::Root, bytes("root_ca_crl"))]
#[case(CrlKind::Root, genuine("rootcrl.der"))]
#[case(CrlKind::Pck(PckCa::Platform), bytes("pck_crl"))]
#[case(CrlKind::Pck(PckCa::Platform), genuine("pckcrl"))]
fn revocation_lists_have_the_genuine_shape(#[case] kind: CrlKind, #[case] der: Vec<u8>) {
    let theirs: CertificateList = CertificateList::from_der(&der).unwrap();
    let their = &theirs.tbs_cert_list;
    let (this_update, next_update) = (their.this_update, their.next_update);
    let hierarchy = Hierarchy::builder(&Seed::DEFAULT)
        .edit_crl(kind, move |crl| {
            crl.this_update = this_update;
            crl.next_update = next_update;
            crl.revoked.iter_mut().for_each(|entry| entry.revocation_date = this_update);
        })
        .build();
    let revoked = their.revoked_certificates.as_deref().unwrap_or_default();
    let serials: Vec<&[u8]> = revoked.iter().map(|entry| entry.serial_number.as_bytes()).collect();
    let ours = hierarchy.crl(kind, 1, &serials).unwrap();
    let mut ours: CertificateList = CertificateList::from_der(ours.der()).unwrap();
    let identifier = their.crl_extensions.as_ref().unwrap()[1].clone();
    assert_eq!(identifier.extn_id, ID_CE_AUTHORITY_KEY_IDENTIFIER);
    ours.tbs_cert_list.crl_extensions.as_mut().unwrap()[1].extn_value = identifier.extn_value;
    assert_eq!(ours.tbs_cert_list.to_der().unwrap(), their.to_der().unwrap());
    assert_eq!(ours.signature_algorithm, theirs.signature_algorithm);
}

/// Sets what a level says beside its version numbers to what the genuine one says.
fn take_level<T>(level: &mut TcbLevel<T>, genuine: &Value) {
    level.tcb_date = genuine["tcbDate"].as_str().unwrap().to_owned();
    let ids = genuine["advisoryIDs"].as_array().into_iter().flatten();
    level.advisory_ids = ids.map(|id| id.as_str().unwrap().to_owned()).collect();
}

fn take_tcb_info(body: &mut TcbInfo, genuine: &Value) {
    body.tcb_evaluation_data_number = 17;
    body.tcb_levels.remove(1);
    let components = body.tcb_levels[0].tcb.clone();
    body.tcb_levels[1].tcb = components;
    body.tcb_levels[1].tcb.pcesvn = 5;
    for (level, genuine) in body.tcb_levels.iter_mut().zip(genuine["tcbLevels"].as_array().unwrap()) {
        take_level(level, genuine);
    }
    let identities = genuine["tdxModuleIdentities"].as_array().unwrap();
    for (identity, genuine) in body.tdx_module_identities.iter_mut().flatten().zip(identities) {
        let levels = genuine["tcbLevels"].as_array().unwrap();
        identity.tcb_levels.truncate(levels.len());
        for (level, genuine) in identity.tcb_levels.iter_mut().zip(levels) {
            level.tcb.isvsvn = u16::try_from(genuine["tcb"]["isvsvn"].as_u64().unwrap()).unwrap();
            take_level(level, genuine);
        }
    }
}

/// Given the same values, the text is the same to the byte: order of members, spelling, letter case, no blanks.
#[test]
fn tcb_info_of_a_genuine_platform() {
    let theirs = text("tcb_info");
    let genuine: Value = serde_json::from_str(&theirs).unwrap();
    let hierarchy = {
        let genuine = genuine.clone();
        Hierarchy::builder(&Seed::DEFAULT)
            .edit_tcb_info(move |draft| take_tcb_info(&mut draft.body, &genuine))
    };
    let spec = TcbInfoSpec {
        components: [2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        update: Update::Early,
        issue_date: genuine["issueDate"].as_str().unwrap().to_owned(),
        next_update: genuine["nextUpdate"].as_str().unwrap().to_owned(),
        ..TcbInfoSpec::tdx(&genuine_platform(), [5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    assert_eq!(spec.status, TcbStatus::UpToDate);
    assert_eq!(hierarchy.build().tcb_info(&spec).unwrap().json(), theirs);
}

#[test]
fn qe_identity_as_the_genuine() {
    let theirs = text("qe_identity");
    let genuine: Value = serde_json::from_str(&theirs).unwrap();
    let spec = QeIdentitySpec {
        update: Update::Early,
        issue_date: genuine["issueDate"].as_str().unwrap().to_owned(),
        next_update: genuine["nextUpdate"].as_str().unwrap().to_owned(),
        ..QeIdentitySpec::td_qe()
    };
    let hierarchy = Hierarchy::builder(&Seed::DEFAULT).edit_qe_identity(move |draft| {
        draft.body.tcb_evaluation_data_number = 17;
        draft.body.tcb_levels.truncate(1);
        take_level(&mut draft.body.tcb_levels[0], &genuine["tcbLevels"][0]);
    });
    assert_eq!(hierarchy.build().qe_identity(&spec).unwrap().json(), theirs);
}

/// Member names and order of our collateral file are those of a genuine one.
#[test]
fn collateral_has_the_genuine_members() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let spec = TcbInfoSpec::tdx(&platform(), crate::TEE_TCB_SVN);
    let ours = hierarchy.collateral(PckCa::Platform, &spec, &QeIdentitySpec::td_qe()).unwrap();
    let [ours, theirs] =
        [ours.to_json().unwrap(), String::from_utf8(genuine("tdx_quote_collateral.json")).unwrap()];
    let members = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(members(&ours), members(&theirs));
    assert_eq!(members(&ours).len(), 9);
}
