//! `device/…`: the device file that the driver makes beside configfs; this part for both, and TDX.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Whence, lseek},
};

use crate::{
    check::{Check, DEVICE, ROOT, TDX},
    context::{Context, nonce},
    outcome::{Outcome, equal, gives, holds, ok, refused, skipped},
    sys,
};

/// `TDX_CMD_GET_REPORT0`.
const GET_REPORT0: u32 = 0xc440_5401;
/// `struct tdx_report_req`: REPORTDATA, then room for TDREPORT.
const REQUEST: usize = 64 + 1024;
const GET: &str = "tdx_get_report0";
const SEEK: &str = "a FUSE file keeps its offset in the kernel, which lets it seek";
const NODE: &str = "a FUSE server can show no device node: opening one would reach the kernel's own driver";

pub(super) const CHECKS: &[Check] = &[
    Check::new("device/node", "the device is a character device of mode 0600", "misc_register", |context| {
        let stat = ok("stat", sys::lstat(context.device()))?;
        equal("type", stat.st_mode & 0o170_000, 0o020_000)
    })
    .needs(DEVICE)
    .not_on_fuse(NODE),
    Check::new("device/mode", "the device is for root alone", "misc_register", |context| {
        let stat = ok("stat", sys::lstat(context.device()))?;
        equal("permissions and owner", (stat.st_mode & 0o777, stat.st_uid), (0o600, 0))
    })
    .needs(DEVICE | ROOT),
    Check::new(
        "device/no-read-or-write",
        "the device knows ioctls alone",
        "vfs_read, vfs_write",
        |context| {
            let fd = open(context)?;
            refused("read", sys::read(&fd, 64), Errno::EINVAL)?;
            refused("write", nix::unistd::write(&fd, b"x"), Errno::EINVAL)
        },
    )
    .needs(DEVICE),
    Check::new("device/no-mmap", "the device is not mapped", "do_mmap: no mmap", |context| {
        refused("shared mapping", sys::mmap(open(context)?, libc::MAP_SHARED), Errno::ENODEV)
    })
    .needs(DEVICE),
    Check::new("device/no-seek", "the device has no offset", "vfs_llseek", |context| {
        refused("lseek", lseek(open(context)?, 0, Whence::SeekSet), Errno::ESPIPE)
    })
    .needs(DEVICE)
    .not_on_fuse(SEEK),
    Check::new("device/poll", "the device is always ready", "vfs_poll: DEFAULT_POLLMASK", |context| {
        let fd = open(context)?;
        let all = PollFlags::POLLIN | PollFlags::POLLOUT;
        let mut polled = [PollFd::new(fd.as_fd(), all)];
        gives("poll", poll(&mut polled, PollTimeout::ZERO), 1)?;
        equal("events", polled[0].revents(), Some(all))
    })
    .needs(DEVICE),
    Check::new(
        "device/open-any-way",
        "one open file or many, for reading or for writing",
        "misc_open",
        |context| {
            for flags in [OFlag::O_RDONLY, OFlag::O_WRONLY, OFlag::O_RDWR, OFlag::O_RDWR | OFlag::O_NONBLOCK]
            {
                let _one = ok("open", sys::open(context.device(), flags))?;
                ok("open a second time", sys::open(context.device(), flags))?;
            }
            Ok(())
        },
    )
    .needs(DEVICE),
    Check::new("device/tdx-report", "TDREPORT states the caller's data and type 0x81", GET, |context| {
        let data = nonce();
        let report = tdreport(context, &data)?;
        equal("REPORTTYPE", report.first().copied(), Some(0x81))?;
        equal("REPORTDATA", report.get(128..192) == Some(data.as_slice()), true)
    })
    .needs(TDX | DEVICE),
    Check::new(
        "device/tdx-read-only",
        "an open file for reading takes the ioctl",
        "tdx_guest_ioctl",
        |context| {
            let mut request = [0_u8; REQUEST];
            let fd = ok("open for reading", sys::open(context.device(), OFlag::O_RDONLY))?;
            gives("ioctl", sys::ioctl(&fd, GET_REPORT0, request.as_mut_ptr().expose_provenance()), 0)?;
            equal("REPORTTYPE", request[64], 0x81)
        },
    )
    .needs(TDX | DEVICE),
    Check::new("device/tdx-request-stays", "the caller's data is not written to", GET, |context| {
        let data = nonce();
        let mut request = [0_u8; REQUEST];
        request[..64].copy_from_slice(&data);
        gives("ioctl", sys::ioctl(open(context)?, GET_REPORT0, request.as_mut_ptr().expose_provenance()), 0)?;
        equal("REPORTDATA in the request is the same", request[..64] == data, true)
    })
    .needs(TDX | DEVICE),
    Check::new(
        "device/tdx-two-reports",
        "other data gives another TDREPORT of the same TD",
        GET,
        |context| {
            let (first, second) = (tdreport(context, &nonce())?, tdreport(context, &nonce())?);
            equal("TDREPORT is another", first != second, true)?;
            equal("TDINFO is the same", first.get(512..) == second.get(512..), true)
        },
    )
    .needs(TDX | DEVICE),
    Check::new(
        "device/tdx-bad-address",
        "an address that is not mapped is a fault",
        "copy_from_user",
        |context| {
            let fd = open(context)?;
            for address in [0, sys::NOWHERE, usize::MAX & !0xfff, 1 << 63] {
                refused(
                    format!("ioctl with {address:#x}"),
                    sys::ioctl(&fd, GET_REPORT0, address),
                    Errno::EFAULT,
                )?;
            }
            Ok(())
        },
    )
    .needs(TDX | DEVICE),
    Check::new(
        "device/tdx-unknown",
        "other ioctls are unknown, whatever their argument is",
        "tdx_guest_ioctl",
        |context| {
            let fd = open(context)?;
            let mut request = [0_u8; 0x4000];
            // TDX_CMD_GET_REPORT0 with another size, number, direction and type; a request of sev-guest; one of terminals.
            for number in [0xc400_5401, 0xc440_5402, 0x8440_5401, 0xc440_5301, 0xc020_5300, 0x5401, 0] {
                let asked = sys::ioctl(&fd, number, request.as_mut_ptr().expose_provenance());
                refused(format!("ioctl {number:#x}"), asked, Errno::ENOTTY)?;
            }
            refused("an unknown one with a bad address", sys::ioctl(&fd, 0x5402, sys::NOWHERE), Errno::ENOTTY)
        },
    )
    .needs(TDX | DEVICE),
    Check::new(
        "device/tdx-report-and-quote",
        "TDREPORT and quote are of the same TD",
        "tdx_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let quote = entry.outblob()?;
            let report = tdreport(context, &nonce())?;
            let body = if quote.first() == Some(&5) { 54 } else { 48 };
            // MRTD: 136 into the quote's body, 528 into TDREPORT.
            let mr_td = quote.get(body + 136..body + 184).unwrap_or_default();
            holds(report.get(528..576) == Some(mr_td), "MRTD", "the same in both", "they differ")
        },
    )
    .needs(TDX | DEVICE),
];

/// The provider's device, for reading and writing.
pub(super) fn open(context: &Context) -> Outcome<OwnedFd> {
    match sys::open(context.device(), OFlag::O_RDWR) {
        Err(Errno::EACCES | Errno::EPERM) => {
            skipped(format!("{} is not for this user", context.device().display()))
        }
        opened => ok(format!("open {}", context.device().display()), opened),
    }
}

/// A TDREPORT for this REPORTDATA, by ioctl.
pub(super) fn tdreport(context: &Context, data: &[u8; 64]) -> Outcome<Vec<u8>> {
    let mut request = [0_u8; REQUEST];
    request[..64].copy_from_slice(data);
    let address = request.as_mut_ptr().expose_provenance();
    gives("TDX_CMD_GET_REPORT0", sys::ioctl(open(context)?, GET_REPORT0, address), 0)?;
    Ok(request[64..].to_vec())
}
