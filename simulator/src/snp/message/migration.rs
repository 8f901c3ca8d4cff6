//! Messages that move a guest: `MSG_EXPORT_REQ`, `MSG_IMPORT_REQ`, `MSG_ABSORB_REQ`, `MSG_ABSORB_NOMA_REQ`, `MSG_VMRK_REQ`
//! (56860 rev. 1.58, sections 7.4 to 7.8).
//!
//! The *sender* is the guest whose message it is; the *target* the guest whose context's address the message names.

use std::collections::BTreeMap;

use tsmsim_abi::snp::{
    payload::{
        ExportReq, ExportRsp, GUEST_CONTEXT_SIZE, GUEST_CONTEXT_VERSION, IncomingContextReq, MetadataEntry,
        StatusRsp, VmrkReq,
    },
    status::FirmwareStatus,
};
use zerocopy::{FromZeros, little_endian::U32};

use super::{Request, Wiped};
use crate::{
    env::Env,
    snp::{
        context::{Gctx, GuestState},
        firmware::{Firmware, check_aligned, context},
    },
};

type Guests = BTreeMap<u64, Gctx>;

/// `MSG_EXPORT_REQ`. A migration agent exports its guest; a guest without one may export itself, from VMPL0.
pub(super) fn export(firmware: &mut Firmware, request: &Request<'_>) -> ExportRsp {
    let mut response = ExportRsp {
        gctx_size: U32::new(GUEST_CONTEXT_SIZE),
        gctx_version: U32::new(GUEST_CONTEXT_VERSION),
        ..ExportRsp::new_zeroed()
    };
    if let Err(status) = export_into(&mut firmware.guests, request, &mut response) {
        response.status = U32::new(status.0);
    }
    response
}

fn export_into(
    guests: &mut Guests,
    request: &Request<'_>,
    response: &mut ExportRsp,
) -> Result<(), FirmwareStatus> {
    let message = request.read::<ExportReq>();
    let target_paddr = message.gctx_paddr.get();
    if message.imi_en.get() > 1 || message.reserved_0xc.get() != 0 {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let sender_report_id = context(guests, request.sender)?.report_id;
    let target = context(guests, target_paddr)?;
    if target.state != GuestState::Running {
        return Err(FirmwareStatus::INVALID_GUEST_STATE);
    }
    let by_agent = is_agent_of(target, request.sender, &sender_report_id);
    let by_itself = target_paddr == request.sender && target.migration_agent.is_none();
    if !(by_agent || by_itself && request.vmpck == 0) {
        return Err(FirmwareStatus::INVALID_GUEST);
    }
    response.gctx = target.export();
    if message.imi_en.get() == 0 {
        guests.remove(&target_paddr);
    } else {
        response.gctx.root_md_entry = MetadataEntry::new_zeroed();
    }
    Ok(())
}

/// Whether a guest is the migration agent of another: by address and by report identifier, since an address can be used
/// again.
fn is_agent_of(target: &Gctx, sender: u64, sender_report_id: &[u8; 32]) -> bool {
    target.migration_agent == Some(sender) && target.report_id_ma == *sender_report_id
}

/// `MSG_IMPORT_REQ`. The sender becomes the migration agent of the guest that it brings to life.
pub(super) fn import(firmware: &mut Firmware, env: &mut Env<'_>, request: &Request<'_>) -> StatusRsp {
    status_response(import_into(firmware, env, request))
}

fn import_into(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    request: &Request<'_>,
) -> Result<(), FirmwareStatus> {
    let message = incoming(request);
    let mit_vector = firmware.platform.current_mit_vector();
    let guests = &mut firmware.guests;
    check_reserved(&message)?;
    check_version(&message)?;
    let agent_report_id = context(guests, request.sender)?.report_id;
    let target = context(guests, message.gctx_paddr.get())?;
    if target.state != GuestState::Init {
        return Err(FirmwareStatus::INVALID_GUEST_STATE);
    }
    if !is_valid(&message.incoming_gctx.root_md_entry) {
        return Err(FirmwareStatus::INVALID_MDATA_ENTRY);
    }
    target.absorb(&message.incoming_gctx);
    target.absorb_identity(&message.incoming_gctx);
    target.launch_mit_vector = mit_vector;
    target.imi_en = false;
    target.bind_migration_agent(request.sender, agent_report_id);
    env.entropy.fill(&mut target.report_id);
    target.state = GuestState::Running;
    Ok(())
}

/// `MSG_ABSORB_REQ`. A launched migration image takes over the identity of the guest that comes in.
pub(super) fn absorb(firmware: &mut Firmware, request: &Request<'_>) -> StatusRsp {
    status_response(absorb_into(&mut firmware.guests, request))
}

fn absorb_into(guests: &mut Guests, request: &Request<'_>) -> Result<(), FirmwareStatus> {
    let message = incoming(request);
    check_reserved(&message)?;
    let agent_report_id = context(guests, request.sender)?.report_id;
    let target = context(guests, message.gctx_paddr.get())?;
    if target.state != GuestState::Launch || !target.imi_en {
        return Err(FirmwareStatus::INVALID_GUEST_STATE);
    }
    if is_valid(&target.root_md_entry) {
        return Err(FirmwareStatus::INVALID_MDATA_ENTRY);
    }
    if message.incoming_gctx.imd != *target.ld.as_bytes() {
        return Err(FirmwareStatus::BAD_MEASUREMENT);
    }
    check_version(&message)?;
    target.absorb(&message.incoming_gctx);
    target.absorb_identity(&message.incoming_gctx);
    target.bind_migration_agent(request.sender, agent_report_id);
    target.state = GuestState::Running;
    Ok(())
}

/// `MSG_ABSORB_NOMA_REQ`. A guest without migration agent takes over the state of one with the same migration image.
pub(super) fn absorb_noma(firmware: &mut Firmware, request: &Request<'_>) -> StatusRsp {
    status_response(absorb_noma_into(&mut firmware.guests, request))
}

fn absorb_noma_into(guests: &mut Guests, request: &Request<'_>) -> Result<(), FirmwareStatus> {
    let message = incoming(request);
    if message.gctx_paddr.get() != 0 || message.reserved_0x10 != [0; 16] {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let gctx = context(guests, request.sender)?;
    if gctx.migration_agent.is_some() {
        return Err(FirmwareStatus::INVALID_GUEST);
    }
    let imd = &message.incoming_gctx.imd;
    if imd != gctx.ld.as_bytes() || imd != gctx.imd.as_bytes() {
        return Err(FirmwareStatus::BAD_MEASUREMENT);
    }
    check_version(&message)?;
    gctx.absorb(&message.incoming_gctx);
    Ok(())
}

/// `MSG_VMRK_REQ`. A migration agent gives its guest a root key, from VMPL0.
pub(super) fn vmrk(firmware: &mut Firmware, request: &Request<'_>) -> StatusRsp {
    status_response(vmrk_into(&mut firmware.guests, request))
}

fn vmrk_into(guests: &mut Guests, request: &Request<'_>) -> Result<(), FirmwareStatus> {
    let message = request.read::<VmrkReq>();
    if request.vmpck != 0 || message.reserved_0x8 != [0; 24] {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let agent_report_id = context(guests, request.sender)?.report_id;
    let target = context(guests, message.gctx_paddr.get())?;
    if target.state != GuestState::Launch || target.imi_en {
        return Err(FirmwareStatus::INVALID_GUEST_STATE);
    }
    if !is_agent_of(target, request.sender, &agent_report_id) {
        return Err(FirmwareStatus::INVALID_GUEST);
    }
    target.secrets.vmrk = message.vmrk;
    Ok(())
}

/// A message with a context in it.
fn incoming(request: &Request<'_>) -> Wiped<IncomingContextReq> {
    request.read()
}

fn check_reserved(message: &IncomingContextReq) -> Result<(), FirmwareStatus> {
    check_aligned(message.gctx_paddr.get())?;
    if message.reserved_0x10 == [0; 16] { Ok(()) } else { Err(FirmwareStatus::INVALID_PARAM) }
}

fn check_version(message: &IncomingContextReq) -> Result<(), FirmwareStatus> {
    let version = (message.in_gctx_size.get(), message.in_gctx_version.get());
    if version == (GUEST_CONTEXT_SIZE, GUEST_CONTEXT_VERSION) {
        Ok(())
    } else {
        Err(FirmwareStatus::INVALID_PARAM)
    }
}

/// `VALID` of a metadata entry.
const fn is_valid(entry: &MetadataEntry) -> bool {
    entry.page_info.get() & 1 != 0
}

fn status_response(result: Result<(), FirmwareStatus>) -> StatusRsp {
    let status = result.err().unwrap_or(FirmwareStatus::SUCCESS);
    StatusRsp { status: U32::new(status.0), ..StatusRsp::new_zeroed() }
}
