//! `sysfs/…`: what else the drivers leave for agents to find.

use std::{collections::BTreeSet, path::Path};

use nix::{errno::Errno, fcntl::OFlag, sys::uio::pwrite, unistd::write};

use super::device::tdreport;
use crate::{
    check::{Check, DEVICE, EXTEND, SNP, TDX},
    context::{Context, Style, nonce},
    outcome::{Outcome, equal, gives, holds, ok, refused, skipped},
    sys,
};

const MEASUREMENTS: &str = "/sys/devices/virtual/misc/tdx_guest/measurements";
const DIGEST: usize = 48;
/// The registers, whether they can be extended, and where TDREPORT has them (`TDREPORT_mrtd` and so on).
const REGISTERS: [(&str, bool, usize); 8] = [
    ("rtmr0:sha384", true, 720),
    ("rtmr1:sha384", true, 768),
    ("rtmr2:sha384", true, 816),
    ("rtmr3:sha384", true, 864),
    ("mrtd:sha384", false, 528),
    ("mrconfigid", false, 576),
    ("mrowner", false, 624),
    ("mrownerconfig", false, 672),
];

pub(super) const CHECKS: &[Check] = &[
    Check::new("sysfs/sev-guest", "the platform device is there", "snp_init_platform_device", |_| {
        let stat = ok("stat", sys::lstat(Path::new("/sys/devices/platform/sev-guest")))?;
        equal("type", stat.st_mode & 0o170_000, 0o040_000)
    })
    .needs(SNP),
    Check::new(
        "sysfs/no-measurements",
        "before Linux 6.16 there are no measurement registers",
        "tdx_mr_init",
        |context| {
            if context.style >= Style::V6_16 {
                return skipped("of Linux 6.15 and earlier");
            }
            refused("stat", sys::lstat(Path::new(MEASUREMENTS)).map(|_| ()), Errno::ENOENT)
        },
    )
    .needs(TDX),
    Check::new(
        "sysfs/registers",
        "these registers are there, with these modes and sizes",
        "tsm_mr_create_attribute_group",
        |context| {
            newest(context)?;
            let listed = ok("list the registers", sys::names(Path::new(MEASUREMENTS)))?;
            let names: BTreeSet<_> =
                listed.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
            equal("names", names, REGISTERS.iter().map(|(name, ..)| (*name).to_owned()).collect())?;
            for (name, writable, _) in REGISTERS {
                let stat = ok("stat", sys::lstat(&register(name)))?;
                let mode = if writable { 0o100_644 } else { 0o100_444 };
                equal(format!("mode of {name}"), format!("{:o}", stat.st_mode), format!("{mode:o}"))?;
                equal(format!("size of {name}"), stat.st_size, 48)?;
            }
            Ok(())
        },
    )
    .needs(TDX),
    Check::new(
        "sysfs/register-values",
        "a register reads as TDREPORT states it",
        "tm_digest_read",
        |context| {
            newest(context)?;
            let report = tdreport(context, &nonce())?;
            for (name, _, offset) in REGISTERS {
                let expected = report.get(offset..offset + DIGEST).unwrap_or_default().to_vec();
                gives(format!("read {name}"), sys::read_file(&register(name)), expected)?;
            }
            Ok(())
        },
    )
    .needs(TDX | DEVICE),
    Check::new("sysfs/partial-reads", "a register is read in pieces", "tm_digest_read", |context| {
        newest(context)?;
        let path = register("rtmr1:sha384");
        let whole = ok("read", sys::read_file(&path))?;
        let fd = ok("open", sys::open(&path, OFlag::O_RDONLY))?;
        gives("pread at 40", sys::pread(&fd, 64, 40), whole.get(40..).unwrap_or_default().to_vec())?;
        gives("pread at 48", sys::pread(&fd, 64, 48), Vec::new())?;
        gives("read by 5", sys::read_pieces(&fd, 5), whole)
    })
    .needs(TDX),
    Check::new(
        "sysfs/wrong-sizes",
        "a register takes one digest at offset 0 and nothing else",
        "tm_digest_write",
        |context| {
            newest(context)?;
            let path = register("rtmr3:sha384");
            let before = ok("read", sys::read_file(&path))?;
            let fd = ok("open for writing", sys::open(&path, OFlag::O_WRONLY))?;
            refused("write of 47 bytes", write(&fd, &[1; 47]), Errno::EINVAL)?;
            refused("write of 1 byte", write(&fd, &[1; 1]), Errno::EINVAL)?;
            refused("pwrite at 1", pwrite(&fd, &[1; 47], 1), Errno::EINVAL)?;
            refused("pwrite at 48", pwrite(&fd, &[1; 48], 48), Errno::EFBIG)?;
            gives("read afterwards", sys::read_file(&path), before)
        },
    )
    .needs(TDX),
    Check::new("sysfs/extend", "a digest that is written is extended", "tdx_mr_extend", |context| {
        newest(context)?;
        let path = register("rtmr3:sha384");
        let digest = nonce();
        let before = ok("read", sys::read_file(&path))?;
        gives("write of a digest", sys::write_file(&path, &digest[..DIGEST]), DIGEST)?;
        let after = ok("read", sys::read_file(&path))?;
        holds(
            after != before && after[..] != digest[..DIGEST],
            "rtmr3",
            "another value",
            "the old or the written one",
        )?;
        let report = tdreport(context, &nonce())?;
        equal("rtmr3 in TDREPORT is the same", report.get(864..912) == Some(after.as_slice()), true)
    })
    .needs(TDX | DEVICE | EXTEND),
];

fn register(name: &str) -> std::path::PathBuf {
    Path::new(MEASUREMENTS).join(name)
}

fn newest(context: &Context) -> Outcome {
    if context.style < Style::V6_16 { skipped("of Linux 6.16 and later") } else { Ok(()) }
}
