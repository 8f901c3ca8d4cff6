//! `tsmsim measure --tee tdx`: MRTD before the launch, against a few lines that follow Intel's documents.

use std::{fs, path::Path};

use rstest::rstest;
use sha2::{Digest, Sha384};
use tsmsim_tests::need;

use crate::{
    image,
    program::{Tsmsim, hex},
};

const PAGE: usize = 4096;

fn measure(tsmsim: &Tsmsim, option: &str, file: &Path) -> String {
    tsmsim.say("measure --tee tdx", &[(option, file)]).with_status(0).out.trim().to_owned()
}

/// Function name, address, zeros: 128 bytes (TDX Module Base Architecture, "MRTD: Build-Time Measurement Register").
fn block(hash: &mut Sha384, name: &str, gpa: u64) {
    let mut block = [0; 128];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[16..24].copy_from_slice(&gpa.to_le_bytes());
    hash.update(block);
}

/// The metadata are found by their signature; section by section, every page is added, and extended if its section says so.
fn by_hand(image: &[u8]) -> String {
    let at = image.windows(8).position(|window| window == b"TDVF\xd0\0\0\0").unwrap();
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let mut hash = Sha384::new();
    for index in 0..word(at + 12) {
        let section = at + 16 + 32 * usize::try_from(index).unwrap();
        let (offset, gpa, size) = (word(section), long(section + 8), long(section + 16));
        for page in (0..size).step_by(PAGE) {
            block(&mut hash, "MEM.PAGE.ADD", gpa + page);
            for chunk in (page..page + PAGE as u64).step_by(256) {
                if word(section + 28) & 1 == 1 {
                    block(&mut hash, "MR.EXTEND", gpa + chunk);
                    let from = usize::try_from(u64::from(offset) + chunk).unwrap();
                    hash.update(&image[from..from + 256]);
                }
            }
        }
    }
    hex(&hash.finalize())
}

#[test]
fn debians_ovmf_measures_as_by_hand() {
    let (Some(tsmsim), Some(ovmf)) = (Tsmsim::find(), need::ovmf()) else { return };
    let bytes = fs::read(&ovmf).unwrap();
    let measured = measure(&tsmsim, "--ovmf", &ovmf);
    assert_eq!(measured, by_hand(&bytes));
    let json = tsmsim.say("measure --tee tdx --json", &[("--ovmf", &ovmf)]).with_status(0).json();
    assert_eq!((&json["tee"], &json["measurement"]), (&"tdx".into(), &measured.as_str().into()));

    // Code is measured; variables are the firmware's to measure.
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.fd");
    for (at, same) in [(0x1000, true), (0x2_0000, false), (bytes.len() - 1, false)] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        let other = measure(&tsmsim, "--ovmf", &changed);
        assert_eq!(other == measured, same, "{at:#x}");
        assert_eq!(other, by_hand(&bytes));
    }
}

#[test]
fn broken_images_are_refused_for_a_reason() {
    let (Some(tsmsim), Some(ovmf)) = (Tsmsim::find(), need::ovmf()) else { return };
    let bytes = fs::read(&ovmf).unwrap();
    let metadata = bytes.windows(8).position(|window| window == b"TDVF\xd0\0\0\0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.fd");
    for (at, says) in [
        (metadata, "signature of the TDX metadata"),
        (metadata + 8, "version of the TDX metadata"),
        (metadata + 12, "size of TDX metadata"),
        (metadata + 16 + 9, "address of a section"),
        (metadata + 16 + 24, "a section"),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        fs::write(&changed, &bytes).unwrap();
        let said = tsmsim.say("measure --tee tdx", &[("--ovmf", &changed)]).with_status(2);
        assert!(said.err.contains(says) && said.err.contains("changed.fd"), "{at:#x}: {}", said.err);
    }
}

#[rstest]
#[case::snp_alone(&image::firmware(&image::SECTIONS, None))]
#[case::nothing(&[])]
#[case::zeros(&[0; 8192])]
fn images_without_tdx_metadata_are_said_to_have_none(#[case] bytes: &[u8]) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.fd");
    fs::write(&file, bytes).unwrap();
    let said = tsmsim.say("measure --tee tdx", &[("--ovmf", &file)]).with_status(2);
    assert!(said.err.contains("has no TDX metadata"), "{}", said.err);
}

#[rstest]
#[case("--vcpus 2")]
#[case("--vmm-type gce")]
#[case("--guest-features 1")]
#[case("--kernel x")]
fn what_mrtd_does_not_depend_on_is_refused(#[case] words: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let said = tsmsim.say(&format!("measure --tee tdx --ovmf x {words}"), &[]).with_status(2);
    assert!(said.err.contains("MRTD"), "{}", said.err);
}

/// A guest of one's own, and the built-in one: each has its measurement, before anything runs.
#[test]
fn bare_metal_guests_are_measured() {
    let (Some(tsmsim), Some(elf)) = (Tsmsim::find(), need::guest_x86_64()) else { return };
    let built_in = tsmsim.say("measure --tee tdx", &[]).with_status(0).out.trim().to_owned();
    assert_eq!(built_in, measure(&tsmsim, "--kernel", &elf));
    let snp = tsmsim.say("measure --tee snp", &[("--kernel", &elf)]).with_status(0).out;
    assert_ne!(built_in, snp.trim());
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("guest.elf");
    let measured = [0xf4, 0xf5].map(|instruction| {
        fs::write(&other, image::elf(&[instruction])).unwrap();
        measure(&tsmsim, "--kernel", &other)
    });
    assert!(measured[0] != measured[1] && !measured.contains(&built_in));
    fs::write(&other, b"no ELF image").unwrap();
    let said = tsmsim.say("measure --tee tdx", &[("--kernel", &other)]).with_status(2);
    assert!(said.err.contains("the guest cannot be loaded: "), "{}", said.err);
}
