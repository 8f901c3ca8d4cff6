//! `device/snp-…`: the ioctls of `/dev/sev-guest`.

use std::{os::fd::OwnedFd, thread};

use nix::errno::Errno;

use super::device::open;
use crate::{
    check::{Check, DEVICE, SNP},
    context::{Context, Provider, hex, nonce},
    outcome::{Outcome, equal, gives, holds, ok, refused},
    sys::{self, Sys},
};

const GET_REPORT: u32 = 0xc020_5300;
const GET_DERIVED_KEY: u32 = 0xc020_5301;
const GET_EXT_REPORT: u32 = 0xc020_5302;
/// The certificate buffer of the driver, `SEV_FW_BLOB_MAX_SIZE`.
const CERTS_MAX: usize = 16 << 10;
/// Beyond what user space can map on any architecture.
const KERNEL: usize = 1 << 63;
/// What `exitinfo2` holds before a call; a call that succeeds leaves it, one that fails puts something else there.
const MARK: u64 = 0x1122_3344_5566_7788;
/// What the driver puts into `exitinfo2` before the host is asked.
const NOT_ASKED: u64 = 0xff;
/// `SNP_GUEST_VMM_ERR(SNP_GUEST_VMM_ERR_INVALID_LEN)`.
const INVALID_LEN: u64 = 1 << 32;
const IOCTL: &str = "snp_guest_ioctl";

pub(super) const CHECKS: &[Check] = &[
    Check::new("device/snp-report", "SNP_GET_REPORT gives MSG_REPORT_RSP", "get_report", |context| {
        let fd = open(context)?;
        let data = nonce();
        let (result, exitinfo2, response) = report(&fd, &data, 0);
        gives("SNP_GET_REPORT", result, 0)?;
        equal("status", word(&response, 0), 0)?;
        equal("report_size", word(&response, 4), 0x4a0)?;
        equal("REPORT_DATA", hex(&response[0x20 + 0x50..0x20 + 0x90]), hex(&data))?;
        equal("exitinfo2, which success leaves alone", exitinfo2, MARK)
    })
    .needs(SNP | DEVICE),
    Check::new("device/snp-levels", "a report can be asked for any VMPL", "get_report", |context| {
        let fd = open(context)?;
        let floor = u32::try_from(context.entry()?.number("privlevel_floor")?).unwrap_or(0);
        for level in floor..4 {
            let (result, _, response) = report(&fd, &nonce(), level);
            gives(format!("SNP_GET_REPORT for VMPL {level}"), result, 0)?;
            equal("VMPL in the report", word(&response, 0x20 + 0x30), level)?;
        }
        Ok(())
    })
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-level-4",
        "the firmware's refusal is in the response; the driver goes on",
        "get_report",
        |context| {
            let fd = open(context)?;
            let (result, _, response) = report(&fd, &nonce(), 4);
            gives("SNP_GET_REPORT for VMPL 4", result, 0)?;
            equal("status", word(&response, 0), 0x16)?;
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-derived-key",
        "SNP_GET_DERIVED_KEY gives a key, the same for the same request",
        "get_derived_key",
        |context| {
            let fd = open(context)?;
            let (first, again) = (derived_key(&fd, 0)?, derived_key(&fd, 0)?);
            equal("the same request gives the same key", first == again, true)?;
            equal("another request gives another key", first != derived_key(&fd, 1)?, true)?;
            holds(first.iter().any(|byte| *byte != 0), "the key", "some bytes", "zeros")
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-ext-report",
        "SNP_GET_EXT_REPORT gives report and certificates",
        "get_ext_report",
        |context| {
            let fd = open(context)?;
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let expected = ok("read auxblob", entry.read("auxblob"))?;
            let mut certs = vec![0xaa; CERTS_MAX];
            let data = nonce();
            let mut request = ext_request(&data, certs.as_mut_ptr().expose_provenance(), CERTS_MAX);
            let (result, exitinfo2, response) = ask(&fd, GET_EXT_REPORT, &mut request, 4000);
            gives("SNP_GET_EXT_REPORT", result, 0)?;
            equal("REPORT_DATA", hex(&response[0x20 + 0x50..0x20 + 0x90]), hex(&data))?;
            equal(
                "certificates are those of auxblob",
                certs.get(..expected.len()) == Some(&expected[..]),
                true,
            )?;
            equal("what follows is zero", certs[expected.len()..].iter().all(|byte| *byte == 0), true)?;
            equal("exitinfo2, which success leaves alone", exitinfo2, MARK)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-ext-too-small",
        "without room for the certificates, the length that they need",
        "get_ext_report",
        too_small,
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-ext-bad-length",
        "the certificate buffer has whole pages, four at most",
        "get_ext_report",
        |context| {
            let fd = open(context)?;
            let mut certs = vec![0; 2 * CERTS_MAX];
            for length in [1, 4095, 4097, 5000, CERTS_MAX + 1, CERTS_MAX + 4096] {
                let mut request = ext_request(&nonce(), certs.as_mut_ptr().expose_provenance(), length);
                let (result, exitinfo2, _) = ask(&fd, GET_EXT_REPORT, &mut request, 4000);
                refused(format!("a length of {length}"), result, Errno::EINVAL)?;
                equal("exitinfo2", exitinfo2, NOT_ASKED)?;
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-ext-bad-buffer",
        "a certificate buffer that is not there is a fault",
        "get_ext_report",
        |context| {
            let fd = open(context)?;
            for address in [KERNEL, sys::NOWHERE] {
                let mut request = ext_request(&nonce(), address, CERTS_MAX);
                let (result, ..) = ask(&fd, GET_EXT_REPORT, &mut request, 4000);
                refused(format!("certificates to {address:#x}"), result, Errno::EFAULT)?;
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new("device/snp-version-0", "message version 0 is refused first of all", IOCTL, |context| {
        let fd = open(context)?;
        for number in [GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT] {
            let mut call = call(0, sys::NOWHERE, sys::NOWHERE);
            refused("ioctl", raw(&fd, number, &mut call), Errno::EINVAL)?;
            equal("exitinfo2", exitinfo2(&call), MARK)?;
        }
        still_works(&fd)
    })
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-no-buffers",
        "both addresses must be given",
        "get_report, get_derived_key, get_ext_report",
        |context| {
            let fd = open(context)?;
            let mut space = [0_u8; 4096];
            let there = space.as_mut_ptr().expose_provenance();
            for number in [GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT] {
                for (request, response) in [(0, there), (there, 0), (0, 0)] {
                    let mut call = call(1, request, response);
                    refused("ioctl", raw(&fd, number, &mut call), Errno::EINVAL)?;
                    equal("exitinfo2", exitinfo2(&call), NOT_ASKED)?;
                }
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-bad-request",
        "a request that is not there is a fault",
        "copy_from_user",
        |context| {
            let fd = open(context)?;
            let mut space = [0_u8; 4096];
            for number in [GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT] {
                for address in [sys::NOWHERE, KERNEL] {
                    let mut call = call(1, address, space.as_mut_ptr().expose_provenance());
                    refused("ioctl", raw(&fd, number, &mut call), Errno::EFAULT)?;
                    equal("exitinfo2", exitinfo2(&call), NOT_ASKED)?;
                }
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-bad-response",
        "a response buffer that is not there is a fault; the driver goes on",
        "copy_to_user",
        |context| {
            let fd = open(context)?;
            let mut request = [0_u8; 0x60];
            for address in [sys::NOWHERE, KERNEL] {
                let mut call = call(1, request.as_mut_ptr().expose_provenance(), address);
                refused("ioctl", raw(&fd, GET_REPORT, &mut call), Errno::EFAULT)?;
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new("device/snp-bad-address", "an argument that is not there is a fault", IOCTL, |context| {
        let fd = open(context)?;
        for address in [0, sys::NOWHERE, KERNEL] {
            for number in [GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT] {
                refused(format!("ioctl with {address:#x}"), sys::ioctl(&fd, number, address), Errno::EFAULT)?;
            }
        }
        still_works(&fd)
    })
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-unknown",
        "other ioctls are unknown, once the argument is read",
        IOCTL,
        |context| {
            let fd = open(context)?;
            for number in [0xc020_5303, 0xc020_53ff, 0x8020_5300, 0xc440_5401, 0x5300] {
                let mut call = call(1, 0, 0);
                refused(format!("ioctl {number:#x}"), raw(&fd, number, &mut call), Errno::ENOTTY)?;
            }
            still_works(&fd)
        },
    )
    .needs(SNP | DEVICE),
    Check::new(
        "device/snp-same-guest",
        "ioctl and configfs report the same guest",
        "sev_report_new",
        |context| {
            let entry = context.entry()?;
            entry.inblob(&nonce())?;
            let blob = entry.outblob()?;
            let (result, _, response) = report(&open(context)?, &nonce(), 0);
            gives("SNP_GET_REPORT", result, 0)?;
            // MEASUREMENT and REPORT_ID.
            for field in [0x90..0xc0, 0x140..0x160] {
                let same = blob.get(field.clone()) == response.get(field.start + 0x20..field.end + 0x20);
                equal(format!("bytes {field:x?} are the same"), same, true)?;
            }
            Ok(())
        },
    )
    .needs(SNP | DEVICE),
    Check::new("device/snp-many-threads", "requests from many threads queue", "snp_cmd_mutex", many_threads)
        .needs(SNP | DEVICE)
        .seconds(180),
];

/// `struct snp_guest_request_ioctl`: version, seven bytes of padding, two addresses, `exitinfo2`.
fn call(version: u8, request: usize, response: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = version;
    bytes[8..16].copy_from_slice(&u64::try_from(request).unwrap_or(0).to_le_bytes());
    bytes[16..24].copy_from_slice(&u64::try_from(response).unwrap_or(0).to_le_bytes());
    bytes[24..].copy_from_slice(&MARK.to_le_bytes());
    bytes
}

fn exitinfo2(call: &[u8; 32]) -> u64 {
    call.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn raw(fd: &OwnedFd, number: u32, call: &mut [u8; 32]) -> Sys<i32> {
    sys::ioctl(fd, number, call.as_mut_ptr().expose_provenance())
}

/// A request with a response buffer of this size: what the call gave, `exitinfo2`, and the response.
fn ask(fd: &OwnedFd, number: u32, request: &mut [u8], size: usize) -> (Sys<i32>, u64, Vec<u8>) {
    let mut response = vec![0; size];
    let buffers = (request.as_mut_ptr().expose_provenance(), response.as_mut_ptr().expose_provenance());
    let mut call = call(1, buffers.0, buffers.1);
    let result = raw(fd, number, &mut call);
    (result, exitinfo2(&call), response)
}

/// `struct snp_report_req`.
fn report(fd: &OwnedFd, data: &[u8; 64], level: u32) -> (Sys<i32>, u64, Vec<u8>) {
    let mut request = [0; 0x60];
    request[..64].copy_from_slice(data);
    request[64..68].copy_from_slice(&level.to_le_bytes());
    ask(fd, GET_REPORT, &mut request, 4000)
}

/// `struct snp_ext_report_req`, 112 bytes with its padding.
fn ext_request(data: &[u8; 64], certs: usize, length: usize) -> [u8; 0x70] {
    let mut request = [0; 0x70];
    request[..64].copy_from_slice(data);
    request[0x60..0x68].copy_from_slice(&u64::try_from(certs).unwrap_or(0).to_le_bytes());
    request[0x68..0x6c].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
    request
}

/// `struct snp_derived_key_req` mixed with the policy (bit 0) or not; the key follows status and padding.
fn derived_key(fd: &OwnedFd, fields: u64) -> Outcome<Vec<u8>> {
    let mut request = [0; 32];
    request[8..16].copy_from_slice(&fields.to_le_bytes());
    let (result, exitinfo2, response) = ask(fd, GET_DERIVED_KEY, &mut request, 64);
    gives("SNP_GET_DERIVED_KEY", result, 0)?;
    equal("status", word(&response, 0), 0)?;
    equal("exitinfo2, which success leaves alone", exitinfo2, MARK)?;
    Ok(response[0x20..].to_vec())
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// The key is not wiped: the next good request is answered.
fn still_works(fd: &OwnedFd) -> Outcome {
    let (result, _, response) = report(fd, &nonce(), 3);
    gives("a good request after that", result, 0)?;
    equal("its status", word(&response, 0), 0)
}

/// Asked without a buffer, the host answers INVALID_LEN if it has certificates.
fn too_small(context: &Context) -> Outcome {
    let fd = open(context)?;
    let entry = context.entry()?;
    entry.inblob(&nonce())?;
    let table = ok("read auxblob", entry.read("auxblob"))?.len();
    let mut request = ext_request(&nonce(), 0, 0);
    let (result, exitinfo2, response) = ask(&fd, GET_EXT_REPORT, &mut request, 4000);
    if table == 0 {
        gives("SNP_GET_EXT_REPORT of a host without certificates", result, 0)?;
        return equal("status", word(&response, 0), 0);
    }
    refused("SNP_GET_EXT_REPORT without a buffer", result, Errno::EIO)?;
    equal("exitinfo2", exitinfo2, INVALID_LEN)?;
    let needed = usize::try_from(word(&request, 0x68)).unwrap_or(usize::MAX);
    holds(
        needed.is_multiple_of(4096) && needed >= table && needed <= CERTS_MAX,
        "certs_len afterwards",
        "whole pages that hold the table",
        needed.to_string(),
    )?;
    equal("the response is untouched", response.iter().all(|byte| *byte == 0), true)?;
    still_works(&fd)
}

/// Each thread has its own answer.
fn many_threads(context: &Context) -> Outcome {
    debug_assert!(context.provider == Provider::Snp);
    let one = || -> Outcome {
        let fd = open(context)?;
        for _ in 0..4 {
            let data = nonce();
            let (result, _, response) = report(&fd, &data, 3);
            gives("SNP_GET_REPORT", result, 0)?;
            equal("REPORT_DATA", hex(&response[0x20 + 0x50..0x20 + 0x90]), hex(&data))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..context.threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|thread| super::race::joined(thread.join()))
    })
}
