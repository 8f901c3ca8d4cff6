//! Reading any OVMF image. Input: flags (1), the end of the image; zeros in front make it whole pages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::Input;
use tsmsim_vmm::loader::{
    ovmf::{DirectBoot, Ovmf, measure},
    vmsa::VmmType,
};

/// Pages that are measured at most.
const PAGES: u64 = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let tail = input.rest();
    let mut image = vec![0; tail.len().next_multiple_of(4096) - tail.len()];
    image.extend(tail);
    let Ok(ovmf) = Ovmf::parse(&image) else { return };
    let vmm = [VmmType::Qemu, VmmType::Ec2, VmmType::Gce][usize::from(flags % 3)];
    let boot = DirectBoot { kernel: b"kernel", initrd: b"", append: "console" };
    let ranges = ovmf.ranges(vmm, (flags & 0x80 != 0).then_some(boot));
    let vmsas = ovmf.vmsas(vmm, 2, 0x00a2_0f12, 1);
    if let (Ok(ranges), Ok(vmsas)) = (ranges, vmsas)
        && ranges.iter().map(|range| range.pages).sum::<u64>() <= PAGES
    {
        let _ = measure(&ranges, &vmsas);
    }
});
