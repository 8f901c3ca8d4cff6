//! `inblob/…`: binary writes collect per open file and are stored at the last close.

use std::{io::IoSlice, os::fd::AsFd as _};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{uio::pwrite, wait::waitpid},
    unistd::{dup, write},
};

use crate::{
    check::{Check, REPORT_DATA},
    context::{Context, Entry, nonce, write_all},
    outcome::{Outcome, equal, gives, ok, refused},
    sys,
};

const WRITE: &str = "configfs_bin_write_iter";
const RELEASE: &str = "configfs_release_bin_file";
const EMPTY_WRITE: &str = "fuse_direct_write_iter answers an empty write itself, with 0";
const FAULT: &str = "fuse_direct_io refuses a bad buffer before the server is asked";

pub(super) const CHECKS: &[Check] = &[
    Check::new("inblob/stored-at-close", "a write is stored when the file is closed", RELEASE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        write_all("inblob", fd.as_fd(), &nonce())?;
        entry.generation_is("before close", 0)?;
        refused("outblob before close", entry.read("outblob"), Errno::EINVAL)?;
        drop(fd);
        entry.generation_is("after close", 1)?;
        ok("read outblob after close", entry.read("outblob"))?;
        Ok(())
    }),
    Check::new("inblob/sizes", "any length up to 64 is stored", "tsm_report_inblob_write", |context| {
        let entry = context.entry()?;
        for (size, generation) in [1, 2, 31, 32, 48, 63, 64].into_iter().zip(1..) {
            entry.inblob(&nonce()[..size])?;
            entry.generation_is(&format!("after {size} bytes"), generation)?;
        }
        Ok(())
    }),
    Check::new("inblob/65-bytes", "more than 64 bytes are refused at the write", WRITE, |context| {
        let entry = context.entry()?;
        for size in [65, 66, 128, 4096, 1 << 20] {
            let fd = entry.writer("inblob")?;
            refused(format!("write of {size} bytes"), write(&fd, &vec![1; size]), Errno::EFBIG)?;
        }
        Ok(())
    }),
    Check::new(
        "inblob/refused-write-stores-nothing",
        "closing after a refused write stores an empty inblob, and that counts",
        "configfs_release_bin_file: write_in_progress stays",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            refused("write of 65 bytes", entry.write("inblob", &[1; 65]), Errno::EFBIG)?;
            entry.generation_is("after the refused write", 2)?;
            refused("outblob", entry.read("outblob"), Errno::EINVAL)
        },
    ),
    Check::new("inblob/one-byte-too-many", "what was taken before stays", WRITE, |context| {
        let entry = context.entry()?;
        let nonce = nonce();
        let fd = entry.writer("inblob")?;
        write_all("64 bytes", fd.as_fd(), &nonce)?;
        refused("one byte more", write(&fd, b"x"), Errno::EFBIG)?;
        drop(fd);
        entry.generation_is("after close", 1)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new("inblob/two-writes", "writes of one open file are joined", WRITE, |context| {
        pieces(context, 32)
    })
    .needs(REPORT_DATA),
    Check::new("inblob/64-writes", "single bytes are joined", WRITE, |context| pieces(context, 1))
        .needs(REPORT_DATA),
    Check::new("inblob/uneven-writes", "pieces of any size are joined", WRITE, |context| pieces(context, 27))
        .needs(REPORT_DATA),
    Check::new("inblob/writev", "the parts of one writev are joined", WRITE, |context| {
        let entry = context.entry()?;
        let nonce = nonce();
        let fd = entry.writer("inblob")?;
        let parts = [IoSlice::new(&nonce[..5]), IoSlice::new(&nonce[5..50]), IoSlice::new(&nonce[50..])];
        gives("writev", nix::sys::uio::writev(&fd, &parts), 64)?;
        drop(fd);
        entry.generation_is("after close", 1)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new("inblob/last-close", "a duplicate keeps the file open", RELEASE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        let copy = ok("dup", dup(&fd))?;
        write_all("inblob", fd.as_fd(), &nonce())?;
        drop(fd);
        entry.generation_is("after the first close", 0)?;
        drop(copy);
        entry.generation_is("after the last close", 1)
    }),
    Check::new("inblob/duplicates-write-together", "duplicates share buffer and offset", WRITE, |context| {
        let entry = context.entry()?;
        let nonce = nonce();
        let fd = entry.writer("inblob")?;
        let copy = ok("dup", dup(&fd))?;
        write_all("the first half", fd.as_fd(), &nonce[..32])?;
        write_all("the second half through the duplicate", copy.as_fd(), &nonce[32..])?;
        drop(fd);
        drop(copy);
        entry.generation_is("after the last close", 1)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new(
        "inblob/closed-by-a-child",
        "a file that a child still has open is not stored",
        RELEASE,
        closed_by_a_child,
    ),
    Check::new("inblob/written-by-a-child", "parent and child fill one buffer", WRITE, |context| {
        let entry = context.entry()?;
        let nonce = nonce();
        let fd = entry.writer("inblob")?;
        write_all("the first half", fd.as_fd(), &nonce[..32])?;
        let child = ok("fork", sys::fork(|| write(&fd, &nonce[32..]).is_ok()))?;
        ok("wait", waitpid(child, None))?;
        entry.generation_is("before the last close", 0)?;
        drop(fd);
        entry.generation_is("after the last close", 1)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new("inblob/opened-alone", "opening without writing stores nothing", RELEASE, |context| {
        let entry = context.entry()?;
        drop(entry.writer("inblob")?);
        drop(ok("open with O_TRUNC", entry.open("inblob", OFlag::O_WRONLY | OFlag::O_TRUNC))?);
        entry.generation_is("after opening alone", 0)
    }),
    Check::new(
        "inblob/two-open-files",
        "each open file has its own buffer; the last close wins",
        RELEASE,
        |context| {
            let entry = context.entry()?;
            let (first, second) = (nonce(), nonce());
            let (one, other) = (entry.writer("inblob")?, entry.writer("inblob")?);
            write_all("one", one.as_fd(), &first)?;
            write_all("other", other.as_fd(), &second)?;
            drop(other);
            entry.carries(context, &second)?;
            drop(one);
            entry.generation_is("after both", 2)?;
            entry.carries(context, &first)
        },
    )
    .needs(REPORT_DATA),
    Check::new(
        "inblob/shorter-later",
        "a shorter inblob replaces all of a longer one",
        "tsm_report_inblob_write",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            ok("read outblob", entry.read("outblob"))?;
            entry.inblob(&[7; 32])?;
            refused("outblob of 32 bytes", entry.read("outblob"), Errno::EINVAL)
        },
    )
    .needs(REPORT_DATA),
    Check::new("inblob/written-over", "within one open file bytes are written over", WRITE, |context| {
        let entry = context.entry()?;
        let mut nonce = nonce();
        let fd = entry.writer("inblob")?;
        write_all("inblob", fd.as_fd(), &nonce)?;
        gives("pwrite at 10", pwrite(&fd, b"abcd", 10), 4)?;
        gives("pwrite at 60", pwrite(&fd, b"wxyz", 60), 4)?;
        drop(fd);
        nonce[10..14].copy_from_slice(b"abcd");
        nonce[60..].copy_from_slice(b"wxyz");
        entry.generation_is("after close", 1)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new("inblob/hole", "what is skipped is zero", "configfs_bin_write_iter: memset", |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        gives("pwrite at 60", pwrite(&fd, b"tail", 60), 4)?;
        drop(fd);
        let mut expected = [0; 64];
        expected[60..].copy_from_slice(b"tail");
        entry.carries(context, &expected)
    })
    .needs(REPORT_DATA),
    Check::new(
        "inblob/pwrite-keeps-the-offset",
        "pwrite does not move the offset of write",
        "ksys_pwrite64",
        |context| {
            let entry = context.entry()?;
            let nonce = nonce();
            let fd = entry.writer("inblob")?;
            write_all("the first part", fd.as_fd(), &nonce[..20])?;
            gives("pwrite of the last part", pwrite(&fd, &nonce[40..], 40), 24)?;
            write_all("the middle part", fd.as_fd(), &nonce[20..40])?;
            drop(fd);
            entry.carries(context, &nonce)
        },
    )
    .needs(REPORT_DATA),
    Check::new("inblob/far-offsets", "no byte goes beyond the 64th", WRITE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        for offset in [64, 65, 4096, 1 << 31, 1 << 40] {
            refused(format!("pwrite at {offset}"), pwrite(&fd, b"x", offset), Errno::EFBIG)?;
        }
        refused("pwrite across the end", pwrite(&fd, b"xx", 63), Errno::EFBIG)?;
        refused("pwrite before the start", pwrite(&fd, b"x", -1), Errno::EINVAL)?;
        refused("pwrite at the end of all offsets", pwrite(&fd, b"x", i64::MAX), Errno::EINVAL)?;
        gives("pwrite of the 64th byte", pwrite(&fd, b"x", 63), 1)
    }),
    Check::new(
        "inblob/truncated-while-open",
        "truncation does not touch the buffer",
        "configfs_setattr",
        |context| {
            let entry = context.entry()?;
            let nonce = nonce();
            let fd = entry.writer("inblob")?;
            write_all("inblob", fd.as_fd(), &nonce)?;
            ok("ftruncate", nix::unistd::ftruncate(&fd, 0))?;
            drop(fd);
            entry.carries(context, &nonce)
        },
    )
    .needs(REPORT_DATA),
    Check::new(
        "inblob/same-again",
        "the same bytes again are a write all the same",
        "tsm_report_inblob_write",
        |context| {
            let entry = context.entry()?;
            let nonce = nonce();
            entry.inblob(&nonce)?;
            entry.inblob(&nonce)?;
            entry.generation_is("after the same twice", 2)
        },
    ),
    Check::new("inblob/any-bytes", "inblob is binary", "tsm_report_inblob_write", |context| {
        let entry = context.entry()?;
        let counting: [u8; 64] = std::array::from_fn(|index| u8::try_from(index).unwrap_or(0));
        for bytes in [[0; 64], [0xff; 64], [b'\n'; 64], counting] {
            entry.inblob(&bytes)?;
            entry.carries(context, &bytes)?;
        }
        Ok(())
    })
    .needs(REPORT_DATA),
    Check::new(
        "inblob/empty-write",
        "an empty write is a fault that stores an empty inblob",
        WRITE,
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            refused("empty write", entry.write("inblob", b""), Errno::EFAULT)?;
            entry.generation_is("after the empty write", 2)?;
            refused("outblob", entry.read("outblob"), Errno::EINVAL)
        },
    )
    .not_on_fuse(EMPTY_WRITE),
    Check::new("inblob/from-nowhere", "a bad buffer is refused", WRITE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("inblob")?;
        refused("write from a bad buffer", sys::write_from_nowhere(&fd, 64), Errno::EFAULT)
    }),
    Check::new(
        "inblob/from-nowhere-stores-zeros",
        "a bad buffer still grows what is stored",
        WRITE,
        |context| {
            let entry = context.entry()?;
            let fd = entry.writer("inblob")?;
            refused("write from a bad buffer", sys::write_from_nowhere(&fd, 64), Errno::EFAULT)?;
            drop(fd);
            entry.generation_is("after the bad write", 1)?;
            entry.carries(context, &[0; 64])
        },
    )
    .needs(REPORT_DATA)
    .not_on_fuse(FAULT),
    Check::new(
        "inblob/in-the-report",
        "what is written is what the report carries",
        "sev_report_new, tdx_report_new, cove_report_new",
        |context| {
            let entry = context.entry()?;
            for _ in 0..4 {
                let nonce = nonce();
                entry.inblob(&nonce)?;
                entry.carries(context, &nonce)?;
            }
            Ok(())
        },
    )
    .needs(REPORT_DATA),
];

fn pieces(context: &Context, size: usize) -> Outcome {
    let entry = context.entry()?;
    let nonce = nonce();
    let fd = entry.writer("inblob")?;
    for piece in nonce.chunks(size) {
        write_all("a piece", fd.as_fd(), piece)?;
    }
    drop(fd);
    entry.generation_is("after one open file", 1)?;
    entry.carries(context, &nonce)
}

/// The child keeps the file until it is told to go.
fn closed_by_a_child(context: &Context) -> Outcome {
    let entry: Entry = context.entry()?;
    let fd = entry.writer("inblob")?;
    write_all("inblob", fd.as_fd(), &nonce())?;
    let (wait, go) = ok("pipe", nix::unistd::pipe())?;
    let child = ok("fork", sys::fork(|| nix::unistd::read(&wait, &mut [0]).is_ok()))?;
    drop(fd);
    let between = entry.generation();
    gives("tell the child to go", write(&go, b"g"), 1)?;
    ok("wait", waitpid(child, None))?;
    equal("generation while the child has it open", between?, 0)?;
    entry.generation_is("after the child is gone", 1)
}
