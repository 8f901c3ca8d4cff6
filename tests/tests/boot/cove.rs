//! Guests of CoVE: Debian's kernel for riscv64 with this repository's driver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rstest::rstest;
use serde_json::Value;
use tsmsim_tests::need::{self, Lack, skip};
use tsmsim_vmm::{
    engine::{EngineError, riscv::qemu::OpenSbi},
    loader::linux::initramfs::Initramfs,
};

use super::{Boot, Said, one_at_a_time, run};

#[track_caller]
fn boot() -> Option<Boot> {
    if let Err(EngineError::Missing(reason)) = OpenSbi::find() {
        skip(Lack::Software, &reason);
        return None;
    }
    Boot::on("qemu-system-riscv64", need::kernel_riscv64)
}

/// What `measure` says: the measured pages, and all initial registers.
#[track_caller]
fn measured(boot: &Boot, options: &[String]) -> (String, Vec<Value>) {
    let pages = boot.measure("cove", options);
    let said = run(boot.command("measure --json --tee cove").args(options)).with_status(0);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["tee"], &json["measurement"]), (&"cove".into(), &pages.as_str().into()));
    let registers = json["registers"].as_array().unwrap();
    assert_eq!(registers[4], pages.as_str());
    (pages, registers.clone())
}

/// What a stranger says to files that a guest left.
fn verify(boot: &Boot, out: &Path, inblob: &Path, pages: &str, more: &[String]) -> Said {
    let mut command = Command::new(&boot.tsmsim);
    command.args(["verify", "--measurement", pages, "--dir"]).arg(out).arg("--inblob").arg(inblob);
    run(command.args(more))
}

/// The driver's evidence, in either format, is what was predicted and chosen outside. A parameter of the module chooses the
/// format; it is on the command line, which is measured.
#[rstest]
#[case::cbor("", "cbor")]
#[case::x509("cove-guest.format=x509", "x509")]
fn evidence_comes_out(#[case] append: &str, #[case] format: &str) {
    let _one = one_at_a_time();
    let Some(boot) = boot() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [out, inblob, other] = ["out", "inblob", "other"].map(|name| directory.path().join(name));
    fs::write(&inblob, [0x5c; 64]).unwrap();
    fs::write(&other, [0x5d; 64]).unwrap();
    let options = ["--append".to_owned(), append.to_owned()];
    let mut command = boot.command("boot --verbose --tee cove");
    let said = run(command.args(&options).arg("--out").arg(&out).arg("--inblob").arg(&inblob)).with_status(0);
    for part in ["cove_guest: TCB SVN", "tsmsim: accepted under a synthetic root"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let checks = said.out.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(checks > 8 && said.out.contains(&format!("\n1..{checks}\n")), "{}", said.out);

    let (pages, registers) = measured(&boot, &options);
    assert_ne!(pages, measured(&boot, &["--append".to_owned(), format!("{append} x")]).0);
    let evidence: Value =
        serde_json::from_str(&fs::read_to_string(out.join("evidence.json")).unwrap()).unwrap();
    assert_eq!(evidence["format"], format);
    let stated = evidence["registers"].as_array().unwrap();
    assert!(stated.starts_with(&registers), "{registers:#?}\n{stated:#?}");

    let each: Vec<String> = (0..)
        .zip(&registers)
        .flat_map(|(index, value)| ["--register".to_owned(), format!("{index}:{}", value.as_str().unwrap())])
        .collect();
    verify(&boot, &out, &inblob, &pages, &each).with_status(0);
    verify(&boot, &out, &other, &pages, &[]).with_status(1);
    verify(&boot, &out, &inblob, &"5c".repeat(48), &[]).with_status(1);
}

/// A module whose parameter it refuses is not loaded, and the guest says which parameter that was.
#[test]
fn a_module_may_refuse_its_parameter() {
    let _one = one_at_a_time();
    let Some(boot) = boot() else { return };
    let mut command = boot.command("boot --tee cove --append cove_guest.format=paper");
    let said = run(&mut command).with_status(125);
    assert!(said.err.contains("module cove_guest.ko format=paper: EINVAL"), "{}", said.err);
}

/// CMD's output, exit status and files; files from the host and a RAM disk of one's own. All of it is measured.
#[test]
fn a_command_runs_inside() {
    let _one = one_at_a_time();
    let Some(boot) = boot() else { return };
    let Some(init) = need::file("TSMSIM_GUEST_LINUX_RISCV64") else { return };
    let directory = tempfile::tempdir().unwrap();
    let [out, own, initrd] = ["out", "own", "initrd"].map(|name| directory.path().join(name));
    fs::write(&own, "copied in\n").unwrap();
    let mut archive = Initramfs::new();
    archive.file("out/of/the/user", 0o644, b"unpacked first\n").unwrap();
    fs::write(&initrd, archive.finish()).unwrap();
    let add = |host: &Path, guest: &str| format!("{}:{guest}", host.display());
    let mut options: Vec<String> = ["--mem", "384", "--initrd"].map(Into::into).into();
    options.push(initrd.display().to_string());
    options.extend(["--add".to_owned(), add(&own, "/out/own")]);
    options.extend(["--add".to_owned(), add(&init, "/bin/program")]);
    options.extend(["--", "/bin/program", "other"].map(Into::into));
    let mut command = boot.command("boot --tee cove");
    let said = run(command.arg("--out").arg(&out).args(&options)).with_status(2);
    assert_eq!(said.out, "");
    assert!(said.err.contains("tsmsim's init program, the first process of a guest"), "{}", said.err);
    assert_eq!(fs::read_to_string(out.join("own")).unwrap(), "copied in\n");
    assert_eq!(fs::read_to_string(out.join("of/the/user")).unwrap(), "unpacked first\n");

    let pages = boot.measure("cove", &options);
    assert_ne!(pages, boot.measure("cove", &options[2..]), "memory is measured");
    *options.last_mut().unwrap() += " ";
    assert_ne!(pages, boot.measure("cove", &options), "the command is measured");
}

/// Guests that do not come to their end: exit status 1, and the console's last lines. With `panic=0` Linux hangs instead of
/// restarting.
#[rstest]
#[case::panic("rdinit=/none", "300", "the guest's kernel panicked: [")]
#[case::hang("rdinit=/none panic=0", "3", "the guest did not end in the time it was given")]
fn a_guest_that_fails_is_shown(#[case] append: &str, #[case] time: &str, #[case] reason: &str) {
    let _one = one_at_a_time();
    let Some(boot) = boot() else { return };
    let mut command = boot.command("boot --tee cove");
    let said = run(command.args(["--append", append, "--time", time])).with_status(1);
    let (_, rest) = said.err.split_once("tsmsim: the console's last lines:\n").unwrap();
    let (shown, last): (Vec<_>, Vec<_>) = rest.lines().partition(|line| line.starts_with("  "));
    let [last] = last[..] else { panic!("{}", said.err) };
    assert!(last.starts_with("tsmsim: ") && last.contains(reason), "{}", said.err);
    assert!(shown.len() <= 25, "{}", said.err);
}

/// A kernel whose modules were left at home: the check says so.
#[test]
fn a_kernel_without_its_modules() {
    let _one = one_at_a_time();
    let Some(boot) = boot() else { return };
    let mut command = Command::new(&boot.tsmsim);
    command.args(["boot", "--tee", "cove", "--kernel"]).arg(boot.kernel.join("vmlinuz"));
    let said = run(&mut command).with_status(1);
    assert!(said.out.contains("was it given without its --modules?"), "{}", said.out);
}

/// What a machine lacks: exit status 3, and what to do.
#[test]
fn what_is_missing_is_told() {
    let Some(boot) = boot() else { return };
    let directory = tempfile::tempdir().unwrap();
    let says = |command: &mut Command, text: &str| {
        let said = run(command).with_status(3);
        assert!(said.err.contains(text), "{}", said.err);
        assert_eq!(said.out, "");
    };
    let new = || boot.command("boot --tee cove");
    says(new().env("PATH", directory.path()), "package qemu-system-misc");
    let firmware = directory.path().join("firmware");
    says(new().env("TSMSIM_OPENSBI", &firmware), "No such file or directory");
    fs::write(&firmware, "no firmware").unwrap();
    says(new().env("TSMSIM_OPENSBI", &firmware), "firmware: not an OpenSBI that is known");
    let mut kvm = Command::new(&boot.tsmsim);
    kvm.args(["boot", "--tee", "cove", "--engine", "kvm", "--kernel"]).arg(boot.kernel.join("vmlinuz"));
    says(&mut kvm, "KVM runs guests of the machine's own kind, and a CoVE guest is a RISC-V one");

    // Kernels are looked for beside the program's directory, so its copy has none.
    let home = directory.path().join("release");
    fs::create_dir(&home).unwrap();
    fs::copy(&boot.tsmsim, home.join("tsmsim")).unwrap();
    let mut alone = Command::new(home.join("tsmsim"));
    let alone = alone.args(["boot", "--tee", "cove"]).env_remove("TSMSIM_KERNELS");
    says(alone, "there is no kernel to boot: run `cargo xtask setup`");
}

/// Kernels of the other processor, damaged ones, and one without the driver: exit status 2.
#[test]
fn kernels_are_told_by_their_contents() {
    let (Some(boot), Some(x86)) = (boot(), need::kernel_6_12()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let [text, cut] = ["text", "cut"].map(|name| directory.path().join(name));
    let riscv = boot.kernel.join("vmlinuz");
    fs::write(&text, "no kernel").unwrap();
    fs::write(&cut, &fs::read(&riscv).unwrap()[..1 << 20]).unwrap();
    let says = |words: &str, kernel: &Path, text: &str| {
        let mut command = Command::new(&boot.tsmsim);
        let said = run(command.args(words.split_whitespace()).arg("--kernel").arg(kernel)).with_status(2);
        assert!(said.err.contains(text), "{}", said.err);
        assert_eq!(said.out, "");
    };
    says("boot --tee cove", &text, "no RISC-V kernel");
    for command in ["boot", "measure"] {
        let of = |tee: &str| format!("{command} --engine qemu --tee {tee}");
        says(&of("cove"), &x86.join("vmlinuz"), "a kernel for x86-64, and guests of CoVE are RISC-V ones");
        says(&of("snp"), &riscv, "a kernel for RISC-V, and guests of SNP and TDX are x86-64 ones");
        says(&of("tdx"), &riscv, "a kernel for RISC-V, and guests of SNP and TDX are x86-64 ones");
        says(&of("cove"), &cut, "is it cut short?");
    }
    says("measure --tee cove --ovmf x", &riscv, "a TVM's firmware is no part of it");

    let modules: PathBuf = directory.path().join("modules");
    fs::create_dir(&modules).unwrap();
    let words = format!("boot --tee cove --modules {}", modules.display());
    says(&words, &riscv, "module cove_guest is neither in");
    says(&words, &riscv, "`cargo xtask setup` builds cove_guest and tsm for Debian's kernel");
}
