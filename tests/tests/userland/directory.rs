//! `--no-namespace --at DIR`.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rstest::rstest;

use crate::session::{Session, Who};

fn is_mounted(path: &str) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.contains(path))
}

#[rstest]
#[case("--tee snp", "sev_guest", "dev/sev-guest")]
#[case("--tee tdx", "tdx_guest", "dev/tdx_guest")]
fn cmd_finds_the_directory(#[case] options: &str, #[case] provider: &str, #[case] device: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let script = format!(
        "set -e; R=$TSMSIM_ROOT/sys/kernel/config/tsm/report/x; mkdir $R; head -c64 /dev/zero > $R/inblob; \
         cat $R/outblob > /dev/null; cat $R/provider; test -e $TSMSIM_ROOT/{device}; ls -a $TSMSIM_ROOT > /dev/null; exit 5"
    );
    let said = session.script(&format!("{options} --no-namespace --at {path}"), &script).with_status(5);
    assert_eq!(said.out(), format!("{provider}\n"));
    assert!(!is_mounted(path));
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}

#[rstest]
fn without_cmd_it_lasts_until_it_is_told(#[values("INT", "TERM")] signal: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let mut command = session.command(&["run", "--tee", "snp", "--no-namespace", "--at", path]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let entry = root.path().join("sys/kernel/config/tsm/report/x");
    while !entry.parent().unwrap().exists() {
        thread::sleep(Duration::from_millis(5));
    }
    fs::create_dir(&entry).unwrap();
    fs::write(entry.join("inblob"), [7; 64]).unwrap();
    assert_eq!(fs::read(entry.join("outblob")).unwrap()[80..144], [7; 64]);
    assert_eq!(fs::read_to_string(entry.join("generation")).unwrap(), "1\n");
    // An open file does not keep the directory from being given back.
    let open = fs::File::open(entry.join("outblob")).unwrap();
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(open);
    assert!(!is_mounted(path));
}
