//! TDX clients: `configfs-tsm` of crates.io, `cctrusted-vm` of PyPI.

use std::fs;

use rstest::rstest;
use tsmsim_tests::need;

use crate::{flip, output, refusal, run, verify};

/// The quote that a list of numbers in Rust's notation holds.
pub(crate) fn parse(list: &str) -> Vec<u8> {
    let list = list.trim_start_matches("Quote: [").trim_end_matches(']');
    list.split(", ").map(|number| number.parse().unwrap()).collect()
}

#[rstest]
#[case::tdx_1_0("--tee tdx --profile tdx-1.0", 4)]
#[case::tdx_1_5("--tee tdx --profile tdx-1.5", 4)]
#[case::version_5("--tee tdx --profile tdx-1.5 --quote-version 5", 5)]
fn configfs_tsm_gets_a_quote(#[case] options: &str, #[case] version: u8) {
    let Some(client) = need::configfs_tsm() else { return };
    let Some(mut command) = run(options) else { return };
    let said = output(command.arg(client).arg("an entry's name"));
    let mut lines = said.lines();
    let quote = parse(lines.next().unwrap());
    assert_eq!((quote[0], lines.next()), (version, Some("Generation: 1")));

    let directory = tempfile::tempdir().unwrap();
    let [file, nonce] = ["quote.bin", "inblob.bin"].map(|name| directory.path().join(name));
    fs::write(&file, quote).unwrap();
    fs::write(&nonce, [0; 64]).unwrap();
    let collateral = collateral(options, directory.path());
    let arguments = || {
        [("--report", &file), ("--collateral", &collateral), ("--inblob", &nonce)]
            .map(|(option, file)| [option.as_ref(), file.as_os_str()])
            .concat()
    };
    verify(arguments());
    flip(&file, 600);
    refusal(std::process::Command::new(need::tsmsim().unwrap()).arg("verify").args(arguments()));
}

/// The collateral of the platform that these options of `run` describe.
fn collateral(options: &str, directory: &std::path::Path) -> std::path::PathBuf {
    let out = directory.join("of the same platform");
    let tsmsim = need::tsmsim().expect("the calling test found it before");
    output(
        std::process::Command::new(tsmsim)
            .arg("report")
            .args(options.split_whitespace())
            .arg("--out")
            .arg(&out),
    );
    out.join("collateral.json")
}

/// Intel's `cctrusted-vm` reads the quote from configfs, the registers by ioctl, and the event log from the CCEL tables,
/// and replays the one against the other with its own code.
const SCRIPT: &str = r#"
import base64, hashlib, sys
from cctrusted_vm import CCTrustedVmSdk
from cctrusted_base.eventlog import EventLogs

sdk = CCTrustedVmSdk.inst()
nonce = b"a nonce"
quote = sdk.get_cc_report(base64.b64encode(nonce).decode(), None, None)
body = quote.get_quoted_data() if hasattr(quote, "get_quoted_data") else None
open(sys.argv[1] + "/quote.bin", "wb").write(bytes(quote.data))
open(sys.argv[1] + "/inblob.bin", "wb").write(hashlib.sha512(nonce).digest())

log = sdk.get_cc_eventlog()
assert len(log.event_logs if hasattr(log, "event_logs") else log) > 1, "the event log has events"
replayed = sdk.replay_cc_eventlog(log)
algorithm = sdk.get_default_algorithms().alg_id
assert sdk.get_measurement_count() == 4
for index in range(4):
    register = bytes(sdk.get_cc_measurement([index, algorithm]).digest(algorithm).hash)
    if index in replayed:
        assert bytes(replayed[index][algorithm]) == register, index
    else:
        assert register == bytes(48), index
print("registers replayed:", sorted(replayed))
"#;

#[test]
fn cctrusted_replays_the_event_log() {
    let Some(python) = need::python() else { return };
    let options = "--tee tdx --profile tdx-1.5";
    let Some(mut command) = run(options) else { return };
    let directory = tempfile::tempdir().unwrap();
    let said = output(command.arg(python).args(["-c", SCRIPT]).arg(directory.path()));
    assert!(said.contains("registers replayed: [0"), "{said}");
    let [file, nonce] = ["quote.bin", "inblob.bin"].map(|name| directory.path().join(name));
    let collateral = collateral(options, directory.path());
    verify(
        [("--report", &file), ("--collateral", &collateral), ("--inblob", &nonce)]
            .map(|(option, file)| [option.as_ref(), file.as_os_str()])
            .concat(),
    );
}
