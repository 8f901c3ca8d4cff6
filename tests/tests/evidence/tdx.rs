//! TDX evidence of the program's making, judged by the program, by dcap-qvl and by openssl.

use std::{fs, path::Path, process::Command};

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use rstest::rstest;
use tempfile::TempDir;
use tsmsim_tests::need;

use crate::program::{OTHER_SEED, Tsmsim, files, hex, run};

/// When dcap-qvl judges: 2025-06-15.
const NOW: u64 = 1_750_000_000;

/// What the whole evidence consists of.
const LAYOUT: [&str; 7] =
    ["collateral.json", "evidence.json", "inblob.bin", "quote.bin", "root.der", "root.pem", "tdreport.bin"];

fn quote(tsmsim: &Tsmsim, words: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    tsmsim.say(&format!("report --tee tdx {words}"), &[("--out", directory.path())]).with_status(0);
    directory
}

/// dcap-qvl's status under the root that lies beside the quote.
fn dcap_qvl(directory: &Path, edit: impl Fn(&mut Vec<u8>)) -> Result<String, String> {
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&read("collateral.json")).unwrap();
    let mut quote = read("quote.bin");
    edit(&mut quote);
    let verified = QuoteVerifier::new(read("root.der")).verify(&quote, &collateral, NOW);
    verified.map(|report| report.status).map_err(|error| error.to_string())
}

#[rstest]
#[case::v4_td_1_0("--profile tdx-1.0", 4)]
#[case::v5_td_1_0("--profile tdx-1.0 --quote-version 5", 5)]
#[case::v4_td_1_5("--profile tdx-1.5", 4)]
#[case::v5_td_1_5("--profile tdx-1.5 --quote-version 5", 5)]
#[case::randomized("--randomized", 4)]
#[case::another_seed(&format!("--seed {OTHER_SEED}"), 4)]
fn quotes_are_accepted_and_damaged_ones_refused(#[case] words: &str, #[case] version: u8) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, &format!("{words} --nonce 00112233"));
    let names: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, LAYOUT);
    assert_eq!(fs::read(directory.path().join("quote.bin")).unwrap()[0], version);
    let root = directory.path().join("root.der");
    tsmsim.say("verify", &[("--dir", directory.path()), ("--root", &root)]).with_status(0);
    assert_eq!(dcap_qvl(directory.path(), |_| {}).as_deref(), Ok("UpToDate"));
    for at in [2, 100, 600, 700] {
        assert!(dcap_qvl(directory.path(), |quote| quote[at] ^= 1).is_err(), "byte {at}");
        let damaged = tempfile::tempdir().unwrap();
        for (name, mut bytes) in files(directory.path()) {
            if name == "quote.bin" {
                bytes[at] ^= 1;
            }
            fs::write(damaged.path().join(name), bytes).unwrap();
        }
        let said = tsmsim.say("verify", &[("--dir", damaged.path())]).with_status(1);
        assert!(said.last_line().starts_with("refused: "), "{}", said.last_line());
    }
}

#[test]
fn the_same_arguments_give_the_same_evidence() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let make = |words: &str| files(quote(&tsmsim, words).path());
    assert_eq!(make("--nonce 01"), make("--nonce 01"));
    assert_ne!(make("--nonce 01"), make("--nonce 02"));
}

#[test]
fn evidence_json_describes_the_files() {
    use sha2::{Digest, Sha256};
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, "--nonce 01");
    let text = fs::read(directory.path().join("evidence.json")).unwrap();
    let description: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&description["tee"], &description["profile"]), (&"tdx".into(), &"tdx-1.5".into()));
    for (name, bytes) in files(directory.path()).into_iter().filter(|(name, _)| name != "evidence.json") {
        assert_eq!(description["sha256"][&name], hex(&Sha256::digest(bytes)).as_str(), "{name}");
    }
}

#[rstest]
#[case::another_root(Some("root"))]
#[case::another_inblob(Some("inblob"))]
#[case::nothing_wrong(None)]
fn expectations_are_held_against_the_quote(#[case] wrong: Option<&str>) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, "--nonce 01");
    let other = quote(&tsmsim, &format!("--nonce 02 --seed {OTHER_SEED}"));
    let path = |name: &str| if wrong == Some(name) { other.path() } else { directory.path() };
    let (root, inblob) = (path("root").join("root.der"), path("inblob").join("inblob.bin"));
    let options = [("--dir", directory.path()), ("--root", root.as_path()), ("--inblob", inblob.as_path())];
    tsmsim.say("verify", &options).with_status(i32::from(wrong.is_some()));
}

#[test]
fn a_loose_quote_is_judged_with_its_collateral() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, "--nonce 01");
    let file = |name: &str| directory.path().join(name);
    let (quote, root, collateral) = (file("quote.bin"), file("root.pem"), file("collateral.json"));
    let with = [("--report", quote.as_path()), ("--root", &root), ("--collateral", &collateral)];
    tsmsim.say("verify", &with).with_status(0);
    tsmsim.say("verify", &with[..2]).with_status(1);
}

#[test]
fn openssl_accepts_the_root_and_its_list() {
    let (Some(tsmsim), Some(openssl)) = (Tsmsim::find(), need::program("openssl")) else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.say("keys export", &[("--out", directory.path())]).with_status(0);
    let intel = directory.path().join("intel");
    let pem = |name: &str, kind: &str| {
        let out = intel.join(format!("{name}.pem.tmp"));
        let arguments = ["-inform", "DER", "-in", &format!("{name}.der"), "-out"];
        run(Command::new(&openssl).current_dir(&intel).arg(kind).args(arguments).arg(&out)).with_status(0);
        out
    };
    let (platform, crl) = (pem("platform-ca", "x509"), pem("root-crl", "crl"));
    let verify = |certificate: &Path| {
        let mut command = Command::new(&openssl);
        command.current_dir(&intel).args([
            "verify",
            "-attime",
            "1750000000",
            "-crl_check_all",
            "-x509_strict",
        ]);
        run(command.args(["-CAfile", "root.pem", "-CRLfile"]).arg(&crl).arg(certificate))
    };
    verify(&platform).with_status(0);
    let mut text = fs::read_to_string(&platform).unwrap().into_bytes();
    let middle = text.len() / 2;
    text[middle] = if text[middle] == b'A' { b'B' } else { b'A' };
    let damaged = intel.join("damaged.pem");
    fs::write(&damaged, text).unwrap();
    assert_ne!(verify(&damaged).status, 0);
}

#[rstest]
#[case::quote("quote.bin", "TDX, version 4")]
#[case::report("tdreport.bin", "mr_td")]
#[case::collateral("collateral.json", "UpToDate")]
fn evidence_is_shown(#[case] file: &str, #[case] says: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, "--nonce 01");
    let path = directory.path().join(file);
    let said = tsmsim.say("show", &[("", &path)]).with_status(0);
    assert!(said.out.contains(says), "{}", said.out);
    tsmsim.say("show --json", &[("", &path)]).with_status(0).json();
}

#[rstest]
#[case("--profile genoa")]
#[case("--vlek")]
#[case("--report-version 3")]
#[case("--quote-version 3")]
#[case("--vmpl 1")]
fn options_of_snp_are_refused(#[case] words: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    tsmsim.say(&format!("report --tee tdx {words}"), &[("--out", &out)]).with_status(2);
    assert!(!out.exists());
    tsmsim.say("report --tee snp --profile tdx-1.0", &[("--out", &out)]).with_status(2);
}
