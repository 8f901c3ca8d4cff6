//! `privlevel/…`: text is parsed as `kstrtouint` does, base 0, and must be between the floor and 3.

use std::io::IoSlice;

use nix::{errno::Errno, fcntl::OFlag, sys::uio::pwrite, unistd::write};

use crate::{
    check::{Check, SNP},
    context::{Context, nonce},
    outcome::{Outcome, equal, gives, holds, ok, refused, skipped},
    sys,
};

const PARSE: &str = "kstrtouint, _parse_integer_fixup_radix";
const STORE: &str = "tsm_report_privlevel_store";
const WRITE: &str = "configfs_write_iter";
const EMPTY_WRITE: &str = "fuse_direct_write_iter answers an empty write itself, with 0";

pub(super) const CHECKS: &[Check] = &[
    Check::new("privlevel/levels", "levels from the floor to 3 are taken", STORE, |context| {
        taken(context, &[b"0", b"1", b"2", b"3"])
    })
    .needs(SNP),
    Check::new("privlevel/too-high", "levels above 3 are refused", STORE, |context| {
        wrong(context, Errno::EINVAL, &[b"4", b"5", b"10", b"255", b"4294967295", b"0x4", b"04", b"010"])
    })
    .needs(SNP),
    Check::new("privlevel/below-the-floor", "levels below the floor are refused", STORE, |context| {
        let entry = context.entry()?;
        let floor = entry.number("privlevel_floor")?;
        for level in 0..floor {
            refused(
                format!("level {level}"),
                entry.write("privlevel", level.to_string().as_bytes()),
                Errno::EINVAL,
            )?;
        }
        let level = floor.to_string();
        gives("the floor itself", entry.write("privlevel", level.as_bytes()), level.len())
    })
    .needs(SNP),
    Check::new(
        "privlevel/floor",
        "the floor is a number from 0 to 3 and a newline",
        "tsm_report_privlevel_floor_show",
        |context| {
            let floor = context.entry()?.number("privlevel_floor")?;
            holds(floor <= 3, "privlevel_floor", "0 to 3", floor.to_string())
        },
    )
    .needs(SNP),
    Check::new("privlevel/newline", "one newline may follow", PARSE, |context| {
        taken(context, &[b"3\n", b"0x3\n", b"+3\n", b"03\n"])
    })
    .needs(SNP),
    Check::new("privlevel/bases", "0x says hexadecimal, a leading 0 octal", PARSE, |context| {
        taken(context, &[b"0x3", b"0X3", b"0x03", b"03", b"003", b"0x00000003", b"0000000000000000000003"])
    })
    .needs(SNP),
    Check::new("privlevel/plus", "a plus may precede", PARSE, |context| {
        taken(context, &[b"+3", b"+0x3", b"+03"])
    })
    .needs(SNP),
    Check::new(
        "privlevel/zero-byte",
        "what follows a zero byte is not looked at, yet counts as written",
        PARSE,
        |context| taken(context, &[b"3\0", b"3\0garbage", b"3\n\0\n", b"0x3\0\xff"]),
    )
    .needs(SNP),
    Check::new("privlevel/signs", "other signs are refused", PARSE, |context| {
        wrong(
            context,
            Errno::EINVAL,
            &[b"-1", b"-0", b"-3", b"++3", b"+-3", b"-+3", b"3+", b"3-", b"+", b"-"],
        )
    })
    .needs(SNP),
    Check::new("privlevel/space", "space is refused", PARSE, |context| {
        wrong(
            context,
            Errno::EINVAL,
            &[b" 3", b"3 ", b"\t3", b"\n3", b"3\n\n", b"3\r\n", b"3\n ", b"+ 3", b" ", b"\n"],
        )
    })
    .needs(SNP),
    Check::new("privlevel/not-a-number", "anything else is refused", PARSE, |context| {
        let texts: [&[u8]; 14] = [
            b"a", b"3a", b"3.0", b"0b11", b"0o3", b"0x", b"0x\n", b"x3", b"0xg", b"08", b"1_0", b"3,",
            b"\xb3", b"\x003",
        ];
        wrong(context, Errno::EINVAL, &texts)
    })
    .needs(SNP),
    Check::new("privlevel/overflow", "what does not fit an unsigned int is out of range", PARSE, |context| {
        let texts: [&[u8]; 8] = [
            b"4294967296",
            b"0x100000000",
            b"040000000000",
            b"18446744073709551615",
            b"18446744073709551616",
            b"+99999999999999999999999999",
            b"0xffffffffffffffffffffffff",
            b"99999999999999999999999999 junk",
        ];
        wrong(context, Errno::ERANGE, &texts)
    })
    .needs(SNP),
    Check::new(
        "privlevel/generation",
        "each level that is taken counts, the same one too",
        STORE,
        |context| {
            let entry = context.entry()?;
            for count in 1..=4 {
                gives("write 3", entry.write("privlevel", b"3"), 1)?;
                entry.generation_is("after a level", count)?;
            }
            Ok(())
        },
    )
    .needs(SNP),
    Check::new("privlevel/4095-bytes", "text may have 4095 bytes", "fill_write_buffer", |context| {
        long(context, 4095)
    })
    .needs(SNP),
    Check::new(
        "privlevel/4096-bytes",
        "of longer text 4095 bytes are taken",
        "fill_write_buffer",
        |context| long(context, 4096),
    )
    .needs(SNP),
    Check::new(
        "privlevel/6000-bytes",
        "of longer text 4095 bytes are taken",
        "fill_write_buffer",
        |context| long(context, 6000),
    )
    .needs(SNP),
    Check::new(
        "privlevel/long-number",
        "a number of 4096 digits is out of range",
        "_parse_integer_limit",
        |context| {
            let entry = context.entry()?;
            refused("4096 nines", entry.write("privlevel", &[b'9'; 4096]), Errno::ERANGE)?;
            entry.generation_is("after that", 0)
        },
    )
    .needs(SNP),
    Check::new(
        "privlevel/stored-at-write",
        "text is stored at the write, not at close",
        "flush_write_buffer",
        |context| {
            let entry = context.entry()?;
            let fd = entry.writer("privlevel")?;
            gives("write 3", write(&fd, b"3"), 1)?;
            entry.generation_is("before close", 1)?;
            drop(fd);
            entry.generation_is("after close", 1)
        },
    )
    .needs(SNP),
    Check::new("privlevel/each-write-alone", "writes to text are not joined", WRITE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("privlevel")?;
        refused("write 0x", write(&fd, b"0x"), Errno::EINVAL)?;
        gives("write 3", write(&fd, b"3"), 1)?;
        gives("write 2", write(&fd, b"2"), 1).or_else(|stop| above_floor(context, 2, stop))?;
        refused("write a newline", write(&fd, b"\n"), Errno::EINVAL)?;
        entry.generation_is("after two levels", 2)
    })
    .needs(SNP),
    Check::new("privlevel/offset", "the offset does not matter", WRITE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("privlevel")?;
        gives("pwrite at 1000", pwrite(&fd, b"3", 1000), 1)?;
        gives("pwrite at 100000", pwrite(&fd, b"3", 100_000), 1)?;
        gives("write", write(&fd, b"3"), 1)?;
        entry.generation_is("after three levels", 3)
    })
    .needs(SNP),
    Check::new("privlevel/writev", "the parts of one writev are one text", WRITE, |context| {
        let entry = context.entry()?;
        let fd = entry.writer("privlevel")?;
        let parts = [IoSlice::new(b"0"), IoSlice::new(b"x"), IoSlice::new(b"3\n")];
        gives("writev", nix::sys::uio::writev(&fd, &parts), 4)?;
        entry.generation_is("after one writev", 1)
    })
    .needs(SNP),
    Check::new(
        "privlevel/empty-write",
        "an empty write is a fault and does not count",
        "fill_write_buffer",
        |context| {
            let entry = context.entry()?;
            refused("empty write", entry.write("privlevel", b""), Errno::EFAULT)?;
            entry.generation_is("after the empty write", 0)
        },
    )
    .needs(SNP)
    .not_on_fuse(EMPTY_WRITE),
    Check::new(
        "privlevel/from-nowhere",
        "a bad buffer is refused and does not count",
        "fill_write_buffer",
        |context| {
            let entry = context.entry()?;
            let fd = entry.writer("privlevel")?;
            refused("write from a bad buffer", sys::write_from_nowhere(&fd, 1), Errno::EFAULT)?;
            entry.generation_is("after the bad write", 0)
        },
    )
    .needs(SNP),
    Check::new("privlevel/in-the-report", "the report states the level", "sev_report_new", |context| {
        let entry = context.entry()?;
        let floor = entry.number("privlevel_floor")?;
        let nonce = nonce();
        entry.inblob(&nonce)?;
        for level in floor..=3 {
            gives("write the level", entry.write("privlevel", level.to_string().as_bytes()), 1)?;
            let report = entry.outblob()?;
            equal("VMPL in the report", report.get(0x30).copied().map(u64::from), Some(level))?;
            equal("the caller's data", context.report_data(&report)? == nonce, true)?;
        }
        Ok(())
    })
    .needs(SNP),
    Check::new(
        "privlevel/default",
        "without a level the report is for level 0",
        "sev_report_new",
        |context| {
            let entry = context.entry()?;
            if entry.number("privlevel_floor")? != 0 {
                return skipped("level 0 is below this guest's floor");
            }
            entry.inblob(&nonce())?;
            equal("VMPL in the report", entry.outblob()?.get(0x30).copied(), Some(0))
        },
    )
    .needs(SNP),
    Check::new(
        "privlevel/refused-changes-nothing",
        "a refused level leaves the report valid",
        STORE,
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let before = entry.outblob()?;
            refused("write 4", entry.write("privlevel", b"4"), Errno::EINVAL)?;
            equal("outblob is the same", entry.outblob()? == before, true)
        },
    )
    .needs(SNP),
    Check::new(
        "privlevel/shell",
        "what a shell's echo does works",
        "do_open, configfs_write_iter",
        |context| {
            let entry = context.entry()?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
            let fd = ok("open", entry.open("privlevel", flags))?;
            gives("write", write(&fd, b"3\n"), 2)?;
            entry.generation_is("after it", 1)
        },
    )
    .needs(SNP),
];

/// Each is taken whole and counts.
fn taken(context: &Context, texts: &[&[u8]]) -> Outcome {
    let entry = context.entry()?;
    let floor = entry.number("privlevel_floor")?;
    let mut generation = 0;
    for text in texts {
        // Only the bare digits of `levels` can be below the floor: all others are 3.
        if matches!(text, [digit] if u64::from(digit - b'0') < floor) {
            continue;
        }
        gives(format!("write {}", text.escape_ascii()), entry.write("privlevel", text), text.len())?;
        generation += 1;
        entry.generation_is(&format!("after {}", text.escape_ascii()), generation)?;
    }
    Ok(())
}

/// Each is refused and does not count.
fn wrong(context: &Context, errno: Errno, texts: &[&[u8]]) -> Outcome {
    let entry = context.entry()?;
    for text in texts {
        refused(format!("write {}", text.escape_ascii()), entry.write("privlevel", text), errno)?;
        entry.generation_is(&format!("after {}", text.escape_ascii()), 0)?;
    }
    Ok(())
}

/// Zeros, octal for 0, as many as are asked for; the last of those that are taken is a 3.
fn long(context: &Context, size: usize) -> Outcome {
    let entry = context.entry()?;
    let mut text = vec![b'0'; size];
    text[4094] = b'3';
    gives(format!("write of {size} bytes"), entry.write("privlevel", &text), 4095)?;
    entry.generation_is("after it", 1)
}

/// A refusal is right if the level is below the floor; the checks that use this write 2.
fn above_floor(context: &Context, level: u64, stop: crate::outcome::Stop) -> Outcome {
    if context.entry()?.number("privlevel_floor")? > level {
        return skipped("this guest's floor is above 2");
    }
    Err(stop)
}
