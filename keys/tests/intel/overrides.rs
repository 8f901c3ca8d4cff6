//! Everything can be given another value before it is signed.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use tsmsim_keys::Seed;
use tsmsim_keys::intel::{
    CertificateKind, CrlKind, Hierarchy, PckCa, PckTcb, PlatformIdentity, QeIdentitySpec, TcbInfoSpec,
    intel_name, oid,
};
use tsmsim_keys::x509_cert::crl::CertificateList;
use tsmsim_keys::x509_cert::der::{Decode, Encode};

use crate::{TEE_TCB_SVN, platform, single_package};

fn certificate(hierarchy: &Hierarchy, kind: CertificateKind) -> tsmsim_keys::Certificate {
    match kind {
        CertificateKind::Root => hierarchy.root().unwrap().clone(),
        CertificateKind::PlatformCa => hierarchy.platform_ca().unwrap().clone(),
        CertificateKind::ProcessorCa => hierarchy.processor_ca().unwrap().clone(),
        CertificateKind::TcbSigning => hierarchy.tcb_signing().unwrap().clone(),
        CertificateKind::Pck => hierarchy.pck(&platform()).unwrap().certificate().clone(),
    }
}

#[rstest]
fn an_edit_shows_in_its_certificate_and_what_is_below(
    #[values(
        CertificateKind::Root,
        CertificateKind::PlatformCa,
        CertificateKind::ProcessorCa,
        CertificateKind::TcbSigning,
        CertificateKind::Pck
    )]
    kind: CertificateKind,
) {
    let usual = Hierarchy::new(&Seed::DEFAULT);
    let edited = Hierarchy::builder(&Seed::DEFAULT)
        .edit(kind, |draft| draft.subject = intel_name("someone else").unwrap())
        .build();
    let parsed = certificate(&edited, kind).parse().unwrap();
    assert!(parsed.tbs_certificate().subject().to_string().contains("CN=someone else"));
    let all = CertificateKind::AUTHORITIES.into_iter().chain([CertificateKind::Pck]);
    for other in all {
        let below = match kind {
            CertificateKind::Root => other != CertificateKind::Pck,
            CertificateKind::PlatformCa => other == CertificateKind::Pck,
            _ => false,
        };
        let same = certificate(&edited, other) == certificate(&usual, other);
        assert_eq!(same, other != kind && !below, "{kind:?} {other:?}");
    }
}

#[test]
fn pck_below_the_processor_ca_says_less() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let pck = hierarchy.pck(&single_package()).unwrap();
    let parsed = dcap_qvl::intel::parse_pck_extension(pck.certificate().der()).unwrap();
    assert_eq!((parsed.platform_instance_id, parsed.smt_enabled), (None, None));
    assert_eq!(parsed.ppid, platform().ppid);
    assert!(matches!(
        dcap_qvl::intel::pck_ca(pck.certificate().der()).unwrap(),
        dcap_qvl::config::PckCa::Processor
    ));
    let certificate = pck.certificate().parse().unwrap();
    let text = format!("{:?}", String::from_utf8_lossy(pck.certificate().der()));
    assert!(text.contains("pckcrl?ca=processor&encoding=der"));
    assert!(certificate.tbs_certificate().issuer().to_string().contains("PCK Processor CA"));
}

#[test]
fn extensions_can_be_taken_away_and_signatures_spoilt() {
    let edited = Hierarchy::builder(&Seed::DEFAULT)
        .edit(CertificateKind::Pck, |draft| draft.remove_extension(oid::SGX_EXTENSION))
        .edit(CertificateKind::TcbSigning, |draft| draft.flip_signature_bits.push(100))
        .build();
    let pck = certificate(&edited, CertificateKind::Pck);
    assert!(dcap_qvl::intel::parse_pck_extension(pck.der()).is_err());
    let [spoilt, usual] = [&edited, &Hierarchy::new(&Seed::DEFAULT)]
        .map(|hierarchy| hierarchy.tcb_signing().unwrap().der().to_vec());
    let differing = spoilt.iter().zip(&usual).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1);
}

#[rstest]
fn an_edit_of_a_list_shows_in_that_list_only(
    #[values(CrlKind::Root, CrlKind::Pck(PckCa::Platform), CrlKind::Pck(PckCa::Processor))] kind: CrlKind,
) {
    let usual = Hierarchy::new(&Seed::DEFAULT);
    let edited = Hierarchy::builder(&Seed::DEFAULT).edit_crl(kind, |crl| crl.next_update = None).build();
    for other in [CrlKind::Root, CrlKind::Pck(PckCa::Platform), CrlKind::Pck(PckCa::Processor)] {
        let [usual, edited] = [&usual, &edited].map(|hierarchy| hierarchy.crl(other, 1, &[]).unwrap());
        assert_eq!(usual == edited, other != kind);
        let list: CertificateList = CertificateList::from_der(edited.der()).unwrap();
        assert_eq!(list.tbs_cert_list.next_update.is_none(), other == kind);
    }
}

#[test]
fn documents_can_say_anything() {
    let spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let edited = Hierarchy::builder(&Seed::DEFAULT)
        .edit_tcb_info(|draft| draft.body.version = 4)
        .edit_tcb_info(|draft| draft.text = Some(draft.body_text().unwrap() + "\n"))
        .edit_qe_identity(|draft| draft.flip_signature_bits.push(0))
        .build();
    let tcb_info = edited.tcb_info(&spec).unwrap();
    assert!(tcb_info.json().starts_with(r#"{"id":"TDX","version":4,"#));
    assert!(tcb_info.json().ends_with("}\n"));
    let usual = Hierarchy::new(&Seed::DEFAULT);
    let spoilt = edited.qe_identity(&QeIdentitySpec::td_qe()).unwrap();
    let good = usual.qe_identity(&QeIdentitySpec::td_qe()).unwrap();
    assert_eq!(spoilt.json(), good.json());
    assert_eq!(spoilt.signature()[0], good.signature()[0] ^ 0x80);
    assert_eq!(spoilt.signature()[1..], good.signature()[1..]);
}

#[test]
fn documents_can_be_signed_by_another_and_come_with_another_chain() {
    let usual = Hierarchy::new(&Seed::DEFAULT);
    let stranger = Arc::clone(usual.key(CertificateKind::Root).unwrap());
    let edited = Hierarchy::builder(&Seed::DEFAULT)
        .edit_qe_identity(move |draft| {
            draft.signer = Arc::clone(&stranger);
            draft.issuer_chain.clear();
        })
        .build();
    let [ours, theirs] =
        [&usual, &edited].map(|hierarchy| hierarchy.qe_identity(&QeIdentitySpec::td_qe()).unwrap());
    assert_eq!(ours.json(), theirs.json());
    assert_ne!(ours.signature(), theirs.signature());
    assert_eq!(theirs.issuer_chain(), "");
}

#[test]
fn dates_are_those_of_the_specification() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let mut spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let dates = r#""issueDate":"2023-01-01T00:00:00Z","nextUpdate":"2047-12-31T23:59:59Z""#;
    assert!(hierarchy.tcb_info(&spec).unwrap().json().contains(dates));
    assert!(hierarchy.qe_identity(&QeIdentitySpec::td_qe()).unwrap().json().contains(dates));
    spec.issue_date = "2025-01-01T00:00:00Z".to_owned();
    assert!(hierarchy.tcb_info(&spec).unwrap().json().contains(r#""issueDate":"2025-01-01T00:00:00Z""#));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a platform's values, another's parser reads them back out of its certificate. From 0x8000 on, where DER needs
    /// a third octet to keep PCESVN positive, that parser gives up.
    #[test]
    fn any_platform_is_read_back(ppid: [u8; 16], svns: [u8; 16], pcesvn in 0_u16..0x8000, pce_id: [u8; 2], fmspc: [u8; 6]) {
        let tcb = PckTcb { components: svns, pcesvn, cpusvn: svns };
        let any = PlatformIdentity { ppid, tcb, pce_id, fmspc, ..platform() };
        let pck = Hierarchy::new(&Seed::DEFAULT).pck(&any).unwrap();
        let read = dcap_qvl::intel::parse_pck_extension(pck.certificate().der()).unwrap();
        prop_assert_eq!((&read.ppid[..], &read.pce_id[..]), (&ppid[..], &pce_id[..]));
        prop_assert_eq!((read.cpu_svn, read.pce_svn, read.fmspc), (svns, pcesvn, fmspc));
        for (arc, svn) in (1..).zip(svns) {
            let value = read.get_value(&oid::TCB.push_arc(arc).unwrap()).unwrap().unwrap();
            let unsigned = value.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            prop_assert_eq!(unsigned, u32::from(svn));
        }
    }
}

/// Version numbers are unsigned, whatever their highest bit.
#[rstest]
#[case(0x7f, &[0x02, 0x01, 0x7f])]
#[case(0x80, &[0x02, 0x02, 0x00, 0x80])]
#[case(0x7fff, &[0x02, 0x02, 0x7f, 0xff])]
#[case(0x8000, &[0x02, 0x03, 0x00, 0x80, 0x00])]
fn version_numbers_are_unsigned(#[case] pcesvn: u16, #[case] integer: &[u8]) {
    let tcb = PckTcb { pcesvn, ..platform().tcb };
    let extension = PlatformIdentity { tcb, ..platform() }.sgx_extension().unwrap();
    let entry = [&oid::PCESVN.to_der().unwrap()[..], integer].concat();
    assert!(extension.windows(entry.len()).any(|window| window == entry));
}
