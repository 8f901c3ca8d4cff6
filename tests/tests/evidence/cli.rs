//! The program's contract: exit statuses, JSON, help, files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rstest::rstest;
use serde_json::Value;
use tsmsim_tests::{need, workspace};

use crate::program::{OTHER_SEED, Tsmsim, files, hex, run};

/// The help of each command: names and meanings of options are a contract.
#[rstest]
#[case("tsmsim", &[])]
#[case("demo", &["demo"])]
#[case("report", &["report"])]
#[case("run", &["run"])]
#[case("boot", &["boot"])]
#[case("conform", &["conform"])]
#[case("verify", &["verify"])]
#[case("show", &["show"])]
#[case("measure", &["measure"])]
#[case("keys", &["keys"])]
#[case("keys-init", &["keys", "init"])]
#[case("keys-export", &["keys", "export"])]
#[case("keys-fingerprint", &["keys", "fingerprint"])]
fn help(#[case] name: &str, #[case] command: &[&str]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let said = tsmsim.run(command.iter().chain(&["--help"])).with_status(0);
    insta::assert_snapshot!(format!("help-{name}"), said.out);
}

/// What cannot be meant: exit status 2, a sentence on standard error, nothing on standard output.
#[rstest]
#[case::nothing("", "Usage: tsmsim")]
#[case::unknown_command("attest", "unrecognized subcommand 'attest'")]
#[case::unknown_option("demo --faster", "unexpected argument '--faster'")]
#[case::no_tee("report --out nowhere", "--tee <TEE>")]
#[case::unknown_tee("report --tee sgx --out nowhere", "invalid value 'sgx' for '--tee <TEE>'")]
#[case::unknown_profile(
    "report --tee snp --profile rome --out nowhere",
    "[possible values: milan, genoa, turin, tdx-1.0, tdx-1.5, cove-0.7]"
)]
#[case::unknown_version("report --tee snp --report-version 4 --out nowhere", "[possible values: 2, 3, 5]")]
#[case::short_seed("report --tee snp --seed 1234 --out nowhere", "--seed takes 64 hexadecimal digits")]
#[case::bad_nonce("report --tee snp --nonce 0x5g --out nowhere", "\"5g\" is not hexadecimal")]
#[case::odd_nonce("report --tee snp --nonce 123 --out nowhere", "an even number of hexadecimal digits")]
#[case::two_user_data("report --tee snp --nonce 00 --inblob x --out nowhere", "cannot be used with")]
#[case::missing_inblob("report --tee snp --inblob no/such/file --out nowhere", "cannot read no/such/file")]
#[case::vmpl_four("report --tee snp --vmpl 4 --out nowhere", "4 is not in 0..=3")]
#[case::short_host_data("report --tee snp --host-data 00 --out nowhere", "give 32 bytes (64 digits), not 1")]
#[case::no_evidence("verify", "<--dir <DIR>|--report <FILE>>")]
#[case::two_evidences("verify --dir a --report b", "cannot be used with")]
#[case::no_directory("verify --dir no/such/directory", "no/such/directory")]
#[case::no_report("verify --report no/such/file", "no/such/file")]
#[case::bad_time("verify --dir . --at yesterday", "--at: ")]
#[case::short_measurement("verify --dir . --measurement 00", "give 48 bytes (96 digits), not 1")]
#[case::nothing_to_show("show", "<FILE>")]
#[case::show_nothing("show no/such/file", "no/such/file")]
#[case::svg_and_json("show x --json --svg y", "cannot be used with")]
#[case::no_image("measure --tee snp --ovmf no/such/file", "cannot read no/such/file")]
#[case::no_kernel("measure --tee snp --kernel no/such/file", "cannot read no/such/file")]
#[case::initrd_alone("measure --tee snp --initrd x", "required arguments were not provided")]
#[case::modules_alone("measure --tee snp --modules x", "required arguments were not provided")]
#[case::no_vcpus("measure --tee snp --ovmf x --vcpus 0", "0 is not in 1..=512")]
#[case::unknown_model("measure --tee snp --ovmf x --vcpu-type Pentium", "invalid value 'Pentium'")]
#[case::no_guest("demo --kernel no/such/file", "cannot read no/such/file")]
#[case::keys_nothing("keys", "Usage: tsmsim keys")]
#[case::keys_seed("keys fingerprint --seed zz", "--seed takes 64 hexadecimal digits")]
fn usage_errors(#[case] words: &str, #[case] says: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let said = run(tsmsim.command(words.split_whitespace()).current_dir(directory.path())).with_status(2);
    assert!(said.err.contains(says), "{}", said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
    assert_eq!(said.out, "");
    assert_eq!(files(directory.path()), [], "nothing is written");
}

/// A report carries 64 bytes, no more; a file of more is refused before anything is written.
#[test]
fn user_data_of_65_bytes() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [inblob, out] = ["inblob", "out"].map(|name| directory.path().join(name));
    fs::write(&inblob, [1; 65]).unwrap();
    let said = tsmsim.say("report --tee snp", &[("--inblob", &inblob), ("--out", &out)]).with_status(2);
    assert_eq!(said.err, "tsmsim: a report carries 64 bytes, not 65\n");
    assert!(!out.exists());
}

/// Where no virtual machine can be run, the demonstration says so: exit status 3. Here because a process that may open one
/// file more cannot make a virtual machine, on whatever machine the test runs. Without QEMU on the path its guests are not
/// run, which is told in their rows.
#[test]
fn a_machine_that_lacks_something() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let Some(shell) = need::program("sh") else { return };
    let mut command = Command::new(shell);
    command.args(["-c", "ulimit -n 4; exec \"$0\" demo --json"]).arg(&tsmsim.0).env("PATH", "/nonexistent");
    let said = run(&mut command).with_status(3);
    assert!(said.err.starts_with("tsmsim: no virtual machine can be run here: "), "{}", said.err);
    let rows = said.json();
    let rows = rows.as_array().unwrap();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    let (on_qemu, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| name(row).starts_with("qemu-"));
    assert_eq!((on_qemu.len(), others.len()), (4, 9));
    assert!(others.iter().all(|row| row["verified"] == true), "{rows:#?}");
    // The interpreter needs nothing of the machine.
    let (interpreted, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|row| name(row).starts_with("ckb-vm-"));
    assert!(interpreted.len() == 1 && others.iter().all(|row| row["checks"].is_null()), "{rows:#?}");
    for row in on_qemu {
        assert!(row["verified"].is_null() && row["reason"].is_null(), "{row:#}");
        let qemu = if name(row).contains("cove") { "qemu-system-misc" } else { "qemu-system-x86" };
        assert!(row["lacking"].as_str().unwrap().contains(&format!("package {qemu}")), "{row:#}");
    }
}

/// Every JSON document has the keys that programs may rely on.
#[test]
fn json_has_the_promised_keys() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let report = tsmsim.report(out, "--json").json();
    let described = ["chip_id", "generator", "measurement", "policy", "profile", "report_data", "report_id"];
    assert_keys(&report, &described);
    assert_keys(
        &report,
        &["report_version", "reported_tcb", "sha256", "signing_key", "synthetic", "tee", "vmpl"],
    );
    let written: Value = serde_json::from_slice(&fs::read(out.join("evidence.json")).unwrap()).unwrap();
    assert_eq!(report, written, "what is printed is what is written");

    let verdict = tsmsim.say("verify --json", &[("--dir", out)]).with_status(0).json();
    assert_keys(&verdict, &["accepted", "reason", "root", "at", "checks"]);
    assert_keys(&verdict["root"], &["kind", "name", "given"]);
    let checks = verdict["checks"].as_array().unwrap();
    assert!(checks.len() > 50);
    checks.iter().for_each(|check| assert_keys(check, &["object", "field", "outcome", "detail"]));

    let measured = tsmsim.say("measure --tee snp --json", &[]);
    assert_keys(&measured.with_status(0).json(), &["tee", "measurement"]);
    let fingerprints = tsmsim.say("keys fingerprint --json", &[]).with_status(0).json();
    assert_keys(&fingerprints, &["published_seed", "certificates"]);
}

#[track_caller]
fn assert_keys(value: &Value, keys: &[&str]) {
    let missing: Vec<_> = keys.iter().filter(|key| value.get(key).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} in {value:#}");
}

/// Each kind of file, and what must be seen in it.
#[rstest]
#[case::report("report.bin", &["attestation report", "SEV-SNP", "measurement", "reported_tcb"])]
#[case::ark("ark.der", &["ARK-Genoa", "RSASSA-PSS", "keyUsage"])]
#[case::ask("ask.der", &["SEV-Genoa", "ARK-Genoa"])]
#[case::vcek("vcek.der", &["SEV-VCEK", "hwID", "secp384r1"])]
#[case::crl("crl.der", &["ARK-Genoa", "nextUpdate"])]
#[case::table("certs.bin", &["certificate table", "VCEK", "SEV-VCEK"])]
fn files_are_shown(#[case] name: &str, #[case] says: &[&str]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.report(directory.path(), "--profile genoa");
    assert_shown(&tsmsim, &directory.path().join(name), says);
}

#[rstest]
#[case::report("milan-report.bin", &["attestation report", "SEV-SNP", "measurement"])]
#[case::vcek("turin-vcek.der", &["SEV-VCEK", "hwID"])]
#[case::chain("milan-asvk-ark.pem", &["SEV-VLEK-Milan", "ARK-Milan"])]
fn genuine_files_are_shown(#[case] name: &str, #[case] says: &[&str]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    assert_shown(&tsmsim, &workspace::vectors().join("genuine/snp").join(name), says);
}

/// As text and as JSON, both with the same in it.
#[track_caller]
fn assert_shown(tsmsim: &Tsmsim, file: &Path, says: &[&str]) {
    let text = tsmsim.say("show", &[("", file)]).with_status(0).out;
    let json = tsmsim.say("show --json", &[("", file)]).with_status(0);
    assert!(json.json().is_object(), "{}", json.out);
    for part in says {
        assert!(text.contains(part), "{part}: {text}");
        assert!(json.out.contains(part), "{part}: {}", json.out);
    }
}

/// The picture of the chain is well-formed, and says what the verdict is.
#[rstest]
#[case::accepted("", "", "report.bin", "accepted")]
#[case::vlek("--vlek", "", "report.bin", "accepted")]
#[case::refused("", "ask.der", "report.bin", "refused")]
#[case::table("", "", "certs.bin", "accepted")]
fn a_picture_of_the_chain(#[case] words: &str, #[case] spoilt: &str, #[case] file: &str, #[case] says: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    tsmsim.report(out, words);
    if !spoilt.is_empty() {
        let mut bytes = fs::read(out.join(spoilt)).unwrap();
        bytes[900] ^= 1;
        fs::write(out.join(spoilt), bytes).unwrap();
    }
    let picture = out.join("chain.svg");
    let said = tsmsim.say("show", &[("", &out.join(file)), ("--svg", &picture)]).with_status(0);
    assert!(said.out.contains(says), "{}", said.out);
    let text = fs::read_to_string(&picture).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let root = document.root_element();
    assert_eq!(
        (root.tag_name().name(), root.tag_name().namespace()),
        ("svg", Some("http://www.w3.org/2000/svg"))
    );
    let words: String = root.descendants().filter_map(|node| node.text()).collect::<Vec<_>>().join(" ");
    assert!(words.contains("ARK") && words.contains(says), "{words}");
    // Nothing is fetched from elsewhere when somebody looks at it.
    assert!(root.descendants().all(|node| node.attributes().all(|attribute| attribute.name() != "href")));
}

/// Whatever the bytes are, they are shown or refused; a file that is none of the known kinds is said to be that.
#[rstest]
#[case::nothing(&[])]
#[case::text(b"hello\n")]
#[case::zeros(&[0; 1184])]
#[case::sequence(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])]
#[case::pem(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")]
fn strange_files(#[case] bytes: &[u8]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, bytes).unwrap();
    for words in ["show", "show --json"] {
        let said = tsmsim.say(words, &[("", &file)]);
        assert!(matches!(said.status, 0 | 2), "{}: {}", said.status, said.err);
        assert!(said.status == 0 || said.err.contains(file.to_str().unwrap()), "{}", said.err);
    }
    let said = tsmsim.say("verify", &[("--report", &file)]).with_status(1);
    assert!(said.last_line().starts_with("refused: "), "{}", said.last_line());
}

/// Directories where files are wanted, and the other way round.
#[test]
fn unreadable_files() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (path, file) = (directory.path(), directory.path().join("file"));
    fs::write(&file, b"x").unwrap();
    for (words, paths) in [
        ("show", vec![("", path)]),
        ("verify", vec![("--report", path)]),
        ("verify", vec![("--dir", path)]),
        ("verify", vec![("--dir", file.as_path())]),
        ("measure --tee snp", vec![("--ovmf", path)]),
        ("report --tee snp", vec![("--inblob", path), ("--out", &file)]),
        ("report --tee snp", vec![("--out", &file)]),
        ("keys init", vec![("--out", &file)]),
    ] {
        let said = tsmsim.say(words, &paths).with_status(2);
        assert!(
            said.err.starts_with("tsmsim: ") && said.err.contains(path.to_str().unwrap()),
            "{}",
            said.err
        );
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
}

/// Name in the list of fingerprints, and its sums.
fn published() -> Vec<(String, Vec<String>)> {
    let read = |path| fs::read_to_string(workspace::root().join("keys/default").join(path)).unwrap();
    let list = read("FINGERPRINTS") + &read("intel/FINGERPRINTS") + &read("cove/FINGERPRINTS");
    let words = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.collect())
    };
    list.lines().map(words).collect()
}

/// The fingerprints of the default seed are the published ones, and its exported files have them.
#[test]
fn the_published_fingerprints_are_those_of_the_default_seed() {
    use sha2::{Digest as _, Sha256};
    let Some(tsmsim) = Tsmsim::find() else { return };
    let said = tsmsim.say("keys fingerprint --json", &[]).with_status(0).json();
    assert_eq!(said["published_seed"], true);
    let text = tsmsim.say("keys fingerprint", &[]).with_status(0).out;
    assert!(text.contains("worthless"), "{text}");
    let entries = said["certificates"].as_array().unwrap();
    assert_eq!(entries.len(), 14);
    let published = published();
    for entry in entries {
        let key = |name: &str| entry[name].as_str().unwrap();
        let file = format!("{}/{}.der", key("line"), key("name")).to_lowercase().replace(' ', "-");
        let (_, sums) = published.iter().find(|(name, _)| *name == file).unwrap();
        assert_eq!(sums[..], [key("certificate_sha256"), key("public_key_sha256")], "{file}");
        assert!(sums.iter().all(|sum| text.contains(sum)));
    }
    let directory = tempfile::tempdir().unwrap();
    let listed = tsmsim.say("keys export", &[("--out", directory.path())]).with_status(0).out;
    assert_eq!(listed.lines().count(), 3 * 6 + 10 + 5);
    assert!(listed.lines().all(|line| Path::new(line).is_file()), "{listed}");
    for (file, sums) in &published {
        assert_eq!(hex(&Sha256::digest(fs::read(directory.path().join(file)).unwrap())), sums[0], "{file}");
    }
}

/// A new seed: private, never overwritten, and what is exported with it verifies what is signed under it.
#[test]
fn a_seed_of_ones_own() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (keys, out) = (directory.path().join("keys"), directory.path().join("evidence"));
    let said = tsmsim.say("keys init", &[("--out", &keys)]).with_status(0);
    let path = keys.join("seed.hex");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let seed = text.trim();
    assert!(seed.len() == 64 && seed.bytes().all(|byte| byte.is_ascii_hexdigit()), "{seed}");
    assert!(!said.out.contains(seed) && !said.err.contains(seed), "the seed itself is not printed");

    let again = tsmsim.say("keys init", &[("--out", &keys)]).with_status(2);
    assert!(again.err.contains("seed.hex"), "{}", again.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let mut report = tsmsim.command(["report", "--tee", "snp", "--profile", "turin", "--out"]);
    run(report.arg(&out).env("TSMSIM_SEED", seed)).with_status(0);
    let verify = |root: PathBuf| {
        let chain = keys.join("turin/vcek-cert_chain.pem");
        let [report, vcek] = ["report.bin", "vcek.der"].map(|name| out.join(name));
        let crl = keys.join("turin/crl.der");
        let paths =
            [("--report", report.as_path()), ("--certs", &chain), ("--certs", &vcek), ("--crl", &crl)];
        tsmsim.say("verify", &[&paths[..], &[("--root", root.as_path())]].concat())
    };
    verify(keys.join("turin/ark.der")).with_status(0);
    verify(keys.join("milan/ark.der")).with_status(1);
    verify(workspace::root().join("keys/default/turin/ark.der")).with_status(1);
}

/// The option wins over the variable; both are read alike.
#[test]
fn seeds_by_option_and_by_variable() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [by_option, by_default] = directories.each_ref().map(|directory| directory.path());
    let report = |out: &Path, seed: &str| {
        let mut command = tsmsim.command(["report", "--tee", "snp", "--seed", seed, "--out"]);
        run(command.arg(out).env("TSMSIM_SEED", OTHER_SEED)).with_status(0)
    };
    report(by_option, &hex(b"tsmsim default seed: worthless!!"));
    tsmsim.report(by_default, "");
    assert_eq!(files(by_option), files(by_default));
}
