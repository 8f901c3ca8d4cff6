//! `snpguest`, the tool of AMD's virtee project: report, certificates, derived key, verification.

use std::{path::Path, process::Command};

use rstest::rstest;
use tsmsim_tests::need;

use crate::{flip, output, refusal, run};

/// Where in a report the user data and the measurement are.
const USER_DATA: usize = 0x50;

/// Report and certificates of one guest, in the files `report`, `request` and the directory `certificates`.
#[track_caller]
fn fetch(options: &str, directory: &Path) -> Option<()> {
    let snpguest = need::snpguest()?;
    let script = "\"$0\" report report request --random && \"$0\" certificates pem certificates && \
                  \"$0\" key key vcek && \"$0\" key other vmrk";
    output(run(options)?.args(["sh", "-ec", script]).arg(snpguest).current_dir(directory));
    Some(())
}

/// Its own verification, outside of the guest.
fn verification<const N: usize>(directory: &Path, words: [&str; N]) -> Option<Command> {
    let mut command = Command::new(need::snpguest()?);
    command.arg("verify").args(words).current_dir(directory);
    Some(command)
}

const CERTIFICATES: [&str; 2] = ["certs", "certificates"];
const ATTESTATION: [&str; 3] = ["attestation", "certificates", "report"];

#[rstest]
// Of a report of version 2, this snpguest cannot tell which product line it is.
#[case::milan("--tee snp --profile milan --report-version 3")]
#[case::genoa("--tee snp --profile genoa")]
#[case::turin("--tee snp --profile turin")]
#[case::vlek("--tee snp --profile genoa --vlek")]
fn snpguest_accepts_what_it_gets(#[case] options: &str) {
    let directory = tempfile::tempdir().unwrap();
    let Some(()) = fetch(options, directory.path()) else { return };
    for words in [&CERTIFICATES[..], &ATTESTATION[..]] {
        let mut command = Command::new(need::snpguest().unwrap());
        output(command.arg("verify").args(words).current_dir(directory.path()));
    }
    let [report, request, key, other] =
        ["report", "request", "key", "other"].map(|name| std::fs::read(directory.path().join(name)).unwrap());
    assert_eq!(report[USER_DATA..USER_DATA + 64], request[..64]);
    assert_eq!([key.len(), other.len()], [32; 2]);
    assert_ne!(key, other, "keys of different roots differ");
}

/// The judge above can refuse: a bit of the report, and certificates of another seed.
#[test]
fn snpguest_refuses_what_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    let Some(()) = fetch("--tee snp --profile turin", directory.path()) else { return };
    let Some(mut command) = verification(directory.path(), ATTESTATION) else { return };
    output(&mut command);
    flip(&directory.path().join("report"), USER_DATA);
    refusal(&mut command);
    let seed = "--seed 7473696d2074657374733a20616e6f74686572207365656400000000000000ff";
    let other = tempfile::tempdir().unwrap();
    let Some(()) = fetch(&format!("--tee snp --profile turin {seed}"), other.path()) else { return };
    std::fs::copy(directory.path().join("certificates/ark.pem"), other.path().join("certificates/ark.pem"))
        .unwrap();
    refusal(&mut verification(other.path(), CERTIFICATES).unwrap());
}

/// Without `tsmsim run` there is nothing to ask.
#[test]
fn snpguest_fails_outside() {
    let Some(snpguest) = need::snpguest() else { return };
    if Path::new("/dev/sev-guest").exists() {
        return need::skip(need::Lack::Hardware, "this machine has a real /dev/sev-guest");
    }
    let directory = tempfile::tempdir().unwrap();
    let said = refusal(
        Command::new(snpguest)
            .args(["report", "report", "request", "--random"])
            .current_dir(directory.path()),
    );
    assert!(said.contains("unable to open /dev/sev-guest"), "{said}");
}

/// In a stock kernel's own guest, where the driver and the device are Linux's: it verifies there what it got there.
#[test]
fn snpguest_accepts_what_a_stock_kernel_gives() {
    let (Some(snpguest), Some(tsmsim), Some(busybox), Some(_)) =
        (need::snpguest(), need::tsmsim(), need::program("busybox"), need::program("qemu-system-x86_64"))
    else {
        return;
    };
    let Some(kernel) = need::kernel_6_12() else { return };
    let mut command = Command::new(&tsmsim);
    command.args(["boot", "--engine", "qemu", "--tee", "snp", "--profile", "genoa"]);
    command.arg("--kernel").arg(kernel.join("vmlinuz"));
    command.arg("--modules").arg(kernel.join("lib/modules").join(kernel.file_name().unwrap()));
    for (host, guest) in [(&snpguest, "/bin/snpguest"), (&busybox, "/bin/busybox")] {
        command.arg("--add").arg(format!("{}:{guest}", host.display()));
    }
    let script = "cd /tmp; S=/bin/snpguest; $S report report request --random; $S certificates pem certificates; \
                  $S verify certs certificates; $S verify attestation certificates report; $S key key vcek";
    let said = output(command.args(["--", "/bin/busybox", "sh", "-ec", script]));
    assert!(said.contains("VEK signed the Attestation Report!"), "{said}");
}
