//! Guest messages: the envelope here, and one file per message type (56860 rev. 1.58, `SNP_GUEST_REQUEST` and chapter 7).
//!
//! | file | messages |
//! |---|---|
//! | [`cpuid`] | `MSG_CPUID_REQ`, and the policy by which CPUID values are judged |
//! | `key` | `MSG_KEY_REQ` |
//! | `report` | `MSG_REPORT_REQ` |
//! | `migration` | `MSG_EXPORT_REQ`, `MSG_IMPORT_REQ`, `MSG_ABSORB_REQ`, `MSG_VMRK_REQ`, `MSG_ABSORB_NOMA_REQ` |
//! | `tsc` | `MSG_TSC_INFO_REQ` |
//!
//! A request page is judged in this order, which is AMD-ASPFW's. Each refusal ends the command, and the message count stays:
//!
//! 1. [`INVALID_PARAM`](FirmwareStatus::INVALID_PARAM): header version not 1, header size not 60h, algorithm not
//!    AES-256-GCM, message size zero, no multiple of 16 or beyond the page, VMPCK not 0 to 3. Reserved fields of the header
//!    are not looked at.
//! 2. [`BAD_MEASUREMENT`](FirmwareStatus::BAD_MEASUREMENT): the message does not authenticate.
//! 3. [`AEAD_OFLOW`](FirmwareStatus::AEAD_OFLOW): the sequence number is not one more than the VMPCK's message count, or the
//!    count would overflow.
//! 4. [`INVALID_PARAM`](FirmwareStatus::INVALID_PARAM): message version zero or not known for the type; message type not
//!    known; message smaller than its type and version need (AMD-ASPFW announces this check but leaves it out).
//!
//! After that the guest always gets a response. Message versions: 1; of `MSG_KEY_REQ` also 2 where reports have version 5.

pub mod cpuid;
mod cpuid_table;
mod key;
mod migration;
mod report;
pub(super) mod tsc;

use std::ops::Deref;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    message::{
        AAD_OFFSET, Aead, HEADER_SIZE, HEADER_VERSION, MAX_PAYLOAD, MessageHeader, MessageType, TAG_SIZE,
        message_iv,
    },
    payload::{
        CpuidReq, CpuidRsp, ExportReq, IncomingContextReq, KeyReq, KeyRsp, ReportReq, ReportRsp, StatusRsp,
        TscInfoReq, TscInfoRsp, VmrkReq,
    },
    status::FirmwareStatus,
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U64},
};
use zeroize::Zeroize;

use super::{
    context::GuestState,
    event::SnpEvent,
    firmware::{Firmware, context, fault_status},
    launch::Page,
};
use crate::{
    env::Env,
    fault::{FaultPoint, apply, consult, ignored},
    journal::Event,
};

/// Where the payload begins.
const PAYLOAD: usize = PAGE_SIZE - MAX_PAYLOAD;

/// A decrypted payload; what follows it is zero. Wiped when dropped.
struct Plaintext {
    bytes: [u8; MAX_PAYLOAD],
    size: usize,
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.bytes[..self.size].zeroize();
    }
}

/// A message that passed every check of its envelope.
struct Request<'a> {
    /// Address of the sender's context.
    sender: u64,
    /// The VMPCK, which is also the VMPL of the sender.
    vmpck: u8,
    /// Version of the payload.
    version: u8,
    /// `MSG_SIZE`.
    size: usize,
    /// The payload; what follows it is zero.
    payload: &'a [u8; MAX_PAYLOAD],
}

impl Request<'_> {
    /// The payload as a structure. It is copied, and zero where the message ended.
    fn read<T: FromBytes + IntoBytes + KnownLayout + Immutable>(&self) -> Wiped<T> {
        const { assert!(size_of::<T>() <= MAX_PAYLOAD) };
        Wiped(T::read_from_prefix(self.payload).map_or_else(|_| T::new_zeroed(), |(value, _)| value))
    }
}

/// A structure that may hold keys; wiped when dropped.
struct Wiped<T: FromBytes + IntoBytes>(T);

impl<T: FromBytes + IntoBytes> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromBytes + IntoBytes> Drop for Wiped<T> {
    fn drop(&mut self) {
        self.0.as_mut_bytes().zeroize();
    }
}

/// `SNP_GUEST_REQUEST` after its fault point.
pub(super) fn guest_request(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    gctx_paddr: u64,
    page: &Page,
) -> Result<Box<Page>, FirmwareStatus> {
    let gctx = context(&mut firmware.guests, gctx_paddr)?;
    if gctx.state != GuestState::Running {
        return Err(FirmwareStatus::INVALID_GUEST_STATE);
    }
    let header = checked_header(page)?;
    let key = gctx.message_key(header.msg_vmpck)?;
    let plaintext = open(&key, &header, page)?;
    let vmpck = usize::from(header.msg_vmpck);
    let (seqno, count) = (header.msg_seqno.get(), gctx.msg_count[vmpck]);
    if count == u64::MAX - 1 || Some(seqno) != count.checked_add(1) {
        return Err(FirmwareStatus::AEAD_OFLOW);
    }
    let msg_type = MessageType(header.msg_type);
    check_message(firmware.platform.report_version(), &header, &plaintext)?;

    let request = Request {
        sender: gctx_paddr,
        vmpck: header.msg_vmpck,
        version: header.msg_version,
        size: plaintext.size,
        payload: &plaintext.bytes,
    };
    let mut response = Box::new([0; PAGE_SIZE]);
    let size = respond(firmware, env, msg_type, &request, &mut response[PAYLOAD..]);
    let status = FirmwareStatus(status_of(&response[PAYLOAD..]));
    seal(&key, &header, size, &mut response)?;
    // The sender may have exported itself, and may have absorbed other counts.
    if let Some(gctx) = firmware.guests.get_mut(&gctx_paddr) {
        gctx.msg_count[vmpck] = gctx.msg_count[vmpck].wrapping_add(2);
    }
    env.journal.record(Event::Snp(SnpEvent::Message { vmpck: header.msg_vmpck, msg_type, seqno, status }));
    if let Some(action) = consult(env.faults, env.journal, FaultPoint::SNP_RESPONSE) {
        apply(env.journal, FaultPoint::SNP_RESPONSE, &action, response.as_mut_slice());
    }
    Ok(response)
}

/// The header, as far as it can be judged before decryption.
fn checked_header(page: &Page) -> Result<MessageHeader, FirmwareStatus> {
    let (header, _) = MessageHeader::read_from_prefix(page).map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?;
    let size = usize::from(header.msg_size.get());
    let valid = header.hdr_version == HEADER_VERSION
        && header.hdr_size.get() == HEADER_SIZE
        && header.algo == Aead::AES_256_GCM.0
        && size != 0
        && size % 16 == 0
        && size <= MAX_PAYLOAD
        && header.msg_vmpck <= 3;
    if valid { Ok(header) } else { Err(FirmwareStatus::INVALID_PARAM) }
}

/// Decrypts.
fn open(key: &LessSafeKey, header: &MessageHeader, page: &Page) -> Result<Plaintext, FirmwareStatus> {
    let mut plaintext = Plaintext { bytes: [0; MAX_PAYLOAD], size: header.msg_size.get().into() };
    let nonce = Nonce::assume_unique_for_key(message_iv(header.msg_seqno.get()));
    let ciphertext = &page[PAYLOAD..PAYLOAD + plaintext.size];
    let opened = key.open_separate_gather(
        nonce,
        Aad::from(&page[AAD_OFFSET..PAYLOAD]),
        ciphertext,
        &header.authtag[..TAG_SIZE],
        &mut plaintext.bytes[..ciphertext.len()],
    );
    opened.map(|()| plaintext).map_err(|_| FirmwareStatus::BAD_MEASUREMENT)
}

/// Version, type and size, which are only believed once they are authenticated.
fn check_message(
    report_version: u32,
    header: &MessageHeader,
    plaintext: &Plaintext,
) -> Result<(), FirmwareStatus> {
    let version = header.msg_version;
    let key_version = if report_version >= 5 { 2 } else { 1 };
    let (latest, size) = match MessageType(header.msg_type) {
        MessageType::CPUID_REQ => (1, cpuid::request_size(&plaintext.bytes)),
        MessageType::KEY_REQ if version >= 2 => (key_version, key::VERSION_2_SIZE),
        MessageType::KEY_REQ => (key_version, size_of::<KeyReq>()),
        MessageType::REPORT_REQ => (1, size_of::<ReportReq>()),
        MessageType::EXPORT_REQ => (1, size_of::<ExportReq>()),
        MessageType::IMPORT_REQ | MessageType::ABSORB_REQ | MessageType::ABSORB_NOMA_REQ => {
            (1, size_of::<IncomingContextReq>())
        }
        MessageType::VMRK_REQ => (1, size_of::<VmrkReq>()),
        MessageType::TSC_INFO_REQ => (1, size_of::<TscInfoReq>()),
        _ => return Err(FirmwareStatus::INVALID_PARAM),
    };
    if version == 0 || version > latest || plaintext.size < size {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    Ok(())
}

/// Does what a message asks for and writes the response's payload, of which it returns the size.
fn respond(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    msg_type: MessageType,
    request: &Request<'_>,
    out: &mut [u8],
) -> usize {
    if let Some(action) = consult(env.faults, env.journal, FaultPoint::SNP_MESSAGE) {
        if let Some(status) = fault_status(&action) {
            put(out, StatusRsp { status: status.0.into(), ..StatusRsp::new_zeroed() });
            return response_size(msg_type, request);
        }
        ignored(env.journal, FaultPoint::SNP_MESSAGE, &action);
    }
    match msg_type {
        MessageType::CPUID_REQ => put(out, cpuid::respond(firmware, request)),
        MessageType::KEY_REQ => put(out, key::respond(firmware, request)),
        MessageType::REPORT_REQ => put(out, report::respond(firmware, env, request)),
        MessageType::EXPORT_REQ => put(out, migration::export(firmware, request)),
        MessageType::IMPORT_REQ => put(out, migration::import(firmware, env, request)),
        MessageType::ABSORB_REQ => put(out, migration::absorb(firmware, request)),
        MessageType::VMRK_REQ => put(out, migration::vmrk(firmware, request)),
        MessageType::ABSORB_NOMA_REQ => put(out, migration::absorb_noma(firmware, request)),
        _ => put(out, tsc::respond(firmware, request)),
    }
    response_size(msg_type, request)
}

/// `MSG_SIZE` of the response: a CPUID message comes back in its own size, an exported context fills the page.
fn response_size(msg_type: MessageType, request: &Request<'_>) -> usize {
    match msg_type {
        MessageType::CPUID_REQ => request.size,
        MessageType::KEY_REQ => size_of::<KeyRsp>(),
        MessageType::REPORT_REQ => size_of::<ReportRsp>(),
        MessageType::EXPORT_REQ => MAX_PAYLOAD,
        MessageType::TSC_INFO_REQ => size_of::<TscInfoRsp>(),
        _ => size_of::<StatusRsp>(),
    }
}

/// Puts a structure at the beginning of the payload and wipes it: it may hold keys.
fn put<T: IntoBytes + FromBytes + Immutable>(out: &mut [u8], value: T) {
    const { assert!(size_of::<T>() <= MAX_PAYLOAD) };
    let value = Wiped(value);
    if let Some(start) = out.get_mut(..size_of::<T>()) {
        start.copy_from_slice(value.as_bytes());
    }
}

/// `STATUS` of a response: the first field of every one.
fn status_of(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Writes the header of a response around its payload and encrypts it.
fn seal(
    key: &LessSafeKey,
    request: &MessageHeader,
    size: usize,
    page: &mut Page,
) -> Result<(), FirmwareStatus> {
    let seqno = request.msg_seqno.get().wrapping_add(1);
    let header = MessageHeader {
        msg_seqno: U64::new(seqno),
        algo: Aead::AES_256_GCM.0,
        hdr_version: HEADER_VERSION,
        hdr_size: U16::new(HEADER_SIZE),
        msg_type: MessageType(request.msg_type).response().unwrap_or(MessageType::INVALID).0,
        msg_version: 1,
        msg_size: U16::new(u16::try_from(size).map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?),
        msg_vmpck: request.msg_vmpck,
        ..MessageHeader::new_zeroed()
    };
    let (head, payload) = page.split_at_mut(PAYLOAD);
    head.copy_from_slice(header.as_bytes());
    let nonce = Nonce::assume_unique_for_key(message_iv(seqno));
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(&head[AAD_OFFSET..]), &mut payload[..size])
        .map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?;
    head[..TAG_SIZE].copy_from_slice(tag.as_ref());
    Ok(())
}

const _: () = assert!(size_of::<CpuidReq>() == size_of::<CpuidRsp>());
