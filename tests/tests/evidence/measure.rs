//! `tsmsim measure`: the launch measurement before the launch.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rstest::rstest;
use tsmsim_tests::need;

use crate::{
    image::{self, HASH_TABLE, SECTIONS},
    program::{Tsmsim, run},
};

/// Arguments that both programs take, in words and with paths; and how each names the vmm type.
#[track_caller]
fn both_measure(
    words: &str,
    vmm: Option<[&str; 2]>,
    paths: &[(&str, &Path)],
    append: Option<&str>,
) -> Option<[String; 2]> {
    let (tsmsim, theirs) = (Tsmsim::find()?, need::sev_snp_measure()?);
    let mut commands = [tsmsim.command(["measure", "--tee", "snp"]), Command::new(theirs)];
    commands[1].args(["--mode", "snp"]);
    let mut digests = commands.iter_mut().enumerate().map(|(index, command)| {
        command.args(words.split_whitespace());
        if let Some(names) = vmm {
            command.args(["--vmm-type", names[index]]);
        }
        for (option, path) in paths {
            command.arg(option).arg(path);
        }
        if let Some(append) = append {
            command.arg("--append").arg(append);
        }
        run(command).with_status(0).out.trim().to_owned()
    });
    let digests = [digests.next()?, digests.next()?];
    assert_eq!(digests[0].len(), 96, "{}", digests[0]);
    Some(digests)
}

const QEMU: Option<[&str; 2]> = Some(["qemu", "QEMU"]);
const EC2: Option<[&str; 2]> = Some(["ec2", "ec2"]);
const GCE: Option<[&str; 2]> = Some(["gce", "gce"]);

/// Debian's image: numbers of vCPUs, CPU models, hypervisors, features.
#[rstest]
#[case::one("--vcpus 1 --vcpu-type EPYC-v4", None)]
#[case::two("--vcpus 2 --vcpu-type EPYC-v4", None)]
#[case::eight("--vcpus 8 --vcpu-type EPYC-Milan", QEMU)]
#[case::genoa("--vcpus 1 --vcpu-type EPYC-Genoa", QEMU)]
#[case::turin("--vcpus 2 --vcpu-type EPYC-Turin", QEMU)]
#[case::ec2("--vcpus 1 --vcpu-type EPYC-Milan", EC2)]
#[case::ec2_many("--vcpus 8 --vcpu-type EPYC-v4", EC2)]
#[case::gce("--vcpus 1 --vcpu-type EPYC-Milan", GCE)]
#[case::gce_many("--vcpus 8 --vcpu-type EPYC-v4", GCE)]
#[case::features("--vcpus 2 --vcpu-type EPYC-v4 --guest-features 0x21", QEMU)]
#[case::no_features("--vcpus 1 --vcpu-type EPYC-v4 --guest-features 0x0", EC2)]
#[case::signature("--vcpus 2 --vcpu-sig 0xa00f11", QEMU)]
fn a_real_image_measures_as_sev_snp_measure_says(#[case] words: &str, #[case] vmm: Option<[&str; 2]>) {
    let Some(ovmf) = need::ovmf() else { return };
    let Some([ours, theirs]) = both_measure(words, vmm, &[("--ovmf", &ovmf)], None) else { return };
    assert_eq!(ours, theirs);
}

/// All CPU models that the program names, each with a digest of its own signature.
#[test]
fn every_cpu_model_measures_as_sev_snp_measure_says() {
    let directory = tempfile::tempdir().unwrap();
    let image = image_file(directory.path(), Some(HASH_TABLE));
    for model in tsmsim_vmm::loader::vmsa::cpu_models() {
        let words = format!("--vcpus 2 --vcpu-type {model}");
        let Some([ours, theirs]) = both_measure(&words, None, &[("--ovmf", &image)], None) else { return };
        assert_eq!(ours, theirs, "{model}");
    }
}

fn image_file(directory: &Path, hash_table: Option<u32>) -> PathBuf {
    let sections = if hash_table.is_some() { &SECTIONS[..] } else { &SECTIONS[..5] };
    let path = directory.join("image.fd");
    fs::write(&path, image::firmware(sections, hash_table)).unwrap();
    path
}

/// Direct boot: the hashes of kernel, initrd and command line are measured, where the image has a place for them.
#[rstest]
fn direct_boot_measures_as_sev_snp_measure_says(
    #[values(QEMU, EC2, GCE)] vmm: Option<[&str; 2]>,
    #[values(None, Some("an initrd"))] initrd: Option<&str>,
    #[values(None, Some("console=ttyS0 root=/dev/vda1"))] append: Option<&str>,
) {
    let directory = tempfile::tempdir().unwrap();
    let image = image_file(directory.path(), Some(HASH_TABLE));
    let [kernel, initrd_file] = ["kernel", "initrd"].map(|name| directory.path().join(name));
    fs::write(&kernel, [0x4d; 5000]).unwrap();
    let mut paths = vec![("--ovmf", image.as_path()), ("--kernel", &kernel)];
    if let Some(initrd) = initrd {
        fs::write(&initrd_file, initrd).unwrap();
        paths.push(("--initrd", &initrd_file));
    }
    let words = "--vcpus 2 --vcpu-type EPYC-v4";
    let Some([ours, theirs]) = both_measure(words, vmm, &paths, append) else { return };
    assert_eq!(ours, theirs);
    // Without a kernel the same page is a zero page.
    let Some([without, _]) = both_measure(words, vmm, &paths[..1], None) else { return };
    assert_ne!(ours, without);
}

/// What is measured is all of it: changing any input changes the measurement.
#[test]
fn every_input_of_a_direct_boot_matters() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let image = image_file(directory.path(), Some(HASH_TABLE));
    let [kernel, initrd] = ["kernel", "initrd"].map(|name| directory.path().join(name));
    fs::write(&kernel, b"a kernel").unwrap();
    fs::write(&initrd, b"an initrd").unwrap();
    let paths = [("--ovmf", image.as_path()), ("--kernel", &kernel), ("--initrd", &initrd)];
    let measure = |words: &str| {
        tsmsim.say(&format!("measure --tee snp {words}"), &paths).with_status(0).out.trim().to_owned()
    };
    let mut digests = vec![
        measure("--append quiet"),
        measure("--append quiet --vcpus 2"),
        measure("--append quiet --vcpu-type EPYC-Milan"),
        measure("--append quiet --vmm-type gce"),
        measure("--append quiet --guest-features 0x3"),
        measure("--append loud"),
        measure(""),
    ];
    for (file, contents) in [(&kernel, &b"another kernel"[..]), (&initrd, b"another initrd")] {
        fs::write(file, contents).unwrap();
        digests.push(measure("--append quiet"));
    }
    let mut bytes = fs::read(&image).unwrap();
    bytes[100] ^= 1;
    fs::write(&image, bytes).unwrap();
    digests.push(measure("--append quiet"));
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

/// What cannot be launched is not measured, by neither program; ours says why.
#[test]
fn images_without_a_place_for_hashes_are_refused() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let Some(theirs) = need::sev_snp_measure() else { return };
    let directory = tempfile::tempdir().unwrap();
    let image = image_file(directory.path(), None);
    let kernel = directory.path().join("kernel");
    fs::write(&kernel, b"a kernel").unwrap();
    let paths = [("--ovmf", image.as_path()), ("--kernel", &kernel)];
    let said = tsmsim.say("measure --tee snp", &paths).with_status(2);
    assert!(said.err.contains("no place for kernel hashes"), "{}", said.err);
    let mut command = Command::new(theirs);
    command
        .args(["--mode", "snp", "--vcpu-type", "EPYC-v4", "--ovmf"])
        .arg(&image)
        .arg("--kernel")
        .arg(&kernel);
    assert_ne!(run(&mut command).status, 0);
}

#[rstest]
#[case::empty(&[], "0 bytes")]
#[case::no_pages(&[0x5a; 5000], "5000 bytes")]
#[case::no_table(&[0x5a; 8192], "no footer table")]
fn what_is_no_image_is_refused(#[case] bytes: &[u8], #[case] says: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image.fd");
    fs::write(&image, bytes).unwrap();
    let said = tsmsim.say("measure --tee snp", &[("--ovmf", &image)]).with_status(2);
    assert!(said.err.contains(says), "{}", said.err);
}

#[test]
fn the_built_in_guest_is_the_one_that_was_built() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let Some(elf) = need::guest_x86_64() else { return };
    let built_in = tsmsim.say("measure --tee snp", &[]).with_status(0).out;
    assert_eq!(built_in, tsmsim.say("measure --tee snp", &[("--kernel", &elf)]).with_status(0).out);
    let said = tsmsim.say("measure --tee snp --json", &[]).with_status(0);
    assert_eq!(said.json()["measurement"], built_in.trim());
    assert_eq!(said.json()["tee"], "snp");

    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("guest.elf");
    fs::write(&other, image::elf(&[0xf4])).unwrap();
    let measured = tsmsim.say("measure --tee snp", &[("--kernel", &other)]).with_status(0).out;
    assert_ne!(measured, built_in);
    fs::write(&other, image::elf(&[0xf5])).unwrap();
    assert_ne!(tsmsim.say("measure --tee snp", &[("--kernel", &other)]).with_status(0).out, measured);
    fs::write(&other, b"no ELF image").unwrap();
    let said = tsmsim.say("measure --tee snp", &[("--kernel", &other)]).with_status(2);
    assert!(said.err.contains("the guest cannot be loaded: "), "{}", said.err);
}
