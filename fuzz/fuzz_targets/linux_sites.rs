//! The search for instructions in any code. The first byte: where the code is divided in two, in 1/256 of its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::Input;
use tsmsim_vmm::{
    cc::linux::sites::{Sites, find_halt, find_snp, find_tdx},
    engine::qemu::Watched,
    loader::linux::image::Code,
};

const VIRTUAL: u64 = 0xffff_ffff_8100_0000;
const PHYSICAL: u64 = 0x100_0000;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let divided = usize::from(input.u8());
    let all = input.rest();
    let (first, second) = all.split_at(all.len() * divided / 256);
    let offset = u64::try_from(first.len()).expect("inputs are small");
    let parts = [
        Code { vaddr: VIRTUAL, paddr: PHYSICAL, bytes: first },
        Code { vaddr: VIRTUAL + offset, paddr: PHYSICAL + offset, bytes: second },
    ];
    check(&find_snp(&parts), all);
    check(&find_tdx(&parts), all);
    if let Some(halt) = find_halt(&parts) {
        let at = |address: u64| usize::try_from(address - VIRTUAL).expect("it lies in the code");
        assert!(all[at(halt.sti_hlt)..].starts_with(&[0xfb, 0xf4]) && all[at(halt.cli)] == 0xfa);
    }
});

/// Sites ascend, lie in the code, and have the bytes of what they are said to be.
fn check(sites: &Sites, code: &[u8]) {
    for list in [&sites.found, &sites.unconfirmed] {
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        for site in list {
            assert_eq!(site.gpa - PHYSICAL, site.address - VIRTUAL);
            let offset = usize::try_from(site.address - VIRTUAL).expect("it lies in the code");
            let bytes = &code[offset..];
            let whole = bytes.starts_with(site.instruction.bytes());
            // CPUID, RDMSR and WRMSR that follow the load of a number may have prefixes.
            assert!(whole || !matches!(site.instruction, Watched::Confidential(_)));
        }
    }
}
