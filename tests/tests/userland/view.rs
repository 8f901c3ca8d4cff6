//! What CMD sees besides reports.

use rstest::rstest;

use crate::session::{Session, Who};

#[rstest]
fn what_was_there_is_still_there(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("--tee snp", "--tee tdx --style 6.16")] options: &str,
) {
    let Some(session) = Session::find(who) else { return };
    let names = "for d in /sys/kernel /dev /sys/class/misc /sys/devices/virtual/misc /sys/devices/platform \
                 /sys; do echo $d; ls -1 $d; done";
    let before = std::process::Command::new("sh").args(["-c", names]).output().unwrap().stdout;
    let before = String::from_utf8(before).unwrap();
    let after = session.script(options, names).with_status(0).out();
    for name in before.lines() {
        assert!(after.lines().any(|line| line == name), "{name} is gone: {after}");
    }
    assert!(after.lines().any(|line| line == "config"), "{after}");
}

#[rstest]
fn devices_of_the_host_work(#[values(Who::Root, Who::User)] who: Who) {
    let Some(session) = Session::find(who) else { return };
    let script = r#"set -e
head -c4 /dev/zero | wc -c
echo gone > /dev/null
test -c /dev/null
test -d /dev/pts
id -u
cat /sys/kernel/address_bits > /dev/null || cat /sys/kernel/notes > /dev/null
test "$(readlink /dev/stdin)" = /proc/self/fd/0
exec 3<> /dev/ptmx
"#;
    let uid = if who == Who::Root { "0" } else { "65534" };
    let said = session.script("--tee snp", script).with_status(0);
    if who == Who::Root {
        assert_eq!(said.out(), format!("4\n{uid}\n"));
    }
}

#[test]
fn nothing_is_written_to_the_host() {
    let Some(session) = Session::find(Who::Root) else { return };
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    session.script("--tee snp", "ls /dev/sev-guest && touch /dev/mine").with_status(0);
    assert_eq!(names(), before);
    assert!(!std::path::Path::new("/sys/kernel/config/tsm").exists());
}

#[rstest]
#[case("--tee snp", "/dev/sev-guest /sys/devices/platform/sev-guest /sys/class/misc/sev-guest/uevent")]
#[case(
    "--tee tdx --style 6.12",
    "/dev/tdx_guest /sys/firmware/acpi/tables/CCEL /sys/firmware/acpi/tables/data/CCEL"
)]
#[case("--tee tdx --style 6.16", "/sys/class/misc/tdx_guest/measurements/rtmr2:sha384")]
fn agents_find_what_they_look_for(
    #[values(Who::Root, Who::User)] who: Who,
    #[case] options: &str,
    #[case] paths: &str,
) {
    let Some(session) = Session::find(who) else { return };
    session.script(options, &format!("for path in {paths}; do test -r $path || exit 1; done")).with_status(0);
    let other = if options.contains("snp") { "/dev/tdx_guest" } else { "/dev/sev-guest" };
    session.script(options, &format!("test ! -e {other}")).with_status(0);
}

/// CoVE has no device file and nothing in sysfs: only configfs is added.
#[rstest]
fn a_tvm_has_configfs_alone(#[values(Who::Root, Who::User)] who: Who) {
    let Some(session) = Session::find(who) else { return };
    let names = "ls -1 /dev /sys /sys/class/misc /sys/devices/virtual/misc /sys/devices/platform";
    let before = std::process::Command::new("sh").args(["-c", names]).output().unwrap().stdout;
    let after = session.script("--tee cove --style 6.16", names).with_status(0).out();
    assert_eq!(after, String::from_utf8(before).unwrap());
    session.script("--tee cove", "test -d /sys/kernel/config/tsm/report").with_status(0);
    session.script("--tee snp", &format!("{names} | grep -q sev-guest")).with_status(0);
}

#[test]
fn measurement_registers_are_extended() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
cd /sys/devices/virtual/misc/tdx_guest/measurements
before=$(od -An -tx1 rtmr3:sha384)
head -c48 /dev/urandom > rtmr3:sha384
test "$(od -An -tx1 rtmr3:sha384)" != "$before"
! head -c47 /dev/urandom > rtmr3:sha384 2>/dev/null
! head -c48 /dev/urandom > mrowner 2>/dev/null
wc -c < mrtd:sha384 || wc -c < mrtd
"#;
    let said = session.script("--tee tdx --style 6.16", script).with_status(0);
    assert_eq!(said.out().trim(), "48");
    session
        .script("--tee tdx --style 6.12", "test ! -e /sys/devices/virtual/misc/tdx_guest/measurements")
        .with_status(0);
}

#[test]
fn chroots_see_what_is_bound_into_them() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
mkdir root root/sys root/bin root/out
mount --rbind /sys root/sys
mount --rbind / root/out
cat > root/report <<'END'
R=/sys/kernel/config/tsm/report/inside
mkdir $R && head -c64 /dev/zero > $R/inblob && cat $R/outblob > /dev/null && cat $R/provider
END
chroot root/out sh "$PWD/root/report"
umount -l root/out root/sys
"#;
    assert_eq!(session.script("--tee snp", script).with_status(0).out(), "sev_guest\n");
}

#[test]
fn modes_and_owners_hold_for_others_too() {
    let Some(session) = Session::find(Who::Root) else { return };
    let script = r#"set -e
R=/sys/kernel/config/tsm/report/theirs
mkdir $R
! setpriv --reuid=65534 --clear-groups sh -c "echo 1 > $R/privlevel" 2>/dev/null
! setpriv --reuid=65534 --clear-groups mkdir $R/../mine 2>/dev/null
! setpriv --reuid=65534 --clear-groups head -c1 /dev/sev-guest 2>/dev/null
setpriv --reuid=65534 --clear-groups cat $R/generation
chown 65534 $R/privlevel $R/inblob
setpriv --reuid=65534 --clear-groups sh -c "echo 1 > $R/privlevel"
stat -c '%u %a %s' $R/privlevel $R/generation
"#;
    assert_eq!(session.script("--tee snp", script).with_status(0).out(), "0\n65534 200 4096\n0 444 4096\n");
}
