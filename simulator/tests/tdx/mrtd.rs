//! MRTD against a chain written here by hand.

use sha2::{Digest, Sha384};
use tsmsim_abi::tdx::{leaf::PageInfo, report::Measurement};
use tsmsim_keys::Seed;
use tsmsim_simulator::tdx::{
    PAGE_SIZE,
    guest::{IMAGE_GPA, World},
    mrtd::Mrtd,
    platform::TdxPlatformConfig,
    td::Td,
    vmcall::HostConfig,
};

use super::{guest, plan, platform};

/// A block as the module makes it: the function's name in 16 bytes, the address, zeros up to 128 bytes.
fn block(name: &[u8], gpa: u64) -> [u8; 128] {
    let mut block = [0; 128];
    block[..name.len()].copy_from_slice(name);
    block[16..24].copy_from_slice(&gpa.to_le_bytes());
    block
}

fn by_hand(added: &[u64], contents: &[(u64, [u8; PAGE_SIZE])]) -> Measurement {
    let mut hash = Sha384::new();
    for gpa in added {
        hash.update(block(b"MEM.PAGE.ADD", *gpa));
        for (_, page) in contents.iter().filter(|(page, _)| page == gpa) {
            for index in 0..16 {
                hash.update(block(b"MR.EXTEND", gpa + index * 256));
                hash.update(&page[usize::try_from(index).unwrap() * 256..][..256]);
            }
        }
    }
    hash.finalize().into()
}

#[test]
fn a_launched_td_measures_as_by_hand() {
    let mut guest = guest(platform(TdxPlatformConfig::tdx_1_5()), HostConfig::default());
    let report = guest.report(&[7; 64]).unwrap();
    let buffers = (0..9).map(|index| 0x1000 + index * 0x1000);
    let added: Vec<_> = [IMAGE_GPA, IMAGE_GPA + 0x3000].into_iter().chain(buffers).collect();
    assert_eq!(report.td_info.mr_td, by_hand(&added, &[(IMAGE_GPA, [0xa5; PAGE_SIZE])]));
    assert_ne!(report.td_info.mr_td, by_hand(&added, &[(IMAGE_GPA, [0xa4; PAGE_SIZE])]));
}

#[test]
fn the_pure_digest_is_the_modules() {
    let page = [0x3c; PAGE_SIZE];
    let mut mrtd = Mrtd::new();
    mrtd.measured_page(0x4000, &page);
    mrtd.page_add(0x2000);
    let pure = mrtd.finish();
    assert_eq!(pure, by_hand(&[0x4000, 0x2000], &[(0x4000, page)]));

    let platform = platform(TdxPlatformConfig::tdx_1_5());
    let mut world = World::new(1 << 16, Seed::DEFAULT);
    let (mut env, _) = world.env();
    let mut td = Td::create(&platform, &plan().ram, env.entropy);
    td.mng_init(&plan().params, &mut env).unwrap();
    td.vp_init(&mut env).unwrap();
    td.mem_page_add(PageInfo::from(0x4000), Some(&page), &mut env).unwrap();
    for gpa in (0x4000..0x5000).step_by(256) {
        td.mr_extend(gpa, &mut env).unwrap();
    }
    td.mem_page_add(PageInfo::from(0x2000), None, &mut env).unwrap();
    td.mr_finalize(&mut env).unwrap();
    assert_eq!(td.td_info().mr_td, pure);
}
