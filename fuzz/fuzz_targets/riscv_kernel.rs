//! RISC-V kernels, and what is put into memory with them.
//!
//! Input: kind (1), the command line's and the RAM disk's lengths (1 each) and bytes, then the file. Kind 0: as it is; 1: a header
//! by its fields (`text_offset`, `image_size`, `flags`, 8 bytes each, version 4), then what follows it; 2: what an EFI image that
//! decompresses itself says of its payload (offset and length, 4 each), then what follows; 3: a device tree of any size of RAM
//! (8) and any place of the RAM disk (8 each). Of the compressions only gzip is among these: `linux_image` has them all, with
//! bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::{Input, cove};
use tsmsim_vmm::{
    engine::riscv::RAM_BASE,
    loader::linux::{
        decompress::Compression,
        riscv_boot::{LinuxTvm, load},
        riscv_fdt::{Reader, device_tree},
        riscv_image::{KERNEL_ALIGNMENT, RiscvKernel},
    },
    memory::{GuestRam, PlacedRam},
};

const RAM: u64 = 8 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let [kind, line, disk] = input.array();
    let command_line = String::from_utf8_lossy(input.bytes(line.into()));
    let initrd = input.bytes(disk.into());
    let file = match kind & 3 {
        0 => input.rest().to_vec(),
        1 => image(&mut input),
        2 => self_decompressing(&mut input),
        _ => {
            let [size, start, end] = [(); 3].map(|()| input.u64());
            for reader in
                [Reader::Firmware, Reader::Kernel { command_line: &command_line, initrd: &(start..end) }]
            {
                if let Ok(tree) = device_tree(size, reader) {
                    assert_eq!(tree[..4], 0xd00d_feed_u32.to_be_bytes());
                }
            }
            return;
        }
    };
    if !bounded(&file) {
        return;
    }
    let Ok(kernel) = RiscvKernel::read(&file) else { return };
    let place = kernel.place();
    assert!(place.start.is_multiple_of(KERNEL_ALIGNMENT));
    assert!(u64::try_from(kernel.image().len()).is_ok_and(|length| length <= place.end - place.start));
    boot(&LinuxTvm { kernel: &kernel, initrd, command_line: &command_line });
});

/// Loads a TVM and measures it, if there is room.
fn boot(guest: &LinuxTvm<'_>) {
    let ram = PlacedRam::new(GuestRam::new(RAM).expect("there is memory"), RAM_BASE).expect("it fits");
    let Ok(loaded) = load(&ram, guest) else { return };
    let plan = loaded.plan(None);
    assert!(plan.pages.iter().all(|page| page.gpa.is_multiple_of(4096) && ram.contains(page.gpa, 4096)));
    let gpas: std::collections::BTreeSet<u64> = plan.pages.iter().map(|page| page.gpa).collect();
    assert_eq!(gpas.len(), plan.pages.len(), "each page is measured once");
    assert!(gpas.contains(&plan.entry_arg), "the device tree is measured");
    let registers = cove::platform().initial_registers().clone();
    loaded.measure(&ram, registers).expect("the plan is of this memory");
}

/// Whether what comes out is not much longer than the file.
fn bounded(file: &[u8]) -> bool {
    let stream = match file.get(4..8) {
        Some(b"zimg") => {
            let offset =
                file.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
            usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or_default()
        }
        _ => file,
    };
    matches!(Compression::of(stream), None | Some(Compression::Gzip))
}

/// A header, and what follows it.
fn image(input: &mut Input<'_>) -> Vec<u8> {
    let mut image = b"MZ\0\0\0\0\0\0".to_vec();
    image.extend(input.array::<28>());
    image.extend([0; 20]);
    image.extend(b"RSC\x05\0\0\0\0");
    image.extend(input.rest());
    image
}

/// The beginning of an EFI image that decompresses itself, and what follows it.
fn self_decompressing(input: &mut Input<'_>) -> Vec<u8> {
    let mut file = b"MZ\0\0zimg".to_vec();
    file.extend(input.rest());
    file
}
