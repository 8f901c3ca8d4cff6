//! What a long session costs.

use std::{
    env,
    fs::{self, File},
    io::Read,
    os::unix::process::parent_id,
    path::Path,
};

use rstest::rstest;

use crate::session::{Session, Who};

/// Set in the copy of this program that runs inside.
const INSIDE: &str = "TSMSIM_TEST_INSIDE";

/// Reports before the memory is first looked at, and behind that.
const FIRST: u32 = 1_000;
const MORE: u32 = 9_000;

/// What may come and go, in KiB: pages of threads' heaps and stacks. One KiB kept of each report would be more than twice this.
const SLACK: u64 = 4 << 10;

/// `VmRSS` of the program that CMD was started by, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", parent_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn reports(entry: &Path, numbers: std::ops::Range<u32>) {
    let mut report = Vec::new();
    for number in numbers {
        let mut nonce = [0; 64];
        nonce[..4].copy_from_slice(&number.to_le_bytes());
        fs::write(entry.join("inblob"), nonce).unwrap();
        report.clear();
        File::open(entry.join("outblob")).unwrap().read_to_end(&mut report).unwrap();
        assert!(report.windows(64).any(|bytes| bytes == nonce), "the report carries the data");
    }
    assert!(!report.is_empty());
}

#[rstest]
#[case::snp("memory::ten_thousand_reports_leave_memory_flat::case_1_snp", "snp")]
#[case::tdx("memory::ten_thousand_reports_leave_memory_flat::case_2_tdx", "tdx")]
#[case::cove("memory::ten_thousand_reports_leave_memory_flat::case_3_cove", "cove")]
fn ten_thousand_reports_leave_memory_flat(#[case] test: &str, #[case] tee: &str) {
    if env::var_os(INSIDE).is_none() {
        let Some(session) = Session::find(Who::Root) else { return };
        let itself = env::current_exe().unwrap();
        let mut command = session.command(&["run", "--tee", tee, "--randomized", "--"]);
        command.arg(itself).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
        return;
    }
    let entry = Path::new("/sys/kernel/config/tsm/report/flat");
    fs::create_dir(entry).unwrap();
    reports(entry, 0..FIRST);
    let before = resident();
    reports(entry, FIRST..FIRST + MORE);
    let after = resident();
    assert_eq!(fs::read_to_string(entry.join("generation")).unwrap(), format!("{}\n", FIRST + MORE));
    println!("resident: {before} KiB after {FIRST} reports, {after} KiB after {MORE} more");
    assert!(after < before + SLACK, "{before} KiB grew to {after} KiB");
}
