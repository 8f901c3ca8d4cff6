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
    let provider = if options.contains("snp") { "sev_guest" } else { "tdx_guest" };
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
    #[values("snp", "tdx")] tee: &str,
    #[values("6.7", "6.12", "6.16")] style: &str,
) {
    let Some(session) = Session::find(who) else { return };
    let program = session.program_inside();
    let said =
        session.say(&["run", "--tee", tee, "--style", style, "--", program.to_str().unwrap(), "conform"]);
    let out = said.with_status(0).out();
    assert!(out.lines().last().is_some_and(|line| line.contains(" 0 not ok")), "{out}");
}
