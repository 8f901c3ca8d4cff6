//! CoVE evidence of the program's making, judged by the program, by PyPI's `cwt` (COSE) and `cryptography`, and by openssl.

use std::{fs, path::Path, process::Command};

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use tsmsim_tests::need;

use crate::program::{OTHER_SEED, Said, Tsmsim, files, run};

/// What the whole evidence consists of.
const LAYOUT: [&str; 7] =
    ["chain.pem", "crl.der", "evidence.bin", "evidence.json", "inblob.bin", "root.der", "root.pem"];

/// Verifies every COSE signature from the RoT's certificate on, compares keys and challenge, prints the registers.
const JUDGE: &str = include_str!("cove/judge.py");

fn evidence(tsmsim: &Tsmsim, words: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let words = format!("report --tee cove --nonce c0ffee {words}");
    tsmsim.say(&words, &[("--out", directory.path())]).with_status(0);
    directory
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn verify(tsmsim: &Tsmsim, directory: &Path) -> Said {
    tsmsim.say("verify", &[("--dir", directory)])
}

#[rstest]
#[case::cbor("--format cbor")]
#[case::x509("--format x509")]
#[case::another_seed(&format!("--format x509 --seed {OTHER_SEED}"))]
#[case::randomized("--format x509 --randomized")]
fn evidence_is_accepted_and_damaged_one_refused(#[case] words: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = evidence(&tsmsim, words);
    let written: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(written, LAYOUT);
    verify(&tsmsim, directory.path()).with_status(0);
    let path = |name: &str| directory.path().join(name);
    let apart = [
        ("--report", path("evidence.bin")),
        ("--certs", path("chain.pem")),
        ("--crl", path("crl.der")),
        ("--root", path("root.pem")),
        ("--inblob", path("inblob.bin")),
    ];
    let arguments: Vec<(&str, &Path)> =
        apart.iter().map(|(option, path)| (*option, path.as_path())).collect();
    tsmsim.say("verify", &arguments).with_status(0);
    for (name, byte) in [("evidence.bin", 700), ("inblob.bin", 63), ("crl.der", 150), ("root.der", 200)] {
        flip(&path(name), byte);
        let said = verify(&tsmsim, directory.path()).with_status(1);
        assert!(said.last_line().starts_with("refused: "), "{}", said.out);
        flip(&path(name), byte);
    }
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    for format in ["--format cbor", "--format x509"] {
        let [one, other] = [evidence(&tsmsim, format), evidence(&tsmsim, format)];
        for name in LAYOUT {
            let read = |directory: &TempDir| fs::read(directory.path().join(name)).unwrap();
            assert_eq!(read(&one), read(&other), "{format}: {name}");
        }
    }
}

#[test]
fn expected_registers_are_compared() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = evidence(&tsmsim, "");
    let text = fs::read_to_string(directory.path().join("evidence.json")).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    let measurement = description["measurement"].as_str().unwrap();
    assert_eq!(description["registers"][4], measurement);
    let entry = description["registers"][5].as_str().unwrap();
    let judge = |words: &str| tsmsim.say(&format!("verify {words}"), &[("--dir", directory.path())]);
    judge(&format!("--measurement {measurement} --register 5:{entry}")).with_status(0);
    let said = judge(&format!("--register 4:{entry}")).with_status(1);
    assert!(said.last_line().contains("TVM token: register 4: "), "{}", said.out);
    judge("--register entry").with_status(2);
}

#[test]
fn a_revoked_root_of_trust_is_refused() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let said = tsmsim.say("report --tee cove --scenario revoked-rot", &[("--out", directory.path())]);
    assert!(said.with_status(1).out.contains("RoT: revocation: "));
}

#[rstest]
#[case("--vmpl 1", "--tee snp")]
#[case("--event 0:x", "--tee tdx")]
#[case("--quote-version 5", "--tee tdx")]
#[case("--vlek", "--tee snp")]
#[case("--profile milan", "cove-0.7")]
#[case("--scenario revoked-ask", "revoked-rot")]
#[case("--update early", "--tee tdx")]
fn options_of_other_technologies_are_refused(#[case] words: &str, #[case] says: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let out = tempfile::tempdir().unwrap();
    let said = tsmsim.say(&format!("report --tee cove {words}"), &[("--out", out.path())]).with_status(2);
    assert!(said.err.contains(says), "{}", said.err);
    assert!(files(out.path()).is_empty());
}

#[test]
fn a_format_is_for_cove() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let out = tempfile::tempdir().unwrap();
    for tee in ["snp", "tdx"] {
        let words = format!("report --tee {tee} --format cbor");
        let said = tsmsim.say(&words, &[("--out", out.path())]).with_status(2);
        assert!(said.err.contains("--tee cove"), "{}", said.err);
    }
}

#[rstest]
fn pypis_cose_verifies_every_signature(#[values("cbor", "x509")] format: &str) {
    let Some(python) = need::python() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = evidence(&tsmsim, &format!("--format {format}"));
    let judge = || run(Command::new(&python).args(["-c", JUDGE]).arg(directory.path()).arg(format));
    let said = judge().with_status(0);
    let text = fs::read_to_string(directory.path().join("evidence.json")).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    let registers = description["registers"].as_array().unwrap();
    let stated: Vec<String> = registers
        .iter()
        .enumerate()
        .map(|(index, value)| format!("{index} sha-384 {}", value.as_str().unwrap()))
        .collect();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), stated);
    // It does notice.
    for byte in [300, 900, 1500, 2200] {
        flip(&directory.path().join("evidence.bin"), byte);
        assert_ne!(judge().status, 0, "byte {byte}");
        flip(&directory.path().join("evidence.bin"), byte);
    }
}

/// Files in PEM, and openssl beside them.
fn openssl(program: &Path, directory: &Path, words: &str) -> Said {
    run(Command::new(program).current_dir(directory).args(words.split_whitespace()))
}

#[test]
fn openssl_verifies_the_certificates() {
    let Some(program) = need::program("openssl") else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    const VERIFY: &str = "verify -attime 1750000000 -x509_strict -CAfile root.pem -untrusted";
    for format in ["cbor", "x509"] {
        let directory = evidence(&tsmsim, &format!("--format {format}"));
        let say = |words: &str| openssl(&program, directory.path(), words);
        // The TSM's certificate is the first of the file.
        let said = say(&format!("{VERIFY} chain.pem chain.pem")).with_status(0);
        assert!(said.out.contains("OK"), "{}", said.out);
        say("crl -inform DER -in crl.der -CAfile root.pem -noout").with_status(0);
        if format == "cbor" {
            continue;
        }
        say("x509 -inform DER -in evidence.bin -out leaf.pem").with_status(0);
        say(&format!("{VERIFY} chain.pem -ignore_critical leaf.pem")).with_status(0);
        // It knows the extension no more than any other, which it must say of a critical one, and nothing else.
        let said = say(&format!("{VERIFY} chain.pem leaf.pem"));
        assert!(said.err.contains("unhandled critical extension"), "{}", said.err);
        let text = say("x509 -in leaf.pem -noout -text").with_status(0).out;
        for line in
            ["ecdsa-with-SHA512", "CA:TRUE, pathlen:0", "Certificate Sign", "2.23.133.5.4.6: critical"]
        {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let at = fs::metadata(directory.path().join("evidence.bin")).unwrap().len() - 1;
        flip(&directory.path().join("evidence.bin"), usize::try_from(at).unwrap());
        say("x509 -inform DER -in evidence.bin -out leaf.pem").with_status(0);
        let said = say(&format!("{VERIFY} chain.pem -ignore_critical leaf.pem"));
        assert!(said.err.contains("signature failure"), "{}", said.err);
    }
}

#[test]
fn shown_and_drawn() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    for format in ["cbor", "x509"] {
        let directory = evidence(&tsmsim, &format!("--format {format}"));
        let file = directory.path().join("evidence.bin");
        let show = |more: &[&str]| {
            let mut command = tsmsim.command(["show"]);
            run(command.arg(&file).args(more)).with_status(0)
        };
        assert!(show(&[]).out.contains("tvm-challenge"));
        assert!(show(&["--json"]).json()["fields"].is_array());
        let picture = directory.path().join("picture.svg");
        let said = show(&["--svg", picture.to_str().unwrap()]);
        assert!(said.out.contains("accepted under a synthetic root"), "{}", said.out);
        assert!(fs::read_to_string(picture).unwrap().contains("TSM token"));
    }
}
