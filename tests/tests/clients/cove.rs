//! A CoVE client: `configfs-tsm` of crates.io. Its program looks whether the provider is `tdx_guest`, and goes no further if
//! not. All else that it does is the same for any technology, so here it is told that the provider has that name.

use std::{fs, os::unix::fs::MetadataExt as _};

use rstest::rstest;
use tsmsim_tests::need::{self, Lack};

use crate::{flip, output, refusal, run, tdx::parse, verify};

#[test]
fn configfs_tsm_wants_a_td() {
    let Some(client) = need::configfs_tsm() else { return };
    let Some(mut command) = run("--tee cove") else { return };
    assert!(refusal(command.arg(client)).contains(r#"BadProvider("cove_guest")"#));
}

/// `$0` is the client. It takes an entry that is there, too.
const AS_IF_A_TD: &str = r#"set -e
entry=/sys/kernel/config/tsm/report/entry
mkdir $entry
echo tdx_guest > provider
mount --bind provider $entry/provider
exec "$0" entry
"#;

#[rstest]
#[case::cbor("--tee cove", 0xd2)]
#[case::x509("--tee cove --format x509", 0x30)]
fn configfs_tsm_gets_evidence(#[case] options: &str, #[case] first: u8) {
    let Some(client) = need::configfs_tsm() else { return };
    let Some(mut command) = run(options) else { return };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return need::skip(Lack::Hardware, "an ordinary user cannot mount over the provider");
    }
    let directory = tempfile::tempdir().unwrap();
    command.current_dir(directory.path()).args(["sh", "-c", AS_IF_A_TD]).arg(client);
    let said = output(&mut command);
    let mut lines = said.lines();
    let evidence = parse(lines.next().unwrap());
    assert_eq!((evidence[0], lines.next()), (first, Some("Generation: 1")));

    let [file, nonce, same] =
        ["evidence.bin", "inblob.bin", "of the same platform"].map(|name| directory.path().join(name));
    let middle = evidence.len() / 2;
    fs::write(&file, evidence).unwrap();
    fs::write(&nonce, [0; 64]).unwrap();
    let tsmsim = need::tsmsim().unwrap();
    let mut report = std::process::Command::new(&tsmsim);
    output(report.arg("report").args(options.split_whitespace()).arg("--out").arg(&same));
    let [chain, root, crl] = ["chain.pem", "root.pem", "crl.der"].map(|name| same.join(name));
    let arguments = || {
        [("--report", &file), ("--certs", &chain), ("--root", &root), ("--crl", &crl), ("--inblob", &nonce)]
            .map(|(option, file)| [option.as_ref(), file.as_os_str()])
            .concat()
    };
    verify(arguments());
    flip(&file, middle);
    refusal(std::process::Command::new(&tsmsim).arg("verify").args(arguments()));
}
