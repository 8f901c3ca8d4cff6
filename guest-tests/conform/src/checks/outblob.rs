//! `outblob/…` and `auxblob/…`: made when stale, served from the cache otherwise; one buffer per open file.

use nix::errno::Errno;

use crate::{
    check::{COVE, Check, REPORT_DATA, SNP, TDX},
    context::{Context, hex, nonce},
    outcome::{Outcome, equal, failed, gives, holds, ok, refused},
    sys,
};

const READ: &str = "configfs_bin_read_iter";
const REPORT: &str = "tsm_report_read";

pub(super) const CHECKS: &[Check] = &[
    Check::new(
        "outblob/before-inblob",
        "without inblob there is no report",
        "read_cached_report",
        |context| {
            let entry = context.entry()?;
            refused("outblob", entry.read("outblob"), Errno::EINVAL)?;
            entry.generation_is("after the refused read", 0)
        },
    ),
    Check::new(
        "outblob/wrong-length",
        "inblob must have 64 bytes",
        "sev_report_new, tdx_report_new, cove_report_new",
        |context| {
            let entry = context.entry()?;
            for size in [1, 2, 31, 32, 48, 63] {
                entry.inblob(&nonce()[..size])?;
                refused(format!("outblob for {size} bytes"), entry.read("outblob"), Errno::EINVAL)?;
                refused(format!("outblob for {size} bytes, again"), entry.read("outblob"), Errno::EINVAL)?;
            }
            Ok(())
        },
    )
    .needs(REPORT_DATA),
    Check::new("outblob/after-a-failure", "a failed report is tried again", REPORT, |context| {
        let entry = context.entry()?;
        entry.inblob(&[1; 5])?;
        refused("outblob", entry.read("outblob"), Errno::EINVAL)?;
        let nonce = nonce();
        entry.inblob(&nonce)?;
        entry.carries(context, &nonce)?;
        entry.inblob(&[1; 5])?;
        refused("outblob", entry.read("outblob"), Errno::EINVAL)?;
        entry.inblob(&nonce)?;
        entry.carries(context, &nonce)
    })
    .needs(REPORT_DATA),
    Check::new(
        "outblob/refused-then-read",
        "an open file whose first read failed reads later",
        READ,
        |context| {
            let entry = context.entry()?;
            let fd = entry.reader("outblob")?;
            refused("read before inblob", sys::read(&fd, 64), Errno::EINVAL)?;
            entry.inblob(&nonce())?;
            let late = ok("read after inblob", sys::read_pieces(&fd, 65_536))?;
            equal("the same as a new open file reads", late == entry.outblob()?, true)
        },
    ),
    Check::new(
        "outblob/cached",
        "a second read gives the very same bytes",
        "read_cached_report",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let first = entry.outblob()?;
            holds(!first.is_empty(), "outblob", "some bytes", "none")?;
            for _ in 0..5 {
                equal("outblob is the same", entry.outblob()? == first, true)?;
            }
            entry.generation_is("after reading", 1)
        },
    ),
    Check::new("outblob/stale", "after a write the report is made anew", REPORT, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let first = entry.outblob()?;
        entry.inblob(&nonce())?;
        equal("outblob is another", entry.outblob()? != first, true)
    }),
    Check::new("outblob/small-reads", "pieces of any size give the whole", READ, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let whole = entry.outblob()?;
        for piece in [1, 7, 100, 512, 4096, 100_000] {
            let joined = ok(format!("read by {piece}"), sys::read_pieces(entry.reader("outblob")?, piece))?;
            equal(format!("read by {piece} is the whole"), joined == whole, true)?;
        }
        Ok(())
    }),
    Check::new("outblob/pread", "any offset can be read", READ, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let whole = entry.outblob()?;
        let fd = entry.reader("outblob")?;
        for offset in [500_usize, 0, whole.len().saturating_sub(10), 64, whole.len().saturating_sub(1)] {
            let expected = whole.get(offset..(offset + 64).min(whole.len())).unwrap_or_default();
            let at = i64::try_from(offset).unwrap_or(0);
            let got = ok(format!("pread at {offset}"), sys::pread(&fd, 64, at))?;
            equal(format!("bytes at {offset} are those of the whole"), got == expected, true)?;
        }
        let rest = ok("read from the start", sys::read_pieces(&fd, 4096))?;
        equal("pread did not move the offset", rest == whole, true)
    }),
    Check::new("outblob/end", "beyond the end there is nothing", READ, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let fd = entry.reader("outblob")?;
        let length = i64::try_from(ok("read", sys::read_pieces(&fd, 65_536))?.len()).unwrap_or(0);
        gives("read at the end", sys::read(&fd, 64), Vec::new())?;
        for offset in [length, length + 1, 65_536, 1 << 30] {
            gives(format!("pread at {offset}"), sys::pread(&fd, 64, offset), Vec::new())?;
        }
        refused("pread before the start", sys::pread(&fd, 64, -1), Errno::EINVAL)
    }),
    Check::new(
        "outblob/kept-while-open",
        "an open file keeps the report that it read first",
        READ,
        |context| {
            let entry = context.entry()?;
            let (first, second) = (nonce(), nonce());
            entry.inblob(&first)?;
            let fd = entry.reader("outblob")?;
            let start = ok("read the start", sys::read(&fd, 100))?;
            entry.inblob(&second)?;
            entry.carries(context, &second)?;
            let rest = ok("read the rest", sys::read_pieces(&fd, 4096))?;
            let data = context.report_data(&[start, rest].concat())?;
            equal("the open file's report carries the first inblob", data == first, true)
        },
    )
    .needs(REPORT_DATA),
    Check::new("outblob/read-late", "an open file that has not read yet reads the newest", READ, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let fd = entry.reader("outblob")?;
        let second = nonce();
        entry.inblob(&second)?;
        let data = context.report_data(&ok("read", sys::read_pieces(&fd, 4096))?)?;
        equal("the report carries the second inblob", data == second, true)
    })
    .needs(REPORT_DATA),
    Check::new(
        "outblob/shape-snp",
        "an SNP report has 0x4a0 bytes and version 2 or later",
        "sev_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let report = entry.outblob()?;
            equal("length", report.len(), 0x4a0)?;
            let version = word(&report, 0);
            holds((2..=16).contains(&version), "version", "2 or later", version.to_string())
        },
    )
    .needs(SNP),
    Check::new(
        "outblob/shape-tdx",
        "a TD quote states version 4 or 5 and TEE type 0x81",
        "tdx_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let quote = entry.outblob()?;
            holds(
                quote.len() > 1020,
                "length",
                "more than header, body and signature",
                quote.len().to_string(),
            )?;
            let version = word(&quote, 0) & 0xffff;
            holds(version == 4 || version == 5, "version", "4 or 5", version.to_string())?;
            equal("TEE type", word(&quote, 4), 0x81)
        },
    )
    .needs(TDX),
    Check::new(
        "outblob/shape-cove",
        "CoVE evidence is one COSE_Sign1 or one certificate, and nothing behind it",
        "cove_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            match entry.outblob()?.as_slice() {
                // Tag 18 and an array of four; or a SEQUENCE that says its length.
                [0xd2, 0x84, ..] => Ok(()),
                [0x30, 0x82, high, low, rest @ ..] => {
                    equal("length", rest.len(), u16::from_be_bytes([*high, *low]).into())
                }
                other => failed(
                    "outblob",
                    "COSE_Sign1 or a certificate",
                    format!("{} bytes, the first {:02x?}", other.len(), other.first()),
                ),
            }
        },
    )
    .needs(COVE),
    Check::new(
        "outblob/cove-key",
        "all evidence certifies the key that the module made when it was loaded",
        "cove_guest_init",
        |context| {
            let (one, other) = (context.entry()?, context.entry()?);
            one.inblob(&nonce())?;
            other.inblob(&nonce())?;
            let first = certified_key(&one.outblob()?)?;
            equal("the key in another entry", hex(&certified_key(&other.outblob()?)?), hex(&first))
        },
    )
    .needs(COVE),
    Check::new("outblob/limit", "no blob is longer than its limit", "TSM_OUTBLOB_MAX", |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let length = entry.outblob()?.len();
        holds(length <= 32 << 10, "length", "at most 32 KiB from these providers", length.to_string())
    })
    .needs(REPORT_DATA),
    Check::new("auxblob/before-inblob", "without inblob there is none", "read_cached_report", |context| {
        refused("auxblob", context.entry()?.read("auxblob"), Errno::EINVAL)
    })
    .needs(SNP),
    Check::new("auxblob/wrong-length", "inblob must have 64 bytes", "sev_report_new", |context| {
        let entry = context.entry()?;
        entry.inblob(&[1; 63])?;
        refused("auxblob", entry.read("auxblob"), Errno::EINVAL)
    })
    .needs(SNP),
    Check::new("auxblob/read-first", "reading auxblob makes the report too", REPORT, |context| {
        let entry = context.entry()?;
        let nonce = nonce();
        entry.inblob(&nonce)?;
        let table = ok("read auxblob", entry.read("auxblob"))?;
        entry.carries(context, &nonce)?;
        let again = ok("read auxblob again", entry.read("auxblob"))?;
        equal("auxblob is the same", again == table, true)?;
        entry.generation_is("after reading", 1)
    })
    .needs(SNP),
    Check::new(
        "auxblob/report-stays",
        "reading auxblob does not make another report",
        "read_cached_report",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let report = entry.outblob()?;
            ok("read auxblob", entry.read("auxblob"))?;
            equal("outblob is the same", entry.outblob()? == report, true)
        },
    )
    .needs(SNP),
    Check::new("auxblob/small-reads", "pieces of any size give the whole", READ, |context| {
        let entry = context.entry()?;
        entry.inblob(&nonce())?;
        let whole = ok("read auxblob", entry.read("auxblob"))?;
        for piece in [33, 4096] {
            let joined = ok(format!("read by {piece}"), sys::read_pieces(entry.reader("auxblob")?, piece))?;
            equal(format!("read by {piece} is the whole"), joined == whole, true)?;
        }
        Ok(())
    })
    .needs(SNP),
    Check::new(
        "auxblob/table",
        "a certificate table ends where its last certificate ends",
        "sev_report_new",
        table,
    )
    .needs(SNP),
];

/// x and y of the COSE_Key that the TVM gave, as the module writes it: {1: 2, -1: 1, -2: x, -3: y}.
fn certified_key(evidence: &[u8]) -> Outcome<Vec<u8>> {
    let key = evidence.windows(75).find(|key| {
        key.starts_with(&[0xa4, 1, 2, 0x20, 1, 0x21, 0x58, 32]) && key[40..].starts_with(&[0x22, 0x58, 32])
    });
    match key {
        Some(key) => Ok([&key[8..40], &key[43..]].concat()),
        None => failed("outblob", "a public key on P-256 with four parameters", "none"),
    }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// The GHCB's table: entries of GUID, offset and length, then one of zeros; the blob ends with the last certificate.
fn table(context: &Context) -> Outcome {
    let entry = context.entry()?;
    entry.inblob(&nonce())?;
    let blob = ok("read auxblob", entry.read("auxblob"))?;
    if blob.is_empty() {
        // A host without certificates: configfs reads as empty then.
        return Ok(());
    }
    let mut end = 0;
    for (index, row) in blob.chunks_exact(24).enumerate() {
        let (offset, length) = (word(row, 16), word(row, 20));
        if row.iter().all(|byte| *byte == 0) {
            return equal("length of auxblob", blob.len(), end);
        }
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        let last = first.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        let within = first >= 24 * (index + 2) && last <= blob.len();
        holds(within, format!("certificate {index}"), "within the blob", format!("{offset:#x}+{length:#x}"))?;
        end = end.max(last);
    }
    failed("the table", "a row of zeros at its end", "none")
}
