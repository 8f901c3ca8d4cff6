//! Reports by configfs, from the shell.

use rstest::rstest;

use crate::session::{Session, Who};

/// The issue's shell line, with the blobs kept.
const REPORT: &str = r#"set -e
R=/sys/kernel/config/tsm/report/$0
mkdir "$R"
head -c64 /dev/urandom > inblob
cat inblob > "$R/inblob"
cat "$R/outblob" > outblob
if [ -e "$R/auxblob" ]; then cat "$R/auxblob" > auxblob; fi
cat "$R/provider" "$R/generation"
rmdir "$R"
test ! -e "$R"
"#;

fn report(session: &Session, options: &str, name: &str) {
    let mut arguments = vec!["run"];
    arguments.extend(options.split_whitespace());
    arguments.extend(["--", "sh", "-c", REPORT, name]);
    let said = session.say(&arguments).with_status(0);
    let provider = match () {
        () if options.contains("--tee snp") => "sev_guest",
        () if options.contains("--tee cove") => "cove_guest",
        () => "tdx_guest",
    };
    assert_eq!(said.out(), format!("{provider}\n1\n"), "{}", said.err());
}

#[rstest]
fn snp_reports_verify(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("--style 6.7", "--style 6.12", "--style 6.16 --vlek", "--profile turin --randomized")]
    options: &str,
) {
    let Some(session) = Session::find(who) else { return };
    report(&session, &format!("--tee snp {options}"), "any.name");
    let verify = ["verify", "--report", "outblob", "--certs", "auxblob", "--inblob", "inblob"];
    session.tsmsim(&verify).with_status(0);
    std::fs::write(session.out.path().join("inblob"), [0; 64]).unwrap();
    session.tsmsim(&verify).with_status(1);
}

#[rstest]
fn tdx_quotes_verify(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("--style 6.7", "--style 6.12", "--style 6.16 --quote-version 5", "--profile tdx-1.0")]
    options: &str,
) {
    let Some(session) = Session::find(who) else { return };
    report(&session, &format!("--tee tdx {options}"), "com.intel.dcap");
    // The collateral of the same platform: it follows from the seed.
    let profile = if options.contains("tdx-1.0") { "tdx-1.0" } else { "tdx-1.5" };
    session.tsmsim(&["report", "--tee", "tdx", "--profile", profile, "--out", "same"]).with_status(0);
    let verify =
        ["verify", "--report", "outblob", "--collateral", "same/collateral.json", "--inblob", "inblob"];
    session.tsmsim(&verify).with_status(0);
}

/// The certificates of the same platform: they follow from the seed.
fn same_platform(session: &Session, options: &[&str]) {
    let options = [&["report", "--tee", "cove", "--out", "same"], options].concat();
    session.tsmsim(&options).with_status(0);
}

const VERIFY_COVE: [&str; 11] = [
    "verify",
    "--report",
    "outblob",
    "--certs",
    "same/chain.pem",
    "--root",
    "same/root.pem",
    "--crl",
    "same/crl.der",
    "--inblob",
    "inblob",
];

#[rstest]
fn cove_evidence_verifies(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("--style 6.7", "--style 6.12", "--style 6.16 --randomized", "--profile cove-0.7")] options: &str,
    #[values("cbor", "x509")] format: &str,
) {
    let Some(session) = Session::find(who) else { return };
    report(&session, &format!("--tee cove {options} --format {format}"), "any.name");
    let first = session.file("outblob")[0];
    assert_eq!(first == 0x30, format == "x509", "{first:#x}");
    same_platform(&session, &["--format", format]);
    session.tsmsim(&VERIFY_COVE).with_status(0);
    std::fs::write(session.out.path().join("inblob"), [0; 64]).unwrap();
    session.tsmsim(&VERIFY_COVE).with_status(1);
}

#[test]
fn cove_evidence_is_cbor_unless_asked_for() {
    let Some(session) = Session::find(Who::Root) else { return };
    report(&session, "--tee cove", "x");
    assert_eq!(session.file("outblob")[..2], [0xd2, 0x84], "COSE_Sign1 with its tag");
}

/// A certificate is for others to read, too.
#[test]
fn openssl_reads_the_x509_form() {
    let Some(session) = Session::find(Who::Root) else { return };
    if tsmsim_tests::need::program("openssl").is_none() {
        return;
    }
    report(&session, "--tee cove --format x509", "x");
    let arguments = ["x509", "-inform", "DER", "-in", "outblob", "-noout", "-text"];
    let said = session.other("openssl".as_ref(), &arguments).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("ecdsa-with-SHA512") && text.contains("2.23.133.5.4.6: critical"), "{text}");
    std::fs::write(session.out.path().join("outblob"), [0x30, 0x82, 0, 0]).unwrap();
    assert!(!session.other("openssl".as_ref(), &arguments).output().unwrap().status.success());
}

#[test]
fn a_tvm_of_another_seed_stands_under_another_root() {
    let Some(session) = Session::find(Who::Root) else { return };
    let seed = "11".repeat(32);
    report(&session, &format!("--tee cove --seed {seed}"), "x");
    same_platform(&session, &["--seed", &seed]);
    session.tsmsim(&VERIFY_COVE).with_status(0);
    same_platform(&session, &[]);
    session.tsmsim(&VERIFY_COVE).with_status(1);
}

/// As the module refuses them: at the report, not at the write.
#[rstest]
fn cove_challenges_have_64_bytes(#[values(Who::Root, Who::User)] who: Who) {
    let Some(session) = Session::find(who) else { return };
    let script = r#"
R=/sys/kernel/config/tsm/report/x
mkdir $R
for size in 1 32 63; do
    head -c$size /dev/urandom > $R/inblob || exit 1
    cat $R/outblob > /dev/null && exit 2
done
head -c65 /dev/urandom > $R/inblob && exit 3
cat $R/outblob > /dev/null && exit 4
head -c64 /dev/urandom > $R/inblob || exit 5
cat $R/outblob > outblob || exit 6
test "$(ls $R | tr '\n' ' ')" = "generation inblob outblob provider " || exit 7
test "$(cat $R/generation)" = 5 || exit 8
"#;
    let said = session.script("--tee cove", script).with_status(0);
    assert_eq!(said.err().matches("Invalid argument").count(), 4, "{}", said.err());
    assert_eq!(said.err().matches("File too large").count(), 1, "{}", said.err());
}

#[test]
fn cove_entries_at_once_do_not_mix() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
for i in 1 2 3 4 5 6 7 8; do (
    R=/sys/kernel/config/tsm/report/entry$i
    mkdir $R
    for round in 1 2 3 4 5; do
        printf "%032d%032d" $i $round > $R/inblob
        grep -qa "$(printf "%032d%032d" $i $round)" $R/outblob
        ! grep -qa "$(printf "%032d%032d" $i $((round + 1)))" $R/outblob
    done
    test "$(cat $R/generation)" = 5
    echo done > done$i
) & done
wait
"#;
    session.script("--tee cove", script).with_status(0);
    for entry in 1..=8 {
        assert_eq!(session.file(&format!("done{entry}")), b"done\n");
    }
}

#[rstest]
#[case("a")]
#[case("-")]
#[case(" ")]
#[case("…")]
#[case("entry with spaces, ünïcödé and\ttabs")]
fn entries_have_any_name(#[case] name: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    report(&session, "--tee snp", name);
}

#[test]
fn many_entries_at_once_do_not_mix() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
for i in 1 2 3 4 5 6 7 8; do (
    R=/sys/kernel/config/tsm/report/entry$i
    mkdir $R
    for round in 1 2 3 4 5; do
        printf "%032d%032d" $i $round > $R/inblob
        cat $R/outblob > blob
        dd if=$R/outblob bs=1 skip=80 count=64 status=none
        echo
    done
    test "$(cat $R/generation)" = 5
) > out$i & done
wait
"#;
    session.script("--tee snp", script).with_status(0);
    for entry in 1..=8 {
        let expected: String = (1..=5).map(|round| format!("{entry:032}{round:032}\n")).collect();
        assert_eq!(String::from_utf8(session.file(&format!("out{entry}"))).unwrap(), expected);
    }
}

#[rstest]
fn the_conformance_suite_passes(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("snp", "tdx", "cove", "cove --format x509")] tee: &str,
    #[values("6.7", "6.12", "6.16")] style: &str,
) {
    let Some(session) = Session::find(who) else { return };
    let program = session.program_inside();
    let mut arguments = vec!["run", "--style", style, "--tee"];
    arguments.extend(tee.split_whitespace());
    arguments.extend(["--", program.to_str().unwrap(), "conform"]);
    let said = session.say(&arguments);
    let out = said.with_status(0).out();
    assert!(out.lines().last().is_some_and(|line| line.contains(" 0 not ok")), "{out}");
}
