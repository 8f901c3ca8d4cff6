//! `tsmsim report`: evidence that strangers accept.

use std::{fs, path::Path, process::Command};

use rstest::rstest;
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, ca},
    firmware::guest::AttestationReport as SevReport,
    parser::ByteParser as _,
};
use sha2::{Digest as _, Sha256};
use tsmsim_abi::snp::{
    cert_table::{CertGuid, entries},
    report::AttestationReport,
};
use tsmsim_tests::need;
use zerocopy::FromBytes as _;

use crate::program::{OTHER_SEED, Tsmsim, files, hex, run};

const NONCE: &str = "00112233445566778899aabbccddeeff";

fn arguments(profile: &str, version: u32, vlek: bool) -> String {
    let vlek = if vlek { "--vlek" } else { "" };
    format!("--profile {profile} --report-version {version} {vlek} --nonce {NONCE}")
}

/// Profiles, report versions and keys, all of them with all of them.
#[rstest]
fn every_kind_of_evidence_is_accepted(
    #[values("milan", "genoa", "turin")] profile: &str,
    #[values(2, 3, 5)] version: u32,
    #[values(false, true)] vlek: bool,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    tsmsim.report(out, &arguments(profile, version, vlek));
    let leaf = if vlek { "vlek" } else { "vcek" };
    layout_is_as_described(out, profile, version, leaf);
    certificate_table_is_that_of_the_files(out, leaf);
    let verdict =
        tsmsim.say("verify --json", &[("--dir", out), ("--root", &out.join("ark.der"))]).with_status(0);
    assert_eq!(verdict.json()["accepted"], true);
    assert_eq!(verdict.json()["root"]["kind"], "synthetic");
    sev_accepts(out, leaf);
    let Some(openssl) = need::program("openssl") else { return };
    openssl_accepts(&openssl, out, leaf);
}

/// The files of the layout, and `evidence.json` about them.
fn layout_is_as_described(out: &Path, profile: &str, version: u32, leaf: &str) {
    let files = files(out);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let leaf_file = format!("{leaf}.der");
    let expected = [
        "ark.der",
        "ask.der",
        "certs.bin",
        "crl.der",
        "evidence.json",
        "inblob.bin",
        "report.bin",
        &leaf_file,
    ];
    assert_eq!(names, expected);
    let file = |name: &str| &files.iter().find(|(found, _)| found == name).unwrap().1;
    let description: serde_json::Value = serde_json::from_slice(file("evidence.json")).unwrap();
    let sums = description["sha256"].as_object().unwrap();
    assert_eq!(sums.len(), files.len() - 1, "every file but the description itself");
    for (name, sum) in sums {
        assert_eq!(sum.as_str().unwrap(), hex(&Sha256::digest(file(name))), "{name}");
    }
    let report = AttestationReport::read_from_bytes(file("report.bin")).unwrap();
    let inblob = format!("{NONCE}{}", "0".repeat(128 - NONCE.len()));
    assert_eq!(hex(file("inblob.bin")), inblob);
    assert_eq!(report.version.get(), version);
    for (key, value) in [
        ("tee", "snp".to_owned()),
        ("profile", profile.to_owned()),
        ("signing_key", leaf.to_owned()),
        ("measurement", hex(&report.measurement)),
        ("report_data", inblob),
        ("report_id", hex(&report.report_id)),
        ("chip_id", hex(&report.chip_id)),
        ("policy", format!("{:#x}", report.policy.get())),
        ("reported_tcb", format!("{:#018x}", report.reported_tcb.get())),
    ] {
        assert_eq!(description[key], value, "{key}");
    }
    assert_eq!(description["synthetic"], true);
    assert_eq!(description["report_version"], version);
    assert_eq!(description["vmpl"], 0);
}

/// The table that a guest receives holds the same certificates as the files, and nothing that is none.
fn certificate_table_is_that_of_the_files(out: &Path, leaf: &str) {
    let table = fs::read(out.join("certs.bin")).unwrap();
    let leaf_guid = if leaf == "vlek" { CertGuid::VLEK } else { CertGuid::VCEK };
    let expected = [(leaf_guid, leaf), (CertGuid::ASK, "ask"), (CertGuid::ARK, "ark")];
    let found: Vec<_> = entries(&table).map(Result::unwrap).collect();
    assert_eq!(found.len(), expected.len());
    for ((guid, der), (expected, name)) in found.into_iter().zip(expected) {
        assert_eq!(guid, expected);
        assert_eq!(der, fs::read(out.join(format!("{name}.der"))).unwrap(), "{name}");
    }
}

/// The `sev` crate reads the report, and verifies the chain and the report's signature; it tells a changed report.
pub(crate) fn sev_accepts(out: &Path, leaf: &str) {
    let read =
        |name: &str| Certificate::from_der(&fs::read(out.join(format!("{name}.der"))).unwrap()).unwrap();
    let chain = Chain { ca: ca::Chain { ark: read("ark"), ask: read("ask") }, vek: read(leaf) };
    let mut bytes = fs::read(out.join("report.bin")).unwrap();
    assert!(chain.verify().is_ok(), "the chain");
    let report = SevReport::from_bytes(&bytes).unwrap();
    let verified = (&chain, &report).verify();
    assert!(verified.is_ok(), "{:?}", verified.err());
    // A byte of MEASUREMENT.
    bytes[0x90] ^= 1;
    let report = SevReport::from_bytes(&bytes).unwrap();
    assert!((&chain, &report).verify().is_err(), "a changed measurement");
}

/// openssl verifies the chain, and asks the ARK's revocation list about the certificate that the ARK signed.
pub(crate) fn openssl_accepts(openssl: &Path, out: &Path, leaf: &str) {
    for (name, label) in
        [("ark", "CERTIFICATE"), ("ask", "CERTIFICATE"), (leaf, "CERTIFICATE"), ("crl", "X509 CRL")]
    {
        let der = fs::read(out.join(format!("{name}.der"))).unwrap();
        let pem = der::pem::encode_string(label, der::pem::LineEnding::LF, &der).unwrap();
        fs::write(out.join(format!("{name}.pem")), pem).unwrap();
    }
    let leaf = format!("{leaf}.pem");
    for (arguments, accepted) in [
        (
            &["-x509_strict", "-CAfile", "ark.pem", "-CRLfile", "crl.pem", "-crl_check_all", "ask.pem"][..],
            true,
        ),
        (&["-CAfile", "ark.pem", "-untrusted", "ask.pem", &leaf], true),
        (&["-CAfile", "ark.pem", &leaf], false),
    ] {
        let said = run(Command::new(openssl).current_dir(out).arg("verify").args(arguments));
        assert_eq!(said.status == 0, accepted, "{arguments:?}: {}{}", said.out, said.err);
    }
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directories = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let [first, again, other_nonce, other_version] = directories.each_ref().map(|directory| directory.path());
    tsmsim.report(first, &arguments("genoa", 3, false));
    tsmsim.report(again, &arguments("genoa", 3, false));
    assert_eq!(files(first), files(again));
    tsmsim.report(other_nonce, "--profile genoa --nonce 01");
    tsmsim.report(other_version, &arguments("genoa", 2, false));
    for other in [other_nonce, other_version] {
        assert_ne!(fs::read(first.join("report.bin")).unwrap(), fs::read(other.join("report.bin")).unwrap());
        assert_eq!(fs::read(first.join("vcek.der")).unwrap(), fs::read(other.join("vcek.der")).unwrap());
    }
}

#[test]
fn randomised_signatures_differ_and_verify() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [plain, first, second] = directories.each_ref().map(|directory| directory.path());
    tsmsim.report(plain, &arguments("turin", 5, false));
    let randomized = format!("{} --randomized", arguments("turin", 5, false));
    let read = |out: &Path| fs::read(out.join("report.bin")).unwrap();
    for out in [first, second] {
        tsmsim.report(out, &randomized);
        tsmsim.say("verify", &[("--dir", out)]).with_status(0);
        sev_accepts(out, "vcek");
        // All but the signature, which begins at 2a0h, is the same.
        assert_eq!(read(out)[..0x2a0], read(plain)[..0x2a0]);
        assert_ne!(read(out)[0x2a0..], read(plain)[0x2a0..]);
    }
    assert_ne!(read(first), read(second));
}

#[test]
fn another_seed_is_another_root() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [ours, theirs] = directories.each_ref().map(|directory| directory.path());
    tsmsim.report(ours, "--profile milan");
    let mut command = tsmsim.command(["report", "--tee", "snp", "--profile", "milan", "--out"]);
    run(command.arg(theirs).env("TSMSIM_SEED", OTHER_SEED)).with_status(0);
    let certificates = ["ark.der", "ask.der", "vcek.der", "crl.der", "certs.bin", "report.bin"];
    for name in certificates {
        assert_ne!(fs::read(ours.join(name)).unwrap(), fs::read(theirs.join(name)).unwrap(), "{name}");
    }
    // Both are accepted as synthetic, each under its own root only.
    for (out, root, status) in [(ours, ours, 0), (theirs, theirs, 0), (ours, theirs, 1), (theirs, ours, 1)] {
        let said =
            tsmsim.say("verify", &[("--dir", out), ("--root", &root.join("ark.der"))]).with_status(status);
        if status == 1 {
            assert!(
                said.last_line().starts_with("refused: ARK: root: not the given root"),
                "{}",
                said.last_line()
            );
        }
    }
    tsmsim.say("verify", &[("--dir", theirs)]).with_status(0);
    // The root of one seed above the report of another.
    fs::copy(theirs.join("ark.der"), ours.join("ark.der")).unwrap();
    let said = tsmsim.say("verify", &[("--dir", ours)]).with_status(1);
    assert!(said.last_line().starts_with("refused: A"), "{}", said.last_line());
}

#[rstest]
#[case::csp("--vlek example-csp", "vlek", &["cspID", "example-csp"])]
#[case::vmpl("--vmpl 3", "vcek", &["vmpl", " 3"])]
#[case::policy("--policy 0x30001", "vcek", &["policy.abi <= current_version", "0.1 demanded"])]
fn options_reach_the_evidence(#[case] words: &str, #[case] leaf: &str, #[case] line: &[&str]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.report(directory.path(), words);
    assert!(directory.path().join(format!("{leaf}.der")).is_file());
    let said = tsmsim.say("verify", &[("--dir", directory.path())]).with_status(0);
    assert!(said.out.lines().any(|found| line.iter().all(|part| found.contains(part))), "{}", said.out);
}

#[test]
fn host_data_and_the_journal() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, journal) = (directory.path().join("evidence"), directory.path().join("journal.jsonl"));
    let words = format!("report --tee snp --host-data {}", "5a".repeat(32));
    tsmsim.say(&words, &[("--out", &out), ("--journal", &journal)]).with_status(0);
    let report = AttestationReport::read_from_bytes(&fs::read(out.join("report.bin")).unwrap()).unwrap();
    assert_eq!(report.host_data, [0x5a; 32]);
    let text = fs::read_to_string(&journal).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().enumerate().all(|(number, event)| event["number"] == number), "{text}");
    assert!(text.contains("REPORT_REQ"), "{text}");
}
