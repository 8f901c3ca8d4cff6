//! How sessions end.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rstest::rstest;

use crate::session::{Session, Who};

/// Waits until something holds. A test that waits in vain ends by the harness's patience, not by a limit of its own.
fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts CMD in the background; it says its process number in the file `pid` when it is ready.
fn start(session: &Session, script: &str) -> (Child, String) {
    let script = format!("{script}\necho $$ > pid.new; mv pid.new pid; while :; do sleep 1 & wait $!; done");
    let mut command = session.command(&["run", "--tee", "snp", "--", "sh", "-c", &script]);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = session.out.path().join("pid");
    until(|| pid.exists());
    (child, fs::read_to_string(pid).unwrap().trim().to_owned())
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap().success());
}

/// Whether a process exists and is no zombie.
fn lives(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X'])))
}

#[rstest]
fn the_exit_status_is_passed_on(
    #[values(Who::Root, Who::User)] who: Who,
    #[values(0, 1, 3, 42, 255)] status: i32,
) {
    let Some(session) = Session::find(who) else { return };
    session.script("--tee snp", &format!("exit {status}")).with_status(status);
}

#[rstest]
#[case("TERM", 15)]
#[case("KILL", 9)]
#[case("SEGV", 11)]
#[case("INT", 2)]
fn a_death_by_signal_is_passed_on(#[case] name: &str, #[case] number: i32) {
    let Some(session) = Session::find(Who::Root) else { return };
    let said = session.script("--tee snp", &format!("kill -{name} $$"));
    assert_eq!(said.output.status.signal(), Some(number), "{}", said.err());
}

#[rstest]
#[case("./no-such-program", 127)]
#[case("/", 126)]
fn what_cannot_be_started_is_said_as_shells_do(#[case] program: &str, #[case] status: i32) {
    let Some(session) = Session::find(Who::Root) else { return };
    let said = session.say(&["run", "--tee", "snp", "--", program]).with_status(status);
    assert!(said.err().contains(program), "{}", said.err());
}

#[rstest]
fn signals_reach_cmd(#[values("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")] name: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let (child, _) = start(&session, &format!("trap 'echo {name} > got; exit 7' {name}"));
    signal(name, &child.id().to_string());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(session.file("got"), format!("{name}\n").as_bytes());
}

#[test]
fn a_killed_tsmsim_leaves_nothing() {
    let Some(session) = Session::find(Who::Root) else { return };
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let (mut child, pid) = start(&session, "mkdir /sys/kernel/config/tsm/report/x");
    assert_eq!(mounts(), before);
    assert!(lives(&pid));
    child.kill().unwrap();
    child.wait().unwrap();
    until(|| !lives(&pid));
    assert_eq!(mounts(), before);
    assert!(!Path::new("/sys/kernel/config/tsm").exists());
}

#[test]
fn those_that_cmd_leaves_behind_find_nothing_and_hold_nothing() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"
mkdir /sys/kernel/config/tsm/report/x
(
    exec > /dev/null 2> errors
    while [ ! -e go ]; do sleep 0.01; done
    cat /sys/kernel/config/tsm/report/x/generation
    touch done
) &
"#;
    session.script("--tee snp", script).with_status(0);
    fs::write(session.out.path().join("go"), "").unwrap();
    until(|| session.out.path().join("done").exists());
    let errors = String::from_utf8(session.file("errors")).unwrap();
    assert!(errors.contains("not connected"), "{errors}");
}

#[test]
fn closed_standard_streams_are_no_obstacle() {
    let Some(session) = Session::find(Who::Root) else { return };
    let program = &session.program;
    let run =
        r#"exec "$0" run --tee snp -- sh -c 'mkdir /sys/kernel/config/tsm/report/x && exit 9' <&- >&- 2>&-"#;
    let status = Command::new("sh").args(["-c", run]).arg(program).status().unwrap();
    assert_eq!(status.code(), Some(9));
}

#[test]
fn forked_children_share_an_open_file() {
    let Some(session) = Session::find(Who::Root) else { return };
    // The last close commits: here it is the child's.
    let script = r#"set -e
R=/sys/kernel/config/tsm/report/x
mkdir $R
exec 3> $R/inblob
head -c64 /dev/zero >&3
(sleep 0.2) &
exec 3>&-
cat $R/generation
wait
cat $R/generation
"#;
    assert_eq!(session.script("--tee snp", script).with_status(0).out(), "0\n1\n");
}

#[test]
fn a_long_session_writes_its_whole_journal() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
R=/sys/kernel/config/tsm/report/x
mkdir $R
i=0
while [ $i -lt 200 ]; do printf %064d $i > $R/inblob; cat $R/outblob > /dev/null; i=$((i+1)); done
"#;
    session.script("--tee snp --journal journal", script).with_status(0);
    let journal = String::from_utf8(session.file("journal")).unwrap();
    let numbers: Vec<u64> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "gaps");
    assert!(journal.lines().filter(|line| line.contains("Message")).count() >= 200);
}
