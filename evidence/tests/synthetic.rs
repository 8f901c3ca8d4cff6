//! Evidence of every line, version and kind of key under a synthetic root, and everything that may be wrong with it.

mod common;

use common::{
    der::{SHA384, name, pss, small, tlv, utc_time},
    maker::{CrlDraft, Draft, Maker, Scheme, pss_sha256, table},
    then,
};
use rstest::rstest;
use tsmsim_abi::snp::{
    cert_table::CertGuid,
    report::AttestationReport,
    tcb::{ProductLine, TcbVersion},
};
use tsmsim_evidence::{
    Outcome, Root,
    snp::{self, Bundle, CertificateKind, Policy, TrustedRoot},
};

use CertificateKind::{Ark, Ask, Asvk, Vcek, Vlek};
use ProductLine::{Genoa, Milan, Turin};

fn usual() -> Maker {
    Maker::new(Genoa, Vcek, 3)
}

fn reason(bundle: &Bundle, policy: &Policy) -> String {
    snp::verify(bundle, policy).reason().unwrap_or_else(|| "accepted".to_owned())
}

#[rstest]
fn every_line_version_and_key_is_accepted_as_synthetic(
    #[values(Milan, Genoa, Turin)] line: ProductLine,
    #[values(Vcek, Vlek)] leaf: CertificateKind,
    #[values(2, 3, 5)] version: u32,
) {
    let bundle = Maker::new(line, leaf, version).make();
    let policy = Policy { require_crl: true, ..Policy::at(then()) };
    let verdict = snp::verify(&bundle, &policy);
    assert_eq!(verdict.reason(), None);
    assert_eq!(verdict.root, Root::Synthetic);
    let given = TrustedRoot::Given(bundle.ark.clone().unwrap());
    let verdict =
        snp::verify(&Bundle { ark: None, ..bundle.clone() }, &Policy { trust: given, ..policy.clone() });
    assert!(verdict.accepted() && verdict.root_given);
    assert_eq!(verdict.root, Root::Synthetic);
    assert!(verdict.summary().contains("synthetic"));
    let vendor = Policy { trust: TrustedRoot::Vendor, ..policy };
    assert!(reason(&bundle, &vendor).starts_with("ARK: root: a synthetic root"));
}

/// The hierarchy that this repository publishes, made by other code than this test's.
#[rstest]
fn the_published_hierarchy_is_accepted_as_synthetic(
    #[values("milan", "genoa", "turin")] line: &str,
    #[values(("ask", "VCEK"), ("asvk", "VLEK"))] (signer, leaf): (&str, &str),
) {
    let read = |name: &str| {
        std::fs::read(common::repository().join(format!("keys/default/{line}/{name}.der"))).unwrap()
    };
    let bundle = Bundle {
        ark: Some(read("ark")),
        ask: Some(read(signer)),
        crl: Some(read("crl")),
        ..Bundle::default()
    };
    let verdict = snp::verify_chain(&bundle, &Policy { require_crl: true, ..Policy::at(then()) });
    let failed: Vec<String> = verdict
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Failed)
        .map(|check| format!("{}: {}", check.object, check.detail))
        .collect();
    assert_eq!(failed, [format!("{leaf}: none given")]);
    assert_eq!(verdict.root, Root::Synthetic);
}

#[test]
fn a_root_without_the_marker_must_be_given() {
    let bundle = usual().edit(Ark, |draft| draft.serial = vec![1]).make();
    let verdict = snp::verify(&bundle, &Policy::at(then()));
    assert!(verdict.reason().unwrap().starts_with("ARK: root: neither AMD's nor marked as synthetic"));
    assert_eq!(verdict.root, Root::Unknown);
    let policy = Policy { trust: TrustedRoot::Given(bundle.ark.clone().unwrap()), ..Policy::at(then()) };
    let verdict = snp::verify(&bundle, &policy);
    assert_eq!((verdict.reason(), verdict.root), (None, Root::Given));
}

const HWID: &str = "1.3.6.1.4.1.3704.1.4";
const SNP_SPL: &str = "1.3.6.1.4.1.3704.1.3.3";
const PRODUCT: &str = "1.3.6.1.4.1.3704.1.2";

#[rstest]
#[case::version(Vcek, |draft: &mut Draft| { draft.version = 1; draft.extensions.clear() }, "VCEK: version: 1, where 3")]
#[case::negative_serial(Ask, |draft: &mut Draft| draft.serial = vec![0x80], "ASK: serialNumber: negative")]
#[case::long_serial(Ask, |draft: &mut Draft| draft.serial = vec![1; 21], "ASK: serialNumber: longer than 20")]
#[case::sha256(Ask, |draft: &mut Draft| { draft.algorithm = pss_sha256(); draft.scheme = Scheme::PssSha256 }, "ASK: signatureAlgorithm: not RSASSA-PSS with SHA-384")]
#[case::sha256_unsaid(Ask, |draft: &mut Draft| draft.scheme = Scheme::PssSha256, "ASK: signature: does not verify")]
#[case::salt(Vcek, |draft: &mut Draft| draft.algorithm = pss(SHA384, 32), "VCEK: signatureAlgorithm: not RSASSA-PSS")]
#[case::outer_algorithm(Vcek, |draft: &mut Draft| draft.outer_algorithm = Some(pss_sha256()), "VCEK: signatureAlgorithm: the identifier outside")]
#[case::issuer(Ask, |draft: &mut Draft| draft.issuer = name("ARK-Milan"), "ASK: issuer: not the subject of the ARK")]
#[case::own_issuer(Ark, |draft: &mut Draft| draft.issuer = name("ARK-Milan"), "ARK: issuer: not the subject of the ARK")]
#[case::subject(Vcek, |draft: &mut Draft| draft.subject = name("SEV-VLEK"), "VCEK: subject: CN=SEV-VCEK is expected")]
#[case::ask_subject(Ask, |draft: &mut Draft| draft.subject = name("SEV-Milan"), "ASK: subject: CN=SEV-Genoa is expected")]
#[case::ark_subject(Ark, |draft: &mut Draft| draft.subject = name("ARK-Rome"), "ARK: issuer: not the subject of the ARK")]
#[case::expired(Ask, |draft: &mut Draft| draft.not_after = utc_time("240101000000Z"), "ASK: validity: expired at 2024-01-01T00:00:00Z")]
#[case::early(Vcek, |draft: &mut Draft| draft.not_before = utc_time("260101000000Z"), "VCEK: validity: not valid before 2026-01-01T00:00:00Z")]
#[case::leaf_key(Vcek, |draft: &mut Draft| draft.key = common::genuine("ask.der")[372..922].to_vec(), "VCEK: subjectPublicKeyInfo: rsaEncryption, where a key on P-384")]
#[case::ask_key(Ask, |draft: &mut Draft| draft.key = common::genuine("milan-vcek.der")[369..489].to_vec(), "ASK: subjectPublicKeyInfo: id-ecPublicKey")]
#[case::no_ca(Ask, |draft: &mut Draft| draft.remove("2.5.29.19"), "ASK: basicConstraints: missing")]
#[case::path(Ask, |draft: &mut Draft| draft.extension("2.5.29.19").value = vec![0x30, 3, 1, 1, 0xff], "ASK: basicConstraints: not what")]
#[case::not_critical(Ask, |draft: &mut Draft| draft.extension("2.5.29.15").critical = false, "ASK: keyUsage: not marked as critical")]
#[case::usage(Ask, |draft: &mut Draft| draft.extension("2.5.29.15").value = vec![3, 2, 1, 6], "ASK: keyUsage: not what")]
#[case::points(Ask, |draft: &mut Draft| draft.remove("2.5.29.31"), "ASK: cRLDistributionPoints: missing")]
#[case::authority(Ask, |draft: &mut Draft| draft.extension("2.5.29.35").value[5] ^= 1, "ASK: authorityKeyIdentifier: not what")]
#[case::subject_key(Ark, |draft: &mut Draft| draft.extension("2.5.29.14").value = vec![4, 1, 1], "ARK: subjectKeyIdentifier: not an octet string")]
#[case::other(Ask, |draft: &mut Draft| draft.add("1.2.3.4", vec![5, 0]), "ASK: extensions: 1.2.3.4 does not belong")]
#[case::leaf_constraints(Vcek, |draft: &mut Draft| draft.add("2.5.29.19", vec![0x30, 0]), "VCEK: extensions: 2.5.29.19 does not belong")]
#[case::leaf_authority(Vcek, |draft: &mut Draft| draft.add("2.5.29.35", vec![0x30, 0]), "VCEK: authorityKeyIdentifier: does not name")]
#[case::twice(Vcek, |draft: &mut Draft| draft.add(HWID, vec![0; 64]), "VCEK: tbsCertificate.extensions: 1.3.6.1.4.1.3704.1.4 stands twice")]
#[case::critical(Vcek, |draft: &mut Draft| draft.extension(HWID).critical = true, "VCEK: hwID: marked as critical")]
#[case::no_hwid(Vcek, |draft: &mut Draft| draft.remove(HWID), "VCEK: hwID: missing")]
#[case::short_hwid(Vcek, |draft: &mut Draft| draft.extension(HWID).value = vec![0xc5; 8], "VCEK: hwID: 8 bytes, where 64")]
#[case::other_hwid(Vcek, |draft: &mut Draft| draft.extension(HWID).value[9] ^= 1, "report: chip_id: differs from the VCEK's hwID at byte 9")]
#[case::csp_id(Vcek, |draft: &mut Draft| draft.add("1.3.6.1.4.1.3704.1.5", tlv(0x16, b"a")), "VCEK: extensions: 1.3.6.1.4.1.3704.1.5 does not belong into a VCEK")]
#[case::no_level(Vcek, |draft: &mut Draft| draft.remove(SNP_SPL), "VCEK: snpSPL: missing")]
#[case::level(Vcek, |draft: &mut Draft| draft.extension(SNP_SPL).value = small(21), "report: reported_tcb = certificate: in the VCEK and here: SNP 21 and 22")]
#[case::long_level(Vcek, |draft: &mut Draft| draft.extension(SNP_SPL).value = vec![2, 2, 0, 22], "VCEK: snpSPL: not an INTEGER")]
#[case::reserved_level(Vcek, |draft: &mut Draft| draft.extension("1.3.6.1.4.1.3704.1.3.5").value = small(1), "VCEK: spl5: 1, but the level is reserved")]
#[case::fmc(Vcek, |draft: &mut Draft| draft.add("1.3.6.1.4.1.3704.1.3.9", small(1)), "VCEK: extensions: 1.3.6.1.4.1.3704.1.3.9 does not belong")]
#[case::product(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Milan-B0"), "VCEK: productName: `Milan-B0`, but the chain is of another line")]
#[case::no_product(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Rome-B0"), "VCEK: productName: `Rome-B0` is no known product")]
#[case::stepping(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Genoa-b\x1b"), "VCEK: productName: `Genoa-b\\u{1b}` has no known stepping")]
#[case::product_type(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x0c, b"Genoa-B0"), "VCEK: productName: not an IA5String")]
fn a_certificate_with_something_wrong_is_refused_by_name(
    #[case] kind: CertificateKind,
    #[case] edit: fn(&mut Draft),
    #[case] expected: &str,
) {
    let found = reason(&usual().edit(kind, edit).make(), &Policy::at(then()));
    assert!(found.starts_with(expected), "{found}");
}

#[rstest]
#[case::in_an_octet_string(Vcek, |draft: &mut Draft| { let extension = draft.extension(HWID); extension.value = tlv(4, &extension.value) })]
#[case::siena(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Siena-B0"))]
#[case::no_stepping(Vcek, |draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Genoa"))]
#[case::zero_serial(Ask, |draft: &mut Draft| draft.serial = vec![0])]
fn other_forms_of_certificates_are_accepted(#[case] kind: CertificateKind, #[case] edit: fn(&mut Draft)) {
    assert_eq!(reason(&usual().edit(kind, edit).make(), &Policy::at(then())), "accepted");
}

#[rstest]
#[case(|draft: &mut Draft| draft.remove("1.3.6.1.4.1.3704.1.5"), "VLEK: cspID: missing")]
#[case(|draft: &mut Draft| draft.extension("1.3.6.1.4.1.3704.1.5").value = tlv(0x16, b""), "VLEK: cspID: empty")]
#[case(|draft: &mut Draft| draft.add(HWID, vec![0; 64]), "VLEK: extensions: 1.3.6.1.4.1.3704.1.4 does not belong into a VLEK")]
#[case(|draft: &mut Draft| draft.extension(PRODUCT).value = tlv(0x16, b"Genoa-B0"), "VLEK: productName: `Genoa-B0` has a stepping")]
fn a_vlek_with_something_wrong_is_refused_by_name(#[case] edit: fn(&mut Draft), #[case] expected: &str) {
    let found = reason(&Maker::new(Genoa, Vlek, 3).edit(Vlek, edit).make(), &Policy::at(then()));
    assert!(found.starts_with(expected), "{found}");
}

#[rstest]
#[case::version(|report: &mut AttestationReport| report.version = 4.into(), "report: version: 4, where 2, 3 or 5")]
#[case::algorithm(|report: &mut AttestationReport| report.signature_algo = 2.into(), "report: signature_algo: 0x2, where")]
#[case::reserved(|report: &mut AttestationReport| report.reserved_0x208[3] = 1, "report: reserved 1f8h..2a0h: byte 0x20b is not zero")]
#[case::vector(|report: &mut AttestationReport| report.current_mit_vector = 1.into(), "report: reserved 1f8h..2a0h: byte 0x200 is not zero")]
#[case::tail(|report: &mut AttestationReport| report.signature.reserved_0x90[367] = 1, "report: reserved 330h..4a0h: byte 0x49f is not zero")]
#[case::policy_one(|report: &mut AttestationReport| report.policy = 0x1_0000.into(), "report: policy, reserved bits: bit 17 must be one")]
#[case::policy_zero(|report: &mut AttestationReport| report.policy = 0x0403_0000.into(), "report: policy, reserved bits: bits 26 to 63")]
#[case::platform(|report: &mut AttestationReport| report.platform_info = 0x41.into(), "report: platform_info, reserved bits: bit 6")]
#[case::key_info(|report: &mut AttestationReport| report.key_info = 0x20.into(), "report: key_info, reserved bits: bits 5 to 31")]
#[case::masked_key(|report: &mut AttestationReport| report.key_info = 2.into(), "report: key_info.mask_chip_key: set")]
#[case::vlek(|report: &mut AttestationReport| report.key_info = 4.into(), "report: key_info.signing_key: VLEK, but the certificate given is a VCEK")]
#[case::no_key(|report: &mut AttestationReport| report.key_info = 0x1c.into(), "report: key_info.signing_key: none")]
#[case::line(|report: &mut AttestationReport| report.cpuid_mod_id = 1, "report: cpuid_fam_id, cpuid_mod_id: family 0x19, model 0x1 is Milan, but the certificates are for Genoa")]
#[case::no_line(|report: &mut AttestationReport| report.cpuid_fam_id = 0x17, "report: cpuid_fam_id, cpuid_mod_id: family 0x17")]
#[case::chip(|report: &mut AttestationReport| report.chip_id[63] ^= 1, "report: chip_id: differs from the VCEK's hwID at byte 63")]
#[case::masked_chip(|report: &mut AttestationReport| report.chip_id = [0; 64], "report: chip_id: masked")]
#[case::tcb_bytes(|report: &mut AttestationReport| report.launch_tcb = TcbVersion::new(0x10000), "report: launch_tcb: 0x0000000000010000 has reserved bytes")]
#[case::committed(|report: &mut AttestationReport| report.committed_tcb = TcbVersion::new(report.committed_tcb.get() - 1), "report: reported_tcb <= committed_tcb: not for: boot loader")]
#[case::current(|report: &mut AttestationReport| report.current_tcb = TcbVersion::new(report.current_tcb.get() - 1), "report: committed_tcb <= current_tcb: not for: boot loader")]
#[case::launch(|report: &mut AttestationReport| report.launch_tcb = TcbVersion::new(report.launch_tcb.get() + 1), "report: launch_tcb <= current_tcb: not for: boot loader")]
#[case::firmware(|report: &mut AttestationReport| report.committed_version.build = 4, "report: committed_version <= current_version: not so: 1.58.4 <= 1.58.3")]
#[case::abi(|report: &mut AttestationReport| report.policy = 0x3_013b.into(), "report: policy.abi <= current_version: 1.59 demanded, 1.58.3 runs")]
#[case::debug(|report: &mut AttestationReport| report.policy = 0xb_0000.into(), "report: policy.debug: the host may read")]
#[case::migration(|report: &mut AttestationReport| report.policy = 0x7_0000.into(), "report: policy.migrate_ma: a migration agent may")]
#[case::agent(|report: &mut AttestationReport| report.report_id_ma = [1; 32], "report: report_id_ma: a migration agent, although")]
#[case::smt(|report: &mut AttestationReport| report.policy = 0x2_0000.into(), "report: platform_info: policy.smt is 0, but SMT is enabled")]
#[case::author(|report: &mut AttestationReport| report.author_key_digest = [1; 48], "report: author_key_digest: a digest, although")]
#[case::no_author(|report: &mut AttestationReport| report.key_info = 1.into(), "report: author_key_digest: zero, although")]
#[case::vmpl(|report: &mut AttestationReport| report.vmpl = 4.into(), "report: vmpl: 4 is no privilege level")]
fn a_report_with_something_wrong_is_refused_by_name(
    #[case] edit: fn(&mut AttestationReport),
    #[case] expected: &str,
) {
    let found = reason(&usual().edit_report(edit).make(), &Policy::at(then()));
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn a_policy_may_take_what_is_refused_by_default() {
    let masked = usual().edit_report(|report| report.chip_id = [0; 64]).make();
    let policy = Policy { allow_masked_chip_id: true, ..Policy::at(then()) };
    assert_eq!(reason(&masked, &policy), "accepted");
    let agent = usual().edit_report(|report| {
        report.policy = 0x7_0000.into();
        report.report_id_ma = [1; 32];
        report.launch_tcb = TcbVersion::new(report.launch_tcb.get() + 1);
    });
    let policy = Policy { allow_migration: true, ..Policy::at(then()) };
    assert_eq!(reason(&agent.make(), &policy), "accepted");
}

#[test]
fn a_turin_chip_identifier_ends_after_eight_bytes() {
    let bundle = Maker::new(Turin, Vcek, 5).edit_report(|report| report.chip_id[8] = 1).make();
    assert!(reason(&bundle, &Policy::at(then())).starts_with("report: chip_id: more than the 8 bytes"));
}

#[rstest]
#[case::revoked_ask(|draft: &mut CrlDraft| draft.revoked = vec![vec![9], b"tsmsim\x01".to_vec()], "ARK: revocation: serial number 74736d73696d01 was revoked at 2024-01-01T00:00:00Z")]
#[case::revoked_vcek(|draft: &mut CrlDraft| draft.revoked = vec![vec![0]], "VCEK: revocation: serial number 00 was revoked")]
#[case::stale(|draft: &mut CrlDraft| draft.next_update = utc_time("240101000000Z"), "CRL: nextUpdate: out of date since 2024-01-01T00:00:00Z")]
#[case::no_next(|draft: &mut CrlDraft| draft.next_update = vec![], "CRL: nextUpdate: missing")]
#[case::early(|draft: &mut CrlDraft| draft.this_update = utc_time("260101000000Z"), "CRL: thisUpdate: 2026-01-01T00:00:00Z, after")]
#[case::issuer(|draft: &mut CrlDraft| draft.issuer = name("ARK-Milan"), "CRL: issuer: not the subject of the ARK")]
#[case::algorithm(|draft: &mut CrlDraft| draft.algorithm = pss_sha256(), "CRL: signatureAlgorithm: not RSASSA-PSS")]
#[case::version(|draft: &mut CrlDraft| { draft.version = vec![]; draft.extensions.clear() }, "CRL: version: 1, where 2")]
#[case::authority(|draft: &mut CrlDraft| draft.extensions[0].value[5] ^= 1, "CRL: crlExtensions: authorityKeyIdentifier does not name")]
#[case::critical(|draft: &mut CrlDraft| { draft.extensions[1].oid = "1.2.3".to_owned(); draft.extensions[1].critical = true }, "CRL: crlExtensions: 1.2.3 is critical")]
fn a_list_with_something_in_it_is_refused_by_name(#[case] edit: fn(&mut CrlDraft), #[case] expected: &str) {
    let found = reason(&usual().edit_crl(edit).make(), &Policy::at(then()));
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn a_list_of_another_ark_is_refused() {
    let foreign = Maker::new(Milan, Vcek, 3).make().crl;
    let found = reason(&Bundle { crl: foreign, ..usual().make() }, &Policy::at(then()));
    assert!(found.starts_with("CRL: issuer: "), "{found}");
}

#[test]
fn revocation_of_the_signer_alone_names_it() {
    let maker = usual()
        .edit(Ask, |draft| draft.serial = vec![0x11])
        .edit_crl(|draft| draft.revoked = vec![vec![0x11]]);
    let found = reason(&maker.make(), &Policy::at(then()));
    assert!(found.starts_with("ASK: revocation: serial number 11 was revoked"), "{found}");
    let asvk = Maker::new(Genoa, Vlek, 3).edit(Asvk, |draft| draft.serial = vec![0x12]);
    let found = reason(&asvk.edit_crl(|draft| draft.revoked = vec![vec![0x12]]).make(), &Policy::at(then()));
    assert!(found.starts_with("ASVK: revocation: "), "{found}");
}

#[test]
fn pieces_of_different_hierarchies_do_not_fit() {
    let (milan, genoa) = (Maker::new(Milan, Vcek, 3).make(), usual().make());
    let swapped = Bundle { ark: milan.ark.clone(), crl: None, ..genoa.clone() };
    assert!(reason(&swapped, &Policy::at(then())).starts_with("ASK: issuer: "));
    let other_chip = Bundle { vcek: usual().make().vcek, ..genoa.clone() };
    assert!(
        reason(&other_chip, &Policy::at(then()))
            .starts_with("report: signature: does not verify over bytes 0..2a0h")
    );
    let vlek = Maker::new(Genoa, Vlek, 3).make();
    let both = Bundle { vlek: vlek.vlek.clone(), ..genoa.clone() };
    assert!(reason(&both, &Policy::at(then())).starts_with("VLEK: certificate: given, but"));
    let without = Bundle { vcek: None, ..genoa.clone() };
    assert_eq!(reason(&without, &Policy::at(then())), "VCEK: certificate: none given");
    let short = Bundle { report: genoa.report[1..].to_vec(), ..genoa };
    assert_eq!(reason(&short, &Policy::at(then())), "report: size: 1183 bytes, where a report has 1184");
}

#[test]
fn a_table_must_agree_and_hold_nothing_else() {
    let bundle = usual().make();
    let (ark, ask) = (bundle.ark.clone().unwrap(), bundle.ask.clone().unwrap());
    let judge =
        |table: Vec<u8>, policy: &Policy| reason(&Bundle { table: Some(table), ..bundle.clone() }, policy);
    let policy = Policy::at(then());
    assert_eq!(judge(table(&[(CertGuid::ARK, &ark), (CertGuid::ASK, &ask)], 4096), &policy), "accepted");
    let swapped = judge(table(&[(CertGuid::ARK, &ask)], 0), &policy);
    assert!(swapped.starts_with("certificate table: ARK: differs"), "{swapped}");
    let twice = judge(table(&[(CertGuid::ARK, &ark), (CertGuid::ARK, &ark)], 0), &policy);
    assert!(twice.starts_with("certificate table: layout: two entries for c0b406a4"), "{twice}");
    let unknown = table(&[(CertGuid([1; 16]), b"anything")], 0);
    assert!(judge(unknown.clone(), &policy).ends_with("unknown GUID"));
    assert_eq!(judge(unknown, &Policy { allow_unknown_table_entries: true, ..policy.clone() }), "accepted");
    let empty = judge(table(&[(CertGuid::ARK, b"")], 0), &policy);
    assert!(empty.starts_with("certificate table: layout: entry 0 is empty"), "{empty}");
    let mut overlapping = table(&[(CertGuid::ARK, &ark), (CertGuid::ASK, &ask)], 0);
    overlapping[24 + 16] -= 1;
    assert!(judge(overlapping, &policy).contains("overlap"));
}
