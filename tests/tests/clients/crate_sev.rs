//! The guest API of the `sev` crate, linked into this test program, which runs itself inside `tsmsim run`.

use std::{env, fs};

use sev::{
    certs::snp::{Certificate, Chain, Verifiable, ca},
    firmware::{
        guest::{AttestationReport, DerivedKey, Firmware, GuestFieldSelect},
        host::CertType,
    },
    parser::ByteParser,
};

use crate::{output, run};

/// Set in the copy of this program that runs inside.
const INSIDE: &str = "TSMSIM_TEST_INSIDE";

/// Runs the calling test again inside; `false` in the copy that is inside already.
#[track_caller]
fn runs_inside(options: &str, test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return false;
    }
    let Some(mut command) = run(options) else { return true };
    command.arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let said = output(&mut command);
    assert!(said.contains("1 passed"), "the test was to run inside: {said}");
    true
}

#[test]
fn the_sev_crate_is_served() {
    if runs_inside("--tee snp --profile milan", "crate_sev::the_sev_crate_is_served") {
        return;
    }
    let mut firmware = Firmware::open().unwrap();
    let data = *b"sixty-four bytes that the guest chose, which the report carries!";
    let plain = firmware.get_report(None, Some(data), Some(0)).unwrap();
    let (bytes, table) = firmware.get_ext_report(None, Some(data), Some(3)).unwrap();
    let report = AttestationReport::from_bytes(&bytes).unwrap();
    assert_eq!((&report.report_data[..], report.vmpl), (&data[..], 3));
    assert_eq!(AttestationReport::from_bytes(&plain).unwrap().measurement, report.measurement);

    let table = table.expect("the host has certificates");
    let der = |kind: CertType| {
        let entry = table.iter().find(|entry| entry.cert_type == kind);
        entry.unwrap_or_else(|| panic!("no {kind:?}")).data().to_vec()
    };
    let certificate = |kind| Certificate::from_der(&der(kind)).unwrap();
    let chain = Chain {
        ca: ca::Chain { ark: certificate(CertType::ARK), ask: certificate(CertType::ASK) },
        vek: certificate(CertType::VCEK),
    };
    (&chain, &report).verify().unwrap();
    let mut flipped = report;
    flipped.measurement[0] ^= 1;
    (&chain, &flipped).verify().unwrap_err();

    let ask = |vmpl| DerivedKey::new(false, GuestFieldSelect(0), vmpl, 0, 0, None);
    let keys = [0, 0, 1].map(|vmpl| firmware.get_derived_key(Some(1), ask(vmpl)).unwrap());
    assert_eq!(keys[0], keys[1], "the same request gives the same key");
    assert_ne!(keys[0], keys[2]);
    // No such VMPL: the firmware refuses, and the device lives on.
    firmware.get_report(None, Some(data), Some(4)).unwrap_err();
    fs::metadata("/sys/devices/platform/sev-guest").unwrap();
    firmware.get_report(None, Some(data), Some(1)).unwrap();
}
