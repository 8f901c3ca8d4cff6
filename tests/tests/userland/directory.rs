//! `--no-namespace --at DIR`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rstest::rstest;
use tsmsim_tests::need;

use crate::session::{Session, Who};

fn is_mounted(path: &str) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.contains(path))
}

#[rstest]
#[case("--tee snp", "sev_guest", "dev/sev-guest")]
#[case("--tee tdx", "tdx_guest", "dev/tdx_guest")]
#[case("--tee cove", "cove_guest", "sys/kernel/config")]
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

/// A directory that everybody may write to, and mount on.
fn place(session: &Session) -> String {
    let place = session.out.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    place.to_str().unwrap().to_owned()
}

#[test]
fn users_have_it_by_fusermount() {
    let Some(session) = Session::find(Who::User) else { return };
    if need::program("fusermount3").is_none() {
        return;
    }
    let place = place(&session);
    // An open file outlives CMD, and does not hold the directory.
    let cmd = "set -e; R=$TSMSIM_ROOT/sys/kernel/config/tsm/report/x; mkdir $R; head -c64 /dev/zero > $R/inblob; \
               cat $R/outblob | wc -c; cat $R/provider; \
               (exec 3< $R/generation; touch held; while [ ! -e go ]; do sleep 0.01; done) > /dev/null 2>&1 & \
               while [ ! -e held ]; do sleep 0.01; done; exit 5";
    let script = r#""$0" run --tee snp --no-namespace --at "$1" -- sh -c "$2"; echo $?
        ! grep -F " $1 " /proc/self/mounts && ls -A "$1" | wc -l; touch go"#;
    let program = session.program_inside();
    let arguments = ["-c", script, program.to_str().unwrap(), &place, cmd];
    let output = session.other(Path::new("sh"), &arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "1184\nsev_guest\n5\n0\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[rstest]
fn a_killed_tsmsim_leaves_no_dead_mount(#[values(Who::Root, Who::User)] who: Who) {
    let Some(session) = Session::find(who) else { return };
    if who == Who::User && need::program("fusermount3").is_none() {
        return;
    }
    let place = place(&session);
    // Both the kill and the look at what is left happen in the mount namespace where it was.
    let script = r#""$0" run --tee snp --no-namespace --at "$1" > /dev/null 2>&1 &
        while [ ! -e "$1/sys" ]; do sleep 0.01; done
        grep -cF " $1 " /proc/self/mounts
        kill -KILL $!
        while grep -qF " $1 " /proc/self/mounts; do sleep 0.01; done
        ls -A "$1" | wc -l"#;
    let program = session.program_inside();
    let arguments = ["-c", script, program.to_str().unwrap(), &place];
    let output = session.other(Path::new("sh"), &arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "1\n0\n", "{}", String::from_utf8_lossy(&output.stderr));
}
