//! Evidence of AMD's chips, through the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rstest::rstest;
use tsmsim_abi::snp::report::AttestationReport;
use tsmsim_tests::workspace;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::program::{Said, Tsmsim};

fn genuine(name: &str) -> PathBuf {
    workspace::vectors().join("genuine/snp").join(name)
}

/// Judges a report with the certificates of its chip, at a time when these are valid; the guest may be debugged.
fn verify(tsmsim: &Tsmsim, report: &Path, words: &str) -> Said {
    let [chain, vcek] = ["milan-ask-ark.pem", "milan-vcek.der"].map(genuine);
    let paths = [("--report", report), ("--certs", &chain), ("--certs", &vcek)];
    tsmsim.say(&format!("verify {words}"), &paths)
}

const THEN: &str = "--allow-debug --at 2025-06-01T00:00:00Z";

#[test]
fn the_vendors_root_is_recognised() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let report = genuine("milan-report.bin");
    let said = verify(&tsmsim, &report, THEN).with_status(0);
    assert_eq!(
        said.last_line(),
        "accepted under the vendor's root, AMD ARK-Milan, as of 2025-06-01T00:00:00Z"
    );
    let verdict = verify(&tsmsim, &report, &format!("{THEN} --json")).with_status(0).json();
    assert_eq!(verdict["accepted"], true);
    assert_eq!(
        verdict["root"],
        serde_json::json!({ "kind": "vendor", "name": "AMD ARK-Milan", "given": false })
    );
}

/// What is made here never passes for the vendor's, and the vendor's root does not take it.
#[test]
fn what_is_synthetic_does_not_stand_under_the_vendors_root() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.report(directory.path(), "--profile milan");
    let out = directory.path();
    let said = tsmsim.say("verify", &[("--dir", out), ("--root", &genuine("ark.der"))]).with_status(1);
    assert!(said.last_line().starts_with("refused: ARK: root: not the given root"), "{}", said.last_line());
    let said = tsmsim.say("verify --json", &[("--dir", out)]).with_status(0);
    assert_eq!(said.json()["root"]["kind"], "synthetic");
    // The vendor's certificates above a synthetic report.
    let said = verify(&tsmsim, &out.join("report.bin"), THEN).with_status(1);
    assert!(said.last_line().starts_with("refused: report: "), "{}", said.last_line());
}

#[rstest]
#[case::report_data(0x50, "report: signature: ")]
#[case::measurement(0x90, "report: signature: ")]
#[case::version(0x00, "report: ")]
#[case::chip_id(0x1a0, "report: chip_id: ")]
#[case::reported_tcb(0x180, "report: reported_tcb")]
#[case::signature(0x2a0, "report: signature: ")]
#[case::last_byte(0x49f, "report: reserved")]
fn a_flipped_byte_is_refused(#[case] at: usize, #[case] reason: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.bin");
    let mut bytes = fs::read(genuine("milan-report.bin")).unwrap();
    bytes[at] ^= 0xff;
    fs::write(&report, bytes).unwrap();
    let said = verify(&tsmsim, &report, THEN).with_status(1);
    assert!(said.last_line().starts_with(&format!("refused: {reason}")), "{}", said.last_line());
}

#[rstest]
#[case::debug("--at 2025-06-01", "report: policy.debug: ")]
#[case::too_early("--allow-debug --at 2022-09-01", "VCEK: validity: ")]
#[case::too_late("--allow-debug --at 2029-10-01", "VCEK: validity: ")]
fn options_decide(#[case] words: &str, #[case] reason: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let said = verify(&tsmsim, &genuine("milan-report.bin"), words).with_status(1);
    assert!(said.last_line().starts_with(&format!("refused: {reason}")), "{}", said.last_line());
}

/// Taken apart field by field and put together again.
#[test]
fn the_report_comes_back_byte_for_byte() {
    let bytes = fs::read(genuine("milan-report.bin")).unwrap();
    let report = AttestationReport::read_from_bytes(&bytes).unwrap();
    assert_eq!(report.as_bytes(), bytes);
    assert_eq!((report.version.get(), report.policy.get()), (2, 0xb_0000));
    assert_eq!(report.signature.as_bytes(), &bytes[0x2a0..]);
    assert_eq!(report.measurement, bytes[0x90..0xc0]);
    assert_eq!(report.report_data, bytes[0x50..0x90]);
}
