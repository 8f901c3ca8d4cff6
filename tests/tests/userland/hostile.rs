//! Callers that do what no client does. Whatever they do, others get their reports.

use rstest::rstest;
use tsmsim_tests::need;

use crate::session::{Session, Who};

/// `$ARGV[0]` is the seed, `$ARGV[1]` the device.
const WILD: &str = r#"
use strict; use Fcntl;
my ($seed, $device) = @ARGV;
srand($seed);
sub one { return $_[rand @_]; }
my $top = "/sys/kernel/config/tsm/report";
my @attributes = qw(inblob outblob auxblob generation provider privlevel privlevel_floor nothing . ..);
my (@handles, $buffer);
$SIG{PIPE} = "IGNORE";
for my $round (1 .. 600) {
    my $entry = $top . "/" . one("a", "b", "c", "x" x 255, "x" x 256, "");
    my $path = $entry . "/" . one(@attributes);
    my $what = int rand 16;
    if    ($what == 0) { mkdir $entry; }
    elsif ($what == 1) { rmdir one($entry, $top, "/sys/kernel/config/tsm", "/sys/kernel/config"); }
    elsif ($what == 2) { mkdir $path; rmdir $path; }
    elsif ($what == 3) { unlink $path; symlink "x", $path; link $device, "$path.x"; }
    elsif ($what == 4) { rename $entry, $top . "/" . one("a", "d", "../e", "."); }
    # Not the directory of the entries: without rights to that, others could not go on.
    elsif ($what == 5 && $path =~ m{/[abc]/[a-z_]+$}) { chmod int rand 0777, $path; chown -1, -1, $path; utime 1, 1, $path; truncate $path, one(0, 1, 1 << 40); }
    elsif ($what == 5 || $what == 6) { opendir my $directory, one($top, $entry, "/sys") or next; my @names = readdir $directory; }
    elsif ($what <= 9) {
        my $mode = one(O_RDONLY, O_WRONLY, O_RDWR) | one(0, O_TRUNC, O_APPEND, O_CREAT, O_EXCL | O_CREAT, O_NONBLOCK);
        sysopen my $file, one($path, $path, $device), $mode or next;
        push @handles, $file;
        splice @handles, rand @handles, 1 if @handles > 20;
    }
    elsif (@handles) {
        my $file = one(@handles);
        sysseek $file, one(0, 1, 63, 64, 4095, 1 << 20, 1 << 62), 0 if $what == 10;
        sysread $file, $buffer, one(0, 1, 64, 4096, 65536, 1 << 20) if $what == 11;
        syswrite $file, one("1\n", "svsm", "\0", "x" x 64, "x" x 65, "y" x 5000, "z" x 300000) if $what == 12;
        ioctl $file, one(0, 1, 0x5401, 0xc0205300, 0xffffffff, int rand 2**32), my $zero = "\0" x 32768 if $what == 13;
        if ($what == 14) {
            my $argument = pack "C x7 Q Q Q", int rand 3, map { one(0, 1, 4096, 2**47, 2**63, -1, int rand 2**48) } 1 .. 3;
            ioctl $file, 0xc0205300 + int rand 4, $argument;
            my $report = pack("a1088", join "", map { chr rand 256 } 1 .. 64);
            ioctl $file, 0xc4405401, $report;
        }
        if ($what == 15 && !fork) { undef $file; sysread $_, $buffer, 64 for @handles; exec "true" if rand > 0.5; kill 9, $$; }
    }
}
"#;

#[rstest]
fn others_go_on(
    #[values(Who::Root, Who::User)] who: Who,
    #[values(("snp", "/dev/sev-guest"), ("tdx", "/dev/tdx_guest"), ("cove", "/dev/null"))] machine: (
        &str,
        &str,
    ),
) {
    let Some(session) = Session::find(who) else { return };
    if need::program("perl").is_none() {
        return;
    }
    let (tee, device) = machine;
    std::fs::write(session.out.path().join("wild.pl"), WILD).unwrap();
    let script = format!(
        r#"
exec 2>> noise
for seed in 1 2 3 4; do perl wild.pl $seed {device} >> noise & done
R=/sys/kernel/config/tsm/report/other
mkdir $R
for i in $(seq 30); do
    printf %064d $i > $R/inblob && cat $R/outblob > outblob && test -s outblob || exit 11
    test "$(cat $R/generation)" = $i || exit 12
done
wait
printf %064d 99 > inblob
cat inblob > $R/inblob && cat $R/outblob > outblob && cp $R/auxblob auxblob
test "$(cat $R/generation)" = 31
"#
    );
    let said = session.script(&format!("--tee {tee}"), &script);
    let noise = String::from_utf8_lossy(&session.file("noise")).into_owned();
    assert_eq!(said.output.status.code(), Some(0), "{noise}");
    assert!(!noise.contains("not connected") && !noise.contains("syntax error"), "{noise}");
    if tee == "snp" {
        session
            .tsmsim(&["verify", "--report", "outblob", "--certs", "auxblob", "--inblob", "inblob"])
            .with_status(0);
    }
}
