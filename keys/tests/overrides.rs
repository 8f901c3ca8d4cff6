//! Every field of every certificate can be changed, and shows in what is issued.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

mod common;

use std::sync::Arc;

use common::{chip, tcb};
use der::asn1::{ObjectIdentifier, OctetString, UtcTime};
use der::{DateTime, Encode};
use rstest::rstest;
use sev::certs::snp::{Chain, Verifiable};
use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_keys::amd::{CertificateKind, EndorsementKey, Hierarchy, amd_name, oid};
use tsmsim_keys::x509_cert::certificate::Version;
use tsmsim_keys::x509_cert::ext::Extension;
use tsmsim_keys::x509_cert::time::Time;
use tsmsim_keys::{
    Certificate, CertificateDraft, CertificateSigner, RsaKey, RsaScheme, Seed, TrailerField, der, x509_cert,
};

const LINE: ProductLine = ProductLine::Milan;
const KINDS: [CertificateKind; 5] = [
    CertificateKind::Ark,
    CertificateKind::Ask,
    CertificateKind::Asvk,
    CertificateKind::Vcek,
    CertificateKind::Vlek,
];
const PRIVATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1");

type Parsed = x509_cert::Certificate;

fn issue(hierarchy: &Hierarchy, kind: CertificateKind) -> Certificate {
    let own = |key: EndorsementKey| key.certificate().clone();
    match kind {
        CertificateKind::Ark => hierarchy.ark().unwrap().clone(),
        CertificateKind::Ask => hierarchy.ask().unwrap().clone(),
        CertificateKind::Asvk => hierarchy.asvk().unwrap().clone(),
        CertificateKind::Vcek => own(hierarchy.vcek(&chip(LINE), tcb(LINE)).unwrap()),
        CertificateKind::Vlek => own(hierarchy.vlek("example", tcb(LINE)).unwrap()),
    }
}

fn edited(
    kind: CertificateKind,
    edit: impl Fn(&mut CertificateDraft) + Send + Sync + 'static,
) -> (Parsed, Parsed) {
    let usual = issue(&Hierarchy::new(&Seed::DEFAULT, LINE), kind);
    let changed = issue(&Hierarchy::builder(&Seed::DEFAULT, LINE).edit(kind, edit).build(), kind);
    assert_ne!(usual.der(), changed.der());
    (usual.parse().unwrap(), changed.parse().unwrap())
}

fn private_extension(critical: bool) -> Extension {
    Extension { extn_id: PRIVATE, critical, extn_value: OctetString::new([0x05, 0x00]).unwrap() }
}

fn ids(certificate: &Parsed) -> Vec<ObjectIdentifier> {
    let extensions = certificate.tbs_certificate().extensions();
    extensions.map_or_else(Vec::new, |list| list.iter().map(|extension| extension.extn_id).collect())
}

fn time(year: u16) -> Time {
    Time::UtcTime(UtcTime::from_date_time(DateTime::new(year, 1, 1, 0, 0, 0).unwrap()).unwrap())
}

/// Takes a hierarchy apart as the `sev` crate sees it.
fn sev_accepts(hierarchy: &Hierarchy) -> bool {
    let ders = [CertificateKind::Ark, CertificateKind::Ask, CertificateKind::Vcek]
        .map(|kind| issue(hierarchy, kind));
    let chain = Chain::from_der(ders[0].der(), ders[1].der(), ders[2].der());
    chain.is_ok_and(|chain| (&chain).verify().is_ok())
}

#[test]
fn plain_fields_of_every_kind() {
    for kind in KINDS {
        let (_, changed) = edited(kind, |draft| draft.version = 1);
        assert_eq!(changed.tbs_certificate().version(), Version::V2);
        let (_, changed) = edited(kind, |draft| draft.version = 0);
        assert_eq!(changed.tbs_certificate().version(), Version::V1);
        let (_, changed) = edited(kind, |draft| draft.serial_number = vec![0x12, 0x34]);
        assert_eq!(changed.tbs_certificate().serial_number().as_bytes(), [0x12, 0x34]);
        let name = amd_name("somebody").unwrap();
        let (usual, changed) = edited(kind, move |draft| draft.issuer = name.clone());
        assert_eq!(changed.tbs_certificate().issuer(), &amd_name("somebody").unwrap());
        assert_eq!(changed.tbs_certificate().subject(), usual.tbs_certificate().subject());
        let name = amd_name("somebody").unwrap();
        let (usual, changed) = edited(kind, move |draft| draft.subject = name.clone());
        assert_eq!(changed.tbs_certificate().subject(), &amd_name("somebody").unwrap());
        assert_eq!(changed.tbs_certificate().issuer(), usual.tbs_certificate().issuer());
    }
}

#[test]
fn validity_of_every_kind() {
    for kind in KINDS {
        let (usual, changed) = edited(kind, |draft| draft.not_after = time(2024));
        assert_eq!(changed.tbs_certificate().validity().not_after, time(2024));
        assert_eq!(
            changed.tbs_certificate().validity().not_before,
            usual.tbs_certificate().validity().not_before
        );
        let (_, changed) = edited(kind, |draft| draft.not_before = time(2040));
        assert_eq!(changed.tbs_certificate().validity().not_before, time(2040));
    }
}

#[test]
fn public_key_of_every_kind() {
    let key = Hierarchy::new(&Seed::DEFAULT, ProductLine::Genoa).ark().unwrap().public_key().clone();
    for kind in KINDS {
        let other = key.clone();
        let (_, changed) = edited(kind, move |draft| draft.public_key = other.clone());
        let info = changed.tbs_certificate().subject_public_key_info();
        assert_eq!(info.to_der().unwrap(), key.to_der().unwrap());
    }
}

#[test]
fn extensions_of_every_kind() {
    for kind in KINDS {
        let (usual, changed) = edited(kind, |draft| draft.put_extension(private_extension(true)));
        assert_eq!(ids(&changed), [ids(&usual), vec![PRIVATE]].concat());
        assert!(changed.tbs_certificate().extensions().unwrap().last().unwrap().critical);

        let first = ids(&usual)[0];
        let (_, changed) = edited(kind, move |draft| draft.remove_extension(first));
        assert_eq!(ids(&changed), ids(&usual)[1..]);

        let (_, changed) = edited(kind, move |draft| {
            draft.put_extension(Extension { extn_id: first, ..private_extension(false) });
        });
        assert_eq!(ids(&changed), ids(&usual));
        assert_eq!(changed.tbs_certificate().extensions().unwrap()[0].extn_value.as_bytes(), [5, 0]);

        let (_, changed) = edited(kind, |draft| draft.extensions.clear());
        assert!(changed.tbs_certificate().extensions().is_none());

        let (_, changed) = edited(kind, |draft| draft.extensions.push(draft.extensions[0].clone()));
        assert_eq!(ids(&changed), [ids(&usual), vec![first]].concat());
    }
}

#[test]
fn algorithm_identifiers_of_every_kind() {
    for kind in KINDS {
        let pkcs1 = RsaScheme::Pkcs1v15Sha384.algorithm(TrailerField::Written).unwrap();
        let expected = pkcs1.clone();
        let (_, changed) = edited(kind, move |draft| draft.signature_algorithm = pkcs1.clone());
        assert_eq!(changed.tbs_certificate().signature(), &expected);
        assert_eq!(changed.signature_algorithm(), &expected);

        let outer = expected.clone();
        let (usual, changed) =
            edited(kind, move |draft| draft.outer_signature_algorithm = Some(outer.clone()));
        assert_eq!(changed.tbs_certificate().signature(), usual.tbs_certificate().signature());
        assert_eq!(changed.signature_algorithm(), &expected);
    }
}

/// A corrupted signature differs from the usual one in just the bits named.
#[test]
fn signature_bits_of_every_kind() {
    for kind in KINDS {
        let (usual, changed) = edited(kind, |draft| draft.flip_signature_bits = vec![0, 4095, 4096]);
        assert_eq!(usual.tbs_certificate(), changed.tbs_certificate());
        let [usual, changed] = [&usual, &changed].map(|certificate| certificate.signature().raw_bytes());
        let difference: Vec<u8> = usual.iter().zip(changed).map(|(a, b)| a ^ b).collect();
        assert_eq!((difference[0], difference[511]), (0x80, 0x01));
        assert!(difference[1..511].iter().all(|byte| *byte == 0));
    }
}

/// Serial numbers may be what RFC 5280 forbids: too long, negative, padded.
#[rstest]
#[case(&[0x80], &[0x02, 0x01, 0x80])]
#[case(&[0x00, 0x01], &[0x02, 0x02, 0x00, 0x01])]
#[case(&[0x55; 40], &[&[0x02, 40], [0x55; 40].as_slice()].concat())]
#[case(&[], &[0x02, 0x00])]
fn serial_numbers_are_raw(#[case] serial: &'static [u8], #[case] encoded: &[u8]) {
    let builder = Hierarchy::builder(&Seed::DEFAULT, LINE);
    let hierarchy =
        builder.edit(CertificateKind::Ask, move |ask| ask.serial_number = serial.to_vec()).build();
    let der = hierarchy.ask().unwrap().der().to_vec();
    // Outer header and that of tbsCertificate, four bytes each; version, five.
    assert_eq!(der[13..][..encoded.len()], *encoded);
}

/// A rogue key signs the ASK, in the name of the genuine ARK, with everything else in order.
#[rstest]
#[case(RsaScheme::PssSha384)]
#[case(RsaScheme::Pkcs1v15Sha384)]
fn signing_key_can_be_another(#[case] scheme: RsaScheme) {
    let rogue = Hierarchy::new(&Seed::DEFAULT, ProductLine::Genoa);
    let signer: Arc<dyn CertificateSigner> = rogue.key(CertificateKind::Ark).unwrap().signer(scheme).unwrap();
    let algorithm = signer.algorithm().clone();
    let builder = Hierarchy::builder(&Seed::DEFAULT, LINE);
    let hierarchy = builder.edit(CertificateKind::Ask, move |ask| ask.sign_with(signer.clone())).build();
    assert_eq!(hierarchy.ask().unwrap().parse().unwrap().signature_algorithm(), &algorithm);
    assert!(sev_accepts(&Hierarchy::new(&Seed::DEFAULT, LINE)));
    assert!(!sev_accepts(&hierarchy));
}

/// A change above is followed below, so that only what was changed is wrong.
#[test]
fn issued_certificates_follow_their_issuer() {
    let name = amd_name("SEV-Nowhere").unwrap();
    let subject = name.clone();
    let builder = Hierarchy::builder(&Seed::DEFAULT, LINE);
    let hierarchy = builder.edit(CertificateKind::Ask, move |ask| ask.subject = subject.clone()).build();
    assert_eq!(issue(&hierarchy, CertificateKind::Vcek).parse().unwrap().tbs_certificate().issuer(), &name);
    assert!(sev_accepts(&hierarchy));
    let usual = Hierarchy::new(&Seed::DEFAULT, LINE);
    assert_eq!(hierarchy.ark().unwrap(), usual.ark().unwrap());
    assert_eq!(hierarchy.asvk().unwrap(), usual.asvk().unwrap());
    assert_ne!(hierarchy.ask().unwrap(), usual.ask().unwrap());
}

#[test]
fn a_changed_root_is_followed_by_all() {
    let name = amd_name("ARK-Nowhere").unwrap();
    let builder = Hierarchy::builder(&Seed::DEFAULT, LINE);
    let renamed = name.clone();
    let hierarchy = builder
        .edit(CertificateKind::Ark, move |ark| (ark.subject, ark.issuer) = (renamed.clone(), renamed.clone()))
        .build();
    assert_eq!(issue(&hierarchy, CertificateKind::Ask).parse().unwrap().tbs_certificate().issuer(), &name);
    assert_eq!(issue(&hierarchy, CertificateKind::Asvk).parse().unwrap().tbs_certificate().issuer(), &name);
    assert!(sev_accepts(&hierarchy));
}

#[test]
fn edits_are_applied_in_order() {
    let hierarchy = Hierarchy::builder(&Seed::DEFAULT, LINE)
        .edit(CertificateKind::Vcek, |vcek| vcek.remove_extension(oid::HWID))
        .edit(CertificateKind::Vcek, |vcek| vcek.put_extension(private_extension(false)))
        .edit(CertificateKind::Vlek, |vlek| vlek.remove_extension(oid::CSP_ID))
        .build();
    let vcek = issue(&hierarchy, CertificateKind::Vcek).parse().unwrap();
    assert!(!ids(&vcek).contains(&oid::HWID) && ids(&vcek).ends_with(&[PRIVATE]));
    let vlek = issue(&hierarchy, CertificateKind::Vlek).parse().unwrap();
    assert!(!ids(&vlek).contains(&oid::CSP_ID) && !ids(&vlek).contains(&PRIVATE));
}

/// A key of one's own, outside any hierarchy.
#[test]
fn a_fresh_key_can_sign() {
    let key = RsaKey::generate(&Seed::DEFAULT, &[b"test", b"rogue"]).unwrap();
    let signer = key.signer(RsaScheme::PssSha256).unwrap();
    let builder = Hierarchy::builder(&Seed::DEFAULT, LINE);
    let public = key.public_key().unwrap();
    let hierarchy = builder
        .edit(CertificateKind::Ark, move |ark| {
            ark.public_key = public.clone();
            ark.sign_with(signer.clone());
        })
        .build();
    let ark = hierarchy.ark().unwrap();
    assert_eq!(ark.public_key(), &key.public_key().unwrap());
    let algorithm = RsaScheme::PssSha256.algorithm(TrailerField::Written).unwrap();
    assert_eq!(ark.parse().unwrap().signature_algorithm(), &algorithm);
}

#[test]
fn revocation_lists_are_open_too() {
    let name = amd_name("somebody").unwrap();
    let hierarchy = Hierarchy::builder(&Seed::DEFAULT, LINE)
        .edit_crl(move |crl| {
            crl.revoke(&[0x2a]);
            crl.issuer = name.clone();
            crl.this_update = time(2030);
            crl.next_update = None;
            crl.extensions.push(private_extension(true));
            crl.version = 0;
        })
        .build();
    let crl = hierarchy.crl().unwrap();
    // x509-cert reads no list without the version field, so the bytes are looked at.
    let bytes = crl.der();
    assert_eq!(bytes[8], 0x30, "the algorithm identifier comes first");
    for needle in [b"somebody".as_slice(), b"300101000000Z", &PRIVATE.to_der().unwrap(), &[0x02, 0x01, 0x2a]]
    {
        assert!(bytes.windows(needle.len()).any(|window| window == needle));
    }
    assert!(!bytes.windows(13).any(|window| window == b"471231235959Z"));
}
