//! The launch digest against independent computations.

use sha2::{Digest, Sha384};
use tsmsim_abi::snp::{
    launch::{PageType, VMSA_GPA, VmplPermissions},
    policy::GuestPolicy,
};
use tsmsim_simulator::snp::{
    firmware::LaunchUpdate,
    launch::{LaunchDigest, LaunchPage, PageAttributes, measure},
};

use crate::support::{ASID, GUEST, Machine};

/// One step of the chain from the layout of `PAGE_INFO` (56860, table 67), written out.
fn step(
    digest: &[u8; 48],
    contents: &[u8; 48],
    page_type: u8,
    imi: u8,
    perms: [u8; 3],
    gpa: u64,
) -> [u8; 48] {
    let mut info = Vec::new();
    info.extend(digest);
    info.extend(contents);
    info.extend([0x70, 0x00, page_type, imi, 0, perms[0], perms[1], perms[2]]);
    info.extend(gpa.to_le_bytes());
    assert_eq!(info.len(), 0x70);
    Sha384::digest(info).into()
}

fn counting_page() -> [u8; 4096] {
    std::array::from_fn(|i| (i * 7 + 3).to_le_bytes()[0])
}

fn vmsa() -> [u8; 4096] {
    let mut vmsa = [0; 4096];
    vmsa[0x3b0] = 1;
    vmsa[0x178..0x180].copy_from_slice(&0xfff0_u64.to_le_bytes());
    vmsa
}

#[test]
fn every_page_type_by_hand() {
    let page = counting_page();
    let page_digest: [u8; 48] = Sha384::digest(page).into();
    let zero = [0; 48];
    let perms = [VmplPermissions::from(0x1), VmplPermissions::from(0x3), VmplPermissions::from(0xf)];
    let attributes = |gpa| PageAttributes { gpa, vmpl_perms: perms, imi_page: true };
    let pages = [
        (attributes(0x1000), LaunchPage::Normal(&page)),
        (VMSA_GPA.into(), LaunchPage::Vmsa(&page)),
        (0x3000.into(), LaunchPage::Zero),
        (0x4000.into(), LaunchPage::Unmeasured),
        (0x5000.into(), LaunchPage::Secrets),
        (0x6000.into(), LaunchPage::Cpuid),
    ];
    let mut without_tsc = page;
    without_tsc[0x2f0..0x300].fill(0);
    let vmsa_digest: [u8; 48] = Sha384::digest(without_tsc).into();

    let mut expected = step(&zero, &page_digest, 1, 1, [1, 3, 0xf], 0x1000);
    expected = step(&expected, &vmsa_digest, 2, 0, [0; 3], 0xffff_ffff_f000);
    expected = step(&expected, &zero, 3, 0, [0; 3], 0x3000);
    expected = step(&expected, &zero, 4, 0, [0; 3], 0x4000);
    expected = step(&expected, &zero, 5, 0, [0; 3], 0x5000);
    expected = step(&expected, &zero, 6, 0, [0; 3], 0x6000);
    assert_eq!(measure(pages), LaunchDigest::from_bytes(expected));
}

/// Made with PyPI's sev-snp-measure 0.0.13 (Apache-2.0), class `GCTX` of `sevsnpmeasure.gctx`:
/// `update_normal_pages(0xffc84000, page + bytes(4096))` with `page[i] = (7 i + 3) mod 256`,
/// `update_zero_pages(0x800000, 0x2000)`, `update_unmeasured_pages(0x802000, 0x1000)`, `update_secrets_page(0x80d000)`,
/// `update_cpuid_page(0x80e000)`, `update_vmsa_page(vmsa)` with 1 at 3B0h and RIP FFF0h, then `hex_ld()`.
const SEV_SNP_MEASURE: &str =
    "9582ac912553f17d77922e56b0c47b739b6f51ac758f399eb35dc58dce7a28540cb2692802e96751f8446909475fa183";

#[test]
fn the_same_as_sev_snp_measure() {
    let (page, zeros, vmsa) = (counting_page(), [0; 4096], vmsa());
    let digest = measure([
        (0xffc8_4000, LaunchPage::Normal(&page)),
        (0xffc8_5000, LaunchPage::Normal(&zeros)),
        (0x80_0000, LaunchPage::Zero),
        (0x80_1000, LaunchPage::Zero),
        (0x80_2000, LaunchPage::Unmeasured),
        (0x80_d000, LaunchPage::Secrets),
        (0x80_e000, LaunchPage::Cpuid),
        (VMSA_GPA, LaunchPage::Vmsa(&vmsa)),
    ]);
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, SEV_SNP_MEASURE);
}

#[test]
fn the_firmware_measures_what_measure_does() {
    let mut machine = Machine::genoa();
    machine.create(GUEST).unwrap();
    machine.start(GUEST, &GuestPolicy::DEFAULT.into()).unwrap();
    machine.activate(GUEST, ASID).unwrap();
    let pages = [
        (0x1000, PageType::NORMAL, counting_page()),
        (VMSA_GPA, PageType::VMSA, vmsa()),
        (0x2000, PageType::ZERO, counting_page()),
        (0x3000, PageType::UNMEASURED, counting_page()),
        (0x4000, PageType::SECRETS, counting_page()),
        (0x5000, PageType::CPUID, [0; 4096]),
    ];
    for (gpa, page_type, mut page) in pages {
        machine.update_page(GUEST, page_type, gpa, &mut page).unwrap();
    }
    let (page, vmsa) = (counting_page(), vmsa());
    let expected = measure([
        (0x1000, LaunchPage::Normal(&page)),
        (VMSA_GPA, LaunchPage::Vmsa(&vmsa)),
        (0x2000, LaunchPage::Zero),
        (0x3000, LaunchPage::Unmeasured),
        (0x4000, LaunchPage::Secrets),
        (0x5000, LaunchPage::Cpuid),
    ]);
    assert_eq!(machine.firmware.guest(GUEST).unwrap().launch_digest(), &expected);
    let converted: Vec<_> = machine.rmp.converted.iter().map(|(gfn, vmsa, _)| (*gfn, *vmsa)).collect();
    assert_eq!(converted, [(1, false), (2, false), (3, false), (4, false), (5, false)]);
}

#[test]
fn permissions_and_vmsa_reach_the_rmp() {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &GuestPolicy::DEFAULT.into());
    let perms = [1, 3, 7].map(VmplPermissions::from);
    let attributes = PageAttributes { gpa: 0x7000, vmpl_perms: perms, imi_page: false };
    machine.update(GUEST, LaunchUpdate { page: &mut vmsa(), page_type: PageType::VMSA, attributes }).unwrap();
    assert_eq!(machine.rmp.converted.last(), Some(&(7, true, perms)));
}
