//! Reading, loading and patching any ELF image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_vmm::{
    loader::{elf::ElfImage, patch::patch},
    memory::GuestRam,
};

const RAM: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = ElfImage::parse(bytes) else { return };
    let ram = GuestRam::new(RAM).expect("there is memory");
    if let Ok(pages) = image.load(&ram, std::slice::from_ref(&(0..0x1000))) {
        assert!(pages.iter().all(|page| page.gpa < RAM && page.gpa % 4096 == 0));
        let report = patch(&image, &ram).expect("a loaded image can be patched");
        assert!(report.sites.iter().all(|site| ram.contains(site.gpa, 4)));
    }
});
