//! `--scenario` and `--update`: what they give, and nothing else.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use super::dcap_qvl;
use crate::program::{Tsmsim, files};

/// What the TCB comes to by `tsmsim verify --json`.
fn status(verdict: &Value) -> String {
    let checks = verdict["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["object"] == "TCB" && check["field"] == "status").unwrap();
    check["detail"].as_str().unwrap().split(';').next().unwrap().to_owned()
}

#[rstest]
fn each_status_is_what_verifiers_find(
    #[values(
        ("up-to-date", "UpToDate"),
        ("sw-hardening-needed", "SWHardeningNeeded"),
        ("configuration-needed", "ConfigurationNeeded"),
        ("configuration-and-sw-hardening-needed", "ConfigurationAndSWHardeningNeeded"),
        ("out-of-date", "OutOfDate"),
        ("out-of-date-configuration-needed", "OutOfDateConfigurationNeeded"),
        ("revoked", "Revoked")
    )]
    scenario: (&str, &str),
    #[values("standard", "early")] update: &str,
    #[values("tdx-1.0", "tdx-1.5")] profile: &str,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let (name, expected) = scenario;
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let refused = i32::from(expected != "UpToDate");
    let words = format!("report --tee tdx --profile {profile} --scenario {name} --update {update}");
    tsmsim.say(&words, &[("--out", out)]).with_status(refused);

    let verdict = tsmsim.say("verify --json", &[("--dir", out)]).with_status(refused).json();
    assert_eq!(status(&verdict), expected);
    let failed = verdict["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] == "failed");
    assert_eq!(failed.count(), usize::try_from(refused).unwrap(), "{verdict:#}");
    if expected == "Revoked" {
        // No policy takes it.
        let said = tsmsim.say("verify --accept-tcb revoked", &[("--dir", out)]).with_status(2);
        assert!(said.err.contains("give one of UpToDate, "), "{}", said.err);
        let error = dcap_qvl(out, |_| {}).unwrap_err();
        assert!(error.contains("Revoked"), "{error}");
    } else {
        tsmsim.say(&format!("verify --accept-tcb {expected}"), &[("--dir", out)]).with_status(0);
        assert_eq!(dcap_qvl(out, |_| {}).as_deref(), Ok(expected));
    }
    let collateral: Value = serde_json::from_slice(&fs::read(out.join("collateral.json")).unwrap()).unwrap();
    for member in ["tcb_info", "qe_identity"] {
        let document: Value = serde_json::from_str(collateral[member].as_str().unwrap()).unwrap();
        let number = if update == "early" { 14 } else { 13 };
        assert_eq!(document["tcbEvaluationDataNumber"], number, "{member}");
    }
}

#[rstest]
#[case::tdx("tdx", "revoked-pck", "PCK: revocation: ")]
#[case::tdx("tdx", "expired-collateral", "QE identity: nextUpdate: out of date since 2023-02-01")]
#[case::snp("snp", "revoked-ask", "ASK: revocation: ")]
#[case::snp_vlek("snp --vlek", "revoked-ask", "ASVK: revocation: ")]
#[case::snp("snp", "expired-vek", "VCEK: validity: expired at 2024-01-01")]
#[case::snp_vlek("snp --vlek", "expired-vek", "VLEK: validity: expired at 2024-01-01")]
fn each_other_scenario_is_refused_for_its_reason(
    #[case] tee: &str,
    #[case] scenario: &str,
    #[case] reason: &str,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    tsmsim.say(&format!("report --tee {tee} --scenario {scenario}"), &[("--out", out)]).with_status(1);
    let said = tsmsim.say("verify", &[("--dir", out)]).with_status(1);
    assert!(said.last_line().starts_with(&format!("refused: {reason}")), "{}", said.last_line());
    if tee == "tdx" {
        assert!(dcap_qvl(out, |_| {}).is_err());
    }
    // Nothing else is wrong.
    let verdict = tsmsim.say("verify --json", &[("--dir", out)]).with_status(1).json();
    let failed = verdict["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] == "failed");
    assert!(failed.map(|check| &check["field"]).all(|field| reason.contains(field.as_str().unwrap())));
}

#[rstest]
#[case("tdx", "revoked-ask", "--tee tdx has the scenarios up-to-date, out-of-date, ")]
#[case("snp", "revoked", "--tee snp has the scenarios up-to-date, revoked-ask, expired-vek, not revoked\n")]
#[case("tdx", "Revoked", "[possible values: up-to-date, ")]
fn scenarios_of_another_technology_are_refused(
    #[case] tee: &str,
    #[case] scenario: &str,
    #[case] says: &str,
) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let words = format!("report --tee {tee} --scenario {scenario}");
    let said = tsmsim.say(&words, &[("--out", &out)]).with_status(2);
    assert!(said.err.contains(says), "{}", said.err);
    assert!(!out.exists());
}

/// What is exported is what goes beside the quotes, and a scenario changes only what it is about.
#[test]
fn exported_collateral_is_that_of_reports() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for scenario in ["up-to-date", "revoked-pck", "revoked-ask"] {
        let words = format!("keys export --scenario {scenario}");
        tsmsim.say(&words, &[("--out", &path(scenario))]).with_status(0);
    }
    tsmsim.say("report --tee tdx", &[("--out", &path("report"))]).with_status(0);
    let exported = fs::read(path("up-to-date/intel/collateral.json")).unwrap();
    assert_eq!(fs::read(path("report/collateral.json")).unwrap(), exported);
    let differing = |scenario: &str, part: &str| -> Vec<String> {
        let usual = files(&path("up-to-date").join(part));
        let others = files(&path(scenario).join(part));
        assert_eq!(usual.len(), others.len());
        let pairs = usual.into_iter().zip(others);
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| name).collect()
    };
    assert_eq!(differing("revoked-pck", "intel"), ["collateral.json", "platform-crl.der"]);
    assert_eq!(differing("revoked-ask", "intel"), Vec::<String>::new());
    assert_eq!(differing("revoked-ask", "milan"), ["crl.der"]);
    assert_eq!(differing("revoked-pck", "genoa"), Vec::<String>::new());
}
