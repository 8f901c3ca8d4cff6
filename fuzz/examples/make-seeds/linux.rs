//! Seeds of the targets about stock kernels.

use tsmsim_abi::guest_channel::{FrameType, crc32};

use crate::{Seed, elf, write};

/// All of them.
pub(crate) fn seeds() {
    images();
    sites();
    channel();
    gdb();
}

/// A kernel of one segment at 1 MiB, with a banner.
fn kernel() -> Vec<u8> {
    let banner = b"Linux version 6.1-seed (x)\0";
    let mut elf = elf(0xffff_ffff_8100_0000, 0x10_0000, &[0xf3, 0x0f, 0x01, 0xd9, 0xc3]);
    elf[0x80..0x80 + banner.len()].copy_from_slice(banner);
    elf
}

fn images() {
    let elf = kernel();
    write("linux_image", "elf", &[&[0][..], &elf].concat());
    write("linux_image", "elf-in-bzimage", &[&[1][..], &elf].concat());
    let size = u16::try_from(elf.len()).expect("it is small");
    // One stored block of deflate.
    let gzip = Seed::default()
        .put([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1])
        .put(size.to_le_bytes())
        .put((!size).to_le_bytes())
        .put(&elf)
        .put(crc32(&[&elf]).to_le_bytes())
        .put(u32::from(size).to_le_bytes());
    // One raw block; the frame says its size in four bytes.
    let zstd = Seed::default()
        .put([0x28, 0xb5, 0x2f, 0xfd, 0xa0])
        .put(u32::from(size).to_le_bytes())
        .put(&(u32::from(size) << 3 | 1).to_le_bytes()[..3])
        .put(&elf);
    // One sequence, all literals.
    let mut literals = vec![0xf0];
    let rest = elf.len() - 15;
    literals.extend(std::iter::repeat_n(255, rest / 255));
    literals.push(u8::try_from(rest % 255).expect("a remainder"));
    literals.extend(&elf);
    let length = u32::try_from(literals.len()).expect("it is small");
    let lz4 = Seed::default().put([0x02, 0x21, 0x4c, 0x18]).put(length.to_le_bytes()).put(literals);
    for (name, stream) in [("gzip", gzip), ("zstd", zstd), ("lz4", lz4)] {
        write("linux_image", name, &[&[2][..], &stream.0].concat());
        let said = if name == "gzip" { Vec::new() } else { u32::from(size).to_le_bytes().to_vec() };
        let payload = [stream.0, said].concat();
        let length = u16::try_from(payload.len()).expect("it is small");
        let header = Seed::default().put([3, 1]).put(0x20f_u16.to_le_bytes()).put([0, 0]);
        let image = header.put(length.to_le_bytes()).put([0, 0]).put(payload);
        image.write("linux_image", &format!("{name}-in-bzimage"));
    }
    for (name, magic) in
        [("xz", &b"\xfd7zXZ\0\0\x01"[..]), ("bzip2", b"BZh91AY&SY"), ("lzma", b"\x5d\0\0\x01\0")]
    {
        write("linux_image", &format!("{name}-beginning"), &[&[2][..], magic, &[0xff; 8], &[0; 32]].concat());
    }
}

fn sites() {
    let padding = [0xcc; 15];
    let function = |code: &[u8]| {
        let mut bytes = code.to_vec();
        bytes.resize(code.len().next_multiple_of(16).max(32), 0xcc);
        bytes
    };
    let request = [0xb9, 0x30, 0x01, 0x01, 0xc0, 0x0f, 0x30, 0xf3, 0x0f, 0x01, 0xd9, 0x0f, 0x32, 0xc3];
    let sev = [0xb8, 0x1f, 0, 0, 0x80, 0x31, 0xc9, 0x0f, 0xa2, 0xc3];
    let pages = [0xf2, 0x0f, 0x01, 0xff, 0xf3, 0x0f, 0x01, 0xfe, 0xc3];
    let td = [0x66, 0x0f, 0x01, 0xcc, 0x0f, 0xa2, 0xc3];
    let halt = [function(&[0xfb, 0xf4, 0xc3]), function(&[0xf3, 0x0f, 0x1e, 0xfa, 0xfa, 0xc3])].concat();
    let hidden = [0x48, 0xb8, 0xf3, 0x0f, 0x01, 0xd9, 0xf2, 0x0f, 0x01, 0xff, 0xc3];
    let start = Seed::default().put([0]).put([0xc3]).put(padding);
    start
        .clone()
        .put(function(&request))
        .put(function(&sev))
        .put(function(&pages))
        .write("linux_sites", "snp");
    start.clone().put(function(&td)).put(halt).write("linux_sites", "tdx");
    start.put(function(&hidden)).write("linux_sites", "hidden");
}

fn channel() {
    let frame = |seed: Seed, kind: FrameType, payload: &[u8]| seed.put([2, kind.0]).sized(payload);
    let begin = |seed: Seed, size: u16, path: &str| {
        seed.put([1]).put(0o755_u16.to_le_bytes()).put(size.to_le_bytes()).sized(path)
    };
    let seed = frame(Seed::default().put([1]), FrameType::HELLO, &[]);
    let seed = frame(seed, FrameType::STDOUT, b"ok 1\n");
    let seed = frame(begin(seed, 4, "a/b"), FrameType::FILE_DATA, b"four");
    let seed = begin(frame(seed, FrameType::LOG, b"said"), 0, "empty");
    frame(seed, FrameType::EXIT, &[7, 0, 0, 0]).write("guest_channel", "files-and-status");
    let seed = begin(begin(Seed::default().put([1]), 9, "../up"), 9, "a");
    let seed = frame(seed, FrameType::FILE_DATA, b"ten  bytes").put([0]).sized(b"noise\xf5TS\xfa");
    begin(frame(seed.put([0x80]).sized([0xf5]), FrameType::STDERR, b"lost before"), 0, "a/b")
        .write("guest_channel", "trouble");
}

fn gdb() {
    let packet = |seed: Seed, body: &str| seed.put([1]).sized(body);
    let start = |requests: &[u8]| {
        let count = u8::try_from(requests.len()).expect("few");
        packet(Seed::default().put([count]).put(requests).put([0]).sized(b"+"), "OK")
    };
    let registers = "0".repeat(2 * 608);
    let seed = packet(packet(start(&[0, 1, 2, 3]), &registers), "OK");
    packet(packet(seed, "0102030405060708"), "OK").write("gdb_protocol", "registers");
    let seed = start(&[7, 10, 12, 9, 14, 15]);
    let seed = packet(packet(packet(seed, "OK"), "O414243"), "T05thread:01;");
    packet(packet(packet(seed, "S05"), "O4142"), "OK").write("gdb_protocol", "stops");
    let seed = start(&[0x24, 0x25, 0x26]).put([2]).sized(b"0*\x7f0*\x7f");
    let seed = packet(packet(packet(seed, "OK"), "OK"), "E01");
    packet(seed, "W00").write("gdb_protocol", "memory-and-end");
}
