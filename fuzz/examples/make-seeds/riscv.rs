//! Seeds of the targets about RISC-V engines and images.

use tsmsim_abi::{
    cove::covg::CovgFid,
    guest_channel::crc32,
    guest_test::riscv64::{IMAGE_GPA, PARAMETERS_GPA},
};

use crate::{Seed, write};

/// All of them.
pub(crate) fn seeds() {
    dispatch();
    elf();
    kernels();
    opensbi();
}

/// Steps of `tvm_dispatch`; of an argument of one byte, the upper bits say what it is.
fn dispatch() {
    const PAGES: u8 = 0x40;
    let call = |seed: Seed, kind: u8, fid: u8, arguments: &[u8]| {
        let arguments: Vec<u8> = arguments.iter().copied().chain([PAGES; 6]).take(6).collect();
        seed.put([kind, fid]).put(arguments)
    };
    let covg = |seed: Seed, function: CovgFid, arguments: &[u8]| {
        call(seed, 1, u8::try_from(function.0).expect("there are few"), arguments)
    };
    let done = |seed: Seed| seed.put([4]).words(&[0, 0]).put([0]);
    for (name, promoted) in [("steps", 0), ("promoted", 1)] {
        let seed = covg(Seed::default().put([promoted]), CovgFid::SHARE_MEMORY_REGION, &[1, PAGES | 1]);
        // A line of eight bytes, printed out of the shared page, and its first byte alone.
        let seed = seed.put([5, 1]).sized(b"a line \n").put([3, 0, 0xfd, 8, 0, 1]).put([PAGES; 4]);
        let seed = call(seed.put([3, 2, 0xfd, b'a', 0]).put([PAGES; 5]), 2, 3, &[PAGES]);
        let seed = covg(seed, CovgFid::GET_ATTCAPS, &[2, PAGES | 1]);
        let seed = covg(seed, CovgFid::RETRIEVE_SECRET, &[3, PAGES | 1]);
        let seed = covg(seed, CovgFid::UNSHARE_MEMORY_REGION, &[1, PAGES | 1]);
        done(seed).write("tvm_dispatch", name);
    }
    // Key, challenge, format 1, evidence: a page without memory behind it among them.
    let seed = Seed::default().put([0, 1, 8, 1, 0xfd, 0, 0, 2, 0xfd, 1, 0, 4, PAGES | 4]);
    let seed = covg(seed, CovgFid::READ_MEASUREMENT, &[32, PAGES | 1, PAGES]);
    done(covg(seed, CovgFid::ADD_MMIO_REGION, &[PAGES | 1, PAGES | 1])).write("tvm_dispatch", "evidence");
    let seed = Seed::default().put([0, 0]).words(&[0x434f_5647, 0, 0, 0, 0, 0, 3, 0x10]);
    let seed = seed.put([6]).words(&[2, IMAGE_GPA, 0]).put([7, 15]);
    seed.write("tvm_dispatch", "other-ends");
}

/// An image of one segment for RISC-V: code, then zeros.
fn elf() {
    let elf = |gpa: u64, memory_size: u64| {
        let mut elf = vec![0; 0x88];
        let mut set = |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
        set(0, b"\x7fELF\x02\x01\x01");
        set(0x10, &[2, 0, 0xf3, 0, 1]);
        let words: [(usize, u64); 8] = [
            (0x18, gpa + 0x80),
            (0x20, 0x40),
            (0x48, 0),
            (0x50, gpa),
            (0x58, gpa),
            (0x60, 0x88),
            (0x68, memory_size),
            (0x70, 0x1000),
        ];
        words.into_iter().for_each(|(offset, word)| set(offset, &word.to_le_bytes()));
        set(0x34, &[64, 0, 56, 0, 1, 0, 64]);
        set(0x40, &[1, 0, 0, 0, 5]);
        // ecall; j .
        set(0x80, &[0x73, 0, 0, 0, 0x6f]);
        elf
    };
    write("tvm_image", "small", &elf(IMAGE_GPA, 0x2000));
    write("tvm_image", "up-to-the-parameters", &elf(PARAMETERS_GPA - 0x1000, 0x1000));
    write("tvm_image", "across-the-parameters", &elf(PARAMETERS_GPA - 0x1000, 0x1001));
    write("tvm_image", "below-the-image", &elf(IMAGE_GPA - 0x1000, 0x2000));
    // The entry is a virtual address of the segment, and no physical one.
    let mut elsewhere = elf(IMAGE_GPA, 0x1000);
    elsewhere[0x58..0x60].copy_from_slice(&(IMAGE_GPA + 0x1000).to_le_bytes());
    write("tvm_image", "virtual-entry", &elsewhere);
}

fn kernels() {
    // text_offset, image_size, flags, version 0.2.
    let fields = |text: u64, size: u64| Seed::default().words(&[text, size, 0]).put([2, 0, 0, 0]);
    let banner = b"Linux version 6.12-seed x\0";
    let start = |kind: u8| Seed::default().put([kind, 3, 5]).put(b"a=b").put([7; 5]);
    start(1).put(fields(0x20_0000, 0x3000).0).put(banner).write("riscv_kernel", "header");
    start(1).put(fields(0x20_0000, 1 << 29).0).put(banner).write("riscv_kernel", "large");
    start(1).put(fields(0x1000, 0x3000).0).write("riscv_kernel", "unaligned");
    let image = Seed::default().put(b"MZ\0\0\0\0\0\0").put(fields(0x20_0000, 0x3000).0).put([0; 20]);
    let image = image.put(b"RSC\x05\0\0\0\0").put(banner).0;
    start(0).put(&image).write("riscv_kernel", "image");
    let gzip = gzip(&image);
    start(0).put(&gzip).write("riscv_kernel", "gzip");
    let length = u32::try_from(gzip.len()).expect("it is small").to_le_bytes();
    let efi = Seed::default().put(16_u32.to_le_bytes()).put(length).put(&gzip).0;
    start(2).put(&efi).write("riscv_kernel", "efi");
    let packed = self::gzip(&[&b"MZ\0\0zimg"[..], &efi].concat());
    start(0).put(packed).write("riscv_kernel", "efi-in-gzip");
    start(3).words(&[512 << 20, 0x9000_0000, 0x9000_1000]).write("riscv_kernel", "device-tree");
}

/// One stored block of deflate.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("it is small");
    Seed::default()
        .put([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1])
        .put(size.to_le_bytes())
        .put((!size).to_le_bytes())
        .put(bytes)
        .put(crc32(&[bytes]).to_le_bytes())
        .put(u32::from(size).to_le_bytes())
        .0
}

/// A hart's waiting place and a trap entry, both written to `mtvec`.
fn opensbi() {
    let mut code = [0x0000_0013_u32; 64];
    // auipc s4, 0; addi s4, s4, 0x40; csrw mtvec, s4
    code[..3].copy_from_slice(&[0x0000_0a17, 0x040a_0a13, 0x305a_1073]);
    // auipc a4, 0; addi a4, a4, 0x70; csrw mtvec, a4
    code[4..7].copy_from_slice(&[0x0000_0717, 0x0707_0713, 0x3057_1073]);
    // wfi
    code[16] = 0x1050_0073;
    // csrrw tp, mscratch, tp; sd t0, 72(tp); csrr t0, mstatus
    code[32..35].copy_from_slice(&[0x3402_1273, 0x0452_3423, 0x3000_22f3]);
    let image = |repeat: u8, code: &[u32]| {
        let seed = Seed::default().put([repeat]);
        code.iter().fold(seed, |seed, instruction| seed.put(instruction.to_le_bytes()))
    };
    image(0, &code).write("opensbi_image", "one-trap-entry");
    image(255, &code).write("opensbi_image", "repeated");
    image(0, &code[..32]).write("opensbi_image", "cut-short");
}
