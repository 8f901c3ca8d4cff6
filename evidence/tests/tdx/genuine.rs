//! Genuine quotes are accepted, and refused by name where the policy demands otherwise.

use rstest::rstest;
use tsmsim_abi::tdx::{
    quote::Quote,
    report::{ReportType, TdReport, TeeType},
};
use tsmsim_evidence::{
    Root, Timestamp,
    tdx::{
        self, Appraisal, Bundle, Collateral, Policy, TcbStatus, TrustedRoot, VENDOR_ROOT_NAME,
        VENDOR_ROOT_SHA256, replay,
    },
    x509::{Certificate, pem_blocks},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{THEN, policy, sample, vector};

#[test]
fn the_genuine_quote_is_accepted_under_the_vendors_root() {
    let Appraisal { verdict, status, advisories } = tdx::appraise(&sample(), &policy());
    assert_eq!(verdict.reason(), None);
    assert_eq!(verdict.root, Root::Vendor(VENDOR_ROOT_NAME));
    assert_eq!((status, advisories), (Some(TcbStatus::UpToDate), Vec::new()));
}

#[test]
fn another_implementation_says_the_same() {
    let collateral = serde_json::from_slice(&sample().collateral.unwrap()).unwrap();
    let report = dcap_qvl::verify::verify(&sample().quote, &collateral, THEN.0).unwrap();
    assert_eq!(report.status, TcbStatus::UpToDate.name());
    let quote = sample().quote;
    let size = Quote::read(&quote).unwrap().signed.size();
    for byte in (0..size).step_by(37).chain([size + 4, size + 70, size + 200, size + 700]) {
        let mut flipped = quote.clone();
        flipped[byte] ^= 1;
        assert!(dcap_qvl::verify::verify(&flipped, &collateral, THEN.0).is_err(), "{byte}");
        assert!(!tdx::verify(&Bundle { quote: flipped, ..sample() }, &policy()).accepted(), "{byte}");
    }
}

/// Without collateral, chain and signatures can still be judged.
#[rstest]
#[case("tdx_quote", "2025-06-20", Policy::at(THEN))]
#[case("quote_v5_sample.dat", "2026-06-01", Policy::at(THEN))]
#[case("cos-113-tdx-quote.dat", "2025-06-20", Policy::at(THEN))]
#[case("tdx_prod_quote_SPR_E4.dat", "2025-06-20", Policy { allow_trailing: true, allow_sept_ve: true, ..Policy::at(THEN) })]
fn genuine_quotes_without_collateral(#[case] file: &str, #[case] at: &str, #[case] policy: Policy) {
    let bundle = Bundle { quote: vector(file), ..Bundle::default() };
    let at = at.parse().unwrap();
    let lenient = Policy { at, require_collateral: false, trust: TrustedRoot::Vendor, ..policy };
    assert_eq!(tdx::verify(&bundle, &lenient).reason(), None);
    let reason = tdx::verify(&bundle, &Policy { require_collateral: true, ..lenient }).reason().unwrap();
    assert!(reason.starts_with("collateral: JSON: none given"), "{reason}");
}

#[test]
fn bytes_behind_the_quote_are_refused() {
    let bundle = Bundle { quote: vector("tdx_prod_quote_SPR_E4.dat"), ..Bundle::default() };
    let reason = tdx::verify(&bundle, &policy()).reason().unwrap();
    assert!(reason.starts_with("quote: trailing bytes: byte 0 of the 39"), "{reason}");
}

#[test]
fn the_genuine_log_replays_to_the_registers_of_its_quote() {
    let quote = vector("cos-113-tdx-quote.dat");
    let log = vector("ccel_data.dat");
    assert_eq!(replay(&log).unwrap(), Quote::read(&quote).unwrap().signed.body.td().unwrap().rtmr);
    let bundle = Bundle { quote, event_log: Some(log.clone()), ..Bundle::default() };
    let lenient = Policy { require_collateral: false, ..policy() };
    assert_eq!(tdx::verify(&bundle, &lenient).reason(), None);

    let mut changed = log;
    changed[100] ^= 1;
    let other = Bundle { event_log: Some(changed), ..bundle };
    let reason = tdx::verify(&other, &lenient).reason().unwrap();
    assert!(reason.starts_with("event log: "), "{reason}");
}

#[test]
fn a_log_of_another_guest_is_told() {
    let bundle = Bundle { event_log: Some(vector("ccel_data.dat")), ..sample() };
    let reason = tdx::verify(&bundle, &policy()).reason().unwrap();
    assert_eq!(reason, "event log: replay = rtmr0: not what the quote has");
}

/// A TDREPORT that the genuine quote could have been made from.
fn td_report() -> TdReport {
    let bytes = sample().quote;
    let td = *Quote::read(&bytes).unwrap().signed.body.td().unwrap();
    let mut report = TdReport::new_zeroed();
    let tcb = &mut report.tee_tcb_info;
    (tcb.tee_tcb_svn, tcb.mr_seam, tcb.mr_signer_seam) = (td.tee_tcb_svn, td.mr_seam, td.mr_signer_seam);
    tcb.attributes = td.seam_attributes;
    let info = &mut report.td_info;
    (info.attributes, info.xfam, info.mr_td, info.rtmr) = (td.td_attributes, td.xfam, td.mr_td, td.rtmr);
    (info.mr_config_id, info.mr_owner, info.mr_owner_config) =
        (td.mr_config_id, td.mr_owner, td.mr_owner_config);
    let sha384 = |part: &[u8]| -> [u8; 48] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, part).as_ref().try_into().unwrap()
    };
    let (tcb, info) = (sha384(report.tee_tcb_info.as_bytes()), sha384(report.td_info.as_bytes()));
    let head = &mut report.report_mac_struct;
    head.report_type = ReportType { tee_type: TeeType::TDX.0, subtype: 0, version: 0, reserved: 0 };
    (head.tee_tcb_info_hash, head.tee_info_hash, head.report_data) = (tcb, info, td.report_data);
    report
}

#[test]
fn a_td_report_beside_the_quote_is_judged() {
    let judge = |report: &[u8]| {
        tdx::verify(&Bundle { td_report: Some(report.to_vec()), ..sample() }, &policy()).reason()
    };
    let report = td_report();
    assert_eq!(judge(report.as_bytes()), None);
    for byte in (0..0xe0).chain(0x100..0x400) {
        let mut flipped = report.as_bytes().to_vec();
        flipped[byte] ^= 0x10;
        // What the processor puts into the MAC'ed part for itself.
        let hidden = (0x10..0x20).contains(&byte);
        let reason = judge(&flipped);
        assert_eq!(reason.is_none(), hidden, "{byte:#x}");
        assert!(reason.is_none_or(|reason| reason.starts_with("TD report: ")), "{byte:#x}");
    }
    assert!(judge(&report.as_bytes()[1..]).unwrap().starts_with("TD report: size: 1023 bytes"));
}

#[rstest]
#[case::early(Policy { at: Timestamp(1_500_000_000), ..policy() }, "root CA: validity: not valid before 2018-05-21T10:45:10Z")]
#[case::late(Policy { at: "2025-08-01".parse().unwrap(), ..policy() }, "PCK CRL: nextUpdate: out of date since 2025-07-19T10:00:35Z")]
#[case::before(Policy { at: "2025-06-01".parse().unwrap(), ..policy() }, "PCK CRL: thisUpdate: 2025-06-19T10:00:35Z, after")]
#[case::status(Policy { accepted_statuses: vec![TcbStatus::OutOfDate], ..policy() }, "TCB: status: UpToDate")]
#[case::number(Policy { minimum_evaluation_data_number: 18, ..policy() }, "QE identity: tcbEvaluationDataNumber: 17, where")]
#[case::mr_td(Policy { mr_td: Some([0; 48]), ..policy() }, "quote: mr_td: differs from the expected one at byte 0")]
#[case::mr_seam(Policy { mr_seam: Some([0; 48]), ..policy() }, "quote: mr_seam: ")]
#[case::owner(Policy { mr_owner: Some([1; 48]), ..policy() }, "quote: mr_owner: ")]
#[case::rtmr(Policy { rtmr: [None, None, Some([1; 48]), None], ..policy() }, "quote: rtmr2: ")]
#[case::xfam(Policy { xfam: Some(3), ..policy() }, "quote: xfam: ")]
#[case::root(
    Policy { trust: TrustedRoot::Given(vec![0x30, 0]), ..policy() },
    "root CA: "
)]
fn what_a_policy_demands_is_refused_by_name(#[case] policy: Policy, #[case] reason: &str) {
    let found = tdx::verify(&sample(), &policy).reason().unwrap();
    assert!(found.starts_with(reason), "{found}");
}

#[test]
fn the_inblob_is_compared() {
    let quote = sample().quote;
    let data = Quote::read(&quote).unwrap().signed.body.report_data().to_vec();
    let judge = |inblob| tdx::verify(&Bundle { inblob: Some(inblob), ..sample() }, &policy()).reason();
    assert_eq!(judge(data.clone()), None);
    assert!(
        judge(vec![0xee; 64]).unwrap().starts_with("quote: report_data: differs from the inblob at byte")
    );
    assert!(judge(data[..5].to_vec()).unwrap().contains("5 bytes, where 64"));
}

/// The root as the quote's chain has it.
fn root() -> Vec<u8> {
    let bytes = sample().quote;
    let signature = Quote::read(&bytes).unwrap().signature().unwrap();
    let chain = signature.qe.certification.pem_chain().unwrap();
    pem_blocks(chain.as_bytes()).unwrap().pop().unwrap().der
}

#[test]
fn the_vendors_root_is_known_by_its_key() {
    assert_eq!(Certificate::read(&root()).unwrap().public_key.fingerprint(), VENDOR_ROOT_SHA256);
    let given = Policy { trust: TrustedRoot::Given(root()), ..policy() };
    let verdict = tdx::verify(&sample(), &given);
    assert!(verdict.accepted() && verdict.root_given);
    assert_eq!(verdict.root, Root::Vendor(VENDOR_ROOT_NAME));
}

/// Collateral with one of its members changed.
fn edited(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Bundle {
    let mut json: serde_json::Value = serde_json::from_slice(&sample().collateral.unwrap()).unwrap();
    edit(json.as_object_mut().unwrap());
    Bundle { collateral: Some(json.to_string().into_bytes()), ..sample() }
}

#[rstest]
#[case("tcb_info", "TCB info: signature")]
#[case("qe_identity", "QE identity: signature")]
fn a_document_is_signed_as_it_stands(#[case] member: &str, #[case] reason: &str) {
    let bundle = edited(|json| json[member] = format!("{} ", json[member].as_str().unwrap()).into());
    let found = tdx::verify(&bundle, &policy()).reason().unwrap();
    assert!(found.starts_with(reason), "{found}");
}

#[test]
fn members_of_the_collateral_are_not_interchangeable() {
    let swapped = edited(|json| {
        let (root, pck) = (json["root_ca_crl"].clone(), json["pck_crl"].clone());
        (json["root_ca_crl"], json["pck_crl"]) = (pck, root);
    });
    let reason = tdx::verify(&swapped, &policy()).reason().unwrap();
    assert!(reason.starts_with("root CRL: issuer: not the subject of the root CA"), "{reason}");
    let missing = edited(|json| drop(json.remove("pck_crl")));
    let reason = tdx::verify(&missing, &policy()).reason().unwrap();
    assert!(reason.starts_with("collateral: JSON: missing field `pck_crl`"), "{reason}");
}

#[test]
fn collateral_of_another_platform_is_told() {
    let genuine = sample().collateral.unwrap();
    let info = Collateral::read(&genuine).unwrap().tcb_info;
    let bundle = edited(|json| json["tcb_info"] = info.replace("B0C06F", "B0C06E").into());
    let verdict = tdx::verify(&bundle, &policy());
    let fmspc = verdict.checks.iter().find(|check| check.field == "fmspc").unwrap();
    assert_eq!(fmspc.detail, "b0c06e000000, but the PCK has b0c06f000000");
    assert!(verdict.reason().unwrap().starts_with("TCB info: signature: "));
}

#[test]
fn a_directory_gives_the_same_bundle() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    let error = Bundle::from_dir(directory.path()).unwrap_err();
    assert!(error.to_string().contains("no quote.bin in it"));
    write("quote.bin", &sample().quote);
    write("collateral.json", &sample().collateral.unwrap());
    assert_eq!(Bundle::from_dir(directory.path()).unwrap(), sample());
    write("root.der", &root());
    write("tdreport.bin", td_report().as_bytes());
    let bundle = Bundle::from_dir(directory.path()).unwrap();
    assert_eq!((bundle.root.as_deref(), bundle.td_report.is_some()), (Some(&root()[..]), true));
    assert_eq!(tdx::verify(&bundle, &policy()).reason(), None);
}
