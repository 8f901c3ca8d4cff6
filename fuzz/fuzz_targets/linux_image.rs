//! Kernel images. The first byte: 0: the rest is a file as it is; 1: the rest is the ELF image in a bzImage, with the size that it
//! must have behind it; 2: the rest is compressed, whatever comes out; 3: a bzImage's header by its fields (`setup_sects` 1,
//! version 2, payload offset and length 2 each, version string 2), then what follows it. Sizes in files are kept below 1 MiB.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::linux_boot::{BOOT_FLAG, HEADER_MAGIC, SETUP_HEADER_OFFSET, SetupHeader};
use tsmsim_fuzz::Input;
use tsmsim_vmm::{
    loader::linux::{decompress::Compression, image::KernelImage},
    memory::GuestRam,
};
use zerocopy::{FromZeros, IntoBytes};

const LIMIT: usize = 1 << 20;
const RAM: u64 = 4 << 20;
/// Version 2.15 of the boot protocol.
const VERSION: u16 = 0x20f;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    match input.u8() & 3 {
        0 => {
            // A bzImage among these could say any size.
            let bytes = input.rest();
            if bytes.starts_with(b"\x7fELF") || bytes.len() < SETUP_HEADER_OFFSET {
                read(bytes);
            }
        }
        1 => {
            let elf = input.rest();
            let size = u32::try_from(elf.len()).expect("inputs are small");
            read(&bzimage(1, VERSION, 0, elf.len() + 4, 0, &[elf, &size.to_le_bytes()].concat()));
        }
        2 => {
            let bytes = input.rest();
            let Some(compression) = Compression::of(bytes) else { return };
            if let Ok(out) = compression.decompress(bytes, LIMIT) {
                assert!(out.len() <= LIMIT);
            }
        }
        _ => {
            let (sectors, version) = (input.u8(), input.u16());
            let [offset, length, text] = [(); 3].map(|()| usize::from(input.u16()));
            let mut rest = input.rest().to_vec();
            let setup = if sectors == 0 { 4 } else { usize::from(sectors) };
            // The size behind the payload.
            let end = (setup + 1) * 512 + offset + length;
            for (place, mask) in [(end.wrapping_sub(1), 0), (end.wrapping_sub(2), 0xf)] {
                if let Some(byte) = place.checked_sub(1024).and_then(|place| rest.get_mut(place)) {
                    *byte &= mask;
                }
            }
            read(&bzimage(sectors, version, offset, length, text, &rest));
        }
    }
});

/// Reads an image; a kernel that is found sound can be loaded.
fn read(file: &[u8]) {
    let Ok(kernel) = KernelImage::read(file) else { return };
    let segments = kernel.segments();
    assert!(!segments.is_empty() && segments.is_sorted_by_key(|segment| segment.paddr));
    for code in kernel.code() {
        let holds = |segment: &&_| contains(segment, code.paddr, code.bytes.len());
        assert!(segments.iter().any(|segment| holds(&segment)), "code lies in a segment");
    }
    let ram = GuestRam::new(RAM).expect("there is memory");
    assert_eq!(kernel.load(&ram).is_ok(), kernel.end() <= RAM);
}

fn contains(segment: &tsmsim_vmm::loader::linux::image::KernelSegment, start: u64, length: usize) -> bool {
    let range = segment.physical();
    range.contains(&start) && u64::try_from(length).is_ok_and(|length| length <= range.end - start)
}

/// A boot sector and a sector of setup, then `rest`.
fn bzimage(sectors: u8, version: u16, offset: usize, length: usize, text: usize, rest: &[u8]) -> Vec<u8> {
    let small = |number: usize| u32::try_from(number).expect("inputs are small");
    let mut header = SetupHeader::new_zeroed();
    header.setup_sects = sectors;
    header.boot_flag = BOOT_FLAG.into();
    header.header = HEADER_MAGIC;
    header.version = version.into();
    header.kernel_version = u16::try_from(text).unwrap_or(0).into();
    header.payload_offset = small(offset).into();
    header.payload_length = small(length).into();
    let mut image = vec![0; 1024];
    image[SETUP_HEADER_OFFSET..][..size_of::<SetupHeader>()].copy_from_slice(header.as_bytes());
    image.extend(rest);
    image
}
