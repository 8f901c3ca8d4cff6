//! One rule of the certificates broken at a time.

use rstest::rstest;
use tsmsim_keys::{
    CertificateDraft,
    cove::{CertificateKind as Kind, KeyAlgorithm},
    der::{
        DateTime,
        asn1::{BitString, ObjectIdentifier, OctetString},
    },
};
use x509_cert::{ext::Extension, time::Time};

use crate::{
    fails, judge,
    maker::{Made, NOW},
};
use tsmsim_evidence::{
    Timestamp,
    cove::{Policy, verify},
};

type Edit = fn(&mut CertificateDraft);

fn object(kind: Kind) -> &'static str {
    match kind {
        Kind::Root => "root CA",
        Kind::Rot => "RoT",
        Kind::Platform => "platform certificate",
        Kind::Tsm => "TSM certificate",
        Kind::Tvm => "certificate",
    }
}

fn find(draft: &mut CertificateDraft, oid: &str) -> usize {
    let oid = ObjectIdentifier::new(oid).unwrap();
    draft.extensions.iter().position(|extension| extension.extn_id == oid).unwrap()
}

fn drop_extension(draft: &mut CertificateDraft, oid: &str) {
    let index = find(draft, oid);
    draft.extensions.remove(index);
}

fn turn_critical(draft: &mut CertificateDraft, oid: &str) {
    let index = find(draft, oid);
    draft.extensions[index].critical ^= true;
}

fn change_value(draft: &mut CertificateDraft, oid: &str) {
    let index = find(draft, oid);
    let mut value = draft.extensions[index].extn_value.as_bytes().to_vec();
    *value.last_mut().unwrap() ^= 1;
    draft.extensions[index].extn_value = OctetString::new(value).unwrap();
}

const AUTHORITY: &str = "2.5.29.35";
const SUBJECT: &str = "2.5.29.14";
const USAGE: &str = "2.5.29.15";
const CONSTRAINTS: &str = "2.5.29.19";

#[rstest]
#[case::version(|it: &mut CertificateDraft| it.version = 1, "version")]
#[case::inner_and_outer_algorithm(|it: &mut CertificateDraft| {
    let mut other = it.signature_algorithm.clone();
    other.oid = ObjectIdentifier::new("1.2.840.10045.4.3.3").unwrap();
    it.outer_signature_algorithm = Some(other);
}, "signatureAlgorithm")]
#[case::algorithm(|it: &mut CertificateDraft| it.signature_algorithm.oid = ObjectIdentifier::new("1.2.840.10045.4.3.3").unwrap(), "signatureAlgorithm")]
#[case::no_authority(|it: &mut CertificateDraft| drop_extension(it, AUTHORITY), "authorityKeyIdentifier")]
#[case::no_subject(|it: &mut CertificateDraft| drop_extension(it, SUBJECT), "subjectKeyIdentifier")]
#[case::no_usage(|it: &mut CertificateDraft| drop_extension(it, USAGE), "keyUsage")]
#[case::no_constraints(|it: &mut CertificateDraft| drop_extension(it, CONSTRAINTS), "basicConstraints")]
#[case::critical_authority(|it: &mut CertificateDraft| turn_critical(it, AUTHORITY), "authorityKeyIdentifier")]
#[case::critical_subject(|it: &mut CertificateDraft| turn_critical(it, SUBJECT), "subjectKeyIdentifier")]
#[case::uncritical_usage(|it: &mut CertificateDraft| turn_critical(it, USAGE), "keyUsage")]
#[case::uncritical_constraints(|it: &mut CertificateDraft| turn_critical(it, CONSTRAINTS), "basicConstraints")]
#[case::other_authority(|it: &mut CertificateDraft| change_value(it, AUTHORITY), "authorityKeyIdentifier")]
#[case::other_constraints(|it: &mut CertificateDraft| change_value(it, CONSTRAINTS), "basicConstraints")]
#[case::another_extension(|it: &mut CertificateDraft| it.extensions.push(Extension {
    extn_id: ObjectIdentifier::new("1.2.3.4").unwrap(),
    critical: false,
    extn_value: OctetString::new([5, 0]).unwrap(),
}), "extensions")]
#[case::issuer(|it: &mut CertificateDraft| it.issuer = "CN=other".parse().unwrap(), "issuer")]
#[case::begins_later(|it: &mut CertificateDraft| it.not_before = it.not_after, "validity")]
#[case::ended(|it: &mut CertificateDraft| it.not_after = it.not_before, "validity")]
#[case::signature(|it: &mut CertificateDraft| it.flip_signature_bits.push(300), "signature")]
fn certificates_are_refused(
    #[values(Kind::Root, Kind::Rot, Kind::Platform, Kind::Tsm, Kind::Tvm)] kind: Kind,
    #[case] edit: Edit,
    #[case] field: &str,
) {
    let made = Made::edited(KeyAlgorithm::P256, kind, edit);
    fails(&judge(&made.bundle), object(kind), field);
    if kind != Kind::Tvm {
        let made = Made::edited(KeyAlgorithm::Ed25519, kind, edit);
        fails(&judge(&made.bundle), object(kind), field);
    }
}

#[rstest]
#[case::serial_number(|it: &mut CertificateDraft| it.serial_number[19] ^= 1, "serialNumber")]
#[case::subject(|it: &mut CertificateDraft| it.subject = "CN=other".parse().unwrap(), "subject")]
#[case::other_identifier(|it: &mut CertificateDraft| change_value(it, SUBJECT), "subjectKeyIdentifier")]
fn names_of_layers_are_their_identifiers(
    #[values(Kind::Rot, Kind::Platform, Kind::Tsm)] kind: Kind,
    #[values(KeyAlgorithm::Ed25519, KeyAlgorithm::P256)] algorithm: KeyAlgorithm,
    #[case] edit: Edit,
    #[case] field: &str,
) {
    let made = Made::edited(algorithm, kind, edit);
    fails(&judge(&made.bundle), object(kind), field);
}

fn has_an_end(draft: &mut CertificateDraft) {
    let end: DateTime = "2040-01-01T00:00:00Z".parse().unwrap();
    draft.not_after = Time::UtcTime(end.try_into().unwrap());
}

#[rstest]
#[case::serial_number(|it: &mut CertificateDraft| it.serial_number[19] ^= 1, "serialNumber")]
#[case::subject(|it: &mut CertificateDraft| it.subject = it.issuer.clone(), "subject")]
#[case::has_an_end(has_an_end, "validity")]
#[case::uncritical(|it: &mut CertificateDraft| turn_critical(it, "2.23.133.5.4.6"), "UccsEvidence")]
#[case::other_key(|it: &mut CertificateDraft| {
    let mut key = it.public_key.subject_public_key.raw_bytes().to_vec();
    key[64] ^= 1;
    it.public_key.subject_public_key = BitString::from_bytes(&key).unwrap();
}, "key = TVM token's")]
fn the_leaf_is_refused(#[case] edit: Edit, #[case] field: &str) {
    let made = Made::edited(KeyAlgorithm::P256, Kind::Tvm, edit);
    fails(&judge(&made.bundle), "certificate", field);
}

#[test]
fn a_leaf_without_evidence_is_refused() {
    let made = Made::edited(KeyAlgorithm::P256, Kind::Tvm, |it| drop_extension(it, "2.23.133.5.4.6"));
    fails(&judge(&made.bundle), "certificate", "UccsEvidence");
}

#[rstest]
#[case::issuer(|it: &mut tsmsim_keys::CrlDraft| it.issuer = "CN=other".parse().unwrap(), "issuer")]
#[case::no_extensions(|it: &mut tsmsim_keys::CrlDraft| it.extensions.clear(), "crlExtensions")]
#[case::signature(|it: &mut tsmsim_keys::CrlDraft| it.flip_signature_bits.push(300), "signature")]
fn lists_are_refused(#[case] edit: fn(&mut tsmsim_keys::CrlDraft), #[case] field: &str) {
    let made = Made::built(KeyAlgorithm::P256, |builder| builder.edit_crl(edit));
    fails(&judge(&made.bundle), "CRL", field);
}

#[test]
fn the_time_of_judging_counts() {
    let made = Made::x509();
    let at = |seconds| verify(&made.bundle, &Policy::at(Timestamp(seconds)));
    assert!(at(NOW.0).accepted());
    fails(&at(1_600_000_000), "RoT", "validity");
    fails(&at(1_600_000_000), "CRL", "thisUpdate");
    fails(&at(4_000_000_000), "root CA", "validity");
    fails(&at(4_000_000_000), "CRL", "nextUpdate");
}
