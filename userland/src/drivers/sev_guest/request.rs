//! A guest message on its way: sealed, issued, issued again, opened; and what becomes of the VMPCK.

use std::time::Duration;

use nix::errno::Errno;
use tsmsim_abi::snp::{PAGE_SIZE, ghcb::ExitInfo1, message::MessageType};
use tsmsim_simulator::snp::guest::{GuestError, InProcessGuest, open, seal};

use crate::drivers::{
    time::Sleeper,
    uapi::{SEV_RET_NO_FW_CALL, SNP_GUEST_VMM_ERR_BUSY, SNP_GUEST_VMM_ERR_INVALID_LEN},
};

/// `SNP_REQ_MAX_RETRY_DURATION`.
const MAX_RETRY_DURATION: Duration = Duration::from_secs(60);
/// `SNP_REQ_RETRY_DELAY`.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// `ES_VMM_ERROR` of `enum es_result`.
const ES_VMM_ERROR: i32 = 2;
/// `ES_EXCEPTION` of `enum es_result`.
const ES_EXCEPTION: i32 = 4;

/// A return code that is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Negative.
    Errno(Errno),
    /// Positive: an `enum es_result` that the driver hands on as it is, so that callers take it for success.
    Positive(i32),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// A message to be sent.
pub(super) struct Message<'a> {
    pub(super) msg_type: MessageType,
    pub(super) version: u8,
    pub(super) payload: &'a [u8],
    /// The largest payload of the response.
    pub(super) room: usize,
    /// Pages for certificates, if it goes out as an extended request.
    pub(super) cert_pages: Option<u32>,
}

/// What the sender learns besides the response.
pub(super) struct Told {
    /// `exitinfo2`.
    pub(super) exitinfo2: u64,
    /// `data_npages`: how many pages certificates need, after an `INVALID_LEN`.
    pub(super) cert_pages: u32,
}

/// `handle_guest_request` (6.14: `snp_send_guest_request`). Every failure wipes the VMPCK, because the sequence number may
/// have been used, except: no message was made, or the certificates did not fit.
pub(super) fn handle_guest_request(
    guest: &mut InProcessGuest,
    sleeper: &dyn Sleeper,
    message: &Message<'_>,
    told: &mut Told,
) -> Result<Vec<u8>, Failure> {
    let key = guest.message_key().map_err(|error| match error {
        GuestError::KeyDisabled(_) => Errno::ENOTTY.into(),
        error => broken(error),
    })?;
    let count = guest.message_count().map_err(broken)?;
    let seqno = count.checked_add(1).filter(|seqno| *seqno < u32::MAX).ok_or(Errno::EIO)?;
    let (request_gpa, response_gpa) = (guest.layout().request_gpa(), guest.layout().response_gpa());
    let sealed =
        seal(&key, guest.vmpck(), seqno.into(), (message.msg_type, message.version), message.payload);
    let request = sealed.map_err(broken)?;
    let memory = &guest.world().memory;
    memory.write(response_gpa, &[0; PAGE_SIZE]).map_err(|_| Errno::EIO)?;
    memory.write(request_gpa, &*request).map_err(|_| Errno::EIO)?;

    let issued = issue(guest, sleeper, message.cert_pages, told);
    guest.set_message_count(count.wrapping_add(2)).map_err(broken)?;
    if let Err(failure) = issued {
        let invalid_len = told.exitinfo2 == SNP_GUEST_VMM_ERR_INVALID_LEN;
        if failure != Failure::Errno(Errno::EIO) || !invalid_len {
            tracing::warn!(?failure, exitinfo2 = told.exitinfo2, "sev-guest: error from a guest request");
            disable_vmpck(guest)?;
        }
        return Err(failure);
    }
    let mut response = Box::new([0; PAGE_SIZE]);
    guest.world().memory.read(response_gpa, &mut *response).map_err(|_| Errno::EIO)?;
    match open(&key, &request, &response) {
        Ok(payload) if payload.len() <= message.room => Ok(payload),
        refused => {
            let why = refused.err().map(|error| error.to_string());
            tracing::warn!(why, "sev-guest: a response cannot be trusted");
            disable_vmpck(guest)?;
            Err(Errno::EBADMSG.into())
        }
    }
}

/// `snp_disable_vmpck`.
fn disable_vmpck(guest: &mut InProcessGuest) -> Result<(), Failure> {
    tracing::error!("sev-guest: Disabling VMPCK{} communication key to prevent IV reuse.", guest.vmpck());
    guest.wipe_message_key().map_err(broken)
}

/// The machine does not even have the driver's pages.
fn broken(error: GuestError) -> Failure {
    tracing::error!(%error, "sev-guest: the guest is broken");
    Errno::EIO.into()
}

/// `__handle_guest_request`: the same message again while the host is busy; and, where the certificates do not fit, once
/// more as a plain request, so that the firmware has seen the sequence number.
fn issue(
    guest: &mut InProcessGuest,
    sleeper: &dyn Sleeper,
    mut cert_pages: Option<u32>,
    told: &mut Told,
) -> Result<(), Failure> {
    let start = sleeper.now();
    let mut needed = None;
    let result = loop {
        match issue_once(guest, cert_pages, told) {
            Err(Failure::Errno(Errno::ENOSPC)) => {
                needed = Some(told.cert_pages);
                cert_pages = None;
            }
            Err(Failure::Errno(Errno::EAGAIN)) => {
                // Linux goes on asking without sleep once the caller is killed; here the session is over, so is the wait.
                if sleeper.now().saturating_sub(start) > MAX_RETRY_DURATION
                    || sleeper.sleep(RETRY_DELAY).is_err()
                {
                    break Err(Errno::ETIMEDOUT.into());
                }
            }
            result => break result,
        }
    };
    let Some(pages) = needed else { return result };
    told.exitinfo2 = SNP_GUEST_VMM_ERR_INVALID_LEN;
    told.cert_pages = pages;
    result.and(Err(Errno::EIO.into()))
}

/// `snp_issue_guest_request`.
fn issue_once(guest: &mut InProcessGuest, cert_pages: Option<u32>, told: &mut Told) -> Result<(), Failure> {
    told.exitinfo2 = SEV_RET_NO_FW_CALL;
    let ghcb = match guest.guest_request(cert_pages.map(u64::from)) {
        Ok(ghcb) => ghcb,
        Err(GuestError::Hypervisor { info1, info2 }) => {
            return Err(Failure::Positive(verify_exception_info(info1, info2)));
        }
        Err(error) => return Err(broken(error)),
    };
    told.exitinfo2 = ghcb.sw_exit_info_2.get();
    match told.exitinfo2 {
        0 => Ok(()),
        SNP_GUEST_VMM_ERR_BUSY => Err(Errno::EAGAIN.into()),
        SNP_GUEST_VMM_ERR_INVALID_LEN if cert_pages.is_some() => {
            // `data_npages` has 32 bits.
            told.cert_pages = u32::try_from(ghcb.rbx.get() & 0xffff_ffff).unwrap_or_default();
            Err(Errno::ENOSPC.into())
        }
        _ => Err(Errno::EIO.into()),
    }
}

/// `verify_exception_info`: what the `SW_EXITINFO1` of an exit that was not served means.
fn verify_exception_info(info1: u64, info2: u64) -> i32 {
    /// `SVM_EVTINJ_VALID` and `SVM_EVTINJ_TYPE_EXEPT`.
    const VALID_EXCEPTION: u64 = 1 << 31 | 3 << 8;
    /// Those bits and the rest of the type.
    const MASK: u64 = 1 << 31 | 7 << 8;
    let asked = info1 & 0xffff_ffff == u64::from(ExitInfo1::ISSUE_EXCEPTION.0);
    // #UD and #GP.
    if asked && info2 & MASK == VALID_EXCEPTION && matches!(info2 & 0xff, 6 | 13) {
        ES_EXCEPTION
    } else {
        ES_VMM_ERROR
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, 0x8000_030d, ES_EXCEPTION)]
    #[case(1, 0x8000_0306, ES_EXCEPTION)]
    #[case(1, 0x8000_030e, ES_VMM_ERROR)]
    #[case(1, 0x0000_030d, ES_VMM_ERROR)]
    #[case(1, 0x8000_000d, ES_VMM_ERROR)]
    #[case(2, 0x8000_030d, ES_VMM_ERROR)]
    fn what_a_refused_exit_means(#[case] info1: u64, #[case] info2: u64, #[case] code: i32) {
        assert_eq!(verify_exception_info(info1, info2), code);
    }
}
