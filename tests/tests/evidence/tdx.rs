//! TDX evidence of the program's making, judged by the program, by dcap-qvl and by openssl.
//!
//! | module | what is shown |
//! |---|---|
//! | [`bits`] | every flipped bit of a quote is refused for a reason |
//! | [`event_log`] | the RTMRs are a replay of the event log |
//! | [`mrtd`] | `tsmsim measure`, against a few lines written after the specification |
//! | [`openssl`] | certificates, revocation lists and signed JSON |
//! | [`scenario`] | each scenario gives its status |

mod bits;
mod event_log;
mod mrtd;
mod openssl;
mod scenario;

use std::{fs, path::Path};

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use rstest::rstest;
use tempfile::TempDir;

use crate::program::{OTHER_SEED, Tsmsim, files, hex};

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
#[case::v4_td_1_0("--profile tdx-1.0", 4, None)]
#[case::v5_td_1_0("--profile tdx-1.0 --quote-version 5", 5, Some(2))]
#[case::v4_td_1_5("--profile tdx-1.5", 4, None)]
#[case::v5_td_1_5("--profile tdx-1.5 --quote-version 5", 5, Some(3))]
#[case::randomized("--randomized", 4, None)]
#[case::another_seed(&format!("--seed {OTHER_SEED}"), 4, None)]
fn quotes_are_accepted_and_damaged_ones_refused(
    #[case] words: &str,
    #[case] version: u8,
    #[case] body_type: Option<u8>,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = quote(&tsmsim, &format!("{words} --nonce 00112233"));
    let names: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, LAYOUT);
    let quote = fs::read(directory.path().join("quote.bin")).unwrap();
    assert_eq!(quote[0], version);
    // Version 5 says the type of the body behind the header.
    assert!(body_type.is_none_or(|body_type| quote[48..50] == [body_type, 0]));
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

#[test]
fn options_of_tdx_are_refused() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    for words in ["--event 2:x", "--update early", "--scenario out-of-date", "--quote-version 5"] {
        let said = tsmsim.say(&format!("report --tee snp {words}"), &[("--out", &out)]).with_status(2);
        assert!(said.err.contains("--tee"), "{}", said.err);
    }
    assert!(!out.exists());
}

/// The picture shows every part of the chain and says what the verdict is; alone, a quote is refused for want of collateral.
#[rstest]
#[case::accepted("", true, "accepted", "UpToDate")]
#[case::refused("--scenario revoked-pck", true, "refused", "was revoked")]
#[case::alone("", false, "refused", "JSON: none given: ")]
fn a_picture_of_the_chain(
    #[case] words: &str,
    #[case] whole: bool,
    #[case] verdict: &str,
    #[case] says: &str,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, alone) = (directory.path().join("evidence"), directory.path().join("loose"));
    tsmsim.say(&format!("report --tee tdx {words}"), &[("--out", &out)]);
    let quote = if whole { out.join("quote.bin") } else { alone };
    if !whole {
        fs::copy(out.join("quote.bin"), &quote).unwrap();
    }
    let picture = directory.path().join("chain.svg");
    let said = tsmsim.say("show", &[("", &quote), ("--svg", &picture)]).with_status(0);
    assert!(said.out.contains(verdict), "{}", said.out);
    let text = fs::read_to_string(&picture).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let words: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    let titles = ["root CA", "PCK CA", "PCK", "QE report", "attestation key", "quote", "collateral"];
    let places: Vec<_> = titles.iter().map(|title| words.iter().position(|word| word == title)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{words:?}");
    assert!(words.iter().any(|word| word.contains(says)), "{words:?}");
}
