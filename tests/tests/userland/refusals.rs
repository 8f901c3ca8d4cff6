//! When `tsmsim run` does not start.

use std::process::Command;

use rstest::rstest;

use crate::session::{Session, Who};

/// Runs the program in a mount namespace that a script prepares.
fn prepared(session: &Session, script: &str, arguments: &str) -> (Option<i32>, String) {
    let program = &session.program;
    let script = format!("set -e\n{script}\nexec \"$0\" run {arguments}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(program);
    let output = command.current_dir(session.out.path()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A `/dev` with the host's nodes that are needed, and more.
const OWN_DEV: &str = "mkdir dev; mount -t tmpfs none dev; touch dev/fuse dev/null dev/urandom; \
    mount --bind /dev/fuse dev/fuse; mount --bind /dev/null dev/null; mount --bind /dev/urandom dev/urandom";

#[rstest]
#[case("sev-guest", "snp")]
#[case("sev-guest", "tdx")]
#[case("tdx_guest", "tdx")]
fn a_genuine_device_is_respected(#[case] device: &str, #[case] tee: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let prepare = format!("{OWN_DEV}; echo genuine > dev/{device}; mount --rbind dev /dev");
    let (status, err) = prepared(&session, &prepare, &format!("--tee {tee} -- true"));
    assert_eq!(status, Some(2), "{err}");
    assert!(err.contains(&format!("/dev/{device} exists")) && err.contains("--beside-real-tee"), "{err}");
    let arguments = format!("--tee {tee} --beside-real-tee -- sh -c '! grep -q genuine /dev/*guest'");
    let expected = if device.starts_with(if tee == "snp" { "sev" } else { "tdx" }) { 0 } else { 1 };
    assert_eq!(prepared(&session, &format!("rm -r dev; {prepare}"), &arguments).0, Some(expected));
}

#[test]
fn sessions_do_not_nest() {
    let Some(session) = Session::find(Who::Root) else { return };
    let program = session.program.to_str().unwrap().to_owned();
    let said = session.say(&["run", "--tee", "snp", "--", &program, "run", "--tee", "snp", "--", "true"]);
    assert!(said.with_status(2).err().contains("--beside-real-tee"));
}

#[rstest]
#[case("rm dev/fuse 2>/dev/null || umount dev/fuse; rm dev/fuse", "modprobe fuse")]
fn without_fuse_it_is_said_what_to_install(#[case] remove: &str, #[case] advice: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let prepare = format!("{OWN_DEV}; {remove}; mount --rbind dev /dev");
    let (status, err) = prepared(&session, &prepare, "--tee snp -- true");
    assert_eq!(status, Some(3), "{err}");
    assert!(err.contains("/dev/fuse") && err.contains(advice), "{err}");
}

#[test]
fn without_the_right_to_fuse_it_is_said_what_to_allow() {
    let Some(session) = Session::find(Who::Root) else { return };
    let prepare = format!(
        "{OWN_DEV}; umount dev/fuse; rm dev/fuse; mknod -m 600 dev/fuse c 10 229; \
        mount --rbind dev /dev; mount -t tmpfs -o mode=755 none \"$PWD\"; cd \"$PWD\"; touch tsmsim; mount --bind \"$0\" tsmsim; \
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$PWD/tsmsim\" run --tee snp -- true"
    );
    let (status, err) = prepared(&session, &prepare, "");
    assert_eq!(status, Some(3), "{err}");
    assert!(err.contains("/dev/fuse") && err.contains("--device /dev/fuse"), "{err}");
}

#[test]
fn without_namespaces_it_is_said_what_to_allow() {
    let Some(session) = Session::find(Who::User) else { return };
    // No user namespace may be made inside this one.
    let program = &session.program;
    let script = r#"set -e
mount -t proc proc /proc
echo 0 > /proc/sys/user/max_user_namespaces
echo 0 > /proc/sys/user/max_mnt_namespaces
exec "$0" run --tee snp -- true"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", script]);
    let output = command.arg(program).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("user.max_user_namespaces") && err.contains("--no-namespace"), "{err}");
}

#[rstest]
#[case("--tee snp")]
#[case("--tee snp --no-namespace -- true")]
#[case("--tee snp --at . -- true")]
#[case("--tee other -- true")]
#[case("--tee cove --format pem -- true")]
#[case("--tee snp --format cbor -- true")]
#[case("--tee tdx --format x509 -- true")]
#[case("--tee cove --profile milan -- true")]
#[case("--tee cove --vlek -- true")]
#[case("--tee cove --quote-version 5 -- true")]
#[case("--tee cove --scenario revoked-rot -- true")]
#[case("--tee cove --update early -- true")]
#[case("--tee cove --qgs qgs.socket -- true")]
#[case("-- true")]
#[case("--tee snp --style 5.0 -- true")]
#[case("--tee snp --no-namespace --at /no/such/directory")]
#[case("--tee tdx --profile milan -- true")]
#[case("--tee tdx --vlek -- true")]
#[case("--tee tdx --scenario revoked -- true")]
#[case("--tee snp --scenario revoked -- true")]
#[case("--tee snp --quote-version 5 -- true")]
fn arguments_that_make_no_sense_are_refused(#[case] arguments: &str) {
    let Some(session) = Session::find(Who::Root) else { return };
    let mut all = vec!["run"];
    all.extend(arguments.split_whitespace());
    session.say(&all).with_status(2);
}
